//! The registry: what is linked into this program, by seam and name.

use serde::de::DeserializeOwned;

use super::{BackendPlugin, ModalityPlugin, SourcePlugin};
use crate::error::{Error, Result};

/// What a plugin says of itself.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PluginInfo {
    /// The name a recipe uses; unique within the seam.
    pub kind: &'static str,
    /// One line.
    pub summary: &'static str,
    /// TOML that configures it, without `kind`; it parses and builds.
    pub example: &'static str,
    /// The crate it comes from.
    pub package: &'static str,
}

/// Why a plugin's table could not be read, and which key is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted path of the key within the table; empty for the table itself.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Reads `T` from a table and keeps the path of the key that does not fit. `T` should
/// refuse unknown fields.
///
/// # Errors
/// The first key that is unknown, missing or of the wrong type.
pub fn parse_config<T: DeserializeOwned>(table: toml::Table) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        ConfigError { path, message: error.into_inner().message().to_owned() }
    })
}

/// The linked modalities, sorted by name.
pub fn modalities() -> Vec<&'static ModalityPlugin> {
    sorted(inventory::iter::<ModalityPlugin>, |p| p.info)
}

/// The linked sources, sorted by name.
pub fn sources() -> Vec<&'static SourcePlugin> {
    sorted(inventory::iter::<SourcePlugin>, |p| p.info)
}

/// The linked backends, sorted by name.
pub fn backends() -> Vec<&'static BackendPlugin> {
    sorted(inventory::iter::<BackendPlugin>, |p| p.info)
}

fn sorted<T>(
    plugins: impl IntoIterator<Item = &'static T>,
    info: fn(&T) -> PluginInfo,
) -> Vec<&'static T> {
    let mut plugins: Vec<_> = plugins.into_iter().collect();
    plugins.sort_by_key(|p| info(p).kind);
    plugins
}

/// The modality `kind`.
///
/// # Errors
/// When none of that name is linked; lists those that are.
pub fn find_modality(kind: &str) -> Result<&'static ModalityPlugin> {
    find("modality", &modalities(), kind, |p| p.info)
}

/// The source `kind`.
///
/// # Errors
/// When none of that name is linked; lists those that are.
pub fn find_source(kind: &str) -> Result<&'static SourcePlugin> {
    find("source", &sources(), kind, |p| p.info)
}

/// The backend `name`.
///
/// # Errors
/// When none of that name is linked; lists those that are.
pub fn find_backend(name: &str) -> Result<&'static BackendPlugin> {
    find("backend", &backends(), name, |p| p.info)
}

fn find<T>(
    seam: &str,
    plugins: &[&'static T],
    kind: &str,
    info: fn(&T) -> PluginInfo,
) -> Result<&'static T> {
    plugins.iter().find(|p| info(p).kind == kind).copied().ok_or_else(|| {
        let known: Vec<_> = plugins.iter().map(|p| info(p).kind).collect();
        Error::Misuse(format!(
            "no {seam} {kind:?} is linked into this program{}; `astropt plugins` describes: {}",
            nearest(kind, &known),
            known.join(", ")
        ))
    })
}

/// ` (did you mean "…"?)` for the candidate nearest to `word`, or nothing.
pub(crate) fn nearest(word: &str, candidates: &[&str]) -> String {
    candidates
        .iter()
        .map(|c| (strsim::damerau_levenshtein(&word.to_lowercase(), &c.to_lowercase()), c))
        .min()
        .filter(|(distance, c)| *distance <= 1 + c.len().max(word.len()) / 3)
        .map(|(_, c)| format!(" (did you mean {c:?}?)"))
        .unwrap_or_default()
}

/// Checks that names are unique per seam.
///
/// # Errors
/// Names the plugin that is registered twice, and by which crates.
pub fn check_registry() -> Result<()> {
    let seams: [(&str, Vec<PluginInfo>); 3] = [
        ("modality", modalities().iter().map(|p| p.info).collect()),
        ("source", sources().iter().map(|p| p.info).collect()),
        ("backend", backends().iter().map(|p| p.info).collect()),
    ];
    for (seam, infos) in seams {
        for pair in infos.windows(2) {
            if pair[0].kind == pair[1].kind {
                return Err(Error::Failed(format!(
                    "the {seam} {:?} is registered twice, by {} and by {}; link only one",
                    pair[0].kind, pair[0].package, pair[1].package
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        size: usize,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        inner: Inner,
    }

    #[test]
    fn a_config_error_names_the_key() {
        for (text, path) in [
            ("inner = { size = 'x' }", "inner.size"),
            ("inner = { size = 1, sise = 2 }", "inner.sise"),
            ("inner = {}", "inner"),
            ("iner = 1", "iner"),
        ] {
            let table: toml::Table = text.parse().expect("valid TOML");
            let error = parse_config::<Outer>(table).expect_err(text);
            assert_eq!(error.path, path, "{text}: {}", error.message);
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        assert_eq!(nearest("spirl", &["raster", "spiral"]), " (did you mean \"spiral\"?)");
        assert_eq!(nearest("zzzzzz", &["raster", "spiral"]), "");
    }
}
