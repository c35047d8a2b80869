//! The conformance kit: one behaviour suite per seam, run against every plugin.
//!
//! A plugin's tests call these functions; each returns the first thing that is wrong, in words
//! that name the plugin and what it should have done.
//!
//! ```ignore
//! // Everything that can be checked without data, for every plugin linked.
//! testkit::check_registered()?;
//! // The whole suite, with data.
//! testkit::modality::check("galaxy-image", &testkit::modality::Sample { .. })?;
//! testkit::source::check("image-folder", "path = \"galaxies\"", folder)?;
//! // A backend's kernels, and whole models on them, against the reference.
//! testkit::kernels::check::<MyPlatform>(&device)?;
//! testkit::backend::check_platform::<MyPlatform>(&device)?;
//! ```

pub mod backend;
mod config;
pub mod kernels;
pub mod modality;
pub mod ranks;
pub mod source;
mod vary;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::seam;

/// Nothing, or what is wrong.
pub type Check = Result<(), String>;

/// Checks every linked backend whole and that models move between them, and every modality
/// and source as far as that goes without data: names are unique; the example parses, refuses
/// an unknown key by name, survives a round trip through JSON, and builds; what is built
/// describes itself and answers an object that lacks the modality, hundreds of objects made up
/// from the names in its configuration, or a folder that is empty, without a panic.
///
/// # Errors
/// All that is wrong, one plugin per line.
pub fn check_registered() -> Check {
    seam::check_registry().map_err(|error| error.to_string())?;
    let modalities = seam::modalities().into_iter().map(modality::check_plugin);
    let sources = seam::sources().into_iter().map(source::check_plugin);
    let backends = seam::backends().into_iter().map(backend::check_plugin);
    let exchange = std::iter::once_with(|| backend::check_exchange(&seam::backends()));
    let checks = modalities.chain(sources).chain(backends).chain(exchange);
    let wrong: Vec<_> = checks.filter_map(Result::err).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// `Err(message())` unless `condition`.
fn ensure(condition: bool, message: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(message()) }
}

/// What `f` answers, or an error when it panics.
fn calm<T>(what: &str, f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        format!("{what} panics: {text}; an error is asked for")
    })
}

/// Runs `f` on several threads at once and hands back every answer.
fn on_threads<T: Send>(f: impl Fn() -> T + Sync) -> Result<Vec<T>, String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(&f)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panics".to_owned()))
            .collect()
    })
}
