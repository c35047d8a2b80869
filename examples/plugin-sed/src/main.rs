//! `astropt` with one modality and one source more.

use std::process::ExitCode;

use astropt_cpu as _;
use astropt_modalities as _;
use astropt_sed as _;

astropt_core::register_recipe!("stars-sed", include_str!("../recipe.toml"));

fn main() -> ExitCode {
    astropt_core::cli::main()
}
