//! The command line: help, misuse, listings.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{fails, program, succeeds, workspace};

const COMMANDS: [&str; 20] = [
    "run", "scale", "pretrain", "embed", "probe", "report", "audit", "generate", "verify", "bench",
    "convert", "leaks", "import", "export", "inspect", "tokenise", "plugins", "doctor", "recipes",
    "new",
];

#[test]
fn every_command_has_help_with_an_example() {
    let help = succeeds(workspace(), &["--help"]);
    let listed = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next());
    let listed: Vec<&str> = listed
        .expect("a list of commands")
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is missing in --help");
        let help = succeeds(workspace(), &[command, "--help"]);
        assert!(help.contains("Example"), "{command} --help has no example");
    }
}

/// Every example of `--help` parses: it names no option that is not there.
#[test]
fn examples_in_help_parse() {
    for command in COMMANDS {
        let help = succeeds(workspace(), &[command, "--help"]);
        let examples = help.split_once("Example").expect("an example").1;
        let lines: Vec<_> =
            examples.lines().filter_map(|l| l.trim().split_once("astropt ")).map(|l| l.1).collect();
        assert!(!lines.is_empty(), "{command}");
        for line in lines {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.push("--no-such-option");
            let output = crate::program::astropt(workspace(), &words);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
            assert!(stderr.contains("'--no-such-option'"), "{line}: {stderr}");
        }
    }
}

