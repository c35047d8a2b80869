//! NVIDIA's libraries on this machine: what is there, what is missing, and where to get it.
//!
//! The libraries are tried before anything of CubeCL is touched, which would panic without them.

use std::error::Error as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use cudarc::driver::result::{self as cuda, DriverError, ctx, device, primary_ctx};
use cudarc::driver::sys::{self, CUcontext, CUdevice_attribute, CUresult, CUuuid};
use cudarc::nvrtc::sys::{self as nvrtc, nvrtcResult};
use libloading::Library;

/// The driver's library, and the run-time compiler's: the one that is wanted, and the next.
const DRIVER: &str = "libcuda.so.1";
const COMPILER: &str = "libnvrtc.so.12";
const NEXT_COMPILER: &str = "libnvrtc.so.13";

/// A GPU that the driver shows.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    /// NVIDIA's name of it.
    pub(crate) name: String,
    /// Its memory.
    pub(crate) bytes: usize,
    /// Its compute capability, major and minor.
    pub(crate) capability: (i32, i32),
    /// How NVIDIA's tools tell it from all others, but for the kind that goes before: `GPU-`, or
    /// `MIG-` of a part of one.
    pub(crate) uuid: String,
}

/// The GPUs, or all that is missing, each with what to install.
pub(crate) fn find() -> Result<Vec<Gpu>, Vec<String>> {
    let mut missing = Vec::new();
    let gpus = gpus().unwrap_or_else(|reason| {
        missing.push(reason);
        Vec::new()
    });
    let parts: Vec<String> = [compiler(), headers()].into_iter().filter_map(Result::err).collect();
    if !parts.is_empty() {
        missing.push(format!(
            "{}; run `backends/cuda/setup.sh DIR` with a new folder as DIR and set CUDA_PATH=DIR, \
             or install NVIDIA's CUDA toolkit, 12.x",
            parts.join(", and ")
        ));
    }
    if missing.is_empty() { Ok(gpus) } else { Err(missing) }
}

/// The context that CubeCL uses too, of the GPU of this number, for this thread from now on. It is
/// never released.
pub(crate) fn enter(index: usize) -> Result<CUcontext, DriverError> {
    let gpu = device::get(index as i32)?;
    // SAFETY: the driver gave the device.
    let context = unsafe { primary_ctx::retain(gpu) }?;
    // SAFETY: the driver gave the context, which is never released.
    unsafe { ctx::set_current(context) }?;
    Ok(context)
}

/// Bytes of the memory of the GPU of this number that nobody has.
pub(crate) fn free(index: usize) -> Result<usize, DriverError> {
    enter(index)?;
    cuda::mem_get_info().map(|(free, _)| free)
}

/// CUDA's version, major and minor.
pub(crate) type Version = (i32, i32);

/// The CUDA that the driver is of, where it tells.
pub(crate) fn driver_version() -> Option<Version> {
    type Ask = unsafe extern "C" fn(*mut i32) -> CUresult;
    let mut version = 0;
    // SAFETY: the function is of this type, and writes a number or answers with an error.
    unsafe {
        let ask = sys::culib().get::<Ask>(b"cuDriverGetVersion").ok()?;
        ask(&mut version).result().ok()?;
    }
    Some((version / 1000, version % 1000 / 10))
}

/// The CUDA that NVRTC is of, where it tells.
pub(crate) fn compiler_version() -> Option<Version> {
    type Ask = unsafe extern "C" fn(*mut i32, *mut i32) -> nvrtcResult;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the function is of this type, and writes two numbers or answers with an error.
    unsafe {
        let ask = nvrtc::culib().get::<Ask>(b"nvrtcVersion").ok()?;
        ask(&mut major, &mut minor).result().ok()?;
    }
    Some((major, minor))
}

/// That the driver is too old for what NVRTC compiles, where it is.
pub(crate) fn too_new(compiler: Version, driver: Version) -> Option<String> {
    let words = |(major, minor): Version| format!("{major}.{minor}");
    (compiler > driver).then(|| {
        format!(
            "NVRTC is of CUDA {compiler} and NVIDIA's driver of CUDA {driver}, which takes nothing \
             that is compiled by a later one: run `CUDA={driver} backends/cuda/setup.sh DIR` with \
             a new folder as DIR and set CUDA_PATH=DIR, or install a newer driver",
            compiler = words(compiler),
            driver = words(driver),
        )
    })
}

