//! A whole span in a few numbers: what lies behind the tokens that a self-check records is
//! compared by them.

use crate::tokens::Tokens;

/// Groups of neighbours that are summed.
pub(super) const GROUPS: usize = 64;

/// Sums of what the tokens are and of where they stand, [`GROUPS`] of each, of neighbours with
/// signs that depend on the place alone: other numbers, or the same in another order, have other
/// sums. Of n numbers they are of the size of √n of them, and are divided by that.
pub(super) fn sums(tokens: &Tokens) -> [Vec<f32>; 2] {
    let floats = |all: &[f32]| all.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let integers = |all: &[u32]| all.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let what = [floats(&tokens.values), integers(&tokens.codes)].concat();
    let places = [floats(&tokens.positions), integers(&tokens.indices)].concat();
    [what, places].map(|numbers| signed(&numbers))
}

fn signed(numbers: &[f64]) -> Vec<f32> {
    let mut sums = vec![0.0; GROUPS];
    for (k, number) in numbers.iter().enumerate() {
        sums[k * GROUPS / numbers.len()] += if odd(k as u64) { -number } else { *number };
    }
    let size = (numbers.len() as f64 / GROUPS as f64).max(1.0).sqrt();
    sums.into_iter().map(|sum| (sum / size) as f32).collect()
}

/// A bit without a pattern (SplitMix64, Steele, Lea & Flood 2014).
fn odd(place: u64) -> bool {
    let mut z = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_and_other_orders_have_other_sums() {
        let span = |values: Vec<f32>| Tokens {
            len: 1000,
            values: values.into(),
            indices: (0..1000).collect(),
            ..Tokens::default()
        };
        let values: Vec<f32> =
            (0..3000).map(|k| ((k * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        let [what, places] = sums(&span(values.clone()));
        assert_eq!((what.len(), places.len()), (GROUPS, GROUPS));
        assert_eq!([what.clone(), places.clone()], sums(&span(values.clone())));
        let mut changed = values.clone();
        changed[2990] += 0.1;
        let [other, same] = sums(&span(changed));
        assert_ne!(what, other);
        assert_eq!(places, same);
        let mut turned = values;
        turned[2000..].reverse();
        assert_ne!(what[50..], sums(&span(turned))[0][50..]);
    }
}
