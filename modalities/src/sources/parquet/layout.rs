//! Files of a dataset in the Hugging Face layout: which of them are shards, and of which
//! split.
//!
//! A shard is a `.parquet` file whose name, or one of the folders it lies in, says its split:
//! `data/train-00000-of-00010.parquet`, `train/0000.parquet`, `default/train/0000.parquet`.
//! Files and folders whose names start with a dot are passed over. Shards are ordered by
//! path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use astropt_core::{Error, Result, progress};

use crate::sources::tabular;

/// Whether a path relative to the dataset, with `/` between its parts, is that of a shard.
pub(crate) fn is_shard(path: &str) -> bool {
    path.len() > EXTENSION.len()
        && path.to_ascii_lowercase().ends_with(EXTENSION)
        && !path.split('/').any(|part| part.starts_with('.'))
}

const EXTENSION: &str = ".parquet";
/// Missing shards of one kind that are named.
const LISTED: usize = 6;

/// The path without its extension: the first part of the default ids of its rows.
pub(crate) fn stem(path: &str) -> &str {
    path.get(..path.len().saturating_sub(EXTENSION.len())).unwrap_or(path)
}

/// Whether the shard `path` belongs to `split`.
pub(crate) fn in_split(path: &str, split: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let named = stem(name).strip_prefix(split).is_some_and(is_number);
    !split.is_empty() && (named || in_folder(folders, split))
}

/// Whether `rest`, what stands behind a split in a file's name, only numbers shards: `-00000-of-00010`,
/// also with a hash behind it, `_0`, `.part-3`. `_small-00000-of-00001` is another split's, and so
/// is the `2` of `train2`.
fn is_number(rest: &str) -> bool {
    const SEPARATORS: [char; 3] = ['-', '_', '.'];
    let numbers = |part: &str| {
        ["of", "part", "shard", "gz", "snappy", "zstd"].contains(&part)
            || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    match rest.strip_prefix(SEPARATORS) {
        Some(parts) => {
            parts.split(SEPARATORS).all(numbers) && parts.contains(|c: char| c.is_ascii_digit())
        }
        None => rest.is_empty(),
    }
}

/// Whether one of the folders of a path is called `name`.
pub(crate) fn in_folder(path: &str, name: &str) -> bool {
    path.split('/').any(|part| part == name)
}

/// The folders of a path, the outermost first.
fn folders(path: &str) -> std::str::Split<'_, char> {
    let mut parts = path.split('/');
    parts.next_back(); // the file
    parts
}

/// The configs of shards, of each the folder that tells it from others, such as `cfgA` of
/// `data/cfgA/train-00000-of-00001.parquet` beside `data/cfgB/train-00000-of-00001.parquet`: the
/// first behind those that all lie in, where that is neither a split's, as of `train/0000.parquet`,
/// nor a partition's (`healpix=12`). Empty for a shard in no such folder.
pub(crate) fn configs<'a>(paths: &[&'a str], split: Option<&str>) -> Vec<&'a str> {
    const SPLITS: [&str; 7] = ["train", "validation", "valid", "val", "dev", "test", "eval"];
    let first: Vec<&str> = paths.first().map(|path| folders(path).collect()).unwrap_or_default();
    let alike = |path: &&str| folders(path).zip(&first).take_while(|(a, b)| a == *b).count();
    let shared = paths.iter().map(alike).min().unwrap_or(0);
    let part = |folder: &&str| {
        !(SPLITS.contains(folder) || split == Some(*folder) || folder.contains('='))
    };
    let config = |path: &&'a str| folders(path).skip(shared).find(part).unwrap_or_default();
    paths.iter().map(config).collect()
}

/// Refuses shards of several configs, which are other objects, or the same in other words. Folders of
/// files that name no split, where the recipe asks for none, are no configs.
///
/// # Errors
/// When there are several; names them.
pub(super) fn one_config(path: &Path, names: &[&str], split: Option<&str>) -> Result<()> {
    let configs: BTreeSet<&str> = configs(names, split).into_iter().collect();
    let in_layout = split.is_some() || names.iter().any(|name| announced(name).is_some());
    if configs.len() < 2 || !in_layout {
        return Ok(());
    }
    let named = |config: &&str| match *config {
        "" => "(no folder)".to_owned(),
        config => config.to_owned(),
    };
    let configs: Vec<String> = configs.iter().map(named).collect();
    let message = format!(
        "a dataset of several configs, {}; they are not read as one: give the folder of one of them \
         as `path`",
        tabular::list(&configs)
    );
    Err(Error::file(path, message))
}

