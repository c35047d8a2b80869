//! How CubeCL behaves in this program, and what it keeps between runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use astropt_core::error::{Error, Result};
use astropt_core::progress;
use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::kernels::driver::{self, Gpu, Version};

/// The file that is written whenever a folder of kernels is used.
const USED: &str = "used";
/// How long kernels are kept that nobody uses: those of programs that were built anew.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Settles CubeCL's settings, once, before a device is opened: what it has tuned and compiled is
/// kept between runs, in the user's cache folder. What a `cubecl.toml` of the user's own says of
/// either goes first, and settings that are in force already stay, for CubeCL takes no others once
/// a device was used.
///
/// The backend does so itself; what computes on [`CudaPlatform`](crate::CudaPlatform) without it
/// does so first.
pub fn prepare() {
    if let Ok(gpus) = driver::find()
        && let Err(error) = settle(&gpus)
    {
        progress::warn(&error.to_string());
    }
}

/// As [`prepare`], on a machine with these GPUs.
///
/// # Errors
/// When the user's own settings cannot be read.
pub(crate) fn settle(gpus: &[Gpu]) -> Result<()> {
    if CubeClRuntimeConfig::storage().lock().is_some() {
        return Ok(());
    }
    let own = std::env::current_dir().map_or_else(|_| Ok(None), |folder| own(&folder))?;
    let tunes = own.as_ref().is_some_and(|own| own.caches_tuned);
    let mut config = own.map(|own| own.config).unwrap_or_default();
    let caches = Caches::of(folder().as_deref(), gpus, driver::compiler_version());
    if let Some(reason) = &caches.lacking
        && !(tunes && config.compilation.cache.is_some())
    {
        progress::warn(reason);
    }
    if !tunes {
        config.autotune.cache = caches.tuned;
    }
    config.compilation.cache = config.compilation.cache.or(caches.compiled);
    let config = Arc::new(config.override_from_env());
    CubeClRuntimeConfig::storage().lock().get_or_insert(config);
    Ok(())
}

/// The user's own settings.
struct Own {
    config: CubeClRuntimeConfig,
    /// Whether they say where what was tuned is kept; it cannot be told from the default.
    caches_tuned: bool,
}

/// What CubeCL would read: the first of its files in this folder, or else in the next above.
fn own(folder: &Path) -> Result<Option<Own>> {
    let whole = CubeClRuntimeConfig::file_names().iter().map(|name| (*name, None));
    let part = CubeClRuntimeConfig::section_file_names().iter();
    let names: Vec<_> = whole.chain(part.map(|(name, part)| (*name, Some(*part)))).collect();
    for folder in folder.ancestors() {
        for (name, part) in &names {
            let path = folder.join(name);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let wrong = |error: toml::de::Error| {
                Error::file(&path, format!("these are no settings of CubeCL: {error}"))
            };
            let mut all: toml::Table = text.parse().map_err(wrong)?;
            let settings = match part {
                None => toml::Value::Table(all),
                Some(part) => match all.remove(*part) {
                    Some(settings) => settings,
                    None => continue,
                },
            };
            let caches_tuned = settings.get("autotune").is_some_and(|of| of.get("cache").is_some());
            let config = settings.try_into().map_err(wrong)?;
            return Ok(Some(Own { config, caches_tuned }));
        }
    }
    Ok(None)
}

/// `$XDG_CACHE_HOME/astropt` or `.cache/astropt` in the user's home folder, where there is one.
fn folder() -> Option<PathBuf> {
    // Of a relative one the specification says that it is to be ignored.
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = set
        .filter(|folder| folder.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".cache")));
    cache.map(|cache| cache.join("astropt"))
}

/// Where things are kept between runs.
#[derive(Debug)]
struct Caches {
    tuned: CacheConfig,
    compiled: Option<CacheConfig>,
    /// Why not, in words for the user.
    lacking: Option<String>,
}

impl Caches {
    /// In folders within this one. What was tuned is good for this kind of GPU, whatever program
    /// tuned it: CubeCL holds the kernels that it chose from against those that there are. What
    /// was compiled it finds by the names of kernels alone.
    fn of(folder: Option<&Path>, gpus: &[Gpu], compiler: Option<Version>) -> Self {
        let lacking = |what: String| {
            let lacking = Some(format!(
                "what is compiled and tuned for the GPU is not kept for the next time: {what}; \
                 set XDG_CACHE_HOME to a folder that can be written"
            ));
            // A file, in which no folder can be made: CubeCL goes on without one.
            Self { tuned: CacheConfig::File("/dev/null".into()), compiled: None, lacking }
        };
        let Some(folder) = folder else { return lacking("there is no home folder".into()) };
        let (tuned, kernels) = (folder.join("tuned").join(kind(gpus)), folder.join("kernels"));
        let compiled = kernels_of(gpus, compiler).map(|name| kernels.join(name));
        for place in [Some(&tuned), compiled.as_ref()].into_iter().flatten() {
            if let Err(error) = mark(place) {
                return lacking(format!("{} cannot be written ({error})", place.display()));
            }
        }
        forget(&kernels, KEPT);
        let compiled = compiled.map(CacheConfig::File);
        Self { tuned: CacheConfig::File(tuned), compiled, lacking: None }
    }
}

/// A name for GPUs of these kinds: CubeCL tells them apart by their numbers alone.
fn kind(gpus: &[Gpu]) -> String {
    let names: Vec<&str> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    match names.first() {
        Some(first) if names.iter().all(|name| name == first) => {
            first.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        }
        _ => format!("mixed-{:016x}", xxh3_64(names.join("\n").as_bytes())),
    }
}

