//! The conformance kit finds what is wrong: a sound modality with one fault each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use astropt_core::observation::{Array, Data, LabelUnits, Observation};
use astropt_core::seam::Modality;
use astropt_core::testkit::modality::{Sample, check_modality};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};

use crate::fixtures::{columns, modality};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    PanicsAtNan,
    PanicsInDeadPart,
    PanicsInThinnable,
    PanicsInLabelUnits,
    PanicsInChoices,
    NamesNoObject,
    SwallowsErrors,
    LacksWhatItCannotUse,
    RemembersTheLastObject,
    ScalesByTheFirstObject,
    FeaturesOfAnyLength,
    FeaturesSwallowErrors,
    FeaturesOnlySometimes,
    ForgetsTheFirstSample,
    ReconstructsWithoutUnit,
    ReconstructsAnotherName,
    ReconstructsRoughly,
    ReconstructsStandardised,
    StatesAUnitWithoutAffine,
    GivesBackNan,
    GivesBackInfinity,
    ClipsValues,
    ScaleOfZero,
    RefusesItsOwnTokens,
    BlankTooShort,
    BlankBackwards,
    SaysThatSpansAreEven,
}

/// Each fault, and what the kit says of it.
const FOUND: [(Fault, &str); 28] = [
    (Fault::None, ""),
    (Fault::PanicsAtNan, "never seen a NaN"),
    (Fault::PanicsInDeadPart, "dead_part panics"),
    (Fault::PanicsInThinnable, "thinnable panics"),
    (Fault::PanicsInLabelUnits, "label_units panics"),
    (Fault::PanicsInChoices, "choices panics"),
    (Fault::NamesNoObject, "does not name the object"),
    (Fault::SwallowsErrors, "tokenise takes it to lack the modality"),
    (Fault::LacksWhatItCannotUse, "tokenise takes it to lack the modality"),
    (Fault::RemembersTheLastObject, "objects in another order give other tokens"),
    (Fault::ScalesByTheFirstObject, "objects in another order give other tokens"),
    (Fault::FeaturesOfAnyLength, "raw_features gives"),
    (Fault::FeaturesSwallowErrors, "raw_features gives nothing, though"),
    (Fault::FeaturesOnlySometimes, "raw_features gives nothing of an object that has tokens"),
    (Fault::ForgetsTheFirstSample, "what reconstruct gives makes other tokens"),
    (Fault::ReconstructsWithoutUnit, "in the unit None, and the sample has it in \"mag\""),
    (Fault::ReconstructsAnotherName, "what reconstruct gives lacks \"value\""),
    (Fault::ReconstructsRoughly, "reconstruct gives \"value\" with the number"),
    (Fault::ReconstructsStandardised, "what reconstruct gives makes tokens of another affine"),
    (Fault::StatesAUnitWithoutAffine, "in \"mag\" where the tokens have no affine"),
    (Fault::GivesBackNan, "differs from x by inf, at number 5"),
    (Fault::GivesBackInfinity, "differs from x by inf, at number 5"),
    (Fault::ClipsValues, "with one number far from the others, detokenise(tokenise(x)) differs"),
    (Fault::ScaleOfZero, "cannot be undone"),
    (Fault::RefusesItsOwnTokens, "detokenise refuses tokens that the modality made"),
    (Fault::BlankTooShort, "its blank span has 19 tokens, the sample's 20"),
    (Fault::BlankBackwards, "has its tokens at other places"),
    (Fault::SaysThatSpansAreEven, "is_even() says that all spans are of one length"),
];

/// Samples of the light curve.
const SAMPLES: usize = 20;
const TABLE: &str = "max_tokens = 64\npositions.affine = 10.0\nbad = 'drop'\nunit = 'mag'";

