//! What came of a family: its laws and trends, its report, and its table in words.

use std::path::Path;

use super::super::probes::{self, PROBES};
use super::super::stages::REPORT;
use super::super::{figures, report};
use crate::checkpoint::write_bytes;
use crate::cost::KILOWATT_HOUR;
use crate::error::{Error, Result};
use crate::family::law::{at_edge, left_open};
use crate::family::{Family, Member};
use crate::probe::{Interval, ProbeTable, Trend, trend};
use crate::progress::{self, duration, quantity};
use crate::recipe::Plan;
use crate::report::{Choice, FamilyInput, Preview, few_objects, render_family};
use crate::run::RunFolder;

/// What intervals of losses are, and of what follows from them.
pub(super) const OVER_OBJECTS: &str = "95% over groups of the evaluated objects alone";
/// The set of features of the models before training, in tables of probes.
const UNTRAINED: &str = "random-init";

/// Fits the laws, sets the probes beside each other, and writes `family.json` and the report of
/// the models trained, whose plans are `plans`.
pub(super) fn conclude(family: &mut Family, plans: &[Plan], out: &Path, least: f64) -> Result<()> {
    family.fit(least);
    if let Some(apart) = family.apart() {
        progress::warn(&format!(
            "{apart}; going on with --resume and more train.steps evaluates all alike"
        ));
    }
    if let Some(few) = family.few_groups() {
        progress::warn(&few);
    }
    if family.trained().next().is_none() {
        return family.write(out);
    }
    family.trends = trends(family, plans, out)?;
    let features = plans.iter().map(|plan| plan.model.width).max().unwrap_or(0);
    if let Some(few) = few_objects(family, features) {
        progress::warn(&few);
    }
    family.write(out)?;
    write_report(family, plans, out)
}

/// The trends of all labels that every model was asked for, in the same way: none where they
/// were asked in different ways.
fn trends(family: &Family, plans: &[Plan], out: &Path) -> Result<Vec<Trend>> {
    if let Some((one, other)) = probed_apart(family, plans) {
        progress::warn(&format!(
            "{one} and {other} were embedded or probed in different ways, so that their probes are \
             not set beside each other; going on with --resume and --set probe.KEY=VALUE (or \
             embed.KEY=VALUE) makes them alike"
        ));
        return Ok(Vec::new());
    }
    let mut tables: Vec<(f64, ProbeTable)> = Vec::new();
    for (plan, (member, trained)) in plans.iter().zip(family.trained()) {
        tables.push((trained.flops, probes::table(&out.join(&member.scale), plan)?));
    }
    let Some((_, first)) = tables.first() else { return Ok(Vec::new()) };
    let of = |label: &str, set: &str| {
        let scores =
            tables.iter().map(|(flops, table)| Some((*flops, table.row(label, set)?.score()?)));
        trend(label, &scores.collect::<Option<Vec<_>>>()?, first.settings.confidence)
    };
    let Some(trained) = first.sets.first() else { return Ok(Vec::new()) };
    let both = |label: &str| {
        let untrained = of(label, UNTRAINED).map_or_else(Vec::new, |trend| trend.gains);
        Some(Trend { untrained, ..of(label, trained)? })
    };
    Ok(first.labels().into_iter().filter_map(both).collect())
}

/// Two models whose probes do not ask the same.
fn probed_apart<'a>(family: &'a Family, plans: &[Plan]) -> Option<(&'a str, &'a str)> {
    let first = plans.first()?;
    let alike = |plan: &Plan| {
        let (a, b) = (&first.probe, &plan.probe);
        let same = a.protocol == b.protocol && a.folds == b.folds && a.labels == b.labels;
        same && a.fit == b.fit && first.embed == plan.embed
    };
    let other = plans.iter().position(|plan| !alike(plan))?;
    let name = |k: usize| family.trained().nth(k).map(|(member, _)| member.scale.as_str());
    Some((name(0)?, name(other)?))
}

