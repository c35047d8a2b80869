//! NumPy arrays on disk: an `.npz` archive, one `.npy` file or a folder of them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use astropt_core::progress::Progress;
use astropt_core::{Error, Result, plain, stop};
use zip::{CompressionMethod, ZipArchive};

use super::header::Header;

/// Most arrays of an archive or folder.
const MAX_ARRAYS: usize = 4096;

/// Bytes that are read at a time where an array is checked.
const CHUNK: usize = 1 << 20;

/// Arrays of so many bytes take long enough to check to say so.
const WORTH_TELLING: u64 = 1 << 30;

/// Deflate makes at most so much of a byte.
const MAX_INFLATION: u64 = 1032;

/// The arrays of an archive by name, none of them read.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    place: Place,
    /// Or why it cannot be used.
    header: Result<Header, String>,
}

/// Where an array's numbers are.
#[derive(Clone, Debug)]
enum Place {
    /// As they are, from this byte of this file on; in an archive, its entry.
    Plain { file: PathBuf, start: u64, entry: Option<usize> },
    /// Deflated, in this entry of the archive.
    Deflated { entry: usize },
}

impl Archive {
    /// Lists the arrays of `path` and reads their headers.
    ///
    /// # Errors
    /// When it is neither an archive, an array nor a folder of arrays, or is damaged.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let metadata =
            std::fs::metadata(&path).map_err(|e| Error::io("open the arrays", &path, &e))?;
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let members = match extension.as_str() {
            _ if metadata.is_dir() => folder(&path)?,
            "npy" => vec![plain(&path)?],
            "npz" => entries(&path)?,
            _ => {
                return Err(Error::file(
                    path,
                    "neither an .npz archive, an .npy array nor a folder \
                                              of .npy arrays",
                ));
            }
        };
        if members.is_empty() {
            return Err(Error::file(path, "no .npy array in it"));
        }
        Ok(Self { path, members })
    }

    /// Names of the arrays with their headers, or why they cannot be used.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &Result<Header, String>)> {
        self.members.iter().map(|m| (m.name.as_str(), &m.header))
    }

    /// Names of the arrays of numbers.
    ///
    /// # Errors
    /// When an array cannot be used: none is left out in silence.
    pub(super) fn numeric(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for Member { name, header, .. } in &self.members {
            let broken = |message: &String| {
                let way_out = "or name those to read in `fields`";
                Error::file(&self.path, format!("the array {name:?} {message}, {way_out}"))
            };
            if header.as_ref().map_err(broken)?.is_numeric() {
                names.push(name.clone());
            }
        }
        Ok(names)
    }

    /// The array `name`, to be read; `key` is where the recipe names it.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(super) fn array(&self, name: &str, key: &str) -> Result<Array> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else {
            let known: Vec<_> = self.members.iter().map(|m| m.name.as_str()).collect();
            let known = crate::sources::tabular::list(&known);
            let message = format!("no array {name:?} (`{key}`); it has {known}");
            return Err(Error::file(&self.path, message));
        };
        let fail = |message: String| {
            Error::file(&self.path, format!("the array {name:?} (`{key}`) {message}"))
        };
        let header = member.header.clone().map_err(fail)?;
        let bytes = header.bytes().unwrap_or(u64::MAX); // checked against the file's size
        let sought = match &member.place {
            Place::Plain { file, start, .. } if !header.fortran => {
                let open = File::open(file).map_err(|e| Error::io("read the arrays", file, &e))?;
                Some((Mutex::new(open), *start))
            }
            _ => None,
        };
        Ok(Array {
            name: name.to_owned(),
            path: self.path.clone(),
            header,
            bytes,
            place: member.place.clone(),
            sought,
            whole: Mutex::new(None),
            sound: Mutex::new(None),
        })
    }
}

/// The `.npy` files of a folder, sorted.
fn folder(path: &Path) -> Result<Vec<Member>> {
    let list = std::fs::read_dir(path).map_err(|e| Error::io("list the arrays", path, &e))?;
    let mut files = Vec::new();
    for entry in list {
        let file = entry.map_err(|e| Error::io("list the arrays", path, &e))?.path();
        if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy")) && file.is_file() {
            files.push(file);
        }
        if files.len() > MAX_ARRAYS {
            return Err(Error::file(path, format!("more than {MAX_ARRAYS} arrays")));
        }
    }
    files.sort_unstable();
    files.iter().map(|file| plain(file)).collect()
}

/// The array in a file of its own.
fn plain(path: &Path) -> Result<Member> {
    let fail = |e: std::io::Error| Error::io("read the array", path, &e);
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let header = Header::read(&mut BufReader::new(file)).and_then(|header| fits(header, size));
    let start = header.as_ref().map_or(0, |header| header.length);
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Member { name, place: Place::Plain { file: path.to_owned(), start, entry: None }, header })
}

