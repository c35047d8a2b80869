//! Every registered plugin under the conformance kit.

use astropt_core::seam::check_registry;

#[test]
fn names_are_unique() {
    check_registry().expect("unique names");
}
