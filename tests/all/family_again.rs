//! Families that were stopped in the middle, or whose models were worked on one by one: what they
//! go on with, and what their report says of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{astropt, fails, program, succeeds};
use crate::run::SMALL;

/// A family of the scales `names`; each model is a run of six steps.
fn begin<'a>(names: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["scale", "galaxy-grz", "--scales", names, "--out", "f", "--json"];
    arguments.extend(&SMALL[2..]); // without its own --scale
    arguments.extend(["--set", "train.micro_batch=8", "--set", "probe.nuisance=[]"]);
    arguments.extend(["--set", "probe.labels=['redshift','disc','g_r']"]);
    arguments.extend(more);
    arguments
}

/// Pictures of sixteen patches.
const TINY: [&str; 4] = ["--set", "source.size=32", "--set", "modality.images.size=32"];

const GO_ON: [&str; 6] = ["run", "--resume", "--out", "f", "--json", "--quiet"];

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn go_on(at: &Path, more: &[&str]) -> Value {
    value(&succeeds(at, &[&GO_ON, more].concat()))
}

fn going_on(at: &Path, more: &[&str]) -> Child {
    Command::new(program())
        .args([&GO_ON, more].concat())
        .current_dir(at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

fn wait_for(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

/// The stages called `name` of the run `run`.
fn stages(run: &Path, name: &str) -> Vec<Value> {
    let manifest = json(&run.join("manifest.json"));
    let all = manifest["stages"].as_array().expect("stages");
    all.iter().filter(|stage| stage["stage"] == name).cloned().collect()
}

fn steps_of(run: &Path) -> usize {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"event\":\"train\"")).count()
}

/// Whatever a family goes on with holds for all its models, though an interrupt keeps it from some;
/// and a model is finished when the last step is embedded and probed, not when it is taken.
#[test]
fn an_extension_that_is_stopped_holds_for_all_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, f) = (folder.path(), folder.path().join("f"));
    succeeds(at, &begin("demo-S,demo-M", &[]));
    let [small, middle] = ["demo-S", "demo-M"].map(|scale| f.join(scale));

    // Interrupted in the first model.
    let child = going_on(at, &["--set", "train.steps=60"]);
    wait_for(|| steps_of(&small) > 8);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(75), "it ended before it was stopped");
    assert_eq!(steps_of(&middle), 6, "the second model was gone on with");
    assert!(!small.join("report.html").exists(), "a report of six steps");
    let family = go_on(at, &[]);
    for member in family["members"].as_array().expect("members") {
        assert_eq!(member["steps"], 60, "{member}");
    }
    assert_eq!((steps_of(&small), steps_of(&middle)), (60, 60));

    // Killed once the last step is saved, before it is embedded.
    let mut child = going_on(at, &["--set", "train.steps=68"]);
    wait_for(|| small.join("checkpoints/step-000068").exists());
    child.kill().expect("kills");
    child.wait().expect("ends");
    go_on(at, &[]);
    let embedded = |run: &Path| {
        let stages = stages(run, "embed");
        stages.last().expect("embedded")["facts"]["checkpoint"].clone()
    };
    assert_eq!([embedded(&small), embedded(&middle)], ["step 68", "step 68"]);

    let audited = succeeds(at, &["audit", "f"]);
    assert_eq!(audited.matches("68 steps on").count(), 2, "{audited}");
    assert!(fails(at, &["audit", "f", "--counts", "c.csv"], 2).contains("name one of its 2 runs"));

    // A report that an earlier version left does not make it finished either.
    succeeds(at, &["pretrain", "--resume", "--out", "f/demo-S", "-q", "--set", "train.steps=70"]);
    std::fs::write(small.join("report.html"), "of 68 steps").expect("writable");
    let family = go_on(at, &["--set", "train.steps=70"]);
    assert_eq!([embedded(&small), embedded(&middle)], ["step 70", "step 70"]);

    // Nothing of what it took is lost: the killed part is among the rest.
    let parts = stages(&small, "pretrain");
    let killed = |part: &&Value| part["facts"]["ended"] == "killed, or at work still";
    assert_eq!(parts.iter().filter(killed).count(), 1, "{parts:?}");
    let sum = |key: &dyn Fn(&Value) -> f64| parts.iter().map(key).sum::<f64>();
    let trained = &family["members"][0]["trained"];
    let seconds = sum(&|part| part["seconds"].as_f64().expect("seconds"));
    let joules = sum(&|part| part["energy"]["joules"].as_f64().expect("joules"));
    assert!((trained["seconds"].as_f64().expect("seconds") - seconds).abs() < 1e-6);
    assert!((trained["energy"]["joules"].as_f64().expect("joules") - joules).abs() < 1e-6 * joules);
}

/// A process that is killed while it trains has told what it took, nearly to the end.
#[test]
fn what_a_killed_training_took_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, run) = (folder.path(), folder.path().join("r"));
    let endless = ["--set", "train.steps=100000", "--set", "train.checkpoints.every=5"];
    let mut child = Command::new(program())
        .args([&["pretrain", "galaxy-grz", "--out", "r"], &SMALL[..], &endless].concat())
        .current_dir(at)
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let started = Instant::now();
    wait_for(|| started.elapsed() > Duration::from_secs(2) && steps_of(&run) > 12);
    child.kill().expect("kills");
    child.wait().expect("ends");
    let [part] = &stages(&run, "pretrain")[..] else { panic!("one part") };
    let seconds = part["seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.5, "{part}");
    assert!(part["energy"]["joules"].as_f64() > Some(0.0), "{part}");
    let seen = succeeds(at, &["inspect", "r"]);
    assert!(seen.contains("killed, or at work still"), "{seen}");
    // What is gone on with, after a kill, keeps it.
    let more = ["pretrain", "--resume", "--out", "r", "--walltime", "1s", "-q"];
    assert_eq!(astropt(at, &more).status.code(), Some(75));
    let parts = stages(&run, "pretrain");
    assert_eq!((parts.len(), &parts[0]), (2, part), "the killed part is kept");
}

