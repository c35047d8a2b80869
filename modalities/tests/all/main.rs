//! One binary for all tests that cross modules.

mod conformance;
mod faults;
mod fits;
mod fixtures;
mod golden;
mod hdf5;
mod image_folder;
mod round_trip;
mod spectrum;
mod time_series;
