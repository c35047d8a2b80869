//! What holds for every modality.

mod answer;
mod blank;
mod damage;
mod inverse;
mod standardised;

use super::{Check, calm, config, ensure, on_threads};
use crate::observation::Observation;
use crate::seam::{self, Modality, ModalityPlugin};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};
use answer::{check_made_up, check_varied, names};
use blank::{check_blank, check_blank_places, check_even};
use damage::check_damaged;
use inverse::{check_inverse, check_reconstruction, copies};
use standardised::check_without_affine;

/// Builds a modality anew.
type Build<'a> = dyn Fn() -> crate::Result<Box<dyn Modality>> + 'a;

/// Data to try a modality on. What need not be said is that of `Sample::default()`.
#[derive(Clone, Debug, Default)]
pub struct Sample<'a> {
    /// The modality's table, without `kind`.
    pub config: &'a str,
    /// An object that has the modality.
    pub observation: Observation,
    /// The array of it that the modality reads first; checks damage this one.
    pub field: &'a str,
    /// How far any number of `detokenise(tokenise(x))` may be from the array's, in its own unit and
    /// in double precision: of a Julian date, days. A number that comes back as NaN or infinity is
    /// infinitely far, unless the array's own is none. Copies with larger numbers that the modality
    /// accepts must come back too, with as many times the difference as they are larger or farther
    /// apart, and 1e-3 of their spread at least. What `reconstruct` gives, if anything, must have
    /// the array's name, unit and, within the same difference, numbers, and make the same tokens
    /// again. `None` when the tokens are not meant to give the array back.
    pub inverse_within: Option<f64>,
    /// Places, in the array's numbers row by row, of finite numbers that tokens do not keep, such
    /// as the -99 of a band that was not measured.
    pub lost: &'a [usize],
    /// Least and greatest number that the modality means to keep, ends included, infinite where
    /// there is no bound: such as those it clips to, or a floor under a logarithm. Copies of the
    /// array with numbers beyond need not come back.
    pub range: Option<[f64; 2]>,
    /// Whether an object that has the array may lack the modality for what is in it, such as a
    /// number that is not known, or too few of them. Otherwise what cannot be used must be an
    /// error, as an array of a wrong shape must be in any case.
    pub may_lack: bool,
}

/// Checks what can be checked without data.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_plugin(plugin: &ModalityPlugin) -> Check {
    let check = || {
        let config = config::check(&plugin.info, plugin.parse)?;
        let modality = calm("build", || config.build())?
            .map_err(|e| format!("its example does not build: {e}"))?;
        check_spec(&modality.spec())?;
        check_words(&*modality)?;
        check_example(&*modality)?;
        check_blank(&*modality)?;
        check_absent(&*modality, &Observation { id: "nothing".into(), ..Observation::default() })?;
        let json = serde_json::to_value(&config).map_err(|e| e.to_string())?;
        check_made_up(&*modality, &names(&json))?;
        check_foreign_tokens(&*modality, &Tokens::default())
    };
    check().map_err(|message| format!("modality {:?}: {message}", plugin.info.kind))
}

/// Runs the whole suite on the modality `kind`.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(kind: &str, sample: &Sample<'_>) -> Check {
    let plugin = seam::find_modality(kind).map_err(|e| e.to_string())?;
    check_plugin(plugin)?;
    let check = || {
        let config = config::parse_text(sample.config, plugin.parse)?;
        check_modality(&|| config.build(), sample)
    };
    check().map_err(|message| format!("modality {kind:?}: {message}"))
}

