//! The core of AstroPT: seams, recipes, data, model, training, probing and reporting.
//!
//! ```text
//! recipe -> plan -> source -> observation -> modality -> tokens -> stream
//!        -> batch -> model -> objective -> trainer -> checkpoint
//!        -> embeddings -> probe -> report
//! ```
//!
//! Core names no plugin: sources, modalities and backends are found through [`seam`].

pub mod checkpoint;
pub mod cli;
pub mod cost;
pub mod data;
pub mod embed;
pub mod engine;
pub mod error;
pub mod family;
pub mod figures;
pub mod generate;
pub mod guard;
pub mod kernels;
pub mod leaks;
pub mod model;
pub mod numbers;
pub mod observation;
pub mod parallel;
mod picture;
pub mod plain;
pub mod probe;
pub mod progress;
pub mod recipe;
pub mod report;
pub mod run;
pub mod seam;
pub mod shards;
pub mod stop;
pub mod testkit;
pub mod tokens;
pub mod train;
pub mod umap;
pub mod verify;

pub use error::{Error, Result};
#[doc(hidden)]
pub use inventory;
#[doc(hidden)]
pub use toml;
