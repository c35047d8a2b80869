//! `astropt`: links the plugins and the recipes, and hands over to the core's command line.

mod handover;
mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    handover::hand_over();
    program::main()
}