struct Faulty {
    sound: Box<dyn Modality>,
    fault: Fault,
    /// Numbers of the object before.
    last: AtomicUsize,
    /// Scale of the object that came first.
    first: OnceLock<f32>,
    /// What it knows of objects that it does not know.
    blank: Tokens,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let sound = modality("time-series", TABLE);
        let tokens = sound.tokenise(&curve()).expect("sound").expect("a light curve");
        let values = vec![0.0; tokens.values.len()].into();
        let mut blank = Tokens { values, affine: Vec::new(), ..tokens };
        match fault {
            Fault::BlankTooShort => blank.truncate(SAMPLES - 1),
            Fault::BlankBackwards => blank = blank.select(&(0..SAMPLES).rev().collect::<Vec<_>>()),
            _ => {}
        }
        // The memory starts full, so that the sample itself is read soundly.
        Self { sound, fault, last: AtomicUsize::new(SAMPLES), first: OnceLock::new(), blank }
    }

    fn panic_if(&self, fault: Fault) {
        assert!(self.fault != fault, "never thought of it");
    }

    /// Scales tokens by the first object's; each object by itself comes back.
    fn scale_by_the_first(&self, tokens: &mut Tokens) {
        let scale = *self.first.get_or_init(|| tokens.values[0].abs().clamp(1.0, 2.0));
        tokens.values.to_mut().iter_mut().for_each(|x| *x /= scale);
        tokens.affine.iter_mut().for_each(|affine| affine[1] *= scale);
    }
}

fn numbers(observation: &Observation) -> Vec<f64> {
    let field = observation.fields.get("value");
    field.map(|field| field.array.data.to_f64().into_owned()).unwrap_or_default()
}

/// The sample: a light curve in magnitudes.
fn curve() -> Observation {
    let n = SAMPLES as i32;
    let mut curve = columns(vec![
        ("time", Data::F64((0..n).map(f64::from).collect())),
        ("value", Data::F32((0..n).map(|i| 3.0 + (i as f32).sin()).collect())),
    ]);
    curve.fields.get_mut("value").expect("a column").unit = Some("mag".to_owned());
    curve
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
        let sized = observation.fields.get("value").is_some_and(|f| f.array.shape == [SAMPLES]);
        match self.fault {
            Fault::NamesNoObject if tokens.is_err() => {
                return Err(Error::Failed("something is wrong".to_owned()));
            }
            Fault::SwallowsErrors => return Ok(tokens.unwrap_or_default()),
            Fault::LacksWhatItCannotUse if sized && numbers.len() == SAMPLES => {
                return Ok(tokens.unwrap_or_default());
            }
            _ => {}
        }
        let mut tokens = tokens?;
        let last = self.last.swap(numbers.len(), Ordering::Relaxed);
        if let Some(tokens) = &mut tokens {
            match self.fault {
                // The same object again and again looks sound.
                Fault::RemembersTheLastObject if last < numbers.len() => tokens.values[0] += 1.0,
                Fault::ScalesByTheFirstObject => self.scale_by_the_first(tokens),
                Fault::ClipsValues => {
                    tokens.values.to_mut().iter_mut().for_each(|x| *x = x.clamp(-3.0, 3.0));
                }
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
        let mut array = self.sound.detokenise(tokens)?;
        if let Data::F32(numbers) = &mut array.data
            && let Some(number) = numbers.get_mut(5)
        {
            match self.fault {
                Fault::GivesBackNan => *number = f32::NAN,
                Fault::GivesBackInfinity => *number = f32::INFINITY,
                _ => {}
            }
        }
        Ok(array)
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let standardised = Tokens { affine: Vec::new(), ..tokens.clone() };
        let of = if self.fault == Fault::ReconstructsStandardised { &standardised } else { tokens };
        let mut found = self.sound.reconstruct(of)?;
        let Some(mut field) = found.as_mut().and_then(|found| found.fields.remove("value")) else {
            return Ok(found);
        };
        let mut name = "value";
        match (self.fault, &mut field.array.data) {
            (Fault::ForgetsTheFirstSample, Data::F32(numbers)) => numbers[0] = 0.0,
            // Too little to be seen in the tokens.
            (Fault::ReconstructsRoughly, Data::F32(numbers)) => numbers[5] += 1e-4,
            (Fault::ReconstructsWithoutUnit, _) => field.unit = None,
            (Fault::ReconstructsStandardised | Fault::StatesAUnitWithoutAffine, _) => {
                field.unit = Some("mag".to_owned());
            }
            (Fault::ReconstructsAnotherName, _) => name = "flux",
            _ => {}
        }
        found.iter_mut().for_each(|found| {
            found.fields.insert(name.to_owned(), field.clone());
        });
        Ok(found)
    }

    fn blank(&self) -> Option<Tokens> {
        Some(self.blank.clone())
    }

    fn dead_part(&self, _: &Tokens) -> Option<String> {
        self.panic_if(Fault::PanicsInDeadPart);
        None
    }

    fn thinnable(&self) -> bool {
        self.panic_if(Fault::PanicsInThinnable);
        self.sound.thinnable()
    }

    fn is_even(&self) -> bool {
        self.fault == Fault::SaysThatSpansAreEven
    }

    fn label_units(&self) -> LabelUnits {
        self.panic_if(Fault::PanicsInLabelUnits);
        LabelUnits::new()
    }

    fn choices(&self) -> Vec<(String, String)> {
        self.panic_if(Fault::PanicsInChoices);
        self.sound.choices()
    }

    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let features = self.sound.raw_features(observation);
        match self.fault {
            Fault::FeaturesOfAnyLength => {
                Ok(self.sound.tokenise(observation)?.map(|tokens| tokens.values.into_vec()))
            }
            Fault::FeaturesSwallowErrors => Ok(features.unwrap_or_default()),
            Fault::FeaturesOnlySometimes => {
                Ok(features?.filter(|_| numbers(observation).len() == SAMPLES))
            }
            _ => features,
        }
    }
}

