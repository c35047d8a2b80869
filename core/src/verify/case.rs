//! A recorded case: its configuration, inputs, answers and initial weights.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::compare::Ledger;
use crate::checkpoint::python::{self, Layout};
use crate::checkpoint::tensors::load_tensors;
use crate::data::{Assembly, Batch, Purpose, Row, Sequence, Task};
use crate::engine::{OptimiserState, StateDict};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// A case as read from its folder.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) model: ModelConfig,
    pub(crate) schedule: Option<Schedule>,
    /// Whether version 1 recorded it, which lists no modalities.
    pub(crate) first_version: bool,
    /// Everything in `case.safetensors`.
    pub(crate) recorded: StateDict,
    spans: Vec<Span>,
}

/// `case.json`.
#[derive(Debug, Deserialize)]
struct Written {
    model_args: serde_json::Map<String, serde_json::Value>,
    modalities: Option<serde_json::Value>,
    schedule: Option<Schedule>,
}

/// How the recorded training went: linear warm-up, cosine decay, then a floor.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) steps: u32,
    pub(crate) accum: u32,
    peak: f64,
    warm: u32,
    decay: u32,
    floor: f64,
    pub(crate) wd: f64,
    pub(crate) clip: f64,
}

impl Schedule {
    /// Learning rate of step `it`, counted from 0.
    pub(crate) fn lr(&self, it: u32) -> f64 {
        if it < self.warm {
            return self.peak * f64::from(it) / f64::from(self.warm);
        }
        if it > self.decay || self.decay <= self.warm {
            return self.floor;
        }
        let ratio = f64::from(it - self.warm) / f64::from(self.decay - self.warm);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * ratio).cos());
        self.floor + cosine * (self.peak - self.floor)
    }
}

/// The recorded tokens of one modality: `[batches, rows, T, …]`.
#[derive(Debug)]
struct Span {
    modality: String,
    spec: TokenSpec,
    /// Names of the arrays of values and positions.
    values: String,
    positions: Option<String>,
    /// Batches, rows and tokens.
    dims: [usize; 3],
}

