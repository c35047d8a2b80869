//! `astropt verify`: this build against recorded answers.

use std::process::ExitCode;

use super::args::VerifyArgs;
use super::choose;
use super::output::{Output, columns};
use crate::error::Result;
use crate::verify::Comparison;

/// Replays every case; the exit code is 1 when one of them disagrees.
pub(super) fn verify(args: &VerifyArgs, output: Output) -> Result<ExitCode> {
    let chosen = choose(&args.device)?;
    let mut agreed = true;
    for folder in &args.cases {
        let weights = args.weights.as_ref().map(|file| folder.join(file));
        let open = |model: &_| chosen.backend.open(chosen.index, model);
        let comparisons = match crate::verify::verify(folder, weights.as_deref(), &open) {
            Ok(comparisons) => comparisons,
            Err(error) => {
                agreed = false;
                output.error(&error);
                continue;
            }
        };
        agreed &= comparisons.iter().all(|c| c.ok);
        if output.json {
            for comparison in &comparisons {
                output.result(comparison, String::new)?;
            }
        } else {
            output.result(&(), || table(&comparisons))?;
        }
    }
    Ok(if agreed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A heading and a row per quantity, then the verdict.
fn table(comparisons: &[Comparison]) -> String {
    let mut rows = vec![vec![
        "case".to_owned(),
        "quantity".to_owned(),
        "max_abs".to_owned(),
        "max_rel".to_owned(),
        "tolerance".to_owned(),
        String::new(),
    ]];
    for c in comparisons {
        rows.push(vec![
            c.case.clone(),
            c.quantity.clone(),
            format!("{:.1e}", c.max_abs),
            format!("{:.1e}", c.max_rel),
            format!("{:.0e}", c.tolerance),
            if c.ok { "ok" } else { "DISAGREES" }.to_owned(),
        ]);
    }
    let wrong = comparisons.iter().filter(|c| !c.ok).count();
    let verdict = match wrong {
        0 => format!("all {} quantities agree", comparisons.len()),
        _ => format!("{wrong} of {} quantities disagree", comparisons.len()),
    };
    format!("{}\n{verdict}", columns(&rows))
}
