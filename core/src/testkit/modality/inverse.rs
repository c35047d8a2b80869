//! Tokens go back to what they were made of.

use super::{Sample, tokenise};
use crate::observation::{Array, Data, Label, Observation, like_unit};
use crate::seam::Modality;
use crate::testkit::{Check, calm, ensure};
use crate::tokens::Tokens;

/// How far tokens of a reconstructed object may be from those it came from, relative to
/// numbers above 1.
const AGAIN_WITHIN: f32 = 1e-3;
/// How far the numbers of a [copy](copies) may be from where they were beyond what the sample
/// allows: relative to their spread, and to the largest, of which single precision keeps 6e-8.
const COPY_WITHIN: [f64; 2] = [1e-3, 1e-6];

/// The sample's numbers come back, and so do those of copies with other numbers.
pub(super) fn check_inverse(
    modality: &dyn Modality,
    sample: &Sample<'_>,
    tokens: &Tokens,
) -> Check {
    let found = calm("detokenise", || modality.detokenise(tokens))?;
    let Some(within) = sample.inverse_within else {
        return Ok(());
    };
    let found = found.map_err(|e| format!("detokenise refuses the sample's tokens: {e}"))?;
    let field = sample.observation.field(sample.field).map_err(|e| e.to_string())?;
    let numbers = field.array.data.to_f64();
    ensure((0..numbers.len()).any(|place| sample.keeps(&numbers, place)), || {
        "no number of the sample is finite and not `lost`: there is nothing to compare".to_owned()
    })?;
    ensure(sample.is_in_range(&numbers), || {
        format!("the sample has numbers outside its own `range`, {:?}", sample.range)
    })?;
    check_back(sample, &field.array, &found, within)?;
    for (what, copy) in copies(sample) {
        let array = &copy.fields[sample.field].array;
        let of_array = array.data.to_f64();
        if !sample.is_in_range(&of_array) {
            continue;
        }
        // A modality may refuse such numbers, or leave tokens with them out.
        let Ok(Some(of_copy)) = tokenise(modality, &copy)? else { continue };
        if of_copy.len != tokens.len {
            continue;
        }
        let context = |message| format!("with {what}, {message}");
        let found = calm("detokenise", || modality.detokenise(&of_copy))?
            .map_err(|e| context(format!("detokenise refuses the modality's own tokens: {e}")))?;
        let within = within_of_copy(sample, &numbers, &of_array, within);
        check_back(sample, array, &found, within).map_err(context)?;
    }
    Ok(())
}

/// Whether `found` is `expected`, but for the places that may be lost.
fn check_back(sample: &Sample<'_>, expected: &Array, found: &Array, within: f64) -> Check {
    ensure(found.shape == expected.shape && found.data.len() == expected.data.len(), || {
        format!("detokenise gives the shape {:?}, not {:?}", found.shape, expected.shape)
    })?;
    let (found, expected) = (found.data.to_f64(), expected.data.to_f64());
    let (place, largest) = sample.farthest(&found, &expected);
    ensure(largest <= within, || {
        format!(
            "detokenise(tokenise(x)) differs from x by {largest}, at number {place}: {} and \
             not {}; {within} is allowed",
            found[place], expected[place]
        )
    })
}

impl Sample<'_> {
    /// Whether the number at `place` must come back.
    fn keeps(&self, numbers: &[f64], place: usize) -> bool {
        numbers[place].is_finite() && !self.lost.contains(&place)
    }

    /// The numbers that must come back.
    fn kept(&self, numbers: &[f64]) -> Vec<f64> {
        (0..numbers.len()).filter(|&k| self.keeps(numbers, k)).map(|k| numbers[k]).collect()
    }

    /// Whether all numbers that must come back are in `range`.
    fn is_in_range(&self, numbers: &[f64]) -> bool {
        let within = |[low, high]: [f64; 2]| {
            let (least, most) = ends(&self.kept(numbers));
            low <= least && most <= high
        };
        self.range.is_none_or(within)
    }

    /// Which number of `expected` came back farthest from itself, and how far: one that did not
    /// come back at all infinitely far.
    fn farthest(&self, found: &[f64], expected: &[f64]) -> (usize, f64) {
        let mut farthest = (0, 0.0);
        for place in (0..expected.len()).filter(|&place| self.keeps(expected, place)) {
            let apart = (found[place] - expected[place]).abs();
            let apart = if apart.is_nan() { f64::INFINITY } else { apart };
            if apart > farthest.1 {
                farthest = (place, apart);
            }
        }
        farthest
    }
}

/// Smallest and largest of numbers.
fn ends(numbers: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    numbers.iter().fold(start, |(low, high), &x| (low.min(x), high.max(x)))
}

/// The largest number, sign aside.
fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, x| x.abs().max(most))
}

