//! Checkpoints of the Python AstroPT: the shape of the model from its configuration, its
//! parameters under this program's names, and its optimiser's state.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use super::layout::{IMAGES, Layout};
use super::pickle::Value;
use super::pt::{PtFile, read_pt};
use crate::data::Objective;
use crate::engine::{OptimiserState, StateDict};
use crate::error::Result;
use crate::model::{ModelConfig, Tokeniser};
use crate::tokens::{Positions, TokenSpec, Values};

/// Most values a configuration may have.
const MAX_CONFIGURATION: usize = 10_000;
/// Most layers a model may claim.
const MAX_LAYERS: usize = 10_000;

/// What a checkpoint of the Python program holds, under this program's names.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonCheckpoint {
    /// The version's layout.
    pub layout: Layout,
    /// Shape of the model.
    pub model: ModelConfig,
    /// Its parameters: exactly those of `model`.
    pub parameters: StateDict,
    /// What it was trained for.
    pub objective: Objective,
    /// The optimiser's state; `None` before its first step.
    pub optimiser: Option<OptimiserState>,
    /// The iteration it was saved at.
    pub iteration: Option<u64>,
    /// Lowest validation loss until then.
    pub best_loss: Option<f64>,
    /// What the file says of model, training and optimiser.
    pub settings: PythonSettings,
    /// Why this program cannot run the model, if so: the file "holds …".
    pub unsupported: Option<String>,
}

/// The settings in a checkpoint of the Python program, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PythonSettings {
    /// `model_args`, with the modalities in the registry's order.
    pub model_args: JsonMap,
    /// `config`: the training script's settings; often empty.
    pub config: JsonMap,
    /// Settings of the optimiser's first group, whose parameters decay.
    pub group: JsonMap,
}

/// A JSON object.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;

/// Reads a checkpoint that the Python program saved and that this program can run.
///
/// # Errors
/// As [`read`], and when the model is of a kind that this program does not have.
pub fn import(path: impl AsRef<Path>) -> Result<PythonCheckpoint> {
    let path = path.as_ref();
    let found = read(path)?;
    match found.unsupported {
        Some(reason) => Err(crate::Error::file(path, reason)),
        None => Ok(found),
    }
}

/// Reads a checkpoint that the Python program saved, of whatever kind.
///
/// # Errors
/// When the file cannot be read (see [`read_pt`]), states no shape of a model, or lacks
/// some of its parameters.
pub fn read(path: impl AsRef<Path>) -> Result<PythonCheckpoint> {
    let file = read_pt(path)?;
    let tensors = file.tensors(&["model"])?;
    let layout = Layout::detect(tensors.keys().map(String::as_str))
        .ok_or_else(|| file.error(UNKNOWN_NAMES))?;
    let settings = settings(&file)?;
    let args = parse_args(&settings.model_args.clone().into()).map_err(|e| file.error(e))?;
    let model = shape(&args).map_err(|e| file.error(e))?;
    let parameters = layout.rename(tensors);
    check_parameters(&model, &parameters).map_err(|e| file.error(e))?;
    let optimiser = match file.root.get("optimizer") {
        Some(state) => optimiser(&file, state, layout, &parameters)?,
        None => None,
    };
    let iteration = file.root.get("iter_num").and_then(Value::as_int);
    Ok(PythonCheckpoint {
        layout,
        unsupported: unsupported(&args),
        objective: args.objective(),
        model,
        parameters,
        optimiser,
        iteration: iteration.and_then(|n| u64::try_from(n).ok()),
        best_loss: file.root.get("best_val_loss").and_then(Value::as_float),
        settings,
    })
}

/// Says that no parameter name is one of the Python program's.
pub(crate) const UNKNOWN_NAMES: &str =
    "holds no parameters of AstroPT (none is named encoders.* or transformer.wte.*)";

/// The pickled settings as JSON.
fn settings(file: &PtFile) -> Result<PythonSettings> {
    let json = |value: &Value| {
        let too_large = || file.error("holds a configuration of absurd size");
        value.to_json(MAX_CONFIGURATION).ok_or_else(too_large)
    };
    let map = |value: Option<&Value>| {
        Ok(match value.map(json).transpose()? {
            Some(serde_json::Value::Object(map)) => map,
            _ => JsonMap::new(),
        })
    };
    let mut model_args = map(Some(file.value(&["model_args"])?))?;
    // Versions from 2 on keep the modalities in the registry as well, by name.
    if let Some(registry) = file.root.at(&["modality_registry", "modalities"])
        && !model_args.contains_key("modalities")
    {
        let all = registry.entries().iter().map(|(_, modality)| json(modality));
        model_args.insert("modalities".into(), all.collect::<Result<Vec<_>>>()?.into());
    }
    let groups = file.root.at(&["optimizer", "param_groups"]).map(Value::elements);
    let mut group = map(groups.and_then(<[Value]>::first))?;
    group.remove("params");
    Ok(PythonSettings { model_args, config: map(file.root.get("config"))?, group })
}

