//! What a checkpoint carries to be checked by: a few objects as the source gave them (the one
//! that was converted, where the data are), or made up by the modalities where there were no data;
//! the first of their tokens, and what the model made of these. A checkpoint that is loaded
//! where the same observations become other tokens, or the same tokens other answers, is
//! refused.
//!
//! In `selfcheck.safetensors`, for object K: `raw.K.FIELD`, the observation's arrays in
//! their own types; `K.MODALITY` and `K.MODALITY_positions`, tokens; `K.MODALITY_sums`, sums
//! over the whole span; and `outputs.NAME`, answers to all of them. Ids, units, labels, the order
//! of spans and their lengths are in the metadata.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answers::{Chain, answers};
use super::sums;
use crate::checkpoint::arrays::{
    Arrays, byte_length, load_arrays, save_arrays, token_arrays, tokens_from,
};
use crate::checkpoint::recorded::{
    LOOKED_AT, RAW_BYTES, Recorded, TOLERANCE, close, size, telling,
};
use crate::checkpoint::{checksums, format};
use crate::data::{Dataset, Row, Split, unit_hash};
use crate::engine::Session;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::observation::{Array, Data, Observation};
use crate::plain;
use crate::recipe::{Modalities, Plan};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// The file's name in a checkpoint's folder.
pub(super) const FILE: &str = "selfcheck.safetensors";
/// Tokens of a span that are recorded: enough to tell one order of patches from another.
const TOKENS: usize = 64;
/// The recorded objects.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    objects: Vec<Object>,
    rows: Vec<(String, Row)>,
    arrays: Arrays,
    specs: BTreeMap<String, TokenSpec>,
}

/// A recorded object, beside its arrays.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Object {
    id: String,
    /// Modalities in the order of the stream.
    spans: Vec<String>,
    /// Tokens of each modality, those included that are not recorded.
    #[serde(default)]
    lengths: BTreeMap<String, usize>,
    /// The observation, where it is small enough to be recorded.
    raw: Option<Recorded>,
}

/// The recorded objects and the model's answers to them: the contents of the file.
#[derive(Clone, Debug)]
pub(crate) struct SelfCheck {
    arrays: Arrays,
    objects: String,
    chain: Chain,
}

impl Inputs {
    /// Objects of `data`, of validation where there are any; of converted data those that were
    /// kept as they were before. `None` when none is usable.
    ///
    /// # Errors
    /// When more objects are unusable than the plan allows.
    pub(crate) fn of_data(data: &Dataset) -> Result<Option<Self>> {
        let mut inputs = Self::empty(data.model());
        let originals = data.originals()?;
        let converted = originals.is_some();
        for (observation, mut row) in originals.into_iter().flatten() {
            data.settle(&mut row);
            inputs.push(&observation.id, Some(&observation), row)?;
        }
        if !inputs.objects.is_empty() {
            return Ok(Some(inputs));
        }
        let mut looked_at = data.sample(Split::Validation, LOOKED_AT);
        looked_at.extend(data.sample(Split::Train, LOOKED_AT));
        let mut found = Vec::new();
        for index in looked_at.into_iter().take(LOOKED_AT) {
            found.extend(data.read(index)?);
        }
        for (observation, mut row) in telling(found, |(_, row)| row) {
            data.settle(&mut row);
            // Tokens without what they were made of check the model alone.
            inputs.push(&observation.id, Some(&observation).filter(|_| !converted), row)?;
        }
        Ok(Some(inputs).filter(|inputs| !inputs.objects.is_empty()))
    }

