//! `astropt import` and `astropt export`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::{CheckArgs, DeviceArgs, RecipeArgs};
use super::inspect::first_bytes;
use super::output::Output;
use super::{Chosen, choose, data};
use crate::checkpoint::python::Layout;
use crate::error::{Error, Result};
use crate::progress::quantity;
use crate::recipe::{RESUMABLE, Request};
use crate::run::{
    ImportRequest, Imported, OwnRequest, RunFolder, Saved, import as import_run, import_own,
    read_model,
};

/// The recipe that supplies what a checkpoint does not state, where none is named.
const DEFAULT_RECIPE: &str = "galaxy-grz";

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The checkpoint as the Python program saved it, or a safetensors file of `astropt export`,
    /// which brings its own recipe
    #[arg(value_name = "CKPT.PT|FILE.safetensors")]
    pub(crate) checkpoint: PathBuf,
    /// Folder of the run to make
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Recipe for what the checkpoint does not state: source, split, training, embedding
    /// [default: galaxy-grz, without its modalities]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) recipe: Option<String>,
    /// Which modality makes the tokens of NAME; may be repeated
    #[arg(long, value_name = "NAME=KIND")]
    pub(crate) modality: Vec<String>,
    #[command(flatten)]
    pub(crate) choice: RecipeArgs,
    /// Leave the optimiser's state behind: training goes on with a new one
    #[arg(long)]
    pub(crate) fresh_optimiser: bool,
    /// Start anew where a run stands already
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Folder of a run or of a checkpoint
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub(crate) model: PathBuf,
    /// What to write: the Python program's version 2 or 3, the paper's, or one file of
    /// parameters with their plan
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: ExportFormat,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Which checkpoint of a run: last, best or a step
    #[arg(long, default_value = "last")]
    pub(crate) checkpoint: String,
    /// Replace the file if there is one
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

/// What `astropt export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    #[value(name = "astropt-1")]
    AstroPt1,
    #[value(name = "astropt-2")]
    AstroPt2,
    #[value(name = "astropt-3")]
    AstroPt3,
    Safetensors,
}

/// `astropt import`.
pub(super) fn import(args: &ImportArgs, output: Output) -> Result<()> {
    let chosen = choose(&args.device, None)?;
    let path = &args.checkpoint;
    if path.is_dir() {
        return Err(Error::file(
            path,
            "is a folder; give the file in it, such as ckpt.pt or model.safetensors",
        ));
    }
    data::apart(args.choice.data.as_deref(), &args.out)?;
    let safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let imported = match (safetensors, first_bytes(path)?) {
        // Exported to a name of the user's own.
        (true, _) | (_, [_, _, _, _, _, _, _, _, b'{']) => own(args, &chosen)?,
        _ => python(args, &chosen)?,
    };
    output.result(&imported, || describe(&imported))
}

/// A model that this program exported.
fn own(args: &ImportArgs, chosen: &Chosen) -> Result<Imported> {
    let choice = &args.choice;
    let refused = [
        ("--recipe", args.recipe.is_some()),
        ("--modality", !args.modality.is_empty()),
        ("--scale", choice.scale.is_some()),
        ("--demo", choice.demo),
    ];
    if let Some((option, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Error::Misuse(format!(
            "{option}: {} brings its own recipe, with its modalities and scale; leave it out",
            args.checkpoint.display()
        )));
    }
    let request = OwnRequest {
        file: args.checkpoint.clone(),
        out: args.out.clone(),
        data: choice.data.clone(),
        set: choice.set.clone(),
        may_set: &RESUMABLE,
        overwrite: args.overwrite,
    };
    import_own(&request, &|model| chosen.backend.open(chosen.index, model))
}

/// A checkpoint of the Python program.
fn python(args: &ImportArgs, chosen: &Chosen) -> Result<Imported> {
    let mut kinds = BTreeMap::new();
    for choice in &args.modality {
        let (name, kind) = choice.split_once('=').ok_or_else(|| {
            Error::Misuse(format!("--modality {choice}: write NAME=KIND, such as spectra=spectrum"))
        })?;
        kinds.insert(name.trim().to_owned(), kind.trim().to_owned());
    }
    let name = args.recipe.as_deref().unwrap_or(DEFAULT_RECIPE);
    let recipe = Request { dataless: args.choice.data.is_none(), ..args.choice.request(name) };
    let request = ImportRequest {
        checkpoint: args.checkpoint.clone(),
        out: args.out.clone(),
        recipe,
        complete: args.recipe.is_some(),
        kinds,
        fresh_optimiser: args.fresh_optimiser,
        overwrite: args.overwrite,
    };
    import_run(&request, &|model| chosen.backend.open(chosen.index, model))
}

fn describe(of: &Imported) -> String {
    let optimiser = if of.optimiser { "with" } else { "without" };
    let mut lines = vec![format!(
        "{}: {} parameters from {}, {} steps taken, {optimiser} the optimiser's state",
        of.run.display(),
        quantity(of.parameters as f64),
        of.layout,
        of.step
    )];
    lines.extend(of.modalities.iter().map(|(name, kind)| format!("modality {name}: {kind}")));
    lines.extend(of.assumptions.iter().map(|line| format!("assumed: {line}")));
    if !of.uncovered.is_empty() {
        lines.push(format!(
            "the self-check begins with tokens, and not with observations, of {}",
            of.uncovered.join(", ")
        ));
    }
    if let Some(reason) = &of.unsupported {
        lines.push(format!(
            "the checkpoint {reason}: the run can be inspected and exported, and nothing else"
        ));
    }
    lines.join("\n")
}

/// `astropt export`.
pub(super) fn export(args: &ExportArgs, output: Output) -> Result<()> {
    if args.out.exists() && !args.overwrite {
        return Err(Error::Misuse(format!(
            "{} is there already; replace it with --overwrite, or choose another --out",
            args.out.display()
        )));
    }
    let saved = checkpoint(&args.model, &args.checkpoint)?;
    let model = read_model(&saved.path)?;
    if !args.check.no_self_check && model.unsupported.is_none() {
        let chosen = choose(&args.device, Some(&model.plan))?;
        let mut session = chosen.backend.open(chosen.index, &model.plan.model_config()?)?;
        let modalities = model.plan.build_modalities()?;
        saved.load(&model.parameters, &modalities, session.as_mut(), true)?;
    }
    let layout = match args.to {
        ExportFormat::AstroPt1 => Some(Layout::V1),
        ExportFormat::AstroPt2 => Some(Layout::V2),
        ExportFormat::AstroPt3 => Some(Layout::V3),
        ExportFormat::Safetensors => None,
    };
    match layout {
        Some(layout) => saved.export_python(&model, layout, &args.out)?,
        None => saved.export_safetensors(&args.out)?,
    }
    let to = layout.map_or("safetensors", Layout::name);
    let result = serde_json::json!({ "file": args.out, "format": to, "step": model.step });
    output.result(&result, || format!("{}: {to}, after {} steps", args.out.display(), model.step))
}

/// The checkpoint that a folder is, or that a run's folder has under `name`.
fn checkpoint(folder: &Path, name: &str) -> Result<Saved> {
    match Saved::at(folder) {
        Some(saved) => Ok(saved),
        None => {
            let (run, manifest) = RunFolder::open(folder)?;
            let saved = run.checkpoint(name)?;
            saved.is_of(&run, &manifest.plan)?;
            Ok(saved)
        }
    }
}
