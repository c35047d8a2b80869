//! What linear probes read from the embeddings.

use maud::{Markup, PreEscaped, html};

use super::audit;
use super::forest::{class, forest, scatter};
use super::format::{count, fixed, signed, significant};
use super::input::ReportInput;
use crate::probe::{
    Alpha, Difference, Interval, Method, Outcome, ProbeRow, ProbeSettings, ProbeTable, Verdict,
};

pub(super) fn section(input: &ReportInput) -> Option<Markup> {
    let table = input.probes.as_ref().filter(|table| !table.rows.is_empty())?;
    let any = table.rows.iter().any(|row| row.score().is_some());
    Some(html! {
        (introduction(table))
        @if any {
            figure {
                figcaption.legend {
                    @for (i, set) in table.sets.iter().enumerate() {
                        span class={ "key " (class(i)) } { (set) }
                    }
                }
                (PreEscaped(forest(table, 720.0, "wide") + &forest(table, 350.0, "narrow")))
            }
            (scores(table, input))
            (chance(table))
            (scatters(table, input))
        }
        (without_score(table))
        (how(table, input))
        (beside(table))
        @for audit in &table.audits { (audit::audit(audit)) }
    })
}

fn introduction(table: &ProbeTable) -> Markup {
    let percent = percent(table.settings.confidence);
    html! {
        p {
            @match table.settings.method {
                Method::Ols | Method::Ridge => "A linear model",
                Method::Knn => "The mean of the nearest neighbours",
                Method::Mlp => "A small network",
            }
            " reads each property from the frozen embeddings; it is fitted on some "
            "objects and scored on others. "
            strong { "R²" } " is the share of the property's variance it explains: 1 is perfect, 0 "
            "is no better than the mean. "
            @if table.settings.bootstrap > 0 {
                "Bars are " (percent) "% intervals over resampled held-out objects."
            }
        }
        @if table.sets.len() > 1 {
            p {
                "The other rows are yardsticks: "
                (table.sets[1..].join(" and "))
                " go through the same fit. What the embeddings score beyond them is what "
                "pretraining added."
            }
        }
    }
}

/// `95`, `99.7`.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", 100.0 * share);
    text.trim_end_matches(".0").to_owned()
}

fn scores(table: &ProbeTable, input: &ReportInput) -> Markup {
    let baselines = table.sets.get(1..).unwrap_or_default();
    let model = table.sets.first().map(String::as_str).unwrap_or_default();
    let classes = table.rows.iter().any(|row| row.score().is_some_and(|s| s.auc.is_some()));
    html! {
        div.scroll tabindex="0" role="group" aria-label="Table of probes" { table.scores {
            thead { tr {
                th { "Property" }
                th.n { "R²" }
                @for set in baselines { th.n { "gain over " (set) } }
                @if classes { th.n { "AUC" } }
                th.n { "median error" }
                th.n { "in IQR" }
                th.n { "fitted / scored" }
            } }
            tbody {
                @for row in table.rows.iter().filter(|row| row.features == model) {
                    @if let Some(score) = row.score() {
                        tr {
                            th scope="row" { (row.label) }
                            td.n { (interval(&score.r2, 3)) }
                            @for set in baselines { (gain(row.versus(set))) }
                            @if classes {
                                td.n { @match &score.auc {
                                    Some(auc) => (interval(auc, 3)),
                                    None => "–",
                                } }
                            }
                            td.n { (in_unit(&score.error_label, input.units.get(&row.label))) }
                            td.n { @match &score.error {
                                Some(error) => (fixed(error.value, 3)),
                                None => "–",
                            } }
                            td.n { (count(score.n_train as u64)) " / " (count(score.n_test as u64)) }
                        }
                    }
                }
            }
        } }
        p.explain {
            span.better { "▲" } " better and " span.worse { "▼" } " worse: the whole interval of "
            "the paired difference in R² (of a class: in AUC) lies on that side of zero; " span.same { "≈" }
            " the held-out objects cannot tell. Half of the held-out objects are predicted to "
            "within the median error, given in the property's unit and as a share of its "
            "interquartile range (IQR), the paper's score: smaller is better."
            @if classes {
                " Of a class, 1 for its objects and 0 for the others, AUC is the chance that "
                "one of the class is ranked above one of the others: 0.5 is a guess."
            }
        }
    }
}

