//! The number of threads changes no byte of a run.

use std::path::Path;
use std::process::Command;

use crate::program::{program, shared};
use crate::run::small;

/// Runs the program on so many threads that compute.
fn on_threads(folder: &Path, arguments: &[&str], threads: usize) {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).env("RAYON_NUM_THREADS", threads.to_string());
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// All files of a run whose bytes the recipe and the seed decide.
fn files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(run).expect("within").to_string_lossy().into_owned();
            // The run's own checksums are of those files too; checkpoints have theirs.
            let timed = ["manifest", "timings", "events", "report.html", "checksums.json"];
            if path.is_dir() {
                folders.push(path);
            } else if !timed.iter().any(|timed| name.starts_with(timed)) {
                out.push((name, std::fs::read(&path).expect("readable")));
            }
        }
    }
    out.sort();
    out
}

fn compare(arguments: &dyn Fn(&'static str) -> Vec<&'static str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first: Option<Vec<(String, Vec<u8>)>> = None;
    for (threads, out) in [(1, "t1"), (2, "t2"), (3, "t3"), (4, "t4")] {
        on_threads(folder.path(), &arguments(out), threads);
        let these = files(&folder.path().join(out));
        assert!(these.len() > 10, "{} files", these.len());
        match &first {
            None => first = Some(these),
            Some(first) => {
                for (a, b) in first.iter().zip(&these) {
                    assert!(a == b, "{} or {} differs on {threads} threads", a.0, b.0);
                }
                assert_eq!(first.len(), these.len());
            }
        }
    }
}

/// Training, evaluation, previews, embeddings, probes, maps and figures.
#[test]
fn a_whole_run_is_the_same_on_any_number_of_threads() {
    // Wide enough to be shared between threads.
    compare(&|out| {
        let set = [
            "--set",
            "model={layers=2,heads=4,width=96}",
            "--set",
            "probe.beside=['knn', 'mlp']",
            "--set",
            "probe.labels=['redshift', 'disc']",
        ];
        small("run", out, &set)
    });
}

/// Rows longer than the blocks that work is cut into, of a wider model.
#[test]
fn a_wider_model_trains_alike_on_any_number_of_threads() {
    let set = ["model={layers=2,heads=4,width=256}", "train.micro_batch=32", "train.steps=2"];
    let set = set.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
    compare(&move |out| small("pretrain", out, &set.iter().map(|s| leak(s)).collect::<Vec<_>>()));
}

/// Real pictures and a catalogue, where they are there.
#[test]
fn a_run_on_real_galaxies_is_the_same_on_any_number_of_threads() {
    let Some(data) = shared("data/galaxies/efigi_trainval_88px") else { return };
    let data: &'static str = leak(&data.display().to_string());
    compare(&move |out| {
        let mut arguments = vec!["pretrain", "efigi", "--quiet", "--data", data, "--out", out];
        for set in
            ["train.steps=3", "train.batch=16", "train.micro_batch=16", "train.eval_batches=2"]
        {
            arguments.extend(["--set", set]);
        }
        arguments
    });
}

/// Arguments live as long as the test.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}
