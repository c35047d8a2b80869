//! Checkpoints of the Python AstroPT: its three layouts of parameter names, and the shape
//! of the model from its configuration.
//!
//! | ours | 3.x | 2.x | 2024, one modality, `images` |
//! |---|---|---|---|
//! | `encoders.M.…` | same | `transformer.wte.M.…` | `transformer.wte.…` |
//! | `embedders.M.…` | same | `transformer.wpe.M.…` | `transformer.wpe.weight` |
//! | `decoders.M.…` | same | `lm_head.M.…` | `lm_head.…` |
//! | `transformer.{h.N,ln_f}.…` | same | same | same |

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::pickle::Value;
use super::pt::{PtFile, read_pt};
use crate::engine::{OptimiserState, StateDict};
use crate::error::Result;
use crate::model::{ModelConfig, Tokeniser};
use crate::tokens::{Positions, TokenSpec, Values};

/// Name of the one modality of the 2024 layout.
pub const IMAGES: &str = "images";
/// What `torch.compile` puts before every name.
const COMPILED: &str = "_orig_mod.";
/// Most values a configuration may have.
const MAX_CONFIGURATION: usize = 10_000;
/// Most layers a model may claim.
const MAX_LAYERS: usize = 10_000;

/// How a version of the Python program names its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// June 2024, the paper's.
    V1,
    /// 2.x.
    V2,
    /// 3.x, and this program's own.
    V3,
}

impl Layout {
    /// The layout that these parameter names are of; `None` when they are of none.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found = None;
        for name in names {
            let name = plain(name);
            if name.starts_with("encoders.") || name.starts_with("decoders.") {
                return Some(Self::V3);
            } else if name == "transformer.wpe.weight" {
                return Some(Self::V1);
            } else if name.starts_with("transformer.wte.") {
                found = Some(Self::V2);
            }
        }
        found
    }

    /// Beginnings of names here and in this program, for encoders, embedders and decoders.
    fn prefixes(self) -> [(&'static str, String); 3] {
        let ours = |prefix: &str| match self {
            Self::V1 => format!("{prefix}.{IMAGES}."),
            _ => format!("{prefix}."),
        };
        let [encoders, decoders] = [ours("encoders"), ours("decoders")];
        match self {
            // The table of positions has one more level in later versions.
            Self::V1 => [
                ("transformer.wte.", encoders),
                ("transformer.wpe.", ours("embedders") + "wpe."),
                ("lm_head.", decoders),
            ],
            Self::V2 => [
                ("transformer.wte.", encoders),
                ("transformer.wpe.", ours("embedders")),
                ("lm_head.", decoders),
            ],
            Self::V3 => [
                ("encoders.", encoders),
                ("embedders.", ours("embedders")),
                ("decoders.", decoders),
            ],
        }
    }

    /// This program's name for the parameter that the layout calls `theirs`.
    pub fn our_name(self, theirs: &str) -> String {
        let theirs = plain(theirs);
        for (prefix, ours) in self.prefixes() {
            if let Some(rest) = theirs.strip_prefix(prefix) {
                return ours + rest;
            }
        }
        theirs.to_owned()
    }

    /// The layout's name for the parameter that this program calls `ours`.
    pub fn python_name(self, ours: &str) -> String {
        for (prefix, start) in self.prefixes() {
            if let Some(rest) = ours.strip_prefix(&start) {
                return prefix.to_owned() + rest;
            }
        }
        ours.to_owned()
    }

    /// `tensors` under this program's names.
    pub fn rename(self, tensors: StateDict) -> StateDict {
        tensors.into_iter().map(|(name, tensor)| (self.our_name(&name), tensor)).collect()
    }
}

fn plain(name: &str) -> &str {
    name.strip_prefix(COMPILED).unwrap_or(name)
}

/// What a checkpoint of the Python program holds, under this program's names.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonCheckpoint {
    /// The version's layout.
    pub layout: Layout,
    /// Shape of the model.
    pub model: ModelConfig,
    /// Its parameters; exactly those of `model`.
    pub parameters: StateDict,
    /// The optimiser's state; `None` before its first step.
    pub optimiser: Option<OptimiserState>,
    /// The iteration it was saved at.
    pub iteration: Option<u64>,
}

/// Reads a checkpoint that the Python program saved.
///
/// # Errors
/// When the file cannot be read (see [`read_pt`]), holds a model this program does not
/// have, or lacks some of its parameters.
pub fn import(path: impl AsRef<Path>) -> Result<PythonCheckpoint> {
    let file = read_pt(path)?;
    let tensors = file.tensors(&["model"])?;
    let layout = Layout::detect(tensors.keys().map(String::as_str))
        .ok_or_else(|| file.error(UNKNOWN_NAMES))?;
    let configuration = configuration(&file)?;
    if tensors.keys().any(|name| plain(name) == "mask_token") {
        return Err(file.error(MASKED));
    }
    let model = model_config(&configuration).map_err(|e| file.error(e))?;
    let parameters = layout.rename(tensors);
    check_parameters(&model, &parameters).map_err(|e| file.error(e))?;
    let optimiser = match file.root.get("optimizer") {
        Some(state) => optimiser(&file, state, layout, &model)?,
        None => None,
    };
    let iteration = file.root.get("iter_num").and_then(Value::as_int);
    let iteration = iteration.and_then(|n| u64::try_from(n).ok());
    Ok(PythonCheckpoint { layout, model, parameters, optimiser, iteration })
}

/// Says that no parameter name is one of the Python program's.
pub(crate) const UNKNOWN_NAMES: &str =
    "holds no parameters of AstroPT (none is named encoders.* or transformer.wte.*)";

