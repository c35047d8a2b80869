//! The suites that every backend is held to find what is wrong, and say what.

mod kernels;
mod named;
mod session;
