//! Training: one loop, for every recipe and every backend.

mod evaluate;
mod faults;
mod metrics;
mod preview;
mod schedule;
mod tensorboard;
mod trainer;

pub use evaluate::{VALIDATION, ValidationLosses};
pub use faults::{Done, FAULTS, Fault};
pub use metrics::{METRICS, Metric, TIMINGS, Timing, read_lines};
pub use schedule::learning_rate;
pub use trainer::{Start, Summary, Trainer};
