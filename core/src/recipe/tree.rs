//! TOML documents merged into one table that remembers where each key was written.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::plain;
use crate::seam::{ConfigError, nearest};

/// The table of scales.
pub(super) const SCALE: &str = "scale";

/// A path of keys from the root of the recipe. Keys may hold dots (`scale."2.1B"`).
type Path = Vec<String>;

/// A merged recipe: the values, and for every key the place it was written at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) table: toml::Table,
    places: BTreeMap<Path, String>,
}

impl Tree {
    /// Parses one document. `name` is what errors call it: a file, or a built-in recipe.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let syntax = |error: toml::de::Error| Error::Recipe {
            place: place(name, text, error.span().map_or(0, |span| span.start)),
            message: plain::structure(&error.message().replace('\n', " ")),
        };
        let spanned = DeTable::parse(text).map_err(syntax)?;
        let mut tree =
            Self { table: toml::from_str(text).map_err(syntax)?, places: BTreeMap::new() };
        tree.record(name, text, spanned.get_ref(), &mut Vec::new());
        Ok(tree)
    }

    fn record(&mut self, name: &str, text: &str, table: &DeTable<'_>, path: &mut Path) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.places.insert(path.clone(), place(name, text, key.span().start));
            if let DeValue::Table(inner) = value.get_ref() {
                self.record(name, text, inner, path);
            }
            path.pop();
        }
    }

    /// A tree of one value: what `--set a.b=value` says. The value is TOML; a bare word
    /// is a string.
    pub(crate) fn assignment(argument: &str) -> Result<Self> {
        let place = format!("--set {argument}");
        let bad = |message: &str| Error::Recipe {
            place: place.clone(),
            message: format!("{message}; write --set key=value, such as --set train.steps=100"),
        };
        let (key, value) = argument.split_once('=').ok_or_else(|| bad("no '=' in it"))?;
        let keys: Path = key.trim().split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err(bad("an empty key"));
        }
        Ok(Self::of(keys, parse_value(value.trim()), &place))
    }

    /// A tree that holds `value` at `keys`, written at `place`.
    pub(crate) fn of(keys: Path, value: toml::Value, place: &str) -> Self {
        let mut tree = Self::default();
        for depth in 1..=keys.len() {
            tree.places.insert(keys[..depth].to_vec(), place.to_owned());
        }
        let table = keys
            .into_iter()
            .rev()
            .fold(value, |inner, key| toml::Value::Table(toml::Table::from_iter([(key, inner)])));
        if let toml::Value::Table(table) = table {
            tree.table = table;
        }
        tree
    }

    /// Lays `over` on top of this tree: tables merge key by key, anything else replaces. A
    /// table that names another `kind` replaces too: the old kind's keys mean nothing to it.
    pub(crate) fn overlay(&mut self, over: Self) {
        merge(&mut self.table, over.table, &mut Vec::new(), &mut self.places);
        self.places.extend(over.places);
    }

    /// Takes out of the scales of this tree what `own`, laid over it next, says of the same keys,
    /// so that none of these scales overrules it; a table of a kind that `own` changes goes whole.
    /// The keys `beside` mean something else in a scale and stay.
    pub(crate) fn yield_to(&mut self, own: &toml::Table, beside: &[&str]) {
        let Some(toml::Value::Table(mut scales)) = self.table.remove(SCALE) else { return };
        let said: toml::Table =
            own.clone().into_iter().filter(|(key, _)| !beside.contains(&&**key)).collect();
        for (name, scale) in &mut scales {
            if let Some(scale) = scale.as_table_mut() {
                let mut path = vec![SCALE.to_owned(), name.clone()];
                give_way(scale, &said, Some(&self.table), &mut path, &mut self.places);
            }
        }
        self.table.insert(SCALE.to_owned(), scales.into());
    }

    /// Takes the table at `keys` out of this tree, as a tree of its own.
    pub(crate) fn take(&mut self, keys: &[&str]) -> Option<Self> {
        let (last, parents) = keys.split_last()?;
        let mut table = &mut self.table;
        for key in parents {
            table = table.get_mut(*key)?.as_table_mut()?;
        }
        let toml::Value::Table(taken) = table.remove(*last)? else { return None };
        let inside =
            |path: &Path| path.len() > keys.len() && path.iter().zip(keys).all(|(a, b)| a == b);
        let places = self.places.iter().filter(|(path, _)| inside(path));
        let places = places.map(|(path, at)| (path[keys.len()..].to_vec(), at.clone())).collect();
        Some(Self { table: taken, places })
    }

    /// Where `path` was written, or the nearest key above it that was written at all.
    pub(crate) fn place(&self, path: &[String]) -> String {
        (1..=path.len())
            .rev()
            .find_map(|depth| self.places.get(&path[..depth]).cloned())
            .or_else(|| self.places.values().next().map(|at| document_of(at)))
            .unwrap_or_else(|| "recipe".into())
    }

    /// An error at `path`.
    pub(crate) fn error(&self, path: &[&str], message: impl Into<String>) -> Error {
        let path: Path = path.iter().map(|key| (*key).to_owned()).collect();
        Error::Recipe { place: self.place(&path), message: message.into() }
    }

    /// The error of a plugin or section that was read from the table at `parents`, with the
    /// nearest known key offered for an unknown one.
    pub(crate) fn config_error(&self, parents: &[&str], error: &ConfigError) -> Error {
        let mut path: Path = parents.iter().map(|key| (*key).to_owned()).collect();
        path.extend(error.path.split('.').filter(|key| !key.is_empty()).map(str::to_owned));
        let dotted = path.join(".");
        // An element of a list was written where the list was.
        let lists = path.iter().map(|key| key.split('[').next().unwrap_or_default().to_owned());
        Error::Recipe {
            place: self.place(&lists.collect::<Vec<_>>()),
            message: format!("{dotted}: {}", readable(&error.message)),
        }
    }
}

