//! The conformance kit finds what is wrong: a sound modality with one fault each.

use std::sync::atomic::{AtomicUsize, Ordering};

use astropt_core::observation::{Array, Data, Observation};
use astropt_core::seam::Modality;
use astropt_core::testkit::modality::{Sample, check_modality};
use astropt_core::tokens::{TokenSpec, Tokens};
use astropt_core::{Error, Result};

use crate::fixtures::{columns, modality};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    PanicsAtNan,
    NamesNoObject,
    RemembersTheLastObject,
    FeaturesOfAnyLength,
    ForgetsTheFirstSample,
    ScaleOfZero,
    RefusesItsOwnTokens,
}

struct Faulty {
    sound: Box<dyn Modality>,
    fault: Fault,
    last: AtomicUsize,
}

fn numbers(observation: &Observation) -> Vec<f64> {
    let field = observation.fields.get("value");
    field.map(|field| field.array.data.to_f64().into_owned()).unwrap_or_default()
}

impl Modality for Faulty {
    fn spec(&self) -> TokenSpec {
        self.sound.spec()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let numbers = numbers(observation);
        if self.fault == Fault::PanicsAtNan {
            assert!(!numbers.iter().any(|x| x.is_nan()), "never seen a NaN");
        }
        let tokens = self.sound.tokenise(observation);
        if self.fault == Fault::NamesNoObject && tokens.is_err() {
            return Err(Error::Failed("something is wrong".to_owned()));
        }
        let mut tokens = tokens?;
        let last = self.last.swap(numbers.len(), Ordering::Relaxed);
        if let Some(tokens) = &mut tokens {
            match self.fault {
                // The same object again and again looks sound.
                Fault::RemembersTheLastObject if last < numbers.len() => tokens.values[0] += 1.0,
                Fault::ScaleOfZero => tokens.affine = vec![[0.0, 0.0]; tokens.len],
                _ => {}
            }
        }
        Ok(tokens)
    }

    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        if self.fault == Fault::RefusesItsOwnTokens && tokens.len < 5 {
            return Err(Error::Failed("too few".to_owned()));
        }
        self.sound.detokenise(tokens)
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let mut found = self.sound.reconstruct(tokens)?;
        let field = found.as_mut().and_then(|found| found.fields.get_mut("value"));
        if let (Fault::ForgetsTheFirstSample, Some(field)) = (self.fault, field)
            && let Data::F32(numbers) = &mut field.array.data
        {
            numbers[0] = 0.0;
        }
        Ok(found)
    }

    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        if self.fault != Fault::FeaturesOfAnyLength {
            return self.sound.raw_features(observation);
        }
        Ok(self.sound.tokenise(observation)?.map(|tokens| tokens.values.into_vec()))
    }
}

#[test]
fn every_fault_is_found() {
    let n = 20;
    let observation = columns(vec![
        ("time", Data::F64((0..n).map(f64::from).collect())),
        ("value", Data::F32((0..n).map(|i| 3.0 + (i as f32).sin()).collect())),
    ]);
    let table = "max_tokens = 64\npositions.affine = 10.0\nbad = 'drop'";
    for (fault, words) in [
        (Fault::None, ""),
        (Fault::PanicsAtNan, "never seen a NaN"),
        (Fault::NamesNoObject, "does not name the object"),
        (Fault::RemembersTheLastObject, "objects in another order give other tokens"),
        (Fault::FeaturesOfAnyLength, "raw_features gives Some("),
        (Fault::ForgetsTheFirstSample, "what reconstruct gives makes other tokens"),
        (Fault::ScaleOfZero, "cannot be undone"),
        (Fault::RefusesItsOwnTokens, "detokenise refuses tokens that the modality made"),
    ] {
        // The memory starts full, so that the sample itself is read soundly.
        let last = AtomicUsize::new(n as usize);
        let faulty = Faulty { sound: modality("time-series", table), fault, last };
        let sample = Sample {
            config: table,
            observation: observation.clone(),
            field: "value",
            inverse_within: (fault != Fault::ScaleOfZero).then_some(1e-5),
        };
        match check_modality(&faulty, &sample) {
            Ok(()) => assert_eq!(fault, Fault::None, "not found"),
            Err(message) => {
                assert!(fault != Fault::None && message.contains(words), "{fault:?}: {message}");
            }
        }
    }
}
