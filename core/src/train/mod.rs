//! Training: one loop, for every recipe and every backend.

mod audit;
mod evaluate;
pub mod ledger;
mod metrics;
mod pace;
mod preview;
mod schedule;
mod tensorboard;
mod trainer;

pub use audit::{Audit, Audited, read_ledger};
pub use evaluate::{VALIDATION, ValidationLosses};
pub use ledger::LEDGER;
pub use metrics::{METRICS, Metric, TIMINGS, Timing, read_lines};
pub use schedule::learning_rate;
pub use trainer::{Start, Summary, Trainer};
