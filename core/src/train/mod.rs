//! Training: one loop, for every recipe and every backend.

mod audit;
mod evaluate;
mod faults;
pub mod ledger;
mod lines;
mod metrics;
mod pace;
mod preview;
mod schedule;
mod targets;
mod team;
mod tensorboard;
mod trainer;
mod watch;

pub use audit::{Audit, Audited, read_ledger};
pub use evaluate::{VALIDATION, ValidationLosses};
pub use faults::{Done, FAULTS, Fault};
pub use ledger::{Entry as LedgerEntry, LEDGER};
pub use lines::read_lines;
pub use metrics::{METRICS, Metric, TIMINGS, Timing};
pub(crate) use metrics::{digest_until, not_as_led, predicted_until, validation_at};
pub use schedule::learning_rate;
pub use team::check_shares;
pub use trainer::{Start, Summary, Trainer};