/// That a library, where it lies at `path`, has all that the loader would map: one that is cut short
/// ends the program without a word (SIGBUS). What is no library at all is left to the loader's words.
fn whole(path: &Path) -> Result<(), String> {
    let Ok(file) = std::fs::File::open(path) else { return Ok(()) };
    let length = file.metadata().map_or(0, |about| about.len());
    let mut head = Vec::new();
    let _ = file.take(4096).read_to_end(&mut head);
    // ELF of 64 bits: where the table of what is mapped begins, how long a line of it is and how
    // many there are; in each, where a part begins in the file and how long it is.
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(head.get(at..at.checked_add(bytes)?)?);
        Some(u64::from_le_bytes(all))
    };
    let end = || -> Option<u64> {
        let [table, line, lines] = [number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?];
        (0..lines)
            .map(|k| {
                let at = usize::try_from(table.checked_add(k * line)?).ok()?;
                let part = |field: usize| number(at.checked_add(field)?, 8);
                part(0x08)?.checked_add(part(0x20)?)
            })
            .try_fold(0, |end, part| Some(end.max(part?)))
    };
    match end() {
        Some(end) if head.starts_with(b"\x7fELF\x02\x01") && end > length => {
            Err(format!("{}: it is cut short, {length} of {end} bytes", path.display()))
        }
        _ => Ok(()),
    }
}

/// Loads a library for as long as the program runs, or says why not in the loader's words.
fn load(name: impl AsRef<Path>) -> Result<(), String> {
    whole(name.as_ref())?;
    // SAFETY: NVIDIA's libraries have no conditions on when they are initialised.
    match unsafe { Library::new(name.as_ref()) } {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

fn gpus() -> Result<Vec<Gpu>, String> {
    // SAFETY: opens the driver's library, whose initialisation is NVIDIA's and has no conditions.
    if !unsafe { sys::is_culib_present() } {
        let words = load(DRIVER).err().unwrap_or_default();
        return Err(format!(
            "there is no NVIDIA driver here that can be loaded ({words}); install the driver of \
             your GPU, or give the container its GPUs (`--gpus all`)"
        ));
    }
    let refused = |error: DriverError| {
        let words = error.error_string().map(|words| words.to_string_lossy().into_owned());
        let words = words.unwrap_or_else(|_| format!("error {}", error.0 as i32));
        format!(
            "NVIDIA's driver is here but shows no GPU ({words}); see what `nvidia-smi` says, and \
             that CUDA_VISIBLE_DEVICES hides none"
        )
    };
    cuda::init().map_err(refused)?;
    let count = device::get_count().map_err(refused)?;
    let gpus: Vec<Gpu> = (0..count).map(gpu).collect::<Result<_, _>>().map_err(refused)?;
    if gpus.is_empty() {
        return Err(
            "NVIDIA's driver is here but shows no GPU; see that CUDA_VISIBLE_DEVICES hides \
                    none"
                .into(),
        );
    }
    Ok(gpus)
}

fn gpu(index: i32) -> Result<Gpu, DriverError> {
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let gpu = device::get(index)?;
    // SAFETY: the driver gave the handle, and it stays good.
    let attribute = |which| unsafe { device::get_attribute(gpu, which) };
    // SAFETY: as above.
    let bytes = unsafe { device::total_mem(gpu) }?;
    let capability = (attribute(MAJOR)?, attribute(MINOR)?);
    let uuid = match part_uuid(gpu) {
        Some(uuid) => uuid,
        None => device::get_uuid(gpu)?,
    };
    let uuid = digits(uuid.bytes.map(|byte| byte as u8));
    Ok(Gpu { name: device::get_name(gpu)?, bytes, capability, uuid })
}

/// The UUID of a GPU, or of the part of one that it is in multi-instance mode, where the driver
/// tells them apart; the older function names the whole.
fn part_uuid(gpu: sys::CUdevice) -> Option<CUuuid> {
    type Ask = unsafe extern "C" fn(*mut CUuuid, sys::CUdevice) -> CUresult;
    let mut uuid = CUuuid { bytes: [0; 16] };
    // SAFETY: the function is of this type, and writes a UUID or answers with an error.
    unsafe {
        let ask = sys::culib().get::<Ask>(b"cuDeviceGetUuid_v2").ok()?;
        ask(&mut uuid, gpu).result().ok()?;
    }
    Some(uuid)
}

fn digits(uuid: [u8; 16]) -> String {
    let digits: Vec<String> = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| digits[part].concat()).join("-")
}

/// That NVRTC can be loaded. One that lies in CUDA_PATH alone is loaded from there, and then
/// found by its name.
fn compiler() -> Result<(), String> {
    let folders: Vec<PathBuf> =
        root().iter().flat_map(|root| ["lib64", "lib"].map(|folder| root.join(folder))).collect();
    let lies = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|at| at.exists());
    let own = lies(COMPILER).map(load);
    // The loader would take it by its name too, where CUDA_PATH is among its folders.
    let cut = lies(COMPILER).is_some_and(|path| whole(&path).is_err());
    // SAFETY: as of any library of NVIDIA's.
    if !cut && unsafe { nvrtc::is_culib_present() } {
        return Ok(());
    }
    // A damaged one in CUDA_PATH is what the user meant, whatever is said of others.
    let words = match own {
        Some(Err(words)) => words,
        _ => load(COMPILER).err().unwrap_or_default(),
    };
    let next = lies(NEXT_COMPILER).is_some() || load(NEXT_COMPILER).is_ok();
    let next = if next { "; the NVRTC of CUDA 13 that is here is not taken" } else { "" };
    Err(format!("NVRTC, CUDA's run-time compiler, cannot be loaded ({words}{next})"))
}