impl Case {
    /// Reads the case in `folder`.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("case.json");
        let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        let written: Written = serde_json::from_slice(&text)
            .map_err(|e| Error::file(&path, format!("is no description of a case: {e}")))?;
        let (recorded, _) = load_tensors(folder.join("case.safetensors"))?;
        let mut args = written.model_args;
        let first_version = written.modalities.is_none();
        if let Some(modalities) = written.modalities {
            args.insert("modalities".into(), modalities);
        }
        let model = python::model_config(&args.into()).map_err(|e| Error::file(&path, e))?;
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut case = Self {
            folder: folder.to_owned(),
            name: name.unwrap_or_else(|| folder.display().to_string()),
            model,
            schedule: written.schedule,
            first_version,
            recorded,
            spans: Vec::new(),
        };
        case.spans = case.find_spans()?;
        Ok(case)
    }

    fn find_spans(&self) -> Result<Vec<Span>> {
        let path = self.folder.join("case.safetensors");
        let spans = self.model.modalities.iter().map(|(modality, spec)| {
            let data = format!("data.{modality}");
            let positions = format!("{data}_positions");
            let candidates = [data, "all_tokens".to_owned(), "tokens".to_owned()];
            let values = candidates
                .into_iter()
                .find(|name| self.recorded.contains_key(name))
                .ok_or_else(|| Error::file(&path, format!("holds no tokens of {modality}")))?;
            let positions = self.recorded.contains_key(&positions).then_some(positions);
            let dims = self.span_dims(&values, positions.as_deref(), spec).map_err(|e| {
                Error::file(&path, format!("the tokens {values} of {modality} {e}"))
            })?;
            Ok(Span { modality: modality.clone(), spec: spec.clone(), values, positions, dims })
        });
        let spans: Vec<_> = spans.collect::<Result<_>>()?;
        let rows = |span: &Span| [span.dims[0], span.dims[1]];
        if spans.iter().any(|span| rows(span) != rows(&spans[0])) {
            return Err(Error::file(&path, "has modalities of different numbers of objects"));
        }
        Ok(spans)
    }

    /// Batches, rows and tokens, after checking the widths.
    fn span_dims(
        &self,
        values: &str,
        positions: Option<&str>,
        spec: &TokenSpec,
    ) -> std::result::Result<[usize; 3], String> {
        let mut shape = self.recorded[values].shape.clone();
        if values == "tokens" {
            shape.insert(0, 1);
        }
        let wrong = |shape: &[usize]| format!("have an unexpected shape, {shape:?}");
        let dims = match (spec.values, &shape[..]) {
            (Values::Continuous { width }, &[k, b, t, f]) if f == width => [k, b, t],
            (Values::Codes { .. }, &[k, b, t]) => [k, b, t],
            (_, shape) => return Err(wrong(shape)),
        };
        if dims.contains(&0) {
            return Err(wrong(&shape));
        }
        let expected = match spec.positions {
            Positions::Index { .. } => dims.to_vec(),
            Positions::Continuous { width } => [&dims[..], &[width]].concat(),
        };
        match (positions, spec.positions) {
            (Some(name), _) if self.recorded[name].shape == expected => Ok(dims),
            (None, Positions::Index { .. }) => Ok(dims),
            _ => Err("have no positions or such of another shape".into()),
        }
    }

    /// Marks the arrays that are inputs as looked at.
    pub(crate) fn take_inputs(&self, ledger: &mut Ledger<'_>) {
        for span in &self.spans {
            for name in [&span.values].into_iter().chain(&span.positions) {
                let _ = ledger.take(name);
            }
            let _ = ledger.take(&mask_name(&span.modality));
        }
    }

    /// Whether the recording holds hidden states: the Python program embeds what is continuous and
    /// read causally.
    pub(crate) fn embeds(&self) -> bool {
        let mut specs = self.model.modalities.values();
        !self.model.mask_token && specs.all(|spec| matches!(spec.values, Values::Continuous { .. }))
    }

    /// Number of recorded batches.
    pub(crate) fn batches(&self) -> usize {
        self.spans[0].dims[0]
    }

    /// Number of objects in a batch.
    pub(crate) fn rows_per_batch(&self) -> usize {
        self.spans[0].dims[1]
    }

    /// Modalities in the order of the stream, each with its number of tokens.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (&str, usize)> {
        self.spans.iter().map(|span| (span.modality.as_str(), span.dims[2]))
    }

    /// The objects of batch `k`, each span cut to its first `limit` tokens.
    pub(crate) fn rows(&self, k: usize, limit: usize) -> Result<Vec<(String, Row)>> {
        let row = |b: usize| {
            let spans = self.spans.iter().map(|span| {
                let tokens = self.tokens(span, k, b, limit)?;
                Ok((span.modality.clone(), tokens))
            });
            Ok((format!("{k}.{b}"), spans.collect::<Result<Row>>()?))
        };
        (0..self.rows_per_batch()).map(row).collect()
    }

    /// Batch `k` as it trains the model: for next-token prediction, or with the recorded
    /// mask.
    pub(crate) fn batch(&self, k: usize) -> Result<Batch> {
        let rows = self.rows(k, usize::MAX)?;
        if !self.model.mask_token {
            return Batch::assemble(&rows, &self.model.modalities, Purpose::Predict);
        }
        let masks = (0..rows.len()).map(|b| self.mask(b)).collect::<Result<Vec<_>>>()?;
        let sequences = rows.iter().zip(masks).map(|((id, spans), mask)| Sequence {
            id,
            spans,
            task: Task::Masked(mask),
        });
        let specs = &self.model.modalities;
        let assembly = Assembly { specs, delimiters: false, full: true, row_length: None };
        assembly.batch(&sequences.collect::<Vec<_>>())
    }

    /// Which tokens of row `b` of the first batch were hidden.
    fn mask(&self, b: usize) -> Result<Vec<bool>> {
        let mut mask = Vec::new();
        for span in &self.spans {
            let name = mask_name(&span.modality);
            let tokens = span.dims[2];
            let row =
                self.recorded.get(&name).and_then(|m| m.data.get(b * tokens..)?.get(..tokens));
            let path = self.folder.join("case.safetensors");
            let row = row.ok_or_else(|| Error::file(path, format!("holds no mask {name}")))?;
            mask.extend(row.iter().map(|&hidden| hidden != 0.0));
        }
        Ok(mask)
    }

    fn tokens(&self, span: &Span, k: usize, b: usize, limit: usize) -> Result<Tokens> {
        let [_, rows, t] = span.dims;
        let len = t.min(limit);
        let part = |name: &str, width: usize| {
            let start = (k * rows + b) * t * width;
            self.recorded[name].data.get(start..start + len * width).unwrap_or(&[]).to_vec()
        };
        let integers = |name: &str| -> Result<Vec<u32>> {
            let whole = |x: f32| (x >= 0.0 && x.fract() == 0.0).then_some(x as u32);
            let all: Option<_> = part(name, 1).into_iter().map(whole).collect();
            let path = self.folder.join("case.safetensors");
            all.ok_or_else(|| Error::file(path, format!("{name} holds what is no whole number")))
        };
        let mut tokens = Tokens { len, ..Tokens::default() };
        match span.spec.values {
            Values::Continuous { width } => tokens.values = part(&span.values, width).into(),
            Values::Codes { .. } => tokens.codes = integers(&span.values)?,
        }
        match (span.spec.positions, &span.positions) {
            (Positions::Continuous { width }, Some(name)) => tokens.positions = part(name, width),
            (_, Some(name)) => tokens.indices = integers(name)?,
            (_, None) => tokens.indices = (0..len as u32).collect(),
        }
        Ok(tokens)
    }
}