/// Every `--set` that help mentions names a key of the recipe.
#[test]
fn keys_named_in_help_are_keys_of_the_recipe() {
    let mut seen = 0;
    for command in COMMANDS {
        let help = succeeds(workspace(), &[command, "--help"]);
        let words = help.split_whitespace().map(|w| w.trim_matches([';', ',']));
        let keys = ["train.", "embed.", "probe.", "model.", "source.", "modality."];
        // `import` names the modality of a checkpoint, which is no recipe's.
        let words = words.filter(|w| !w.starts_with("modality.spectra."));
        for word in words.filter(|w| w.contains('=') && keys.iter().any(|k| w.starts_with(k))) {
            succeeds(workspace(), &["recipes", "galaxy-grz", "--set", word]);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen}");
}

#[test]
fn plugins_and_recipes_are_listed_as_text_and_json() {
    let text = succeeds(workspace(), &["plugins"]);
    for name in ["galaxy-image", "image-folder", "synthetic", "cpu"] {
        assert!(text.contains(name), "{text}");
    }
    let json = succeeds(workspace(), &["plugins", "--json"]);
    let plugins: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(plugins.as_array().is_some_and(|p| p.len() >= 4));
    assert!(succeeds(workspace(), &["recipes"]).contains("galaxy-grz"));
}

/// Without libtorch the backend is named, and what to do.
#[test]
fn doctor_says_what_works_and_what_is_missing() {
    let text = succeeds(workspace(), &["doctor"]);
    assert!(text.contains("cpu:0") && text.contains("used unless --backend"), "{text}");
    assert!(text.contains("setup.sh") || text.contains("libtorch:0"), "{text}");
    let json = succeeds(workspace(), &["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let cpu = found.as_array().and_then(|f| f.iter().find(|f| f["backend"] == "cpu"));
    assert!(cpu.is_some_and(|f| f["works"] == true && f["default"] == true), "{json}");
}

#[test]
fn a_backend_that_is_not_built_in_is_told_with_the_way_out() {
    let doctor = succeeds(workspace(), &["doctor"]);
    // Built in, but without what it needs here, it says that.
    let cuda = if cfg!(feature = "cuda") { "install" } else { "--features cuda" };
    for (backend, way) in [("libtorch", "backends/libtorch/setup.sh"), ("cuda", cuda)] {
        if !doctor.contains(&format!("{backend}:0")) {
            let words = ["bench", "train", "--scale", "1M", "--backend", backend];
            let error = fails(workspace(), &words, 1);
            assert!(error.contains(way), "{error}");
        }
    }
}

#[test]
fn a_precision_that_a_backend_does_not_know_is_told_with_those_that_do() {
    let words = ["bench", "train", "--scale", "1M", "--set", "train.precision=bf16"];
    let error = fails(workspace(), &words, 2);
    assert!(error.contains("--backend cpu") && error.contains("cuda, libtorch"), "{error}");
}

/// The exit code of a call whose reader is gone from the first.
fn unread(arguments: &[&str]) -> Option<i32> {
    let mut child = Command::new(program())
        .args(arguments)
        .current_dir(workspace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    child.wait().expect("ends").code()
}

/// A closed pipe ends nothing: what comes after the first result is still done, and counts.
#[test]
fn a_reader_that_leaves_changes_no_exit_code() {
    assert_eq!(unread(&["recipes"]), Some(0));
    let case = std::fs::read_dir(workspace().join("tests/golden")).expect("recorded cases");
    let case = case.flatten().map(|entry| entry.path()).find(|path| path.is_dir());
    let case = case.expect("one case");
    let case = case.to_str().expect("UTF-8");
    for more in [&[][..], &["--json"]] {
        assert_eq!(unread(&[&["verify", case][..], more].concat()), Some(0));
        assert_eq!(unread(&[&["verify", case, "no-such-case"][..], more].concat()), Some(1));
    }
}

/// The paper's table, through the recipe.
#[test]
fn the_recipes_scales_have_the_papers_parameter_counts() {
    for (scale, parameters) in [
        ("1M", 1_067_520),
        ("5M", 5_444_864),
        ("12M", 11_951_616),
        ("21M", 20_981_504),
        ("89M", 89_087_232),
        ("309M", 308_861_696),
        ("830M", 829_502_208),
        ("2.1B", 2_081_572_608u64),
    ] {
        let text = succeeds(workspace(), &["recipes", "galaxy-grz", "--scale", scale]);
        assert!(text.starts_with(&format!("# {parameters} parameters\n")), "{scale}: {text}");
    }
}

#[test]
fn misuse_is_told_with_the_way_out() {
    let here = Path::new(".");
    for (arguments, expected) in [
        (&["run", "galaxy-gzr", "--demo"][..], "did you mean \"galaxy-grz\"?"),
        (&["run", "galaxy-grz"], "--data PATH"),
        (&["run", "galaxy-grz", "--scale", "89"], "did you mean \"89M\"?"),
        (&["run", "galaxy-grz", "--demo", "--set", "train.step=1"], "did you mean \"steps\"?"),
        (&["run", "galaxy-grz", "--demo", "--set", "train.steps"], "--set train.steps"),
        (&["run", "galaxy-grz", "--demo", "--set", "train.steps=many"], "train.steps"),
        (&["run", "galaxy-grz", "--demo", "--set", "model.heads=5"], "model.heads = 5"),
        (&["run", "galaxy-grz", "--demo", "--set", "source.kind=synthetc"], "synthetic"),
        (&["run", "galaxy-grz", "--demo", "--set", "embed.layer=lats"], "embed.layer"),
        (&["run", "galaxy-grz", "--demo", "--data", "x"], "reads no files"),
        (&["run", "galaxy-grz", "--demo", "--backend", "gpu"], "backend"),
        (&["run", "galaxy-grz", "--demo", "--backend", "cpu:7"], "cpu"),
        (&["run", "--resume"], "--out DIR"),
        (&["run", "--resume", "--out", "no-such-run"], "holds no run"),
        (&["probe", "no-such-run"], "holds no run"),
        (&["bench", "train", "--steps", "0"], "at least 1"),
        (&["bench", "train", "--set", "model.width=1000000000000"], "model.width"),
        (&["bench", "train", "--set", "model.layers=100000"], "GB"),
        (&["run", "galaxy-grz", "--demo", "--set", "source.objects=0"], "`objects`"),
        (&["run", "galaxy-grz", "--demo", "--set", "source.objects=99999999999999"], "`objects`"),
        (&["run", "galaxy-grz", "--demo", "--set", "train.workers=100000000"], "train.workers"),
        (&["run", "galaxy-grz", "--demo", "--set", "embed.batch=0"], "embed.batch"),
        (
            &["run", "galaxy-grz", "--demo", "--set", "train.checkpoints.log=1000000000000"],
            "train.checkpoints",
        ),
    ] {
        let error = fails(here, arguments, 2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}
