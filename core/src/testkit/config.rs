//! What holds for the configuration of every plugin, whatever its seam.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Check, calm, ensure};
use crate::seam::{ConfigError, PluginInfo};

/// A key that no plugin has.
const UNKNOWN: &str = "no_such_key";

/// Reads a plugin's table.
type Parse<C> = fn(toml::Table) -> Result<Box<C>, ConfigError>;

/// Checks the example, an unknown key and the round trip through JSON; hands back what the
/// example configures.
pub(super) fn check<C>(info: &PluginInfo, parse: Parse<C>) -> Result<Box<C>, String>
where
    C: ?Sized + Serialize,
    Box<C>: DeserializeOwned,
{
    ensure(!info.summary.is_empty() && !info.summary.contains('\n'), || {
        "its summary must be one line".to_owned()
    })?;
    let table: toml::Table =
        info.example.parse().map_err(|e| format!("its example is not TOML: {e}"))?;
    ensure(!table.contains_key("kind"), || {
        "its example must leave out `kind`, which the recipe says".to_owned()
    })?;
    check_unknown_key(&table, parse)?;
    let config = parse_table(table, parse).map_err(|e| format!("its example is refused: {e}"))?;
    check_round_trip(info, &*config, parse)?;
    Ok(config)
}

/// Reads the table `text`.
pub(super) fn parse_text<C: ?Sized>(text: &str, parse: Parse<C>) -> Result<Box<C>, String> {
    let table = text.parse().map_err(|e| format!("{text:?} is not TOML: {e}"))?;
    parse_table(table, parse)
}

fn parse_table<C: ?Sized>(table: toml::Table, parse: Parse<C>) -> Result<Box<C>, String> {
    calm("reading the configuration", || parse(table))?
        .map_err(|error| format!("{}: {}", error.path, error.message))
}

fn check_unknown_key<C: ?Sized>(table: &toml::Table, parse: Parse<C>) -> Check {
    let mut table = table.clone();
    table.insert(UNKNOWN.to_owned(), true.into());
    let Err(error) = parse_table(table, parse) else {
        return Err("it accepts unknown keys; add #[serde(deny_unknown_fields)]".to_owned());
    };
    ensure(error.contains(UNKNOWN), || {
        format!("its error about the unknown key {UNKNOWN:?} does not name it: {error}")
    })
}

/// Config -> JSON -> config, by typetag, as manifests and checkpoints keep it; and the same
/// JSON as a recipe's table.
fn check_round_trip<C>(info: &PluginInfo, config: &C, parse: Parse<C>) -> Check
where
    C: ?Sized + Serialize,
    Box<C>: DeserializeOwned,
{
    let fail = |error: serde_json::Error| format!("it does not survive JSON: {error}");
    let json = serde_json::to_value(config).map_err(fail)?;
    let kind = json.get("kind").and_then(|kind| kind.as_str());
    ensure(kind == Some(info.kind), || {
        format!("typetag calls it {kind:?}; give #[typetag::serde(name)] the registered kind")
    })?;
    let back: Box<C> = serde_json::from_value(json.clone()).map_err(fail)?;
    let again = serde_json::to_value(&back).map_err(fail)?;
    ensure(again == json, || format!("a round trip through JSON makes {again} of {json}"))?;
    let mut table = without_nulls(&json);
    table.remove("kind");
    let table = toml::Table::try_from(table)
        .map_err(|e| format!("its configuration cannot be written as TOML: {e}"))?;
    let reread = parse_table(table, parse)
        .map_err(|e| format!("it refuses the table it wrote itself: {e}"))?;
    let reread = serde_json::to_value(&reread).map_err(fail)?;
    ensure(reread == json, || format!("a round trip through TOML makes {reread} of {json}"))
}

/// The entries of an object that are not null, which TOML does not have.
fn without_nulls(json: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let entries = json.as_object().into_iter().flatten();
    entries
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| {
            let value = if value.is_object() { without_nulls(value).into() } else { value.clone() };
            (key.clone(), value)
        })
        .collect()
}
