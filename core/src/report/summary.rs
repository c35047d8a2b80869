//! The head of the report: what came of the run, in words and in a few numbers.

use maud::{Markup, html};

use super::format::{count, duration, fixed, scientific, short, significant};
use super::input::ReportInput;
use super::page::or;
use crate::probe::Verdict;

/// Validation losses of a run.
pub(super) struct Losses {
    pub(super) last: f64,
    pub(super) best: f64,
    pub(super) best_step: u64,
}

impl Losses {
    pub(super) fn of(input: &ReportInput) -> Option<Self> {
        let measured = || input.curve.iter().filter_map(|p| Some((p.step, p.validation?)));
        let finite = || measured().filter(|(_, loss)| loss.is_finite());
        let (best_step, best) = finite().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Self { last: finite().next_back()?.1, best, best_step })
    }
}

pub(super) fn section(input: &ReportInput) -> Markup {
    html! {
        section.summary id="summary" {
            @for sentence in sentences(input) { p.lead { (sentence) } }
            div.cards {
                @for (value, name, meaning) in cards(input) {
                    div.card { p.value { (value) } p.name { (name) } p.explain { (meaning) } }
                }
            }
        }
    }
}

fn sentences(input: &ReportInput) -> Vec<String> {
    let run = &input.run;
    let mut out = vec![];
    if run.steps > 0 && run.parameters > 0 {
        let mut text = format!("A model of {} parameters took ", short(run.parameters));
        text += &format!("{} training steps", count(run.steps));
        if run.objects_train > 0 {
            text += &format!(" on {} {}", count(run.objects_train), or(&input.objects, "objects"));
        }
        if !run.device.is_empty() {
            text += &format!(", on {}", run.device);
        }
        if run.seconds > 0.0 {
            text += &format!(", in {}", duration(run.seconds));
        }
        out.push(text + ".");
    }
    out.extend(loss_sentence(input));
    out.extend(probe_sentence(input));
    out
}

fn loss_sentence(input: &ReportInput) -> Option<String> {
    let losses = Losses::of(input)?;
    let name = or(&input.loss_name, "prediction");
    let mut text = format!("Its validation {name} loss ended at {}", significant(losses.last, 4));
    if losses.best < losses.last {
        let best = significant(losses.best, 4);
        text += &format!(" after a best of {best} at step {}", count(losses.best_step));
    }
    if let Some(zero) = input.zero_loss.filter(|zero| *zero > 0.0) {
        let removed = 100.0 * (1.0 - losses.last / zero);
        text += &format!(
            "; always predicting zero scores {}, so the model {}",
            significant(zero, 4),
            if removed > 0.0 {
                format!("has learned to remove {}% of that loss", fixed(removed, 1))
            } else {
                "does not yet do better than that".to_owned()
            }
        );
    }
    Some(text + ".")
}

fn probe_sentence(input: &ReportInput) -> Option<String> {
    let table = input.probes.as_ref()?;
    let (model, baseline) = (table.sets.first()?, table.sets.get(1)?);
    let compared: Vec<_> = table
        .rows
        .iter()
        .filter(|row| &row.features == model)
        .filter_map(|row| row.versus(baseline))
        .collect();
    let better = compared.iter().filter(|d| d.verdict() == Verdict::Beats).count();
    let what = match compared.len() {
        0 => return None,
        1 => "the one property compared".to_owned(),
        n => format!("{better} of {n} properties"),
    };
    let text = if better == 0 {
        format!("From its embeddings no property is told reliably better than from {baseline}")
    } else {
        format!("From its embeddings {what} can be told reliably better than from {baseline}")
    };
    let worse = compared.iter().filter(|d| d.verdict() == Verdict::FallsShort).count();
    Some(match worse {
        0 => text + ".",
        worse => format!("{text}, and {worse} reliably worse."),
    })
}

type Card = (String, &'static str, String);

fn cards(input: &ReportInput) -> Vec<Card> {
    let run = &input.run;
    let mut out: Vec<Card> = vec![];
    if let Some(losses) = Losses::of(input) {
        out.push((
            significant(losses.best, 4),
            "best validation loss",
            format!("at step {}; its log10 is {}", count(losses.best_step), log10(losses.best)),
        ));
    }
    if run.objects_seen > 0 {
        let times = run.objects_seen as f64 / run.objects_train.max(1) as f64;
        out.push((
            short(run.objects_seen),
            "objects seen",
            format!("{} epochs: times each was seen on average", significant(times, 3)),
        ));
    }
    if run.tokens > 0 {
        out.push((short(run.tokens), "tokens", "pieces of data that the model read".into()));
    }
    if run.parameters > 0 {
        out.push((short(run.parameters), "parameters", "numbers the training adjusts".into()));
    }
    if run.flops > 0.0 {
        let meaning = "floating-point operations: the cost, whatever the machine".into();
        out.push((scientific(run.flops), "FLOP", meaning));
    }
    if run.seconds > 0.0 {
        let rate = run.objects_seen as f64 / run.seconds;
        let meaning = format!("{} objects a second, evaluation included", significant(rate, 3));
        out.push((duration(run.seconds), "running time", meaning));
    }
    out
}

fn log10(x: f64) -> String {
    fixed(x.log10(), 4)
}