/// The pickled configuration as JSON: `model_args`, with the modalities in it.
fn configuration(file: &PtFile) -> Result<serde_json::Value> {
    let json = |value: &Value| {
        let too_large = || file.error("holds a configuration of absurd size");
        value.to_json(MAX_CONFIGURATION).ok_or_else(too_large)
    };
    let mut configuration = json(file.value(&["model_args"])?)?;
    // Versions from 2 on keep the modalities in the registry as well, by name.
    if let Some(registry) = file.root.at(&["modality_registry", "modalities"])
        && let Some(args) = configuration.as_object_mut()
        && !args.contains_key("modalities")
    {
        let all = registry.entries().iter().map(|(_, modality)| json(modality));
        args.insert("modalities".into(), all.collect::<Result<Vec<_>>>()?.into());
    }
    Ok(configuration)
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
    modalities: Option<Vec<ModalityArgs>>,
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
    let args: ModelArgs = serde_path_to_error::deserialize(configuration)
        .map_err(|e| format!("has a configuration that is not AstroPT's: model_args.{e}"))?;
    if args.objective.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("mae")) {
        return Err(MASKED.into());
    }
    if let Some(attention) = args.attn_type.as_deref().filter(|&name| name != "causal") {
        return Err(format!(
            "holds a model with {attention:?} attention, which is not supported; only causal is"
        ));
    }
    let (tokeniser, modalities) = match &args.modalities {
        None => (Tokeniser::Paper, paper_modality(&args)?),
        Some(modalities) => {
            let specs = modalities.iter().map(|m| Ok((m.name.clone(), spec(m, &args)?)));
            (tokeniser(&args)?, specs.collect::<std::result::Result<_, String>>()?)
        }
    };
    let (layers, heads, width) = (args.n_layer, args.n_head, args.n_embd);
    let model = ModelConfig {
        layers,
        heads,
        width,
        tokeniser,
        modalities,
        mask_token: false,
        delimiters: false,
    };
    model.check().map_err(|e| e.to_string())?;
    if layers > MAX_LAYERS {
        return Err(format!("claims {layers} layers; at most {MAX_LAYERS} are believed"));
    }
    Ok(model)
}

/// Says that a model is of the kind that fills gaps.
const MASKED: &str = "holds a masked autoencoder (objective mae), which is not supported; only \
                      next-token models are";

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
    model: &ModelConfig,
) -> Result<Option<OptimiserState>> {
    let by_number = state.get("state").map(Value::entries).unwrap_or_default();
    if by_number.is_empty() {
        return Ok(None);
    }
    let wrong = |message: &str| file.error(format!("has an optimiser state that {message}"));
    let shapes: BTreeMap<_, _> =
        model.parameters().into_iter().map(|spec| (spec.name, spec.shape)).collect();
    let names = optimised_names(file, layout, &shapes)?;
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
            if Some(&file.shape(tensor)?) != shapes.get(&name) {
                return Err(wrong(&format!("has another shape than the parameter {name}")));
            }
            moment.insert(name.clone(), file.tensor(tensor)?);
        }
    }
    out.steps = steps.flatten().unwrap_or_default() as u64;
    Ok(Some(out))
}

/// Our names of the model's parameters, whose `shapes` are given, in the order the
/// optimiser numbers them.
fn optimised_names(
    file: &PtFile,
    layout: Layout,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<String>> {
    let entries = file.value(&["model"])?.entries().iter();
    let (decayed, others): (Vec<_>, Vec<_>) = entries
        .filter_map(|(name, _)| Some(layout.our_name(name.as_str()?)))
        .partition(|name| shapes.get(name).is_some_and(|shape| shape.len() >= 2));
    Ok(decayed.into_iter().chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_both_ways_in_every_layout() {
        let cases = [
            (Layout::V1, "transformer.wte.0.bias", "encoders.images.0.bias"),
            (Layout::V1, "transformer.wpe.weight", "embedders.images.wpe.weight"),
            (Layout::V1, "lm_head.4.weight", "decoders.images.4.weight"),
            (Layout::V2, "transformer.wte.a.c_fc.weight", "encoders.a.c_fc.weight"),
            (Layout::V2, "transformer.wpe.a.wpe.weight", "embedders.a.wpe.weight"),
            (Layout::V2, "lm_head.a.c_fc.weight", "decoders.a.c_fc.weight"),
            (Layout::V3, "decoders.a.c_fc.weight", "decoders.a.c_fc.weight"),
            (Layout::V1, "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.weight"),
        ];
        for (layout, theirs, ours) in cases {
            assert_eq!(layout.our_name(theirs), ours);
            assert_eq!(layout.our_name(&format!("_orig_mod.{theirs}")), ours);
            assert_eq!(layout.python_name(ours), theirs);
        }
    }

    #[test]
    fn layouts_are_told_apart_and_foreign_names_are_none() {
        let detect = |name: &str| Layout::detect([name, "transformer.ln_f.weight"]);
        assert_eq!(detect("_orig_mod.transformer.wpe.weight"), Some(Layout::V1));
        assert_eq!(detect("transformer.wte.images.c_fc.weight"), Some(Layout::V2));
        assert_eq!(detect("encoders.images.c_fc.weight"), Some(Layout::V3));
        assert_eq!(detect("gpt_neox.embed_in.weight"), None);
    }

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
        assert!(refuse(serde_json::json!({"objective": "mae"})).contains("masked autoencoder"));
        assert!(refuse(serde_json::json!({"attn_type": "full"})).contains("causal"));
        assert!(refuse(serde_json::json!({"tokeniser": "jepa"})).contains("aim and affine"));
        assert!(refuse(serde_json::json!({"n_head": "two"})).contains("model_args.n_head"));
        assert!(refuse(serde_json::json!({})).contains("no modality"));
    }
}