    /// What the modalities of `plan` give as examples, where there are no data; of one that gives
    /// none, made-up tokens, which check the build alone.
    ///
    /// # Errors
    /// When the plan's modalities cannot be built.
    pub(crate) fn of_examples(plan: &Plan) -> Result<Self> {
        let (model, modalities) = (plan.model_config()?, plan.build_modalities()?);
        let mut whole = Observation { id: "made up".into(), ..Observation::default() };
        for example in modalities.values().filter_map(|modality| modality.example()) {
            // Where two modalities read one field, the first of them has it.
            for (name, field) in example.fields {
                whole.fields.entry(name).or_insert(field);
            }
            for (name, label) in example.labels {
                whole.labels.entry(name).or_insert(label);
            }
        }
        let (mut row, mut all) = (Row::new(), Row::new());
        for (name, modality) in &modalities {
            let spec = modality.spec();
            let tokens = modality.tokenise(&whole).ok().flatten();
            let tokens = tokens.filter(|tokens| tokens.check(&spec).is_ok());
            row.extend(tokens.clone().map(|tokens| (name.clone(), tokens)));
            all.push((name.clone(), tokens.unwrap_or_else(|| made_up(name, &spec))));
        }
        let mut inputs = Self::empty(&model);
        let partly = row.len() < all.len();
        // What has no example stands beside the others: alone, a single token has no answer.
        let objects = [(Some(&whole), row), (None, if partly { all } else { Row::new() })];
        for (observation, mut row) in objects {
            if !row.is_empty() {
                plan.stream.settle(&mut row);
                inputs.push(&whole.id, observation, row)?;
            }
        }
        Ok(inputs)
    }

    /// The modalities that are checked from the tokens on, and not from observations.
    pub(crate) fn uncovered(&self) -> Vec<String> {
        let covers = |name: &String| {
            self.objects.iter().any(|object| object.raw.is_some() && object.spans.contains(name))
        };
        self.specs.keys().filter(|name| !covers(name)).cloned().collect()
    }

    fn empty(model: &ModelConfig) -> Self {
        let (objects, rows, arrays) = (Vec::new(), Vec::new(), Arrays::new());
        Self { objects, rows, arrays, specs: model.modalities.clone() }
    }

    fn push(&mut self, id: &str, observation: Option<&Observation>, mut row: Row) -> Result<()> {
        let k = self.objects.len();
        let lengths = row.iter().map(|(name, tokens)| (name.clone(), tokens.len)).collect();
        for (name, tokens) in &mut row {
            let whole = Array::new(vec![2, sums::GROUPS], Data::F32(sums::sums(tokens).concat()))?;
            self.arrays.insert(format!("{k}.{name}_sums"), whole);
            tokens.truncate(TOKENS);
            let Some(spec) = self.specs.get(name) else { continue };
            let bare = Tokens { affine: Vec::new(), ..tokens.clone() };
            self.arrays.extend(token_arrays(&format!("{k}.{name}"), &bare, spec)?);
        }
        let spent: usize = self.arrays.values().map(|a| byte_length(&a.data)).sum();
        let fits = |o: &&Observation| spent + size(o) <= RAW_BYTES;
        let raw = observation.filter(fits);
        let raw = raw.map(|o| Recorded::put(o, &format!("raw.{k}"), &mut self.arrays));
        let spans = row.iter().map(|(name, _)| name.clone()).collect();
        self.objects.push(Object { id: id.to_owned(), spans, lengths, raw });
        self.rows.push((id.to_owned(), row));
        Ok(())
    }

    /// The objects with the answers of `session`'s model; `None` when those are no numbers.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn answer(&self, session: &mut dyn Session) -> Result<Option<SelfCheck>> {
        let outputs = answers(&self.rows, session, Chain::AsTrained)?;
        if outputs.values().flat_map(|t| &t.data).any(|x| !x.is_finite()) {
            return Ok(None);
        }
        let objects = serde_json::to_string(&self.objects)
            .map_err(|e| Error::Failed(format!("cannot write the self-check: {e}")))?;
        let mut arrays = self.arrays.clone();
        for (name, tensor) in outputs {
            let array = Array::new(vec![tensor.data.len()], Data::F32(tensor.data))?;
            arrays.insert(format!("outputs.{name}"), array);
        }
        Ok(Some(SelfCheck { arrays, objects, chain: Chain::AsTrained }))
    }
}

/// Tokens of `spec`: numbers between -1 and 1 that depend on the name and the place alone.
fn made_up(name: &str, spec: &TokenSpec) -> Tokens {
    let len = spec.max_tokens.min(TOKENS);
    let number = |what: &str, k: usize| unit_hash(&format!("{name} {what} {k}"), 0);
    let numbers = |what: &str, count: usize| -> Vec<f32> {
        (0..count).map(|k| (2.0 * number(what, k) - 1.0) as f32).collect()
    };
    let mut tokens = Tokens { len, ..Tokens::default() };
    match spec.values {
        Values::Continuous { width } => tokens.values = numbers("value", len * width).into(),
        Values::Codes { vocabulary } => {
            let code = |k| (number("code", k) * vocabulary as f64) as u32;
            tokens.codes = (0..len).map(code).collect();
        }
    }
    match spec.positions {
        Positions::Index { max } => tokens.indices = (0..len.min(max) as u32).collect(),
        Positions::Continuous { width } => tokens.positions = numbers("position", len * width),
    }
    tokens
}

