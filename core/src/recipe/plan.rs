//! The plan: a recipe resolved and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::probe::ProbeConfig;
use super::reference::Reference;
use super::schema::{EmbedConfig, ModelSection, SplitConfig, TrainConfig};
use super::tree::Tree;
use crate::cost::CostConfig;
use crate::data::{Delimiters, Objective, StreamConfig};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::seam::{
    ConfigError, Modality, ModalityConfig, SourceConfig, find_modality, find_source, parse_config,
};

/// An experiment, resolved and checked. Checkpoints carry it whole, so that embedding and
/// probing never ask again how the data were prepared.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name of the recipe.
    pub name: String,
    /// What it is, in a line.
    pub summary: String,
    /// The scale chosen, if the recipe has scales.
    pub scale: Option<String>,
    /// The variant chosen, if the recipe has variants.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What it is computed on where the command line names nothing: `NAME` or `NAME:INDEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Where objects come from.
    pub source: Box<dyn SourceConfig>,
    /// What becomes tokens, by name.
    pub modalities: BTreeMap<String, Box<dyn ModalityConfig>>,
    /// Which objects train, validate and test.
    pub split: SplitConfig,
    /// The transformer.
    pub model: ModelSection,
    /// How spans become sequences and rows.
    #[serde(default)]
    pub stream: StreamConfig,
    /// What training asks.
    #[serde(default)]
    pub objective: Objective,
    /// The optimisation.
    pub train: TrainConfig,
    /// Where embeddings are read.
    pub embed: EmbedConfig,
    /// What the embedding is asked.
    pub probe: ProbeConfig,
    /// What energy and devices stand for.
    #[serde(default)]
    pub cost: CostConfig,
    /// Published numbers of the same experiment.
    #[serde(default)]
    pub reference: Reference,
    /// The recipe this plan was built from, resolved, as TOML.
    pub recipe: String,
}

/// The modalities of a plan, built.
pub type Modalities = BTreeMap<String, Box<dyn Modality>>;

impl Plan {
    /// Builds the tokenisers.
    ///
    /// # Errors
    /// When a modality's values contradict each other.
    pub fn build_modalities(&self) -> Result<Modalities> {
        let mut built = Modalities::new();
        for (name, config) in &self.modalities {
            let modality = config
                .build()
                .map_err(|error| Error::Misuse(format!("modality.{name}: {error}")))?;
            built.insert(name.clone(), modality);
        }
        Ok(built)
    }

    /// The model's whole shape, tokens included.
    ///
    /// # Errors
    /// When a modality or the model contradicts itself.
    pub fn model_config(&self) -> Result<ModelConfig> {
        let modalities = self.build_modalities()?;
        let model = ModelConfig {
            layers: self.model.layers,
            heads: self.model.heads,
            width: self.model.width,
            tokeniser: self.model.tokeniser,
            modalities: modalities.iter().map(|(name, m)| (name.clone(), m.spec())).collect(),
            mask_token: matches!(self.objective, Objective::Masked { .. }),
            delimiters: self.stream.delimiters == Delimiters::BeginEnd,
        };
        model.check()?;
        Ok(model)
    }
}

/// The file or folder that the source of `plan` reads, where it has one and that is there;
/// relative paths start at `root`.
pub(crate) fn data_place(plan: &Plan, root: &Path) -> Option<PathBuf> {
    Some(root.join(data_stated(plan)?)).filter(|place| place.exists())
}

/// The same as it is stated, there or not.
pub(crate) fn data_stated(plan: &Plan) -> Option<PathBuf> {
    let source = serde_json::to_value(&plan.source).ok()?;
    let plugin = find_source(source.get("kind")?.as_str()?).ok()?;
    Some(source.get(plugin.path_key?)?.as_str()?.into())
}

const SECTIONS: [&str; 15] = [
    "name",
    "summary",
    "as",
    "backend",
    "source",
    "modality",
    "split",
    "model",
    "stream",
    "objective",
    "train",
    "embed",
    "probe",
    "cost",
    "reference",
];