/// The Python program's `model_args`, as far as they decide the model's shape.
#[derive(Debug, Deserialize)]
struct ModelArgs {
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    block_size: usize,
    n_chan: Option<usize>,
    patch_size: Option<usize>,
    tokeniser: Option<String>,
    objective: Option<String>,
    attn_type: Option<String>,
    mae_mask_ratio: Option<f64>,
    modalities: Option<Vec<ModalityArgs>>,
}

/// Share of tokens that the Python program hides where it does not say.
const MASK_RATIO: f64 = 0.75;

impl ModelArgs {
    fn objective(&self) -> Objective {
        match self.objective.as_deref() {
            Some(name) if name.eq_ignore_ascii_case("mae") => {
                Objective::Masked { ratio: self.mae_mask_ratio.unwrap_or(MASK_RATIO) }
            }
            _ => Objective::Autoregressive,
        }
    }
}

/// One of its modalities.
#[derive(Debug, Deserialize)]
struct ModalityArgs {
    name: String,
    input_size: usize,
    #[serde(default)]
    pos_input_size: usize,
    embed_pos: bool,
    #[serde(default)]
    vocab_size: usize,
    loss_weight: f32,
}

/// The shape of the model with this configuration: `model_args` as JSON, `modalities` in
/// it from version 2 on.
///
/// # Errors
/// When the configuration is incomplete or asks for what this program does not have.
pub fn model_config(configuration: &serde_json::Value) -> std::result::Result<ModelConfig, String> {
    let args = parse_args(configuration)?;
    unsupported(&args).map_or_else(|| shape(&args), Err)
}

fn parse_args(configuration: &serde_json::Value) -> std::result::Result<ModelArgs, String> {
    serde_path_to_error::deserialize(configuration)
        .map_err(|e| format!("has a configuration that is not AstroPT's: model_args.{e}"))
}

/// Why this program cannot run a model of these settings, if so.
fn unsupported(args: &ModelArgs) -> Option<String> {
    let (own, objective) = match args.objective() {
        Objective::Autoregressive => ("causal", "next-token"),
        _ => ("full", "masked"),
    };
    let attention = args.attn_type.as_deref().filter(|&name| name != own)?;
    Some(format!(
        "holds a {objective} model with {attention:?} attention, which is not supported; only \
         {own} is"
    ))
}

fn shape(args: &ModelArgs) -> std::result::Result<ModelConfig, String> {
    let (tokeniser, modalities) = match &args.modalities {
        None => (Tokeniser::Paper, paper_modality(args)?),
        Some(modalities) => {
            let specs = modalities.iter().map(|m| Ok((m.name.clone(), spec(m, args)?)));
            (tokeniser(args)?, specs.collect::<std::result::Result<_, String>>()?)
        }
    };
    let (layers, heads, width) = (args.n_layer, args.n_head, args.n_embd);
    let model = ModelConfig {
        layers,
        heads,
        width,
        tokeniser,
        modalities,
        mask_token: args.objective() != Objective::Autoregressive,
        delimiters: false,
    };
    model.check().map_err(|e| e.to_string())?;
    if layers > MAX_LAYERS {
        return Err(format!("claims {layers} layers; at most {MAX_LAYERS} are believed"));
    }
    Ok(model)
}

fn tokeniser(args: &ModelArgs) -> std::result::Result<Tokeniser, String> {
    match args.tokeniser.as_deref() {
        // Version 2 has but this one and does not name it.
        None | Some("aim") => Ok(Tokeniser::Aim),
        Some("affine") => Ok(Tokeniser::Affine),
        Some(other) => Err(format!("has the tokeniser {other:?}; aim and affine are supported")),
    }
}

/// The one modality of 2024: square patches of an image.
fn paper_modality(args: &ModelArgs) -> std::result::Result<BTreeMap<String, TokenSpec>, String> {
    let (Some(channels), Some(patch)) = (args.n_chan, args.patch_size) else {
        return Err("has neither modalities nor n_chan and patch_size in its model_args".into());
    };
    let width = patch.checked_mul(patch).and_then(|n| n.checked_mul(channels));
    let width = width.ok_or("has patches of an absurd size")?;
    let spec = TokenSpec {
        values: Values::Continuous { width },
        positions: Positions::Index { max: args.block_size },
        loss_weight: 1.0,
        max_tokens: args.block_size,
    };
    Ok(BTreeMap::from([(IMAGES.to_owned(), spec)]))
}

fn spec(modality: &ModalityArgs, args: &ModelArgs) -> std::result::Result<TokenSpec, String> {
    let values = match modality.vocab_size {
        0 => Values::Continuous { width: modality.input_size },
        vocabulary => Values::Codes { vocabulary },
    };
    let positions = if modality.embed_pos {
        Positions::Index { max: args.block_size }
    } else {
        Positions::Continuous { width: modality.pos_input_size }
    };
    let empty = [
        matches!(values, Values::Continuous { width: 0 }),
        matches!(positions, Positions::Index { max: 0 } | Positions::Continuous { width: 0 }),
    ];
    if empty.contains(&true) {
        return Err(format!("has tokens or positions of no width in {}", modality.name));
    }
    let loss_weight = modality.loss_weight;
    Ok(TokenSpec { values, positions, loss_weight, max_tokens: args.block_size })
}

