//! Several processes that train one model together, under `mpirun`.
//!
//! What they must reach is what one process does; the tests run where the program was built with
//! the feature `mpi` and `mpirun` is installed.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::bad_input::{on_pictures, pictures};
use crate::program::{fails, program, succeeds};
use crate::run::small;

/// A run of thirty steps, each of four micro-batches.
const THIRTY: [&str; 10] = [
    "--set",
    "train.steps=30",
    "--set",
    "train.decay_steps=30",
    "--set",
    "train.micro_batch=8",
    "--set",
    "train.eval_every=10",
    "--set",
    "train.checkpoints={every=10}",
];

/// Whether there is MPI to test with; says so when there is not.
pub(crate) fn can() -> bool {
    let mpirun = Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !cfg!(feature = "mpi") {
        println!("skipped: built without the feature mpi");
    } else if !mpirun {
        println!("skipped: mpirun is not installed");
    }
    cfg!(feature = "mpi") && mpirun
}

fn mpirun(folder: &Path, size: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    // More processes than processors, and tests run side by side.
    command
        .args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"])
        .arg(size.to_string())
        .arg(program())
        .args(arguments)
        .current_dir(folder)
        // Open MPI's own files, which one mpirun may delete while another begins.
        .env("TMPDIR", folder)
        .env("RAYON_NUM_THREADS", "1");
    command
}

pub(crate) fn together(folder: &Path, size: usize, arguments: &[&str]) -> Output {
    mpirun(folder, size, arguments).output().expect("mpirun runs")
}

pub(crate) fn together_succeeds(folder: &Path, size: usize, arguments: &[&str]) -> String {
    let output = together(folder, size, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{size} processes: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = String::from_utf8(read(run.join("metrics.jsonl"))).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// One, two and four processes have the same losses within rounding: the first ones, which no
/// sum of gradients has reached, to the bit. Two do the same every time.
#[test]
fn any_number_of_processes_trains_the_same_model() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    succeeds(folder, &small("pretrain", "alone", &THIRTY));
    for (size, out) in [(1, "one"), (2, "two"), (2, "again"), (4, "four")] {
        together_succeeds(folder, size, &small("pretrain", out, &THIRTY));
    }
    let last = |out: &str| read(folder.join(out).join("checkpoints/step-000030/model.safetensors"));
    assert_eq!(last("alone"), last("one"), "one process under mpirun is one process");
    assert_eq!(last("two"), last("again"), "two processes repeat themselves");
    let alone = metrics(&folder.join("alone"));
    let mut worst: f64 = 0.0;
    for out in ["two", "four"] {
        let run = metrics(&folder.join(out));
        assert_eq!(run.len(), alone.len(), "{out}");
        for (k, (one, many)) in alone.iter().zip(&run).enumerate() {
            for key in ["event", "step", "tokens", "lr", "objects", "zero_loss"] {
                assert_eq!(one[key], many[key], "{out}: {key}");
            }
            let loss = |line: &serde_json::Value| line["loss"].as_f64().expect("a number");
            let apart = (loss(one) / loss(many) - 1.0).abs();
            // The evaluation before the first step, and the loss of that step.
            assert!(k > 1 || apart == 0.0, "{out}: {one} and {many}");
            assert!(apart < 1e-5, "{out}: {one} and {many}");
            worst = worst.max(apart);
        }
    }
    println!("losses of 1, 2 and 4 processes over 30 steps: at most {worst:.1e} apart");
}

/// A whole run of two processes leaves what one leaves, and they embed what one embeds.
#[test]
fn two_processes_run_and_embed() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let arguments = small("run", "r", &["--json", "--set", "train.micro_batch=8"]);
    let said = together_succeeds(folder, 2, &arguments);
    assert_eq!(said.lines().count(), 1, "one process speaks: {said}");
    let run = folder.join("r");
    for name in ["report.html", "probes.json", "rejected.csv", "previews/step-000006.png"] {
        assert!(run.join(name).exists(), "{name} is missing");
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(run.join("manifest.json"))).expect("JSON");
    assert_eq!(manifest["stages"][0]["facts"]["processes"], "2");
    assert_eq!(manifest["stages"].as_array().expect("stages").len(), 3);
    // Batches that three processes cannot share equally.
    let embed = |out: &str| {
        vec!["embed", "r", "--quiet", "--out", out, "--set", "embed.batch=7"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let one = embed("one");
    succeeds(folder, &one.iter().map(String::as_str).collect::<Vec<_>>());
    let three = embed("three");
    together_succeeds(folder, 3, &three.iter().map(String::as_str).collect::<Vec<_>>());
    for name in ["embeddings.npy", "embeddings.ids.txt", "embeddings-raw.parquet"] {
        assert_eq!(read(folder.join("one").join(name)), read(folder.join("three").join(name)));
    }
}

/// What no process can do is said once, and what one process lacks names it.
#[test]
fn what_cannot_be_shared_is_refused() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let whole = ["--set", "train.micro_batch=32"];
    let output = together(folder.path(), 2, &small("pretrain", "r", &whole));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    assert!(stderr.contains("set train.micro_batch=16"), "{stderr}");
    assert!(!folder.path().join("r").exists(), "nothing was written");
    let output = together(folder.path(), 2, &["recipes"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("works in one process"), "{stderr}");
}

/// Processes on one machine are each granted a share of its memory.
#[test]
fn processes_share_the_memory_of_their_machine() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Terabytes for each, on any machine that runs this.
    let set = ["--set", "train.batch=33554432", "--set", "train.micro_batch=16777216"];
    let output = together(folder.path(), 2, &small("pretrain", "r", &set));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("free for each of 2 processes on this machine"), "{stderr}");
    assert!(!folder.path().join("r").exists(), "nothing was written");
}