/// A name for kernels that this compiler makes of this program's source for GPUs like these; none
/// for GPUs that are not alike, whose kernels CubeCL would mix up, or where something is not known.
fn kernels_of(gpus: &[Gpu], compiler: Option<Version>) -> Option<String> {
    let (first, (major, minor)) = (gpus.first()?.capability, compiler?);
    let alike = gpus.iter().all(|gpu| gpu.capability == first);
    let program = alike.then(program)?.ok()?;
    Some(format!("sm_{}{}-nvrtc-{major}.{minor}-{program:016x}", first.0, first.1))
}

/// Digest of this program.
fn program() -> io::Result<u64> {
    let mut file = File::open(std::env::current_exe()?)?;
    let (mut digest, mut part) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut part)? {
            0 => return Ok(digest.digest()),
            read => digest.update(&part[..read]),
        }
    }
}

/// Makes a folder, and marks it as used now.
fn mark(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(USED), "The folder was last used when this file was written.\n")
}

/// Deletes folders within this one that were marked so long ago. What cannot be deleted stays.
fn forget(kernels: &Path, kept: Duration) {
    for entry in fs::read_dir(kernels).into_iter().flatten().flatten() {
        let used = fs::metadata(entry.path().join(USED)).and_then(|used| used.modified());
        let old = used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > kept));
        if old && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, capability: (i32, i32)) -> Gpu {
        Gpu { name: name.into(), bytes: 1, capability, uuid: String::new() }
    }

    fn path(cache: CacheConfig) -> PathBuf {
        match cache {
            CacheConfig::File(path) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kernels_are_kept_by_compiler_and_gpu_and_what_was_tuned_by_gpu() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |gpus: &[Gpu], compiler| {
            let caches = Caches::of(Some(folder.path()), gpus, compiler);
            assert_eq!(caches.lacking, None);
            (path(caches.tuned), caches.compiled.map(path))
        };
        let (a, b) = (gpu("A 100", (8, 0)), gpu("H 100", (9, 0)));
        let first = of(&[a.clone(), a.clone()], Some((12, 8)));
        assert_eq!(first, of(std::slice::from_ref(&a), Some((12, 8))));
        let named = |part: &str| first.1.as_ref().is_some_and(|at| at.ends_with(part));
        let own = format!("kernels/sm_80-nvrtc-12.8-{:016x}", program().expect("a program"));
        assert!(named(&own) && first.0.ends_with("tuned/A-100"), "{first:?}");
        let later = of(std::slice::from_ref(&a), Some((12, 9)));
        assert_eq!(later.0, first.0);
        assert_ne!(later.1, first.1);
        let other = of(std::slice::from_ref(&b), Some((12, 8)));
        assert!(other.0 != first.0 && other.1.is_some() && other.1 != first.1, "{other:?}");
        let mixed = [of(&[a.clone(), b.clone()], Some((12, 8))), of(&[b, a.clone()], None)];
        assert!(mixed.iter().all(|(_, compiled)| compiled.is_none()), "{mixed:?}");
        assert!(mixed[0].0 != mixed[1].0 && mixed[0].0 != first.0, "{mixed:?}");
        assert_eq!(of(&[a], None), (first.0, None));
    }

    #[test]
    fn without_a_folder_that_can_be_written_nothing_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        for base in [None, Some(file.as_path())] {
            let caches = Caches::of(base, &[gpu("A", (8, 0))], Some((12, 8)));
            assert!(caches.compiled.is_none());
            let why = caches.lacking.expect("a reason");
            assert!(why.contains("XDG_CACHE_HOME"), "{why}");
            assert!(base.is_none_or(|base| why.contains(&base.display().to_string())), "{why}");
            assert!(fs::create_dir_all(path(caches.tuned).join("autotune")).is_err());
        }
    }

    #[test]
    fn kernels_that_nobody_uses_are_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let [old, new, foreign] = ["old", "new", "foreign"].map(|name| folder.path().join(name));
        for used in [&old, &new] {
            mark(used).expect("a mark");
        }
        fs::create_dir(&foreign).expect("a folder");
        let mark = File::options().write(true).open(old.join(USED)).expect("a mark");
        mark.set_modified(std::time::SystemTime::now() - 2 * KEPT).expect("a time");
        forget(folder.path(), KEPT);
        assert_eq!([&old, &new, &foreign].map(|at| at.exists()), [false, true, true]);
    }

    #[test]
    fn the_users_own_settings_are_those_that_cubecl_would_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("a folder");
        let read = || own(&inner).expect("settings").expect("a file");
        fs::write(folder.path().join("cubecl.toml"), "[memory]\npersistent_memory = \"enforced\"")
            .expect("a file");
        assert!(!read().caches_tuned && read().config.compilation.cache.is_none());
        let part = "[cubecl.autotune]\ncache = \"target\"\n[cubecl.compilation]\ncache = \"local\"";
        fs::write(inner.join("burn.toml"), part).expect("a file");
        let own_part = read();
        assert!(own_part.caches_tuned && own_part.config.compilation.cache.is_some());
        fs::write(inner.join("cubecl.toml"), "autotune = 3").expect("a file");
        let error = own(&inner).err().expect("no settings").to_string();
        assert!(error.contains("cubecl.toml") && error.contains("settings of CubeCL"), "{error}");
    }
}
