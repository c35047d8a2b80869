//! A run made of a checkpoint of the Python AstroPT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::folder::RunFolder;
use super::import_own::unusable;
use super::manifest::Manifest;
use super::saved::{Contents, TrainState};
use super::selfcheck::{Inputs, SelfCheck};
use crate::checkpoint::export::NO_LOSS;
use crate::checkpoint::finite::{describe, not_finite};
use crate::checkpoint::python::{self, JsonMap, PythonCheckpoint, PythonSettings};
use crate::data::Dataset;
use crate::engine::{OptimiserState, Session};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::recipe::{Plan, Request, resolve_over};
use crate::seam::{Described, ImportRule, Proposal, import_rules};
use crate::tokens::TokenSpec;

/// What to import and what to make of it.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Folder of the run.
    pub out: PathBuf,
    /// The recipe for what the checkpoint does not state.
    pub recipe: Request,
    /// Whether modalities of the recipe may complete those of the checkpoint.
    pub complete: bool,
    /// Kinds that the user chose, by modality.
    pub kinds: BTreeMap<String, String>,
    /// Whether the optimiser's state is left behind.
    pub fresh_optimiser: bool,
    /// Whether a run in the folder is deleted first.
    pub overwrite: bool,
}

/// What was imported.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Imported {
    /// Folder of the run.
    pub run: PathBuf,
    /// The layout of the checkpoint, or `safetensors` for this program's own.
    pub layout: &'static str,
    /// Steps taken.
    pub step: u64,
    /// Number of parameters, position tables not counted.
    pub parameters: usize,
    /// Whether the optimiser's state came along.
    pub optimiser: bool,
    /// Kinds of the modalities by name.
    pub modalities: BTreeMap<String, String>,
    /// What the checkpoint does not state and was taken for granted.
    pub assumptions: Vec<String>,
    /// Modalities whose preparation the self-check does not cover.
    pub uncovered: Vec<String>,
    /// Why this program cannot run the model, if so.
    pub unsupported: Option<String>,
}

/// Imports a checkpoint into a new run. `open` opens a session for a model of the given
/// shape, in which the checkpoint's self-check is recorded.
///
/// # Errors
/// When the checkpoint cannot be read, holds numbers that are NaN or infinite, a modality does
/// not make the tokens that its parameters are for, or the run cannot be written.
pub fn import(
    request: &ImportRequest,
    open: &dyn Fn(&ModelConfig) -> Result<Box<dyn Session>>,
) -> Result<Imported> {
    free(&request.out, request.overwrite)?;
    let mut found = python::read(&request.checkpoint)?;
    if request.fresh_optimiser {
        found.optimiser = None;
    }
    finite(&request.checkpoint, &found)?;
    let mut notes = Notes { request, assumptions: Vec::new(), kinds: BTreeMap::new() };
    let place = request.checkpoint.display().to_string();
    let mut plan = resolve_over(&request.recipe, &place, |recipe| notes.table(&found, recipe))?;
    plan.scale = None; // the checkpoint decided the model's size, not the recipe's scale
    check_shape(&plan, &found.model, &notes.kinds)?;
    let state = state(&found);
    notes.assumptions.extend(all_taken(&plan, state.step));
    let data = request.recipe.data.as_ref().map(|_| Dataset::open(&plan, Path::new(".")));
    let data = data.transpose()?;
    let (check, uncovered) = match found.unsupported {
        Some(_) => (None, Vec::new()),
        None => {
            let mut session = open(&found.model)?;
            session.set_parameters(&found.parameters)?;
            let inputs = inputs(&plan, data.as_ref())?;
            (Some(answered(&request.checkpoint, &inputs, session.as_mut())?), inputs.uncovered())
        }
    };
    let parameters = found.model.parameter_count();
    let mut manifest = match &data {
        Some(data) => Manifest::new(plan, data)?,
        None => Manifest::without_data(plan, parameters),
    };
    manifest.imported = Some(found.settings);
    let folder = RunFolder::create(&request.out, &manifest, request.overwrite)?;
    let optimiser = found.optimiser.is_some();
    let contents = Contents {
        parameters: found.parameters,
        optimiser: found.optimiser.unwrap_or_else(no_steps),
        manifest: &manifest,
        state: &state,
        unsupported: found.unsupported.as_deref(),
        check: check.as_ref(),
    };
    folder.save(contents, false)?;
    Ok(Imported {
        run: request.out.clone(),
        layout: found.layout.name(),
        step: state.step,
        parameters,
        optimiser,
        modalities: notes.kinds,
        assumptions: notes.assumptions,
        uncovered,
        unsupported: found.unsupported,
    })
}

