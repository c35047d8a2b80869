//! `astropt-libtorch`: the same program with the LibTorch backend. `astropt` starts it when
//! that backend is asked for.

mod program;

use std::process::ExitCode;

use astropt_libtorch as _;

fn main() -> ExitCode {
    program::main()
}
