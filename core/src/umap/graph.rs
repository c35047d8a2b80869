//! The weighted graph of neighbours (algorithms 2 and 3 of the paper).

use crate::probe::distances::Neighbours;

/// An edge of the graph. Every edge is there in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    /// In (0, 1]: how surely the two are neighbours.
    pub(super) weight: f32,
}

/// The graph whose weights join what both ends say: `a + b - a b`, in the order of its ends.
pub(super) fn fuzzy_union(neighbours: &[Neighbours]) -> Vec<Edge> {
    let mut said: Vec<Edge> = Vec::new();
    for (i, near) in neighbours.iter().enumerate() {
        let from = i as u32;
        for (&(to, _), weight) in near.iter().zip(memberships(near)) {
            said.push(Edge { from, to, weight });
            said.push(Edge { from: to, to: from, weight });
        }
    }
    said.sort_by_key(|edge| (edge.from, edge.to));
    said.dedup_by(|next, kept| {
        let same = (next.from, next.to) == (kept.from, kept.to);
        if same {
            kept.weight += next.weight - kept.weight * next.weight;
        }
        same
    });
    said.retain(|edge| edge.weight > 0.0);
    said
}

/// How surely each of an object's neighbours is one: `exp(-(d - rho) / sigma)` with rho the
/// distance to the nearest, and sigma such that they sum to the logarithm of their number.
fn memberships(near: &Neighbours) -> Vec<f32> {
    let rho = near.iter().map(|n| n.1).find(|&d| d > 0.0).unwrap_or(0.0);
    let beyond: Vec<f64> = near.iter().map(|n| f64::from((n.1 - rho).max(0.0))).collect();
    let sigma = bandwidth(&beyond, (near.len() as f64).log2());
    // Neighbours that are all equally far leave sigma nothing to measure.
    let mean = near.iter().map(|n| f64::from(n.1)).sum::<f64>() / near.len() as f64;
    let sigma = sigma.max(1e-3 * mean).max(f64::MIN_POSITIVE);
    beyond.iter().map(|d| (-d / sigma).exp() as f32).collect()
}

/// The sigma at which `exp(-d / sigma)` sums to `target`, by bisection; the smallest or the
/// largest tried where there is none.
fn bandwidth(beyond: &[f64], target: f64) -> f64 {
    let sum = |sigma: f64| beyond.iter().map(|d| (-d / sigma).exp()).sum::<f64>();
    let largest = beyond.iter().copied().fold(0.0, f64::max);
    let (mut low, mut high) = (0.0, 1e3 * largest);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if sum(middle) > target { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_sum_to_the_logarithm() {
        let near: Neighbours = (0..15u8).map(|j| (j.into(), 2.0 + f32::from(j) * 0.3)).collect();
        let weights = memberships(&near);
        assert_eq!(weights[0], 1.0);
        assert!((weights.iter().sum::<f32>() - 15f32.log2()).abs() < 1e-4, "{weights:?}");
        assert!(weights.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn equal_objects_are_surely_neighbours() {
        let zero: Neighbours = (0..5).map(|j| (j, 0.0)).collect();
        assert_eq!(memberships(&zero), [1.0; 5]);
        let equal: Neighbours = (0..5).map(|j| (j, 3.0)).collect();
        assert_eq!(memberships(&equal), [1.0; 5]);
    }

    #[test]
    fn what_both_ends_say_is_joined() {
        let near = |pairs: &[(u32, f32)]| pairs.to_vec();
        let edges =
            fuzzy_union(&[near(&[(1, 1.0), (2, 9.0)]), near(&[(2, 1.0), (0, 1.0)]), near(&[])]);
        let find = |from, to| edges.iter().find(|e| (e.from, e.to) == (from, to));
        assert_eq!(find(0, 1).map(|e| e.weight), Some(1.0));
        assert_eq!(find(2, 1).map(|e| e.weight), Some(1.0));
        assert!(find(2, 0).is_some_and(|e| e.weight < 1.0));
        assert_eq!(find(0, 2).map(|e| e.weight), find(2, 0).map(|e| e.weight));
        assert_eq!(edges.len(), 6);
    }
}
