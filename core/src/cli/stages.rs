//! The stages after training: `astropt embed` and `report`, and all of them.
//!
//! Each reads what the stage before it wrote into the run's folder, so each runs alone too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{EmbedArgs, ReportArgs};
use super::emergence::{self, EMERGENCE};
use super::output::Output;
use super::probes::{self, PROBES};
use super::run::{OpenRun, Stage};
use super::together::{same_backend, same_everywhere};
use super::{Chosen, choose, data, unless_stopped};
use crate::checkpoint::checksums;
use crate::checkpoint::files::{sweep, until_whole};
use crate::data::Dataset;
use crate::embed::{Description, Target, Written, embed as embed_all, raw_features};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::model::initial_parameters;
use crate::parallel::{self, Ranks, agree, first, settled};
use crate::recipe::{CheckpointChoice, Plan, amend};
use crate::run::{
    Manifest, RunFolder, RunLock, Saved, StageRecord, Work, clear_embeddings, is_embedding,
    nothing_foreign, write_rejected,
};

/// The stage that trains, as manifests call it.
pub(super) const PRETRAIN: &str = "pretrain";
pub(super) const EMBEDDINGS: &str = "embeddings.parquet";
const EMBEDDINGS_NPY: &str = "embeddings.npy";
const EMBEDDINGS_IDS: &str = "embeddings.ids.txt";
/// Plain features of the objects themselves.
pub(super) const RAW: &str = "embeddings-raw.parquet";
pub(super) const REPORT: &str = "report.html";
/// Under which embeddings have the digest of their model.
pub(super) const MODEL: &str = "model";
/// Embeddings of the same model before training; of further ones a number goes before the dot.
const RANDOM_INIT: &str = "embeddings-random-init";

/// The files of the embeddings of untrained models in `folder`, in their order.
pub(super) fn random_inits(folder: &Path) -> Vec<PathBuf> {
    let files = (0..).map(|k| folder.join(random_init(k)));
    files.take_while(|path| path.exists()).collect()
}

/// File of the embeddings of untrained model `k`.
pub(super) fn random_init(k: usize) -> String {
    match k {
        0 => format!("{RANDOM_INIT}.parquet"),
        k => format!("{RANDOM_INIT}-{}.parquet", k + 1),
    }
}

/// Everything after training, with what is open already. `again` is the folder that --resume
/// goes on with: the run's, or its family's.
pub(super) fn after_training(open: &mut OpenRun, output: Output, again: &Path) -> Result<()> {
    let stage = Stage::start("embed", &open.chosen);
    let out = open.folder.path().to_owned();
    let ranks = parallel::world();
    let of = agree(ranks, choose_checkpoint(open))?;
    let step = of.step;
    let how = format!("go on with --resume --out {}", again.display());
    write_embeddings(&open.manifest.plan, &open.data, open.session.as_mut(), &of, &out).map_err(
        |error| match error {
            Error::Interrupted(what) => settled(Error::Interrupted(format!("{what}; {how}"))),
            error => error,
        },
    )?;
    // What is left is one process's work.
    let rest = format!(" before probes and report were done; {how}");
    first(ranks, || unless_stopped(output, &rest, || after_embedding(open, stage, step))).map(drop)
}

/// Probes and reports.
fn after_embedding(open: &mut OpenRun, stage: Stage, step: u64) -> Result<()> {
    let out = open.folder.path().to_owned();
    open.folder.write_rejected(&open.data.rejected())?;
    open.manifest.stages.push(stage.record(&open.chosen, &open.manifest.plan, step_fact(step)));
    let stage = Stage::start("probe", &open.chosen);
    let table = probes::probes_of(&out, &open.manifest.plan)?;
    probes::keep(&out, &table)?;
    open.manifest.stages.push(stage.record(&open.chosen, &open.manifest.plan, BTreeMap::new()));
    open.folder.write_manifest(&open.manifest)?;
    crate::progress::say(&probes::describe(&table));
    if emergence::asked(&open.manifest.plan) {
        let stage = Stage::start("emergence", &open.chosen);
        let (plan, session) = (&open.manifest.plan, open.session.as_mut());
        let emerged = emergence::probes_of(&open.folder, plan, &open.data, session)?;
        emergence::keep(&open.folder, &emerged)?;
        crate::progress::say(&emergence::describe(&emerged));
        open.manifest.stages.push(stage.record(&open.chosen, plan, BTreeMap::new()));
        open.folder.write_manifest(&open.manifest)?;
    }
    super::report::write(&open.folder, &open.manifest)
}

