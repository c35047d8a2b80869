//! A model as a checkpoint that the Python AstroPT loads: its names, its configuration, its
//! modality registry, its optimiser.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::layout::{IMAGES, Layout};
use super::pickle::Value;
use super::pt_writer::{PtWriter, dictionary, instance, ordered, text, tuple};
use super::python::PythonSettings;
use crate::data::Objective;
use crate::engine::{HostTensor, OptimiserState, StateDict, StepSettings};
use crate::error::{Error, Result};
use crate::model::{ModelConfig, Tokeniser};
use crate::tokens::{Positions, TokenSpec, Values};

/// What the Python program takes for "no validation loss yet".
pub(crate) const NO_LOSS: f64 = 1e9;

/// What goes into the file.
#[derive(Clone, Copy, Debug)]
pub struct PythonExport<'a> {
    /// Shape of the model.
    pub model: &'a ModelConfig,
    /// What it was trained for.
    pub objective: &'a Objective,
    /// Its parameters.
    pub parameters: &'a StateDict,
    /// The optimiser's state.
    pub optimiser: &'a OptimiserState,
    /// The optimiser's settings at the next step.
    pub step: &'a StepSettings,
    /// Steps taken.
    pub iteration: u64,
    /// Lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Side of a patch by modality, which that program keeps beside each modality.
    pub patches: &'a BTreeMap<String, usize>,
    /// Settings that the model came with when it was imported, or the training's.
    pub settings: &'a PythonSettings,
}

/// Writes the checkpoint `path` in `layout`, whole or not at all. The same model gives the
/// same bytes.
///
/// # Errors
/// When the layout cannot hold the model (says what and which can), or the file cannot be
/// written.
pub fn export(path: impl AsRef<Path>, layout: Layout, of: &PythonExport<'_>) -> Result<()> {
    let path = path.as_ref();
    let refuse = |message: String| {
        Error::Misuse(format!("{} cannot hold this model: {message}", layout.name()))
    };
    check(layout, of).map_err(refuse)?;
    let modalities = registry(of);
    let args = model_args(layout, of, &modalities).map_err(refuse)?;
    let mut writer = PtWriter::default();
    let names = ordered_names(layout, of, &modalities);
    let parameters = names.iter().map(|(ours, theirs)| {
        let tensor = of.parameters.get(ours).ok_or_else(|| missing(path, ours))?;
        Ok((text(theirs), writer.tensor(tensor)))
    });
    let parameters = ordered(parameters.collect::<Result<Vec<_>>>()?);
    let steps = HostTensor { shape: Vec::new(), data: vec![of.optimiser.steps as f32] };
    let optimiser = optimiser(path, of, &names, &steps, &mut writer)?;
    let mut root = vec![
        ("model", parameters),
        ("optimizer", optimiser),
        ("model_args", args),
        ("iter_num", Value::Int(of.iteration as i64)),
        ("best_val_loss", Value::Float(of.best_loss.unwrap_or(NO_LOSS))),
        ("config", from_json(&Json::Object(of.settings.config.clone()))),
    ];
    if layout != Layout::V1 {
        let entries = modalities.iter().map(|m| (m.name, m.config(layout)));
        let fields = [("modalities", dictionary(entries))];
        root.push(("modality_registry", instance("astropt.model.ModalityRegistry", fields)));
    }
    writer.save(path, &dictionary(root))
}

fn missing(path: &Path, name: &str) -> Error {
    Error::file(path, format!("cannot be written: the model lacks the parameter {name}"))
}

/// What the layout has no word for.
fn check(layout: Layout, of: &PythonExport<'_>) -> std::result::Result<(), String> {
    let paper = of.model.tokeniser == Tokeniser::Paper;
    if paper != (layout == Layout::V1) {
        return Err(if paper {
            "its tokeniser is the paper's; write astropt-1".into()
        } else {
            "its tokeniser is not the paper's; write astropt-2 or astropt-3".into()
        });
    }
    let mut specs = of.model.modalities.iter();
    if layout == Layout::V1 && of.model.modalities.len() != 1 {
        return Err("it has several modalities and astropt-1 knows but images".into());
    }
    if layout != Layout::V3
        && let Some((name, _)) = specs.find(|(_, s)| matches!(s.values, Values::Codes { .. }))
    {
        return Err(format!("{name} is made of codes, known from astropt-3 on"));
    }
    if layout != Layout::V3 && of.model.mask_token {
        return Err("it is a masked autoencoder, known from astropt-3 on".into());
    }
    if of.model.delimiters {
        return Err("its stream has delimiters, which the Python program does not know".into());
    }
    if let Objective::Prefix { .. } = *of.objective {
        return Err("it was trained with prefixes, which the Python program does not know".into());
    }
    Ok(())
}

