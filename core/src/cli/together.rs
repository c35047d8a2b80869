//! Several processes that work on one thing: each was started with arguments and data of its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Witnesses};
use crate::error::{Error, Result};
use crate::parallel::{Ranks, settled};
use crate::recipe::Plan;
use crate::seam::Pin;

/// What a process works on.
#[derive(PartialEq, Serialize, Deserialize)]
struct Work {
    host: String,
    out: PathBuf,
    recipe: String,
    objects: String,
    /// What keeps the data as they are.
    pins: Vec<Pin>,
    witnesses: Witnesses,
}

impl Work {
    /// What keeps `other` from sharing this work.
    fn differs(&self, other: &Self) -> Option<String> {
        if self.recipe != other.recipe {
            return Some(format!("another recipe: {}", difference(&self.recipe, &other.recipe)));
        }
        if self.objects != other.objects {
            return Some("other data: other ids or splits".into());
        }
        if self.pins != other.pins {
            let why = "a branch has moved while the processes began";
            return Some(format!("another commit of the data: {why}"));
        }
        if let Some(why) = self.witnesses.contradict(&other.witnesses) {
            return Some(format!("other data: {why}"));
        }
        let (out, others) = (self.out.display(), other.out.display());
        (self.out != other.out).then(|| format!("another folder to write into: {others} and {out}"))
    }
}

/// Checks that all processes were started to do the same.
///
/// # Errors
/// On all of them, what the first that differs has otherwise.
pub(super) fn same_everywhere(
    ranks: &dyn Ranks,
    plan: &Plan,
    data: &Dataset,
    out: &Path,
) -> Result<()> {
    if ranks.size() == 1 {
        return Ok(());
    }
    let mine = Work {
        host: ranks.host(),
        out: out.to_owned(),
        recipe: without_source(&plan.recipe),
        objects: data.digest(),
        pins: data.pins(),
        witnesses: data.witnesses()?,
    };
    let failed = |e: serde_json::Error| Error::Failed(format!("cannot compare the processes: {e}"));
    let told = ranks.share(&serde_json::to_vec(&mine).map_err(failed)?)?;
    let all: Vec<Work> = told
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).map_err(failed))
        .collect::<Result<_>>()?;
    let Some((first, rest)) = all.split_first() else { return Ok(()) };
    for (rank, other) in (1..).zip(rest) {
        if let Some(what) = first.differs(other) {
            return Err(settled(Error::Misuse(format!(
                "process {rank} of {} on {} has {what}; start all with the same arguments, on the \
                 same data",
                all.len(),
                other.host
            ))));
        }
    }
    Ok(())
}

/// Checks that all processes compute on the same backend: others round otherwise, and parameters would
/// drift apart.
///
/// # Errors
/// On all of them, which is the first that has another.
pub(super) fn same_backend(ranks: &dyn Ranks, name: &str) -> Result<()> {
    let told = ranks.share(name.as_bytes())?;
    match told.iter().position(|other| *other != told[0]) {
        None => Ok(()),
        Some(rank) => {
            let [first, other] = [0, rank].map(|k| String::from_utf8_lossy(&told[k]).into_owned());
            Err(settled(Error::Misuse(format!(
                "process {rank} of {} computes on {other} where process 0 does on {first}; start all \
                 with the same --backend",
                told.len()
            ))))
        }
    }
}

/// `recipe` without where its data lie, which may be another place on every machine.
fn without_source(recipe: &str) -> String {
    let table = recipe.parse::<toml::Table>().map(|mut table| {
        table.remove("source");
        table.to_string()
    });
    table.unwrap_or_else(|_| recipe.to_owned())
}

/// The first line in which two texts differ, in both.
fn difference(one: &str, other: &str) -> String {
    let mut pairs = one.lines().zip(other.lines());
    match pairs.find(|(a, b)| a != b) {
        Some((a, b)) => format!("`{b}` where process 0 has `{a}`"),
        None => "one has more keys".to_owned(),
    }
}
