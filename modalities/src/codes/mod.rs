//! The modality `codes`: integers of a declared vocabulary become tokens as they are.
//!
//! ```text
//! codes [n], each 0 .. vocabulary - 1 -> tokens [n], embedded by a learned table,
//!                                        predicted as logits under the cross-entropy
//! ```
//!
//! The integers are the output of a discrete tokeniser (vector-quantised images, AION's
//! tokens), or classes. They come from one field of any shape, read row by row, or from
//! several labels in a listed order, as integers or as texts of a listed choice of words. An
//! integer outside the vocabulary is an error that names
//! the object: it has no row in the table, and nothing could stand for it.
//!
//! [`Modality::detokenise`] returns the integers; a model's logits become codes before, by
//! choosing one.

mod config;

pub use config::{CodesConfig, OtherWords};

use astropt_core::observation::{Array, Data, Label, Observation};
use astropt_core::seam::Modality;
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};

use crate::fields;

/// Largest vocabulary whose codes a probe gets counted.
const MAX_COUNTED: usize = 4096;

/// Codes of an example, where their number is free.
const EXAMPLE_CODES: usize = 64;

/// The tokeniser that [`CodesConfig`] builds.
#[derive(Debug)]
pub struct Codes {
    config: CodesConfig,
    spec: TokenSpec,
}

impl Codes {
    /// The tokeniser of a configuration that [`CodesConfig`] has checked.
    fn new(config: CodesConfig) -> Self {
        let max_tokens = config.max_tokens();
        let spec = TokenSpec {
            values: Values::Codes { vocabulary: config.vocabulary() },
            positions: Positions::Index { max: config.position_rows.unwrap_or(max_tokens) },
            loss_weight: config.loss_weight,
            max_tokens,
        };
        Self { config, spec }
    }

    /// The codes of `observation`, checked; `None` when it has none.
    fn read(&self, observation: &Observation) -> Result<Option<Vec<u32>>> {
        match &self.config.labels {
            Some(labels) => self.read_labels(observation, labels),
            None => self.read_field(observation),
        }
    }

    fn read_field(&self, observation: &Observation) -> Result<Option<Vec<u32>>> {
        let name = &self.config.field;
        let refuse = |message: String| Err(fields::refuse(observation, name, message));
        let Some(field) = observation.fields.get(name) else { return Ok(None) };
        match &self.config.shape {
            None => {
                fields::series(observation, name)?;
            }
            // Sources of images give a map of two axes a third, of its one band.
            Some(shape) if !same_shape(shape, &field.array.shape) => {
                let found = &field.array.shape;
                return refuse(format!("has shape {found:?}, not the `shape` {shape:?}"));
            }
            Some(_) => {}
        }
        let data = &field.array.data;
        let (found, most) = (data.len(), self.spec.max_tokens);
        if found > most {
            return refuse(format!("has {found} codes, more than `max_tokens`, {most}; raise it"));
        }
        if self.config.shape.is_some() && found != most {
            return refuse(format!("says {most} codes but holds {found}"));
        }
        let code = |(i, code): (usize, &Option<i64>)| {
            self.code(*code).ok_or_else(|| {
                let found = data.to_f64()[i];
                fields::refuse(
                    observation,
                    name,
                    format!("has {found} at place {i}{}", self.range()),
                )
            })
        };
        fields::integers(data).iter().enumerate().map(code).collect::<Result<_>>().map(Some)
    }

    fn read_labels(&self, observation: &Observation, names: &[String]) -> Result<Option<Vec<u32>>> {
        let mut codes = Vec::with_capacity(names.len());
        for name in names {
            // One that is not known leaves no sequence to learn from.
            let Some(label) = observation.labels.get(name) else { return Ok(None) };
            let code = match &self.config.words {
                None => self.code(label.number().and_then(fields::integer)),
                Some(words) => match word(words, label) {
                    None if self.config.other_words == OtherWords::Absent => return Ok(None),
                    code => code,
                },
            };
            codes.push(code.ok_or_else(|| {
                let found = match label {
                    Label::Text(text) => format!("{text:?}"),
                    Label::Number(x) => x.to_string(),
                };
                let range = self.range();
                Error::object(&observation.id, format!("label {name:?} is {found}{range}"))
            })?);
        }
        Ok(Some(codes))
    }

    /// The integer as a code of the vocabulary.
    fn code(&self, code: Option<i64>) -> Option<u32> {
        let code = u32::try_from(code?).ok()?;
        ((code as usize) < self.config.vocabulary()).then_some(code)
    }