/// How far sets of features differ that differ by chance.
fn chance(table: &ProbeTable) -> Markup {
    let spreads = table.rows.iter().filter_map(|row| Some((row, row.score()?.spread?)));
    let said: Vec<String> = spreads
        .map(|(row, spread)| {
            let [mean, deviation, least, most] = [
                row.score().map_or(f64::NAN, |s| s.r2.value),
                spread.deviation,
                spread.least,
                spread.most,
            ]
            .map(|x| fixed(x, 3));
            format!(
                "{} {mean} ± {deviation} ({least} to {most}, {} of them)",
                row.label, spread.sets
            )
        })
        .collect();
    html! {
        @if !said.is_empty() {
            p.explain {
                "The untrained scores are means over several random initialisations; R² with its "
                "standard deviation over them: " (said.join("; ")) "."
            }
        }
    }
}

pub(super) fn interval(interval: &Interval, decimals: usize) -> Markup {
    html! {
        (fixed(interval.value, decimals))
        @if let (Some(low), Some(high)) = (interval.low, interval.high) {
            small { (fixed(low, decimals)) " to " (fixed(high, decimals)) }
        }
    }
}

fn in_unit(interval: &Interval, unit: Option<&String>) -> Markup {
    html! {
        (significant(interval.value, 3))
        @if let Some(unit) = unit { " " (unit) }
    }
}

fn gain(difference: Option<&Difference>) -> Markup {
    let Some(difference) = difference else { return html! { td.n { "–" } } };
    let (class, mark, meaning) = match difference.verdict() {
        Verdict::Beats => ("better", "▲", "better"),
        Verdict::FallsShort => ("worse", "▼", "worse"),
        Verdict::Undecided => ("same", "≈", "not told apart"),
    };
    let of = difference.deciding();
    html! {
        td.n {
            span class=(class) title=(meaning) { (mark) } " " (signed(of.value, 3))
            @if difference.auc.is_some() { " AUC" }
            @if let (Some(low), Some(high)) = (of.low, of.high) {
                small { (signed(low, 3)) " to " (signed(high, 3)) }
            }
        }
    }
}

/// Predictions against labels, for the model's own features.
fn scatters(table: &ProbeTable, input: &ReportInput) -> Markup {
    let model = table.sets.first().map(String::as_str).unwrap_or_default();
    let rows: Vec<&ProbeRow> = table.rows.iter().filter(|row| row.features == model).collect();
    html! {
        h3 { "Predicted against known" }
        div.scatters {
            @for row in rows {
                @if let Some(score) = row.score() {
                    @let unit = input.units.get(&row.label).map(String::as_str).unwrap_or_default();
                    figure {
                        (PreEscaped(scatter(&score.pairs, &row.label, unit)))
                        figcaption { strong { (row.label) } " R² " (fixed(score.r2.value, 2)) }
                    }
                }
            }
        }
        p.explain {
            "Held-out objects only, at most 400 each; on the dashed line prediction and "
            "catalogue agree."
        }
    }
}

