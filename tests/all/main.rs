//! Tests that cross crates, in one binary: the program as a user runs it, and all plugins
//! under the conformance kit.

#![allow(clippy::print_stdout, reason = "a skipped test must be seen")]

use astropt_cpu as _;
use astropt_cuda as _;
use astropt_modalities as _;

mod backend_of_recipe;
mod bad_input;
mod checkpoints;
mod cli;
mod conformance;
mod convert;
mod disks;
mod family;
mod family_again;
mod faults;
mod generate;
mod generate_files;
mod generate_more;
mod hostile_checkpoints;
mod hub;
mod imports;
mod inspects;
mod kills;
mod leaks;
mod ledger;
mod licences;
mod memory;
mod new_modality;
mod one_run;
mod one_writer;
mod parallel;
mod parquet;
mod pieces;
mod plugins_page;
mod program;
mod recipes;
mod rejected;
mod resume;
mod ruined;
mod run;
mod same_data;
mod same_recipe;
mod self_check;
mod slurm;
mod streams;
mod threads;
mod tidy;
mod told;
mod units;
mod verify;
