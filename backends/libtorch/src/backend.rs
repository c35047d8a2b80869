//! Devices and sessions.

use astropt_core::cost::available_memory;
use astropt_core::engine::{self, Guarded, Precision, Session, calm};
use astropt_core::error::{Error, Result};
use astropt_core::kernels::Platform;
use astropt_core::model::ModelConfig;
use astropt_core::parallel;
use astropt_core::register_backend;
use astropt_core::seam::{Backend, Device, Room};
use burn_tch::{LibTorch, LibTorchDevice};

use crate::kernels::{self, LibTorchKernels};
use crate::version;

register_backend!("libtorch", "LibTorch (PyTorch's library), on GPUs and CPU", LibTorchBackend);

/// burn-tch with [`LibTorchKernels`].
#[derive(Clone, Copy, Debug)]
pub struct LibTorchPlatform;

impl Platform for LibTorchPlatform {
    type Backend = LibTorch;
    type Kernels = LibTorchKernels;
}

/// The same in bf16.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Platform;

impl Platform for Bf16Platform {
    type Backend = LibTorch;
    type Kernels = LibTorchKernels<true>;
}

/// The devices that libtorch sees: CUDA's in their order, then the processors as one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LibTorchBackend;

/// Takes no more processors than this process's share of its machine.
fn prepare() {
    kernels::prepare();
    if let Some(threads) = parallel::threads() {
        tch::set_num_threads(threads as i32);
    }
}

/// Every device, best first. Whatever asks libtorch for something asks this first: of another
/// version it is refused.
fn devices() -> Result<Vec<LibTorchDevice>> {
    version::check()?;
    let gpus = if tch::Cuda::is_available() { tch::Cuda::device_count().max(0) } else { 0 };
    let gpus = (0..gpus as usize).map(LibTorchDevice::Cuda);
    Ok(gpus.chain([LibTorchDevice::Cpu]).collect())
}

fn name(device: LibTorchDevice) -> String {
    match device {
        LibTorchDevice::Cuda(index) => format!("CUDA device {index}"),
        _ => {
            let threads = tch::get_num_threads();
            let products = if tch::utils::has_mkl() { ", MKL" } else { "" };
            format!("CPU, {threads} thread{}{products}", if threads == 1 { "" } else { "s" })
        }
    }
}

impl Backend for LibTorchBackend {
    fn devices(&self) -> Result<Vec<Device>> {
        let devices = devices()?;
        prepare();
        Ok(devices.into_iter().map(|device| Device { name: name(device) }).collect())
    }

    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32, Precision::Bf16]
    }

    fn room(&self, index: usize) -> Option<Room> {
        // libtorch tells only what it has taken itself of a GPU.
        let on_host = matches!(devices().ok()?.get(index)?, LibTorchDevice::Cpu);
        on_host.then(available_memory).flatten().map(|free| Room { free, shared: true })
    }

    fn device_of(&self, local: usize) -> Result<usize> {
        // The processors come last, and are for machines without a GPU.
        let gpus = devices()?.len() - 1;
        Ok(if gpus == 0 { 0 } else { local % gpus })
    }

    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>> {
        let devices = devices()?;
        prepare();
        let device = *devices.get(index).ok_or_else(|| {
            Error::Misuse(format!(
                "there is no device libtorch:{index}; libtorch sees {} device(s), numbered from 0",
                devices.len()
            ))
        })?;
        let session = calm(|| engine::open_mixed::<LibTorchPlatform, Bf16Platform>(device, model));
        session.map(|session| Box::new(Guarded::new(session)) as Box<dyn Session>)
    }
}
