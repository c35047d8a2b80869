//! What a modality makes of an object that may be anything.

use super::{Build, Sample, bits, built, copies, tokenise};
use crate::observation::{Array, Field, Observation};
use crate::seam::Modality;
use crate::testkit::vary::{Random, made_up, varied};
use crate::testkit::{Check, calm, ensure};
use crate::tokens::Tokens;

/// Objects made up or changed at random per check.
const VARIANTS: usize = 300;

/// One answer to an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Tokens or features, bit by bit.
    Numbers(Vec<u32>),
    /// The object lacks the modality.
    Lacks,
    /// An error, which names the object.
    Refuses,
}

impl Made {
    pub(super) fn is_made(&self) -> bool {
        matches!(self, Self::Numbers(_))
    }

    /// How many numbers there are.
    fn len(&self) -> Option<usize> {
        match self {
            Self::Numbers(numbers) => Some(numbers.len()),
            Self::Lacks | Self::Refuses => None,
        }
    }
}

/// What is made of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// As [`bits`] says, the number of tokens first.
    pub(super) tokens: Made,
    /// As `raw_features` gives them.
    pub(super) features: Made,
}

impl Answer {
    /// How many tokens there are.
    fn len(&self) -> Option<u32> {
        match &self.tokens {
            Made::Numbers(bits) => bits.first().copied(),
            Made::Lacks | Made::Refuses => None,
        }
    }
}

/// What a modality makes of an object that may be anything: sound tokens that go back,
/// nothing, or an error that names the object; never a panic.
pub(super) fn check_answer(
    modality: &dyn Modality,
    observation: &Observation,
) -> Result<Answer, String> {
    let named = |error: crate::Error| {
        let text = error.to_string();
        ensure(text.contains(&observation.id), || {
            format!("its error does not name the object {:?}: {text}", observation.id)
        })
    };
    let features = match calm("raw_features", || modality.raw_features(observation))? {
        Ok(Some(features)) => {
            ensure(features.iter().all(|x| x.is_finite()), || {
                "raw_features holds a number that is not finite".to_owned()
            })?;
            Made::Numbers(features.iter().map(|x| x.to_bits()).collect())
        }
        Ok(None) => Made::Lacks,
        Err(error) => named(error).map(|()| Made::Refuses)?,
    };
    let tokens = match tokenise(modality, observation)? {
        Ok(Some(tokens)) => {
            check_made(modality, &tokens)?;
            Made::Numbers(bits(&tokens))
        }
        Ok(None) => Made::Lacks,
        Err(error) => named(error).map(|()| Made::Refuses)?,
    };
    Ok(Answer { tokens, features })
}

/// Tokens that the modality made are sound and go back.
fn check_made(modality: &dyn Modality, tokens: &Tokens) -> Check {
    tokens
        .check(&modality.spec())
        .map_err(|e| format!("it makes tokens that are not as spec() says: {e}"))?;
    let lost = tokens
        .affine
        .iter()
        .find(|[offset, scale]| !(offset.is_finite() && scale.is_finite() && *scale != 0.0));
    ensure(lost.is_none(), || format!("it makes an affine that cannot be undone: {lost:?}"))?;
    let back = |what, result: crate::Result<()>| {
        result.map_err(|e| format!("{what} refuses tokens that the modality made: {e}"))
    };
    back("detokenise", calm("detokenise", || modality.detokenise(tokens).map(drop))?)?;
    back("reconstruct", calm("reconstruct", || modality.reconstruct(tokens).map(drop))?)?;
    back("preview", calm("preview", || modality.preview(tokens).map(drop))?)?;
    let dead = calm("dead_part", || modality.dead_part(tokens))?;
    ensure(dead.is_none_or(|words| !words.trim().is_empty()), || {
        "dead_part says nothing of the part that it found".to_owned()
    })
}

