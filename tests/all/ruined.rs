//! Models that an update has ruined: noticed at the next step, whichever that is, and left behind
//! for one that is known to be sound.

use std::path::Path;

use serde_json::Value;

use crate::faults::{copy, pretrain, state, table};
use crate::program::{astropt, fails, succeeds};
use crate::run::small;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The steps that were taken, with their losses.
fn losses(run: &Path) -> Vec<(u64, f64)> {
    let taken = lines(&run.join("metrics.jsonl")).into_iter().filter(|of| of["event"] == "train");
    taken.filter_map(|of| Some((of["step"].as_u64()?, of["loss"].as_f64()?))).collect()
}

/// Steps of the checkpoints, the best model apart.
fn checkpoints(run: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(run.join("checkpoints")).expect("readable").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut steps: Vec<u64> =
        names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

fn at_rate<'a>(out: &'a str, rate: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = small("pretrain", out, &[]);
    let keys = ["train.steps=30", "train.decay_steps=30", "train.eval_every=10"];
    [&[rate][..], &keys, more].concat().iter().for_each(|key| arguments.extend(["--set", key]));
    arguments
}

/// The first update of all ruins the model, at every default but the rate and the warm-up.
#[test]
fn an_explosion_at_the_first_step_ends_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = at_rate("r", "train.peak_lr=5", &["train.warmup_steps=0"]);
    let error = fails(folder.path(), &arguments, 1);
    assert!(error.contains("at step 2 the loss of"), "{error}");
    assert!(error.contains("train.faults.loss_above"), "{error}");
    assert!(error.contains("the update of step 1 has ruined the model"), "{error}");
    assert!(error.contains("step-000000") && error.contains("roll-back"), "{error}");
    assert!(error.contains("train.peak_lr") && !error.contains("look at these"), "{error}");
    let run = folder.path().join("r");
    assert_eq!(losses(&run).len(), 1, "no step was taken from a ruined model");
    let fault = &lines(&run.join("faults.jsonl"))[0];
    assert_eq!((&fault["step"], &fault["ruined"]), (&2.into(), &true.into()), "{fault}");
    // The same with a gradient limit alone.
    let keys = ["train.warmup_steps=0", "train.faults.loss_above=0"];
    let error = fails(folder.path(), &at_rate("n", "train.peak_lr=5", &keys), 1);
    assert!(error.contains("at step 2 the gradient's norm"), "{error}");
    // And with the run's last step, after which only the validation tells.
    let keys = ["train.warmup_steps=0", "train.steps=1", "train.decay_steps=1"];
    let error = fails(folder.path(), &at_rate("l", "train.peak_lr=5", &keys), 1);
    assert!(error.contains("the validation loss after the last step, 1, is"), "{error}");
    assert!(error.contains("The last checkpoint is that after step 0"), "{error}");
}

/// Neither roll-back nor pruning leaves nothing but ruined models.
#[test]
fn a_sound_model_is_left_whatever_is_rolled_back_and_pruned() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = [
        "train.warmup_steps=6",
        "train.checkpoints.every=2",
        "train.checkpoints.keep=1",
        "train.faults.on=roll-back",
    ];
    let error = fails(folder.path(), &at_rate("r", "train.peak_lr=10", &keys), 1);
    assert!(error.contains("train.peak_lr") && !error.contains("train.faults.passes"), "{error}");
    let run = folder.path().join("r");
    let first = losses(&run)[0].1;
    assert!(losses(&run).iter().all(|(_, loss)| *loss <= 1000.0 * first), "{:?}", losses(&run));
    for fault in lines(&run.join("faults.jsonl")) {
        let (step, back) = (fault["step"].as_u64(), fault["back_to"].as_u64());
        assert!(fault["done"] == "stopped" || back < step.map(|step| step - 1), "{fault}");
    }
    // Of those that are left one is from before the last step that was taken: it had a sound loss.
    let last = losses(&run).last().map_or(0, |(step, _)| *step);
    assert!(checkpoints(&run).iter().any(|&step| step < last), "{:?}", checkpoints(&run));
    succeeds(folder.path(), &["audit", "r", "-q"]);
}

/// A loss above the first one's is a ruin here, and the steps that led to it are passed over, again
/// and again, further and further back: the same bytes whenever the run was killed.
#[test]
fn leaving_a_ruined_model_behind_is_exact_and_resumes_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    table(folder.path());
    let policy = "train.faults={on='roll-back',loss_above=1.2,norm_above=0,limit=100,window=3}";
    let keys = [policy, "train.peak_lr=0.3", "train.checkpoints={every=2,keep=3}"];
    let output = astropt(folder.path(), &pretrain("whole", &keys));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let whole = folder.path().join("whole");
    let faults = lines(&whole.join("faults.jsonl"));
    assert!(faults.iter().any(|fault| fault["ruined"] == true), "{faults:?}");
    succeeds(folder.path(), &["audit", "whole", "-q"]);
    for cut in checkpoints(&whole) {
        let out = format!("cut-{cut}");
        let run = folder.path().join(&out);
        copy(&whole, &run);
        for step in checkpoints(&run).into_iter().filter(|step| *step > cut) {
            std::fs::remove_dir_all(run.join(format!("checkpoints/step-{step:06}")))
                .expect("there");
        }
        succeeds(folder.path(), &["pretrain", "-q", "--resume", "--out", &out]);
        assert!(state(&run) == state(&whole), "{out}");
        succeeds(folder.path(), &["audit", &out, "-q"]);
    }
}
