//! Every plugin linked into the program under the conformance kit.

use astropt_core::seam::{backends, modalities, sources};
use astropt_core::testkit::check_registered;

#[test]
fn every_registered_plugin_conforms() {
    assert!(!modalities().is_empty() && !sources().is_empty() && !backends().is_empty());
    check_registered().unwrap_or_else(|wrong| panic!("{wrong}"));
}