/// `--set` values are TOML; what is not TOML is a string.
fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn merge(
    base: &mut toml::Table,
    over: toml::Table,
    path: &mut Path,
    places: &mut BTreeMap<Path, String>,
) {
    for (key, value) in over {
        path.push(key.clone());
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new))
                if !changes_kind(old, &new) =>
            {
                merge(old, new, path, places);
            }
            (_, value) => {
                places.retain(|known, _| !known.starts_with(path));
                base.insert(key, value);
            }
        }
        path.pop();
    }
}

/// Takes out of `scale` what `said` says too; `under` is what the scale is laid over.
fn give_way(
    scale: &mut toml::Table,
    said: &toml::Table,
    under: Option<&toml::Table>,
    path: &mut Path,
    places: &mut BTreeMap<Path, String>,
) {
    for (key, value) in said {
        path.push(key.clone());
        let under = under.and_then(|table| table.get(key)).and_then(toml::Value::as_table);
        match (scale.get_mut(key), value) {
            (None, _) => {}
            (Some(toml::Value::Table(old)), toml::Value::Table(new))
                if new.get("kind").is_none_or(|kind| {
                    old.get("kind").or_else(|| under?.get("kind")) == Some(kind)
                }) =>
            {
                give_way(old, new, under, path, places);
            }
            (Some(_), _) => {
                places.retain(|known, _| !known.starts_with(path));
                scale.remove(key);
            }
        }
        path.pop();
    }
}

fn changes_kind(old: &toml::Table, new: &toml::Table) -> bool {
    new.get("kind").is_some_and(|kind| old.get("kind") != Some(kind))
}

/// `name:line:column` of a byte offset, both counted from 1.
fn place(name: &str, text: &str, offset: usize) -> String {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    format!("{name}:{line}:{column}")
}

/// The document of a `name:line:column`.
fn document_of(place: &str) -> String {
    place.rsplitn(3, ':').last().unwrap_or(place).to_owned()
}