/// Says so where the plan has no step left to take.
pub(super) fn all_taken(plan: &Plan, taken: u64) -> Option<String> {
    let steps = plan.train.steps;
    (taken >= steps).then(|| {
        format!("train.steps = {steps}, but {taken} were taken: to go on, add --set train.steps=N")
    })
}

/// An optimiser that has taken no step.
pub(super) fn no_steps() -> OptimiserState {
    OptimiserState { steps: 0, ..OptimiserState::default() }
}

/// Refuses a folder that holds a run, before anything is read.
///
/// # Errors
/// When it does and must not be overwritten.
pub(super) fn free(out: &Path, overwrite: bool) -> Result<()> {
    if overwrite || !RunFolder::is_run(out) {
        return Ok(());
    }
    Err(Error::Misuse(format!(
        "{0} holds a run already; replace it with --overwrite, choose another folder with --out, or \
         train that run on with `astropt pretrain --resume --out {0}`",
        out.display()
    )))
}

/// Refuses numbers that are none: nothing that such a model answers could be used.
fn finite(path: &Path, found: &PythonCheckpoint) -> Result<()> {
    let theirs = |name: &str| found.layout.python_name(name);
    unusable(path, &found.parameters, theirs)?;
    let Some(optimiser) = &found.optimiser else { return Ok(()) };
    for (moments, called) in [(&optimiser.moment1, "exp_avg"), (&optimiser.moment2, "exp_avg_sq")] {
        let bad = not_finite(moments);
        if let Some(bad) = describe(&bad, |name| format!("{called} of {}", theirs(name))) {
            return Err(Error::file(
                path,
                format!(
                    "has an optimiser whose {bad}, and its next step would spoil the parameters, \
                     which are sound; leave its state behind with --fresh-optimiser, or import a \
                     checkpoint from before"
                ),
            ));
        }
    }
    Ok(())
}

/// What a self-check asks: objects of the data, where there are some, else examples.
///
/// # Errors
/// As those.
pub(super) fn inputs(plan: &Plan, data: Option<&Dataset>) -> Result<Inputs> {
    match data.map(Inputs::of_data).transpose()?.flatten() {
        Some(inputs) => Ok(inputs),
        None => Inputs::of_examples(plan),
    }
}

/// The self-check of the model of the checkpoint `path`, which `session` holds.
///
/// # Errors
/// When the device fails, or the model's answers are no numbers.
pub(super) fn answered(
    path: &Path,
    inputs: &Inputs,
    session: &mut dyn Session,
) -> Result<SelfCheck> {
    inputs.answer(session)?.ok_or_else(|| {
        Error::file(
            path,
            "has finite parameters, and its model answers NaN or infinite numbers all the same: they \
             are too large to be of any use; import a checkpoint from before",
        )
    })
}

/// The Python program counts no tokens, and saves when the validation loss is lowest.
fn state(found: &PythonCheckpoint) -> TrainState {
    let steps = found.optimiser.as_ref().map_or(0, |state| state.steps);
    let step = found.iteration.unwrap_or(steps);
    let best_loss = found.best_loss.filter(|&loss| loss.is_finite() && loss < NO_LOSS);
    TrainState { step, best_loss, best_step: best_loss.map(|_| step), ..TrainState::default() }
}

/// The plan must make the tokens that the parameters are for.
fn check_shape(plan: &Plan, model: &ModelConfig, kinds: &BTreeMap<String, String>) -> Result<()> {
    let ours = plan.model_config()?;
    for (name, theirs) in &model.modalities {
        let spec = ours.modalities.get(name);
        if spec.is_none_or(|s| s.values != theirs.values || s.positions != theirs.positions) {
            let kind = kinds.get(name).map_or("", String::as_str);
            let say = |s: &TokenSpec| format!("{}, placed by {}", s.values, s.positions);
            return Err(Error::Misuse(format!(
                "modality.{name} of kind {kind} makes tokens of {}, and the parameters are for \
                 tokens of {}; set its keys with --set modality.{name}.KEY=VALUE, or choose another \
                 kind with --modality {name}=KIND",
                spec.map_or("nothing".to_owned(), say),
                say(theirs)
            )));
        }
    }
    let shape = |m: &ModelConfig| {
        (m.layers, m.heads, m.width, m.tokeniser, m.modalities.len(), m.mask_token, m.delimiters)
    };
    if shape(&ours) != shape(model) {
        return Err(Error::Misuse(
            "--set changes the model's shape, which the checkpoint's parameters decide; leave out \
             model.*, objective.kind, stream.delimiters and further modalities"
                .into(),
        ));
    }
    if ours.modalities.len() > 1 && !plan.stream.order.is_alphabetical() {
        return Err(Error::Misuse(
            "stream.order: the checkpoint's modalities follow each other by their names; leave it out"
                .into(),
        ));
    }
    Ok(())
}