/// That the headers which kernels are compiled with are there.
fn headers() -> Result<(), String> {
    let Some(root) = root() else {
        return Err("CUDA's headers are missing (no CUDA_PATH, no /usr/local/cuda)".into());
    };
    let needed = ["cuda_fp16.h", "cuda_bf16.h", "mma.h", "crt/mma.h"];
    match needed.iter().find(|name| !root.join("include").join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(format!("{} lacks include/{name} of CUDA's headers", root.display())),
    }
}

/// Where CubeCL looks for CUDA.
fn root() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CUDA_PATH") {
        return Some(path.into());
    }
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(Path::new);
    let usual = usual.into_iter().find(|path| path.exists());
    usual
        .or_else(|| Path::new("/usr/bin/nvcc").exists().then_some(Path::new("/usr")))
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvidia_does() {
        let bytes = std::array::from_fn(|k| 0x11 * k as u8);
        assert_eq!(digits(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_library_that_cannot_be_loaded_is_told_in_the_loaders_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let damaged = folder.path().join("libdamaged.so");
        std::fs::write(&damaged, "no library").expect("a file");
        let words = load(&damaged).expect_err("no library");
        assert!(words.contains("libdamaged.so: ") && !words.contains("No such file"), "{words}");
        // One that is cut short would end this process.
        let program = std::env::current_exe().and_then(std::fs::read).expect("this program");
        std::fs::write(&damaged, &program[..program.len() / 3]).expect("a file");
        let words = load(&damaged).expect_err("a part");
        assert!(words.contains("libdamaged.so: it is cut short"), "{words}");
        std::fs::write(&damaged, &program).expect("a file");
        assert_eq!(whole(&damaged), Ok(()));
        let words = load(folder.path().join("libmissing.so")).expect_err("no file");
        assert!(words.contains("libmissing.so: ") && words.contains("No such file"), "{words}");
    }

    #[test]
    fn a_compiler_is_held_against_the_driver() {
        for older in [(12, 0), (12, 8)] {
            assert_eq!(too_new(older, (12, 8)), None);
        }
        for newer in [(12, 9), (13, 0)] {
            let told = too_new(newer, (12, 8)).expect("one that is too new");
            assert!(told.contains("CUDA=12.8 backends/cuda/setup.sh"), "{told}");
        }
    }

    /// Either there are GPUs with names, or every reason says what to do about it.
    #[test]
    fn what_is_missing_is_said_with_the_way_out() {
        match find() {
            Ok(gpus) => assert!(gpus.iter().all(|gpu| !gpu.name.is_empty() && gpu.bytes > 0)),
            Err(missing) => {
                for reason in missing {
                    let helps = reason.contains("install") || reason.contains("nvidia-smi");
                    assert!(helps || reason.contains("CUDA_VISIBLE_DEVICES"), "{reason}");
                }
            }
        }
    }
}
