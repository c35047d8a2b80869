//! The report of a family: what came of its models, beside what was published.

use base64::Engine;
use maud::{Markup, html};

use super::figures::{self, Figure};
use super::format::{count, duration, fixed, scientific, significant};
use super::input::{Choice, Preview, ReportInput};
use super::page::{self, Section};
use super::{probes, trends};
use crate::cost::{CostConfig, KILOWATT_HOUR, assumptions};
use crate::engine::Precision;
use crate::family::fit::SizeFit;
use crate::family::law::{at_edge, left_open};
use crate::family::{Family, Member, Trained};
use crate::probe::{Interval, ProbeTable, Trend};
use crate::recipe::{Reference, ReferencePoint};

/// Everything a family's report shows.
#[derive(Clone, Debug, Default)]
pub struct FamilyInput<'a> {
    /// Name of the family.
    pub title: String,
    /// One line on what was done.
    pub subtitle: String,
    /// The models and what came of them.
    pub family: Option<&'a Family>,
    /// Published numbers.
    pub reference: Option<&'a Reference>,
    /// Choices made where there is more than one tradition.
    pub choices: Vec<Choice>,
    /// What forecasts and measurements of energy assume.
    pub cost: CostConfig,
    /// What the trainings multiply in.
    pub precision: Precision,
    /// Features of the largest model's embedding.
    pub features: usize,
    /// Probes of the largest model.
    pub largest: Option<ProbeTable>,
    /// Figures, in the order they are shown.
    pub figures: Vec<Figure>,
    /// The last predictions of each model, with its scale as caption.
    pub gallery: Vec<Preview>,
}

/// The report as one HTML page; empty sections are left out.
pub fn render_family(input: &FamilyInput) -> String {
    let sections = [
        Section { id: "models", name: "The models", body: models(input) },
        Section { id: "figures", name: "Figures", body: figures::section(&input.figures) },
        Section { id: "laws", name: "Laws of the loss", body: laws(input) },
        Section { id: "probes", name: "Probes against scale", body: trends::trends(input) },
        Section { id: "gallery", name: "What they predict", body: gallery(input) },
        Section { id: "largest", name: "What the largest model knows", body: largest(input) },
        Section { id: "cost", name: "Cost", body: cost(input) },
        Section { id: "choices", name: "Paper, program and this run", body: choices(input) },
        Section { id: "compare", name: "What cannot be compared", body: caveats(input) },
    ];
    let program = format!("astropt {}", env!("CARGO_PKG_VERSION"));
    let title = if input.title.is_empty() { "A family of models" } else { &input.title };
    let head = html! { section.summary id="summary" { p.lead { (summary(input)) } } };
    page::document((title, "AstroPT family report", &input.subtitle), &head, &sections, &program)
}

fn summary(input: &FamilyInput) -> String {
    let Some(family) = input.family else { return String::new() };
    let compared = family.compared();
    let (Some((small, first)), Some((large, last))) = (compared.first(), compared.last()) else {
        return "No model of the family is trained yet.".into();
    };
    let mut text = format!(
        "{} of {} models are trained. From {} to {} the loss went from {} to {}",
        family.trained().count(),
        family.members.len(),
        small.scale,
        large.scale,
        fixed(first.loss, 5),
        fixed(last.loss, 5)
    );
    let better = |trend: &&Trend| trend.gains.last().is_some_and(|gain| gain.low > Some(1.0));
    let clearly = family.trends.iter().filter(better).count();
    if !family.trends.is_empty() {
        text += &format!(
            ", and {clearly} of {} probes of the largest model are clearly better than the smallest’s",
            family.trends.len()
        );
        if family.trends.iter().any(|trend| !trend.untrained.is_empty()) {
            let more = family.trends.iter().filter(|trend| trend.no_merit()).count();
            text += &format!(
                "; on {more} of these {} probes untrained models of the same sizes gain more than the \
                 trained ones",
                family.trends.len()
            );
        }
    }
    text + "."
}

/// Numbers with thin columns, in a table that scrolls on a phone.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for cell in heading { th { (cell) } } } }
            tbody { @for row in rows { tr {
                @for (k, cell) in row.iter().enumerate() { td.lead[k == 0] { (cell) } }
            } } }
        } }
    }
}

pub(super) fn interval(of: &Interval, decimals: usize) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!(
            "{} [{}, {}]",
            fixed(of.value, decimals),
            fixed(low, decimals),
            fixed(high, decimals)
        ),
        _ => fixed(of.value, decimals),
    }
}

/// A difference of losses, with its sign.
fn signed(of: &Interval) -> String {
    let text = |x: f64| if x > 0.0 { format!("+{}", fixed(x, 5)) } else { fixed(x, 5) };
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{} [{}, {}]", text(of.value), text(low), text(high)),
        _ => text(of.value),
    }
}

