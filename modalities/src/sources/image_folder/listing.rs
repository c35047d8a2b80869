//! Which files there are, in which order, and what their objects are called.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use astropt_core::{Error, Result};

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "tif", "tiff"];

/// The image files of a folder or a list file.
#[derive(Debug)]
pub(super) struct Listing {
    /// The folder that `paths` are relative to.
    base: PathBuf,
    /// Relative paths with `/` between folders.
    paths: Vec<Box<str>>,
}

/// Whether `path` is called like an image.
pub(super) fn is_image(path: &Path) -> bool {
    has_extension(path, &EXTENSIONS)
}

impl Listing {
    /// Lists the images of a folder, those that a list file names, or the one image given.
    ///
    /// # Errors
    /// When there is no such folder or file, when it has no image, or when a listed file is
    /// missing, no image, or listed twice.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let metadata =
            std::fs::metadata(path).map_err(|e| Error::io("open the images", path, &e))?;
        let (base, paths) = if metadata.is_dir() {
            (path.to_owned(), walk(path)?)
        } else if has_extension(path, &["txt"]) {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            let paths = read_list(path, &base)?;
            (base, paths)
        } else if let (true, Some(name)) = (is_image(path), path.file_name()) {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            (base, vec![name.to_string_lossy().into()])
        } else {
            return Err(Error::file(
                path,
                "neither an image, a folder of images nor a .txt list of them; give the folder",
            ));
        };
        let mut ids = HashMap::with_capacity(paths.len());
        for path in &paths {
            if let Some(other) = ids.insert(without_extension(path), path) {
                return Err(Error::file(
                    base.join(&**path),
                    format!(
                        "would be the same object as {other}: an object's id is the path without \
                         its extension; remove one, or name the files wanted in a .txt list"
                    ),
                ));
            }
        }
        Ok(Self { base, paths })
    }

    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The folder that relative paths start from.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Path of image `index`.
    pub(super) fn path(&self, index: usize) -> PathBuf {
        self.base.join(&*self.paths[index])
    }

    /// Path of image `index`, relative to the base.
    pub(super) fn relative(&self, index: usize) -> &str {
        &self.paths[index]
    }

    /// Id of image `index`.
    pub(super) fn id(&self, index: usize) -> &str {
        without_extension(&self.paths[index])
    }

    /// The images by every name a table may call them.
    pub(super) fn names(&self) -> Names<'_> {
        let mut names = HashMap::with_capacity(4 * self.paths.len());
        for (index, path) in self.paths.iter().enumerate() {
            let forms = [
                path,
                without_extension(path),
                file_name(path),
                without_extension(file_name(path)),
            ];
            for (level, form) in forms.into_iter().enumerate() {
                let new = Name { level, index: Some(index) };
                names
                    .entry(form)
                    .and_modify(|old: &mut Name| {
                        if level < old.level {
                            *old = new;
                        } else if level == old.level && old.index != Some(index) {
                            old.index = None;
                        }
                    })
                    .or_insert(new);
            }
        }
        Names(names)
    }
}

/// Images by name; a fuller form of the path wins over a shorter one.
pub(super) struct Names<'a>(HashMap<&'a str, Name>);

/// What a name stands for.
#[derive(Clone, Copy)]
struct Name {
    /// 0 for the whole path, 3 for the stem.
    level: usize,
    /// `None`: for several images.
    index: Option<usize>,
}

impl Names<'_> {
    /// The image that a table's cell names: by relative path, file name or stem, or by a
    /// longer path that ends in one of the last two.
    pub(super) fn find(&self, cell: &str) -> Option<usize> {
        let cell = cell.trim().trim_start_matches("./");
        let last = cell.rsplit(['/', '\\']).next().unwrap_or(cell);
        self.0.get(cell).or_else(|| self.0.get(last))?.index
    }
}

/// All images below `folder`, as sorted relative paths.
fn walk(folder: &Path) -> Result<Vec<Box<str>>> {
    let mut paths = Vec::new();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    for entry in walkdir::WalkDir::new(folder).follow_links(true).into_iter().filter_entry(visible)
    {
        let entry = entry.map_err(|error| {
            let place = error.path().unwrap_or(folder).to_owned();
            Error::file(place, format!("cannot be listed: {error}; check its permissions"))
        })?;
        if !entry.file_type().is_file() || !is_image(entry.path()) {
            continue;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let text = relative.to_str().ok_or_else(|| {
            Error::file(entry.path(), "the name is not valid UTF-8; rename the file")
        })?;
        paths.push(text.replace(std::path::MAIN_SEPARATOR, "/").into_boxed_str());
    }
    if paths.is_empty() {
        return Err(Error::file(
            folder,
            format!("no image in this folder; looked for {}", EXTENSIONS.join(", ")),
        ));
    }
    paths.sort_unstable();
    Ok(paths)
}

/// The images that a list file names.
fn read_list(list: &Path, base: &Path) -> Result<Vec<Box<str>>> {
    let text = std::fs::read_to_string(list).map_err(|e| Error::io("read the list", list, &e))?;
    let (mut paths, mut lines, mut absent) = (Vec::new(), HashMap::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = |message: String| Err(Error::file(list, format!("line {number}: {message}")));
        if !has_extension(Path::new(line), &EXTENSIONS) {
            return refuse(format!(
                "{line:?} is no image; it must end in one of {}",
                EXTENSIONS.join(", ")
            ));
        }
        if let Some(first) = lines.insert(line, number) {
            return refuse(format!("{line:?} is listed before, in line {first}; remove one"));
        }
        if !base.join(line).is_file() {
            absent.push(line);
        }
        paths.push(line.into());
    }
    if let Some(first) = absent.first() {
        return Err(Error::file(
            list,
            format!(
                "{} of {} listed files do not exist, the first is {}; paths are relative to \
                 the list",
                absent.len(),
                paths.len(),
                base.join(first).display()
            ),
        ));
    }
    if paths.is_empty() {
        return Err(Error::file(list, "the list is empty; write one path per line"));
    }
    Ok(paths)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    extensions.contains(&extension.as_str())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` up to its last dot, unless that starts the file's name.
fn without_extension(path: &str) -> &str {
    match path.rfind('.') {
        Some(dot) if dot > 0 && !path[dot..].contains('/') => &path[..dot],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let paths = paths.iter().map(|&p| p.into()).collect();
        Listing { base: PathBuf::new(), paths }
    }

    #[test]
    fn a_cell_finds_its_image_by_path_name_or_stem() {
        let listing = listing(&["a/J0001.5.jpg", "a/x.png", "b/x.png", "y.jpg", "b/y.jpg"]);
        let names = listing.names();
        for (cell, found) in [
            ("J0001.5", Some(0)),
            (" J0001.5.jpg ", Some(0)),
            ("./a/J0001.5", Some(0)),
            ("elsewhere/J0001.5.jpg", Some(0)),
            ("x.png", None),
            ("b/x", Some(2)),
            ("y.jpg", Some(3)),
            ("b/y.jpg", Some(4)),
            ("", None),
        ] {
            assert_eq!(names.find(cell), found, "{cell:?}");
        }
    }

    #[test]
    fn extensions_are_cut_off_names_only() {
        assert_eq!(without_extension("a.b/c"), "a.b/c");
        assert_eq!(without_extension("a.b/c.d.jpg"), "a.b/c.d");
        assert_eq!(without_extension(".jpg"), ".jpg");
    }
}
