//! Fetching one file: resumed where it broke off, checked before it takes its place.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use astropt_core::{Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;
use ureq::http::header::CONTENT_RANGE;

use super::cache::Cache;
use super::client::Client;
use super::listing::{Hash, Listing, RemoteFile};

/// Bytes read at a time.
const CHUNK: usize = 1 << 18;
/// How often a file that arrives damaged is fetched afresh.
const AFRESH: u32 = 2;
/// Time between looks at a lock that another process holds.
const LOCKED: Duration = Duration::from_millis(200);

/// What fetching needs.
#[derive(Clone, Debug)]
pub(super) struct Downloader {
    pub(super) client: Client,
    pub(super) cache: Cache,
    pub(super) listing: Listing,
}

/// A file on its way.
struct Partial<'a> {
    file: File,
    path: PathBuf,
    remote: &'a RemoteFile,
    /// Of the bytes that are here.
    digest: Running,
    len: u64,
}

/// The hash of the bytes so far, of the kind that the hub lists of the file.
#[derive(Clone)]
enum Running {
    Sha256(Sha256),
    /// As git hashes a file: `blob`, its length and a zero byte stand before its bytes.
    Git(Sha1),
}

impl Running {
    fn new(remote: &RemoteFile) -> Self {
        match remote.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {}\0", remote.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(digest) => digest.update(bytes),
            Self::Git(digest) => digest.update(bytes),
        }
    }

    /// The hash in hexadecimal digits.
    fn name(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.clone() {
            Self::Sha256(digest) => hex(&digest.finalize()),
            Self::Git(digest) => hex(&digest.finalize()),
        }
    }
}

impl Downloader {
    /// Fetches a file unless it is here; `arrived` hears of every run of bytes.
    ///
    /// # Errors
    /// When the hub does not deliver it, or what it delivers is not what it lists, or it
    /// cannot be written.
    pub(super) fn fetch(&self, remote: &RemoteFile, arrived: &dyn Fn(u64)) -> Result<PathBuf> {
        let _lock = loop {
            if let Some(path) = self.cache.find(&self.listing, remote) {
                return Ok(path);
            }
            if let Some(lock) = self.cache.try_lock(&remote.hash)? {
                break lock;
            }
            self.client.check_wanted()?;
            std::thread::sleep(LOCKED);
        };
        // Another process may have fetched it until the lock was free.
        if let Some(path) = self.cache.find(&self.listing, remote) {
            return Ok(path);
        }
        let mut partial = Partial::open(self.cache.incomplete(&remote.hash), remote)?;
        let mut afresh = 0;
        loop {
            self.complete(&mut partial, arrived)?;
            match partial.check() {
                Ok(()) => break,
                Err(_) if afresh < AFRESH => partial.restart()?,
                Err(why) => {
                    partial.restart()?;
                    return Err(Error::Failed(format!(
                        "{} of the dataset {}: {why}, {} times; try another HF_ENDPOINT, or \
                         later",
                        remote.path,
                        self.listing.repo,
                        afresh + 1
                    )));
                }
            }
            afresh += 1;
        }
        // Marked first: a file without a mark is taken for someone else's.
        self.cache.set_mark(&self.listing, remote)?;
        partial.finish(self.cache.blob(&remote.hash))?;
        self.cache.link(&self.listing, remote)
    }

    /// Asks for the rest of a file until all of it is here.
    fn complete(&self, partial: &mut Partial<'_>, arrived: &dyn Fn(u64)) -> Result<()> {
        let address = self.listing.address(&self.client, partial.remote);
        let what = format!("{} of the dataset {}", partial.remote.path, self.listing.repo);
        let mut vain = 0;
        while partial.len < partial.remote.size {
            let before = partial.len;
            let range = Some((before, None)).filter(|_| before > 0);
            let answer = self.client.get(&address, range, &what)?;
            let start = match answer.status() {
                StatusCode::PARTIAL_CONTENT => {
                    let range = answer.headers().get(CONTENT_RANGE);
                    range.and_then(|range| range_start(range.to_str().ok()?))
                }
                _ => Some(0),
            };
            if start == Some(0) && before > 0 {
                partial.restart()?; // it sends all of it, whatever was asked
            }
            let why = if start == Some(partial.len) {
                self.append(partial, &mut answer.into_body().into_reader(), arrived)?
            } else {
                Some("it sends another part of the file than was asked for".to_owned())
            };
            vain = if partial.len > before { 0 } else { vain + 1 };
            if vain == self.client.attempts {
                let why = why.unwrap_or_default();
                return Err(Error::Failed(format!("{what}: nothing arrives ({why})")));
            }
            if let Some(why) = why {
                self.client.back_off(vain, None, (&what, &why))?;
            }
        }
        Ok(())
    }

    /// Writes what arrives; hands back why it ended too early.
    fn append(
        &self,
        partial: &mut Partial<'_>,
        body: &mut dyn Read,
        arrived: &dyn Fn(u64),
    ) -> Result<Option<String>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            self.client.check_wanted()?;
            let read = match body.read(&mut chunk) {
                Ok(0) if partial.len < partial.remote.size => {
                    return Ok(Some("the connection was closed".to_owned()));
                }
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            if partial.len + read as u64 > partial.remote.size {
                // Whatever it is, it is not the file that was listed: the check fails.
                partial.len = partial.remote.size + 1;
                return Ok(None);
            }
            partial.write(bytes)?;
            arrived(read as u64);
        }
    }
}

/// Where the part begins that `bytes 5-9/100` announces.
fn range_start(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

impl<'a> Partial<'a> {
    /// Opens what is here of a file, of this or another program.
    fn open(path: PathBuf, remote: &'a RemoteFile) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("write", &path, &e);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let mut digest = Running::new(remote);
        let mut chunk = vec![0; CHUNK];
        let mut len = 0;
        loop {
            match file.read(&mut chunk).map_err(failed)? {
                0 => break,
                read => {
                    digest.update(chunk.get(..read).unwrap_or_default());
                    len += read as u64;
                }
            }
        }
        let mut partial = Self { file, path, remote, digest, len };
        if len > remote.size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn restart(&mut self) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("write", &self.path, &e);
        self.file.set_len(0).map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.digest = Running::new(self.remote);
        self.len = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, &e))?;
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether what is here is what the hub lists.
    fn check(&self) -> Result<(), String> {
        if self.len != self.remote.size {
            return Err(format!("it is not of the {} bytes that are listed", self.remote.size));
        }
        match self.digest.name() == self.remote.hash.name() {
            true => Ok(()),
            false => Err("what arrives has another hash than the hub lists".to_owned()),
        }
    }

    /// Puts the file in its place.
    fn finish(self, place: PathBuf) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("write", &self.path, &e))?;
        fs::rename(&self.path, &place).map_err(|e| Error::io("put in place", &place, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::range_start;

    #[test]
    fn the_start_of_a_range_is_read() {
        assert_eq!(range_start("bytes 5-9/100"), Some(5));
        assert_eq!(range_start("bytes 5-9/*"), Some(5));
        for wrong in ["bytes */100", "5-9/100", "bytes x-9/100", ""] {
            assert_eq!(range_start(wrong), None, "{wrong}");
        }
    }
}
