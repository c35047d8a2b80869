//! The modality `scalar`: numbers of a catalogue become one token.
//!
//! ```text
//! columns x_1 .. x_c -> transform -> (y - mean) / std -> one token [1, c]
//! ```
//!
//! A column is a label of the object (redshift, Teff, [Fe/H]) or, where it has no label of
//! that name, a field of one number. Transforms and their constants are stated in the recipe,
//! never measured on the sample, so that a token means the same in every run and
//! [`Modality::detokenise`] needs nothing else. Means and deviations are those of the
//! transformed numbers: with `transform = "log10"` both are in dex.
//!
//! A value that is not known is simply absent: the object then has no span of this
//! modality. Several columns in one token are known or absent together, unless `missing`
//! says otherwise; for columns that come and go on their own, use one modality each. What a
//! catalogue writes for an unknown value, such as -999, is a number like others unless the column
//! says which are `valid`; one that looks like it is warned of. So is a column that no object has
//! where `missing = "mean"` goes on without.

mod config;

pub use config::{Column, Missing, OutOfDomain, ScalarConfig, Transform};

use std::sync::atomic::{AtomicBool, Ordering};

use astropt_core::observation::{Array, Data, Label, LabelUnits, Observation};
use astropt_core::seam::Modality;
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result, progress};

use crate::fields::check_unit;
use crate::marks::Marks;

/// The tokeniser that [`ScalarConfig`] builds.
#[derive(Debug)]
pub struct Scalar {
    config: ScalarConfig,
    spec: TokenSpec,
    seen: Vec<Seen>,
}

/// What was seen of a column.
#[derive(Debug, Default)]
struct Seen {
    /// Whether an object had it.
    known: AtomicBool,
    marks: Marks,
}

impl Scalar {
    /// The tokeniser of a configuration that [`ScalarConfig`] has checked.
    fn new(config: ScalarConfig) -> Self {
        let spec = TokenSpec {
            values: Values::Continuous { width: config.columns.len() },
            positions: Positions::Index { max: config.position_rows },
            loss_weight: config.loss_weight,
            max_tokens: 1,
        };
        let seen = config.columns.iter().map(|_| Seen::default()).collect();
        Self { config, spec, seen }
    }

    /// The token's numbers; `None` when the object lacks the modality.
    fn numbers(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let columns = &self.config.columns;
        let found: Vec<Option<f32>> = columns
            .iter()
            .zip(&self.seen)
            .map(|(column, seen)| self.number(observation, column, seen))
            .collect::<Result<_>>()?;
        let missing = found.iter().position(Option::is_none);
        let Some(missing) = missing else { return Ok(Some(found.into_iter().flatten().collect())) };
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        match self.config.missing {
            Missing::Absent => Ok(None),
            Missing::Mean => Ok(Some(found.into_iter().map(Option::unwrap_or_default).collect())),
            Missing::Refuse => Err(Error::object(
                &observation.id,
                format!(
                    "no value of {:?}, while other columns have one; choose what becomes of such \
                     objects with `missing`",
                    columns[missing].name
                ),
            )),
        }
    }

    /// The transformed number of one column; `None` when it is missing.
    fn number(
        &self,
        observation: &Observation,
        column: &Column,
        seen: &Seen,
    ) -> Result<Option<f32>> {
        let Some(x) = value(observation, column)?.filter(|&x| column.knows(x)) else {
            return Ok(None);
        };
        if column.valid.is_none()
            && let Some(mark) = seen.marks.note(&observation.id, [x], true)
        {
            progress::warn(&looks_unknown(observation, &column.name, mark));
        }
        let y = column.transform.apply(x).map(|y| column.affine().apply(y) as f32);
        if let Some(y) = y.filter(|y| y.is_finite()) {
            if !seen.known.load(Ordering::Relaxed) {
                seen.known.store(true, Ordering::Relaxed);
            }
            return Ok(Some(y));
        }
        match self.config.out_of_domain {
            OutOfDomain::Missing => Ok(None),
            OutOfDomain::Refuse => Err(Error::object(
                &observation.id,
                format!(
                    "{:?} is {x}, which its transform cannot take; use another transform, or \
                     `out_of_domain = \"missing\"`",
                    column.name
                ),
            )),
        }
    }
}