/// A modality as the Python program describes it.
struct Entry<'a> {
    name: &'a str,
    spec: &'a TokenSpec,
    patch: usize,
}

impl Entry<'_> {
    fn config(&self, layout: Layout) -> Value {
        let int = |n: usize| Value::Int(n as i64);
        let (indexed, positions) = match self.spec.positions {
            Positions::Index { .. } => (true, 1),
            Positions::Continuous { width } => (false, width),
        };
        let mut fields = vec![
            ("name", text(self.name)),
            ("input_size", int(self.spec.values.size())),
            ("pos_input_size", int(positions)),
            ("patch_size", int(self.patch)),
            ("embed_pos", Value::Bool(indexed)),
            ("loss_weight", Value::Float(decimal(self.spec.loss_weight))),
        ];
        if layout == Layout::V3 {
            let codes = matches!(self.spec.values, Values::Codes { .. });
            let vocabulary = if codes { self.spec.values.size() } else { 0 };
            fields.push(("vocab_size", int(vocabulary)));
        }
        instance("astropt.model.ModalityConfig", fields)
    }
}

/// The modalities in the order they were registered in, where that is known; else by name.
fn registry<'a>(of: &PythonExport<'a>) -> Vec<Entry<'a>> {
    let known = of.settings.model_args.get("modalities").and_then(Json::as_array);
    let is = |m: &Json, name: &str| m.get("name").and_then(Json::as_str) == Some(name);
    let place = |name: &str| known?.iter().position(|m| is(m, name));
    let mut all: Vec<_> = of
        .model
        .modalities
        .iter()
        .map(|(name, spec)| {
            let patch = of.patches.get(name).copied().unwrap_or(1);
            Entry { name, spec, patch }
        })
        .collect();
    all.sort_by_key(|m| place(m.name).unwrap_or(usize::MAX));
    all
}