/// Models left out stay left out, those evaluated on other objects stay out of the law, and what
/// was done to one of them by itself is told.
#[test]
fn a_family_remembers_and_tells() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, f) = (folder.path(), folder.path().join("f"));
    let all = "demo-S,demo-M,demo-L,demo";
    // Nothing lowers a loss by nine tenths.
    let stop = ["--stop-at-saturation", "--least-gain", "0.9"];
    let family = value(&succeeds(at, &begin(all, &[&stop[..], &TINY].concat())));
    assert!(family["members"][3]["trained"].is_null(), "{family}");
    let family = go_on(at, &[]);
    assert!(family["members"][3]["trained"].is_null() && !f.join("demo").exists(), "forgotten");
    // What is not named now stays in the family.
    let family = go_on(at, &["--scales", "demo-S"]);
    assert!(family["members"][2]["trained"].is_object(), "{family}");
    assert_eq!(family["members"][3]["unfinished"], "left for later: --scales did not name it");
    let line = ["--stop-at-saturation=false", "--set", "train.eval_batches=1"];
    let family = go_on(at, &line);
    assert!(family["members"][3]["trained"].is_object(), "{family}");

    // demo was evaluated on the first micro-batch alone.
    let objects = |k: usize| {
        let batches = family["members"][k]["trained"]["batches"].as_array().expect("batches");
        batches.iter().map(|batch| batch[1].as_u64().expect("a count")).sum::<u64>()
    };
    assert!(objects(0) == objects(2) && objects(3) < objects(0), "{family}");
    assert!(family["members"][3]["predicted"]["right"].is_null(), "{family}");
    let flops = |k: usize| family["members"][k]["trained"]["flops"].as_f64().expect("flops");
    let unit = family["compute"]["law"]["unit"].as_f64().expect("a law");
    let mean = (flops(0) * flops(1) * flops(2)).cbrt();
    assert!((unit / mean - 1.0).abs() < 1e-9, "a law of three models");
    let report = || std::fs::read_to_string(f.join("report.html")).expect("a report");
    let said = format!(
        "demo ({} objects in {0} groups) was evaluated on other objects than demo-S, demo-M, demo-L \
         ({} objects in",
        objects(3),
        objects(0)
    );
    for text in [&said[..], "(other objects)", "Untrained, gain of demo", "a model is missing here"]
    {
        assert!(report().contains(text), "{text}");
    }
    assert!(!report().contains("eight models"));

    // Probed otherwise, a run's own report is drawn anew; embedded otherwise, it waits for probes.
    let own = f.join("demo-S/report.html");
    std::fs::write(&own, "of the probes before").expect("writable");
    std::fs::remove_file(f.join("demo-S/figures/maps.svg")).unwrap_or(());
    let probe = ["probe", "f/demo-S", "--set", "probe.protocol=halves"];
    let output = astropt(at, &probe);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("drawn anew"), "{words}");
    let text = std::fs::read_to_string(&own).expect("a report");
    assert!(text.contains("validation and test together, halved"), "the report before");
    a_probe_that_fails_takes_nothing(at);
    succeeds(at, &["embed", "f/demo", "-q", "--set", "embed.layer=middle"]);
    let words = succeeds(at, &["report", "f", "--json"]);
    assert!(words.contains("report.html"));
    assert!(report().contains("demo (trained, but not embedded and probed since)"));
    let family = json(&f.join("family.json"));
    assert!(family["members"][3]["unfinished"].as_str().is_some_and(|s| s.starts_with("trained")));
}

/// Of the family in `at`/f: a probe that is refused leaves the model its report, and one that was
/// stopped before it was drawn draws it when it is done again.
fn a_probe_that_fails_takes_nothing(at: &Path) {
    let own = at.join("f/demo-M/report.html");
    let family = || std::fs::read_to_string(at.join("f/report.html")).expect("a report");
    let before = std::fs::read(&own).expect("a report");
    let refused = ["probe", "f/demo-M", "-q", "--set", "probe.nuisance=['telescop']"];
    assert!(fails(at, &refused, 2).contains("\"telescop\""));
    assert!(std::fs::read(&own).expect("a report") == before);
    assert!(at.join("f/demo-M/figures/maps.svg").exists());

    // As an interrupt leaves it that comes before the report is drawn.
    std::fs::remove_file(&own).expect("there");
    let said = "trained and probed, but its report is missing; `astropt report f/demo-M` makes it";
    let output = astropt(at, &["report", "f", "-q"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains(said), "{words}");
    assert!(family().contains("report is missing"));
    succeeds(at, &["probe", "f/demo-M", "-q"]);
    assert!(own.exists(), "the report is not drawn again");
    succeeds(at, &["report", "f", "-q"]);
    assert!(!family().contains("report is missing"));
    let members = json(&at.join("f/family.json"))["members"].clone();
    assert!(members.as_array().expect("members").iter().all(|m| m["trained"].is_object()));
}
