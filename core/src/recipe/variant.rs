//! Variants of a recipe: choices that belong together, of which `as` names the one taken.

use super::names;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::progress;

/// Key under which a recipe names the variant it is to be read as.
pub(super) const VARIANT: &str = "as";
/// Under which the choices of the variant stand until the recipe is resolved.
pub(super) const CHOSEN: &str = "variant's";
/// The table of variants.
pub(super) const VARIANTS: &str = "variant";

/// Which variant of a recipe, and of those that it extends, is asked for, and which there are.
pub(super) struct Variants {
    /// Its name, and where it was written: what extends a recipe has the word before this one.
    asked: Option<(String, String)>,
    /// Those of all recipes read so far.
    known: Vec<String>,
}

impl Variants {
    /// The one that the command line names, if it does.
    pub(super) fn asked(name: Option<&str>) -> Self {
        let asked = name.map(|name| (name.to_owned(), format!("--set {VARIANT}={name}")));
        Self { asked, known: Vec::new() }
    }

    /// Takes in what `tree` names, a recipe by itself, before the one that it extends is read.
    pub(super) fn read(&mut self, tree: &Tree) {
        if let Some(own) = tree.table.get(VARIANT).and_then(toml::Value::as_str) {
            let place = tree.place(&[VARIANT.to_owned()]);
            self.asked.get_or_insert((own.to_owned(), place));
        }
    }

    /// Lays the `[variant.NAME]` that is asked for over the recipe and takes all variants out. Where
    /// it has none of that name, which another recipe of the chain may have, it is the one that its
    /// own `as` names.
    pub(super) fn apply(&mut self, tree: &mut Tree) -> Result<()> {
        let known = names(tree, VARIANTS);
        self.known.extend_from_slice(&known);
        let Some(name) = self.chosen(tree, &known).map(str::to_owned) else { return Ok(()) };
        let Some(overlay) = tree.take(&[VARIANTS, &name]) else {
            return Err(tree.error(&[VARIANT], none(&name, &known)));
        };
        tree.table.insert(CHOSEN.to_owned(), overlay.table.clone().into());
        tree.overlay(overlay);
        tree.table.remove(VARIANTS);
        tree.table.insert(VARIANT.to_owned(), name.into());
        Ok(())
    }

    /// Which of the variants `known` of `tree` it is, or is meant to be.
    fn chosen<'a>(&'a self, tree: &'a Tree, known: &[String]) -> Option<&'a str> {
        let asked = self.asked.as_ref().map(|(name, _)| name);
        let own = tree.table.get(VARIANT).and_then(toml::Value::as_str);
        let own = own.filter(|own| asked.is_none_or(|asked| asked != own));
        let here = asked.filter(|asked| known.contains(asked)).map(String::as_str);
        here.or(own).filter(|_| !known.is_empty())
    }

    /// What the variant of `tree`, a recipe by itself, that [`apply`](Self::apply) will lay over it
    /// says.
    pub(super) fn choices<'a>(&self, tree: &'a Tree) -> Option<&'a toml::Table> {
        let name = self.chosen(tree, &names(tree, VARIANTS))?;
        tree.table.get(VARIANTS)?.get(name)?.as_table()
    }

    /// Checks, once all recipes are read, that one of them has what is asked for. A recipe that was
    /// resolved keeps its `as`, and no variants.
    pub(super) fn check(&self) -> Result<()> {
        match &self.asked {
            Some((name, place)) if !self.known.is_empty() && !self.known.contains(name) => {
                Err(Error::Recipe { place: place.clone(), message: none(name, &self.known) })
            }
            _ => Ok(()),
        }
    }

    /// Takes out of `tree` the variants that are left, where one was chosen elsewhere.
    pub(super) fn take_out(&self, tree: &mut Tree) {
        if self.asked.is_some() {
            tree.table.remove(VARIANTS);
        }
    }
}

fn none(name: &str, known: &[String]) -> String {
    format!("as = {name:?}: there is no such variant; there are {}", known.join(", "))
}

/// Tells of the choices of a variant that was asked for that the recipe or its scale makes otherwise.
pub(super) fn tell_unmoved(chosen: &toml::Table, table: &toml::Table, name: &str) {
    let mut unmoved = Vec::new();
    kept(chosen, table, "", &mut unmoved);
    if !unmoved.is_empty() {
        progress::warn(&format!(
            "as={name}: {} {} what the recipe or its scale says; --set changes each alone",
            unmoved.join(", "),
            if unmoved.len() == 1 { "stays" } else { "stay" }
        ));
    }
}

/// The keys of `chosen` that have other values in `table`.
fn kept(chosen: &toml::Table, table: &toml::Table, under: &str, out: &mut Vec<String>) {
    for (key, value) in chosen {
        let path = format!("{under}{key}");
        match (value, table.get(key)) {
            (toml::Value::Table(inner), Some(toml::Value::Table(found))) => {
                kept(inner, found, &format!("{path}."), out);
            }
            (value, Some(found)) if value != found => out.push(path),
            _ => {}
        }
    }
}

/// What the last `--set as=NAME` says.
pub(super) fn asked_variant(set: &[String]) -> Option<&str> {
    set.iter().rev().find_map(|argument| {
        let (key, value) = argument.split_once('=')?;
        (key.trim() == VARIANT).then(|| value.trim().trim_matches('"'))
    })
}
