//! What every backend owes, on every GPU that NVIDIA's driver shows here; where it shows none,
//! that the backend says why. Kernels one by one are tests of the crate's own.
#![cfg(feature = "linked")]

use astropt_core::seam::Backend as _;
use astropt_core::testkit;
use astropt_cpu as _; // models move between it and this backend
use astropt_cuda::kernels::ExactReference;
use astropt_cuda::{Bf16Platform, CudaBackend, CudaPlatform, prepare};
use burn_cuda::CudaDevice;

#[allow(clippy::print_stdout, reason = "a skipped test must be seen")]
fn devices() -> Vec<CudaDevice> {
    prepare();
    match CudaBackend.devices() {
        Ok(devices) => (0..devices.len()).map(CudaDevice::new).collect(),
        Err(reason) => {
            println!("skipped: {reason}");
            Vec::new()
        }
    }
}

#[test]
fn the_backend_conforms_and_exchanges_models_with_the_cpus() {
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn whole_models_agree_with_the_reference() {
    for device in devices() {
        testkit::backend::check_platform_against::<CudaPlatform, ExactReference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}

#[test]
fn whole_models_in_bf16_agree_with_the_reference() {
    for device in devices() {
        testkit::backend::check_platform_rounded::<Bf16Platform, ExactReference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}
