//! A run on disk: one folder, in which files appear whole or not at all.
//!
//! ```text
//! recipe.toml  manifest.json  metrics.jsonl  timings.jsonl  ledger.jsonl  checksums.json
//! events.out.tfevents.*  .lock
//! checkpoints/step-000500/{model,optimizer,selfcheck}.safetensors, state.json
//! checkpoints/best/…  previews/step-000500.png  rejected.csv
//! embeddings.parquet  embeddings.npy  probes.json  report.html
//! ```

mod answers;
mod belongs;
mod export;
mod folder;
mod import;
mod import_own;
mod lock;
mod manifest;
mod ours;
mod prune;
mod saved;
mod selfcheck;
mod sums;

pub use folder::RunFolder;
pub(crate) use folder::write_rejected;
pub use import::{ImportRequest, Imported, import};
pub use import_own::{OwnRequest, import_own};
pub use lock::RunLock;
pub(crate) use manifest::now;
pub use manifest::{Manifest, StageRecord};
pub use ours::is_made;
pub(crate) use ours::{
    GENERATED, Work, clear_embeddings, clear_figures, in_no_run, is_embedding, nothing_foreign,
};
pub(crate) use saved::Contents;
pub use saved::{Saved, SavedModel, TrainState, load_model, read_model};
pub(crate) use selfcheck::Inputs;