/// Labels without a score, and fits that need a word.
fn without_score(table: &ProbeTable) -> Markup {
    let of_row = |row: &'_ ProbeRow| match &row.outcome {
        Outcome::Failed(reason) => Some(reason.clone()),
        Outcome::Scored(score) => score.note.clone(),
    };
    let mut notes: Vec<(String, String)> = vec![];
    for row in &table.rows {
        let Some(text) = of_row(row) else { continue };
        let alike = |r: &&ProbeRow| r.label == row.label && of_row(r).as_ref() == Some(&text);
        // What holds for every set of features is said once.
        let name = if table.rows.iter().filter(alike).count() == table.sets.len() {
            row.label.clone()
        } else {
            format!("{}, {}", row.label, row.features)
        };
        if !notes.contains(&(name.clone(), text.clone())) {
            notes.push((name, text));
        }
    }
    notes.extend(table.skipped.iter().map(|s| (s.label.clone(), s.reason.clone())));
    html! {
        @if !notes.is_empty() {
            details open[notes.len() <= 6] {
                summary { "Properties without a score, and fits to read with care" }
                dl.facts { @for (name, text) in notes { div { dt { (name) } dd { (text) } } } }
            }
        }
    }
}

/// The same labels by other models.
fn beside(table: &ProbeTable) -> Markup {
    let all = || std::iter::once(table).chain(&table.beside);
    let set = table.sets.first().map(String::as_str).unwrap_or_default();
    let baseline = table.sets.get(1).map(String::as_str);
    html! {
        @if !table.beside.is_empty() {
            h3 { "The same by other models" }
            div.scroll tabindex="0" role="group" aria-label="Table of other models" { table.scores {
                thead { tr {
                    th { "Property" }
                    @for table in all() { th.n { "R² by " (table.settings.method.name()) } }
                    @if let Some(baseline) = baseline {
                        @for table in &table.beside {
                            th.n { (table.settings.method.name()) ", gain over " (baseline) }
                        }
                    }
                } }
                tbody { @for label in table.labels() { tr {
                    th scope="row" { (label) }
                    @for table in all() {
                        td.n { @match table.row(label, set).and_then(|row| row.score()) {
                            Some(score) => (interval(&score.r2, 3)),
                            None => "–",
                        } }
                    }
                    @if let Some(baseline) = baseline {
                        @for table in &table.beside {
                            (gain(table.row(label, set).and_then(|row| row.versus(baseline))))
                        }
                    }
                } } }
            } }
            p.explain {
                "Same objects, same intervals. Where a model that bends does better than a straight "
                "one, the embedding holds what a line cannot read. "
                @for table in &table.beside {
                    (table.settings.method.name()) ": " (method(&table.settings)) ". "
                }
            }
        }
    }
}

fn how(table: &ProbeTable, input: &ReportInput) -> Markup {
    let settings = &table.settings;
    let method = method(settings);
    html! {
        p.explain {
            "Fit: " (method) ". "
            @if settings.cut { "Labels further than 3 median absolute deviations from their median are left out. " }
            @if settings.scale { "Labels are moved by their median and divided by their IQR. " }
            @if settings.bootstrap > 0 {
                (count(settings.bootstrap as u64)) " resamples, seed " (settings.seed) ". "
            }
            @for (i, (name, value)) in input.embeddings.iter().enumerate() {
                @if i == 0 { "Embeddings: " } @else { ", " }
                (name) " " (value)
            }
            @if !input.embeddings.is_empty() { "." }
        }
    }
}

/// The model in words.
pub(super) fn method(settings: &ProbeSettings) -> String {
    match (settings.method, settings.alpha) {
        (Method::Ols, _) => "ordinary least squares with an intercept".into(),
        (Method::Ridge, Alpha::Auto) => {
            "ridge regression, its penalty chosen on the fitted objects alone".into()
        }
        (Method::Ridge, Alpha::Fixed(alpha)) => format!("ridge regression, penalty {alpha}"),
        (Method::Knn, _) => {
            "the mean of the nearest neighbours among the fitted objects, by standardised features; \
             how many is chosen on these alone"
                .into()
        }
        (Method::Mlp, _) => {
            "a network of one hidden layer of 64 units; its decay, and when to stop, are chosen by a \
             fifth of the fitted objects"
                .into()
        }
    }
}
