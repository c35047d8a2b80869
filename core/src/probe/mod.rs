//! Probes: what an embedding tells about labels.
//!
//! A linear model is fitted from frozen embeddings to one label on training objects and
//! scored on held-out ones, by the paper's recipe (arXiv 2405.14930, section 4): unknown
//! values dropped, outliers cut at three median absolute deviations, labels moved by their
//! median and divided by their interquartile range. The same fit on the embeddings of an
//! untrained model and on raw features says how much of the score is the pretraining's.
//!
//! Where few objects are labelled, held-out objects are cross-validated: those of one fold are
//! predicted by a fit on all others, and the predictions of all folds are scored together.
//! Untrained models may be several, whose scores are averaged. What decides between two sets
//! of features is the bootstrap interval of their paired difference (Efron & Tibshirani 1993,
//! An Introduction to the Bootstrap, chapters 8 and 13), over objects, or over groups of
//! objects that belong together.
//!
//! Everything is deterministic: the bootstrap draws from counter-based streams, so scores
//! and intervals do not depend on the number of threads.

mod audit;
mod bootstrap;
mod compare;
pub(crate) mod distances;
mod emergence;
mod knn;
mod linear;
mod mlp;
mod model;
mod nuisance;
mod scaling;
mod score;
mod settings;
mod stats;
mod table;
mod target;
mod task;
mod trend;

pub use audit::{Audit, NuisanceDrop, audit};
pub use bootstrap::Interval;
pub use compare::{Difference, Spread, Verdict, difference};
pub use emergence::{Emergence, Told};
pub use nuisance::{Nuisance, Ranges};
pub use score::{HeldOut, ProbeScore, probe};
pub use settings::{
    Alpha, Deviation, Features, Method, ProbeSettings, Split, Statistics, ValidRange,
};
pub use stats::{interquartile_range, median, pearson, quantile, r_squared, spearman};
pub use table::{FeatureSet, Outcome, ProbeRow, ProbeTable, Skipped, Versus, probe_table};
pub use task::Task;
pub(crate) use task::{add_tasks, asked_labels};
pub use trend::{Trend, trend};
