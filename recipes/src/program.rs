//! What the programs of this package share: the recipes, the plugins that need no library,
//! and the allocator.

use std::process::ExitCode;

use astropt_cpu as _;
use astropt_cuda as _;
use astropt_modalities as _;
use astropt_mpi as _;

/// Training frees and takes the same large buffers every step; the system's allocator gives
/// them back in between, and faulting them in again costs more than some kernels.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

astropt_core::register_recipe!("galaxy-grz", include_str!("../galaxy-grz.toml"));
astropt_core::register_recipe!("efigi", include_str!("../efigi.toml"));
astropt_core::register_recipe!("crts", include_str!("../crts.toml"));
astropt_core::register_recipe!("galaxy-spectrum", include_str!("../galaxy-spectrum.toml"));
astropt_core::register_recipe!("stars", include_str!("../stars.toml"));
astropt_core::register_recipe!("transients", include_str!("../transients.toml"));

/// mimalloc's `mi_option_purge_delay` (mimalloc.h, version 3), and the milliseconds it is
/// set to: freed memory stays with the process for a few steps, where the next step takes
/// it again, before the system has it back.
const PURGE_DELAY: (libmimalloc_sys::mi_option_t, std::ffi::c_long) = (15, 10_000);

/// The variable of the environment by which `astropt` asks the program beside it who it is, and the
/// answer of the one that it may become.
pub(crate) const WHO: &str = "ASTROPT_ASKS_WHO";
pub(crate) const LIBTORCH: &str = concat!("astropt-libtorch ", env!("CARGO_PKG_VERSION"));

/// Hands over to the core's command line.
pub(crate) fn main() -> ExitCode {
    // SAFETY: sets a number, before any other thread runs.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY.0, PURGE_DELAY.1);
    }
    astropt_core::cli::main()
}
