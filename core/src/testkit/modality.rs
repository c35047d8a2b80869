//! What holds for every modality.

use super::vary::{Random, made_up, varied};
use super::{Check, calm, config, ensure, on_threads};
use crate::observation::{Array, Data, Field, Observation};
use crate::seam::{self, Modality, ModalityPlugin};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// Objects made up or changed at random per check.
const VARIANTS: usize = 300;
/// How far tokens of a reconstructed object may be from those it came from, relative to
/// numbers above 1.
const AGAIN_WITHIN: f32 = 1e-3;

/// Data to try a modality on.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// The modality's table, without `kind`.
    pub config: &'a str,
    /// An object that has the modality.
    pub observation: Observation,
    /// The array of it that the modality reads first; checks damage this one.
    pub field: &'a str,
    /// How far `detokenise(tokenise(x))` may be from the array, in its own units; what
    /// `reconstruct` gives, if anything, must then make the same tokens again. `None` when the
    /// tokens are not meant to give the array back.
    pub inverse_within: Option<f64>,
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
        check_choices(&*modality)?;
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
        let modality =
            calm("build", || config.build())?.map_err(|e| format!("it does not build: {e}"))?;
        check_modality(&*modality, sample)
    };
    check().map_err(|message| format!("modality {kind:?}: {message}"))
}

/// Runs the suite on a modality that is built already.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_modality(modality: &dyn Modality, sample: &Sample<'_>) -> Check {
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
    check_preview(modality, &tokens)?;
    check_choices(modality)?;
    check_example(modality)?;
    check_blank(modality)?;
    check_features(modality, observation)?;
    let nothing = Observation { id: observation.id.clone(), ..Observation::default() };
    check_absent(modality, &nothing)?;
    check_damaged(modality, sample)?;
    check_varied(modality, observation)?;
    check_foreign_tokens(modality, &tokens)
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

