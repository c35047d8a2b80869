//! The source `hub`: a dataset on the Hugging Face hub, read as [`parquet`](super::parquet)
//! reads files.
//!
//! Shards are fetched into the folder that Python's `huggingface_hub` and `datasets` use
//! (`HF_HOME`, `HF_HUB_CACHE`), where either finds what the other has fetched. How many rows
//! there are is read off the ends of the shards, and training starts as soon as those of its first
//! objects are here, while the next ones are on their way, in the order they will be read. There
//! is no validation before the first step, for its objects lie in all shards as a rule; a later
//! one waits for those it needs.
//! `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to Python; the token
//! goes to the endpoint and nowhere else.
//!
//! A run adds to its recipe at which commit a branch was when it began (`pinned`), and goes on with
//! that. Once it is going, an outage of the hub of up to 7 minutes or so is waited for.
//!
//! Ids from a column (`id`), and a split by a label (`split.column`), need every shard before
//! training starts.

mod address;
mod cache;
mod client;
mod download;
mod environment;
mod footers;
mod listing;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use astropt_core::seam::{Pin, Source, SourceConfig};
use astropt_core::{Error, Result, progress};
use serde::{Deserialize, Serialize};

use super::bytes::ByteSize;
use super::parquet::{Columns, FieldColumn, layout, table::OPEN, table::Table};
use cache::Cache;
use client::Client;
use download::Downloader;
use environment::Environment;
use listing::{Choice, Hash, Listing, RemoteFile};
use queue::Queue;

/// Time before a question is asked again; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The key that [`HubConfig::pinned`] is read from.
const PINNED: &str = "pinned";

/// Configuration of the source `hub`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// The dataset: `owner/name`.
    pub repo: String,
    /// A branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// What a run adds by itself when it begins: dataset and revision, and the commit they were at,
    /// `owner/name@main:COMMIT`. It goes on with that, and is embedded and audited on it, wherever
    /// the branch is by then. Passed over where `repo` or `revision` is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Reads only the shards of this split: files that are called so, alone or with a number
    /// behind it as in `train-00000-of-00010.parquet`, or that lie in a folder of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Reads only the shards in the folder of this name; `"*"` those of all folders. Left out, all
    /// must be in one, or those in `default` are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Fields of an object; see [`ParquetConfig::fields`](super::parquet::ParquetConfig).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::shorthand::map"
    )]
    pub fields: Option<BTreeMap<String, FieldColumn>>,
    /// Columns that become labels; by default all that hold one number, date (as days, MJD),
    /// duration (as seconds), truth value or text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Column of the objects' ids, which must differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Memory for rows that are held (`"512MB"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<ByteSize>,
    /// Disk that fetched shards may take (`"50GB"`), of all datasets together: those used
    /// longest ago are deleted first, and only those that this program has fetched. Two shards
    /// that are read and two that are fetched are needed at once: less than the four largest
    /// take is exceeded, with a warning. By default all are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_budget: Option<ByteSize>,
}

fn main_branch() -> String {
    "main".to_owned()
}

#[typetag::serde(name = "hub")]
impl SourceConfig for HubConfig {
    fn check(&self) -> Result<()> {
        if !address::is_safe(&self.revision) {
            let message = format!("`revision` is {:?}, no branch or commit", self.revision);
            return Err(Error::Misuse(message));
        }
        if let Some(pinned) = &self.pinned
            && !pinned.rsplit_once(':').is_some_and(|(_, commit)| address::is_hash(commit, 40))
        {
            let message = format!("`{PINNED}` is {pinned:?}, not owner/name@revision:COMMIT");
            return Err(Error::Misuse(message));
        }
        self.columns().check()
    }

    fn pins(&self) -> Vec<Pin> {
        self.pinned.iter().map(|pinned| (vec![PINNED.to_owned()], pinned.clone())).collect()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(&self, _root: &Path) -> Result<Box<dyn Source>> {
        let client = Client::new(Environment::of_process()?, FIRST_WAIT);
        Ok(Box::new(self.open_by(client)?))
    }
}

/// What stands in the place of a process's surroundings, where they are not to be asked.
pub struct Surroundings<'a> {
    /// What the environment's variables are, such as `HF_HOME` and `HF_ENDPOINT`.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Longest time before a question is asked again, whatever the hub wishes for.
    pub patience: Duration,
    /// Where the hub's redirects may lead, each `host:port`.
    pub hosts: Vec<String>,
}

impl HubConfig {
    /// The commit that `pinned` states of this dataset and revision.
    fn commit(&self) -> Option<&str> {
        let (of, commit) = self.pinned.as_deref()?.rsplit_once(':')?;
        (of == format!("{}@{}", self.repo, self.revision)).then_some(commit)
    }

    fn columns(&self) -> Columns {
        Columns {
            fields: self.fields.clone(),
            labels: self.labels.clone(),
            id: self.id.clone(),
            buffer: self.buffer,
        }
    }

    /// Opens the source in these surroundings.
    ///
    /// # Errors
    /// As [`open`](SourceConfig::open), and when the hub leads to another host.
    pub fn open_within(&self, surroundings: Surroundings<'_>) -> Result<Box<dyn Source>> {
        let Surroundings { variable, patience, hosts } = surroundings;
        let client = Client::new(Environment::read(variable)?, patience.min(FIRST_WAIT));
        Ok(Box::new(self.open_by(client.confined(patience, hosts))?))
    }

