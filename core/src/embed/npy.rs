//! NumPy's `.npy`, written row by row: the header has room for the number of rows, which is
//! known only at the end.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::checkpoint::AtomicFile;
use crate::error::{Error, Result};

/// Bytes of magic, version, length and dictionary together; a multiple of 64, as the format
/// asks (NumPy enhancement proposal 1).
const HEADER: usize = 128;

/// An array `[rows, shape...]` of `f32` being written, and its rows' ids beside it, one a
/// line, in the file that ends in `.ids.txt`. Both appear when [finished](Self::finish).
pub struct NpySink {
    file: AtomicFile,
    ids: AtomicFile,
    shape: Vec<usize>,
    rows: usize,
}

impl NpySink {
    /// Starts the array at `path`, for rows of `shape`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn create(path: impl AsRef<Path>, shape: &[usize]) -> Result<Self> {
        let path = path.as_ref();
        let mut file = AtomicFile::create(path)?;
        let ids = AtomicFile::create(path.with_extension("ids.txt"))?;
        put(&mut file, &[0; HEADER])?;
        Ok(Self { file, ids, shape: shape.to_vec(), rows: 0 })
    }

    /// Appends rows: their ids, and their numbers one after the other.
    ///
    /// # Errors
    /// When the numbers are not whole rows, an id holds a line break, or the disk refuses.
    pub fn write(&mut self, ids: &[String], vectors: &[f32]) -> Result<()> {
        let width: usize = self.shape.iter().product();
        if vectors.len() != ids.len() * width {
            return Err(Error::Failed(format!(
                "{} rows of {width} numbers came with {} numbers",
                ids.len(),
                vectors.len()
            )));
        }
        for id in ids {
            if id.contains(['\n', '\r']) {
                return Err(Error::object(
                    format!("{id:?}"),
                    "an id with a line break does not fit a list of lines; rename the object",
                ));
            }
            put(&mut self.ids, format!("{id}\n").as_bytes())?;
        }
        for vector in vectors.chunks(width.max(1)) {
            let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
            put(&mut self.file, &bytes)?;
        }
        self.rows += ids.len();
        Ok(())
    }

    /// Ends both files and moves them into place.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<()> {
        let header = header(self.rows, &self.shape)?;
        let path = self.file.path().to_owned();
        let back = self.file.seek(SeekFrom::Start(0));
        back.map_err(|e| Error::io("write", path, &e))?;
        put(&mut self.file, &header)?;
        self.ids.commit()?;
        self.file.commit()
    }
}

fn put(file: &mut AtomicFile, bytes: &[u8]) -> Result<()> {
    let written = file.write_all(bytes);
    written.map_err(|e| Error::io("write", file.path(), &e))
}

fn header(rows: usize, shape: &[usize]) -> Result<Vec<u8>> {
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {axes}), }}");
    const PREFIX: usize = 10;
    let room = HEADER - PREFIX - 1;
    if dictionary.len() > room {
        return Err(Error::Failed(format!("an array of {} axes does not fit .npy", shape.len())));
    }
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(((HEADER - PREFIX) as u16).to_le_bytes());
    out.extend(format!("{dictionary:<room$}\n").into_bytes());
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numpy_reads_the_shape_and_the_ids_stand_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embeddings.npy");
        let numbers: Vec<f32> = (0..30).map(|k| k as f32 / 7.0).collect();
        let ids: Vec<String> = (0..5).map(|k| format!("o{k}")).collect();
        let mut sink = NpySink::create(&path, &[2, 3]).unwrap();
        sink.write(&ids[..2], &numbers[..12]).unwrap();
        sink.write(&ids[2..], &numbers[12..]).unwrap();
        sink.finish().unwrap();
        let npy = npyz::NpyFile::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(npy.shape(), [5, 2, 3]);
        assert_eq!(npy.into_vec::<f32>().unwrap(), numbers);
        let lines = std::fs::read_to_string(folder.path().join("embeddings.ids.txt")).unwrap();
        assert!(lines.lines().eq(ids.iter().map(String::as_str)));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = NpySink::create(folder.path().join("e.npy"), &[2]).unwrap();
        assert!(sink.write(&["a\nb".to_owned()], &[0.0; 2]).is_err());
        assert!(sink.write(&["a".to_owned()], &[0.0; 3]).is_err());
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
