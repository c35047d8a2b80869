//! What is asked of one object's tokens.

use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::Row;

/// `[objective]`: what training asks of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", from = "Written")]
pub enum Objective {
    /// Each token from those before it.
    #[default]
    Autoregressive,
    /// Tokens replaced by a learned one, from all others: a masked autoencoder (He et al.
    /// 2022, arXiv:2111.06377, without its separate decoder).
    Masked {
        /// Share of an object's tokens that is hidden, between 0 and 1; of two tokens or more
        /// one is always left to see.
        ratio: f64,
    },
    /// Each token after a prefix of random length from those before it, where the tokens of
    /// the prefix see each other whole (Raffel et al. 2020, arXiv:1910.10683).
    Prefix {
        /// Least share of an object's tokens in the prefix; delimiters count for nothing.
        least: f64,
        /// Largest share, below 1.
        most: f64,
    },
}

/// An [`Objective`] as recipes write it: each kind has its own keys and no others, which a kind
/// without any cannot refuse unless it is a struct.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Written {
    Autoregressive {},
    Masked {
        #[serde(default = "mask_ratio")]
        ratio: f64,
    },
    Prefix {
        #[serde(default)]
        least: f64,
        #[serde(default = "most")]
        most: f64,
    },
}

impl From<Written> for Objective {
    fn from(written: Written) -> Self {
        match written {
            Written::Autoregressive {} => Self::Autoregressive,
            Written::Masked { ratio } => Self::Masked { ratio },
            Written::Prefix { least, most } => Self::Prefix { least, most },
        }
    }
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

    /// Whether something can be asked of an object of `tokens` tokens, with or without
    /// `delimiters` around its spans.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_tokens(&self, tokens: usize, delimiters: bool) -> Result<(), &'static str> {
        match self {
            // A begin prompts the first token.
            Self::Autoregressive if tokens < 2 && !delimiters => {
                Err("it makes a single token, which no other token can predict")
            }
            Self::Prefix { .. } if tokens < 2 => {
                Err("it makes a single token, and a prefix needs one after it to predict")
            }
            _ => Ok(()),
        }
    }

    /// How many tokens at the end of a sequence are targets only, and no inputs.
    pub(super) fn unread(&self) -> usize {
        match self {
            Self::Masked { .. } => 0,
            Self::Autoregressive | Self::Prefix { .. } => 1,
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
                // What is hidden is predicted from others: of two or more one is left to see.
                let hidden = share(ratio, 1, tokens.saturating_sub(1));
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
    /// The tokens after the first so many, each from those before it. The first so many are the
    /// prefix, and with them what stands before the first token that is predicted: delimiters
    /// between the two belong to it, as when a span is generated after others that are given.
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
    fn a_mask_leaves_a_token_to_see() {
        for (ratio, tokens, count) in
            [(0.75, 2, 1), (0.999, 2, 1), (0.999, 50, 49), (0.75, 3, 2), (0.75, 8, 6), (0.01, 2, 1)]
        {
            for seed in 0..20 {
                let task = Objective::Masked { ratio }.task("a", tokens, seed);
                let Task::Masked(mask) = task else { panic!("masked") };
                let hidden = mask.iter().filter(|&&hidden| hidden).count();
                assert_eq!((mask.len(), hidden), (tokens, count), "{ratio} of {tokens}");
            }
        }
    }

    #[test]
    fn a_single_token_is_predicted_from_its_begin_alone() {
        let prefix = Objective::Prefix { least: 0.0, most: 0.9 };
        assert!(Objective::Autoregressive.check_tokens(1, true).is_ok());
        assert!(Objective::Autoregressive.check_tokens(1, false).is_err());
        assert!(Objective::Autoregressive.check_tokens(2, false).is_ok());
        assert!(prefix.check_tokens(1, true).is_err() && prefix.check_tokens(2, false).is_ok());
        assert!(Objective::Masked { ratio: 0.5 }.check_tokens(1, false).is_ok());
    }

    #[test]
    fn each_kind_has_its_own_keys_and_no_others() {
        let read = |text: &str| toml::from_str::<Objective>(text);
        let autoregressive = "kind = \"autoregressive\"";
        assert_eq!(read(autoregressive).expect("sound"), Objective::Autoregressive);
        let masked = read("kind = \"masked\"").expect("sound");
        assert_eq!(masked, Objective::Masked { ratio: 0.75 });
        let prefix = read("kind = \"prefix\"\nmost = 0.5").expect("sound");
        assert_eq!(prefix, Objective::Prefix { least: 0.0, most: 0.5 });
        for wrong in [
            "kind = \"autoregressive\"\nratio = 0.5",
            "kind = \"masked\"\nleast = 0.5",
            "kind = \"prefix\"\nratio = 0.5",
        ] {
            let error = read(wrong).expect_err(wrong).to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
        // What is written is read again.
        for objective in [Objective::Autoregressive, masked, prefix] {
            let text = toml::to_string(&objective).expect("written");
            assert_eq!(read(&text).expect("read"), objective, "{text}");
        }
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        assert!(Objective::Masked { ratio: 1.0 }.check().is_err());
        assert!(Objective::Masked { ratio: f64::NAN }.check().is_err());
        assert!(Objective::Prefix { least: 0.5, most: 0.2 }.check().is_err());
        assert!(Objective::Prefix { least: 0.0, most: 0.9 }.check().is_ok());
    }
}