/// Builds a plan from a merged recipe whose scale has been applied.
pub(super) fn build(tree: &Tree, scale: Option<String>) -> Result<Plan> {
    for key in tree.table.keys().filter(|key| *key != "scale") {
        if !SECTIONS.contains(&key.as_str()) {
            let error = ConfigError {
                path: key.clone(),
                message: format!(
                    "unknown field `{key}`, expected one of {}",
                    SECTIONS.map(|s| format!("`{s}`")).join(", ")
                ),
            };
            return Err(tree.config_error(&[], &error));
        }
    }
    let mut resolved = tree.table.clone();
    resolved.remove("scale");
    let plan = Plan {
        name: section(tree, "name")?,
        summary: optional(tree, "summary")?,
        variant: optional(tree, "as")?,
        backend: optional(tree, "backend")?,
        source: source(tree)?,
        modalities: modalities(tree)?,
        split: optional(tree, "split")?,
        model: section(tree, "model")?,
        stream: optional(tree, "stream")?,
        objective: optional(tree, "objective")?,
        train: section(tree, "train")?,
        embed: section(tree, "embed")?,
        probe: optional(tree, "probe")?,
        cost: optional(tree, "cost")?,
        reference: optional(tree, "reference")?,
        recipe: toml::to_string(&resolved)
            .map_err(|e| Error::Failed(format!("cannot write the resolved recipe: {e}")))?,
        scale,
    };
    check(tree, &plan)?;
    Ok(plan)
}

/// Whether it is linked is asked where it is used: plans are read by other programs too.
fn check_backend(tree: &Tree, backend: Option<&str>) -> Result<()> {
    let Some(backend) = backend else { return Ok(()) };
    let (name, index) = backend.split_once(':').unwrap_or((backend, "0"));
    if name.is_empty() || index.parse::<usize>().is_err() {
        let message = format!("backend = {backend:?}: NAME or NAME:INDEX, such as \"cuda:0\"");
        return Err(tree.error(&["backend"], message));
    }
    Ok(())
}

/// The checks that cross keys, at the place of the key to blame.
fn check(tree: &Tree, plan: &Plan) -> Result<()> {
    let at = |section: &'static str| {
        move |(key, message): (&'static str, String)| {
            tree.error(&[section, key], format!("{section}.{key} {message}"))
        }
    };
    // Runs are called after it, in a folder of that name.
    if plan.name.is_empty() || plan.name.starts_with('.') || plan.name.contains(['/', '\\']) {
        let message = format!("name = {:?}: a name without slashes or a dot in front", plan.name);
        return Err(tree.error(&["name"], message));
    }
    check_backend(tree, plan.backend.as_deref())?;
    plan.source.check().map_err(|e| tree.error(&["source"], format!("source: {e}")))?;
    plan.split.check().map_err(at("split"))?;
    plan.stream.check(plan.modalities.keys()).map_err(at("stream"))?;
    plan.objective.check().map_err(at("objective"))?;
    plan.train.check().map_err(at("train"))?;
    plan.embed.check().map_err(at("embed"))?;
    plan.cost.check().map_err(at("cost"))?;
    check_splits(plan).map_err(at("embed"))?;
    for nuisance in &plan.probe.nuisance {
        nuisance
            .check()
            .map_err(|message| at("probe")(("nuisance", format!("is wrong: {message}"))))?;
    }
    let model = |error: Error| tree.error(&["model"], error.to_string());
    for (name, config) in &plan.modalities {
        let modality = config.build().map_err(|error| {
            tree.error(&["modality", name], format!("modality.{name}: {error}"))
        })?;
        if modality.spec().max_tokens == 0 {
            let message = format!("modality.{name}: it makes no tokens");
            return Err(tree.error(&["modality", name], message));
        }
        if plan.stream.keep < 1.0 && !modality.thinnable() {
            let message = format!(
                "stream.keep = {} leaves tokens out, and one of modality.{name} tells of the token \
                 after it, as those of a time-series do unless it says next = false; say so, or \
                 set stream.keep = 1",
                plan.stream.keep
            );
            return Err(tree.error(&["stream", "keep"], message));
        }
    }
    plan.model_config().map_err(model)?;
    plan.train.checkpoints.check().map_err(at("train"))?;
    plan.train.faults.check().map_err(|(key, message)| {
        tree.error(&["train", "faults", key], format!("train.faults.{key} {message}"))
    })?;
    let embed = |key: &str, error: Error| tree.error(&["embed", key], error.to_string());
    plan.embed.layer(plan.model.layers).map_err(|e| embed("layer", e))?;
    plan.embed.tokens().map_err(|e| embed("tokens", e))?;
    if let Some(name) = plan.embed.modalities.iter().find(|n| !plan.modalities.contains_key(*n)) {
        let message = format!("embed.modalities lists {name:?}, which is no modality");
        return Err(tree.error(&["embed", "modalities"], message));
    }
    Ok(())
}

