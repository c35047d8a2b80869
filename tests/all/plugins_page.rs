//! docs/PLUGINS.md: every plugin linked into the program, from the registry and from the
//! comments of their configurations.

use std::path::{Path, PathBuf};

use astropt_core::seam::{ConfigType, KeyChoice, PluginInfo, backends, modalities, sources};
use astropt_core::toml;
use astropt_tests::workspace;
use serde_json::Value as Json;

/// Reads a plugin's table and shows all keys of what it configures.
type Parse<'a> = &'a dyn Fn(toml::Table) -> Option<Json>;

const HEAD: &str = "\
# Plugins

What `astropt` has linked, with every key of a recipe's table. A key without a default must be
stated; `unset` keys may be left out. This page is written by the tests: do not edit it, run

    UPDATE_PAGES=1 cargo test --release -p astropt-tests plugins_page
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
         UPDATE_PAGES=1 cargo test --release -p astropt-tests plugins_page"
    );
}

/// Every key has a comment, or the page would be of little use.
#[test]
fn every_key_is_documented() {
    let modalities = modalities().into_iter().map(|p| (p.info, p.config));
    let sources = sources().into_iter().map(|p| (p.info, p.config));
    for (info, config) in modalities.chain(sources) {
        let source = source_of(&config);
        for key in (config.keys)() {
            assert!(!comment(&source, &config, key).is_empty(), "{}: {key}", info.kind);
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
    for plugin in backends() {
        let PluginInfo { kind, summary, package, .. } = plugin.info;
        page += &format!("\n### `{kind}`\n\n{summary} (`{package}`). `--backend {kind}`\n");
    }
    page
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
    let source = source_of(config);
    let example: toml::Table = example.parse().expect("the kit checks that examples parse");
    for key in (config.keys)() {
        let default = default_of(key, &example, parse);
        let choices = choices(config, key);
        text += &format!("| `{key}` | {default} | {}{choices} |\n", comment(&source, config, key));
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

fn source_of(config: &ConfigType) -> String {
    std::fs::read_to_string(workspace().join(file_of(config))).expect("readable")
}

/// The comment of the field `key`, on one line; empty when there is none.
fn comment(source: &str, config: &ConfigType, key: &str) -> String {
    let name = (config.path)().rsplit("::").next().unwrap_or_default();
    let body = source.split_once(&format!("pub struct {name} {{")).map_or("", |(_, rest)| rest);
    let (field, renamed) = (format!("pub {key}:"), format!("rename = \"{key}\""));
    let mut words: Vec<&str> = Vec::new();
    let mut found = false;
    for line in body.lines().map(str::trim).take_while(|line| *line != "}") {
        found |= line.starts_with(&field) || line.contains(&renamed);
        if let Some(comment) = line.strip_prefix("///") {
            words.push(comment.trim());
        } else if line.starts_with("pub ") {
            if found {
                return plain(&words.join(" "));
            }
            words.clear();
        }
    }
    String::new()
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