/// What was chosen for all models; where they differ, for which of them.
fn choices(family: &Family, plans: &[Plan], objects: u64) -> Result<Vec<Choice>> {
    let mut out: Vec<Choice> = Vec::new();
    let all: Vec<Vec<Choice>> =
        plans.iter().map(|plan| report::choices(plan, objects)).collect::<Result<_>>()?;
    for first in all.first().into_iter().flatten() {
        let of = |choices: &Vec<Choice>| {
            let same = choices.iter().find(|choice| choice.name == first.name);
            same.map_or_else(|| "-".to_owned(), |choice| choice.choice.clone())
        };
        let each: Vec<String> = all.iter().map(of).collect();
        let mut said = first.clone();
        if each.iter().any(|choice| *choice != first.choice) {
            let named = family.trained().zip(&each);
            let named = named.map(|((member, _), choice)| format!("{}: {choice}", member.scale));
            said.choice = named.collect::<Vec<_>>().join("; ");
        }
        out.push(said);
    }
    Ok(out)
}

/// Writes the family's report.
fn write_report(family: &Family, plans: &[Plan], out: &Path) -> Result<()> {
    let Some(plan) = plans.first() else { return Ok(()) };
    let (mut gallery, mut objects, mut largest) = (Vec::new(), 0, None);
    for (member, _) in family.trained() {
        let (folder, manifest) = RunFolder::open(&out.join(&member.scale))?;
        objects = manifest.objects.get("train").copied().unwrap_or(0);
        let probes = folder.verified(PROBES)?;
        largest = probes.exists().then(|| ProbeTable::read_json(probes)).transpose()?;
        let Some((step, path)) = folder.previews()?.pop() else { continue };
        let png = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        gallery.push(Preview { step, png, caption: member.scale.clone() });
    }
    let mut choices = choices(family, plans, objects)?;
    choices.push(Choice {
        name: "Correlation with scale".into(),
        choice: "Pearson's and Spearman's, both".into(),
        meaning: String::new(),
    });
    let scales: Vec<&str> = family.trained().map(|(member, _)| member.scale.as_str()).collect();
    let figures = figures::of_family(family, plan, out)?;
    figures::write(out, &figures)?;
    let input = FamilyInput {
        title: plan.name.clone(),
        subtitle: format!("{}: {}", plan.summary, scales.join(", ")),
        family: Some(family),
        reference: plan.reference.stated(),
        choices,
        cost: plan.cost.clone(),
        precision: plan.train.precision,
        features: plans.iter().map(|plan| plan.model.width).max().unwrap_or(0),
        largest,
        figures,
        gallery,
    };
    write_bytes(out.join(REPORT), render_family(&input).as_bytes())
}

pub(super) fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.5} [{low:.5}, {high:.5}]", of.value),
        _ => format!("{:.5}", of.value),
    }
}

/// By how much a loss lies above what was foretold, or below it.
fn beside(above: &Interval) -> String {
    match above.value < 0.0 {
        true => {
            let turned = |of: Option<f64>| of.map(|x| -x);
            let (low, high) = (turned(above.high), turned(above.low));
            format!("below that by {}", interval(&Interval { value: -above.value, low, high }))
        }
        false => format!("above that by {}", interval(above)),
    }
}

pub(super) fn describe_member(member: &Member) -> String {
    let Some(trained) = &member.trained else {
        return format!(
            "{}: {}",
            member.scale,
            member.unfinished.as_deref().unwrap_or("not trained")
        );
    };
    let energy = trained.energy.as_ref();
    let energy = energy.map_or(String::new(), |e| match 1000.0 * e.joules / KILOWATT_HOUR {
        hours if hours < 100.0 => format!(", {hours:.2} Wh"),
        hours => format!(", {:.2} kWh", hours / 1000.0),
    });
    let said = member.predicted.as_ref().map_or(String::new(), |said| {
        let above = said.above.as_ref().map_or(String::new(), |above| {
            let right = match said.right {
                Some(true) => "as was said",
                Some(false) => "not as was said",
                None => "without a verdict",
            };
            format!(", {right}: it lies {}", beside(above))
        });
        format!("; foretold {}{above} ({OVER_OBJECTS})", interval(&said.loss))
    });
    format!(
        "{}: loss {:.5} after {} FLOP, {}{energy}{said}",
        member.scale,
        trained.loss,
        quantity(trained.flops),
        duration(trained.seconds)
    )
}

