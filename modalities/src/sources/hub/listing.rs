//! What files a dataset has on the hub.

use std::collections::{BTreeSet, HashSet};

use astropt_core::{Error, Result, progress};
use serde::Deserialize;

use super::address::{Origin, encode, is_hash, is_safe};
use super::client::Client;
use crate::sources::parquet::layout;
use crate::sources::tabular;

/// The branch where the hub keeps what it has converted to Parquet itself.
const CONVERTED: &str = "refs/convert/parquet";
/// The config that the hub takes where none is named, and what names all.
const DEFAULT: &str = "default";
const ALL: &str = "*";
/// Most pages and files of a listing that are read.
const MAX_PAGES: usize = 10_000;
const MAX_FILES: usize = 1_000_000;
/// Characters of a name that an error shows.
const SHOWN: usize = 80;

/// A dataset at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// `owner/name`.
    pub(super) repo: String,
    /// The branch, tag or commit that was asked for, or [`CONVERTED`].
    pub(super) revision: String,
    /// The branch, tag or commit that the recipe names.
    pub(super) asked: String,
    pub(super) commit: String,
    /// The shards, ordered by path.
    pub(super) files: Vec<RemoteFile>,
}

/// A file on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Within the dataset, checked to stay there.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) hash: Hash,
}

/// What a file is called in the cache: a hash that is checked of what arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256 of a large file.
    Sha256(String),
    /// Git's own hash of a small one: SHA-1 of its length and its bytes.
    Git(String),
}

impl Hash {
    /// Its digits.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sha256(name) | Self::Git(name) => name,
        }
    }
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

/// Which shards of a dataset are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    /// The commit that a run began with, wherever the revision is by now.
    pub(super) commit: Option<&'a str>,
    pub(super) config: Option<&'a str>,
    pub(super) split: Option<&'a str>,
}

impl Listing {
    /// Asks the hub. A dataset that has no Parquet files of its own is read from where the
    /// hub has converted it.
    ///
    /// # Errors
    /// When the hub does not answer, or the dataset has no such shards.
    pub(super) fn fetch(client: &Client, choice: Choice<'_>) -> Result<Self> {
        if let Some(commit) = choice.commit {
            let listing = Self::of_revision(client, choice, commit)?;
            tell_moved(client, choice, commit);
            return listing.choose(choice);
        }
        let listing = Self::of_revision(client, choice, choice.revision)?;
        let listing = match listing.files.is_empty() && choice.revision == "main" {
            true => Self::of_revision(client, choice, CONVERTED).unwrap_or(listing),
            false => listing,
        };
        listing.choose(choice)
    }

