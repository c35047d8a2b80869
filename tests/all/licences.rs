//! Every dependency is under a licence that `deny.toml` allows, for all features and platforms.

use std::process::Command;

use serde_json::Value as Json;
use spdx::{Expression, ParseMode};

use crate::program::workspace;

/// What cargo says of every package.
fn packages() -> Vec<Json> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut json: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    serde_json::from_value(json["packages"].take()).expect("a list of packages")
}

fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("deny.toml")).expect("readable");
    let rules: toml::Table = toml::from_str(&text).expect("TOML");
    let listed = rules["licenses"]["allow"].as_array().expect("a list");
    listed.iter().filter_map(|licence| licence.as_str()).map(str::to_owned).collect()
}

/// Whether the licences of this expression may be met with allowed ones alone.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let parsed = Expression::parse_mode(expression, ParseMode::LAX);
    parsed.is_ok_and(|e| e.evaluate(|needed| allowed.contains(&needed.to_string())))
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none stated");
        assert!(
            permitted(licence, &allowed),
            "{} is under {licence}; see deny.toml",
            package["name"]
        );
    }
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for (expression, expected) in [
        ("MIT", true),
        ("MIT OR GPL-3.0-only", true),
        ("MIT/GPL-3.0-only", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT AND GPL-3.0-only", false),
        ("AGPL-3.0-only", false),
        ("Apache-2.0", false),
        ("none stated", false),
    ] {
        assert_eq!(permitted(expression, &allowed), expected, "{expression}");
    }
}
