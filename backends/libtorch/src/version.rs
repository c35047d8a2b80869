//! Which libtorch was loaded.
//!
//! A library of another version may have every name that the program is linked with, and lay out
//! tensors otherwise: what is computed with it is wrong, or the program falls over. So versions
//! are compared before the first tensor is made.

use astropt_core::error::{Error, Result};

use crate::kernels::{Library, library};

/// That the libtorch which was loaded is of the version that this crate was built with.
///
/// # Errors
/// When it is of another: which one, where it lies, and how to get the right one.
pub(crate) fn check() -> Result<()> {
    compare(&library())
}

fn compare(library: &Library) -> Result<()> {
    let [needed, found] = [library.built, library.loaded].map(written);
    if needed == found {
        return Ok(());
    }
    let place = library.path.as_ref().map_or(String::new(), |path| format!(" ({path})"));
    Err(Error::Failed(format!(
        "LibTorch {needed} is needed, with which this program was built, and {found} was \
         loaded{place}; make LibTorch {needed} with `backends/libtorch/setup.sh DIR`, or install \
         PyTorch {needed}, and name its folder of libraries (DIR/lib, or torch/lib) first in \
         LD_LIBRARY_PATH"
    )))
}

/// Major, minor and patch, the highest bytes of a version.
fn written(version: u64) -> String {
    let [major, minor, patch, ..] = version.to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(version: u64) -> Library {
        let path = Some("/lib/libtorch_cpu.so".to_owned());
        Library { built: 0x0209_0000_0000_0000, loaded: version, path }
    }

    #[test]
    fn the_library_that_tests_are_linked_with_is_found() {
        check().unwrap_or_else(|wrong| panic!("{wrong}"));
        let path = library().path.expect("a path");
        assert!(path.contains("libtorch"), "{path}");
    }

    #[test]
    fn another_version_is_refused_with_the_way_out() {
        assert!(compare(&loaded(0x0209_0000_0000_0000)).is_ok());
        for (version, found) in [
            (0x0208_0000_0000_0000, "2.8.0"),
            (0x0209_0100_0000_0000, "2.9.1"),
            (0x020a_0000_0000_0000, "2.10.0"),
        ] {
            let error = compare(&loaded(version)).expect_err("another version").to_string();
            let words = [found, "2.9.0", "/lib/libtorch_cpu.so", "setup.sh", "LD_LIBRARY_PATH"];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