impl SelfCheck {
    /// Writes the file into the checkpoint's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut metadata = BTreeMap::from([
            (format::KEY.to_owned(), format::FORMAT.to_string()),
            ("objects".to_owned(), self.objects.clone()),
        ]);
        self.chain.put(&mut metadata);
        save_arrays(folder.join(FILE), &self.arrays, &metadata)
    }

    /// Reads the file of the checkpoint in `folder`.
    ///
    /// # Errors
    /// When it is damaged or of a newer format.
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        checksums::check(&path)?;
        let (arrays, mut metadata) = load_arrays(&path)?;
        format::of_metadata(&path, &metadata)?;
        let objects = metadata.remove("objects");
        let objects = objects.ok_or_else(|| Error::file(&path, "names no objects"))?;
        Ok(Self { arrays, objects, chain: Chain::of(&metadata) })
    }
}

/// Checks the checkpoint in `folder` against what it carries: its observations must become
/// its tokens under `modalities`, and the model in `session` must answer them as recorded.
///
/// # Errors
/// When they do not (says what differs, by how much, and what may be the cause), or when
/// the file is damaged.
pub(super) fn check(
    folder: &Path,
    modalities: &Modalities,
    session: &mut dyn Session,
) -> Result<()> {
    let path = folder.join(FILE);
    let broken = |e: String| Error::file(&path, format!("is damaged: {e}; copy it again"));
    let recorded = SelfCheck::read(folder)?;
    let objects: Vec<Object> =
        serde_json::from_str(&recorded.objects).map_err(|e| broken(plain::json_value(&e)))?;
    let specs = session.model().modalities.clone();
    let mut rows = Vec::new();
    for (k, object) in objects.iter().enumerate() {
        let row = recorded_row(&recorded.arrays, k, object, &specs).map_err(broken)?;
        if let Some(raw) = &object.raw {
            let observation = raw.get(&object.id, &format!("raw.{k}"), &recorded.arrays);
            let observation = observation.map_err(broken)?;
            let whole = (k, object, &recorded.arrays);
            check_tokens(&row, &observation, modalities, whole).map_err(|e| {
                refused(folder, &e, "observations are prepared otherwise than for the training")
            })?;
        }
        rows.push((object.id.clone(), row));
    }
    for (name, found) in answers(&rows, session, recorded.chain)? {
        let array = recorded.arrays.get(&format!("outputs.{name}"));
        let array = array.ok_or_else(|| broken(format!("it has no answers of {name}")))?;
        compare(&found.data, &array.data.to_f32(), &format!("the model's {name} outputs"))
            .map_err(|e| refused(folder, &e, "parameters or build are not what they were"))?;
    }
    Ok(())
}

fn refused(folder: &Path, what: &str, cause: &str) -> Error {
    Error::file(
        folder,
        format!(
            "fails its self-check: {what}, so {cause}; use the program it was written with, or \
             load it all the same with --no-self-check"
        ),
    )
}

/// The recorded tokens of object `k`.
fn recorded_row(
    arrays: &Arrays,
    k: usize,
    object: &Object,
    specs: &BTreeMap<String, TokenSpec>,
) -> std::result::Result<Row, String> {
    let span = |name: &String| {
        let spec = specs.get(name).ok_or_else(|| format!("the model has no modality {name}"))?;
        let key = format!("{k}.{name}");
        let values = arrays.get(&key).ok_or_else(|| format!("it has no array {key}"))?;
        let positions = arrays.get(&format!("{key}_positions"));
        Ok((name.clone(), tokens_from(name, spec, values, positions)?))
    };
    object.spans.iter().map(span).collect()
}

