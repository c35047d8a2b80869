//! Any Burn backend as a backend of AstroPT, in one file: here burn-ndarray.
//!
//! A program that links this crate (`use astropt_ndarray as _;`) runs recipes with
//! `--backend ndarray`. The kernels are the reference in plain Burn operations: slow, and
//! right. A backend gets faster by implementing methods of
//! [`Kernels`](astropt_core::kernels::Kernels) itself, one at a time.

use astropt_core::cost::available_memory;
use astropt_core::engine::{self, Session};
use astropt_core::kernels::{Platform, Reference};
use astropt_core::model::ModelConfig;
use astropt_core::seam::{Backend, Device, Room};
use astropt_core::{Error, Result, register_backend};
use burn_ndarray::{NdArray, NdArrayDevice};

register_backend!("ndarray", "burn-ndarray with the reference kernels, one core", Ndarray);

/// burn-ndarray in single precision with the reference kernels.
#[derive(Clone, Copy, Debug)]
pub struct NdarrayPlatform;

impl Platform for NdarrayPlatform {
    type Backend = NdArray<f32>;
    type Kernels = Reference;
}

/// This machine's processor, as one device.
#[derive(Clone, Copy, Debug)]
pub struct Ndarray;

impl Backend for Ndarray {
    fn devices(&self) -> Result<Vec<Device>> {
        Ok(vec![Device { name: format!("{}, one core", std::env::consts::ARCH) }])
    }

    fn room(&self, _index: usize) -> Option<Room> {
        available_memory().map(|free| Room { free, shared: true })
    }

    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>> {
        if index != 0 {
            return Err(Error::Misuse(format!(
                "there is no device ndarray:{index}; the processor is ndarray:0"
            )));
        }
        engine::open::<NdarrayPlatform>(NdArrayDevice::Cpu, model)
    }
}