/// An object that has the array does not lack the modality, unless the sample says that it may,
/// and its features are as many as the sample's.
pub(super) fn check_present(
    sample: &Sample<'_>,
    of_sample: &Answer,
    observation: &Observation,
    answer: &Answer,
) -> Check {
    let (features, expected) = (answer.features.len(), of_sample.features.len());
    if let (Some(found), Some(expected)) = (features, expected) {
        ensure(found == expected, || {
            format!("raw_features gives {found} numbers, and {expected} of the sample")
        })?;
    }
    let has_features = of_sample.features.is_made();
    ensure(!(has_features && answer.tokens.is_made() && answer.features == Made::Lacks), || {
        "raw_features gives nothing of an object that has tokens".to_owned()
    })?;
    if sample.may_lack || !observation.fields.contains_key(sample.field) {
        return Ok(());
    }
    let name = sample.field;
    ensure(answer.tokens != Made::Lacks, || {
        format!(
            "tokenise takes it to lack the modality, though {name:?} is there; an error is asked \
             for, or `may_lack` in the sample"
        )
    })?;
    ensure(!has_features || answer.features != Made::Lacks, || {
        format!("raw_features gives nothing, though {name:?} is there; an error is asked for")
    })
}

/// Objects of any content under the names that the configuration holds.
pub(super) fn check_made_up(modality: &dyn Modality, names: &[String]) -> Check {
    let mut random = Random::new(1);
    for _ in 0..VARIANTS {
        let observation = made_up(names, &mut random);
        check_answer(modality, &observation)
            .map_err(|message| format!("{message}; the object was {}", sketch(&observation)))?;
    }
    Ok(())
}

/// The sample, the sample changed at random, and copies with other numbers. Then the same objects
/// in the opposite order, by a modality that has seen none: neither what came before an object nor
/// what came first must matter.
pub(super) fn check_varied(
    modality: &dyn Modality,
    build: &Build<'_>,
    sample: &Sample<'_>,
) -> Check {
    let mut random = Random::new(2);
    let mut objects = vec![("nothing changed".to_owned(), sample.observation.clone())];
    objects.extend((0..VARIANTS).map(|_| varied(&sample.observation, &mut random)));
    objects.extend(copies(sample).map(|(what, copy)| (what.to_owned(), copy)));
    let of_sample = check_answer(modality, &sample.observation)?;
    let even = modality.is_even();
    let mut answers = Vec::new();
    for (what, observation) in &objects {
        let context = |message: String| {
            format!("with {what}, {message}; the object was {}", sketch(observation))
        };
        let answer = check_answer(modality, observation).map_err(context)?;
        check_present(sample, &of_sample, observation, &answer).map_err(context)?;
        ensure(!even || answer.len().is_none() || answer.len() == of_sample.len(), || {
            context(uneven(answer.len().unwrap_or(0) as usize, "an object"))
        })?;
        answers.push(answer);
    }
    let other = built(build)?;
    for ((_, observation), answer) in objects.iter().zip(&answers).rev() {
        let again = check_answer(&*other, observation)?;
        ensure(again == *answer, || {
            format!(
                "objects in another order give other tokens or features: those of one depend on \
                 what came before; the object was {}",
                sketch(observation)
            )
        })?;
    }
    Ok(())
}

/// What is wrong where `what` has another number of tokens than the sample.
pub(super) fn uneven(tokens: usize, what: &str) -> String {
    format!("is_even() says that all spans are of one length, but {what} has {tokens} tokens")
}

/// Every text in a configuration, as a name that a field or label might have.
pub(super) fn names(json: &serde_json::Value) -> Vec<String> {
    match json {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(all) => all.iter().flat_map(names).collect(),
        serde_json::Value::Object(all) => all.values().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

/// An object in one line: shapes, types and first numbers.
fn sketch(observation: &Observation) -> String {
    let field = |(name, field): (&String, &Field)| {
        let Array { shape, data } = &field.array;
        let first: Vec<f64> = data.to_f64().iter().copied().take(4).collect();
        format!("{name:?} {shape:?} starting {first:?}")
    };
    let fields: Vec<_> = observation.fields.iter().map(field).collect();
    format!("{} with labels {:?}", fields.join(", "), observation.labels)
}
