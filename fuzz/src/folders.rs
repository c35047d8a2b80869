//! A run's folder, as an earlier version wrote it, with one file of a hostile writer. It has no
//! checksums, which came later and would refuse the file before it is read.

use std::path::Path;

use astropt_core::Result;
use astropt_core::embed::Embeddings;
use astropt_core::family::{FAMILY, Family};
use astropt_core::probe::{Emergence, ProbeTable};
use astropt_core::run::{RunFolder, Saved, load_model};
use astropt_core::seam::find_backend;
use astropt_core::train::{FAULTS, Fault, Metric, read_ledger, read_lines};
use astropt_cpu as _;

use crate::seeds::repository;

const RUN: &str = "tests/fixtures/format-1";
const STEP: &str = "checkpoints/step-000002";

/// A run's manifest.
pub fn manifest(bytes: &[u8]) -> Result<()> {
    with("manifest.json", bytes, |run| RunFolder::open(run).map(drop))
}

/// A run's losses.
pub fn metrics(bytes: &[u8]) -> Result<()> {
    with("metrics.jsonl", bytes, |run| read_lines::<Metric>(&run.join("metrics.jsonl")).map(drop))
}

/// Which objects each step of a run took.
pub fn ledger(bytes: &[u8]) -> Result<()> {
    with("ledger.jsonl", bytes, |run| read_ledger(&RunFolder::open(run)?.0).map(drop))
}

/// A run's faulty steps.
pub fn faults(bytes: &[u8]) -> Result<()> {
    with(FAULTS, bytes, |run| read_lines::<Fault>(&run.join(FAULTS)).map(drop))
}

/// The objects that a run could not use.
pub fn rejected(bytes: &[u8]) -> Result<()> {
    with("rejected.csv", bytes, |run| RunFolder::open(run)?.0.read_rejected().map(drop))
}

/// The record of a run's files.
pub fn checksums(bytes: &[u8]) -> Result<()> {
    with("checksums.json", bytes, |run| RunFolder::open(run)?.0.verified("metrics.jsonl").map(drop))
}

/// Probes through training.
pub fn emergence(bytes: &[u8]) -> Result<()> {
    let name = "emergence.json";
    with(name, bytes, |run| Emergence::read_json(&run.join(name)).map(drop))
}

/// A family of models.
pub fn family(bytes: &[u8]) -> Result<()> {
    with(FAMILY, bytes, |run| Family::read(run).map(drop))
}

/// A run's probes.
pub fn probes(bytes: &[u8]) -> Result<()> {
    with("probes.json", bytes, |run| ProbeTable::read_json(run.join("probes.json")).map(drop))
}

/// A run's embeddings.
pub fn embeddings(bytes: &[u8]) -> Result<()> {
    let name = "embeddings.parquet";
    with(name, bytes, |run| Embeddings::read_parquet(run.join(name)).map(drop))
}

/// A checkpoint's parameters, with the plan they were trained under.
pub fn model(bytes: &[u8]) -> Result<()> {
    with(&format!("{STEP}/model.safetensors"), bytes, |run| {
        let folder = run.join(STEP);
        let (plan, parameters, _) = load_model(&folder)?;
        let mut session = (find_backend("cpu")?.build)().open(0, &plan.model_config()?)?;
        let saved = Saved { step: 0, path: folder };
        saved.load(&parameters, &plan.build_modalities()?, session.as_mut(), false)
    })
}

/// A checkpoint's optimiser.
pub fn optimizer(bytes: &[u8]) -> Result<()> {
    with(&format!("{STEP}/optimizer.safetensors"), bytes, |run| {
        RunFolder::open(run)?.0.checkpoint("last")?.optimiser().map(drop)
    })
}

/// How far a checkpoint's training had come.
pub fn state(bytes: &[u8]) -> Result<()> {
    with(&format!("{STEP}/state.json"), bytes, |run| {
        RunFolder::open(run)?.0.checkpoint("last")?.state().map(drop)
    })
}

/// Hands over a run's folder in which the file `name` holds `bytes`.
fn with(name: &str, bytes: &[u8], use_it: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (sound, run) = (repository().join(RUN), folder.path());
    std::fs::create_dir_all(run.join(STEP)).expect("room for a folder");
    for file in ["manifest.json", &format!("{STEP}/model.safetensors")] {
        // Not copied by the system, which a fuzzer's signals interrupt.
        let bytes = std::fs::read(sound.join(file)).expect("a readable seed");
        std::fs::write(run.join(file), bytes).expect("room for a temporary file");
    }
    std::fs::write(run.join(name), bytes).expect("room for a temporary file");
    use_it(run)
}