#[test]
fn every_fault_is_found() {
    for (fault, words) in FOUND {
        let sample = Sample {
            config: TABLE,
            observation: curve(),
            field: "value",
            inverse_within: (fault != Fault::ScaleOfZero).then_some(1e-5),
            ..Default::default()
        };
        match check_modality(&|| Ok(Box::new(Faulty::new(fault))), &sample) {
            Ok(()) => assert_eq!(fault, Fault::None, "not found"),
            Err(message) => {
                assert!(fault != Fault::None && message.contains(words), "{fault:?}: {message}");
            }
        }
    }
}

/// Least number that [`Floored`] keeps.
const FLOOR: f64 = 1e-3;

/// Sound in its own way: it has a floor under its logarithm, and does without an axis of length
/// one before its own.
struct Floored;

impl Modality for Floored {
    fn spec(&self) -> TokenSpec {
        TokenSpec {
            values: Values::Continuous { width: SAMPLES },
            positions: Positions::Index { max: 1 },
            loss_weight: 1.0,
            max_tokens: 1,
        }
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(field) = observation.fields.get("value") else { return Ok(None) };
        let Array { shape, data } = &field.array;
        let logs: Vec<f32> = data.to_f64().iter().map(|x| x.max(FLOOR).log10() as f32).collect();
        let fits = [&[SAMPLES][..], &[1, SAMPLES]].contains(&&shape[..]) && logs.len() == SAMPLES;
        if !fits || logs.iter().any(|x| !x.is_finite()) {
            return Err(Error::object(&observation.id, "cannot be used".to_owned()));
        }
        let values = logs.into();
        Ok(Some(Tokens { len: 1, values, indices: vec![0], ..Tokens::default() }))
    }

    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec())?;
        let numbers = tokens.values.iter().map(|&y| 10f64.powf(y.into())).collect();
        Array::new(vec![tokens.values.len()], Data::F64(numbers))
    }
}

#[test]
fn a_stated_range_and_an_axis_of_length_one_are_no_faults() {
    let check = |range| {
        let sample = Sample {
            observation: curve(),
            field: "value",
            inverse_within: Some(1e-5),
            range,
            ..Default::default()
        };
        check_modality(&|| Ok(Box::new(Floored)), &sample)
    };
    check(Some([FLOOR, f64::INFINITY])).expect("sound");
    for (range, words) in [
        (None, "with numbers moved down, detokenise(tokenise(x)) differs"),
        (Some([FLOOR, 1.0]), "numbers outside its own `range`"),
    ] {
        let message = check(range).expect_err(words);
        assert!(message.contains(words), "{message}");
    }
}
