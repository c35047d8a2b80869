//! Recipes: experiments as TOML. A recipe as written becomes a [`Plan`]: resolved, checked
//! and immutable. Only a plan reaches the engine.
//!
//! Resolution: the recipe named by the user with the `[variant.NAME]` table that its key `as`
//! names, a set of choices that belong together, on top of what it `extends`; then its
//! `[scale.NAME]` table for the chosen scale, which may extend another; then `--data` and
//! `--set`. Later wins, key by key; a table that names another `kind` replaces the old one
//! whole. What a recipe says itself, its own scales say otherwise, and those it inherits do not.
//! The scales that a recipe, or a scale of it, lists as its `family` are the models of
//! the whole experiment. A recipe that lists `scales` has these alone, whatever it extends has
//! more.

mod checkpoints;
mod faults;
mod plan;
mod probe;
mod reference;
mod resumable;
mod schema;
mod tree;
mod variant;

use std::path::{Path, PathBuf};

pub use checkpoints::CheckpointSchedule;
pub use faults::{DeadInputs, FaultPolicy, OnFault};
pub use plan::{Modalities, Plan};
pub(crate) use plan::{data_place, data_stated};
pub use probe::{ProbeConfig, ProbeProtocol};
pub use reference::{Reference, ReferencePoint, ReferenceTask};
pub(crate) use resumable::{RESUMABLE, other_course, other_training, with_pins};
pub use schema::{
    CheckpointChoice, Choice, EmbedConfig, ModelSection, Pooling, SplitConfig, TrainConfig,
};

use crate::error::{Error, Result};
use crate::plain::differences;
use crate::seam::nearest;
pub(crate) use tree::readable;
use tree::{SCALE, Tree};
use variant::{CHOSEN, VARIANT, VARIANTS, Variants, asked_variant, tell_unmoved};

/// A recipe carried inside the program.
pub struct BuiltinRecipe {
    /// What a user calls it.
    pub name: &'static str,
    /// Its TOML.
    pub text: &'static str,
}

/// Key under which a recipe, or a scale, lists the scales of the whole experiment.
const FAMILY: &str = "family";
/// The scale that `--demo` asks for.
pub(crate) const DEMO: &str = "demo";
/// Key under which a recipe lists the scales it has, of its own and of what it extends.
const SCALES: &str = "scales";
/// Keys of a recipe that are none of its scales' when these say the same.
const OF_RECIPES: [&str; 4] = [FAMILY, SCALE, VARIANT, VARIANTS];

inventory::collect!(BuiltinRecipe);

/// Registers a recipe that the program carries inside: its name and its TOML text.
#[macro_export]
macro_rules! register_recipe {
    ($name:literal, $text:expr) => {
        $crate::inventory::submit! {
            $crate::recipe::BuiltinRecipe { name: $name, text: $text }
        }
    };
}

/// What a user asks for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Name of a built-in recipe, or path of a TOML file.
    pub recipe: String,
    /// `--scale`, else the recipe's own choice.
    pub scale: Option<String>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// The data will not be opened: a source that lacks its path is no error.
    pub dataless: bool,
}

/// A recipe the program carries, as `astropt recipes` lists it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RecipeInfo {
    /// Its name.
    pub name: String,
    /// Its `summary`.
    pub summary: String,
    /// Its scales, those it extends included.
    pub scales: Vec<String>,
}

