//! What every backend owes, on every device that libtorch sees here.
#![cfg(feature = "linked")]

use astropt_core::kernels::Reference;
use astropt_core::testkit;
use astropt_cpu as _; // models move between it and this backend
use astropt_libtorch::{Bf16Platform, LibTorchPlatform};
use burn_tch::LibTorchDevice;

fn devices() -> Vec<LibTorchDevice> {
    let gpus = tch::Cuda::device_count().max(0) as usize;
    (0..gpus).map(LibTorchDevice::Cuda).chain([LibTorchDevice::Cpu]).collect()
}

#[test]
fn the_backend_conforms_and_exchanges_models_with_the_cpus() {
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn the_kernels_agree_with_the_reference() {
    for device in devices() {
        testkit::kernels::check::<LibTorchPlatform>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}

#[test]
fn whole_models_agree_with_the_reference() {
    for device in devices() {
        testkit::backend::check_platform::<LibTorchPlatform>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}

#[test]
fn the_kernels_in_bf16_agree_with_the_reference() {
    for device in devices() {
        testkit::kernels::check_rounded::<Bf16Platform, Reference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
        testkit::backend::check_platform_rounded::<Bf16Platform, Reference>(&device)
            .unwrap_or_else(|wrong| panic!("{device:?}: {wrong}"));
    }
}