/// Puts the parameters that the recipe wants embedded on the device; answers with their checkpoint.
fn choose_checkpoint(open: &mut OpenRun) -> Result<Saved> {
    let choice = open.manifest.plan.embed.checkpoint;
    let saved = open.folder.checkpoint(choice.name())?;
    if choice == CheckpointChoice::Last {
        return Ok(saved);
    }
    let (_, parameters, step) = open.folder.load_model(&saved, &open.manifest.plan)?;
    open.session.set_parameters(&parameters)?;
    crate::progress::say(&format!(
        "embedding with the {} parameters, after step {step}",
        choice.name()
    ));
    Ok(saved)
}

fn step_fact(step: u64) -> BTreeMap<String, String> {
    BTreeMap::from([("checkpoint".to_owned(), step_words(step))])
}

/// What embeddings say of the checkpoint that they are of.
pub(super) fn step_words(step: u64) -> String {
    format!("step {step}")
}

/// What `astropt embed` needs.
struct Embedding {
    folder: RunFolder,
    manifest: Manifest,
    plan: Plan,
    of: Saved,
    chosen: Chosen,
    data: Arc<Dataset>,
    session: Box<dyn Session>,
    out: PathBuf,
    /// Of the folder `out`, where that is not the run's, on the process that writes.
    _lock: Option<RunLock>,
}

fn open_embedding(args: &EmbedArgs, ranks: &dyn Ranks) -> Result<Embedding> {
    // What goes to another folder only reads this one.
    let (folder, manifest) = match args.out {
        Some(_) => RunFolder::open(&args.run)?,
        None => RunFolder::open_together(&args.run, ranks)?,
    };
    if args.data.is_some() && args.out.is_none() {
        return Err(Error::Misuse(
            "--data needs --out DIR: the run's own embeddings are of its own objects".into(),
        ));
    }
    if let Some(out) = &args.out {
        may_hold_embeddings(out)?;
    }
    let mut plan = amend(&manifest.plan, &["embed."], &args.set, args.data.as_deref())?;
    if args.data.is_some() && !args.set.iter().any(|set| set.trim().starts_with("embed.splits")) {
        // Splits are of the run's own objects; of others all are wanted.
        plan.embed.splits.clear();
    }
    if let Some(out) = &args.out {
        data::apart_from(&plan, out)?;
    }
    let name = args.checkpoint.as_deref().unwrap_or(plan.embed.checkpoint.name());
    let saved = folder.checkpoint(name)?;
    let (_, parameters, _) = folder.load_model(&saved, &plan)?;
    let chosen = choose(&args.device, Some(&plan))?;
    let data = data::open_to_read(&plan)?;
    let mut session = chosen.backend.open(chosen.index, data.model())?;
    let check = !args.check.no_self_check;
    saved.load(&parameters, data.modalities(), session.as_mut(), check)?;
    match (&args.data, check) {
        (Some(_), true) => {
            manifest.check_units(&data, &args.run)?;
            manifest.tell_strangers(&data);
        }
        (Some(_), false) => {}
        (None, true) => manifest.check_data(&data, &args.run)?,
        (None, false) => manifest.check_ids(&data, &args.run)?,
    }
    let out = args.out.clone().unwrap_or_else(|| folder.path().to_owned());
    std::fs::create_dir_all(&out).map_err(|e| Error::io("make the folder", &out, &e))?;
    let locks = args.out.is_some() && ranks.rank() == 0;
    let _lock = locks.then(|| RunLock::take(&out)).transpose()?;
    if locks {
        sweep(&out)?;
    }
    Ok(Embedding { folder, manifest, plan, of: saved, chosen, data, session, out, _lock })
}

/// Checks that `--out` is no run, whose embeddings are its own model's, and holds nothing that would
/// be written over.
fn may_hold_embeddings(out: &Path) -> Result<()> {
    if RunFolder::is_run(out) || super::family::is_family(out) {
        return Err(Error::Misuse(format!(
            "--out {}: the folder is of a run or a family, whose embeddings are of its own models; \
             choose another",
            out.display()
        )));
    }
    nothing_foreign(out, Work::Embeddings)
}

/// `astropt embed`.
pub(super) fn embed(args: &EmbedArgs, output: Output) -> Result<()> {
    super::listen()?;
    let ranks = parallel::world();
    let Embedding { folder, mut manifest, plan, of, chosen, data, mut session, out, _lock } =
        agree(ranks, open_embedding(args, ranks))?;
    same_backend(ranks, chosen.name)?;
    same_everywhere(ranks, &plan, &data, &out)?;
    let stage = Stage::start("embed", &chosen);
    let written =
        write_embeddings(&plan, &data, session.as_mut(), &of, &out).map_err(
            |error| match error {
                Error::Interrupted(what) => settled(Error::Interrupted(format!(
                    "{what}; {} has no whole embeddings now, the same command makes them anew",
                    out.display()
                ))),
                error => error,
            },
        )?;
    // Of several processes each has read its own objects alone.
    if args.data.is_some() && ranks.size() == 1 {
        data.tell_unmet();
    }
    first(ranks, || {
        if args.out.is_none() {
            // The run's list of rejected objects stays what training made it: its ledger and
            // --resume go by it.
            manifest.plan = amend(&manifest.plan, &["embed."], &args.set, None)?;
            record(&folder, &mut manifest, stage, &chosen, step_fact(of.step))?;
        } else {
            write_rejected(&out, &data.rejected())?;
        }
        Ok(())
    })?;
    let path = out.join(EMBEDDINGS);
    let result = serde_json::json!({
        "embeddings": path, "objects": written.objects, "shape": written.shape,
    });
    output.result(&result, || format!("{} embeddings: {}", written.objects, path.display()))
}