/// Name of the array that says which tokens of `modality` were hidden.
fn mask_name(modality: &str) -> String {
    format!("outputs.{modality}_mask")
}

/// The weights a replay starts from.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) parameters: StateDict,
    /// The state after the recorded training, when the file carries it.
    pub(crate) optimiser: Option<OptimiserState>,
    /// Shape of the model according to the file.
    model: Option<ModelConfig>,
    /// The case's `weights.safetensors`, when another file was used.
    recorded: Option<StateDict>,
}

impl Weights {
    /// Reads `given`, or else the weights of the case.
    pub(crate) fn load(case: &Case, given: Option<&Path>) -> Result<Self> {
        let [own, checkpoint] =
            ["weights.safetensors", "ckpt.pt"].map(|name| case.folder.join(name));
        let path = match given {
            Some(path) => path,
            None if own.exists() || !checkpoint.exists() => &own,
            None => &checkpoint,
        };
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            let parameters = load_parameters(path)?;
            python::check_parameters(&case.model, &parameters).map_err(|e| Error::file(path, e))?;
            return Ok(Self { parameters, optimiser: None, model: None, recorded: None });
        }
        let loaded = python::import(path)?;
        python::check_parameters(&case.model, &loaded.parameters)
            .map_err(|e| Error::file(path, format!("is not of this case: it {e}")))?;
        let recorded = own.exists().then(|| load_parameters(&own)).transpose()?;
        Ok(Self {
            parameters: loaded.parameters,
            optimiser: loaded.optimiser,
            model: Some(loaded.model),
            recorded,
        })
    }

    /// Compares what a checkpoint says with what the case says: configuration and, bit by
    /// bit, weights.
    pub(crate) fn compare_sources(&self, case: &Case, ledger: &mut Ledger<'_>) {
        if let Some(model) = &self.model
            && *model != case.model
        {
            let problem = format!("the checkpoint's is {model:?}, case.json's {:?}", case.model);
            ledger.problem("configuration", problem);
        }
        for (name, theirs) in self.recorded.iter().flatten() {
            let quantity = format!("weights.{name}");
            match self.parameters.get(name) {
                Some(ours) => ledger.compare(&quantity, ours, theirs, 0.0),
                None => ledger.problem(&quantity, "not in the checkpoint"),
            }
        }
    }
}

/// Parameters in a safetensors file, in any layout, under this program's names.
fn load_parameters(path: &Path) -> Result<StateDict> {
    let (tensors, _) = load_tensors(path)?;
    let names = tensors.keys().map(String::as_str);
    let layout = Layout::detect(names).ok_or_else(|| Error::file(path, python::UNKNOWN_NAMES))?;
    Ok(layout.rename(tensors))
}
