//! What of a run may change while it is trained, and what makes it another run.

use serde_json::{Map, Value};

use super::tree::Tree;
use super::{Plan, plan};
use crate::error::Result;
use crate::plain::differences;
use crate::seam::Pin;

/// What a resumed run may change; everything else would make it another run.
pub(crate) const RESUMABLE: [&str; 15] = [
    "backend",
    "train.steps",
    "train.micro_batch",
    "train.workers",
    "train.recompute",
    "train.eval_every",
    "train.eval_batches",
    "train.previews",
    "train.checkpoints",
    "train.max_rejected",
    "train.faults",
    "train.memory_check",
    "embed.",
    "probe.",
    "cost.",
];

/// Of a plan what says nothing of how its model is trained: where the data lie, words, and the
/// recipe's text, which the plan is built from.
const BESIDE: [&str; 4] = ["source", "reference", "summary", "recipe"];

/// The plan `of`, with these keys of its source set.
///
/// # Errors
/// As [`resolve`](super::resolve), where the source does not know them.
pub(crate) fn with_pins(of: &Plan, pins: &[Pin]) -> Result<Plan> {
    let mut tree = Tree::parse("the run's recipe", &of.recipe)?;
    for (keys, value) in pins {
        let keys = ["source".to_owned()].into_iter().chain(keys.iter().cloned()).collect();
        tree.overlay(Tree::of(keys, value.clone().into(), "what the source was at"));
    }
    plan::build(&tree, of.scale.clone())
}

/// What makes the trainings by two plans different ones, each of `places` the name of where its
/// plan is; empty where one may have become the other by going on with it.
pub(crate) fn other_training(one: &Plan, two: &Plan, places: [&str; 2]) -> Vec<String> {
    compared(one, two, places, |plan| parted(plan).0)
}

/// In what of the rest, which may change while a run is trained, two plans differ.
pub(crate) fn other_course(one: &Plan, two: &Plan, places: [&str; 2]) -> Vec<String> {
    compared(one, two, places, |plan| parted(plan).1)
}

fn compared(one: &Plan, two: &Plan, places: [&str; 2], part: fn(Value) -> Value) -> Vec<String> {
    let json = |plan: &Plan| serde_json::to_value(plan).ok().map(part);
    match (json(one), json(two)) {
        (Some(one), Some(two)) => differences("", &one, &two, places),
        _ => Vec::new(),
    }
}

/// What of a plan may not change, and by key what may.
fn parted(mut plan: Value) -> (Value, Value) {
    let mut take = |key: &str| {
        let mut path = key.trim_end_matches('.').split('.').rev();
        let last = path.next().unwrap_or_default();
        let table = path.rev().try_fold(&mut plan, |table, key| table.get_mut(key));
        table.and_then(Value::as_object_mut)?.remove(last)
    };
    let keep = |key: &&str| Some((key.trim_end_matches('.').to_owned(), take(key)?));
    let course: Map<String, Value> = RESUMABLE.iter().filter_map(keep).collect();
    BESIDE.iter().for_each(|key| drop(take(key)));
    (plan, course.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_run_may_change_leaves_it_the_same() {
        let plan = |steps: u64, rate: f64, layer: &str, path: &str| {
            json!({
                "source": { "path": path },
                "train": { "steps": steps, "peak_lr": rate, "faults": { "on": layer } },
                "embed": { "layer": layer },
            })
        };
        let places = ["here", "there"];
        let differ = |one, two| differences("", &parted(one).0, &parted(two).0, places);
        let begun = plan(6, 1e-3, "last", "a");
        assert!(differ(begun.clone(), plan(9, 1e-3, "middle", "b")).is_empty());
        let said = differ(begun.clone(), plan(6, 3e-3, "last", "a")).join(", ");
        assert_eq!(said, "train.peak_lr is 0.001 here and 0.003 there");
        let course = |one, two| differences("", &parted(one).1, &parted(two).1, places);
        assert!(course(begun.clone(), plan(6, 3e-3, "last", "b")).is_empty());
        let said = course(begun, plan(9, 1e-3, "last", "a")).join(", ");
        assert_eq!(said, "train.steps is 6 here and 9 there");
    }
}
