//! NVIDIA's libraries on this machine: what is there, what is missing, and where to get it.
//!
//! The libraries are tried before anything of CubeCL is touched, which would panic without them.

use std::path::{Path, PathBuf};

use cudarc::driver::result::{self as cuda, DriverError, ctx, device, primary_ctx};
use cudarc::driver::sys::{self, CUcontext, CUdevice_attribute};
use libloading::Library;

/// A GPU that the driver shows.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    /// NVIDIA's name of it.
    pub(crate) name: String,
    /// Its memory.
    pub(crate) bytes: usize,
    /// Its compute capability, major and minor.
    pub(crate) capability: (i32, i32),
    /// How NVIDIA's tools tell it from all others: `GPU-` and hexadecimal digits.
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
            "{}; run `backends/cuda/setup.sh DIR` and set CUDA_PATH=DIR, or install NVIDIA's CUDA \
             toolkit, 12.0 or later",
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

fn gpus() -> Result<Vec<Gpu>, String> {
    // SAFETY: opens the driver's library, whose initialisation is NVIDIA's and has no conditions.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver here (libcuda.so.1 cannot be loaded); install the \
                    driver of your GPU, or give the container its GPUs (`--gpus all`)"
            .into());
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
    let uuid = uuid(device::get_uuid(gpu)?.bytes.map(|byte| byte as u8));
    Ok(Gpu { name: device::get_name(gpu)?, bytes, capability, uuid })
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16].map(|part| digits[part].concat());
    format!("GPU-{}", parts.join("-"))
}

/// That NVRTC can be loaded. One that lies in CUDA_PATH alone is loaded from there, and then
/// found by its name.
fn compiler() -> Result<(), String> {
    if let Some(root) = root() {
        let folders = ["lib64", "lib"].map(|folder| root.join(folder));
        let candidate = folders.iter().map(|folder| folder.join("libnvrtc.so.12"));
        if let Some(library) = candidate.into_iter().find(|path| path.exists()) {
            // SAFETY: NVRTC's initialisation has no conditions.
            if let Ok(library) = unsafe { Library::new(library) } {
                std::mem::forget(library); // as long as the program runs
            }
        }
    }
    // SAFETY: as above.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    Err("NVRTC, CUDA's run-time compiler, is missing (libnvrtc.so cannot be loaded)".into())
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
        assert_eq!(uuid(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
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
