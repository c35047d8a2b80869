//! What a recipe's `[modality.NAME]` table of kind `codes` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Codes;
use crate::normalise::{check_loss_weight, check_size, default_loss_weight};

/// Largest vocabulary, and longest sequence: above any tokeniser's.
const MAX_SIZE: usize = 1 << 24;

/// Configuration of the modality `codes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodesConfig {
    /// Field of the observation that holds the integers.
    #[serde(default = "default_field")]
    pub field: String,
    /// Labels that hold them instead, one token each, in this order. An object that lacks
    /// one of them lacks the modality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Number of codes: integers run from 0 to `vocabulary - 1`. This or `words`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// What the codes stand for, in their order, where `labels` are texts such as classes:
    /// `["SN", "CV"]` makes 0 of `SN` and 1 of `CV`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Vec<String>>,
    /// What is done about a text that is not among the words.
    #[serde(default)]
    pub other_words: OtherWords,
    /// Shape of the field, the same for every object, read row by row (a 24 x 24 map of
    /// codes: `[24, 24]`, also where the source gives it a last axis of one). By default the field has one axis of any length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// Codes of the longest object, where neither `shape` nor `labels` says; more are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Rows of the position table; the greatest number of tokens by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_rows: Option<usize>,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
}

/// What is done about a text that is not among the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherWords {
    /// The object is refused.
    #[default]
    Refuse,
    /// The object counts as lacking the modality.
    Absent,
}

fn default_field() -> String {
    "codes".to_owned()
}

impl CodesConfig {
    /// Number of codes; 0 where the configuration does not say.
    pub(super) fn vocabulary(&self) -> usize {
        let words = self.words.as_ref().map(Vec::len);
        words.or(self.vocabulary).unwrap_or(0)
    }

    /// Tokens of the longest object; 0 where the configuration does not say.
    pub(super) fn max_tokens(&self) -> usize {
        match (&self.labels, &self.shape) {
            (Some(labels), _) => labels.len(),
            (None, Some(shape)) => {
                shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX)
            }
            (None, None) => self.max_tokens.unwrap_or(0),
        }
    }

    fn check(&self) -> Result<(), String> {
        match (&self.words, self.vocabulary) {
            (None, None) => return Err("`vocabulary` or `words` must be stated".to_owned()),
            (Some(_), Some(_)) => {
                return Err(
                    "`words` says how many codes there are; leave out `vocabulary`".to_owned()
                );
            }
            (None, Some(vocabulary)) => check_size("vocabulary", vocabulary, MAX_SIZE)?,
            (Some(words), None) => self.check_words(words)?,
        }
        let stated = [self.labels.is_some(), self.shape.is_some(), self.max_tokens.is_some()];
        let tokens = self.max_tokens();
        let key = match stated {
            [true, false, false] => "labels",
            [false, true, false] => "shape",
            [false, false, true] => "max_tokens",
            _ => {
                return Err(
                    "one of `labels`, `shape` and `max_tokens` must say how many codes an \
                            object has; state exactly one of them"
                        .to_owned(),
                );
            }
        };
        if !(1..=MAX_SIZE).contains(&tokens) {
            return Err(format!("`{key}` makes {tokens} tokens; 1 to {MAX_SIZE} are possible"));
        }
        if let Some(rows) = self.position_rows
            && !(tokens..=MAX_SIZE).contains(&rows)
        {
            return Err(format!(
                "`position_rows` is {rows}, but an object makes up to {tokens} tokens; it must \
                 lie between that and {MAX_SIZE}"
            ));
        }
        check_loss_weight(self.loss_weight)
    }
}

impl CodesConfig {
    fn check_words(&self, words: &[String]) -> Result<(), String> {
        check_size("words", words.len(), MAX_SIZE)?;
        if self.labels.is_none() {
            return Err("`words` are the texts of `labels`, which are not stated".to_owned());
        }
        let mut sorted: Vec<&String> = words.iter().collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("`words` lists {:?} twice; leave one out", pair[0])),
            None => Ok(()),
        }
    }
}

#[typetag::serde(name = "codes")]
impl ModalityConfig for CodesConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        self.check().map_err(Error::Misuse)?;
        Ok(Box::new(Codes::new(self.clone())))
    }
}

astropt_core::register_modality!(
    "codes",
    "Integers of a declared vocabulary, such as a discrete tokeniser's output",
    "field = \"codes\"\nvocabulary = 1024\nmax_tokens = 256",
    CodesConfig
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_key() {
        for (text, key) in [
            ("vocabulary = 0\nmax_tokens = 3", "`vocabulary`"),
            ("max_tokens = 3", "`vocabulary` or `words`"),
            ("words = ['a']\nvocabulary = 1\nlabels = ['c']", "leave out `vocabulary`"),
            ("words = ['a']\nmax_tokens = 1", "`labels`"),
            ("words = ['a', 'b', 'a']\nlabels = ['c']", "\"a\" twice"),
            ("words = []\nlabels = ['c']", "`words`"),
            ("vocabulary = 3", "exactly one"),
            ("vocabulary = 3\nmax_tokens = 3\nshape = [3]", "exactly one"),
            ("vocabulary = 3\nmax_tokens = 0", "`max_tokens`"),
            ("vocabulary = 3\nshape = [4294967296, 4294967296]", "`shape`"),
            ("vocabulary = 3\nlabels = []", "`labels`"),
            ("vocabulary = 3\nmax_tokens = 3\nposition_rows = 2", "`position_rows`"),
            ("vocabulary = 3\nmax_tokens = 3\nloss_weight = -1.0", "`loss_weight`"),
        ] {
            let config: CodesConfig = toml::from_str(text).expect(text);
            let error = config.build().err().expect(text).to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
