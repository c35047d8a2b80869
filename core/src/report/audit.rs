//! What should not matter, and what it does.

use maud::{Markup, html};

use super::format::{count, signed, significant};
use super::probes::interval;
use crate::probe::{Audit, Outcome, ProbeRow, Verdict};

/// Whether the embedding tells a nuisance, and how far probes drop where it changes.
pub(super) fn audit(audit: &Audit) -> Markup {
    let name = &audit.nuisance;
    html! {
        h3 { "Does " (name) " matter?" }
        @if !audit.told.is_empty() {
            p {
                "The same probe asked for " (name) " itself"
                @if audit.told.iter().any(|row| row.score().is_some()) {
                    ", which should not be told: "
                } @else {
                    " has no score: "
                }
                @for (i, row) in audit.told.iter().enumerate() {
                    @if i > 0 { "; " }
                    (told(row))
                }
                "."
            }
        } @else {
            p { "It has " (count(audit.values as u64)) " values, too many to be asked for." }
        }
        @if !audit.cuts.is_empty() {
            p {
                "It is a number: cut into " (audit.values) " ranges of equally many objects, at "
                @for (i, cut) in audit.cuts.iter().enumerate() {
                    @if i > 0 { ", " }
                    (significant(*cut, 4))
                }
                "."
            }
        }
        @if !audit.drops.is_empty() {
            p {
                "All objects of the probe cross-validated in " (audit.folds) " folds: with the values "
                "of " (name) " mixed"
                @if audit.mixings > 1 {
                    " (the mean of " (audit.mixings) " ways to mix them, whose scatter is in the "
                    "interval of the drop)"
                }
                ", and once parted, so that each object is predicted by a fit that has not seen its "
                "value."
            }
            (table(audit))
            p.explain {
                span.worse { "▼" } " the whole interval of the paired difference is a drop: part of "
                "what the probe reads does not carry over; " span.better { "▲" } " it is a rise: what "
                "has not seen the value predicts better, of which " (name) " is no likely cause; "
                span.same { "≈" } " neither is to be told."
            }
        }
    }
}

fn told(row: &ProbeRow) -> Markup {
    html! {
        @match row.score() {
            Some(score) => {
                (row.label) " from " (row.features)
                @match &score.auc {
                    Some(auc) => { " AUC " (plain(auc)) }
                    None => { " R² " (plain(&score.r2)) }
                }
            }
            None => {
                (row.label) " from " (row.features) " without a score"
                @if let Outcome::Failed(reason) = &row.outcome { " (" (reason) ")" }
            }
        }
    }
}

/// An interval in a sentence.
fn plain(of: &crate::probe::Interval) -> String {
    let value = super::format::fixed(of.value, 3);
    match (of.low, of.high) {
        (Some(low), Some(high)) => {
            let [low, high] = [low, high].map(|end| super::format::fixed(end, 3));
            format!("{value} [{low}, {high}]")
        }
        _ => value,
    }
}

fn table(audit: &Audit) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Table of drops" { table.scores {
            thead { tr {
                th { "Property" }
                th.n { "R², " (audit.nuisance) " mixed" }
                th.n { "R², parted" }
                th.n { "drop" }
                th.n { "objects" }
            } }
            tbody { @for drop in &audit.drops {
                @let (class, mark) = match drop.verdict() {
                    Verdict::FallsShort => ("worse", "▼"),
                    Verdict::Beats => ("better", "▲"),
                    Verdict::Undecided => ("same", "≈"),
                };
                tr {
                    th scope="row" { (drop.label) }
                    td.n { (interval(&drop.mixed, 3)) }
                    td.n { (interval(&drop.parted, 3)) }
                    td.n {
                        span class=(class) { (mark) } " " (signed(drop.drop.value, 3))
                        @if let (Some(low), Some(high)) = (drop.drop.low, drop.drop.high) {
                            small { (signed(low, 3)) " to " (signed(high, 3)) }
                        }
                    }
                    td.n { (count(drop.objects as u64)) }
                }
            } }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nuisance_without_a_score_says_why() {
        let row = ProbeRow {
            label: "telescope = B".into(),
            features: "embedding".into(),
            outcome: Outcome::Failed("7 labelled objects are too few".into()),
            versus: Vec::new(),
        };
        let page = |told: Vec<ProbeRow>| {
            let audit = Audit { nuisance: "telescope".into(), values: 9, told, ..Audit::default() };
            super::audit(&audit).into_string()
        };
        let failed = page(vec![row]);
        assert!(failed.contains("7 labelled objects are too few"), "{failed}");
        assert!(!failed.contains("too many"), "{failed}");
        assert!(page(Vec::new()).contains("9 values, too many to be asked for"));
    }
}
