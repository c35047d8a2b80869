//! What every backend owes: parameters, gradients, steps, reading and streams, each answer
//! held against another.

use astropt_core::seam::find_backend;
use astropt_core::testkit;
use astropt_ndarray::NdarrayPlatform;
use burn_ndarray::NdArrayDevice;

#[test]
fn the_backend_conforms() {
    assert!(find_backend("ndarray").is_ok());
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Trivial here, where the kernels are the reference; a backend with kernels of its own asks
/// for nothing more.
#[test]
fn kernels_and_models_agree_with_the_reference() {
    testkit::kernels::check::<NdarrayPlatform>(&NdArrayDevice::Cpu)
        .and_then(|()| testkit::backend::check_platform::<NdarrayPlatform>(&NdArrayDevice::Cpu))
        .unwrap_or_else(|wrong| panic!("{wrong}"));
}