    fn of_revision(client: &Client, choice: Choice<'_>, revision: &str) -> Result<Self> {
        let Choice { repo, .. } = choice;
        let endpoint = &client.environment().endpoint;
        let api = format!("{endpoint}/api/datasets/{repo}");
        let what = format!("the dataset {repo} at {revision}");
        let commit = commit_of(client, repo, revision)?;
        let home = Origin::of(endpoint);
        let mut next = Some(format!("{api}/tree/{commit}?recursive=1"));
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        while let Some(address) = next {
            if !seen.insert(address.clone()) {
                return Err(Error::Failed(format!(
                    "{what}: the pages of its listing lead in a circle; is HF_ENDPOINT right?"
                )));
            }
            let (entries, following): (Vec<Entry>, _) = client.json(&address, &what)?;
            for entry in entries {
                files
                    .extend(remote_file(entry).map_err(|e| Error::Failed(format!("{what}: {e}")))?);
            }
            if seen.len() >= MAX_PAGES || files.len() > MAX_FILES {
                return Err(Error::Failed(format!("{what}: more files than can be listed")));
            }
            next = following.filter(|next| Origin::of(next) == home);
        }
        files.sort_by(|a: &RemoteFile, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        let (repo, revision) = (repo.to_owned(), revision.to_owned());
        Ok(Self { repo, revision, asked: choice.revision.to_owned(), commit, files })
    }

    /// What keeps the dataset as it is now, as [`HubConfig::pinned`](super::HubConfig) has it;
    /// `None` where the recipe names the commit itself.
    pub(super) fn pin(&self) -> Option<String> {
        let Self { repo, asked, commit, .. } = self;
        (asked != commit).then(|| format!("{repo}@{asked}:{commit}"))
    }

    /// Keeps the shards of the config and split that are wanted.
    ///
    /// # Errors
    /// When none is left; says what there is.
    pub(super) fn choose(mut self, choice: Choice<'_>) -> Result<Self> {
        let what = format!("the dataset {} at {}", self.repo, self.revision);
        if self.files.is_empty() {
            return Err(Error::Failed(format!("{what} has no Parquet files")));
        }
        let kept = |files: &[RemoteFile], keep: &dyn Fn(&str) -> bool| -> Vec<RemoteFile> {
            files.iter().filter(|file| keep(&file.path)).cloned().collect()
        };
        if let Some(config) = choice.config.filter(|config| *config != ALL) {
            let files = kept(&self.files, &|path| layout::in_folder(path, config));
            if files.is_empty() {
                let names = self.files.iter().map(|file| file.path.as_str());
                let names: Vec<_> = names.take(3).collect();
                return Err(Error::Failed(format!(
                    "{what} has no folder {config:?} (`config`); there is {}",
                    names.join(", ")
                )));
            }
            self.files = files;
        }
        if let Some(split) = choice.split {
            let files = kept(&self.files, &|path| layout::in_split(path, split));
            if files.is_empty() {
                let names = self.files.iter().map(|file| file.path.as_str());
                let message = layout::no_such_split(split, names);
                return Err(Error::Failed(format!("{what}: {message}")));
            }
            self.files = files;
        }
        match choice.config {
            Some(_) => Ok(self),
            None => self.of_one_config(choice.split),
        }
    }

    /// Keeps the shards of the config `default`, where there are several configs: they are other
    /// objects, or the same in other words.
    ///
    /// # Errors
    /// When there are several and none is the default; names them.
    fn of_one_config(mut self, split: Option<&str>) -> Result<Self> {
        let paths: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let of = layout::configs(&paths, split);
        let configs: BTreeSet<&str> = of.iter().copied().collect();
        if configs.len() < 2 {
            return Ok(self);
        }
        if !configs.contains(DEFAULT) {
            let named = |config: &&str| match *config {
                "" => "(no folder)".to_owned(),
                config => config.to_owned(),
            };
            let configs: Vec<String> = configs.iter().map(named).collect();
            return Err(Error::Failed(format!(
                "the dataset {} at {} has several configs: {}; say which with `config`, or \
                 \"{ALL}\" to read the shards of all as one dataset",
                self.repo,
                self.revision,
                tabular::list(&configs)
            )));
        }
        let kept: Vec<bool> = of.iter().map(|config| *config == DEFAULT).collect();
        let mut kept = kept.into_iter();
        self.files.retain(|_| kept.next().unwrap_or(false));
        progress::say(&format!(
            "{} has several configs; {DEFAULT:?} is read, for `config` names none",
            self.repo
        ));
        Ok(self)
    }

    /// Where a file is fetched from.
    pub(super) fn address(&self, client: &Client, file: &RemoteFile) -> String {
        format!(
            "{}/datasets/{}/resolve/{}/{}",
            client.environment().endpoint,
            self.repo,
            self.commit,
            encode(&file.path, true)
        )
    }
}

/// The commit that a branch or tag is at.
///
/// # Errors
/// When the hub does not say.
fn commit_of(client: &Client, repo: &str, revision: &str) -> Result<String> {
    let endpoint = &client.environment().endpoint;
    let what = format!("the dataset {repo} at {revision}");
    let address = format!("{endpoint}/api/datasets/{repo}/revision/{}", encode(revision, false));
    let (Revision { sha: commit }, _) = client.json(&address, &what)?;
    match is_hash(&commit, 40) {
        true => Ok(commit),
        false => Err(Error::Failed(format!("{what}: {commit:?} is no commit"))),
    }
}

/// Says when a revision is at another commit by now than the one that is read.
fn tell_moved(client: &Client, choice: Choice<'_>, commit: &str) {
    let Choice { repo, revision, .. } = choice;
    let at = |revision: &str| commit_of(client, repo, revision);
    match at(revision) {
        Ok(now) => {
            let converted = || revision == "main" && at(CONVERTED).is_ok_and(|at| at == commit);
            if now != commit && !converted() {
                warn_moved(repo, revision, &now, commit);
            }
        }
        Err(why) => progress::warn(&format!("whether {revision} has moved is not known: {why}")),
    }
}

/// Says that a revision is at the commit `now`, and that `commit` is read.
pub(super) fn warn_moved(repo: &str, revision: &str, now: &str, commit: &str) {
    let short = |commit: &str| commit.get(..12).unwrap_or_default().to_owned();
    progress::warn(&format!(
        "{repo}: {revision} is at {} by now; {} is read, with which this work began (a new run reads \
         the new one)",
        short(now),
        short(commit)
    ));
}

/// The shard that an entry of a listing names, if it is one.
fn remote_file(entry: Entry) -> Result<Option<RemoteFile>, String> {
    if entry.kind != "file" || !entry.path.to_ascii_lowercase().ends_with(".parquet") {
        return Ok(None);
    }
    if !is_safe(&entry.path) {
        // A name may be of any length, and its end says no more than its beginning.
        let name: String = entry.path.chars().take(SHOWN).collect();
        let more = if name.len() < entry.path.len() { "…" } else { "" };
        return Err(format!("it lists a file {name:?}{more} that cannot be, or lies elsewhere"));
    }
    if !layout::is_shard(&entry.path) {
        return Ok(None);
    }
    let (hash, size, digits) = match entry.lfs {
        Some(LargeFile { oid, size }) => (Hash::Sha256(oid), size, 64),
        None => (Hash::Git(entry.oid), entry.size, 40),
    };
    if !is_hash(hash.name(), digits) {
        return Err(format!("it gives {:?} the hash {:?}", entry.path, hash.name()));
    }
    Ok(Some(RemoteFile { path: entry.path, size, hash }))
}
