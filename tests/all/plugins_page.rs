//! docs/PLUGINS.md: every plugin linked into the program, from the registry and from the
//! comments of their configurations.

use std::path::{Path, PathBuf};

use crate::program::workspace;
use astropt_core::seam::{ConfigType, KeyChoice, PluginInfo, backends, modalities, sources};
use astropt_core::toml;
use serde_json::Value as Json;

/// Reads a plugin's table and shows all keys of what it configures.
type Parse<'a> = &'a dyn Fn(toml::Table) -> Option<Json>;

const HEAD: &str = "\
# Plugins

What `astropt` has linked, with every key of a recipe's table. A key without a default must be
stated; `unset` keys may be left out. This page is written by the tests: do not edit it, run

    UPDATE_PAGES=1 cargo test --release -p astropt plugins_page
";

#[test]
fn the_page_of_plugins_is_up_to_date() {
    let path = workspace().join("docs/PLUGINS.md");
    let page = page();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &page).expect("writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let different = found.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        found == page,
        "docs/PLUGINS.md is stale, first where (old, new) is {different:?}: write it again with\n  \
         UPDATE_PAGES=1 cargo test --release -p astropt plugins_page"
    );
}

/// Every key has a comment, or the page would be of little use.
#[test]
fn every_key_is_documented() {
    let modalities = modalities().into_iter().map(|p| (p.info, p.config));
    let sources = sources().into_iter().map(|p| (p.info, p.config));
    for (info, config) in modalities.chain(sources) {
        let written = Struct::of(&config);
        for key in (config.keys)() {
            assert!(!written.comment(key).is_empty(), "{}: {key}", info.kind);
        }
    }
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page += "\n## Modalities\n";
    for plugin in modalities() {
        let parse = |table| serde_json::to_value((plugin.parse)(table).ok()?).ok();
        page += &section("modality.NAME", &plugin.info, &plugin.config, &parse);
    }
    page += "\n## Sources\n";
    for plugin in sources() {
        let parse = |table| serde_json::to_value((plugin.parse)(table).ok()?).ok();
        page += &section("source", &plugin.info, &plugin.config, &parse);
        if let Some(key) = plugin.path_key {
            page += &format!("\n`--data PATH` sets `{key}`.\n");
        }
    }
    page += "\n## Backends\n";
    let optional = features();
    for plugin in backends().iter().filter(|p| !optional.contains(&p.info.kind.to_owned())) {
        let PluginInfo { kind, summary, package, .. } = plugin.info;
        page += &format!("\n### `{kind}`\n\n{summary} (`{package}`). `--backend {kind}`\n");
    }
    page += "\nOthers are built in where they are asked for: [BACKENDS.md](BACKENDS.md).\n";
    page
}

/// What the program may be built with: the page is the same whichever of them it has.
fn features() -> Vec<String> {
    let manifest = std::fs::read_to_string(workspace().join("recipes/Cargo.toml"));
    let manifest: toml::Table = manifest.expect("readable").parse().expect("TOML");
    let features = manifest["features"].as_table().expect("a table");
    features.keys().cloned().collect()
}

fn section(table: &str, info: &PluginInfo, config: &ConfigType, parse: Parse<'_>) -> String {
    let PluginInfo { kind, summary, example, package } = info;
    let file = file_of(config);
    let mut text = format!(
        "\n### `{kind}`\n\n{summary} (`{package}`, [{}](../{0})).\n\n\
         ```toml\n[{table}]\nkind = \"{kind}\"\n{example}\n```\n\n\
         | key | default | |\n|---|---|---|\n",
        file.display()
    );
    let written = Struct::of(config);
    let example: toml::Table = example.parse().expect("the kit checks that examples parse");
    for key in (config.keys)() {
        let default = default_of(key, &example, parse);
        let choices = choices(config, key);
        text += &format!("| `{key}` | {default} | {}{choices} |\n", written.comment(key));
        text += &written.inner(key);
    }
    text
}

/// What `key` chooses from, where it is an enum.
fn choices(config: &ConfigType, key: &'static str) -> String {
    let written = |choice: &KeyChoice| match choice.holds_more {
        true => format!("`{{ {} = … }}`", choice.word),
        false => format!("`\"{}\"`", choice.word),
    };
    let words: Vec<String> = (config.choices)(key).iter().map(written).collect();
    match &words[..] {
        [] => String::new(),
        words => format!(" One of {}.", words.join(", ")),
    }
}

/// The words of a choice come from the types that read it.
#[test]
fn choices_are_listed() {
    let spectrum = modalities().into_iter().find(|p| p.info.kind == "spectrum").expect("linked");
    let listed = choices(&spectrum.config, "standardise");
    let expected = "`\"window\"`, `\"median\"`, `\"robust\"`, `{ affine = … }`, `\"none\"`";
    assert_eq!(listed, format!(" One of {expected}."));
    assert_eq!(choices(&spectrum.config, "samples"), "");
}

/// What `key` is where a table leaves it out.
fn default_of(key: &str, example: &toml::Table, parse: Parse<'_>) -> String {
    let mut table = example.clone();
    table.remove(key);
    match parse(table).map(|config| config.get(key).cloned()) {
        None => String::new(),
        Some(None | Some(Json::Null)) => "unset".to_owned(),
        Some(Some(value)) => format!("`{value}`"),
    }
}

