//! The configuration of the source `join`, and how it is read from a recipe.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use astropt_core::seam::{ConfigError, SourceConfig, find_source, parse_config};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Configuration of the source `join`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The folder that relative paths of the parts start from.
    pub path: PathBuf,
    /// The sources that are joined, by a name of their own: each a table like `[source]`
    /// itself, with its `kind`.
    pub parts: BTreeMap<String, Box<dyn SourceConfig>>,
    /// How the objects of a part are called by the others, by the part's name. By default its
    /// objects' ids.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub matching: BTreeMap<String, MatchConfig>,
    /// What to put before the names of a part's fields and labels, by the part's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefix: BTreeMap<String, String>,
    /// Which parts an object must have.
    #[serde(default)]
    pub require: Require,
}

/// Where the name that joins an object of one part to those of the others comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// A label of the part that holds it. Unset: the part's own id. Objects that lack the
    /// label are left out. A number must be whole and below 2^53, for labels are no more
    /// exact than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Taken off its beginning, where it is there: `images/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Taken off its end, where it is there: `_star`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_suffix: Option<String>,
    /// Whether it is the path of a file whose extension is taken off last, as sources of files
    /// name their objects: `a/b.jpeg` and `a/b.fits.gz` become `a/b`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strip_extension: bool,
}

/// Which parts an object must have to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// `"all"`: every part.
    #[default]
    All,
    /// `"any"`: one at least.
    Any,
    /// These, by name.
    Parts(Vec<String>),
}

impl Serialize for Require {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Any => serializer.serialize_str("any"),
            Self::Parts(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RequireVisitor;
        impl<'de> Visitor<'de> for RequireVisitor {
            type Value = Require;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"any\" or a list of parts")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Require, E> {
                match word {
                    "all" => Ok(Require::All),
                    "any" => Ok(Require::Any),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Require, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Require::Parts)
            }
        }
        deserializer.deserialize_any(RequireVisitor)
    }
}

/// Reads the table of a join. Its parts are read as a recipe's `[source]` is, by their kind, so
/// that an error names the key inside the part.
pub(super) fn parse(mut table: toml::Table) -> Result<JoinConfig, ConfigError> {
    let parts = match table.remove("parts") {
        Some(toml::Value::Table(parts)) => parts,
        Some(_) => return Err(error("parts", "write [source.parts.NAME] tables")),
        None => return Err(error("", "missing field `parts`; write [source.parts.NAME] tables")),
    };
    table.insert("parts".to_owned(), toml::Table::new().into());
    let mut config: JoinConfig = parse_config(table)?;
    for (name, value) in parts {
        let part = part(&name, value)?;
        config.parts.insert(name, part);
    }
    Ok(config)
}

fn part(name: &str, value: toml::Value) -> Result<Box<dyn SourceConfig>, ConfigError> {
    let path = format!("parts.{name}");
    let toml::Value::Table(mut table) = value else {
        return Err(error(&path, "a table is expected, with the `kind` of a source"));
    };
    let Some(toml::Value::String(kind)) = table.remove("kind") else {
        return Err(error(&path, "needs kind = \"…\"; `astropt plugins` lists the sources"));
    };
    let plugin = find_source(&kind).map_err(|e| error(&format!("{path}.kind"), &e.to_string()))?;
    (plugin.parse)(table).map_err(|inner| {
        let inner_path =
            if inner.path.is_empty() { path } else { format!("{path}.{}", inner.path) };
        ConfigError { path: inner_path, message: inner.message }
    })
}

fn error(path: &str, message: &str) -> ConfigError {
    ConfigError { path: path.to_owned(), message: message.to_owned() }
}