    /// The end of an error about a code.
    fn range(&self) -> String {
        if self.config.words.is_some() {
            return ", which is not among `words`: list it there, or let such objects lack the \
                    modality with `other_words = \"absent\"`"
                .to_owned();
        }
        format!(
            "; codes are integers from 0 to {}: mend the codes, or raise `vocabulary`",
            self.config.vocabulary().saturating_sub(1)
        )
    }

    /// A code as a label.
    fn label(&self, code: f64) -> Label {
        let words = self.config.words.iter().flatten();
        match words.zip(0u32..).find(|(_, k)| f64::from(*k) == code) {
            Some((word, _)) => Label::Text(word.clone()),
            None => Label::Number(code),
        }
    }
}

/// Whether an array is of this shape, but for a last axis of one.
fn same_shape(shape: &[usize], found: &[usize]) -> bool {
    found == shape || (found.len() > 1 && found.strip_suffix(&[1]) == Some(shape))
}

/// The place of a label among `words`; a number is the text that tables write it as.
fn word(words: &[String], label: &Label) -> Option<u32> {
    let is = |word: &&String| match label {
        Label::Text(text) => *word == text,
        Label::Number(number) => **word == number.to_string(),
    };
    let place = words.iter().position(|word| is(&word))?;
    u32::try_from(place).ok()
}

impl Modality for Codes {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn choices(&self) -> Vec<(String, String)> {
        vec![("Vocabulary".to_owned(), format!("{} codes", self.config.vocabulary()))]
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let codes = self.read(observation)?;
        Ok(codes.map(|codes| Tokens {
            len: codes.len(),
            indices: (0..codes.len() as u32).collect(),
            codes,
            ..Tokens::default()
        }))
    }

