//! UMAP: a map of embeddings in two dimensions on which near objects stay near.
//!
//! Written from McInnes, Healy & Melville 2018 (arXiv:1802.03426), whose algorithm numbers the
//! parts name: nearest neighbours ([`neighbours`]), the fuzzy graph of them ([`graph`]), and its
//! layout by stochastic gradient descent ([`layout`]) from the two principal components, which
//! keeps the large-scale arrangement (Kobak & Linderman 2021). [`trustworthiness`] says how far
//! a map can be believed.
//!
//! Neighbours are exact. Time grows with the square of the number of objects and with their
//! width, memory only with their product: some tens of thousands of objects are a matter of
//! seconds to minutes. Of a larger catalogue a caller draws a sample.
//!
//! The map is the same for the same features and seed, whatever the number of threads.

mod graph;
mod layout;
mod neighbours;
mod trust;

pub use trust::trustworthiness;

use crate::error::{Error, Result};
use crate::probe::Features;

/// How a map is made. The defaults are the paper's.
#[derive(Clone, Debug, PartialEq)]
pub struct UmapConfig {
    /// Neighbours of an object: few show detail, many the whole. At most one less than objects.
    pub neighbours: usize,
    /// Distance on the map within which objects may crowd.
    pub min_dist: f64,
    /// Scale of the map's distances.
    pub spread: f64,
    /// Passes over the graph; `None`: 500 up to 10,000 objects, 200 beyond.
    pub epochs: Option<usize>,
    /// Objects pushed away for one that is drawn near.
    pub negative_samples: usize,
    /// Seed of the layout.
    pub seed: u64,
}

impl Default for UmapConfig {
    fn default() -> Self {
        Self {
            neighbours: 15,
            min_dist: 0.1,
            spread: 1.0,
            epochs: None,
            negative_samples: 5,
            seed: 0,
        }
    }
}

/// Fewest objects a map is made of.
const FEWEST: usize = 4;

/// Places of the objects `[n, width]` on a map `[n, 2]`, by Euclidean distance.
///
/// # Errors
/// When a setting is out of range, there are fewer than four objects, or a feature is not
/// finite.
pub fn umap(features: &Features, config: &UmapConfig) -> Result<Vec<[f32; 2]>> {
    check(features, config)?;
    let neighbours = neighbours::nearest(features, config.neighbours.min(features.n - 1));
    let edges = graph::fuzzy_union(&neighbours);
    let start = layout::principal_plane(features, config.seed)?;
    Ok(layout::optimise(start, &edges, config))
}

fn check(features: &Features, config: &UmapConfig) -> Result<()> {
    let UmapConfig { neighbours, min_dist, spread, .. } = *config;
    if neighbours < 2 {
        return Err(Error::Misuse(format!("UMAP needs at least 2 neighbours, not {neighbours}")));
    }
    if !(spread > 0.0 && spread.is_finite() && (0.0..=spread).contains(&min_dist)) {
        return Err(Error::Misuse(format!(
            "UMAP's spread must be above 0 and min_dist between 0 and the spread, not {spread} and {min_dist}"
        )));
    }
    if features.n < FEWEST {
        return Err(Error::Failed(format!(
            "a UMAP needs at least {FEWEST} objects, and there are {}; embed more",
            features.n
        )));
    }
    finite(features)
}

/// Refuses features that are not finite, naming the first object that has one.
fn finite(features: &Features) -> Result<()> {
    match features.data.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(Error::Failed(format!(
            "the embedding of object {} (from 0) holds a number that is not finite; leave it out",
            at / features.width
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
