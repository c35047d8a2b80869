//! Numbers that catalogues write for an unknown value, among those that are read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Marks that are no measurement: told at first sight. The last is HEALPix's.
const SURE: [f32; 5] = [-99.0, -999.0, -9999.0, -99_999.0, -1.6375e30];
/// Sizes of marks, of either sign, that may be measurements: told where they stand out.
const SIZES: [f32; 11] =
    [99.0, 99.9, 99.99, 999.0, 999.9, 999.99, 9999.0, 9999.9, 9999.99, 99_999.0, 1e20];
/// Objects that must have the mark for it to stand out.
const OBJECTS: usize = 3;
/// Numbers that must have been seen that are no marks.
const OTHERS: usize = 20;
/// How many times as large as those the mark must be.
const FARTHER: f64 = 2.0;

/// Whether `x` is written like a mark. In single precision, which files often keep.
fn is_mark(x: f64) -> bool {
    // Most numbers are smaller than any mark.
    x.abs() > 98.0 && (is_sure(x) || SIZES.contains(&(x as f32).abs()))
}

fn is_sure(x: f64) -> bool {
    SURE.contains(&(x as f32))
}

/// What was seen of the marks in one column or field. Its objects may come from any thread, and
/// more than once.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    told: AtomicBool,
    /// Bits of the size of the largest number that is no mark: those of numbers from 0 on are in
    /// order.
    largest: AtomicU64,
    others: AtomicUsize,
    /// The mark that was met first, and objects that have it.
    met: Mutex<Option<(f64, BTreeSet<String>)>>,
}

impl Marks {
    /// Takes in the numbers of the object `id`. A mark that a person should hear of comes back, once;
    /// with `at_sight` false also one that is hardly a measurement must stand out first.
    pub(crate) fn note(
        &self,
        id: &str,
        numbers: impl IntoIterator<Item = f64>,
        at_sight: bool,
    ) -> Option<f64> {
        if self.told.load(Ordering::Relaxed) {
            return None;
        }
        let (mut largest, mut others, mut mark) = (0.0f64, 0, None);
        for x in numbers {
            if is_mark(x) {
                mark = mark.or(Some(x));
            } else {
                largest = largest.max(x.abs());
                others += 1;
            }
        }
        // Written to seldom, since threads wait for each other there.
        if largest.to_bits() > self.largest.load(Ordering::Relaxed) {
            self.largest.fetch_max(largest.to_bits(), Ordering::Relaxed);
        }
        if self.others.load(Ordering::Relaxed) < OTHERS {
            self.others.fetch_add(others, Ordering::Relaxed);
        }
        let mark = mark?;
        let tell = at_sight && is_sure(mark)
            || self.is_met_often(id, mark)
                && self.others.load(Ordering::Relaxed) >= OTHERS
                && mark.abs() > FARTHER * f64::from_bits(self.largest.load(Ordering::Relaxed));
        (tell && !self.told.swap(true, Ordering::Relaxed)).then_some(mark)
    }

    /// Whether enough objects have the mark that was met first, one of which is `id` if it has that.
    fn is_met_often(&self, id: &str, mark: f64) -> bool {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, ids) = met.get_or_insert_with(|| (mark, BTreeSet::new()));
        if *first == mark && ids.len() < OBJECTS {
            ids.insert(id.to_owned());
        }
        *first == mark && ids.len() >= OBJECTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The marks that are told of objects with these numbers, one each.
    fn told(numbers: &[f64]) -> Vec<f64> {
        let marks = Marks::default();
        let one = |(k, &x): (usize, &f64)| marks.note(&k.to_string(), [x], true);
        numbers.iter().enumerate().filter_map(one).collect()
    }

    #[test]
    fn a_mark_is_told_once_where_it_stands_out() {
        let magnitudes: Vec<f64> = (0..40).map(|k| 14.0 + f64::from(k) / 4.0).collect();
        for mark in [99.0, 99.99, -99.9, 999.0, 9999.0, -9999.9, f64::from(99.99f32)] {
            let numbers = [magnitudes.as_slice(), &[mark; 5]].concat();
            assert_eq!(told(&numbers), [mark]);
            assert!(told(&numbers[..42]).is_empty(), "two objects alone: {mark}");
        }
        assert_eq!(told(&[1.0, -999.0, -999.0]), [-999.0]);
        assert_eq!(told(&[-1.6375e30]), [-1.6375e30]);
    }

    #[test]
    fn a_number_among_others_of_its_size_is_none() {
        let angles: Vec<f64> = (0..360).map(f64::from).chain([99.0; 5]).collect();
        assert!(told(&angles).is_empty());
        assert!(told(&[99.0; 50]).is_empty(), "a column of one number");
        // One object that is read again and again.
        let marks = Marks::default();
        marks.note("a", (0..40).map(f64::from), true);
        assert!((0..9).all(|_| marks.note("b", [999.0], true).is_none()));
    }

    #[test]
    fn where_numbers_are_many_a_mark_must_stand_out() {
        let marks = Marks::default();
        let series = || (0..30).map(f64::from).chain([-999.0]);
        let told: Vec<_> = ["a", "b", "c", "d"].map(|id| marks.note(id, series(), false)).into();
        assert_eq!(told, [None, None, Some(-999.0), None]);
    }
}