/// Compares what `modalities` make of `observation`, object `k`, with the recorded `row`, and
/// what lies behind that with its length and its sums.
fn check_tokens(
    row: &Row,
    observation: &Observation,
    modalities: &Modalities,
    (k, object, arrays): (usize, &Object, &Arrays),
) -> std::result::Result<(), String> {
    for (name, expected) in row {
        let modality =
            modalities.get(name).ok_or_else(|| format!("there is no modality {name}"))?;
        let found = modality.tokenise(observation).map_err(|e| e.to_string())?;
        let mut found = found.ok_or_else(|| format!("its object no longer has {name}"))?;
        let whole = (found.len, sums::sums(&found));
        found.truncate(TOKENS);
        if found.len != expected.len
            || found.codes != expected.codes
            || found.indices != expected.indices
        {
            return Err(format!("the {name} tokens of its object are others, or in other places"));
        }
        compare(&found.values, &expected.values, &format!("the {name} tokens of its object"))?;
        let what = format!("the {name} positions of its object");
        compare(&found.positions, &expected.positions, &what)?;
        if object.lengths.get(name).is_some_and(|&length| length != whole.0) {
            return Err(format!("its object makes {} {name} tokens, others before", whole.0));
        }
        let Some(recorded) = arrays.get(&format!("{k}.{name}_sums")) else { continue };
        let recorded = recorded.data.to_f32();
        for (found, recorded) in whole.1.iter().zip(recorded.chunks(sums::GROUPS)) {
            compare(found, recorded, &format!("sums over all {name} tokens of its object"))?;
        }
    }
    Ok(())
}

fn compare(found: &[f32], recorded: &[f32], what: &str) -> std::result::Result<(), String> {
    close(found, recorded, TOLERANCE, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Field, Labels};

    fn model() -> ModelConfig {
        let spec =
            |values, positions| TokenSpec { values, positions, loss_weight: 1.0, max_tokens: 500 };
        let modalities = BTreeMap::from([
            ("a".to_owned(), spec(Values::Codes { vocabulary: 7 }, Positions::Index { max: 500 })),
            (
                "b.c".to_owned(),
                spec(Values::Continuous { width: 3 }, Positions::Continuous { width: 2 }),
            ),
        ]);
        let tokeniser = crate::model::Tokeniser::Aim;
        ModelConfig {
            layers: 1,
            heads: 1,
            width: 8,
            tokeniser,
            modalities,
            mask_token: false,
            delimiters: false,
        }
    }

    #[test]
    fn made_up_tokens_are_such_as_the_model_reads() {
        let model = model();
        let made = |(name, spec): (&String, &TokenSpec)| (name.clone(), made_up(name, spec));
        let mut inputs = Inputs::empty(&model);
        inputs.push("x", None, model.modalities.iter().map(made).collect()).expect("pushed");
        let (_, row) = &inputs.rows[0];
        assert_eq!(row.len(), 2);
        for (name, tokens) in row {
            tokens.check(&model.modalities[name]).expect("fits");
        }
        let back = recorded_row(&inputs.arrays, 0, &inputs.objects[0], &model.modalities);
        assert_eq!(back.as_ref(), Ok(row));
        assert_eq!(inputs.uncovered(), ["a", "b.c"]);
    }

    #[test]
    fn an_observation_beyond_the_budget_is_left_out_and_its_tokens_stay() {
        let observation = |bytes: usize| {
            let array = Array::new(vec![bytes], Data::U8(vec![1; bytes])).expect("fits");
            let field = Field { array, unit: Some("adu".into()) };
            Observation {
                id: "o".into(),
                fields: BTreeMap::from([("image".to_owned(), field)]),
                labels: Labels::new(),
            }
        };
        let mut inputs = Inputs::empty(&model());
        let row = vec![("a".to_owned(), made_up("a", &model().modalities["a"]))];
        for (k, bytes) in [RAW_BYTES / 2, RAW_BYTES].into_iter().enumerate() {
            inputs.push("o", Some(&observation(bytes)), row.clone()).expect("pushed");
            assert_eq!(inputs.objects[k].raw.is_some(), k == 0);
            assert!(inputs.arrays.contains_key(&format!("{k}.a")));
        }
        let raw = inputs.objects[0].raw.clone().expect("recorded");
        assert_eq!(raw.get("o", "raw.0", &inputs.arrays), Ok(observation(RAW_BYTES / 2)));
        assert_eq!(inputs.uncovered(), ["b.c"]);
    }
}
