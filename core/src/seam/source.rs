//! Source: files -> observations.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use super::config_type::ConfigType;
use super::modality::ModalityConfig;
use super::registry::{ConfigError, PluginInfo};
use crate::data::Row;
use crate::error::Result;
use crate::observation::{LabelUnits, Labels, Observation};

/// The configuration of a source, as a recipe's `[source]` table states it.
///
/// Implement it for a serde struct with `deny_unknown_fields`, mark the implementation
/// with `#[typetag::serde(name = "KIND")]`, and register the struct with
/// [`register_source!`](crate::register_source).
#[typetag::serde(tag = "kind")]
pub trait SourceConfig: Debug + Send + Sync {
    /// Checks what can be checked without touching the data.
    ///
    /// # Errors
    /// When a value cannot be; names the key.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether its data lie on another machine, which opening it asks, so that files may have to be
    /// fetched. A property of the configuration, whatever is here already: training does not
    /// evaluate before its first step on such data.
    fn is_remote(&self) -> bool {
        false
    }

    /// What of [`Source::pins`] the configuration states already.
    fn pins(&self) -> Vec<Pin> {
        Vec::new()
    }

    /// Opens the source: lists its objects without reading their data.
    /// `root` is the folder relative paths start from.
    ///
    /// # Errors
    /// When the data cannot be found or opened, or when there is none.
    fn open(&self, root: &Path) -> Result<Box<dyn Source>>;
}

/// A key in a source's table, table by table, and its value.
pub type Pin = (Vec<String>, String);

/// Runs of objects that are read together: row groups of Parquet, chunks of HDF5.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Index of the first object of each group: ascending, from 0, without repeats.
    pub starts: Vec<u32>,
    /// How many groups the source can hold at once, at least 1.
    pub held: usize,
    /// Index of the first object of each shard, a file that must be fetched as a whole:
    /// some of `starts`, the first among them. Training goes through one shard after the
    /// other. One shard where all data are at hand.
    pub shards: Vec<u32>,
}

/// A reader of observations by index. The order is a property of the data (sorted paths,
/// row numbers), the same at every opening; shuffling is the core's work.
pub trait Source: Send + Sync {
    /// Number of objects.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Id of object `index`, without reading its data.
    fn id(&self, index: usize) -> String;

    /// Whether the data name no objects, so that ids are the objects' places in files: where these
    /// come in another order, other objects have them.
    fn ids_are_places(&self) -> bool {
        false
    }

    /// Labels of object `index`, without reading its data. Where they lie in a file that has
    /// to be fetched first, this waits for it; nothing asks for the labels of all objects
    /// unless the recipe splits by one (`split.column`).
    fn labels(&self, index: usize) -> Labels;

    /// Units of the labels that state one, by name: one unit of a label for all objects, settled
    /// when the source is opened. A label that is in two units is an error of opening, and one
    /// that states none in some files has the unit of the others.
    fn label_units(&self) -> LabelUnits {
        LabelUnits::new()
    }

    /// How many objects have labels, for a person to read. A source that would have to fetch
    /// files for it says how many may have some.
    fn labelled(&self) -> usize {
        (0..self.len()).filter(|&index| !self.labels(index).is_empty()).count()
    }

    /// How objects lie in the data, where reading neighbours together is much cheaper than
    /// reading any object at any time. `None`: every order costs the same.
    ///
    /// Training then reads a few groups at a time, in a shuffled order, and the source may
    /// hold what it has read of that many groups.
    fn groups(&self) -> Option<Groups> {
        None
    }

    /// Keys of the source's own table, with values, that keep the data as they are now where what
    /// the recipe names may come to hold others, such as a branch. A run adds them to its recipe when
    /// it begins.
    fn pins(&self) -> Vec<Pin> {
        Vec::new()
    }

    /// Objects that will be read before long, the nearest first: a source that fetches files
    /// may begin with theirs. Returns at once.
    fn expect(&self, _upcoming: &[u32]) {
        // Files that are here need no time.
    }

    /// Reads object `index`. Called from several threads at once; a pure function.
    ///
    /// # Errors
    /// When this one object cannot be read ([`crate::Error::Object`] or
    /// [`crate::Error::File`] naming it): it is counted and skipped. Any other error ends
    /// the work: a file that cannot be fetched, or the user's wish to stop.
    fn read(&self, index: usize) -> Result<Observation>;

    /// Whether what was read so far is still what it was found to be, where files are read while
    /// they are mapped into memory. Asked before a checkpoint is written.
    ///
    /// # Errors
    /// The file that was changed.
    fn unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// The same objects as tokens, where the data hold tokens already, as `astropt convert`
    /// writes them. Training then reads these and leaves the modalities out.
    fn tokenised(&self) -> Option<&dyn TokenSource> {
        None
    }
}

/// What modalities made of the objects of a [`Source`], at hand.
pub trait TokenSource: Send + Sync {
    /// Checks that the tokens are those that `modalities` would make.
    ///
    /// # Errors
    /// When they are not: what differs, as the data have it and as the recipe has it.
    fn check(&self, modalities: &BTreeMap<String, Box<dyn ModalityConfig>>) -> Result<()>;

    /// A digest of all that the data hold, where that is known without reading it.
    fn digest(&self) -> Option<String> {
        None
    }

    /// The tokens of object `index`, by modality in alphabetical order: of those in `wanted`
    /// the ones that it has. Their buffers are as long as their modality's description asks;
    /// the numbers in them are checked where batches are made.
    ///
    /// # Errors
    /// As [`Source::read`], and the reason where the object was unusable when it was
    /// converted.
    fn tokens(&self, index: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Row>;

    /// A few objects, by index, as the source gave them that was converted: what they become
    /// today can be held against [`tokens`](Self::tokens). None where they were not kept.
    ///
    /// # Errors
    /// When they are damaged.
    fn originals(&self) -> Result<Vec<(usize, Observation)>> {
        Ok(Vec::new())
    }

    /// [`Modality::raw_features`](super::Modality::raw_features) of object `index` in
    /// `modality`.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    fn raw_features(&self, index: usize, modality: &str) -> Result<Option<Vec<f32>>>;
}

/// A registered source.
pub struct SourcePlugin {
    /// Name, summary and example.
    pub info: PluginInfo,
    /// The struct that its table is read into.
    pub config: ConfigType,
    /// The key that `--data PATH` sets, if the source reads from a path.
    pub path_key: Option<&'static str>,
    /// Reads the configuration from a recipe's table, `kind` taken out.
    pub parse: fn(toml::Table) -> std::result::Result<Box<dyn SourceConfig>, ConfigError>,
}

inventory::collect!(SourcePlugin);

/// Registers a source: its kind, a one-line summary, an example of its table (without
/// `kind`), the key that `--data` sets (an `Option`) and the configuration struct.
#[macro_export]
macro_rules! register_source {
    ($kind:literal, $summary:literal, $example:expr, $path_key:expr, $config:ty) => {
        $crate::inventory::submit! {
            $crate::seam::SourcePlugin {
                info: $crate::seam::PluginInfo {
                    kind: $kind,
                    summary: $summary,
                    example: $example,
                    package: env!("CARGO_PKG_NAME"),
                },
                config: $crate::seam::ConfigType::of::<$config>(),
                path_key: $path_key,
                parse: |table| {
                    let config: $config = $crate::seam::parse_config(table)?;
                    Ok(Box::new(config))
                },
            }
        }
    };
}
