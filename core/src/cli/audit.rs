//! `astropt audit`: which objects trained a run's model, proved from its ledger.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::output::Output;
use super::{data, family};
use crate::checkpoint::files::nothing_there;
use crate::checkpoint::{checksums, write_bytes};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::progress::quantity;
use crate::recipe::amend;
use crate::run::RunFolder;
use crate::train::{Audit, Audited, read_ledger};

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Folder of the run, or of a family of runs
    pub(crate) run: PathBuf,
    /// Where the data lie now [default: where they were]
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Write how often each object was trained on, as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) counts: Option<PathBuf>,
}

#[derive(Serialize)]
struct Proved<'a> {
    run: &'a Path,
    #[serde(flatten)]
    audited: &'a Audited,
}

/// `astropt audit`.
pub(super) fn audit(args: &AuditArgs, output: Output) -> Result<()> {
    args.counts.as_deref().map_or(Ok(()), nothing_there)?;
    if !family::is_family(&args.run) {
        return audit_run(args, &args.run, output);
    }
    let runs = family::runs(&args.run)?;
    if args.counts.is_some() {
        return Err(Error::Misuse(format!(
            "--counts is of one run, and {} holds a family; name one of its {} runs",
            args.run.display(),
            runs.len()
        )));
    }
    checksums::all_as_listed(&args.run)?;
    runs.iter().try_for_each(|run| audit_run(args, run, output))
}

fn audit_run(args: &AuditArgs, run: &Path, output: Output) -> Result<()> {
    let (folder, manifest) = RunFolder::open(run)?;
    read_ledger(&folder)?; // a run without one needs no data to say so
    checksums::all_as_listed(folder.path())?;
    folder.previews()?;
    let plan = amend(&manifest.plan, &[], &[], args.data.as_deref())?;
    let data = data::open(&plan)?;
    let audited = Audit::new(&folder, &manifest, &data)?.replay()?;
    if let Some(path) = &args.counts {
        write_counts(path, &data, &audited.counts)?;
    }
    let proved = Proved { run: folder.path(), audited: &audited };
    output.result(&proved, || describe(&proved))
}

fn describe(Proved { run, audited: of }: &Proved<'_>) -> String {
    let mut lines = vec![
        format!(
            "{}: {} steps on {} draws, each of the object that recipe, seed and step say, each \
             position once",
            run.display(),
            of.steps,
            of.draws
        ),
        format!(
            "{} of {} training objects trained the model, {} to {} times each, the median object {}",
            of.trained_objects, of.train_objects, of.least, of.most, of.median
        ),
        format!(
            "none of the {} validation and {} test objects did{}",
            of.validation_objects,
            of.test_objects,
            match of.steps_before {
                0 => String::new(),
                before => format!(" from step {} on", before + 1),
            }
        ),
        match of.checkpoints {
            0 => {
                format!("no checkpoint after a step carries the chain yet; it ends in {}", of.chain)
            }
            some => format!("{some} checkpoints carry the chain, which ends in {}", of.chain),
        },
    ];
    if of.stood_in > 0 {
        lines.push(format!(
            "at {} positions another object stood in for one that rejected.csv lists",
            quantity(of.stood_in as f64)
        ));
    }
    if let Some(step) = of.unproved {
        lines.push(format!(
            "not proved: the best model, after step {step}, of steps that --resume has yet to take \
             again"
        ));
    }
    if of.steps_before > 0 {
        lines.push(format!(
            "not proved: steps 1 to {}, from before this run kept a ledger",
            of.steps_before
        ));
    }
    if of.steps_after > 0 {
        lines.push(format!(
            "the last {} steps are in no checkpoint{}",
            of.steps_after,
            match of.last_checkpoint {
                None => "; without one nothing goes on from them".to_owned(),
                Some(step) =>
                    format!(" yet; --resume goes on from step {step} and takes them again"),
            }
        ));
    }
    lines.join("\n")
}

/// Writes `id,split,times` of every object.
fn write_counts(path: &Path, data: &Dataset, counts: &[u32]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {e}"));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["id", "split", "times"]).map_err(|e| failed(&e))?;
    for split in [Split::Train, Split::Validation, Split::Test] {
        for &index in data.splits.get(split) {
            let times = counts[index as usize].to_string();
            let row = [data.id(index), split.name().to_owned(), times];
            table.write_record(row).map_err(|e| failed(&e))?;
        }
    }
    write_bytes(path, &table.into_inner().map_err(|e| failed(&e))?)
}
