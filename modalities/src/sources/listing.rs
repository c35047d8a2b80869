//! Which files there are, in which order, and what their objects are called.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use astropt_core::run::is_made;
use astropt_core::{Error, Result, progress};

/// Extensions of packed files, some of which some sources read.
const PACKED: [&str; 6] = ["bz2", "gz", "xz", "z", "zip", "zst"];
/// With what these are unpacked.
const UNPACK: &str = "with bunzip2, gunzip, unxz, uncompress, unzip or unzstd";

/// The kind of files a listing looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileKind {
    /// One such file, for messages: "image".
    pub(crate) one: &'static str,
    /// The same with its article: "an image".
    pub(crate) a: &'static str,
    /// Extensions, in lower case: "jpg", "fits.gz".
    pub(crate) extensions: &'static [&'static str],
}

impl FileKind {
    /// Whether `path` is called like one of them.
    pub(crate) fn fits(&self, path: &Path) -> bool {
        has_extension(path, self.extensions)
    }
}

/// The files of one kind in a folder or a list file.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The folder that `paths` are relative to.
    base: PathBuf,
    /// Relative paths with `/` between folders.
    paths: Vec<Box<str>>,
}

impl Listing {
    /// Lists the files of a folder, those that a list file names, or the one file given.
    ///
    /// # Errors
    /// When there is no such folder or file, when it has none of the kind, or when a listed
    /// file is missing, of another kind, or listed twice.
    pub(crate) fn open(path: &Path, kind: &FileKind) -> Result<Self> {
        let metadata = std::fs::metadata(path)
            .map_err(|e| Error::io(&format!("open the {}s", kind.one), path, &e))?;
        let (base, paths) = if metadata.is_dir() {
            (path.to_owned(), walk(path, kind)?)
        } else if has_extension(path, &["txt"]) {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            let paths = read_list(path, &base, kind)?;
            (base, paths)
        } else if let (true, Some(name)) = (kind.fits(path), path.file_name()) {
            let base = path.parent().unwrap_or(Path::new("")).to_owned();
            (base, vec![name.to_string_lossy().into()])
        } else {
            return Err(Error::file(
                path,
                format!(
                    "neither {}, a folder of {}s nor a .txt list of them; give the folder",
                    kind.a, kind.one
                ),
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

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The folder that relative paths start from.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Path of file `index`.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        self.base.join(&*self.paths[index])
    }

    /// Path of file `index`, relative to the base.
    pub(crate) fn relative(&self, index: usize) -> &str {
        &self.paths[index]
    }

    /// Id of file `index`.
    pub(crate) fn id(&self, index: usize) -> &str {
        without_extension(&self.paths[index])
    }

    /// The files by every name a table may call them.
    pub(crate) fn names(&self) -> Names<'_> {
        let mut names = Names::new(self.paths.iter().map(|path| {
            let name = file_name(path);
            [[path, without_extension(path)], [name, without_extension(name)]]
        }));
        names.folder = Some(self.base.file_name().and_then(|name| name.to_str()).unwrap_or(""));
        names
    }
}

/// Objects by name; a fuller form of the name wins over a shorter one.
pub(crate) struct Names<'a> {
    names: HashMap<&'a str, Name>,
    len: usize,
    first: &'a str,
    /// How many forms are of whole names: these are the first.
    forms: usize,
    /// The folder of objects that are files.
    folder: Option<&'a str>,
    /// Whether only names with their folders are found.
    whole: bool,
}

/// How a cell names its object, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Match {
    /// It is the object's name.
    Whole,
    /// It is a longer path that ends in it.
    Longer,
    /// It is the last part of the name alone.
    Short,
    /// It is a path to a file of that name in a folder of another name.
    Elsewhere,
}

/// What a name stands for.
#[derive(Clone, Copy)]
struct Name {
    /// 0 for the fullest form.
    level: usize,
    /// `None`: for several objects.
    index: Option<usize>,
}

impl<'a> Names<'a> {
    /// Objects by their ids, whole or without the folders before the last `/`.
    pub(crate) fn of_ids(ids: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(ids.into_iter().map(|id| [[id], [file_name(id)]]))
    }

