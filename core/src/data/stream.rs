//! `[stream]`: how the spans of an object become one sequence, and sequences rows.

use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::Row;

/// Sets the draws of what is left out apart from others of the same object and epoch.
const THINNED: u64 = 0x7468_696e;

/// `[stream]`: the token stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Order of an object's spans: `"alphabetical"` (by name of the modality, as the Python
    /// program), `"shuffled"`, or a list of all names.
    pub order: SpanOrder,
    /// Tokens around each span: `"none"`, as the paper, or `"begin-end"`.
    pub delimiters: Delimiters,
    /// What a row holds: `"object"`, one object, or `"rows"`, whole objects one after the
    /// other that do not see each other.
    pub packing: Packing,
    /// Tokens of a packed row, at most, delimiters counted. An object of more is not trained on
    /// and counts as unusable. Unset: as many as the longest object can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_length: Option<usize>,
    /// Least share of a span's tokens that a training step is shown: the share is drawn between
    /// this and 1, and so are the tokens, anew for every object and epoch. Below 1, few objects
    /// are not learnt by heart. For modalities whose tokens are the same whatever stands beside
    /// them; spans of one token stay whole, and whatever is not training sees all.
    pub keep: f64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            order: SpanOrder::default(),
            delimiters: Delimiters::default(),
            packing: Packing::default(),
            row_length: None,
            keep: 1.0,
        }
    }
}

/// Order of an object's spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"alphabetical\", \"shuffled\" or a list of modalities")]
pub enum SpanOrder {
    /// One of two words.
    Word(OrderWord),
    /// Names of all modalities.
    Listed(Vec<String>),
}

impl SpanOrder {
    /// Whether spans always follow each other by their names, as the Python AstroPT has them.
    pub(crate) fn is_alphabetical(&self) -> bool {
        match self {
            Self::Word(word) => *word == OrderWord::Alphabetical,
            Self::Listed(names) => names.is_sorted(),
        }
    }
}

impl Default for SpanOrder {
    fn default() -> Self {
        Self::Word(OrderWord::Alphabetical)
    }
}

/// Orders that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderWord {
    /// By name of the modality.
    Alphabetical,
    /// Another for every object and epoch, a pure function of both. Embeddings are read of all
    /// objects in the alphabetical order.
    Shuffled,
}

/// Tokens around each span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delimiters {
    /// None.
    #[default]
    None,
    /// A learned token of the modality before its span, which prompts the first of it, and
    /// one after it. They are read and never predicted.
    BeginEnd,
}

/// What a row of a batch holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// One object.
    #[default]
    Object,
    /// As many whole objects of the micro-batch as fit.
    Rows,
}

impl StreamConfig {
    /// Checks the names of a listed order against those of the modalities.
    ///
    /// # Errors
    /// The key to blame and what is wrong with it.
    pub(crate) fn check<'a>(
        &self,
        modalities: impl Iterator<Item = &'a String>,
    ) -> Result<(), (&'static str, String)> {
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            return Err(("keep", format!("is {}; it must be above 0 and at most 1", self.keep)));
        }
        if let (Some(length), Packing::Object) = (self.row_length, self.packing) {
            let message = format!(
                "is {length}, and rows are one object each; set stream.packing = \"rows\" too, or \
                 leave it out"
            );
            return Err(("row_length", message));
        }
        if self.row_length == Some(0) {
            let message = "is 0, and a row must hold an object's tokens; give as many as the \
                           longest object that is to be used has, or leave it out";
            return Err(("row_length", message.to_owned()));
        }
        let SpanOrder::Listed(listed) = &self.order else { return Ok(()) };
        let known: Vec<&String> = modalities.collect();
        for (place, name) in listed.iter().enumerate() {
            if !known.contains(&name) {
                return Err(("order", format!("lists {name:?}, which is no modality")));
            }
            if listed[..place].contains(name) {
                return Err(("order", format!("lists {name:?} twice")));
            }
        }
        match known.iter().find(|name| !listed.contains(name)) {
            Some(lacking) => Err(("order", format!("does not list {lacking:?}"))),
            None => Ok(()),
        }
    }

    /// Leaves tokens out of the spans of object `id` in `epoch`, as `keep` says.
    pub(crate) fn thin(&self, spans: &mut Row, id: &str, seed: u64, epoch: u64) {
        if self.keep >= 1.0 {
            return;
        }
        // Apart from the numbers that shuffle the spans.
        let mut draws = draws(id, seed ^ THINNED, epoch);
        for (_, tokens) in spans.iter_mut().filter(|(_, tokens)| tokens.len > 1) {
            let share = self.keep + (1.0 - self.keep) * draws.random::<f64>();
            let count = ((share * tokens.len as f64).round() as usize).clamp(2, tokens.len);
            let mut places = index::sample(&mut draws, tokens.len, count).into_vec();
            places.sort_unstable();
            *tokens = tokens.select(&places);
        }
    }

    /// Puts the spans of any object in the order in which hidden states are read: an embedding must
    /// not depend on an object's name. Of shuffled spans it is the alphabetical one, which training
    /// has shown the model as often as any other.
    pub(crate) fn settle(&self, spans: &mut Row) {
        spans.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let SpanOrder::Listed(listed) = &self.order {
            spans.sort_by_key(|(name, _)| listed.iter().position(|listed| listed == name));
        }
    }

    /// Puts the spans of object `id` (alphabetical so far) in stream order, in `epoch`.
    pub(crate) fn arrange(&self, spans: &mut Row, id: &str, seed: u64, epoch: u64) {
        match &self.order {
            SpanOrder::Word(OrderWord::Alphabetical) => {}
            SpanOrder::Word(OrderWord::Shuffled) => {
                spans.shuffle(&mut draws(id, seed, epoch));
            }
            SpanOrder::Listed(listed) => {
                spans.sort_by_key(|(name, _)| listed.iter().position(|listed| listed == name));
            }
        }
    }
}