/// The source file of a configuration, from the workspace.
fn file_of(config: &ConfigType) -> PathBuf {
    let path = (config.path)();
    let (package, modules) = path.split_once("::").expect("a crate and a module");
    let (modules, _) = modules.rsplit_once("::").expect("a module and a type");
    let folder = Path::new(package.trim_start_matches("astropt_")).join("src");
    let module = folder.join(modules.replace("::", "/"));
    let places = [module.with_extension("rs"), module.join("mod.rs")];
    let found = places.into_iter().find(|place| workspace().join(place).is_file());
    found.unwrap_or_else(|| panic!("no source file of {path}"))
}

/// A struct as its source file has it.
struct Struct {
    file: PathBuf,
    fields: Vec<Field>,
}

/// A field of it: its key in a recipe, its type, and its comment on one line.
struct Field {
    key: String,
    kind: String,
    optional: bool,
    comment: String,
}

impl Struct {
    fn of(config: &ConfigType) -> Self {
        let name = (config.path)().rsplit("::").next().unwrap_or_default();
        Self::read(&workspace().join(file_of(config)), name).expect("a struct of this name")
    }

    /// The struct `name` of `file`.
    fn read(file: &Path, name: &str) -> Option<Self> {
        let source = std::fs::read_to_string(file).ok()?;
        let (_, body) = source.split_once(&format!("pub struct {name} {{"))?;
        let (mut fields, mut words, mut attributes) = (Vec::new(), Vec::new(), String::new());
        for line in body.lines().map(str::trim).take_while(|line| *line != "}") {
            if let Some(comment) = line.strip_prefix("///") {
                words.push(comment.trim());
            } else if let Some(field) = line.strip_prefix("pub ") {
                let (name, kind) = field.split_once(": ")?;
                let renamed = attributes.split("rename = \"").nth(1);
                let key = renamed.and_then(|rest| rest.split('"').next()).unwrap_or(name);
                fields.push(Field {
                    key: key.to_owned(),
                    kind: kind.trim_end_matches(',').to_owned(),
                    optional: attributes.contains("default"),
                    comment: plain(&words.join(" ")),
                });
                words.clear();
                attributes.clear();
            } else {
                attributes += line;
            }
        }
        Some(Self { file: file.to_owned(), fields })
    }

    fn comment(&self, key: &str) -> &str {
        let field = self.fields.iter().find(|field| field.key == key);
        field.map_or("", |field| &field.comment)
    }

    /// Rows for the keys of the tables that `key` holds, where it holds any.
    fn inner(&self, key: &str) -> String {
        let Some(field) = self.fields.iter().find(|field| field.key == key) else {
            return String::new();
        };
        let prefix = match &field.kind {
            kind if kind.contains("BTreeMap<") => format!("{key}.NAME"),
            kind if kind.contains("Vec<") => format!("{key}[]"),
            _ => key.to_owned(),
        };
        let names = field.kind.split(|c: char| !c.is_alphanumeric());
        let mut found = names.filter(|name| !name.is_empty()).filter_map(|name| self.near(name));
        let Some(inner) = found.next() else { return String::new() };
        let row = |field: &Field| {
            let Field { key, optional, comment, .. } = field;
            let default = if *optional { "unset" } else { "" };
            format!("| `{prefix}.{key}` | {default} | {comment} |\n")
        };
        inner.fields.iter().map(row).collect()
    }

    /// The struct `name` that this one means: of its own file, of a file beside it, or of a
    /// folder beside that.
    fn near(&self, name: &str) -> Option<Self> {
        let folder = self.file.parent()?;
        let files = |folder: &Path| -> Vec<PathBuf> {
            let mut paths: Vec<_> = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .collect();
            paths.sort();
            paths
        };
        let beside = files(folder);
        let further = files(folder.parent()?).into_iter().filter(|p| p.is_dir());
        let further = further.flat_map(|folder| files(&folder));
        let mut places = std::iter::once(self.file.clone()).chain(beside).chain(further);
        places.find_map(|file| Self::read(&file, name))
    }
}

/// Tables within tables are listed, those of another file too.
#[test]
fn keys_of_inner_tables_are_listed() {
    let rows = |kind: &str, key: &str| {
        let plugin = sources().into_iter().find(|p| p.info.kind == kind).expect("linked");
        Struct::of(&plugin.config).inner(key)
    };
    assert!(rows("fits", "arms").contains("| `arms.names` |  | What `{arm}` stands for"));
    assert!(rows("fits", "fields").contains("| `fields.NAME.hdu` | unset |"));
    assert!(rows("hub", "fields").contains("| `fields.NAME.column` |"));
    assert_eq!(rows("fits", "id"), "");
}

/// Without links, which lead nowhere on a page, and safe in a table.
fn plain(comment: &str) -> String {
    let mut text = String::new();
    for (k, part) in comment.split("[`").enumerate() {
        match part.split_once("`]") {
            Some((link, rest)) if k > 0 => {
                let rest = match rest.strip_prefix('(') {
                    Some(target) => target.split_once(')').map_or("", |(_, rest)| rest),
                    None => rest,
                };
                text += &format!("`{link}`{rest}");
            }
            _ => text += part,
        }
    }
    text.replace('|', "\\|")
}