/// Runs the suite on what `build` builds. It is asked twice: what one modality makes of an object
/// must not depend on the objects that it, and the other did not, see before.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_modality(
    build: &dyn Fn() -> crate::Result<Box<dyn Modality>>,
    sample: &Sample<'_>,
) -> Check {
    let modality = &*built(build)?;
    let spec = modality.spec();
    check_spec(&spec)?;
    ensure(modality.spec() == spec, || "spec() changes from call to call".to_owned())?;
    let observation = &sample.observation;
    let tokens = tokenise(modality, observation)?
        .map_err(|e| format!("tokenise refuses the sample: {e}"))?
        .ok_or("tokenise finds nothing in the sample")?;
    tokens.check(&spec).map_err(|e| format!("the sample's tokens are not as spec() says: {e}"))?;
    check_determinism(modality, observation, &tokens)?;
    check_inverse(modality, sample, &tokens)?;
    check_reconstruction(modality, sample, &tokens)?;
    check_without_affine(modality, sample, &tokens)?;
    check_preview(modality, &tokens)?;
    check_words(modality)?;
    check_example(modality)?;
    check_blank(modality)?;
    check_blank_places(modality, &tokens)?;
    check_even(modality, &tokens)?;
    check_features(modality, observation)?;
    let nothing = Observation { id: observation.id.clone(), ..Observation::default() };
    check_absent(modality, &nothing)?;
    check_damaged(modality, sample)?;
    check_varied(modality, build, sample)?;
    check_foreign_tokens(modality, &tokens)
}

fn built(build: &Build<'_>) -> Result<Box<dyn Modality>, String> {
    calm("build", build)?.map_err(|e| format!("it does not build: {e}"))
}

type Tokenised = crate::Result<Option<Tokens>>;

fn tokenise(modality: &dyn Modality, observation: &Observation) -> Result<Tokenised, String> {
    calm("tokenise", || modality.tokenise(observation))
}

fn check_spec(spec: &TokenSpec) -> Check {
    let values = match spec.values {
        Values::Continuous { width } => width,
        Values::Codes { vocabulary } => vocabulary,
    };
    let positions = match spec.positions {
        Positions::Index { max } => max,
        Positions::Continuous { width } => width,
    };
    ensure(values > 0 && positions > 0 && spec.max_tokens > 0, || {
        format!("its spec has a size of zero: {spec:?}")
    })?;
    ensure(spec.loss_weight.is_finite() && spec.loss_weight >= 0.0, || {
        format!("its loss weight is {}", spec.loss_weight)
    })?;
    match spec.positions {
        Positions::Index { max } => ensure(max >= spec.max_tokens, || {
            format!("a table of {max} positions is too small for {} tokens", spec.max_tokens)
        }),
        Positions::Continuous { .. } => Ok(()),
    }
}

/// The numbers of tokens, bit by bit.
fn bits(tokens: &Tokens) -> Vec<u32> {
    let floats =
        tokens.values.iter().chain(&tokens.positions).chain(tokens.affine.iter().flatten());
    let whole = tokens.codes.iter().chain(&tokens.indices).copied();
    [tokens.len as u32].into_iter().chain(whole).chain(floats.map(|x| x.to_bits())).collect()
}

/// An example, where the modality gives one, is the same each time and makes tokens.
fn check_example(modality: &dyn Modality) -> Check {
    let Some(example) = calm("example", || modality.example())? else { return Ok(()) };
    let tokens = tokenise(modality, &example)?
        .map_err(|e| format!("tokenise refuses the modality's own example: {e}"))?
        .ok_or("tokenise finds nothing in the modality's own example")?;
    tokens
        .check(&modality.spec())
        .map_err(|e| format!("the example's tokens are not as spec() says: {e}"))?;
    let again = calm("example", || modality.example())?;
    let again = again.map(|example| tokenise(modality, &example)).transpose()?;
    let again = again.and_then(|tokens| tokens.ok().flatten());
    ensure(again.is_some_and(|again| bits(&again) == bits(&tokens)), || {
        "example() gives another object the next time".to_owned()
    })
}

fn check_determinism(modality: &dyn Modality, observation: &Observation, tokens: &Tokens) -> Check {
    let expected = bits(tokens);
    let mut answers = vec![tokenise(modality, observation)];
    answers.extend(on_threads(|| tokenise(modality, observation))?);
    for answer in answers {
        let same = answer?.ok().flatten().is_some_and(|again| bits(&again) == expected);
        ensure(same, || "the same object gives other tokens the next time".to_owned())?;
    }
    Ok(())
}