/// A blank span, where the modality gives one, is as `spec()` says, holds nothing but places, and
/// goes back as tokens that a model made do.
fn check_blank(modality: &dyn Modality) -> Check {
    let Some(blank) = calm("blank", || modality.blank())? else { return Ok(()) };
    blank
        .check(&modality.spec())
        .map_err(|e| format!("its blank span is not as spec() says: {e}"))?;
    let empty = blank.values.iter().all(|&x| x == 0.0) && blank.codes.iter().all(|&k| k == 0);
    ensure(empty && blank.affine.is_empty(), || {
        "its blank span holds more than places: values and codes are 0, and it has no affine"
            .to_owned()
    })?;
    let again = calm("blank", || modality.blank())?;
    ensure(again.is_some_and(|again| bits(&again) == bits(&blank)), || {
        "blank() gives another span the next time".to_owned()
    })?;
    let back = |what, result: crate::Result<()>| {
        result.map_err(|e| format!("{what} refuses the modality's blank span: {e}"))
    };
    back("detokenise", calm("detokenise", || modality.detokenise(&blank).map(drop))?)?;
    back("reconstruct", calm("reconstruct", || modality.reconstruct(&blank).map(drop))?)?;
    back("preview", calm("preview", || modality.preview(&blank).map(drop))?)
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

fn check_inverse(modality: &dyn Modality, sample: &Sample<'_>, tokens: &Tokens) -> Check {
    let found = calm("detokenise", || modality.detokenise(tokens))?;
    let Some(within) = sample.inverse_within else {
        return Ok(());
    };
    let found = found.map_err(|e| format!("detokenise refuses the sample's tokens: {e}"))?;
    let field = sample.observation.field(sample.field).map_err(|e| e.to_string())?;
    let expected = &field.array;
    ensure(found.shape == expected.shape, || {
        format!("detokenise gives the shape {:?}, not {:?}", found.shape, expected.shape)
    })?;
    let (found, expected) = (found.data.to_f32(), expected.data.to_f32());
    let differences = found.iter().zip(&*expected).map(|(a, b)| f64::from((a - b).abs()));
    let (place, largest) =
        differences.enumerate().fold((0, 0.0), |max, new| if new.1 > max.1 { new } else { max });
    ensure(found.len() == expected.len() && largest <= within, || {
        format!(
            "detokenise(tokenise(x)) differs from x by {largest}, at number {place}: {} and \
             not {}; {within} is allowed",
            found[place], expected[place]
        )
    })
}

/// What is reconstructed, put in place of what was read, gives the tokens again.
fn check_reconstruction(modality: &dyn Modality, sample: &Sample<'_>, tokens: &Tokens) -> Check {
    let found = calm("reconstruct", || modality.reconstruct(tokens))?
        .map_err(|e| format!("reconstruct refuses the sample's tokens: {e}"))?;
    let (Some(found), Some(_)) = (found, sample.inverse_within) else { return Ok(()) };
    let mut observation = sample.observation.clone();
    observation.fields.extend(found.fields);
    observation.labels.extend(found.labels);
    let again = tokenise(modality, &observation)?
        .map_err(|e| format!("what reconstruct gives cannot be tokenised: {e}"))?
        .ok_or("what reconstruct gives lacks the modality")?;
    ensure((again.len, &again.codes) == (tokens.len, &tokens.codes), || {
        format!("what reconstruct gives makes {} tokens of {}, or others", again.len, tokens.len)
    })?;
    let numbers = |t: &Tokens| t.values.iter().chain(&t.positions).copied().collect::<Vec<_>>();
    let (first, second) = (numbers(tokens), numbers(&again));
    let apart = |(a, b): (&f32, &f32)| (a - b).abs() > AGAIN_WITHIN * a.abs().max(1.0);
    match first.iter().zip(&second).position(apart) {
        Some(at) => Err(format!(
            "what reconstruct gives makes other tokens: {} and not {} at number {at} of values \
             and positions",
            second[at], first[at]
        )),
        None => Ok(()),
    }
}

fn check_choices(modality: &dyn Modality) -> Check {
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

/// What a modality makes of an object that may be anything: sound tokens that go back,
/// nothing, or an error that names the object; never a panic. Answers the tokens' bits.
fn check_answer(
    modality: &dyn Modality,
    observation: &Observation,
) -> Result<Option<Vec<u32>>, String> {
    let named = |error: crate::Error| {
        let text = error.to_string();
        ensure(text.contains(&observation.id), || {
            format!("its error does not name the object {:?}: {text}", observation.id)
        })
    };
    match calm("raw_features", || modality.raw_features(observation))? {
        Ok(features) => ensure(features.iter().flatten().all(|x| x.is_finite()), || {
            "raw_features holds a number that is not finite".to_owned()
        })?,
        Err(error) => named(error)?,
    }
    let tokens = match tokenise(modality, observation)? {
        Ok(Some(tokens)) => tokens,
        Ok(None) => return Ok(None),
        Err(error) => return named(error).map(|()| None),
    };
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
    back("detokenise", calm("detokenise", || modality.detokenise(&tokens).map(drop))?)?;
    back("reconstruct", calm("reconstruct", || modality.reconstruct(&tokens).map(drop))?)?;
    back("preview", calm("preview", || modality.preview(&tokens).map(drop))?)?;
    Ok(Some(bits(&tokens)))
}

/// Objects of any content under the names that the configuration holds.
fn check_made_up(modality: &dyn Modality, names: &[String]) -> Check {
    let mut random = Random::new(1);
    for _ in 0..VARIANTS {
        let observation = made_up(names, &mut random);
        check_answer(modality, &observation)
            .map_err(|message| format!("{message}; the object was {}", sketch(&observation)))?;
    }
    Ok(())
}

/// The sample changed at random. Then the same objects in the opposite order: what came
/// before must not matter.
fn check_varied(modality: &dyn Modality, sample: &Observation) -> Check {
    let mut random = Random::new(2);
    let length = |o: &Observation| modality.raw_features(o).ok().flatten().map(|f| f.len());
    let expected = length(sample);
    let mut answers = Vec::new();
    for _ in 0..VARIANTS {
        let (what, observation) = varied(sample, &mut random);
        let context = |message: String| {
            format!("with {what}, {message}; the object was {}", sketch(&observation))
        };
        let answer = check_answer(modality, &observation).map_err(context)?;
        let found = length(&observation);
        ensure(found.is_none() || expected.is_none() || found == expected, || {
            context(format!("raw_features gives {found:?} numbers and {expected:?} else"))
        })?;
        answers.push((observation, answer));
    }
    for (observation, answer) in answers.iter().rev() {
        let again = check_answer(modality, observation)?;
        ensure(again == *answer, || {
            format!(
                "objects in another order give other tokens: those of one depend on what came \
                 before; the object was {}",
                sketch(observation)
            )
        })?;
    }
    Ok(())
}

/// Every text in a configuration, as a name that a field or label might have.
fn names(json: &serde_json::Value) -> Vec<String> {
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

/// Damages each of the sample's arrays in every way a file can be damaged. Of arrays that
/// the modality need not read, only that nothing breaks is asked.
fn check_damaged(modality: &dyn Modality, sample: &Sample<'_>) -> Check {
    sample.observation.field(sample.field).map_err(|e| e.to_string())?;
    for (name, field) in &sample.observation.fields {
        for (what, damaged, usable) in damaged(&field.array) {
            let mut observation = sample.observation.clone();
            let damaged = Field { array: damaged, unit: None };
            observation.fields.insert(name.clone(), damaged);
            let context = |message: String| format!("with {what} in {name:?}, {message}");
            let tokens = check_answer(modality, &observation).map_err(context)?;
            ensure(tokens.is_none() || usable || name != sample.field, || {
                context("it makes tokens; an error is asked for".to_owned())
            })?;
        }
    }
    Ok(())
}

/// The array damaged, in words and in fact, and whether a modality may still read it.
fn damaged(array: &Array) -> Vec<(&'static str, Array, bool)> {
    let numbers = array.data.to_f32();
    let floats = |change: &dyn Fn(&mut Vec<f32>)| {
        let mut numbers = numbers.to_vec();
        change(&mut numbers);
        Data::F32(numbers)
    };
    let shape = array.shape.clone();
    let with = |data| Array { shape: shape.clone(), data };
    let nowhere = vec![0; shape.len()];
    let huge = vec![usize::MAX; shape.len().max(1)];
    let deeper: Vec<_> = [1].into_iter().chain(shape.iter().copied()).collect();
    let wide = numbers.iter().map(|&x| f64::from(x)).collect();
    let whole = numbers.iter().map(|&x| x as i64).collect();
    vec![
        ("a NaN", with(floats(&|v| v[0] = f32::NAN)), true),
        ("infinities", with(floats(&|v| v.fill(f32::INFINITY))), true),
        ("numbers near the largest", with(floats(&|v| v.fill(f32::MAX))), true),
        ("numbers of both signs near the largest", with(floats(&|v| alternate(v))), true),
        ("zeros", with(floats(&|v| v.fill(0.0))), true),
        ("64-bit numbers", with(Data::F64(wide)), true),
        ("64-bit numbers beyond 32", with(Data::F64(vec![1e300; numbers.len()])), true),
        ("integers", with(Data::I64(whole)), true),
        ("fewer numbers than its shape says", with(floats(&|v| v.truncate(v.len() - 1))), false),
        ("more numbers than its shape says", with(floats(&|v| v.push(0.0))), false),
        ("no numbers", Array { shape: nowhere, data: Data::F32(vec![]) }, false),
        ("a shape beyond memory", Array { shape: huge, data: Data::F32(vec![]) }, false),
        ("an axis too many", Array { shape: deeper, data: array.data.clone() }, false),
        // One number is one number, with an axis or without.
        ("no axis", Array { shape: vec![], data: Data::F32(vec![1.0]) }, numbers.len() == 1),
    ]
}

fn alternate(numbers: &mut [f32]) {
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = if i % 2 == 0 { f32::MAX } else { f32::MIN };
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
