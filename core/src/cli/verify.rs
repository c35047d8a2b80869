//! `astropt verify`: this build against recorded answers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::args::VerifyArgs;
use super::choose;
use super::output::{Output, columns};
use crate::error::{Error, Result};
use crate::verify::Comparison;

/// Replays every case; the exit code is 1 when one of them disagrees.
pub(super) fn verify(args: &VerifyArgs, output: Output) -> Result<ExitCode> {
    let chosen = choose(&args.device, None)?;
    let mut agreed = true;
    let mut folders = Vec::new();
    for path in &args.cases {
        folders.extend(cases(path)?);
    }
    for folder in &folders {
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

/// What is replayed of `path`: itself, or, of a folder that is no case and holds some, all of its
/// folders by name.
fn cases(path: &Path) -> Result<Vec<PathBuf>> {
    let is_case = |folder: &Path| folder.join("case.json").is_file();
    if is_case(path) || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| Error::io("read the folder", path, &e))? {
        let inner = entry.map_err(|e| Error::io("read the folder", path, &e))?.path();
        if inner.is_dir() {
            folders.push(inner);
        }
    }
    folders.sort();
    Ok(if folders.iter().any(|folder| is_case(folder)) { folders } else { vec![path.to_owned()] })
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
            match (&c.problem, c.ok) {
                (_, true) => "ok".to_owned(),
                (None, false) => "DISAGREES".to_owned(),
                (Some(problem), false) => format!("DISAGREES: {problem}"),
            },
        ]);
    }
    let wrong = comparisons.iter().filter(|c| !c.ok).count();
    let verdict = match wrong {
        0 => format!("all {} quantities agree", comparisons.len()),
        _ => format!("{wrong} of {} quantities disagree", comparisons.len()),
    };
    format!("{}\n{verdict}", columns(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_cases_is_each_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["b", "a"] {
            std::fs::create_dir(at(name)).expect("made");
        }
        let cases = |path: &Path| cases(path).expect("readable");
        assert_eq!(cases(folder.path()), [folder.path().to_owned()], "no case in it");
        std::fs::write(at("b/case.json"), "{}").expect("written");
        // What is no case is not passed over: it is an error of its own.
        assert_eq!(cases(folder.path()), [at("a"), at("b")]);
        assert_eq!(cases(&at("b")), [at("b")]);
        assert_eq!(cases(&at("none")), [at("none")]);
    }
}