/// How many files a name such as `train-00000-of-00010.parquet` says there are.
pub(crate) fn announced(path: &str) -> Option<usize> {
    let (_, rest) = stem(path).rsplit_once("-of-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Warns of shards that the names of others announce and that are not there.
pub(crate) fn tell_missing<'a>(names: impl Iterator<Item = &'a str>) {
    let missing = missing(names);
    if !missing.is_empty() {
        progress::warn(&format!(
            "shards are missing that the names of others announce: {}; what is there is read, which \
             is a part of the dataset",
            tabular::list(&missing)
        ));
    }
}

/// The shards that the names of others announce: of `train-00001-of-00003`, those numbered 0 and 2.
fn missing<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    // By what stands before the number, and how many there are in all.
    let mut sets: BTreeMap<(&str, usize), (usize, BTreeSet<usize>)> = BTreeMap::new();
    for name in names {
        let Some(of) = announced(name) else { continue };
        let numbered = stem(name).rsplit_once("-of-").and_then(|(start, _)| start.rsplit_once('-'));
        let Some((before, number)) = numbered else { continue };
        let Ok(index) = number.parse() else { continue };
        let (_, known) =
            sets.entry((before, of)).or_insert_with(|| (number.len(), BTreeSet::new()));
        known.insert(index);
    }
    let absent = |((before, of), (width, known)): ((&str, usize), (usize, BTreeSet<usize>))| {
        // A name may announce any number: no more are listed than anyone reads.
        let absent: Vec<usize> =
            (0..of).filter(|index| !known.contains(index)).take(LISTED).collect();
        let count = of.saturating_sub(known.len());
        let name = |index: &usize| format!("{before}-{index:0width$}-of-{of:0width$}");
        let mut names: Vec<String> = absent.iter().map(name).collect();
        if count > names.len() {
            names.push(format!("{} more of {before}", count - names.len()));
        }
        names
    };
    sets.into_iter().flat_map(absent).collect()
}

/// A shard in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalShard {
    /// Relative to the folder, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// The shards of `split` (of all splits if none is named) at `path`, a folder or one file.
///
/// # Errors
/// When there is none; says what there is.
pub(crate) fn list(path: &Path, split: Option<&str>) -> Result<Vec<LocalShard>> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io("open the table", path, &e))?;
    if kind.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![LocalShard { name, path: path.to_owned() }]);
    }
    let mut shards = Vec::new();
    for entry in walkdir::WalkDir::new(path).follow_links(true) {
        let entry = entry.map_err(|e| {
            let at = e.path().unwrap_or(path).to_owned();
            Error::file(at, format!("cannot list the folder: {e}"))
        })?;
        let Ok(inside) = entry.path().strip_prefix(path) else { continue };
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("/");
        if entry.file_type().is_file() && is_shard(&name) {
            shards.push(LocalShard { name, path: entry.path().to_owned() });
        }
    }
    shards.sort_by(|a, b| a.name.cmp(&b.name));
    if shards.is_empty() {
        return Err(Error::file(path, "no .parquet file in this folder or in the folders in it"));
    }
    let Some(split) = split else { return Ok(shards) };
    let (of_split, others): (Vec<_>, Vec<_>) =
        shards.into_iter().partition(|shard| in_split(&shard.name, split));
    if of_split.is_empty() {
        let names = others.iter().map(|shard| shard.name.as_str());
        return Err(Error::file(path, no_such_split(split, names)));
    }
    Ok(of_split)
}

