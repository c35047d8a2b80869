//! A run on disk: one folder, in which files appear whole or not at all.
//!
//! ```text
//! recipe.toml  manifest.json  metrics.jsonl  timings.jsonl  events.out.tfevents.*
//! checkpoints/step-000500/{model.safetensors, optimizer.safetensors, state.json}
//! checkpoints/best/…  previews/step-000500.png  rejected.csv
//! embeddings.parquet  embeddings.npy  probes.json  report.html
//! ```

mod folder;
mod manifest;
mod saved;

pub use folder::RunFolder;
pub(crate) use manifest::now;
pub use manifest::{Manifest, StageRecord};
pub use saved::{Saved, TrainState, load_model};