/// Objects that one process cannot use are known to all, and listed.
#[test]
fn unusable_objects_of_all_processes_are_listed() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = pictures(folder.path(), 60);
    for k in (3..60).step_by(15) {
        std::fs::write(data.join(format!("g{k:03}.png")), "no picture").expect("writable");
    }
    // Twelve steps of 8 show every training object, in micro-batches of 2.
    let arguments = |allowed| {
        let set = ["train.batch=8", "train.micro_batch=2", "train.steps=12", allowed];
        on_pictures("../data", &set.map(|set| ["--set", set]).concat())
    };
    let in_folder = |name: &str| {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("writable");
        place
    };
    let some = arguments("train.max_rejected=0.1");
    let [one, four, few] = ["one", "four", "few"].map(in_folder);
    succeeds(&one, &some);
    together_succeeds(&four, 4, &some);
    let list = |place: &Path| String::from_utf8(read(place.join("r/rejected.csv"))).expect("UTF-8");
    assert!(list(&one).lines().count() > 2, "some, and a heading: {}", list(&one));
    assert_eq!(list(&one), list(&four));
    let output = together(&few, 4, &arguments("train.max_rejected=0.02"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("max_rejected"), "{stderr}");
}

/// A long run of `size` processes, once it has saved a second checkpoint; with the processes'
/// ids.
fn begun(folder: &Path, size: usize) -> (std::process::Child, Vec<String>) {
    let endless = [
        "--backend",
        "cpu",
        "--set",
        "train.steps=100000",
        "--set",
        "train.micro_batch=8",
        "--set",
        "train.checkpoints={every=5}",
    ];
    let mut child = mpirun(folder, size, &small("pretrain", "r", &endless))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let saved = folder.join("r/checkpoints/step-000005/state.json");
    let patience = Instant::now();
    while !saved.exists() && patience.elapsed() < Duration::from_secs(100) {
        if child.try_wait().expect("a child").is_some() {
            let output = child.wait_with_output().expect("ended");
            panic!("ended early: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.expect("Linux tells the children of a process");
    (child, children.split_whitespace().map(str::to_owned).collect())
}

fn kill(signal: &str, id: &str) {
    let kill = Command::new("kill").args([signal, id]).status();
    assert!(kill.expect("kill runs").success(), "kill {signal} {id}");
}

/// Processes that were started to do different things, or on different data, do nothing.
#[test]
fn processes_that_disagree_are_refused() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for name in ["here", "there"] {
        std::fs::create_dir(folder.join(name)).expect("writable");
        pictures(&folder.join(name), 20);
    }
    let two = |first: &[&str], second: &[&str]| {
        let mut command = mpirun(folder, 1, first);
        command.args([":", "-n", "1"]).arg(program()).args(second);
        let output = command.output().expect("mpirun runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("panicked"), "{said}");
        said
    };
    let set = ["--set", "train.micro_batch=2"];
    let own = on_pictures("here/data", &set);
    let said = two(&own, &[&own[..], &["--set", "modality.images.order=raster"]].concat());
    assert!(said.contains("another recipe") && said.contains("raster"), "{said}");
    if succeeds(folder, &["doctor"]).contains("libtorch:0") {
        let on = |backend| [&own[..], &["--backend", backend]].concat();
        let said = two(&on("cpu"), &on("libtorch"));
        assert!(said.contains("process 1 of 2 computes on libtorch where"), "{said}");
    }
    let other = on_pictures("there/data", &set);
    // The same names, and what lies under them exchanged.
    let last = std::fs::read(folder.join("there/data/g019.png")).expect("readable");
    for k in (0..19).rev() {
        let [from, to] = [k, k + 1].map(|k| folder.join(format!("there/data/g{k:03}.png")));
        std::fs::copy(from, to).expect("writable");
    }
    std::fs::write(folder.join("there/data/g000.png"), last).expect("writable");
    let said = two(&own, &other);
    assert!(said.contains("other data") && said.contains("something else"), "{said}");
    std::fs::remove_file(folder.join("there/data/g007.png")).expect("there");
    let said = two(&own, &other);
    assert!(said.contains("other ids"), "{said}");
    assert!(!folder.join("r").exists());
}

/// A signal to any one process stops all of them after the same step, with a checkpoint.
#[test]
fn a_signal_to_one_stops_all_in_good_order() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (child, ranks) = begun(folder.path(), 2);
    assert_eq!(ranks.len(), 2);
    kill("-TERM", &ranks[1]);
    let output = child.wait_with_output().expect("ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    let said: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(said.len() == 1 && said[0].contains("--resume --backend cpu"), "{stderr}");
    assert!(!stderr.contains("MPI_ABORT"), "{stderr}");
    let step: u64 = said[0]
        .split_once("stopped after step ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{stderr}"));
    let run = folder.path().join("r");
    assert!(run.join(format!("checkpoints/step-{step:06}/state.json")).exists());
    // One process goes on with what two began.
    let steps = format!("train.steps={}", step + 2);
    let goes_on = ["pretrain", "--resume", "--out", "r", "-q", "--set", &steps];
    succeeds(folder.path(), &goes_on);
    assert!(run.join(format!("checkpoints/step-{:06}", step + 2)).exists());
}

/// A process that dies ends the job; the last checkpoint is whole, and two go on from it.
#[test]
fn a_dead_process_ends_the_job_with_a_saved_state() {
    if !can() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for victim in [1, 0] {
        let folder = folder.path().join(format!("victim-{victim}"));
        std::fs::create_dir(&folder).expect("writable");
        let (child, ranks) = begun(&folder, 2);
        kill("-KILL", &ranks[victim]);
        let dead = Instant::now();
        let output = child.wait_with_output().expect("ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{stderr}");
        assert!(dead.elapsed() < Duration::from_secs(60), "the others waited for the dead");
        let saved = std::fs::read_dir(folder.join("r/checkpoints")).expect("readable").flatten();
        let names = saved.filter_map(|entry| entry.file_name().into_string().ok());
        let last: u64 = names
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .max()
            .expect("a checkpoint");
        assert!(last >= 5);
        let steps = format!("train.steps={}", last + 2);
        let goes_on = ["pretrain", "--resume", "--out", "r", "-q", "--set", &steps];
        together_succeeds(&folder, 2, &goes_on);
        assert!(folder.join(format!("r/checkpoints/step-{:06}", last + 2)).exists());
    }
}

/// Started several times over, a program that knows no others does not do the work as often.
#[test]
fn a_program_that_would_work_several_times_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |arguments: &[&str]| {
        let output = Command::new(program())
            .args(arguments)
            .current_dir(folder.path())
            .env("PMI_SIZE", "2")
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    if !cfg!(feature = "mpi") {
        let error = with(&small("pretrain", "r", &[]));
        assert!(error.contains("mpiexec started 2") && error.contains("--features mpi"), "{error}");
        assert!(!folder.path().join("r").exists());
    }
    let error = with(&["probe", "r"]);
    assert!(error.contains("`astropt probe` works in one process"), "{error}");
    // As it does without.
    fails(folder.path(), &["probe", "r"], 2);
}