/// What came of a model, where `first` is one whose loss is beside the others'.
fn model_cells(member: &Member, first: Option<&Trained>) -> Vec<String> {
    let of =
        |show: &dyn Fn(&Trained) -> String| member.trained.as_ref().map_or("–".to_owned(), show);
    let said = member.predicted.as_ref();
    let foretold = said.map_or("–".to_owned(), |said| interval(&said.loss, 5));
    let above = said.and_then(|said| Some((said.above?, said.right)));
    let above = above.map_or("–".to_owned(), |(above, right)| {
        let right = match right {
            Some(true) => " ✓",
            Some(false) => " ✗",
            None => "",
        };
        signed(&above) + right
    });
    let name = match &member.unfinished {
        Some(how_far) => format!("{} ({how_far})", member.scale),
        None => member.scale.clone(),
    };
    let elsewhere = |t: &Trained| {
        let other = first.is_some_and(|first| !t.evaluated_as(first));
        if other { " (other objects)" } else { "" }
    };
    vec![
        name,
        count(member.parameters as u64),
        of(&|t| count(t.tokens)),
        of(&|t| scientific(t.flops)),
        of(&|t| fixed(t.loss, 5) + elsewhere(t)),
        foretold,
        above,
    ]
}

fn models(input: &FamilyInput) -> Option<Markup> {
    let family = input.family?;
    let published = |scale: &str| input.reference.and_then(|reference| reference.loss.get(scale));
    let compared = family.members.iter().any(|member| published(&member.scale).is_some());
    let compared_first = family.compared().first().map(|(_, trained)| *trained);
    let apart = family.apart();
    let row = |member: &Member| {
        let mut cells = model_cells(member, compared_first);
        if compared {
            cells.push(published(&member.scale).map_or("–".into(), |loss| fixed(*loss, 4)));
        }
        cells
    };
    let mut heading = vec![
        "Scale",
        "Parameters",
        "Tokens",
        "FLOP (6ND)",
        "Loss",
        "Foretold by smaller ones",
        "Measured minus foretold",
    ];
    if compared {
        heading.push("Published loss");
    }
    let rows: Vec<_> = family.members.iter().map(row).collect();
    Some(html! {
        p {
            "Losses are of the last evaluation, "
            @match &apart {
                Some(apart) => { "not on the same objects for all models: " strong { (apart) } ". " }
                None => "on the same objects for all models. ",
            }
            "What smaller "
            "models foretell was written down before the model was trained. Its interval of 95%, and "
            "that of the difference, are over " (family.evaluated_on()) ", drawn alike for all models: "
            "that some are harder than others moves all losses together, and is left out. ✓ where the "
            "interval of the difference holds zero, ✗ where it does not. How far the law itself may be "
            "off is in neither, nor the seed of a training. Of two models the law is a power law "
            "without a floor, which cannot know how the curve bends: losses that level off come to lie "
            "above what it foretells."
            @if let Some(few) = family.few_groups() { " " strong { "Here " (few) "." } }
        }
        (table(&heading, &rows))
    })
}

fn laws(input: &FamilyInput) -> Option<Markup> {
    let family = input.family?;
    let compute = family.compute.as_ref()?;
    Some(html! {
        p {
            "Compute C, in FLOP: L(C) = L" sub { "0" } " + a (C / " (scientific(compute.law.unit))
            ")" sup { "−b" } " with L" sub { "0" } " = "
            @if compute.floor.value > 0.0 { (interval(&compute.floor, 5)) } @else { "0" }
            ", a = " (significant(compute.law.a, 3)) " and b = " (interval(&compute.b, 3))
            (left_open(&compute.b)) ". Intervals of 95% are over the evaluated objects alone, "
            (family.evaluated_on()) "."
        }
        p {
            @match &compute.saturation {
                _ if compute.law.a <= 0.0 => { "The loss does not fall with compute." }
                Some(_) if family.saturated_throughout() => {
                    "Saturated at every size trained: ten times the compute lowers the loss by less "
                    "than " (significant(100.0 * compute.least_gain, 2)) "%."
                }
                Some(turn) => {
                    "Saturated from " (scientific(turn.value)) " FLOP on"
                    @if let (Some(low), Some(high)) = (turn.low, turn.high) {
                        " (" (scientific(low)) " to " (scientific(high)) ")"
                    }
                    ": beyond it ten times the compute lowers the loss by less than "
                    (significant(100.0 * compute.least_gain, 2)) "%."
                }
                None if at_edge(compute.law.b) => { "Whether it saturates is not determined." }
                None => { "No floor is in sight: a power law fits alone." }
            }
        }
        @if let Some(size) = &family.size {
            p {
                "Parameters N and tokens D: L(N, D) = E + A N" sup { "−α" } " + B D" sup { "−β" }
                " with E = " (floor(size)) ", α = " (interval(&size.alpha, 2))
                (left_open(&size.alpha)) ", β = " (interval(&size.beta, 2)) (left_open(&size.beta))
                ", fitted to " (count(size.points as u64))
                " evaluations in the second half of the trainings, which leaves "
                (scientific(size.residual)) ". Learning rates had not come down at most of these, so that the "
                "exponents move with where the evaluations begin to count, which is in no interval."
            }
        }
    })
}

