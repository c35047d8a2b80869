//! What volunteers would say of a galaxy.
//!
//! As in Galaxy Zoo (Willett et al. 2013, MNRAS 435, 2835; Walmsley et al. 2022, MNRAS 509,
//! 3966) 40 volunteers look at it, and labels are shares of their answers: each vote is
//! drawn with a probability that the truth gives. The probabilities are stand-ins. They know
//! what seeing hides: arms of a galaxy that is hardly larger than a star get few votes.
//!
//! All 40 answer every question, so that every galaxy has every label: `edge_on` and
//! `tight_spiral` are shares of all of them, not of those who saw a disc or arms.

use rand::Rng;
use rand_distr::{Binomial, Distribution};

use super::morphology::Morphology;
use super::photometry::logistic;

/// Volunteers who look at a galaxy.
const VOLUNTEERS: u64 = 40;

/// Shares of the answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Votes {
    /// Smooth, featured or disc, artefact: they add up to 1.
    pub(super) first: [f64; 3],
    /// A disc seen from its edge.
    pub(super) edge_on: f64,
    /// Tightly wound arms.
    pub(super) tight_spiral: f64,
}

impl Votes {
    /// Counts the votes on a galaxy whose disc has this scale length in units of the seeing;
    /// `spoilt` is how much of the image an artefact ruins, from 0 to 1.
    pub(super) fn draw(
        morphology: &Morphology,
        disc_share: f64,
        resolution: f64,
        spoilt: f64,
        random: &mut impl Rng,
    ) -> Self {
        let sharp = resolution * resolution / (0.25 + resolution * resolution);
        let face_on = logistic((morphology.cosine - 0.35) / 0.08);
        let arms = morphology.arms.map_or(0.0, |arms| {
            (1.0 - (-2.0 * (arms.strength + 0.5 * arms.flocculence)).exp()) * sharp * face_on
        });
        let bar = morphology.bar.map_or(0.0, |bar| 2.0 * bar.share * sharp * face_on);
        let edge = disc_share * logistic((morphology.inclination() - 76.0) / 5.0) * sharp.sqrt();
        let features = logistic(5.0 * (arms + bar + edge + 0.3 * disc_share - 0.55));
        let artefact = 0.02 + 0.8 * spoilt;
        let seen = (1.0 - artefact) * features;
        let tight = morphology.arms.map_or(0.0, |a| logistic((16.0 - a.pitch.abs()) / 3.0));
        let artefact = count(random, VOLUNTEERS, artefact);
        let disc = count(random, VOLUNTEERS - artefact, features);
        let share = |votes: u64| votes as f64 / VOLUNTEERS as f64;
        Self {
            first: [VOLUNTEERS - artefact - disc, disc, artefact].map(share),
            edge_on: share(count(random, VOLUNTEERS, 0.01 + 0.98 * edge)),
            tight_spiral: share(count(random, VOLUNTEERS, 0.02 + 0.96 * seen * arms * tight)),
        }
    }
}

/// How many of `volunteers` say yes.
fn count(random: &mut impl Rng, volunteers: u64, probability: f64) -> u64 {
    // A probability within 0 and 1 makes a distribution.
    Binomial::new(volunteers, probability.clamp(0.0, 1.0)).map_or(0, |votes| votes.sample(random))
}