    #[cfg(test)]
    fn open_in(&self, environment: Environment, first_wait: Duration) -> Result<Table> {
        self.open_by(Client::new(environment, first_wait))
    }

    fn open_by(&self, client: Client) -> Result<Table> {
        self.check()?;
        let environment = client.environment();
        // Only now: a recipe may leave it to --data.
        if !address::is_repo(&self.repo) {
            let message = format!("source.repo is {:?}; a dataset is owner/name", self.repo);
            return Err(Error::Misuse(message));
        }
        let choice = Choice {
            repo: &self.repo,
            revision: &self.revision,
            commit: self.commit(),
            config: self.config.as_deref(),
            split: self.split.as_deref(),
        };
        let cache = Cache::new(&environment.cache, &self.repo);
        let offline = environment.offline;
        let listing = if offline {
            self.found_here(&cache, choice)?
        } else {
            let listing = Listing::fetch(&client, choice)?;
            cache.prepare()?;
            cache.remember(&listing)?;
            listing
        };
        let size = listing.files.iter().map(|file| file.size).fold(0, u64::saturating_add);
        progress::say(&format!(
            "{} at {}: {} shards, {:.1} GB",
            self.repo,
            listing.commit.get(..12).unwrap_or_default(),
            listing.files.len(),
            size as f64 / 1e9
        ));
        if let Some(tight) = self.disk_budget.and_then(|budget| tight(budget.0, &listing)) {
            progress::warn(&tight);
        }
        let downloader = Downloader { client, cache: cache.clone(), listing: listing.clone() };
        let columns = self.columns();
        let (names, shards) = footers::read(&downloader, &columns)?;
        let downloader = Downloader { client: downloader.client.patient(), ..downloader };
        let downloader = (!offline).then_some(downloader);
        let queue = Queue::start(downloader, cache, listing, self.disk_budget.map(|b| b.0));
        Table::new(Box::new(queue), names, &columns, &shards)
    }

    /// The shards that are in the cache, for when the hub may not be asked.
    fn found_here(&self, cache: &Cache, choice: Choice<'_>) -> Result<Listing> {
        let revision = choice.commit.unwrap_or(choice.revision);
        let commit = cache.recall(revision).ok_or_else(|| {
            Error::Failed(format!(
                "the dataset {} at {revision} was never fetched to here, and HF_HUB_OFFLINE is \
                 set; unset it, or set HF_HOME to where it is",
                choice.repo
            ))
        })?;
        // As far as is known here.
        if let Some(now) = cache.recall(choice.revision).filter(|now| *now != commit) {
            listing::warn_moved(choice.repo, choice.revision, &now, &commit);
        }
        let shards = layout::list(&cache.snapshot(&commit, ""), None)?;
        let file = |shard: layout::LocalShard| RemoteFile {
            size: std::fs::metadata(&shard.path).map_or(0, |m| m.len()),
            // The name of the file that the link leads to.
            hash: Hash::Git(blob_name(&shard.path)),
            path: shard.name,
        };
        let listing = Listing {
            repo: choice.repo.to_owned(),
            revision: choice.revision.to_owned(),
            asked: choice.revision.to_owned(),
            commit,
            files: shards.into_iter().map(file).collect(),
        };
        let listing = listing.choose(choice)?;
        let announced = listing.files.iter().filter_map(|f| layout::announced(&f.path)).max();
        match announced {
            Some(announced) if choice.split.is_some() && listing.files.len() < announced => {
                Err(Error::Failed(format!(
                    "{} of {announced} shards of the dataset {} are here, and HF_HUB_OFFLINE is \
                     set; unset it, or read the folder {} with the source `parquet`",
                    listing.files.len(),
                    choice.repo,
                    cache.snapshot(&listing.commit, "").display()
                )))
            }
            _ => Ok(listing),
        }
    }
}

/// What is to be said of a budget, in bytes, that is less than what is needed at once: the shards
/// that are read and those being fetched.
fn tight(budget: u64, listing: &Listing) -> Option<String> {
    let at_once = OPEN as usize + queue::FETCHERS;
    let mut sizes: Vec<u64> = listing.files.iter().map(|file| file.size).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let needed = sizes.iter().take(at_once).fold(0, |sum: u64, &size| sum.saturating_add(size));
    (needed > budget).then(|| {
        format!(
            "disk_budget is {:.3} GB, and up to {:.3} GB will be taken all the same: of the shards of {} \
             up to {at_once} are needed at once, those that are read and those that come next",
            budget as f64 / 1e9,
            needed as f64 / 1e9,
            listing.repo
        )
    })
}

fn blob_name(link: &Path) -> String {
    let blob = std::fs::canonicalize(link).unwrap_or_else(|_| link.to_owned());
    blob.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

astropt_core::register_source!(
    "hub",
    "A dataset on the Hugging Face hub, fetched shard by shard while training runs",
    "repo = \"Smith42/galaxies\"\nsplit = \"train\"\nfields = { image = \"image_crop\" }\n\
     disk_budget = \"50GB\"",
    Some("repo"),
    HubConfig
);