/// Checks that what is probed is embedded.
fn check_splits(plan: &Plan) -> Result<(), (&'static str, String)> {
    let embedded = &plan.embed.splits;
    let mut probed = plan.probe.protocol.splits().iter();
    match probed.find(|split| !embedded.is_empty() && !embedded.contains(split)) {
        None => Ok(()),
        Some(lacks) => {
            let message = format!(
                "leaves out {} objects, which probe.protocol asks for; name them too, or take all \
                 with embed.splits=[]",
                lacks.name()
            );
            Err(("splits", message))
        }
    }
}

fn missing(tree: &Tree, key: &str) -> Error {
    tree.error(&[], format!("the recipe has no `{key}`; add it, or extend a recipe that has it"))
}

fn section<T: DeserializeOwned>(tree: &Tree, key: &str) -> Result<T> {
    let value = tree.table.get(key).ok_or_else(|| missing(tree, key))?;
    read(tree, key, value.clone())
}

fn optional<T: DeserializeOwned + Default>(tree: &Tree, key: &str) -> Result<T> {
    match tree.table.get(key) {
        Some(value) => read(tree, key, value.clone()),
        None => Ok(T::default()),
    }
}

fn read<T: DeserializeOwned>(tree: &Tree, key: &str, value: toml::Value) -> Result<T> {
    // Wrapped in a table so that scalars and sections take the same road.
    #[derive(Deserialize)]
    #[serde(bound = "T: DeserializeOwned")]
    struct Wrapper<T> {
        value: T,
    }
    let table = toml::Table::from_iter([("value".to_owned(), value)]);
    parse_config::<Wrapper<T>>(table).map(|wrapper| wrapper.value).map_err(|error| {
        let path = error.path.strip_prefix("value").unwrap_or(&error.path);
        let path = path.trim_start_matches('.').to_owned();
        tree.config_error(&[key], &ConfigError { path, ..error })
    })
}

/// The table at `keys`, split into its `kind` and the rest.
fn plugin_table(tree: &Tree, keys: &[&str], value: &toml::Value) -> Result<(String, toml::Table)> {
    let dotted = keys.join(".");
    let Some(table) = value.as_table() else {
        return Err(tree.error(keys, format!("{dotted}: a table is expected")));
    };
    let mut table = table.clone();
    match table.remove("kind") {
        Some(toml::Value::String(kind)) => Ok((kind, table)),
        _ => {
            Err(tree
                .error(keys, format!("{dotted} needs kind = \"…\"; `astropt plugins` lists them")))
        }
    }
}

/// A plugin that is not linked is misuse; here the place in the recipe is known too.
fn unknown_kind(tree: &Tree, keys: &[&str], error: &Error) -> Error {
    let keys: Vec<&str> = keys.iter().copied().chain(["kind"]).collect();
    tree.error(&keys, error.to_string())
}

fn source(tree: &Tree) -> Result<Box<dyn SourceConfig>> {
    let value = tree.table.get("source").ok_or_else(|| missing(tree, "source"))?;
    let (kind, table) = plugin_table(tree, &["source"], value)?;
    let plugin = find_source(&kind).map_err(|e| unknown_kind(tree, &["source"], &e))?;
    if let Some(key) = plugin.path_key
        && !table.contains_key(key)
    {
        return Err(Error::Misuse(format!(
            "no data: give --data PATH (the recipe's source, {kind}, reads files and sets no \
             source.{key})"
        )));
    }
    (plugin.parse)(table).map_err(|error| tree.config_error(&["source"], &error))
}

fn modalities(tree: &Tree) -> Result<BTreeMap<String, Box<dyn ModalityConfig>>> {
    let value = tree.table.get("modality").ok_or_else(|| missing(tree, "modality"))?;
    let Some(tables) = value.as_table() else {
        return Err(tree.error(&["modality"], "modality: write [modality.NAME] tables"));
    };
    let mut out = BTreeMap::new();
    for (name, value) in tables {
        let keys = ["modality", name.as_str()];
        let (kind, table) = plugin_table(tree, &keys, value)?;
        let plugin = find_modality(&kind).map_err(|e| unknown_kind(tree, &keys, &e))?;
        let config = (plugin.parse)(table).map_err(|error| tree.config_error(&keys, &error))?;
        out.insert(name.clone(), config);
    }
    Ok(out)
}