/// What the modality says of itself can be asked and says something.
fn check_words(modality: &dyn Modality) -> Check {
    calm("thinnable", || modality.thinnable())?;
    calm("is_even", || modality.is_even())?;
    let units = calm("label_units", || modality.label_units())?;
    let empty = units.iter().find(|(name, unit)| name.is_empty() || unit.trim().is_empty());
    ensure(empty.is_none(), || format!("label_units() names nothing in {empty:?}"))?;
    let unseen = calm("unseen", || modality.unseen())?;
    let empty = unseen.iter().find(|(name, what)| name.is_empty() || what.is_empty());
    ensure(empty.is_none(), || format!("unseen() names nothing in {empty:?}"))?;
    let choices = calm("choices", || modality.choices())?;
    let empty = choices.iter().find(|(name, choice)| name.is_empty() || choice.is_empty());
    ensure(empty.is_none(), || format!("choices() names nothing in {empty:?}"))
}

fn check_preview(modality: &dyn Modality, tokens: &Tokens) -> Check {
    let preview = calm("preview", || modality.preview(tokens))?
        .map_err(|e| format!("preview refuses the sample's tokens: {e}"))?;
    let Some(preview) = preview else {
        return Ok(());
    };
    ensure(preview.rgb.len() == preview.width * preview.height * 3, || {
        format!(
            "a preview of {} x {} holds {} bytes",
            preview.height,
            preview.width,
            preview.rgb.len()
        )
    })?;
    ensure(!preview.rgb.is_empty(), || "a preview without pixels; give None instead".to_owned())
}

fn check_features(modality: &dyn Modality, observation: &Observation) -> Check {
    let features = || {
        calm("raw_features", || modality.raw_features(observation))?
            .map_err(|e| format!("raw_features refuses the sample: {e}"))
    };
    let first = features()?;
    ensure(first == features()?, || "raw_features differ from call to call".to_owned())?;
    ensure(first.iter().flatten().all(|x| x.is_finite()), || {
        "raw_features holds a number that is not finite".to_owned()
    })
}

fn check_absent(modality: &dyn Modality, observation: &Observation) -> Check {
    match tokenise(modality, observation)? {
        Ok(None) => {}
        Ok(Some(_)) => return Err("it makes tokens of an object without any array".to_owned()),
        Err(e) => {
            return Err(format!("an object that lacks the modality gives None, not an error: {e}"));
        }
    }
    match calm("raw_features", || modality.raw_features(observation))? {
        Ok(None) => Ok(()),
        _ => Err("raw_features of an object that lacks the modality must be None".to_owned()),
    }
}

/// Tokens that the modality did not make: cut short, emptied, or not finite.
fn check_foreign_tokens(modality: &dyn Modality, tokens: &Tokens) -> Check {
    let mut foreign = vec![Tokens::default()];
    let mut change = |f: &dyn Fn(&mut Tokens)| {
        let mut tokens = tokens.clone();
        f(&mut tokens);
        foreign.push(tokens);
    };
    change(&|t| t.len = usize::MAX / 4096);
    change(&|t| t.values.truncate(t.values.len() / 2));
    change(&|t| t.codes.fill(u32::MAX));
    change(&|t| t.indices.fill(u32::MAX));
    change(&|t| t.positions.fill(f32::INFINITY));
    change(&|t| t.positions.fill(f32::MAX));
    change(&|t| t.values.fill(f32::NAN));
    change(&|t| t.values.fill(f32::MAX));
    change(&|t| t.truncate(1));
    change(&|t| t.truncate(t.len / 2));
    change(&|t| t.affine.truncate(t.affine.len() / 2));
    // Sound, but without what standardisation took out: what a model generates.
    change(&|t| t.affine.clear());
    change(&|t| t.affine.fill([f32::NAN, f32::INFINITY]));
    for tokens in &foreign {
        calm("detokenise", || modality.detokenise(tokens))?.ok();
        calm("reconstruct", || modality.reconstruct(tokens))?.ok();
        calm("preview", || modality.preview(tokens))?.ok();
    }
    ensure(modality.detokenise(&foreign[0]).is_err(), || {
        "detokenise makes something of no tokens; an error is asked for".to_owned()
    })
}
