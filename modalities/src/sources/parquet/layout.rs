//! Files of a dataset in the Hugging Face layout: which of them are shards, and of which
//! split.
//!
//! A shard is a `.parquet` file whose name, or one of the folders it lies in, says its split:
//! `data/train-00000-of-00010.parquet`, `train/0000.parquet`, `default/train/0000.parquet`.
//! Files and folders whose names start with a dot are passed over. Shards are ordered by
//! path.

use std::path::{Path, PathBuf};

use astropt_core::{Error, Result};

/// Whether a path relative to the dataset, with `/` between its parts, is that of a shard.
pub(crate) fn is_shard(path: &str) -> bool {
    path.len() > EXTENSION.len()
        && path.to_ascii_lowercase().ends_with(EXTENSION)
        && !path.split('/').any(|part| part.starts_with('.'))
}

const EXTENSION: &str = ".parquet";

/// The path without its extension: the first part of the default ids of its rows.
pub(crate) fn stem(path: &str) -> &str {
    path.get(..path.len().saturating_sub(EXTENSION.len())).unwrap_or(path)
}

/// Whether the shard `path` belongs to `split`.
pub(crate) fn in_split(path: &str, split: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    // `training-set.parquet` is not of the split `train`.
    let named = stem(name)
        .strip_prefix(split)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphabetic()));
    !split.is_empty() && (named || in_folder(folders, split))
}

/// Whether one of the folders of a path is called `name`.
pub(crate) fn in_folder(path: &str, name: &str) -> bool {
    path.split('/').any(|part| part == name)
}

/// How many files a name such as `train-00000-of-00010.parquet` says there are.
pub(crate) fn announced(path: &str) -> Option<usize> {
    let (_, rest) = stem(path).rsplit_once("-of-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
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
        "no shard of the split {split:?}: neither the name of a .parquet file starts with it \
         nor is a folder called so; there are {}{}",
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