/// Under which a file that this program exported has the recipe's tables of modalities, as TOML,
/// among the settings of that program's script.
pub(super) const PREPARATION: &str = "preparation";

/// What a checkpoint says of the preparation of the modality `name`, where this program wrote it.
fn recorded(settings: &PythonSettings, name: &str) -> Option<toml::Table> {
    let text = settings.config.get(PREPARATION)?.as_str()?;
    let tables: toml::Table = toml::from_str(text).ok()?;
    tables.get("modality")?.get(name)?.as_table().cloned()
}

/// What is decided on the way, for the user to see.
struct Notes<'a> {
    request: &'a ImportRequest,
    assumptions: Vec<String>,
    kinds: BTreeMap<String, String>,
}

impl Notes<'_> {
    /// What the checkpoint says, as a recipe's tables; those it replaces are taken out of
    /// `recipe`.
    fn table(&mut self, found: &PythonCheckpoint, recipe: &mut toml::Table) -> Result<toml::Table> {
        let theirs = recipe.remove("modality").filter(|_| self.request.complete);
        recipe.remove("model");
        recipe.remove("objective");
        recipe.remove("stream"); // that program puts one after the other, by their names
        let mut modalities = toml::Table::new();
        for (name, spec) in &found.model.modalities {
            let own = theirs.as_ref().and_then(|all| all.get(name)?.as_table());
            modalities.insert(name.clone(), self.modality(found, name, spec, own)?.into());
        }
        let unknown = |name: &&String| !found.model.modalities.contains_key(*name);
        if let Some(name) = self.request.kinds.keys().find(unknown) {
            let known: Vec<_> = found.model.modalities.keys().map(String::as_str).collect();
            return Err(Error::Misuse(format!(
                "--modality {name}: the checkpoint has no such modality; it has {}",
                known.join(", ")
            )));
        }
        let model = &found.model;
        let mut section =
            toml::Table::from_iter([("tokeniser".to_owned(), written(&model.tokeniser)?)]);
        for (key, value) in
            [("layers", model.layers), ("heads", model.heads), ("width", model.width)]
        {
            section.insert(key.into(), (value as i64).into());
        }
        let train = stated_training(&found.settings);
        self.assumptions.push(format!(
            "source, split, embedding and what the checkpoint does not state of training are the \
             recipe {}'s; change them with --recipe or --set",
            self.request.recipe.recipe
        ));
        let file = self.request.checkpoint.file_name();
        let file = file.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut table = toml::Table::from_iter([
            ("name".to_owned(), "imported".into()),
            (
                "summary".to_owned(),
                format!("Imported from {file} ({})", found.layout.name()).into(),
            ),
            ("modality".to_owned(), modalities.into()),
            ("model".to_owned(), section.into()),
            ("objective".to_owned(), written(&found.objective)?),
        ]);
        if !train.is_empty() {
            table.insert("train".into(), train.into());
        }
        Ok(table)
    }

    /// The table of one modality. Later wins: what is assumed, what the user's recipe says
    /// of it, what the checkpoint states.
    fn modality(
        &mut self,
        found: &PythonCheckpoint,
        name: &str,
        spec: &TokenSpec,
        own: Option<&toml::Table>,
    ) -> Result<toml::Table> {
        let described = Described {
            name,
            spec,
            patch: patch_size(&found.settings, name),
            config: &found.settings.config,
        };
        let recorded = recorded(&found.settings, name);
        let (kind, mut proposal) = self.choose(&described, recorded.as_ref())?;
        let recorded =
            recorded.filter(|of| of.get("kind").and_then(toml::Value::as_str) == Some(&kind));
        if recorded.is_some() {
            proposal.assumed.clear();
        }
        let own = own.filter(|own| own.get("kind").and_then(toml::Value::as_str) == Some(&kind));
        let mut table = toml::Table::from_iter([("kind".to_owned(), kind.clone().into())]);
        for assumption in proposal.assumed {
            let key = format!("modality.{name}.{}", assumption.key);
            let set = self
                .request
                .recipe
                .set
                .iter()
                .any(|set| set.split('=').next().is_some_and(|k| k.trim() == key));
            if !set && own.is_none_or(|own| !own.contains_key(assumption.key)) {
                let (value, why) = (&assumption.value, assumption.why);
                self.assumptions.push(format!("{key} = {value}: {why}"));
            }
            table.insert(assumption.key.to_owned(), assumption.value);
        }
        table.extend(own.cloned().unwrap_or_default());
        table.extend(recorded.unwrap_or_default());
        table.extend(proposal.stated);
        self.kinds.insert(name.to_owned(), kind);
        Ok(table)
    }

    /// The kind that the user chose, or the one that is `recorded`, or the first that makes such
    /// tokens.
    fn choose(
        &self,
        of: &Described<'_>,
        recorded: Option<&toml::Table>,
    ) -> Result<(String, Proposal)> {
        let rules = import_rules();
        let propose = |rule: &&ImportRule| Some((rule.kind.to_owned(), (rule.propose)(of)?));
        let recorded = recorded.and_then(|table| table.get("kind")?.as_str().map(str::to_owned));
        if let Some(kind) = self.request.kinds.get(of.name).or(recorded.as_ref()) {
            crate::seam::find_modality(kind)?;
            let own = rules.iter().copied().filter(|rule| rule.kind == kind);
            let found = own.into_iter().find_map(|rule| propose(&rule));
            return Ok(found.unwrap_or_else(|| (kind.clone(), Proposal::default())));
        }
        rules.iter().copied().find_map(|rule| propose(&rule)).ok_or_else(|| {
            Error::Misuse(format!(
                "no modality linked into this program makes the tokens of {:?}; name one with \
                 --modality {}=KIND and set its keys (`astropt plugins` lists them)",
                of.name, of.name
            ))
        })
    }
}