/// That a number looks like a catalogue's word for "unknown", and is read as a number.
fn looks_unknown(observation: &Observation, column: &str, x: f64) -> String {
    format!(
        "{}: {column:?} is {x}, as catalogues write what they do not know; it is read as a number. \
         Say which are known, valid = {{ min = … }} or valid = {{ max = … }} beside the column's \
         name, or that all are, valid = {{}}",
        observation.id
    )
}

/// The label, or else the field of one number, of this column's name. Units of labels were compared
/// when the data were opened.
fn value(observation: &Observation, column: &Column) -> Result<Option<f64>> {
    let name = column.name.as_str();
    let refuse = |message: String| Err(Error::object(&observation.id, message));
    match observation.labels.get(name) {
        Some(Label::Number(x)) => return Ok(Some(*x)),
        // An integer with more digits than a double keeps; as a measurement it loses nothing.
        Some(Label::Text(text))
            if text.parse().is_ok_and(|whole| Label::integer(whole).number().is_none()) =>
        {
            return Ok(text.parse().ok());
        }
        Some(Label::Text(text)) => {
            return refuse(format!(
                "the label {name:?} is the text {text:?}; a scalar is a number"
            ));
        }
        None => {}
    }
    let Some(field) = observation.fields.get(name) else { return Ok(None) };
    check_unit(observation, name, column.unit.as_deref())?;
    let (shape, data) = (&field.array.shape, &field.array.data);
    match (data.to_f64().as_ref(), &shape[..]) {
        // How tables and FITS headers say that a number is not known.
        ([x], [] | [1]) => Ok((!x.is_nan()).then_some(*x)),
        _ => refuse(format!(
            "field {name:?} has shape {shape:?} and {} numbers; a scalar is one number",
            data.len()
        )),
    }
}

impl Modality for Scalar {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    /// Columns without a number, each of which then is its mean throughout.
    fn unseen(&self) -> Vec<(String, String)> {
        if self.config.missing != Missing::Mean {
            return Vec::new();
        }
        let columns = self.config.columns.iter().zip(&self.seen);
        let unseen = columns.filter(|(_, seen)| !seen.known.load(Ordering::Relaxed));
        let what = |name: &String| format!("a known number of {name:?}, which becomes its mean");
        unseen.map(|(column, _)| (column.name.clone(), what(&column.name))).collect()
    }

    fn label_units(&self) -> LabelUnits {
        let columns = self.config.columns.iter();
        columns.filter_map(|column| Some((column.name.clone(), column.unit.clone()?))).collect()
    }

    fn choices(&self) -> Vec<(String, String)> {
        let describe = |column: &Column| {
            let inner = match column.transform {
                Transform::None => "x".to_owned(),
                Transform::Log10 => "log10(x)".to_owned(),
                Transform::Asinh(softening) => format!("asinh(x / {softening})"),
            };
            let mut choice = format!("({inner} - {}) / {}", column.mean, column.std);
            let ends = column.valid.map(|valid| (valid.min, valid.max));
            choice += &match ends {
                Some((Some(min), Some(max))) => format!("; x known from {min} to {max}"),
                Some((Some(min), None)) => format!("; x known from {min}"),
                Some((None, Some(max))) => format!("; x known to {max}"),
                _ => String::new(),
            };
            (format!("Transform of {}", column.name), choice)
        };
        self.config.columns.iter().map(describe).collect()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let values = self.numbers(observation)?;
        Ok(values.map(|values| Tokens {
            len: 1,
            values: values.into(),
            indices: vec![0],
            ..Tokens::default()
        }))
    }