/// Refuses a header whose shape is not that of so many bytes.
fn fits(header: Header, size: u64) -> Result<Header, String> {
    let held = size.saturating_sub(header.length);
    if header.bytes() == Some(0) {
        return Err(format!("has the shape {}, which holds nothing", header.shape_text()));
    }
    if header.bytes() != Some(held) {
        let (shape, width) = (header.shape_text(), header.width);
        return Err(format!(
            "states the shape {shape} of {width} bytes each, and holds {held} bytes; it is cut \
             short or damaged"
        ));
    }
    Ok(header)
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Error {
    let (cause, way_out) = (plain::zip(error), plain::WAY_OUT);
    Error::file(path, format!("cannot be read as a zip archive: {cause}; {way_out}"))
}

fn unzip(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::io("read the archive", path, &e))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, e))
}

/// The arrays of an `.npz` archive.
fn entries(path: &Path) -> Result<Vec<Member>> {
    let mut archive = unzip(path)?;
    let size = std::fs::metadata(path).map_err(|e| Error::io("read the archive", path, &e))?.len();
    if archive.len() > MAX_ARRAYS {
        let message = format!("{} entries; at most {MAX_ARRAYS} are read", archive.len());
        return Err(Error::file(path, message));
    }
    let mut members: Vec<Member> = Vec::new();
    for entry in 0..archive.len() {
        let mut file = archive.by_index(entry).map_err(|e| damaged(path, e))?;
        let name = file.name().map_err(|e| damaged(path, e))?.into_owned();
        let Some(name) = name.strip_suffix(".npy") else { continue };
        if name.contains(['/', '\\']) || name.contains("..") {
            let message =
                format!("its entry {name:?} is named like a path; it is no NumPy archive");
            return Err(Error::file(path, message));
        }
        if members.iter().any(|member| member.name == name) {
            return Err(Error::file(path, format!("two of its arrays are called {name:?}")));
        }
        let (stated, packed) = (file.size(), file.compressed_size());
        let start = file.data_start().unwrap_or(u64::MAX);
        let place = match file.compression() {
            CompressionMethod::Stored => {
                Place::Plain { file: path.to_owned(), start, entry: Some(entry) }
            }
            _ => Place::Deflated { entry },
        };
        let known =
            matches!(file.compression(), CompressionMethod::Stored | CompressionMethod::Deflated);
        let inside = start.checked_add(packed).is_some_and(|end| end <= size);
        let possible = stated <= packed.saturating_mul(MAX_INFLATION).saturating_add(1024);
        let header = match () {
            () if !known => Err("is compressed in a way NumPy does not use".to_owned()),
            () if !inside => Err("reaches beyond the end of the archive".to_owned()),
            () if !possible => {
                Err(format!("states {stated} bytes, more than {packed} deflated bytes can hold"))
            }
            () => Header::read(&mut file).and_then(|header| fits(header, stated)),
        };
        let place = match (place, &header) {
            (Place::Plain { file, start, entry }, Ok(header)) => {
                Place::Plain { file, start: start + header.length, entry }
            }
            (place, _) => place,
        };
        members.push(Member { name: name.to_owned(), place, header });
    }
    Ok(members)
}

/// Reads an entry of an archive to its end, where its checksum is compared; tells what is wrong.
///
/// # Errors
/// When the user has asked to stop.
fn checked(mut file: impl Read, bytes: u64) -> Result<Result<(), String>> {
    let mut progress =
        (bytes >= WORTH_TELLING).then(|| Progress::new("checking arrays", bytes >> 20, 0));
    let (mut chunk, mut read) = (vec![0; CHUNK], 0u64);
    loop {
        if stop::asked() {
            return Err(stop::stopped(" while arrays were checked"));
        }
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Ok(())),
            Ok(more) => read += more as u64,
            Err(error) => {
                let why = plain::zip(error);
                return Ok(Err(format!("is damaged: {why}; fetch or write it again")));
            }
        }
        if let Some(progress) = &mut progress {
            progress.update(read >> 20, "MiB");
        }
    }
}

/// An array of an archive.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) name: String,
    path: PathBuf,
    pub(super) header: Header,
    /// Bytes of all its numbers.
    bytes: u64,
    place: Place,
    /// The file and where the numbers start, where single entries can be read.
    sought: Option<(Mutex<File>, u64)>,
    /// All numbers once they were read, where single entries cannot be.
    whole: Mutex<Option<Arc<Vec<u8>>>>,
    /// Whether it has the checksum that the archive states of it, or what is wrong, once it was
    /// looked at.
    sound: Mutex<Option<Result<(), String>>>,
}

