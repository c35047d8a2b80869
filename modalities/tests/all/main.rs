//! One binary for all tests that cross modules.

mod conformance;
mod exact;
mod faults;
mod fits;
mod fixtures;
mod golden;
mod hdf5;
mod image_folder;
mod join;
mod npz;
mod odd;
mod parquet;
mod real_sources;
mod round_trip;
mod silent;
mod spectrum;
mod table;
mod time_series;
mod units;