    /// The columns `[columns]` in the catalogue's units.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec)?;
        let pairs = tokens.values.iter().zip(&self.config.columns);
        let numbers: Vec<f64> = pairs
            .map(|(&y, column)| column.transform.undo(column.affine().undo(y.into())))
            .collect();
        Array::new(vec![numbers.len()], Data::F64(numbers))
    }

    /// The columns as labels.
    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let numbers = self.detokenise(tokens)?;
        let labels = self
            .config
            .columns
            .iter()
            .zip(numbers.data.to_f64().iter())
            .map(|(column, &x)| (column.name.clone(), Label::Number(x)))
            .collect();
        Ok(Some(Observation { labels, ..Observation::default() }))
    }

    /// Known numbers within a deviation of each column's mean, where there are such.
    fn example(&self) -> Option<Observation> {
        let number = |(k, column): (usize, &Column)| {
            let y = (k % 3) as f64 / 2.0 - 0.5;
            let x = column.transform.undo(column.affine().undo(y));
            (column.name.clone(), Label::Number(column.nearest(x)))
        };
        let labels = self.config.columns.iter().enumerate().map(number).collect();
        Some(Observation { labels, ..crate::fields::example() })
    }

    fn is_even(&self) -> bool {
        true
    }

    /// One token.
    fn blank(&self) -> Option<Tokens> {
        let values = vec![0.0; self.config.columns.len()].into();
        Some(Tokens { len: 1, values, indices: vec![0], ..Tokens::default() })
    }

    /// The token itself.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        self.numbers(observation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astropt_core::seam::ModalityConfig;

    fn scalar(table: &str) -> Box<dyn Modality> {
        let config: ScalarConfig = toml::from_str(table).expect("a valid table");
        config.build().expect("a sound configuration")
    }

    fn star(labels: &[(&str, f64)]) -> Observation {
        let labels = labels.iter().map(|&(name, x)| (name.to_owned(), Label::Number(x)));
        Observation { id: "HD 1".into(), labels: labels.collect(), ..Observation::default() }
    }

    const STAR: &str = "columns = [
        { name = 'Teff', transform = 'log10', mean = 3.5, std = 0.25 },
        { name = 'feh', transform = { asinh = 0.5 } },
    ]";

    #[test]
    fn numbers_are_those_of_the_formula_and_come_back() {
        let modality = scalar(STAR);
        let tokens = modality.tokenise(&star(&[("Teff", 1e4), ("feh", -0.5)])).expect("sound");
        let tokens = tokens.expect("a star");
        assert_eq!(tokens.values, [2.0, -(1f64.asinh()) as f32]);
        let back = modality.reconstruct(&tokens).expect("sound").expect("labels");
        let number = |name| back.labels.get(name).and_then(Label::number).expect("a number");
        assert!((number("Teff") - 1e4).abs() < 1e-2 && (number("feh") + 0.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_missing_follows_the_recipe() {
        let some = star(&[("feh", -0.5)]);
        assert_eq!(scalar(STAR).tokenise(&some).expect("sound"), None);
        let with = |line: &str| scalar(&format!("{line}\n{STAR}"));
        let error = with("missing = 'refuse'").tokenise(&some).expect_err("missing").to_string();
        assert!(error.contains("HD 1") && error.contains("\"Teff\""), "{error}");
        let filled = with("missing = 'mean'").tokenise(&some).expect("sound").expect("a star");
        assert_eq!(filled.values[0], 0.0);
        // Who has none of the columns lacks the modality, whatever the recipe says.
        assert_eq!(with("missing = 'refuse'").tokenise(&star(&[])).expect("sound"), None);
    }

    #[test]
    fn a_logarithm_of_nothing_follows_the_recipe() {
        let cold = star(&[("feh", -0.5), ("Teff", -1.0)]);
        let error = scalar(STAR).tokenise(&cold).expect_err("negative").to_string();
        assert!(error.contains("HD 1") && error.contains("-1"), "{error}");
        let lenient = scalar(&format!("out_of_domain = 'missing'\n{STAR}"));
        assert_eq!(lenient.tokenise(&cold).expect("sound"), None);
    }

    #[test]
    fn a_number_outside_the_known_ones_is_missing() {
        let columns = "columns = [
            { name = 'p', valid = { min = 0.0, max = 1.0 } },
            { name = 'm', mean = 20.0, valid = { min = 25.0 } },
        ]";
        let tokens = |labels: &[(&str, f64)], missing: &str| {
            let modality = scalar(&format!("missing = '{missing}'\n{columns}"));
            modality.tokenise(&star(labels)).expect("sound")
        };
        assert_eq!(tokens(&[("p", -999.0), ("m", 26.0)], "absent"), None);
        let filled = tokens(&[("p", -999.0), ("m", 26.0)], "mean").expect("one is known");
        assert_eq!(filled.values, [0.0, 6.0]);
        for edge in [0.0, 1.0] {
            assert!(tokens(&[("p", edge), ("m", 25.0)], "absent").is_some());
        }
        assert_eq!(tokens(&[("p", 1.5), ("m", 24.0)], "mean"), None, "none is known");
        let modality = scalar(columns);
        let example = modality.example().expect("an example");
        assert!(modality.tokenise(&example).expect("sound").is_some(), "{example:?}");
        let choices = modality.choices();
        assert!(choices[0].1.ends_with("; x known from 0 to 1"), "{choices:?}");
        assert!(choices[1].1.ends_with("; x known from 25"), "{choices:?}");
        // Where nothing is said, a mark is a number.
        let plain = scalar("columns = ['p']").tokenise(&star(&[("p", -999.0)])).expect("sound");
        assert_eq!(plain.expect("a token").values, [-999.0]);
    }

    #[test]
    fn a_column_that_no_object_has_is_told() {
        let columns = "columns = ['z', 'zz', { name = 'm', valid = { max = 30.0 } }]";
        let names = |modality: &dyn Modality| -> Vec<String> {
            modality.unseen().into_iter().map(|(name, _)| name).collect()
        };
        let modality = scalar(&format!("missing = 'mean'\n{columns}"));
        for z in [0.1, 0.2] {
            modality.tokenise(&star(&[("z", z), ("m", 99.0)])).expect("sound").expect("a token");
        }
        assert_eq!(names(modality.as_ref()), ["zz", "m"]);
        modality.tokenise(&star(&[("z", 0.1), ("m", 20.0)])).expect("sound").expect("a token");
        assert_eq!(names(modality.as_ref()), ["zz"]);
        assert!(modality.unseen()[0].1.contains("\"zz\""));
        // Elsewhere no token is made without.
        let strict = scalar(columns);
        strict.tokenise(&star(&[("z", 0.1)])).expect("sound");
        assert!(strict.unseen().is_empty());
    }

    #[test]
    fn a_blank_token_is_each_columns_mean() {
        let modality = scalar(STAR);
        let blank = modality.blank().expect("one token");
        let means = modality.detokenise(&blank).expect("sound").data.to_f64().into_owned();
        assert!((means[0] - 10f64.powf(3.5)).abs() < 1e-9 && means[1] == 0.0, "{means:?}");
    }

    #[test]
    fn a_text_is_no_number() {
        let mut star = star(&[("feh", -0.5)]);
        star.labels.insert("Teff".into(), Label::Text("hot".into()));
        let error = scalar(STAR).tokenise(&star).expect_err("a text").to_string();
        assert!(error.contains("\"hot\""), "{error}");
        star.labels.insert("Teff".into(), Label::integer(10i128.pow(18)));
        let tokens = scalar(STAR).tokenise(&star).expect("sound").expect("a star");
        assert_eq!(tokens.values[0], 58.0);
    }
}