/// What is allowed of a copy, whose numbers may be larger than the sample's, or farther apart.
fn within_of_copy(sample: &Sample<'_>, numbers: &[f64], copy: &[f64], within: f64) -> f64 {
    let (numbers, copy) = (sample.kept(numbers), sample.kept(copy));
    let spread = |(low, high): (f64, f64)| high - low;
    let (apart, most) = (spread(ends(&copy)), largest(&copy));
    let ratio = |after: f64, before: f64| if before > 0.0 { after / before } else { 1.0 };
    let growth = ratio(most, largest(&numbers)).max(ratio(apart, spread(ends(&numbers)))).max(1.0);
    let scaled = if growth.is_finite() { within * growth } else { within };
    scaled.max(COPY_WITHIN[0] * apart + COPY_WITHIN[1] * most)
}

/// The sample with other numbers in its array, in words and in fact: none of an order that the
/// sample's own are not, but beyond the range of those. Numbers that may be lost stay.
pub(super) fn copies(sample: &Sample<'_>) -> impl Iterator<Item = (&'static str, Observation)> {
    type Change = (&'static str, fn(usize, f64, f64, f64) -> f64);
    const CHANGES: [Change; 4] = [
        ("numbers moved up", |_, x, _, spread| x + 5.0 * spread),
        ("numbers moved down", |_, x, _, spread| x - 5.0 * spread),
        ("numbers four times as far apart", |_, x, middle, _| middle + 4.0 * (x - middle)),
        (
            "one number far from the others",
            |rank, x, middle, spread| {
                if rank == 0 { middle + 8.0 * spread } else { x }
            },
        ),
    ];
    let field = sample.observation.fields.get(sample.field);
    let copy = move |(what, change): Change| {
        let field = field?;
        let mut numbers = field.array.data.to_f64().into_owned();
        let kept = sample.kept(&numbers);
        let (low, high) = ends(&kept);
        let middle = low / 2.0 + high / 2.0;
        let spread = if high > low { high - low } else { high.abs() };
        let places = (0..numbers.len()).filter(|&place| sample.keeps(&numbers, place));
        for (rank, place) in places.collect::<Vec<_>>().into_iter().enumerate() {
            numbers[place] = change(rank, numbers[place], middle, spread);
        }
        let mut copy = sample.observation.clone();
        copy.fields.get_mut(sample.field)?.array.data = match field.array.data {
            Data::F64(_) => Data::F64(numbers),
            Data::I64(_) => Data::I64(numbers.iter().map(|x| x.round() as i64).collect()),
            _ => Data::F32(numbers.iter().map(|&x| x as f32).collect()),
        };
        Some((what, copy))
    };
    CHANGES.into_iter().filter_map(copy)
}

/// What is reconstructed has the name, unit and numbers of what was read and, put in place of that,
/// gives the tokens again.
pub(super) fn check_reconstruction(
    modality: &dyn Modality,
    sample: &Sample<'_>,
    tokens: &Tokens,
) -> Check {
    let found = calm("reconstruct", || modality.reconstruct(tokens))?
        .map_err(|e| format!("reconstruct refuses the sample's tokens: {e}"))?;
    let (Some(found), Some(within)) = (found, sample.inverse_within) else { return Ok(()) };
    check_names(sample, &found)?;
    let mut observation = sample.observation.clone();
    observation.fields.extend(found.fields.clone());
    observation.labels.extend(found.labels.clone());
    let again = tokenise(modality, &observation)?
        .map_err(|e| format!("what reconstruct gives cannot be tokenised: {e}"))?
        .ok_or("what reconstruct gives lacks the modality")?;
    ensure((again.len, &again.codes) == (tokens.len, &tokens.codes), || {
        format!("what reconstruct gives makes {} tokens of {}, or others", again.len, tokens.len)
    })?;
    check_same(tokens, &again, within)?;
    check_numbers(sample, &found, within)
}

/// Whether values, places and what was taken out are those of the first tokens, which are as many.
fn check_same(tokens: &Tokens, again: &Tokens, within: f64) -> Check {
    let numbers = |t: &Tokens| t.values.iter().chain(&t.positions).copied().collect::<Vec<_>>();
    let (first, second) = (numbers(tokens), numbers(again));
    let apart = |(a, b): (&f32, &f32)| (a - b).abs() > AGAIN_WITHIN * a.abs().max(1.0);
    let other = first.iter().zip(&second).position(apart);
    ensure(other.is_none(), || {
        let at = other.unwrap_or(0);
        format!(
            "what reconstruct gives makes other tokens: {} and not {} at number {at} of values \
             and positions",
            second[at], first[at]
        )
    })?;
    ensure(again.indices == tokens.indices, || {
        format!(
            "what reconstruct gives makes tokens at the places {:?}, and not {:?}",
            again.indices, tokens.indices
        )
    })?;
    // A mean is no farther off than its numbers are.
    let near = |(a, b): (&[f32; 2], &[f32; 2])| {
        let allowed = AGAIN_WITHIN * a[0].abs().max(a[1].abs()) + within as f32;
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= allowed)
    };
    let alike = tokens.affine.iter().zip(&again.affine).all(near);
    ensure(alike && tokens.affine.len() == again.affine.len(), || {
        "what reconstruct gives makes tokens of another affine: its numbers are not those that \
         were taken in"
            .to_owned()
    })
}

