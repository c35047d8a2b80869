//! What is asked of one object's tokens.

use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::Row;

/// `[objective]`: what training asks of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Objective {
    /// Each token from those before it.
    #[default]
    Autoregressive,
    /// Tokens replaced by a learned one, from all others: a masked autoencoder (He et al.
    /// 2022, arXiv:2111.06377, without its separate decoder).
    Masked {
        /// Share of an object's tokens that is hidden, between 0 and 1.
        #[serde(default = "mask_ratio")]
        ratio: f64,
    },
    /// Each token after a prefix of random length from those before it, where the tokens of
    /// the prefix see each other whole (Raffel et al. 2020, arXiv:1910.10683).
    Prefix {
        /// Least share of an object's tokens in the prefix.
        #[serde(default)]
        least: f64,
        /// Largest share, below 1.
        #[serde(default = "most")]
        most: f64,
    },
}

fn mask_ratio() -> f64 {
    0.75
}

fn most() -> f64 {
    0.9
}

impl Objective {
    /// Checks the shares.
    ///
    /// # Errors
    /// The key to blame and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        match *self {
            Self::Masked { ratio } if !(ratio > 0.0 && ratio < 1.0) => {
                Err(("ratio", format!("is {ratio}; it must lie between 0 and 1")))
            }
            Self::Prefix { least, .. } if !(0.0..1.0).contains(&least) => {
                Err(("least", format!("is {least}; it must lie between 0 and 1")))
            }
            Self::Prefix { least, most } if !(most >= least && most < 1.0) => {
                Err(("most", format!("is {most}; it must lie between least ({least}) and 1")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a token sees only those before it, where nothing is to be predicted.
    pub fn is_causal(&self) -> bool {
        matches!(self, Self::Autoregressive)
    }

    /// Fewest tokens of an object that something can be asked of.
    pub(crate) fn least_tokens(&self) -> usize {
        match self {
            Self::Masked { .. } => 1,
            Self::Autoregressive | Self::Prefix { .. } => 2,
        }
    }

    /// What is asked of an object of `tokens` tokens: a pure function of its id and `seed`.
    pub fn task(&self, id: &str, tokens: usize, seed: u64) -> Task {
        let mut draws = ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(id.as_bytes(), seed));
        let share = |ratio: f64, low: usize, high: usize| {
            ((ratio * tokens as f64).round() as usize).clamp(low, high.max(low))
        };
        match *self {
            Self::Autoregressive => Task::Next,
            Self::Masked { ratio } => {
                let hidden = share(ratio, 1, tokens);
                let mut mask = vec![false; tokens];
                for at in index::sample(&mut draws, tokens, hidden.min(tokens)) {
                    mask[at] = true;
                }
                Task::Masked(mask)
            }
            Self::Prefix { least, most } => {
                let ratio = least + (most - least) * draws.random::<f64>();
                Task::After(share(ratio, 1, tokens.saturating_sub(1)))
            }
        }
    }
}

/// What is asked of one object's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing: hidden states are read.
    Read,
    /// Each token from those before it.
    Next,
    /// Each token that is `true`, which the model does not see, from the others.
    Masked(Vec<bool>),
    /// The tokens after the first so many, each from those before it.
    After(usize),
}

/// An object's spans in stream order, and what is asked of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence<'a> {
    /// Id of the object.
    pub id: &'a str,
    /// Its spans.
    pub spans: &'a Row,
    /// What is asked.
    pub task: Task,
}

impl Sequence<'_> {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|(_, tokens)| tokens.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_depend_on_id_and_seed_alone_and_keep_their_shares() {
        let masked = Objective::Masked { ratio: 0.4 };
        let Task::Masked(mask) = masked.task("a", 100, 1) else { panic!("masked") };
        assert_eq!(mask.iter().filter(|&&m| m).count(), 40);
        assert_eq!(masked.task("a", 100, 1), Task::Masked(mask.clone()));
        assert_ne!(masked.task("b", 100, 1), Task::Masked(mask.clone()));
        assert_ne!(masked.task("a", 100, 2), Task::Masked(mask));
        let prefix = Objective::Prefix { least: 0.2, most: 0.5 };
        for seed in 0..100 {
            let Task::After(first) = prefix.task("a", 100, seed) else { panic!("prefix") };
            assert!((20..=50).contains(&first), "{first}");
        }
        assert_eq!(masked.task("a", 1, 0), Task::Masked(vec![true]));
        assert_eq!(prefix.task("a", 2, 0), Task::After(1));
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        assert!(Objective::Masked { ratio: 1.0 }.check().is_err());
        assert!(Objective::Masked { ratio: f64::NAN }.check().is_err());
        assert!(Objective::Prefix { least: 0.5, most: 0.2 }.check().is_err());
        assert!(Objective::Prefix { least: 0.0, most: 0.9 }.check().is_ok());
    }
}