    /// Objects by the forms of their names: of the whole names, and of their last parts, of each
    /// the fullest first.
    fn new<const FORMS: usize>(objects: impl Iterator<Item = [[&'a str; FORMS]; 2]>) -> Self {
        let (names, first) = (HashMap::new(), "");
        let mut all = Self { names, len: 0, first, forms: FORMS, folder: None, whole: false };
        for (index, forms) in objects.enumerate() {
            if index == 0 {
                all.first = forms[0].first().copied().unwrap_or_default();
            }
            all.len += 1;
            for (level, form) in forms.into_iter().flatten().enumerate() {
                let new = Name { level, index: Some(index) };
                all.names
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
        all
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The fullest name of the first object.
    pub(crate) fn first(&self) -> &str {
        self.first
    }

    /// The same, found only by whole names that have folders: a number of its own may count
    /// anything, from 0 or from 1.
    pub(crate) fn only_whole(self) -> Self {
        Self { whole: true, ..self }
    }

    fn is_whole(&self, name: &Name) -> bool {
        name.level < self.forms
    }

    /// The object that a table's cell names: by its whole name, by a longer path that ends in
    /// that, or, if the cell has no folders, by the last part of its name. A path may lead to a
    /// file that lies in no folder of the data, whatever the data's own folder is called by now.
    pub(crate) fn find(&self, cell: &str) -> Option<(usize, Match)> {
        let (index, how) = self.look(cell)?;
        Some((index?, how))
    }

    /// Whether a table's cell names several objects alike.
    pub(crate) fn are_several(&self, cell: &str) -> bool {
        matches!(self.look(cell), Some((None, _)))
    }

    /// As [`find`](Self::find); `None` in the place of the index for several objects.
    fn look(&self, cell: &str) -> Option<(Option<usize>, Match)> {
        // Between the folders of files, that is; an id is as it is.
        let cell = match self.folder {
            Some(_) => Cow::Owned(cell.replace('\\', "/")),
            None => Cow::Borrowed(cell),
        };
        let cell = cell.trim().trim_start_matches("./");
        if !cell.contains('/') {
            let name = self.names.get(cell).filter(|_| !self.whole)?;
            let how = if self.is_whole(name) { Match::Whole } else { Match::Short };
            return Some((name.index, how));
        }
        let whole = |text: &str| self.names.get(text).filter(|name| self.is_whole(name));
        if let Some(name) = whole(cell) {
            return Some((name.index, Match::Whole));
        }
        for (at, _) in cell.match_indices('/') {
            let (before, rest) = (&cell[..at], &cell[at + 1..]);
            let Some(name) = whole(rest) else { continue };
            let how = match self.folder {
                _ if rest.contains('/') => Match::Longer,
                Some(folder) if file_name(before) == folder => Match::Longer,
                Some(_) => Match::Elsewhere,
                None => return None,
            };
            return Some((name.index, how));
        }
        None
    }
}

/// Whether files of the kind lie directly in `folder`, which this program made, that are not its
/// own: it writes pictures into the folders `previews` and `figures`, or lists them.
fn holds(folder: &Path, kind: &FileKind) -> bool {
    if ["previews", "figures"].iter().any(|name| folder.ends_with(name)) {
        return false;
    }
    let own = std::fs::read_to_string(folder.join("generated.json")).unwrap_or_default();
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        kind.fits(&entry.path())
            && entry.path().is_file()
            && !own.contains(&*name.to_string_lossy())
    })
}

/// Says which folders of this program's are passed over, aloud where one holds files that are not
/// its own.
fn tell_made(made: &[PathBuf], kind: &FileKind) {
    let Some(first) = made.first() else { return };
    let many = made.len();
    match made.iter().find(|folder| holds(folder, kind)) {
        Some(folder) => progress::warn(&format!(
            "the {}s in {} are passed over, as is all that lies in runs and other folders of this \
             program's ({many} of them); move what belongs to the data elsewhere",
            kind.one,
            folder.display()
        )),
        None => progress::say(&format!(
            "passing over what lies in runs and other folders of this program's: {many} of them, \
             such as {}",
            first.display()
        )),
    }
}

/// All files of the kind below `folder`, as sorted relative paths. Hidden folders are passed over,
/// and those that this program made: the pictures of a run that lies beside its data are none.
fn walk(folder: &Path, kind: &FileKind) -> Result<Vec<Box<str>>> {
    let (mut paths, mut packed, made) = (Vec::new(), Vec::new(), RefCell::new(Vec::new()));
    let visible = |entry: &walkdir::DirEntry| {
        if entry.depth() == 0 {
            return true;
        }
        let ours = entry.file_type().is_dir() && is_made(entry.path());
        if ours {
            made.borrow_mut().push(entry.path().to_owned());
        }
        !ours && !entry.file_name().to_string_lossy().starts_with('.')
    };
    for entry in walkdir::WalkDir::new(folder).follow_links(true).into_iter().filter_entry(visible)
    {
        let entry = entry.map_err(|error| not_listed(&error, folder))?;
        if !entry.file_type().is_file() || !kind.fits(entry.path()) {
            packed.extend(is_packed(entry.path(), kind).then(|| entry.into_path()));
            continue;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let text = relative.to_str().ok_or_else(|| {
            Error::file(entry.path(), "the name is not valid UTF-8; rename the file")
        })?;
        paths.push(text.replace(std::path::MAIN_SEPARATOR, "/").into_boxed_str());
    }
    tell_made(&made.borrow(), kind);
    let unread = packed.first().map(|first| {
        let (count, first) = (packed.len(), first.display());
        format!("{count} file(s) such as {first} are packed in a way that is not read: unpack them, {UNPACK}")
    });
    if paths.is_empty() {
        let looked = kind.extensions.join(", ");
        let message = format!("no {} in this folder; looked for {looked}", kind.one);
        let more = unread.map(|unread| format!("; {unread}")).unwrap_or_default();
        return Err(Error::file(folder, message + &more));
    }
    unread.iter().for_each(|unread| progress::warn(unread));
    paths.sort_unstable();
    Ok(paths)
}

/// Whether a file of the kind is packed in `path` by a program whose files are not read.
fn is_packed(path: &Path, kind: &FileKind) -> bool {
    PACKED.iter().any(|packed| has_extension(path, &[packed]))
        && path.file_stem().is_some_and(|inner| kind.fits(Path::new(inner)))
}

fn not_listed(error: &walkdir::Error, folder: &Path) -> Error {
    let place = error.path().unwrap_or(folder).to_owned();
    let what_to_do = if place.is_symlink() && !place.exists() {
        "it is a link to what is not there: mend it or delete it"
    } else {
        "check its permissions"
    };
    Error::file(place, format!("cannot be listed: {error}; {what_to_do}"))
}

/// The files that a list file names.
fn read_list(list: &Path, base: &Path, kind: &FileKind) -> Result<Vec<Box<str>>> {
    let text = std::fs::read_to_string(list).map_err(|e| Error::io("read the list", list, &e))?;
    let (mut paths, mut lines, mut absent) = (Vec::new(), HashMap::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = |message: String| Err(Error::file(list, format!("line {number}: {message}")));
        if !kind.fits(Path::new(line)) {
            return refuse(format!(
                "{line:?} is no {}; it must end in one of {}",
                kind.one,
                kind.extensions.join(", ")
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
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |e: &&str| name.strip_suffix(*e).is_some_and(|rest| rest.ends_with('.'));
    extensions.iter().any(ends)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` up to its last dot, unless that starts the file's name. A compressed file has two
/// extensions.
pub(crate) fn without_extension(path: &str) -> &str {
    let path = [".gz", ".fz"].iter().find_map(|e| path.strip_suffix(e)).unwrap_or(path);
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
        Listing { base: PathBuf::from("data/images"), paths }
    }

    #[test]
    fn a_cell_finds_its_file_by_path_name_or_stem() {
        let listing = listing(&["a/J0001.5.jpg", "a/x.png", "b/x.png", "y.jpg", "b/y.jpg"]);
        let names = listing.names();
        for (cell, found) in [
            ("J0001.5", Some((0, Match::Short))),
            (" J0001.5.jpg ", Some((0, Match::Short))),
            ("./a/J0001.5", Some((0, Match::Whole))),
            ("elsewhere/J0001.5.jpg", None),
            ("/data/survey/a/J0001.5.jpg", Some((0, Match::Longer))),
            (r"survey\a\J0001.5.jpg", Some((0, Match::Longer))),
            ("x.png", None),
            ("b/x", Some((2, Match::Whole))),
            ("y.jpg", Some((3, Match::Whole))),
            ("b/y.jpg", Some((4, Match::Whole))),
            ("images/y.jpg", Some((3, Match::Longer))),
            ("other/y.jpg", Some((3, Match::Elsewhere))),
            ("", None),
        ] {
            assert_eq!(names.find(cell), found, "{cell:?}");
            assert_eq!(names.are_several(cell), cell == "x.png", "{cell:?}");
        }
    }

    #[test]
    fn the_last_part_of_a_path_names_no_other_object() {
        let names = Names::of_ids(["A/2", "sv3-dark-26065/0", "7"]);
        for (cell, found) in [
            ("A/2", Some((0, Match::Whole))),
            ("2", Some((0, Match::Short))),
            ("run/A/2", Some((0, Match::Longer))),
            ("B/2", None),
            ("special-dark-27247/0", None),
            ("B/7", None),
            ("7", Some((2, Match::Whole))),
        ] {
            assert_eq!(names.find(cell), found, "{cell:?}");
        }
        let names = names.only_whole();
        assert_eq!(names.find("A/2"), Some((0, Match::Whole)));
        assert_eq!((names.find("2"), names.find("7")), (None, None));
    }

    #[test]
    fn pictures_of_runs_are_not_files_directly_in_them() {
        let run = tempfile::tempdir().expect("a folder");
        let kind = FileKind { one: "image", a: "an image", extensions: &["png"] };
        std::fs::create_dir(run.path().join("previews")).expect("a folder");
        for name in ["manifest.json", "previews/0.png"] {
            std::fs::write(run.path().join(name), "").expect("written");
        }
        assert!(!holds(run.path(), &kind));
        assert!(
            !holds(&run.path().join("previews"), &kind),
            "where a run is the data's own folder"
        );
        std::fs::write(run.path().join("galaxy.PNG"), "").expect("written");
        assert!(holds(run.path(), &kind));
        std::fs::write(run.path().join("generated.json"), r#"{"image": "galaxy.PNG"}"#)
            .expect("written");
        assert!(!holds(run.path(), &kind), "what was generated is listed");
    }

    #[test]
    fn extensions_are_cut_off_names_only() {
        assert_eq!(without_extension("a.b/c"), "a.b/c");
        assert_eq!(without_extension("a.b/c.d.jpg"), "a.b/c.d");
        assert_eq!(without_extension(".jpg"), ".jpg");
        assert_eq!(without_extension("a/b.c.fits.gz"), "a/b.c");
    }
}