/// The recipes the program carries, by name.
///
/// # Errors
/// When one of them is broken.
pub fn builtin_recipes() -> Result<Vec<RecipeInfo>> {
    let mut out = Vec::new();
    for recipe in inventory::iter::<BuiltinRecipe> {
        let tree = load(recipe.name, None)?;
        let text = |key: &str| tree.table.get(key).and_then(toml::Value::as_str).unwrap_or("");
        out.push(RecipeInfo {
            name: recipe.name.to_owned(),
            summary: text("summary").to_owned(),
            scales: scales(&tree),
        });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// Resolves what the user asked for into a plan.
///
/// # Errors
/// The first thing wrong, with file, line and column; see [`Error::Recipe`].
pub fn resolve(request: &Request) -> Result<Plan> {
    resolve_over(request, "", |_| Ok(toml::Table::new()))
}

/// As [`resolve`]; between the recipe and what the user changes in it, `edit` may take
/// tables out of it and answers with a table to lay over it, which errors place at `place`.
///
/// # Errors
/// As [`resolve`], and what `edit` answers.
pub(crate) fn resolve_over(
    request: &Request,
    place: &str,
    edit: impl FnOnce(&mut toml::Table) -> Result<toml::Table>,
) -> Result<Plan> {
    let variant = asked_variant(&request.set);
    let mut tree = load(&request.recipe, variant)?;
    if let Some(name) = variant.filter(|_| !tree.table.contains_key(VARIANT)) {
        let message = format!("--set as={name}: the recipe has no variants");
        return Err(Error::Misuse(message));
    }
    let scale = apply_scale(&mut tree, request.scale.as_deref())?;
    if let Some(toml::Value::Table(chosen)) = tree.table.remove(CHOSEN)
        && let Some(name) = variant
    {
        tell_unmoved(&chosen, &tree.table, name);
    }
    for (key, value) in edit(&mut tree.table)? {
        tree.overlay(Tree::of(vec![key], value, place));
    }
    for argument in &request.set {
        tree.overlay(Tree::assignment(argument)?);
    }
    match &request.data {
        Some(data) => apply_data(&mut tree, data)?,
        None if request.dataless => fill_data(&mut tree),
        None => {}
    }
    plan::build(&tree, scale)
}

/// `plan` with `--set` and `--data` laid over it, of which only keys that start with one of
/// `allowed` may change.
///
/// # Errors
/// When a key may not change, or as [`resolve`].
pub fn amend(plan: &Plan, allowed: &[&str], set: &[String], data: Option<&Path>) -> Result<Plan> {
    let mut tree = Tree::parse("the run's recipe", &plan.recipe)?;
    for argument in set {
        if !allowed.iter().any(|key| argument.trim().starts_with(key)) {
            return Err(Error::Misuse(format!(
                "--set {argument}: this may change only {}; anything else takes a new run",
                allowed.join(", ")
            )));
        }
        tree.overlay(Tree::assignment(argument)?);
    }
    if let Some(data) = data {
        apply_data(&mut tree, data)?;
    }
    plan::build(&tree, plan.scale.clone())
}

/// The plan of `recipe`, the text of a resolved one, as [`Plan::recipe`] has it.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn reread(recipe: &str, scale: Option<String>) -> Result<Plan> {
    plan::build(&Tree::parse("the family's recipe", recipe)?, scale)
}

/// The name that the recipe `recipe`, one of the program's or a file, gives itself.
///
/// # Errors
/// When it cannot be read, or has none.
pub(crate) fn name(recipe: &str) -> Result<String> {
    let tree = load(recipe, None)?;
    match tree.table.get("name").and_then(toml::Value::as_str) {
        Some(name) => Ok(name.to_owned()),
        None => Err(tree.error(&["name"], "name: a string is expected, the recipe's name")),
    }
}

/// How `plan` differs from the recipe it carries, which is what later stages go on from: empty
/// for one that this program wrote.
pub(crate) fn contradictions(plan: &Plan) -> Vec<String> {
    let json = |plan: &Plan| serde_json::to_value(plan).ok();
    let again = amend(plan, &[], &[], None).ok().as_ref().and_then(json);
    match (json(plan), again) {
        (Some(stated), Some(again)) => {
            differences("", &stated, &again, ["in the plan", "in its recipe"])
        }
        // A recipe that is no longer taken says so where it is wanted, with its place.
        _ => Vec::new(),
    }
}

/// What `--set` arguments put into the table `section`; they may name no other.
///
/// # Errors
/// When one is no assignment, or names another table.
pub(crate) fn assigned(section: &str, set: &[String]) -> Result<toml::Table> {
    let mut tree = Tree::default();
    for argument in set {
        tree.overlay(Tree::assignment(argument)?);
    }
    let table = tree.table.remove(section);
    if let Some((other, _)) = tree.table.iter().next() {
        return Err(tree.error(&[other], format!("this may change only {section}.KEY")));
    }
    match table {
        Some(toml::Value::Table(table)) => Ok(table),
        None => Ok(toml::Table::new()),
        Some(_) => Err(tree.error(&[section], format!("write {section}.KEY=VALUE"))),
    }
}

/// Reads the recipe `name` and what it extends, as the variant `asked` on the command line, or else
/// the one that the first of them that has an `as` names.
fn load(name: &str, asked: Option<&str>) -> Result<Tree> {
    let mut variants = Variants::asked(asked);
    let mut tree = extended(name, &mut variants, &mut Vec::new())?;
    variants.check()?;
    variants.take_out(&mut tree);
    Ok(tree)
}

/// Reads the recipe `name` and what it extends, which `seen` guards against circles. A variant
/// is laid over the recipe that has it, and what extends that one over both.
fn extended(name: &str, variants: &mut Variants, seen: &mut Vec<String>) -> Result<Tree> {
    let (label, text, folder) = read(name)?;
    if seen.contains(&label) {
        seen.push(label);
        return Err(Error::Misuse(format!("recipes extend in a circle: {}", seen.join(" -> "))));
    }
    seen.push(label.clone());
    let mut tree = Tree::parse(&label, &text)?;
    variants.read(&tree);
    let Some(base) = tree.table.remove("extends") else {
        variants.apply(&mut tree)?;
        keep_scales(&mut tree)?;
        return Ok(tree);
    };
    let toml::Value::String(base) = base else {
        return Err(tree.error(&["extends"], "extends: a string is expected, the name of a recipe"));
    };
    let base = match folder {
        Some(folder) if base.ends_with(".toml") => folder.join(&base).display().to_string(),
        _ => base,
    };
    let mut merged = extended(&base, variants, seen)?;
    merged.yield_to(&tree.table, &OF_RECIPES);
    if let Some(choices) = variants.choices(&tree) {
        merged.yield_to(choices, &OF_RECIPES);
    }
    merged.overlay(tree);
    variants.apply(&mut merged)?;
    keep_scales(&mut merged)?;
    Ok(merged)
}

/// Takes out the scales that `scales` does not list, where it lists any.
fn keep_scales(tree: &mut Tree) -> Result<()> {
    let Some(listed) = tree.table.remove(SCALES) else { return Ok(()) };
    let kept = strings(&listed).ok_or_else(|| {
        tree.error(&[SCALES], "scales: a list of names is expected, such as [\"1M\", \"5M\"]")
    })?;
    let known = scales(tree);
    if let Some(name) = kept.iter().find(|name| !known.iter().any(|scale| scale == *name)) {
        return Err(tree.error(&[SCALES], no_scale(name, &known).to_string()));
    }
    if let Some(tables) = tree.table.get_mut(SCALE).and_then(toml::Value::as_table_mut) {
        tables.retain(|name, _| kept.contains(&name));
    }
    Ok(())
}

/// The texts of a list of nothing else.
fn strings(list: &toml::Value) -> Option<Vec<&str>> {
    list.as_array()?.iter().map(toml::Value::as_str).collect()
}

/// Label for errors, text, and the folder of a recipe that is a file.
fn read(name: &str) -> Result<(String, String, Option<PathBuf>)> {
    if let Some(recipe) = inventory::iter::<BuiltinRecipe>().find(|r| r.name == name) {
        return Ok((format!("{name} (built in)"), recipe.text.to_owned(), None));
    }
    let path = Path::new(name);
    if path.extension().is_none() && !path.exists() {
        let known: Vec<_> = inventory::iter::<BuiltinRecipe>().map(|r| r.name).collect();
        return Err(Error::Misuse(format!(
            "no recipe {name:?}{}; `astropt recipes` lists those built in, or give the path of a \
             .toml file",
            nearest(name, &known)
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the recipe", path, &e))?;
    Ok((path.display().to_string(), text, path.parent().map(Path::to_owned)))
}

fn scales(tree: &Tree) -> Vec<String> {
    names(tree, SCALE)
}

/// Names of the tables in the table `key`.
fn names(tree: &Tree, key: &str) -> Vec<String> {
    let table = tree.table.get(key).and_then(toml::Value::as_table);
    table.map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
}

/// Lays the chosen `[scale.NAME]` over the recipe and takes all scales out.
fn apply_scale(tree: &mut Tree, asked: Option<&str>) -> Result<Option<String>> {
    let known = scales(tree);
    let default = tree.table.remove("default_scale");
    let default = match &default {
        None => None,
        Some(toml::Value::String(name)) => Some(name.as_str()),
        Some(_) => return Err(tree.error(&["default_scale"], "default_scale: expected a string")),
    };
    let name = asked.or(default).map(str::to_owned);
    if let Some(name) = &name {
        let overlay = scale(tree, name, &known)?;
        tree.overlay(overlay);
    }
    tree.table.remove(FAMILY);
    Ok(name)
}

/// Takes the table of the scale `name` out of `tree`, laid over that which it `extends`.
fn scale(tree: &mut Tree, name: &str, known: &[String]) -> Result<Tree> {
    let Some(mut taken) = tree.take(&[SCALE, name]) else {
        if known.iter().any(|scale| scale == name) {
            let message = format!("the scale {name:?} extends itself in a circle");
            return Err(tree.error(&[SCALE], message));
        }
        return Err(no_scale(name, known));
    };
    if taken.table.contains_key(VARIANT) {
        let message = "as: a scale cannot choose a variant; write it at the top of the recipe, or \
                       give --set as=NAME";
        return Err(taken.error(&[VARIANT], message));
    }
    match taken.table.remove("extends") {
        None => Ok(taken),
        Some(toml::Value::String(base)) => {
            let mut under = scale(tree, &base, known)?;
            under.overlay(taken);
            Ok(under)
        }
        Some(_) => Err(taken.error(&["extends"], "extends: expected the name of a scale")),
    }
}

fn no_scale(name: &str, known: &[String]) -> Error {
    let names: Vec<_> = known.iter().map(String::as_str).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::Misuse(match name {
        DEMO => format!(
            "this recipe has no demonstration (galaxy-grz has one); leave --demo out, and choose one \
             of its scales with --scale: {has}"
        ),
        _ => format!("no scale {name:?} in this recipe{}; it has {has}", nearest(name, &names)),
    })
}

/// The scales that make up the whole of what is asked for, the smallest first: those that the
/// recipe lists as its `family`, or where a scale is asked for, that this one does. Empty
/// where it is one model.
///
/// # Errors
/// When the recipe cannot be read, or the list names no scale.
pub fn family(request: &Request) -> Result<Vec<String>> {
    let tree = load(&request.recipe, asked_variant(&request.set))?;
    let known = scales(&tree);
    let (table, mut place) = match &request.scale {
        None => (Some(&tree.table), Vec::new()),
        Some(name) => {
            let scales = tree.table.get(SCALE).and_then(|scales| scales.get(name));
            let table = scales.and_then(toml::Value::as_table);
            (Some(table.ok_or_else(|| no_scale(name, &known))?), vec![SCALE, name.as_str()])
        }
    };
    let Some(listed) = table.and_then(|table| table.get(FAMILY)) else { return Ok(Vec::new()) };
    place.push(FAMILY);
    let names =
        strings(listed).ok_or_else(|| tree.error(&place, "family: expected names of scales"))?;
    match names.iter().find(|name| !known.iter().any(|scale| scale == *name)) {
        Some(name) => Err(tree.error(&place, no_scale(name, &known).to_string())),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

/// Stands where a source's path would, in the plan of a model that came without data.
const NO_DATA: &str = "(give --data PATH)";

/// Whether `plan` does not say yet where its data are, as after an import without any.
pub(crate) fn lacks_data(plan: &Plan) -> bool {
    let source = serde_json::to_value(&plan.source).unwrap_or_default();
    source.as_object().is_some_and(|keys| keys.values().any(|value| value == NO_DATA))
}

/// Fills in a path that says it is missing, where the chosen source needs one.
fn fill_data(tree: &mut Tree) {
    let Some(source) = tree.table.get_mut("source").and_then(toml::Value::as_table_mut) else {
        return;
    };
    let plugin = source.get("kind").and_then(toml::Value::as_str).map(crate::seam::find_source);
    if let Some(Ok(plugin)) = plugin
        && let Some(key) = plugin.path_key
    {
        source.entry(key).or_insert_with(|| NO_DATA.into());
    }
}

/// Sets the key that the chosen source reads its path from. Converted data need a source of
/// their own, whatever they were converted from.
fn apply_data(tree: &mut Tree, data: &Path) -> Result<()> {
    let place = format!("--data {}", data.display());
    if crate::shards::is_converted(data) {
        let set = |key: &str, value: String| (key.to_owned(), toml::Value::String(value));
        let table =
            [set("kind", crate::shards::KIND.into()), set("path", data.display().to_string())];
        tree.table.remove("source");
        let table = toml::Value::Table(toml::Table::from_iter(table));
        tree.overlay(Tree::of(vec!["source".to_owned()], table, &place));
        return Ok(());
    }
    let kind = tree.table.get("source").and_then(|s| s.get("kind")).and_then(toml::Value::as_str);
    let Some(kind) = kind else { return Ok(()) }; // building the plan says what is missing
    let plugin = crate::seam::find_source(kind)?;
    let Some(key) = plugin.path_key else {
        return Err(Error::Misuse(format!(
            "--data {}: the source {kind:?} reads no files; choose another scale, or a source that \
             does with --set source.kind=image-folder",
            data.display()
        )));
    };
    let keys = vec!["source".to_owned(), key.to_owned()];
    let value = toml::Value::String(data.display().to_string());
    tree.overlay(Tree::of(keys, value, &place));
    Ok(())
}