/// The array, or the label in its place, is reconstructed with the sample's own numbers.
fn check_numbers(sample: &Sample<'_>, found: &Observation, within: f64) -> Check {
    let name = sample.field;
    let field = sample.observation.field(name).map_err(|e| e.to_string())?;
    let expected = field.array.data.to_f64();
    let found = match (found.fields.get(name), found.labels.get(name)) {
        (Some(field), _) => field.array.data.to_f64().into_owned(),
        (None, label) => match label.and_then(Label::number) {
            Some(number) => vec![number],
            None => return Ok(()),
        },
    };
    ensure(found.len() == expected.len(), || {
        format!("reconstruct gives {} numbers of {name:?}, not {}", found.len(), expected.len())
    })?;
    let (place, farthest) = sample.farthest(&found, &expected);
    ensure(farthest <= within, || {
        format!(
            "reconstruct gives {name:?} with the number {} at {place}, and the sample has {}; \
             {within} is allowed",
            found[place], expected[place]
        )
    })
}

/// The array is reconstructed under its own name, and every array in its own unit.
fn check_names(sample: &Sample<'_>, found: &Observation) -> Check {
    let name = sample.field;
    ensure(found.fields.contains_key(name) || found.labels.contains_key(name), || {
        let names: Vec<_> = found.fields.keys().chain(found.labels.keys()).collect();
        format!("what reconstruct gives lacks {name:?}; it has {names:?}")
    })?;
    for (name, field) in &found.fields {
        let read = sample.observation.fields.get(name).and_then(|read| read.unit.as_deref());
        let Some(read) = read else { continue };
        ensure(field.unit.as_deref().is_some_and(|unit| like_unit(unit, read)), || {
            format!(
                "reconstruct gives {name:?} in the unit {:?}, and the sample has it in {read:?}",
                field.unit
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Single precision, in which Julian dates are a quarter of a day apart, would not see it.
    #[test]
    fn a_tenth_of_a_day_is_seen_in_a_julian_date() {
        let dates: Vec<f64> = (0..12).map(|day| 2_459_000.0 + f64::from(day)).collect();
        let off: Vec<f64> = dates.iter().map(|date| date + 0.1).collect();
        let (_, apart) = Sample::default().farthest(&off, &dates);
        assert!((apart - 0.1).abs() < 1e-9, "{apart}");
    }

    #[test]
    fn what_does_not_come_back_is_infinitely_far() {
        let expected = [1.0, f64::NAN, -99.0, 4.0];
        let sample = Sample { lost: &[2], ..Sample::default() };
        assert_eq!(sample.farthest(&[1.0, 0.0, f64::NAN, 4.5], &expected), (3, 0.5));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let found = [1.0, f64::NAN, -99.0, bad];
            assert_eq!(sample.farthest(&found, &expected), (3, f64::INFINITY));
        }
    }

    #[test]
    fn copies_keep_what_may_be_lost() {
        let array = Array { shape: vec![3], data: Data::F64(vec![1.0, -99.0, 3.0]) };
        let field = crate::observation::Field { array, unit: None };
        let fields = [("flux".to_owned(), field)].into();
        let observation = Observation { fields, ..Observation::default() };
        let sample = Sample { observation, field: "flux", lost: &[1], ..Sample::default() };
        let numbers = |(_, copy): (_, Observation)| match &copy.fields["flux"].array.data {
            Data::F64(numbers) => numbers.clone(),
            other => panic!("{other:?}"),
        };
        let all: Vec<_> = copies(&sample).map(numbers).collect();
        let expected = [[11.0, -99.0, 13.0], [-9.0, -99.0, -7.0], [-2.0, -99.0, 6.0]];
        assert_eq!(all[..3], expected);
        assert_eq!(all[3], [18.0, -99.0, 3.0]);
        let within = within_of_copy(&sample, &[1.0, -99.0, 3.0], &all[0], 1e-2);
        assert!((within - 1e-2 * 13.0 / 3.0).abs() < 1e-12, "{within}");
        let within = within_of_copy(&sample, &[1.0, -99.0, 3.0], &all[3], 1e-2);
        assert!((within - 1e-2 * 15.0 / 2.0).abs() < 1e-12, "farther apart: {within}");
    }

    #[test]
    fn a_range_is_of_what_must_come_back() {
        let range = |range| Sample { range, lost: &[1], ..Sample::default() };
        let numbers = [1.0, -99.0, f64::NAN, 3.0];
        assert!(range(None).is_in_range(&numbers));
        assert!(range(Some([1.0, f64::INFINITY])).is_in_range(&numbers));
        assert!(!range(Some([1.5, 9.0])).is_in_range(&numbers));
        assert!(!range(Some([0.0, 2.5])).is_in_range(&numbers));
    }
}
