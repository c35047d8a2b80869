//! `astropt`: links the plugins and the recipes, and hands over to the core's command line.

use std::process::ExitCode;

use astropt_cpu as _;
use astropt_modalities as _;

/// Training frees and takes the same large buffers every step; the system's allocator gives
/// them back in between, and faulting them in again costs more than some kernels.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

astropt_core::register_recipe!("galaxy-grz", include_str!("../galaxy-grz.toml"));
astropt_core::register_recipe!("efigi", include_str!("../efigi.toml"));

fn main() -> ExitCode {
    astropt_core::cli::main()
}