/// Checks that `parameters` are exactly those of `model`.
///
/// # Errors
/// Names the first that is missing, of another shape, or unknown.
pub fn check_parameters(
    model: &ModelConfig,
    parameters: &StateDict,
) -> std::result::Result<(), String> {
    let mut left: std::collections::BTreeSet<&str> =
        parameters.keys().map(String::as_str).collect();
    for spec in model.parameters() {
        match parameters.get(&spec.name) {
            None => return Err(format!("lacks the parameter {}", spec.name)),
            Some(tensor) if tensor.shape != spec.shape => {
                return Err(format!(
                    "has {} in the shape {:?}, its configuration asks for {:?}",
                    spec.name, tensor.shape, spec.shape
                ));
            }
            Some(_) => left.remove(spec.name.as_str()),
        };
    }
    match left.first() {
        Some(name) => Err(format!("has the parameter {name}, unknown to its configuration")),
        None => Ok(()),
    }
}

/// The optimiser's state by parameter name. PyTorch keeps it by number; the program gives
/// the optimiser first the parameters of two and more dimensions, which decay, then the
/// others, each in the order of the model's modules.
fn optimiser(
    file: &PtFile,
    state: &Value,
    layout: Layout,
    parameters: &StateDict,
) -> Result<Option<OptimiserState>> {
    let by_number = state.get("state").map(Value::entries).unwrap_or_default();
    if by_number.is_empty() {
        return Ok(None);
    }
    let wrong = |message: &str| file.error(format!("has an optimiser state that {message}"));
    let names = optimised_names(file, layout, parameters)?;
    let groups = state.get("param_groups").map(Value::elements).unwrap_or_default();
    let numbers = groups.iter().flat_map(|g| g.get("params").map(Value::elements).unwrap_or(&[]));
    let numbers: Vec<_> = numbers.filter_map(Value::as_int).collect();
    if numbers.len() != names.len() || by_number.len() != names.len() {
        return Err(wrong("covers other parameters than the model's"));
    }
    let mut out = OptimiserState::default();
    let mut steps = None;
    for (number, name) in numbers.into_iter().zip(names) {
        let entry = by_number.iter().find(|(key, _)| key.as_int() == Some(number));
        let (_, entry) = entry.ok_or_else(|| wrong("lacks a parameter of its groups"))?;
        let field = |key: &str| entry.get(key).ok_or_else(|| wrong("is not AdamW's"));
        let step = match field("step")? {
            tensor if file.is_tensor(tensor) => file.tensor(tensor)?.data.first().copied(),
            number => number.as_float().map(|x| x as f32),
        };
        if step.is_none() || *steps.get_or_insert(step) != step {
            return Err(wrong("took different numbers of steps for different parameters"));
        }
        for (moment, key) in [(&mut out.moment1, "exp_avg"), (&mut out.moment2, "exp_avg_sq")] {
            let tensor = field(key)?;
            if parameters.get(&name).map(|p| &p.shape) != Some(&file.shape(tensor)?) {
                return Err(wrong(&format!("has another shape than the parameter {name}")));
            }
            moment.insert(name.clone(), file.tensor(tensor)?);
        }
    }
    out.steps = steps.flatten().unwrap_or_default() as u64;
    Ok(Some(out))
}

/// Our names of the model's parameters in the order the optimiser numbers them.
fn optimised_names(file: &PtFile, layout: Layout, parameters: &StateDict) -> Result<Vec<String>> {
    let entries = file.value(&["model"])?.entries().iter();
    let (decayed, others): (Vec<_>, Vec<_>) = entries
        .filter_map(|(name, _)| Some(layout.our_name(name.as_str()?)))
        .partition(|name| parameters.get(name).is_some_and(|p| p.shape.len() >= 2));
    Ok(decayed.into_iter().chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_program_does_not_have_is_said() {
        let refuse = |extra: serde_json::Value| {
            let mut args = serde_json::json!({
                "n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4, "modalities": [],
            });
            for (key, value) in extra.as_object().expect("an object") {
                args[key] = value.clone();
            }
            model_config(&args).expect_err("unsupported")
        };
        let causal = serde_json::json!({"objective": "mae", "attn_type": "causal"});
        assert!(refuse(causal).contains("only full is"));
        assert!(refuse(serde_json::json!({"attn_type": "full"})).contains("causal"));
        assert!(refuse(serde_json::json!({"tokeniser": "jepa"})).contains("aim and affine"));
        assert!(refuse(serde_json::json!({"n_head": "two"})).contains("model_args.n_head"));
        assert!(refuse(serde_json::json!({})).contains("no modality"));
    }
}
