//! How far a map can be believed.

use super::finite;
use super::neighbours::from_each;
use crate::error::{Error, Result};
use crate::probe::Features;
use crate::probe::distances::smallest;

/// Trustworthiness of a map `low` `[n, 2]` of the objects `high` `[n, width]` for neighbourhoods
/// of `k`: 1 when the `k` nearest objects on the map are the `k` nearest by their features, less
/// the further off they are (Venna & Kaski 2001, equation 1).
///
/// # Errors
/// When the numbers of objects differ, `k` is not between 1 and less than half of it, or a
/// feature is not finite.
pub fn trustworthiness(high: &Features, low: &[[f32; 2]], k: usize) -> Result<f64> {
    let n = high.n;
    if low.len() != n {
        return Err(Error::Misuse(format!("a map of {} objects, features of {n}", low.len())));
    }
    if k == 0 || 2 * k >= n {
        return Err(Error::Misuse(format!(
            "trustworthiness of {n} objects needs k between 1 and less than half of them, not {k}"
        )));
    }
    finite(high)?;
    let penalties = from_each(high, |i, d_n| penalty(i, d_n, low, k));
    let (n, sum) = (n as f64, penalties.iter().sum::<u64>() as f64);
    let k = k as f64;
    Ok(1.0 - 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0)) * sum)
}

/// By how many ranks beyond `k` the map's neighbours of object `i` are too far, whose squared
/// distances to all are `d_n`.
fn penalty(i: usize, d_n: &[f32], low: &[[f32; 2]], k: usize) -> u64 {
    let on_map = |j: usize| {
        let apart = [0, 1].map(|axis| low[i][axis] - low[j][axis]);
        (j as u32, apart[0] * apart[0] + apart[1] * apart[1])
    };
    let near = smallest((0..low.len()).filter(|&j| j != i).map(on_map), k);
    let rank = |&(j, _): &(u32, f32)| {
        let limit = d_n[j as usize];
        let nearer = d_n.iter().filter(|&&d| d < limit).count();
        // The object itself is nearer than any other that differs from it.
        let itself = usize::from(d_n[i] < limit);
        nearer - itself + 1
    };
    near.iter().map(|pair| rank(pair).saturating_sub(k) as u64).sum()
}
