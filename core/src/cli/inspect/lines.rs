//! What a run writes line by line: losses, speed, the ledger, faults.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Found, significant, spread};
use crate::error::{Error, Result};
use crate::progress::{duration, quantity};
use crate::train::{
    Done, FAULTS, Fault, LEDGER, METRICS, Metric, TIMINGS, Timing, ledger, read_lines,
};

/// Rows of the course of a training.
const COURSE: usize = 16;
/// Ids that a row has room for.
const IDS: usize = 3;

/// A file of lines that a run writes under this name; `None` for others.
pub(super) fn of(path: &Path, name: &str) -> Option<Result<Found>> {
    match name {
        METRICS => Some(metrics(path)),
        TIMINGS => Some(timings(path)),
        LEDGER => Some(objects(path)),
        FAULTS => Some(faults(path)),
        _ => None,
    }
}

fn lines<T: DeserializeOwned>(path: &Path, what: &str) -> Result<Vec<T>> {
    read_lines(path).map_err(|e| match e {
        Error::File { path, message } => Error::file(path, format!("is no {what}: {message}")),
        other => other,
    })
}

/// Losses of training and validation.
fn metrics(path: &Path) -> Result<Found> {
    let all: Vec<Metric> = lines(path, "file of losses")?;
    let mut found = Found::new("the losses of a training");
    let (mut course, mut evaluated) = (Vec::new(), Vec::new());
    for metric in all {
        match metric {
            Metric::Train { step, loss, lr, grad_norm, tokens, .. } => {
                course.push((step, loss, lr, grad_norm, tokens));
            }
            Metric::Validation { step, loss, zero_loss, objects, .. } => {
                evaluated.push((step, loss, zero_loss, objects));
            }
        }
    }
    if let (Some(first), Some(last)) = (course.first(), course.last()) {
        found.fact("steps", format!("{} to {}", first.0, last.0));
        found.fact("tokens read", quantity(last.4 as f64));
        let losses = [first, last].map(|line| significant(line.1));
        found.fact("training loss", format!("{} to {}", losses[0], losses[1]));
    }
    if let Some(best) = evaluated.iter().min_by(|a, b| a.1.total_cmp(&b.1)) {
        let said = format!("{} after step {}", significant(best.1), best.0);
        found.fact("lowest validation loss", said);
        let objects = format!("{} (predicting zero: {})", best.3, significant(best.2));
        found.fact("validation objects", objects);
    }
    let row = |(step, loss, lr, norm, _): &(u64, f64, f64, f64, u64)| {
        vec![step.to_string(), significant(*loss), significant(*norm), significant(*lr)]
    };
    let heading = ["step", "loss", "gradient norm", "learning rate"];
    found.table("training", &heading, spread(&course, COURSE).map(row).collect());
    let row = |(step, loss, ..): &(u64, f64, f64, u64)| vec![step.to_string(), significant(*loss)];
    found.table("validation", &["step", "loss"], spread(&evaluated, COURSE).map(row).collect());
    Ok(found)
}

/// How fast the training was.
fn timings(path: &Path) -> Result<Found> {
    let all: Vec<Timing> = lines(path, "file of speeds")?;
    let mut found = Found::new("the speed of a training");
    let sum = |of: fn(&Timing) -> f64| all.iter().map(of).sum::<f64>();
    found.fact("steps", all.len());
    let seconds = sum(|t| t.seconds);
    found.fact("time in steps", duration(seconds));
    if seconds > 0.0 {
        let share = 100.0 * sum(|t| t.data_seconds) / seconds;
        found.fact("waiting for data", format!("{share:.1} % of it"));
    }
    let mut rates: Vec<f64> = all.iter().map(|t| t.tokens_per_second).collect();
    rates.sort_by(f64::total_cmp);
    if let Some(median) = rates.get(rates.len() / 2) {
        found.fact("median speed", format!("{} tokens/s", quantity(*median)));
    }
    if let Some(memory) = all.iter().filter_map(|t| t.device_memory_bytes).max() {
        found.fact("most memory of the device", format!("{}B", quantity(memory as f64)));
    }
    let row = |t: &Timing| {
        vec![
            t.step.to_string(),
            format!("{:.3} s", t.seconds),
            quantity(t.tokens_per_second),
            quantity(t.flops_per_second),
        ]
    };
    let heading = ["step", "took", "tokens/s", "FLOP/s"];
    found.table("course", &heading, spread(&all, COURSE).map(row).collect());
    Ok(found)
}

/// Which objects each step was taken on.
fn objects(path: &Path) -> Result<Found> {
    let all: Vec<ledger::Entry> = lines(path, "ledger of a run")?;
    let mut found = Found::new("the ledger of a run: which objects each step was taken on");
    if let (Some(first), Some(last)) = (all.first(), all.last()) {
        found.fact("steps", format!("{} to {}", first.step, last.step));
        found.fact("objects drawn", all.iter().map(|entry| entry.objects).sum::<u64>());
        let passed = all.iter().filter(|entry| entry.objects == 0).count();
        if passed > 0 {
            found.fact("steps passed over", passed);
        }
        found.fact("stand-ins", all.iter().map(|entry| entry.instead.len()).sum::<usize>());
        found.fact("end of the chain", last.chain.clone());
    }
    found.fact("to prove it", "`astropt audit RUN` replays it against the recipe and the data");
    let row = |entry: &ledger::Entry| {
        let last = (entry.first + entry.objects).saturating_sub(1);
        vec![
            entry.step.to_string(),
            if entry.objects == 0 { "none".into() } else { format!("{} to {last}", entry.first) },
            entry.instead.len().to_string(),
            entry.chain.chars().take(16).collect::<String>() + "…",
        ]
    };
    let heading = ["step", "positions in the stream", "stand-ins", "chain"];
    found.table("course", &heading, spread(&all, COURSE).map(row).collect());
    Ok(found)
}

/// Steps whose numbers were wrong.
fn faults(path: &Path) -> Result<Found> {
    let all: Vec<Fault> = lines(path, "list of faulty steps")?;
    let mut found = Found::new("faulty steps of a training");
    found.fact("faults", all.len());
    let row = |fault: &Fault| {
        let done = match fault.done {
            Done::Stopped => "stopped",
            Done::Skipped => "left out",
            Done::RolledBack => "rolled back",
            Done::Reported => "said",
        };
        let shown: Vec<&str> = fault.ids.iter().take(IDS).map(String::as_str).collect();
        let more = fault.ids.len().saturating_sub(IDS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let objects = format!("{}{more}", shown.join(" "));
        vec![fault.step.to_string(), fault.what.clone(), done.to_owned(), objects]
    };
    let rows = all.iter().map(row).collect();
    found.table("faults", &["step", "what", "done", "objects"], rows);
    Ok(found)
}

/// JSON lines that another program wrote.
pub(super) fn other(path: &Path) -> Result<Found> {
    let all: Vec<Json> = lines(path, "file of JSON lines")?;
    let mut found = Found::new("lines of JSON");
    found.fact("lines", all.len());
    if let Some(first) = all.first() {
        super::json::outline(&mut found, "the first", first);
    }
    Ok(found)
}