fn model_args(
    layout: Layout,
    of: &PythonExport<'_>,
    modalities: &[Entry<'_>],
) -> std::result::Result<Value, String> {
    let model = of.model;
    let mut args = of.settings.model_args.clone();
    let imported = !args.is_empty();
    args.remove("modalities");
    for (key, value) in
        [("n_layer", model.layers), ("n_head", model.heads), ("n_embd", model.width)]
    {
        args.insert(key.into(), value.into());
    }
    if let Objective::Masked { ratio } = *of.objective {
        args.insert("objective".into(), "mae".into());
        args.insert("attn_type".into(), "full".into());
        args.insert("mae_mask_ratio".into(), ratio.into());
    }
    args.insert("block_size".into(), block_size(model)?.into());
    args.entry("dropout").or_insert_with(|| 0.0.into());
    let [first, ..] = modalities else { return Err("it has no modality".into()) };
    // Pixels of a patch of an image: numbers of a token, bands taken apart.
    let area = first.patch.saturating_mul(first.patch).max(1);
    let bands = first.spec.values.size() / area;
    args.entry("n_chan").or_insert_with(|| bands.max(1).into());
    match (layout, model.tokeniser) {
        (Layout::V1, _) => {
            if first.patch * first.patch * bands != first.spec.values.size() {
                return Err(format!(
                    "tokens of {} numbers are no square patches of {} pixels",
                    first.spec.values.size(),
                    first.patch
                ));
            }
            args.insert("patch_size".into(), first.patch.into());
        }
        // The only one in the first programs of version 2, which do not know the word.
        (Layout::V2, Tokeniser::Aim) => drop(args.remove("tokeniser")),
        (_, Tokeniser::Affine) => drop(args.insert("tokeniser".into(), "affine".into())),
        // What was imported without the word means aim.
        (_, _) if imported => {}
        (_, _) => drop(args.insert("tokeniser".into(), "aim".into())),
    }
    let mut entries: Vec<_> = args.iter().map(|(k, v)| (k.as_str(), from_json(v))).collect();
    if layout != Layout::V1 {
        let all = modalities.iter().map(|m| m.config(layout)).collect();
        entries.push(("modalities", Value::List(all)));
    }
    Ok(dictionary(entries))
}

/// The one number of positions that the Python program gives all its tables.
fn block_size(model: &ModelConfig) -> std::result::Result<usize, String> {
    let tables = model.modalities.iter().filter_map(|(name, spec)| match spec.positions {
        Positions::Index { max } => Some((name, max)),
        Positions::Continuous { .. } => None,
    });
    let mut found: Option<(&String, usize)> = None;
    for (name, rows) in tables {
        match found {
            Some((other, first)) if first != rows => {
                return Err(format!(
                    "{name} has a table of {rows} positions and {other} one of {first}; the \
                     Python program has one length for all"
                ));
            }
            _ => found = Some((name, rows)),
        }
    }
    let all = || model.modalities.values().map(|spec| spec.max_tokens).sum();
    Ok(found.map_or_else(all, |(_, rows)| rows))
}

/// Our names and theirs, in the order in which the Python program's modules lie.
fn ordered_names(
    layout: Layout,
    of: &PythonExport<'_>,
    modalities: &[Entry<'_>],
) -> Vec<(String, String)> {
    let parts: [&str; 6] = match layout {
        Layout::V3 => ["mask_token", "transformer.", "encoders.", "decoders.", "embedders.", ""],
        _ => ["encoders.", "embedders.", "transformer.", "decoders.", "", ""],
    };
    let rank = |name: &str| {
        let part = parts.iter().position(|part| name.starts_with(part)).unwrap_or(parts.len());
        let of_modality = |m: &Entry<'_>| name.split('.').nth(1) == Some(m.name);
        let place = modalities.iter().position(of_modality);
        (part, if name.starts_with("transformer.") { None } else { place })
    };
    let mut names: Vec<String> = of.model.parameters().into_iter().map(|p| p.name).collect();
    names.sort_by_key(|name| rank(name));
    let theirs = |ours: &str| match (layout, modalities) {
        (Layout::V1, [only]) => layout.python_name(&ours.replacen(
            &format!(".{}.", only.name),
            &format!(".{IMAGES}."),
            1,
        )),
        _ => layout.python_name(ours),
    };
    names.into_iter().map(|ours| (ours.clone(), theirs(&ours))).collect()
}

/// AdamW's state as PyTorch keeps it: by number, the parameters that decay first.
fn optimiser<'a>(
    path: &Path,
    of: &PythonExport<'a>,
    names: &[(String, String)],
    steps: &'a HostTensor,
    writer: &mut PtWriter<'a>,
) -> Result<Value> {
    let decays = |name: &str| of.parameters.get(name).is_some_and(|t| t.shape.len() >= 2);
    let (decayed, others): (Vec<_>, Vec<_>) =
        names.iter().map(|(ours, _)| ours.as_str()).partition(|name| decays(name));
    let mut state = Vec::new();
    if !of.optimiser.moment1.is_empty() {
        for (number, name) in decayed.iter().chain(&others).enumerate() {
            let moment = |all: &'a StateDict| all.get(*name).ok_or_else(|| missing(path, name));
            let (first, second) = (moment(&of.optimiser.moment1)?, moment(&of.optimiser.moment2)?);
            let entry = [
                ("step", writer.tensor(steps)),
                ("exp_avg", writer.tensor(first)),
                ("exp_avg_sq", writer.tensor(second)),
            ];
            state.push((Value::Int(number as i64), dictionary(entry)));
        }
    }
    let groups = [
        group(of.step, of.step.weight_decay, 0..decayed.len()),
        group(of.step, 0.0, decayed.len()..names.len()),
    ];
    Ok(dictionary([
        ("state", Value::Dict(state.into())),
        ("param_groups", Value::List(groups.into())),
    ]))
}

/// A group of `torch.optim.AdamW`, with the words PyTorch 2.9 writes.
fn group(step: &StepSettings, weight_decay: f64, numbers: std::ops::Range<usize>) -> Value {
    let no = || Value::Bool(false);
    dictionary([
        ("weight_decay", Value::Float(weight_decay)),
        ("lr", Value::Float(step.lr)),
        ("betas", tuple(step.betas.map(Value::Float))),
        ("eps", Value::Float(step.eps)),
        ("amsgrad", no()),
        ("maximize", no()),
        ("foreach", Value::None),
        ("capturable", no()),
        ("differentiable", no()),
        ("fused", Value::None),
        ("decoupled_weight_decay", Value::Bool(true)),
        ("params", Value::List(numbers.map(|n| Value::Int(n as i64)).collect())),
    ])
}

/// JSON as Python reads it.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(x) => Value::Bool(*x),
        Json::Number(x) => {
            x.as_i64().map_or_else(|| Value::Float(x.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(x) => text(x),
        Json::Array(all) => Value::List(all.iter().map(from_json).collect()),
        Json::Object(map) => dictionary(map.iter().map(|(k, v)| (k, from_json(v)))),
    }
}

/// The number that a person would have written: 0.7 and not 0.699999988.
fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
