//! `astropt` with the modality `new-modality`.

use std::process::ExitCode;

use astropt_cpu as _;
use astropt_modalities as _;
use astropt_new_modality as _;

astropt_core::register_recipe!("new-modality", include_str!("../recipe.toml"));

fn main() -> ExitCode {
    astropt_core::cli::main()
}