/// The random numbers of object `id` in `epoch`.
fn draws(id: &str, seed: u64, epoch: u64) -> ChaCha8Rng {
    let seed = xxh3_64_with_seed(&epoch.to_le_bytes(), seed);
    ChaCha8Rng::seed_from_u64(xxh3_64_with_seed(id.as_bytes(), seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    #[test]
    fn tokens_are_left_out_anew_each_epoch_and_single_ones_never() {
        let span = |len: u32| Tokens {
            len: len as usize,
            codes: (0..len).collect(),
            indices: (0..len).collect(),
            ..Tokens::default()
        };
        let thinned = |text: &str, epoch: u64| {
            let mut row: Row = vec![("a".to_owned(), span(40)), ("b".to_owned(), span(1))];
            parse(text).thin(&mut row, "x", 5, epoch);
            row
        };
        assert_eq!(thinned("", 3)[0].1, span(40));
        let lengths: Vec<usize> = (0..300).map(|k| thinned("keep = 0.5", k)[0].1.len).collect();
        assert!(lengths.iter().all(|len| (20..=40).contains(len)), "{lengths:?}");
        assert!(lengths.contains(&20) && lengths.contains(&40), "{lengths:?}");
        let [first, again, other] = [3, 3, 4].map(|epoch| thinned("keep = 0.5", epoch));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(first[1].1, span(1));
        let tokens = &first[0].1;
        assert!(tokens.codes.is_sorted() && tokens.codes == tokens.indices);
        assert_eq!(tokens.codes.len(), tokens.len);
        for wrong in ["0.0", "1.5", "nan"] {
            let config = parse(&format!("keep = {wrong}"));
            assert_eq!(config.check(std::iter::empty()).expect_err(wrong).0, "keep");
        }
    }

    fn names(config: &StreamConfig, id: &str, epoch: u64) -> Vec<String> {
        let mut spans: Row =
            ["a", "b", "c", "d"].map(|name| (name.to_owned(), Tokens::default())).to_vec();
        config.arrange(&mut spans, id, 5, epoch);
        spans.into_iter().map(|(name, _)| name).collect()
    }

    fn parse(text: &str) -> StreamConfig {
        toml::from_str(text).expect("a stream")
    }

    #[test]
    fn orders_are_fixed_listed_or_shuffled() {
        assert_eq!(names(&parse(""), "x", 0), ["a", "b", "c", "d"]);
        assert_eq!(names(&parse("order = \"alphabetical\""), "x", 0), ["a", "b", "c", "d"]);
        let listed = parse("order = [\"d\", \"b\", \"a\", \"c\"]");
        assert_eq!(names(&listed, "x", 0), ["d", "b", "a", "c"]);
        let shuffled = parse("order = \"shuffled\"");
        let orders: std::collections::BTreeSet<_> =
            (0..200).map(|epoch| names(&shuffled, "x", epoch)).collect();
        assert_eq!(orders.len(), 24, "every order of four comes up");
        assert_eq!(names(&shuffled, "x", 3), names(&shuffled, "x", 3));
        assert!((0..20).any(|epoch| names(&shuffled, "x", epoch) != names(&shuffled, "y", epoch)));
        // Read, all objects stand in one order.
        for (config, order) in [(&shuffled, "abcd"), (&parse(""), "abcd"), (&listed, "dbac")] {
            let mut spans: Row =
                ["c", "a", "d", "b"].map(|name| (name.to_owned(), Tokens::default())).to_vec();
            config.settle(&mut spans);
            assert_eq!(spans.into_iter().map(|(name, _)| name).collect::<String>(), order);
        }
    }

    #[test]
    fn a_row_length_is_that_of_packed_rows() {
        let none = || std::iter::empty();
        let (key, message) = parse("row_length = 10").check(none()).expect_err("not packed");
        assert!(key == "row_length" && message.contains("packing"), "{message}");
        assert!(parse("packing = \"rows\"\nrow_length = 10").check(none()).is_ok());
        let none_fits = parse("packing = \"rows\"\nrow_length = 0").check(none());
        assert_eq!(none_fits.expect_err("nothing fits").0, "row_length");
    }

    #[test]
    fn a_list_names_every_modality_once() {
        let known: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
        for (order, wrong) in [
            ("[\"a\"]", "b"),
            ("[\"a\", \"b\", \"b\"]", "twice"),
            ("[\"a\", \"z\"]", "no modality"),
        ] {
            let config = parse(&format!("order = {order}"));
            let (key, message) = config.check(known.iter()).expect_err("wrong");
            assert!(key == "order" && message.contains(wrong), "{message}");
        }
        assert!(parse("order = [\"b\", \"a\"]").check(known.iter()).is_ok());
        assert!(toml::from_str::<StreamConfig>("order = \"random\"").is_err());
    }
}
