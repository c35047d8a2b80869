//! What every backend owes: parameters, gradients, steps, reading and streams, each answer
//! held against another.

use astropt_core::seam::find_backend;
use astropt_core::testkit;
use astropt_ndarray as _;

#[test]
fn the_backend_conforms() {
    assert!(find_backend("ndarray").is_ok());
    testkit::check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
}
