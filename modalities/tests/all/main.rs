//! One binary for all tests that cross modules.

mod conformance;
mod faults;
mod fixtures;
mod golden;
mod image_folder;
mod round_trip;
mod spectrum;
mod time_series;