fn record(
    folder: &RunFolder,
    manifest: &mut Manifest,
    stage: Stage,
    chosen: &Chosen,
    facts: BTreeMap<String, String>,
) -> Result<()> {
    let record: StageRecord = stage.record(chosen, &manifest.plan, facts);
    manifest.stages.push(record);
    folder.write_manifest(manifest)
}

/// Deletes the embeddings in `out` and what was made of them: until the new ones are whole, nothing
/// may pass for them.
fn clear_stale(out: &Path) -> Result<()> {
    // Elsewhere than in a run only probes are made of them.
    let mut made = vec![PROBES];
    if RunFolder::is_run(out) {
        made.push(EMERGENCE);
        super::report::forget(out, "of the embeddings before these")?;
    }
    for stale in made {
        let path = out.join(stale);
        if path.is_file() {
            crate::progress::say(&format!("deleting {stale}: of the embeddings before these"));
            std::fs::remove_file(&path).map_err(|e| Error::io("delete", &path, &e))?;
        }
    }
    clear_embeddings(out)
}

/// Writes the embeddings, those of the untrained model, and the raw features: every process its
/// share of the work.
fn write_embeddings(
    plan: &Plan,
    data: &Arc<Dataset>,
    session: &mut dyn Session,
    of: &Saved,
    out: &Path,
) -> Result<Written> {
    let ranks = parallel::world();
    let names: Vec<String> = (0..plan.embed.random_inits).map(random_init).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.extend([EMBEDDINGS, EMBEDDINGS_NPY, EMBEDDINGS_IDS, RAW]);
    first(ranks, || {
        let stale = |name: &str| is_embedding(name) || [PROBES, EMERGENCE, REPORT].contains(&name);
        checksums::forget_all(out, stale)?;
        // The folder is known to be ours by its record.
        checksums::list(out, &[])?;
        clear_stale(out)
    })?;
    let workers = (plan.train.workers, ranks);
    let target = |file: &str, npy: Option<&str>, key: &str, value: String| Target {
        parquet: out.join(file),
        npy: npy.map(|npy| out.join(npy)),
        description: Description::from([(key.to_owned(), value)]),
    };
    // The table that all else goes by appears last.
    let (whole, parts) = (out.join(EMBEDDINGS), until_whole(&out.join(EMBEDDINGS)));
    let trained = target(EMBEDDINGS, Some(EMBEDDINGS_NPY), "checkpoint", step_words(of.step));
    let mut trained = Target { parquet: parts.clone(), ..trained };
    trained.description.insert(MODEL.to_owned(), of.digest()?);
    let written = embed_all("embed", data, session, &plan.embed, workers, &trained)?;

    for k in 0..plan.embed.random_inits {
        let seed = plan.train.seed.wrapping_add(k as u64);
        session.set_parameters(&initial_parameters(session.model(), seed))?;
        let said = format!("random init, seed {seed}");
        let random = target(&random_init(k), None, "checkpoint", said);
        embed_all("embed untrained", data, session, &plan.embed, workers, &random)?;
    }

    let raw = target(RAW, None, "features", "raw".into());
    raw_features(data, &plan.embed, workers, &raw)?;
    first(ranks, || {
        std::fs::rename(&parts, &whole).map_err(|e| Error::io("write", &whole, &e))?;
        checksums::list(out, &names)
    })?;
    data.tell_rejected();
    Ok(written)
}

/// `astropt report`.
pub(super) fn report(args: &ReportArgs, output: Output) -> Result<()> {
    super::listen()?;
    if super::family::is_family(&args.run) {
        return super::unless_stopped(output, " before the report was written", || {
            super::family::report(&args.run, output)
        });
    }
    let (folder, manifest) = RunFolder::open_to_write(&args.run)?;
    unless_stopped(output, " before the report was written", || {
        super::report::write(&folder, &manifest)
    })?;
    let path = folder.file("report.html");
    output.result(&serde_json::json!({ "report": path }), || path.display().to_string())
}
