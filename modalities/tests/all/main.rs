//! One binary for all tests that cross modules.

mod conformance;
mod fixtures;
mod golden;
mod image_folder;
mod parquet;
mod round_trip;
