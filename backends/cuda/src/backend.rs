//! Devices and sessions.

use std::sync::{Arc, Once};

use astropt_core::data::Uploads;
use astropt_core::engine::{self, Guarded, Precision, Session};
use astropt_core::error::{Error, Result};
use astropt_core::kernels::Platform;
use astropt_core::model::ModelConfig;
use astropt_core::seam::{Backend, Device, Monitor, Room};
use astropt_core::{progress, register_backend};
use burn_cuda::{Cuda, CudaDevice};

use crate::kernels::driver::{self, Gpu};
use crate::kernels::tuning;
use crate::kernels::uploads::CudaUploads;
use crate::kernels::{Bf16, CubeKernels};
use crate::{monitor, settings};

register_backend!("cuda", "NVIDIA GPUs, with kernels of this project", CudaBackend);

/// burn-cuda with [`CubeKernels`].
#[derive(Clone, Copy, Debug)]
pub struct CudaPlatform;

impl Platform for CudaPlatform {
    type Backend = Cuda<f32, i32>;
    type Kernels = CubeKernels;

    fn uploads(device: &CudaDevice) -> Result<Option<Arc<dyn Uploads>>> {
        Ok(Some(Arc::new(CudaUploads::new(device)?)))
    }
}

/// The same in bf16.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Platform;

impl Platform for Bf16Platform {
    type Backend = Cuda<f32, i32>;
    type Kernels = CubeKernels<Bf16>;
}

/// The GPUs that NVIDIA's driver shows to this program, in its order.
#[derive(Clone, Copy, Debug, Default)]
pub struct CudaBackend;

/// The GPUs, once everything that is needed to compute on them has been found.
fn gpus() -> Result<Vec<Gpu>> {
    driver::find().map_err(|missing| Error::Failed(missing.join("; ")))
}

fn name(gpu: &Gpu) -> String {
    let (major, minor) = gpu.capability;
    format!("{}, {:.0} GB, compute capability {major}.{minor}", gpu.name, gpu.bytes as f64 / 1e9)
}

/// Says once that the driver will refuse what NVRTC compiles, where it will.
fn warn_of_versions() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let versions = driver::compiler_version().zip(driver::driver_version());
        if let Some(wrong) = versions.and_then(|(own, driver)| driver::too_new(own, driver)) {
            progress::warn(&wrong);
        }
    });
}

impl Backend for CudaBackend {
    fn devices(&self) -> Result<Vec<Device>> {
        Ok(gpus()?.iter().map(|gpu| Device { name: name(gpu) }).collect())
    }

    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32, Precision::Bf16]
    }

    fn monitor(&self, index: usize) -> Option<Monitor> {
        static ONCE: Once = Once::new();
        let asked = monitor::monitor(&gpus().ok()?.get(index)?.uuid);
        let told = |words: &String| {
            progress::warn(&format!(
                "NVIDIA's management library cannot be asked about cuda:{index} ({words}): the \
                 GPU's memory, utilisation and energy will not be recorded"
            ));
        };
        asked.inspect_err(|words| ONCE.call_once(|| told(words))).ok()
    }

    fn room(&self, index: usize) -> Option<Room> {
        // The driver knows it of the part of a GPU too, which the management library may not.
        let free = gpus().ok().filter(|gpus| index < gpus.len()).map(|_| driver::free(index))?;
        Some(Room { free: free.ok()? as f64, shared: false })
    }

    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>> {
        let gpus = gpus()?;
        if index >= gpus.len() {
            return Err(Error::Misuse(format!(
                "there is no device cuda:{index}; NVIDIA's driver shows {} device(s), numbered \
                 from 0",
                gpus.len()
            )));
        }
        warn_of_versions();
        let listener = tuning::listener(index);
        let device = CudaDevice::new(index);
        let session = listener.heard(|| {
            settings::settle(&gpus)?;
            tuning::watch(&device);
            engine::open_mixed::<CudaPlatform, Bf16Platform>(device, model)
        });
        Ok(Box::new(Guarded::listening(session?, listener)))
    }
}
