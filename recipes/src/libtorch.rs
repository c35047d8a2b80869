//! `astropt-libtorch`: the same program with the LibTorch backend. `astropt` starts it when
//! that backend is asked for.

mod program;

use std::io::Write;
use std::process::ExitCode;

use astropt_libtorch as _;

fn main() -> ExitCode {
    if std::env::var_os(program::WHO).is_some() && std::env::args_os().skip(1).eq(["--version"]) {
        let told = writeln!(std::io::stdout(), "{}", program::LIBTORCH);
        return told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    program::main()
}
