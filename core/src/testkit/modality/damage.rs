//! The sample damaged in every way a file can be damaged.

use super::Sample;
use super::answer::{Made, check_answer, check_present};
use crate::observation::{Array, Data, Field};
use crate::seam::Modality;
use crate::testkit::Check;

/// Damages each of the sample's arrays. Of arrays that the modality need not read, only that
/// nothing breaks is asked.
pub(super) fn check_damaged(modality: &dyn Modality, sample: &Sample<'_>) -> Check {
    let of_sample = check_answer(modality, &sample.observation)?;
    for (name, field) in &sample.observation.fields {
        for (what, damaged, usable) in damaged(&field.array) {
            let mut observation = sample.observation.clone();
            let damaged = Field { array: damaged, unit: None };
            observation.fields.insert(name.clone(), damaged);
            let context = |message: String| format!("with {what} in {name:?}, {message}");
            let answer = check_answer(modality, &observation).map_err(context)?;
            if name != sample.field {
                continue;
            }
            check_present(sample, &of_sample, &observation, &answer).map_err(context)?;
            if usable {
                continue;
            }
            check_refused("tokenise", &answer.tokens).map_err(context)?;
            if of_sample.features.is_made() {
                check_refused("raw_features", &answer.features).map_err(context)?;
            }
        }
    }
    Ok(())
}

/// What cannot be read at all is neither read nor taken for nothing.
fn check_refused(method: &str, made: &Made) -> Check {
    let does = match made {
        Made::Refuses => return Ok(()),
        Made::Numbers(_) => "makes something of it",
        Made::Lacks => "takes the object to lack the modality",
    };
    Err(format!("{method} {does}; an error is asked for"))
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
    let under = |first: usize| [first].into_iter().chain(shape.iter().copied()).collect();
    let (alone, two): (Vec<_>, Vec<_>) = (under(1), under(2));
    let twice = numbers.repeat(2);
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
        // As radio images in FITS have before their own.
        ("an axis of length one", Array { shape: alone, data: array.data.clone() }, true),
        ("an axis too many", Array { shape: two, data: Data::F32(twice) }, false),
        // One number is one number, with an axis or without.
        ("no axis", Array { shape: vec![], data: Data::F32(vec![1.0]) }, numbers.len() == 1),
    ]
}

fn alternate(numbers: &mut [f32]) {
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = if i % 2 == 0 { f32::MAX } else { f32::MIN };
    }
}
