//! Training: one loop, for every recipe and every backend.

mod evaluate;
mod metrics;
mod preview;
mod schedule;
mod team;
mod tensorboard;
mod trainer;

pub use evaluate::{VALIDATION, ValidationLosses};
pub use metrics::{METRICS, Metric, TIMINGS, Timing, read_lines};
pub use schedule::learning_rate;
pub use team::check_shares;
pub use trainer::{Start, Summary, Trainer};