    /// The integers, in the declared shape or `[n]`.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec)?;
        let shape = self.config.shape.clone().unwrap_or_else(|| vec![tokens.len]);
        let codes = tokens.codes.iter().map(|&code| code.into()).collect();
        Array::new(shape, Data::I64(codes))
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let array = self.detokenise(tokens)?;
        let mut observation = Observation::default();
        match &self.config.labels {
            Some(names) => {
                let numbers = array.data.to_f64();
                let pairs = names.iter().zip(numbers.iter());
                observation.labels =
                    pairs.map(|(name, &x)| (name.clone(), self.label(x))).collect();
            }
            None => {
                let field = astropt_core::observation::Field { array, unit: None };
                observation.fields.insert(self.config.field.clone(), field);
            }
        }
        Ok(Some(observation))
    }

    fn is_even(&self) -> bool {
        self.config.labels.is_some() || self.config.shape.is_some()
    }

    /// As many tokens as `shape` or `labels` say.
    fn blank(&self) -> Option<Tokens> {
        let len = self.is_even().then_some(self.spec.max_tokens)?;
        let indices = (0..len as u32).collect();
        Some(Tokens { len, codes: vec![0; len], indices, ..Tokens::default() })
    }

    /// Codes all over the vocabulary.
    fn example(&self) -> Option<Observation> {
        let most = EXAMPLE_CODES.min(self.spec.max_tokens);
        let count = if self.config.shape.is_some() { self.spec.max_tokens } else { most };
        let count = self.config.labels.as_ref().map_or(count, Vec::len);
        let code = |k: usize| (k.wrapping_mul(2_654_435_761) % self.config.vocabulary()) as u32;
        let codes: Vec<u32> = (0..count).map(code).collect();
        let tokens =
            Tokens { len: count, indices: (0..count as u32).collect(), codes, ..Tokens::default() };
        let observation = self.reconstruct(&tokens).ok()??;
        Some(Observation { id: fields::example().id, ..observation })
    }

    /// The share of each code, `[vocabulary]`; none for vocabularies beyond 4,096.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        if self.config.vocabulary() > MAX_COUNTED {
            return Ok(None);
        }
        let Some(codes) = self.read(observation)? else { return Ok(None) };
        let mut shares = vec![0.0; self.config.vocabulary()];
        for &code in &codes {
            shares[code as usize] += 1.0 / codes.len() as f32;
        }
        Ok(Some(shares))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astropt_core::observation::Field;
    use astropt_core::seam::ModalityConfig;

    fn codes(table: &str) -> Box<dyn Modality> {
        let config: CodesConfig = toml::from_str(table).expect("a valid table");
        config.build().expect("a sound configuration")
    }

    fn object(shape: &[usize], data: Data) -> Observation {
        let field = Field { array: Array { shape: shape.to_vec(), data }, unit: None };
        Observation {
            id: "J1".into(),
            fields: [("codes".to_owned(), field)].into(),
            labels: [("class".to_owned(), Label::Number(2.0))].into(),
        }
    }

    #[test]
    fn integers_of_any_type_are_codes() {
        let modality = codes("vocabulary = 23\nmax_tokens = 20");
        for data in
            [Data::U8(vec![0, 22, 7]), Data::F32(vec![0.0, 22.0, 7.0]), Data::I64(vec![0, 22, 7])]
        {
            let tokens = modality.tokenise(&object(&[3], data)).expect("sound").expect("codes");
            assert_eq!(
                (tokens.codes.as_slice(), tokens.indices.as_slice()),
                ([0, 22, 7].as_slice(), [0, 1, 2].as_slice())
            );
            assert_eq!(
                modality.detokenise(&tokens).expect("codes").data,
                Data::I64(vec![0, 22, 7])
            );
        }
    }

    #[test]
    fn a_code_outside_the_vocabulary_is_named() {
        let modality = codes("vocabulary = 23\nmax_tokens = 20");
        for (data, value) in [
            (Data::I64(vec![0, 23]), "23 at place 1"),
            (Data::I64(vec![-1, 2]), "-1 at place 0"),
            (Data::F32(vec![0.5, 2.0]), "0.5 at place 0"),
            (Data::F64(vec![0.0, f64::NAN]), "NaN at place 1"),
        ] {
            let error = modality.tokenise(&object(&[2], data)).expect_err(value).to_string();
            assert!(error.contains("J1") && error.contains(value), "{error}");
        }
        let error = modality.tokenise(&object(&[21], Data::U8(vec![1; 21]))).expect_err("too many");
        assert!(error.to_string().contains("`max_tokens`"), "{error}");
    }

    #[test]
    fn a_declared_shape_is_read_row_by_row_and_given_back() {
        let modality = codes("vocabulary = 9\nshape = [2, 3]");
        let grid = object(&[2, 3], Data::U8(vec![1, 2, 3, 4, 5, 6]));
        let tokens = modality.tokenise(&grid).expect("sound").expect("codes");
        assert_eq!(tokens.codes, [1, 2, 3, 4, 5, 6]);
        assert_eq!(modality.detokenise(&tokens).expect("a grid").shape, [2, 3]);
        assert!(modality.tokenise(&object(&[3, 2], Data::U8(vec![0; 6]))).is_err());
        let band = object(&[2, 3, 1], Data::U8(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(modality.tokenise(&band).expect("sound").expect("codes").codes, tokens.codes);
        assert!(modality.tokenise(&object(&[1, 2, 3], Data::U8(vec![0; 6]))).is_err());
        let lying = object(&[2, 3], Data::U8(vec![0; 5]));
        assert!(modality.tokenise(&lying).is_err());
        let mut short = tokens;
        short.truncate(4);
        assert!(modality.detokenise(&short).is_err());
    }

    #[test]
    fn labels_are_codes_in_their_listed_order() {
        let modality = codes("vocabulary = 3\nlabels = ['class']");
        let object = object(&[1], Data::U8(vec![0]));
        assert_eq!(modality.tokenise(&object).expect("sound").expect("a class").codes, [2]);
        let error = codes("vocabulary = 2\nlabels = ['class']").tokenise(&object);
        let error = error.expect_err("out of range").to_string();
        assert!(error.contains("J1") && error.contains("\"class\" is 2"), "{error}");
        assert_eq!(codes("vocabulary = 2\nlabels = ['a']").tokenise(&object).expect("sound"), None);
    }
    #[test]
    fn texts_are_codes_by_their_place_among_the_words() {
        let table = "words = ['SN', 'CV', '3']\nlabels = ['class']";
        let with = |label: Label| Observation {
            id: "J1".into(),
            labels: [("class".to_owned(), label)].into(),
            ..Observation::default()
        };
        let modality = codes(table);
        for (label, code) in
            [(Label::Text("SN".into()), 0), (Label::Text("CV".into()), 1), (Label::Number(3.0), 2)]
        {
            let tokens = modality.tokenise(&with(label)).expect("sound").expect("a class");
            assert_eq!(tokens.codes, [code]);
            let back = modality.reconstruct(&tokens).expect("sound").expect("labels");
            assert_eq!(back.labels["class"], Label::Text(["SN", "CV", "3"][code as usize].into()));
        }
        let other = with(Label::Text("Mira".into()));
        let error = modality.tokenise(&other).expect_err("no such word").to_string();
        assert!(error.contains("J1") && error.contains("\"Mira\""), "{error}");
        let lenient = codes(&format!("{table}\nother_words = 'absent'"));
        assert_eq!(lenient.tokenise(&other).expect("sound"), None);
    }
}