/// E of the law of parameters and tokens, with its interval where the family has one.
fn floor(size: &SizeFit) -> String {
    match size.floor.low {
        Some(_) => interval(&size.floor, 5),
        None => fixed(size.law.floor, 5),
    }
}

fn gallery(input: &FamilyInput) -> Option<Markup> {
    (!input.gallery.is_empty()).then(|| {
        html! {
            div.side {
                @for preview in &input.gallery {
                    @let data = base64::engine::general_purpose::STANDARD.encode(&preview.png);
                    figure {
                        img src=(format!("data:image/png;base64,{data}"))
                            alt=(format!("{}: target on the left, prediction on the right", preview.caption));
                        figcaption { strong { (preview.caption) } " target on the left, prediction on the right" }
                    }
                }
            }
        }
    })
}

/// Where the energies of the `trained` models are from; of which, where they differ.
fn sources(trained: &[(&Member, &Trained)]) -> Option<String> {
    let mut of: Vec<(&str, Vec<&str>)> = Vec::new();
    for (member, trained) in trained {
        let Some(energy) = &trained.energy else { continue };
        match of.iter_mut().find(|(source, _)| *source == energy.source) {
            Some((_, scales)) => scales.push(&member.scale),
            None => of.push((&energy.source, vec![&member.scale])),
        }
    }
    match &of[..] {
        [] => None,
        [(source, _)] => Some((*source).to_owned()),
        _ => {
            let each = of.iter().map(|(source, scales)| format!("{}: {source}", scales.join(", ")));
            Some(each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What each training was to cost by the forecast, beside what it did.
fn cost(input: &FamilyInput) -> Option<Markup> {
    let trained: Vec<_> = input.family?.trained().collect();
    let measured = sources(&trained)?;
    let kwh = |trained: &Trained| Some(trained.energy.as_ref()?.joules / KILOWATT_HOUR);
    let or = |value: Option<f64>| value.map_or("–".to_owned(), |value| significant(value, 3));
    let pair = |before: Option<String>, after: String| match before {
        Some(before) => format!("{before} → {after}"),
        None => format!("– → {after}"),
    };
    let row = |(member, trained): &(&Member, &Trained)| {
        let said = member.forecast.as_ref();
        let carbon = kwh(trained).map(|kwh| kwh * input.cost.grid / 1000.0);
        vec![
            member.scale.clone(),
            pair(said.map(|said| scientific(said.flops)), scientific(trained.flops)),
            pair(said.map(|said| duration(3600.0 * said.hours)), duration(trained.seconds)),
            pair(said.map(|said| significant(said.energy_kwh, 3)), or(kwh(trained))),
            pair(said.map(|said| significant(said.co2_kg, 3)), or(carbon)),
        ]
    };
    let rows: Vec<_> = trained.iter().map(row).collect();
    let all: f64 = trained.iter().filter_map(|(_, trained)| kwh(trained)).sum();
    let carbon = all * input.cost.grid / 1000.0;
    Some(html! {
        p {
            "Forecast → measured, of the trainings. Forecasts: " (assumptions(&input.cost, input.precision)) ". "
            "Measured: " (measured) "; times what the building takes, of all that was "
            "done, steps that were lost to a stop and taken again included (at most the last half "
            "minute before a process was killed is missing); "
            (significant(input.cost.grid, 3)) " g of CO" sub { "2" } " per kWh. In all "
            (significant(carbon, 3)) " kg"
            @if let Some(published) = input.reference.and_then(|reference| reference.co2_kg) {
                ", beside " (significant(published, 3)) " kg published"
            }
            "."
        }
        (table(&["Scale", "FLOP (6ND)", "Time", "kWh", "kg CO₂"], &rows))
    })
}

/// The probes of the largest model, as its own report has them.
fn largest(input: &FamilyInput) -> Option<Markup> {
    let (member, _) = input.family?.trained().last()?;
    let probes = input.largest.clone()?;
    let body = probes::section(&ReportInput { probes: Some(probes), ..ReportInput::default() })?;
    Some(html! { p { strong { (member.scale) } "." } (body) })
}

/// Point by point what the published text says, what its program did, and what was done here;
/// then the choices that are about neither.
fn choices(input: &FamilyInput) -> Option<Markup> {
    let points = input.reference.map(|reference| &reference.points[..]).unwrap_or_default();
    let (own, other): (Vec<&Choice>, Vec<&Choice>) =
        input.choices.iter().partition(|choice| points.iter().any(|p| p.about == choice.name));
    let other: Vec<Choice> = other.into_iter().cloned().collect();
    let here = |point: &ReferencePoint| {
        let choice = own.iter().find(|choice| choice.name == point.about);
        choice.map_or(point.here.clone(), |choice| choice.choice.clone())
    };
    (!points.is_empty() || !other.is_empty()).then(|| {
        html! {
            @if !points.is_empty() {
                dl.choices.points {
                    @for point in points {
                        div {
                            dt { (point.id) " " (point.about) }
                            dd {
                                p { span { "paper" } (point.paper) }
                                p { span { "program" } (point.program) }
                                p.here { span { "here" } (here(point)) }
                                @if !point.why.is_empty() { p { span { "why" } (point.why) } }
                            }
                        }
                    }
                }
            }
            @if let Some(other) = page::choices(&other) { h3 { "Other choices" } (other) }
        }
    })
}

/// What keeps the published numbers from being compared, and those that no table above has.
fn caveats(input: &FamilyInput) -> Option<Markup> {
    let (reference, family) = (input.reference?, input.family?);
    let trained: Vec<&Member> = family.trained().map(|(member, _)| member).collect();
    let apart = !trained.iter().any(|member| reference.loss.contains_key(&member.scale));
    let smallest = trained.first().map(|member| member.scale.as_str()).unwrap_or_default();
    let unprobed = !family.trends.iter().any(|trend| reference.tasks.contains_key(&trend.label));
    Some(html! {
        p { "Published numbers are those of " (reference.source) "." }
        @if !reference.caveat.is_empty() { p { (reference.caveat) } }
        ul {
            li {
                "A loss is of its objects: of other galaxies, another telescope, another size of "
                "stamp or of patch it is another number."
            }
            li {
                "A gain is relative to the smallest model of its family, here " (smallest)
                ", and its correlation depends on how far apart the models are."
            }
            li {
                "The published numbers were read off figures and have no intervals; intervals here "
                "are over objects, and not over trainings with other seeds."
            }
            li { "Compute is 6 N D, attention’s own products not counted, as published." }
        }
        @if apart && !reference.loss.is_empty() {
            h3 { "The published losses" }
            (published(reference))
        }
        @if unprobed && !reference.tasks.is_empty() {
            h3 { "The published gains" }
            p { "No model was probed for any of these, or fewer than two." }
            (trends::published(reference))
        }
    })
}

/// The published losses by scale, from the largest loss down, which is by rising size.
fn published(reference: &Reference) -> Markup {
    let mut losses: Vec<(&String, f64)> =
        reference.loss.iter().map(|(scale, loss)| (scale, *loss)).collect();
    losses.sort_by(|a, b| b.1.total_cmp(&a.1));
    let rows: Vec<Vec<String>> =
        losses.into_iter().map(|(scale, loss)| vec![scale.clone(), fixed(loss, 4)]).collect();
    table(&["Scale", "Validation loss"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Energy;

    #[test]
    fn every_source_of_energy_is_named_with_its_models() {
        let model = |scale: &str, source: &str| {
            let energy = Some(Energy { joules: 1.0, source: source.into() });
            let trained = Some(Trained { energy, ..Trained::default() });
            Member { scale: scale.into(), trained, ..Member::default() }
        };
        let of = |members: &[Member]| {
            let trained: Vec<_> =
                members.iter().filter_map(|m| Some((m, m.trained.as_ref()?))).collect();
            sources(&trained)
        };
        let members = [model("S", "counters"), model("M", "a model"), model("L", "counters")];
        assert_eq!(of(&members).as_deref(), Some("S, L: counters; M: a model"));
        assert_eq!(of(&members[..1]).as_deref(), Some("counters"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_choice_in_other_words_than_the_papers_says_why() {
        let why = "the head comes after it";
        let point = ReferencePoint {
            id: "D4".into(),
            about: "Embedding".into(),
            paper: "the penultimate layer".into(),
            why: why.into(),
            ..ReferencePoint::default()
        };
        let reference = Reference { points: vec![point], ..Reference::default() };
        let input = FamilyInput { reference: Some(&reference), ..FamilyInput::default() };
        let page = choices(&input).expect("a point").into_string();
        assert!(page.contains(&format!("<span>why</span>{why}")), "{page}");
    }
}
