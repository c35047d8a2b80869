//! The CPU backend: Burn's `flex` tensors with fused kernels.
//!
//! Registered as `cpu`. The vector level (AVX-512, AVX2, portable) is chosen when the
//! program runs; work is cut into pieces that do not depend on the number of threads and
//! sums are taken in a fixed order, so the same input gives the same bytes on one thread
//! as on many.

pub mod kernels;

use astropt_core::cost::{among_processes, available_memory};
use astropt_core::engine::{self, Guarded, Session, calm};
use astropt_core::error::{Error, Result};
use astropt_core::kernels::Platform;
use astropt_core::model::ModelConfig;
use astropt_core::register_backend;
use astropt_core::seam::{Backend, Device, Room};
use burn_flex::{Flex, FlexDevice};

use kernels::CpuKernels;
use kernels::simd::Level;

register_backend!("cpu", "This machine's processors, all cores", Cpu);

/// burn-flex with [`CpuKernels`].
#[derive(Clone, Copy, Debug)]
pub struct CpuPlatform;

impl Platform for CpuPlatform {
    type Backend = Flex;
    type Kernels = CpuKernels;
    const ON_HOST: bool = true;
}

/// The processors of this machine, as one device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    fn devices(&self) -> Result<Vec<Device>> {
        let threads = rayon::current_num_threads();
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("{}, {threads} thread{plural}, {}", model_name(), Level::best());
        Ok(vec![Device { name }])
    }

    fn room(&self, _index: usize) -> Option<Room> {
        available_memory().map(|free| Room { free, shared: true })
    }

    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>> {
        if index != 0 {
            return Err(Error::Misuse(format!(
                "there is no device cpu:{index}; all processors together are cpu:0"
            )));
        }
        check_memory(model)?;
        let session = calm(|| engine::open::<CpuPlatform>(FlexDevice, model));
        session.map(|session| Box::new(Guarded::new(session)) as Box<dyn Session>)
    }
}

/// Refuses a model whose parameters, gradients and moments alone exceed what is free.
fn check_memory(model: &ModelConfig) -> Result<()> {
    let parameters: f64 = model.parameters().iter().map(|p| p.elements() as f64).sum();
    let needed = 16.0 * parameters; // four numbers of four bytes each
    match available_memory() {
        Some(free) if needed > free => Err(Error::Misuse(format!(
            "a model of {parameters:.2e} parameters needs {:.0} GB for weights, gradients and \
             AdamW's moments; {:.0} GB are free{}. Choose a smaller model.width or model.layers",
            needed / 1e9,
            free / 1e9,
            among_processes()
        ))),
        _ => Ok(()),
    }
}

/// The processor's name where the system tells it, else its architecture.
fn model_name() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == "model name").then(|| value.trim().to_owned()));
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_device_and_it_has_a_name() {
        let devices = Cpu.devices().expect("a processor");
        assert_eq!(devices.len(), 1);
        assert!(devices[0].name.contains("thread"), "{}", devices[0].name);
    }

    #[test]
    fn it_is_registered() {
        let plugin = astropt_core::seam::find_backend("cpu").expect("registered");
        assert_eq!(plugin.info.package, "astropt-cpu");
    }
}