/// serde's "unknown field `x`, expected one of `a`, `b`" becomes `unknown "x"` with the nearest of
/// the candidates, or all of them when none is near.
pub(crate) fn readable(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match quoted.next() {
        Some(word) if unknown => {
            let known: Vec<_> = quoted.collect();
            match nearest(word, &known) {
                hint if hint.is_empty() && known.is_empty() => {
                    format!("unknown {word:?}: nothing is set here")
                }
                hint if hint.is_empty() => {
                    format!("unknown {word:?}; there is {}", known.join(", "))
                }
                hint => format!("unknown {word:?}{hint}"),
            }
        }
        _ => plain::structure(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::parse("a.toml", text).expect("valid TOML")
    }

    #[test]
    fn keys_remember_their_line_and_column_through_merging() {
        let mut base = tree("[train]\nsteps = 1\nseed = 2\n");
        base.overlay(Tree::parse("b.toml", "\n\n[train]\n  steps = 5\n").expect("valid TOML"));
        let at = |key: &str| base.place(&["train".to_owned(), key.to_owned()]);
        assert_eq!(at("steps"), "b.toml:4:3");
        assert_eq!(at("seed"), "a.toml:3:1");
        assert_eq!(base.table["train"]["steps"].as_integer(), Some(5));
    }

    #[test]
    fn another_kind_replaces_the_whole_table() {
        let mut base = tree("[source]\nkind = 'a'\npath = 'x'\n");
        base.overlay(tree("[source]\nkind = 'b'\nobjects = 3\n"));
        let source = base.table["source"].as_table().expect("a table");
        assert_eq!(source.keys().collect::<Vec<_>>(), ["kind", "objects"]);
        base.overlay(tree("[source]\nobjects = 4\n"));
        assert_eq!(base.table["source"]["kind"].as_str(), Some("b"));
    }

    #[test]
    fn inherited_scales_leave_alone_what_is_said_over_them() {
        let base = "[source]\nkind = 'a'\n[model]\nwidth = 1\n[scale.s]\nfamily = ['t']\n\
                    source.objects = 3\nmodel = { width = 2, layers = 2 }\n\
                    [scale.t]\nextends = 's'\nsource = { kind = 'b', seed = 1 }\nmodel.width = 3\n";
        let own = "family = []\n[source]\nkind = 'a'\npath = 'x'\n[model]\nwidth = 9\n\
                   [scale.t.model]\nlayers = 8\n";
        let own = Tree::parse("own.toml", own).expect("valid TOML");
        let mut base = tree(base);
        base.yield_to(&own.table, &["scale", "family"]);
        let scales = |of: &str| toml::from_str::<toml::Value>(of).expect("valid TOML");
        let left = "s = { family = ['t'], source = { objects = 3 }, model = { layers = 2 } }\n\
                    t = { extends = 's', model = {} }\n";
        assert_eq!(base.table["scale"], scales(left));
        base.overlay(own);
        let taken = base.take(&["scale", "t"]).expect("there");
        assert_eq!(taken.place(&["model".into(), "layers".into()]), "own.toml:8:1");
        base.overlay(taken);
        assert_eq!(base.table["model"], scales("width = 9\nlayers = 8\n"));
        let width = base.place(&["model".into(), "width".into()]);
        assert_eq!(width, "own.toml:6:1", "no longer where the scale said it");
    }

    #[test]
    fn assignments_are_toml_or_a_bare_word() {
        for (argument, expected) in [
            ("a.b=3", toml::Value::Integer(3)),
            ("a.b = 1e-3", toml::Value::Float(1e-3)),
            ("a.b=spiral", toml::Value::String("spiral".into())),
            ("a.b=/data/x y", toml::Value::String("/data/x y".into())),
            ("a.b=[1]", toml::Value::Array(vec![toml::Value::Integer(1)])),
        ] {
            let tree = Tree::assignment(argument).expect(argument);
            assert_eq!(tree.table["a"]["b"], expected, "{argument}");
        }
        assert!(Tree::assignment("a.b").is_err());
        assert!(Tree::assignment("a..b=1").is_err());
    }

    #[test]
    fn syntax_errors_name_file_line_and_column() {
        let error = Tree::parse("a.toml", "x = 1\ny = [1,\n").expect_err("unclosed");
        assert!(error.to_string().starts_with("a.toml:2:"), "{error}");
    }

    #[test]
    fn an_element_of_a_list_is_to_blame_where_the_list_was_written() {
        let mut base = tree("[probe]\nlabels = []\n");
        for set in ["probe.beside=[\"k-nn\"]", "probe.checkpoints=true"] {
            base.overlay(Tree::assignment(set).expect(set));
        }
        for path in ["beside[0]", "beside.0"] {
            let error = ConfigError { path: path.into(), message: "unknown".into() };
            let said = base.config_error(&["probe"], &error).to_string();
            assert!(said.starts_with("--set probe.beside="), "{path}: {said}");
        }
    }

    #[test]
    fn a_scale_whose_name_holds_a_dot_is_taken_whole() {
        let mut base = tree("[scale.\"2.1B\".model]\nwidth = 1\n");
        let scale = base.take(&["scale", "2.1B"]).expect("there");
        assert_eq!(scale.place(&["model".into(), "width".into()]), "a.toml:2:1");
    }
}