fn written(value: &impl serde::Serialize) -> Result<toml::Value> {
    toml::Value::try_from(value).map_err(|e| Error::Failed(format!("cannot write the recipe: {e}")))
}

/// What the checkpoint says of the side of a patch of `name`.
pub(super) fn patch_size(settings: &PythonSettings, name: &str) -> Option<usize> {
    let args = &settings.model_args;
    let of = match args.get("modalities") {
        Some(all) => {
            let is = |m: &&Json| m.get("name").and_then(Json::as_str) == Some(name);
            all.as_array()?.iter().find(is)?.get("patch_size")
        }
        None => args.get("patch_size"),
    };
    of.and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok())
}

/// Keys of `[train]`, and what the Python program's training script calls the same.
pub(super) const TRAINING: [(&str, &str); 9] = [
    ("steps", "max_iters"),
    ("peak_lr", "learning_rate"),
    ("final_lr", "min_lr"),
    ("warmup_steps", "warmup_iters"),
    ("decay_steps", "lr_decay_iters"),
    ("clip", "grad_clip"),
    ("eval_every", "eval_interval"),
    ("eval_batches", "eval_iters"),
    ("micro_batch", "batch_size"),
];

/// What the checkpoint says of the optimisation, as `[train]`.
fn stated_training(settings: &PythonSettings) -> toml::Table {
    let value = |map: &JsonMap, key: &str| -> Option<toml::Value> {
        let number = map.get(key)?;
        match number.as_i64() {
            Some(whole) => Some(whole.into()),
            None => number.as_f64().filter(|x| x.is_finite()).map(Into::into),
        }
    };
    let mut train = toml::Table::new();
    for (ours, theirs) in TRAINING {
        train.extend(value(&settings.config, theirs).map(|v| (ours.to_owned(), v)));
    }
    let whole = |key: &str| settings.config.get(key).and_then(Json::as_i64);
    if let Some(micro) = whole("batch_size") {
        let pieces = whole("gradient_accumulation_steps").unwrap_or(1);
        train.extend(micro.checked_mul(pieces).map(|n| ("batch".to_owned(), n.into())));
    }
    for key in ["weight_decay", "eps"] {
        train.extend(value(&settings.group, key).map(|v| (key.to_owned(), v)));
    }
    let betas = settings.group.get("betas").and_then(Json::as_array);
    let betas: Option<Vec<_>> =
        betas.and_then(|all| all.iter().map(|b| Some(toml::Value::from(b.as_f64()?))).collect());
    train.extend(betas.map(|betas| ("betas".to_owned(), betas.into())));
    train
}
