//! The seams: object-safe traits that plugins implement, and the registry that finds them.
//!
//! A plugin is a crate that implements [`Modality`], [`Source`] or [`Backend`] and registers
//! with one of the `register_*` macros. Linking the crate (`use plugin_crate as _;`) makes
//! the plugin available; only a recipe makes it act.

mod backend;
mod config_type;
mod facts;
mod format;
mod import;
mod modality;
mod recording;
mod registry;
mod source;

pub use backend::{Backend, BackendPlugin, Device, Monitor, Room, Usage};
pub use config_type::{ConfigType, KeyChoice};
pub use facts::SpanFacts;
pub use format::{FormatPlugin, Part, Section};
pub use import::{Assumption, Described, ImportRule, Proposal, import_rules};
pub use modality::{Modality, ModalityConfig, ModalityPlugin, Preview};
pub use recording::{RecordingRule, recording_rules};
pub(crate) use registry::nearest;
pub use registry::{
    ConfigError, PluginInfo, backends, check_registry, find_backend, find_modality, find_source,
    modalities, parse_config, sources,
};
pub use source::{Groups, Pin, Source, SourceConfig, SourcePlugin, TokenSource};
