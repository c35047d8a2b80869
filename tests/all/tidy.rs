//! The invariants of docs/ARCHITECTURE.md that a compiler does not check.

use std::path::{Path, PathBuf};

use crate::program::workspace;

fn files(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            files(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for folder in ["core", "modalities", "backends", "recipes", "tests", "benches", "examples"] {
        files(&workspace().join(folder), "rs", &mut paths);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("readable");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn no_file_passes_500_lines() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{}: {lines} lines", path.display());
    }
}

/// A function ends where a line closes its indentation.
#[test]
fn no_function_passes_60_lines() {
    for (path, text) in sources() {
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if open.is_none() && code.starts_with("fn ") && !line.trim_end().ends_with(';') {
                open = Some((number, indent, line.trim()));
            }
            if let Some((start, at, name)) = open
                && indent == at
                && line.trim_end() == format!("{}}}", " ".repeat(at))
            {
                let lines = number + 1 - start;
                assert!(lines <= 60, "{}:{}: {lines} lines: {name}", path.display(), start + 1);
                open = None;
            }
        }
    }
}

#[test]
fn core_names_no_plugin_crate() {
    let mut manifest = workspace().join("core");
    manifest.push("Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("readable");
    let dependencies = text.split("[dev-dependencies]").next().expect("a first part");
    let plugins =
        ["astropt-modalities", "astropt-cpu", "astropt-cuda", "astropt-libtorch", "astropt-mpi"];
    for plugin in plugins.into_iter().chain(["burn-flex", "burn-cuda", "burn-tch"]) {
        assert!(!dependencies.contains(plugin), "core depends on {plugin}");
    }
}

/// Unsafe code stands in kernels, where files are mapped into memory, and in the program's
/// choice of an allocator option.
#[test]
fn unsafe_code_is_in_kernels_only() {
    for (path, text) in sources() {
        let kernels = path.components().any(|c| c.as_os_str() == "kernels");
        let mapping = path.ends_with("core/src/shards/mapping.rs");
        let uses =
            text.contains(concat!("uns", "afe {")) || text.contains(concat!("uns", "afe fn"));
        let program = path.ends_with("recipes/src/program.rs");
        let allowed = kernels || mapping || program;
        assert!(allowed || !uses, "{}: unsafe outside kernels", path.display());
    }
}

#[test]
fn nothing_is_left_undone() {
    let marks = [concat!("todo", "!("), concat!("unimplement", "ed!("), concat!("FIX", "ME")];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

/// The README's tree names folders that are there.
#[test]
fn the_readmes_tree_is_true() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("README.md");
    let tree = readme.split("```text").nth(1).and_then(|t| t.split("```").next()).expect("a tree");
    for line in tree.lines().filter(|line| !line.trim().is_empty()) {
        let path = line.split_whitespace().next().expect("a path");
        assert!(workspace().join(path).exists(), "README names {path}, which is not there");
    }
}
