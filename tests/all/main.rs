//! Tests that cross crates, in one binary: the program as a user runs it, and all plugins
//! under the conformance kit.

#![allow(clippy::print_stdout, reason = "a skipped test must be seen")]

use astropt_cpu as _;
use astropt_cuda as _;
use astropt_modalities as _;

mod bad_input;
mod checkpoints;
mod cli;
mod conformance;
mod convert;
mod family;
mod generate;
mod hostile_checkpoints;
mod licences;
mod new_modality;
mod parallel;
mod parquet;
mod plugins_page;
mod program;
mod recipes;
mod resume;
mod run;
mod tidy;
mod verify;
