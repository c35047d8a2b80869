//! Modality: observation -> tokens, and back.

use std::fmt::Debug;

use super::config_type::ConfigType;
use super::facts::SpanFacts;
use super::registry::{ConfigError, PluginInfo};
use crate::error::Result;
use crate::observation::{Array, LabelUnits, Observation};
use crate::tokens::{TokenSpec, Tokens};

/// The configuration of a modality, as a recipe's `[modality.NAME]` table states it.
///
/// Implement it for a serde struct with `deny_unknown_fields`, mark the implementation
/// with `#[typetag::serde(name = "KIND")]`, and register the struct with
/// [`register_modality!`](crate::register_modality).
#[typetag::serde(tag = "kind")]
pub trait ModalityConfig: Debug + Send + Sync {
    /// Builds the tokeniser.
    ///
    /// # Errors
    /// When the values contradict each other; names the key and the way out.
    fn build(&self) -> Result<Box<dyn Modality>>;
}

/// Turns observations into tokens. It describes its tokens and never owns parameters: the
/// core builds the encoder, decoder and position layers from [`Modality::spec`].
pub trait Modality: Send + Sync {
    /// What the tokens look like; constant.
    fn spec(&self) -> TokenSpec;

    /// The span of `observation`, or `None` when the object lacks this modality.
    ///
    /// A pure function: the same observation gives the same bytes, on any thread.
    ///
    /// # Errors
    /// When the object has the modality but it cannot be used (wrong size, NaN pixels).
    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>>;

    /// The inverse of [`tokenise`](Self::tokenise): the observation's array in its own
    /// units, as far as [`Tokens::affine`] knows them; tokens that a model made have none, and
    /// come back as they are. For an image `[height, width, bands]`.
    ///
    /// # Errors
    /// When the tokens are not ones this modality makes.
    fn detokenise(&self, tokens: &Tokens) -> Result<Array>;

    /// The inverse of [`tokenise`](Self::tokenise) as an observation without an id: every
    /// field and label that the tokens tell, under the names they were read from and in
    /// their own units, such as a spectrum's flux with its wavelengths. Where the tokens hold
    /// all that was read, tokenising it gives them again. `None`: the modality tells no more
    /// than [`detokenise`](Self::detokenise) does.
    ///
    /// # Errors
    /// As [`detokenise`](Self::detokenise).
    fn reconstruct(&self, _tokens: &Tokens) -> Result<Option<Observation>> {
        Ok(None)
    }

    /// An observation such as this modality reads, made up: the same at every call, and such that
    /// all of its preparation is called for (a margin to be cropped, a bad sample to be filled).
    /// The self-check of a model that was imported without data records it with its tokens.
    /// `None`: there is none, and such a self-check does not cover this modality's preparation.
    fn example(&self) -> Option<Observation> {
        None
    }

    /// The span of an object of which nothing is known: as many tokens, and where they are, as
    /// [`tokenise`](Self::tokenise) would make, their values zero, with no
    /// [`affine`](Tokens::affine). A model fills it in for objects that lack the modality.
    /// `None`: number or positions differ from object to object, and the configuration does not
    /// tell them.
    fn blank(&self) -> Option<Tokens> {
        None
    }

    /// How a person would look at what `tokens` show. `None`: there is no picture of it.
    ///
    /// # Errors
    /// As [`detokenise`](Self::detokenise).
    fn preview(&self, _tokens: &Tokens) -> Result<Option<Preview>> {
        Ok(None)
    }

    /// What an object's own observation tells of the span `tokens` beyond its tokens, so that what a
    /// model makes in their place is written in the object's numbers. `own`: the observation they
    /// were made of, without fields where the data have tokens alone; `None`: the places are
    /// another's. By default what names and shapes tell.
    fn facts(&self, own: Option<&Observation>, tokens: &Tokens) -> SpanFacts {
        let told = self.reconstruct(tokens).ok().flatten();
        let array = if told.is_none() { self.detokenise(tokens).ok() } else { None };
        SpanFacts::by_name(own, tokens, told.as_ref(), array.as_ref())
    }

    /// The [`preview`](Self::preview) without what `facts` call padding.
    ///
    /// # Errors
    /// As [`detokenise`](Self::detokenise).
    fn preview_of(&self, tokens: &Tokens, _facts: &SpanFacts) -> Result<Option<Preview>> {
        self.preview(tokens)
    }

    /// A part of `tokens` that is one number throughout, such as a band in which nothing was
    /// observed, in words: "band 1 is one number throughout". Objects that have one are rejected,
    /// unless `train.faults.dead = "keep"`; whether all numbers of a span are one is looked at
    /// elsewhere. Asked of every object that is read: it should end at the first other number.
    /// Tokens may have gone through half precision.
    fn dead_part(&self, _tokens: &Tokens) -> Option<String> {
        None
    }

    /// Whether a span stays what it says when tokens are left out of it, as `stream.keep` below 1
    /// does. `false` where a token or its position tells of the one beside it.
    fn thinnable(&self) -> bool {
        true
    }

    /// Whether the span of any object has as many tokens as that of any other. Training on such a
    /// modality alone need not look at all micro-batches of a step before it computes the first.
    fn is_even(&self) -> bool {
        false
    }

    /// What the recipe says there is and no observation tokenised so far had, where the modality goes
    /// on without: the field or label that holds it, and what it is, in words that follow "none of
    /// the objects read so far has". A person is warned of it.
    fn unseen(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Units that the recipe states of labels which this modality reads, by the labels' names.
    /// When the data are opened they are compared with the units that the data state; nothing is
    /// converted.
    fn label_units(&self) -> LabelUnits {
        LabelUnits::new()
    }

    /// Choices made where there is more than one tradition, as name and what was chosen, for
    /// the report.
    fn choices(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Plain features of the observation itself, no model involved, that a probe on the
    /// embedding has to beat: for an image, its pixels averaged to a coarse grid. Always of
    /// the same length. `None`: the object lacks the modality, or there are none to give.
    ///
    /// # Errors
    /// As [`tokenise`](Self::tokenise).
    fn raw_features(&self, _observation: &Observation) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }
}

/// An 8-bit picture of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[height, width, 3]` red, green and blue.
    pub rgb: Vec<u8>,
}

/// A registered modality.
pub struct ModalityPlugin {
    /// Name, summary and example.
    pub info: PluginInfo,
    /// The struct that its table is read into.
    pub config: ConfigType,
    /// Reads the configuration from a recipe's table, `kind` taken out.
    pub parse: fn(toml::Table) -> std::result::Result<Box<dyn ModalityConfig>, ConfigError>,
}

inventory::collect!(ModalityPlugin);

/// Registers a modality: its kind, a one-line summary, an example of its table (without
/// `kind`) and the configuration struct.
///
/// ```ignore
/// register_modality!("scalar", "Catalogue numbers", "columns = [\"z\"]", ScalarConfig);
/// ```
#[macro_export]
macro_rules! register_modality {
    ($kind:literal, $summary:literal, $example:expr, $config:ty) => {
        $crate::inventory::submit! {
            $crate::seam::ModalityPlugin {
                info: $crate::seam::PluginInfo {
                    kind: $kind,
                    summary: $summary,
                    example: $example,
                    package: env!("CARGO_PKG_NAME"),
                },
                config: $crate::seam::ConfigType::of::<$config>(),
                parse: |table| {
                    let config: $config = $crate::seam::parse_config(table)?;
                    Ok(Box::new(config))
                },
            }
        }
    };
}