/// What to say when no shard is of `split`.
pub(crate) fn no_such_split<'a>(split: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let names: Vec<_> = names.collect();
    let rest = names.len().saturating_sub(SHOWN);
    format!(
        "no shard of the split {split:?}: neither is a .parquet file called so, alone or with a \
         number behind it, nor a folder; there are {}{}",
        names[..names.len().min(SHOWN)].join(", "),
        if rest > 0 { format!(" and {rest} more") } else { String::new() }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_says_its_split_in_its_name_or_folder() {
        for (path, split, expected) in [
            ("train-00000-of-00010.parquet", "train", true),
            ("data/train-00000-of-00010-abc.parquet", "train", true),
            ("train.parquet", "train", true),
            ("default/train/0000.parquet", "train", true),
            ("train_0.parquet", "train", true),
            ("train-part-3.parquet", "train", true),
            ("train_small-00000-of-00001.parquet", "train", false),
            ("train_small-00000-of-00001.parquet", "train_small", true),
            ("validation_matched-00000-of-00001.parquet", "validation", false),
            ("train_small.parquet", "train", false),
            ("train2.parquet", "train", false),
            ("train-of.parquet", "train", false),
            ("training.parquet", "train", false),
            ("data/test-00000-of-00001.parquet", "train", false),
            ("pretrain/0000.parquet", "train", false),
            ("x.parquet", "", false),
        ] {
            assert_eq!(in_split(path, split), expected, "{path} {split}");
        }
        assert_eq!(announced("data/train-00003-of-00010-ab12.parquet"), Some(10));
        assert_eq!(announced("0000.parquet"), None);
        assert!(is_shard("a/B.PARQUET") && !is_shard(".cache/b.parquet") && !is_shard(".parquet"));
    }

    #[test]
    fn a_config_is_a_folder_that_parts_shards() {
        let of = |paths: &[&'static str]| configs(paths, Some("part"));
        assert_eq!(of(&["data/train-0.parquet", "data/test-0.parquet"]), ["", ""]);
        assert_eq!(of(&["a/train-0.parquet", "b/train-0.parquet"]), ["a", "b"]);
        assert_eq!(of(&["data/a/x/train/0.parquet", "data/b/train/0.parquet"]), ["a", "b"]);
        assert_eq!(of(&["train/0.parquet", "part/0.parquet", "test/0.parquet"]), ["", "", ""]);
        assert_eq!(of(&["x=1/0.parquet", "x=2/0.parquet"]), ["", ""]);
        assert_eq!(of(&["train.parquet", "old/train.parquet"]), ["", "old"]);
    }

    #[test]
    fn several_configs_are_not_read_as_one() {
        let of = |names: &[&str], split| one_config(Path::new("set"), names, split);
        let two = ["cfgA/train-00000-of-00001.parquet", "cfgB/train-00000-of-00001.parquet"];
        for split in [None, Some("train")] {
            let error = of(&two, split).expect_err("two").to_string();
            for word in ["set", "cfgA, cfgB", "`path`"] {
                assert!(error.contains(word), "no {word} in: {error}");
            }
        }
        of(&two[..1], Some("train")).expect("one");
        of(&["train/0.parquet", "test/0.parquet"], None).expect("splits");
        of(&["2020/a.parquet", "2021/b.parquet"], None).expect("folders of one table");
        of(&["2020/train-0.parquet", "2021/train-0.parquet"], Some("train")).expect_err("two");
    }

    #[test]
    fn shards_that_are_announced_and_missing_are_found() {
        let found = |names: &[&str]| missing(names.iter().copied());
        assert_eq!(
            found(&["data/train-00001-of-00003.parquet"]),
            ["data/train-00000-of-00003", "data/train-00002-of-00003"]
        );
        let whole = ["train-0-of-2.parquet", "train-1-of-2.parquet", "test-0-of-1.parquet"];
        assert!(found(&whole).is_empty() && found(&["0000.parquet"]).is_empty());
        let of_many = found(&["a-0-of-999999999999.parquet"]);
        assert_eq!(of_many.len(), LISTED + 1);
        assert!(
            of_many.last().is_some_and(|last| last.contains("999999999992 more")),
            "{of_many:?}"
        );
        assert!(found(&["a-1-of-18446744073709551615.parquet", "b-of-3.parquet"]).len() > LISTED);
    }

    #[test]
    fn a_folder_is_listed_in_order_of_paths() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["test-1.parquet", "b/train-0.parquet", "train-1.parquet", "readme.md"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "").expect("written");
        }
        let names = |split| -> Vec<String> {
            let shards = list(folder.path(), split).expect("listed");
            shards.into_iter().map(|shard| shard.name).collect()
        };
        assert_eq!(names(None), ["b/train-0.parquet", "test-1.parquet", "train-1.parquet"]);
        assert_eq!(names(Some("train")), ["b/train-0.parquet", "train-1.parquet"]);
        let error = list(folder.path(), Some("val")).expect_err("none").to_string();
        assert!(error.contains("\"val\"") && error.contains("b/train-0.parquet"), "{error}");
    }
}