impl Array {
    /// Bytes that stay in memory once the array was read.
    pub(super) fn held_bytes(&self) -> u64 {
        if self.sought.is_some() { 0 } else { self.bytes }
    }

    /// An error about this array.
    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("the array {:?} {message}", self.name))
    }

    /// Bytes of entry `index` of the first axis.
    ///
    /// # Errors
    /// When the file cannot be read, or was rewritten since it was opened.
    pub(super) fn row(&self, index: usize) -> Result<Vec<u8>> {
        let length = self.header.row_bytes().unwrap_or(0);
        let from = length.checked_mul(index as u64);
        let inside = |from: &u64| from.checked_add(length).is_some_and(|end| end <= self.bytes);
        let Some(from) = from.filter(inside) else {
            return Err(self.error(format!("has no entry {index}")));
        };
        let Some((file, start)) = &self.sought else {
            let whole = self.whole()?;
            let row = whole.get(from as usize..(from + length) as usize);
            return row.map(<[u8]>::to_vec).ok_or_else(|| self.error("is cut short"));
        };
        self.check()?;
        let fail = |e| self.error(format!("cannot be read at entry {index}: {e}"));
        let mut row = vec![0; length as usize];
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start.saturating_add(from))).map_err(fail)?;
        file.read_exact(&mut row).map_err(fail)?;
        Ok(row)
    }

    /// Bytes of all its numbers, the last axis running fastest.
    ///
    /// # Errors
    /// When the file cannot be read, is cut short, or its checksum does not match.
    pub(super) fn whole(&self) -> Result<Arc<Vec<u8>>> {
        if self.sought.is_some() {
            return Ok(Arc::new(self.read_whole()?));
        }
        let mut held = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &*held {
            return Ok(whole.clone());
        }
        let whole = Arc::new(self.read_whole()?);
        *held = Some(whole.clone());
        Ok(whole)
    }

    /// Reads an array that an archive holds as it is through once, however it is read later, and
    /// compares its checksum; the first who wants it does.
    ///
    /// # Errors
    /// When it is damaged, or the user has asked to stop.
    fn check(&self) -> Result<()> {
        let Place::Plain { entry: Some(entry), .. } = &self.place else { return Ok(()) };
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if sound.is_none() {
            let mut archive = unzip(&self.path)?;
            let file = archive.by_index(*entry).map_err(|e| damaged(&self.path, e))?;
            *sound = Some(checked(file, self.bytes)?);
        }
        sound.clone().unwrap_or(Ok(())).map_err(|why| self.error(why))
    }

    fn read_whole(&self) -> Result<Vec<u8>> {
        let fail = |e: &dyn std::fmt::Display| self.error(format!("cannot be read: {e}"));
        let mut bytes = Vec::new();
        self.check()?;
        match &self.place {
            Place::Plain { file, start, .. } => {
                let mut file = File::open(file).map_err(|e| fail(&e))?;
                file.seek(SeekFrom::Start(*start)).map_err(|e| fail(&e))?;
                file.take(self.bytes).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
            }
            Place::Deflated { entry } => {
                let mut archive = unzip(&self.path)?;
                let mut file = archive.by_index(*entry).map_err(|e| fail(&e))?;
                let mut header = vec![0; self.header.length as usize];
                file.read_exact(&mut header).map_err(|e| fail(&e))?;
                // One byte more than there should be, so that the checksum is looked at.
                let limit = self.bytes.saturating_add(1);
                file.take(limit).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
            }
        }
        if bytes.len() as u64 != self.bytes {
            return Err(self.error("does not hold as many bytes as its shape needs"));
        }
        Ok(if self.header.fortran { self.c_order(&bytes) } else { bytes })
    }

    /// `bytes`, in which the first axis runs fastest, with the last running fastest.
    fn c_order(&self, bytes: &[u8]) -> Vec<u8> {
        let (shape, width) = (&self.header.shape, self.header.width);
        // Where the entries of the first object lie, in C order; an axis's neighbours are as
        // far apart as there are entries before it.
        let (objects, rest) = shape.split_first().unwrap_or((&1, &[]));
        let (mut places, mut apart) = (vec![0usize], *objects);
        let mut distances = Vec::new();
        for length in rest {
            distances.push(apart);
            apart *= length;
        }
        for (&length, distance) in rest.iter().zip(distances) {
            let along = |place: &usize| {
                let place = *place;
                (0..length).map(move |k| place + k * distance)
            };
            places = places.iter().flat_map(along).collect();
        }
        let mut out = Vec::with_capacity(bytes.len());
        for object in 0..*objects {
            for place in &places {
                let at = (object + place) * width;
                out.extend_from_slice(bytes.get(at..at + width).unwrap_or_default());
            }
        }
        out
    }
}