pub(super) fn describe(family: &Family, out: &Path) -> String {
    let mut lines: Vec<String> = family.members.iter().map(describe_member).collect();
    if let Some(fit) = &family.compute {
        let floor = match fit.floor.value > 0.0 {
            true => interval(&fit.floor) + " + ",
            false => String::new(),
        };
        lines.push(format!(
            "L(C) = {floor}{:.5} (C / {:.2e} FLOP)^-b, b = {}{} ({OVER_OBJECTS})",
            fit.law.a,
            fit.law.unit,
            interval(&fit.b),
            left_open(&fit.b)
        ));
        let share = 100.0 * fit.least_gain;
        lines.push(match &fit.saturation {
            _ if fit.law.a <= 0.0 => "the loss does not fall with compute".to_owned(),
            Some(_) if family.saturated_throughout() => format!(
                "saturated at every size trained: ten times the compute lowers the loss by less \
                 than {share}%"
            ),
            Some(turn) => format!(
                "saturated from {:.2e} FLOP on: ten times as much lowers the loss by less than {share}%",
                turn.value
            ),
            None if at_edge(fit.law.b) => "whether it saturates is not determined".to_owned(),
            None => "no floor is in sight: a power law fits alone".to_owned(),
        });
    }
    if let Some(fit) = &family.size {
        lines.push(format!(
            "L(N, D): N^-a with a = {}{} and D^-b with b = {}{}, from {} evaluations, {:.1e} left",
            interval(&fit.alpha),
            left_open(&fit.alpha),
            interval(&fit.beta),
            left_open(&fit.beta),
            fit.points,
            fit.residual
        ));
    }
    for trend in &family.trends {
        let gain = trend.gains.last().map_or("not determined".to_owned(), interval);
        let rho = |of: &Option<Interval>| of.as_ref().map_or("-".into(), interval);
        let without = trend
            .untrained
            .last()
            .map_or(String::new(), |gain| format!(" (untrained {})", interval(gain)));
        lines.push(format!(
            "{}: gain {gain}{without}, Pearson {}, Spearman {}",
            trend.label,
            rho(&trend.pearson),
            rho(&trend.spearman)
        ));
    }
    lines.extend(family.apart().into_iter().chain(family.few_groups()));
    lines.push(format!("family: {}", out.display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Prediction, Trained};

    #[test]
    fn a_loss_lies_above_or_below_what_was_foretold() {
        let interval =
            |value: f64| Interval { value, low: Some(value - 0.01), high: Some(value + 0.01) };
        let member = |above| Member {
            scale: "5M".into(),
            predicted: Some(Prediction {
                loss: interval(0.3),
                flops: 1.0,
                above: Some(interval(above)),
                right: Some(false),
            }),
            trained: Some(Trained::default()),
            ..Member::default()
        };
        let said = describe_member(&member(-0.02));
        assert!(said.contains("it lies below that by 0.02000 [0.01000, 0.03000]"), "{said}");
        assert!(said.contains(OVER_OBJECTS), "{said}");
        let said = describe_member(&member(0.02));
        assert!(said.contains("it lies above that by 0.02000 [0.01000, 0.03000]"), "{said}");
        let unfinished = Some("trained for 3 of 6 steps".to_owned());
        let half = Member { scale: "5M".into(), unfinished, ..Member::default() };
        assert_eq!(describe_member(&half), "5M: trained for 3 of 6 steps");
    }
}
