//! Steps whose numbers are wrong: what is noticed, and what is written down of it.
//!
//! Nothing here is state that a checkpoint would have to carry: gradient norms are read back
//! from `metrics.jsonl`, faults from `faults.jsonl`, and both files are cut back to the
//! checkpoint when a run goes on. Only the steps that a roll-back passes over stand in the
//! checkpoint's `state.json`, for they lie ahead of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lines::{keep_lines, put_line, read_lines};
use super::metrics::{METRICS, MeanLosses, Metric};
use crate::data::{Batch, Part};
use crate::engine::StepReport;
use crate::error::Result;
use crate::recipe::{FEWEST_NORMS, FaultPolicy, OnFault};
use crate::run::TrainState;

/// File of [`Fault`] lines; there is none where nothing was wrong.
pub const FAULTS: &str = "faults.jsonl";

/// Tokens of a step, at least, for a modality that says nothing to be told of.
const FEW: usize = 8;
/// Ids that a message names.
const SHOWN: usize = 5;

/// One line of `faults.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The step that was about to be taken, counted from 1.
    pub step: u64,
    /// What is wrong with it.
    pub what: String,
    /// What was done about it.
    pub done: Done,
    /// Loss of the step, where it is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Global norm of its gradient, where that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// The modality that says nothing, where it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// Ids of the objects: of the micro-batches whose loss is not finite, else of the step.
    pub ids: Vec<String>,
}

/// What was done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// The run ended.
    Stopped,
    /// The step was left out.
    Skipped,
    /// The run went back to its last checkpoint.
    RolledBack,
    /// It was only said.
    Reported,
}

/// Watches the numbers of a training.
pub(crate) struct Watch {
    policy: FaultPolicy,
    path: PathBuf,
    /// Gradient norms of the last steps that were taken, the oldest first.
    norms: VecDeque<f64>,
    /// Faulty steps so far.
    faults: u64,
    /// Modalities that were told of.
    told: BTreeSet<String>,
    /// What this process has seen of each modality in this step.
    seen: BTreeMap<String, Uniform>,
    /// Whether this process writes the file.
    writes: bool,
}

/// Numbers of a modality: the bits of the first, whether all others are the same, and how many
/// tokens they are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Uniform {
    first: u32,
    same: bool,
    tokens: usize,
}

impl Uniform {
    /// Adds what another process has seen.
    pub(crate) fn join(all: &mut BTreeMap<String, Self>, theirs: BTreeMap<String, Self>) {
        for (name, other) in theirs {
            let Some(seen) = all.get_mut(&name) else {
                all.insert(name, other);
                continue;
            };
            seen.same &= other.same && seen.first == other.first;
            seen.tokens += other.tokens;
        }
    }
}

impl Watch {
    /// Goes on in `folder` where `state` left off. Later faults are cut off, but for those
    /// whose roll-back is still to be passed over; in the file too where this process `writes`.
    pub(crate) fn open(
        folder: &Path,
        policy: &FaultPolicy,
        state: &TrainState,
        writes: bool,
    ) -> Result<Self> {
        let path = folder.join(FAULTS);
        let keeps = |fault: &Fault| {
            let ahead = fault.done == Done::RolledBack && state.passed.contains(&fault.step);
            fault.step <= state.step || ahead
        };
        if writes {
            keep_lines(&path, keeps)?;
        }
        let mut kept: Vec<Fault> = read_lines(&path)?;
        kept.retain(keeps);
        let mut norms = VecDeque::new();
        if policy.norm_above > 0.0 {
            let metrics: Vec<Metric> = read_lines(&folder.join(METRICS))?;
            let taken = metrics.iter().filter_map(|metric| match metric {
                Metric::Train { step, grad_norm, .. } if *step <= state.step => Some(*grad_norm),
                _ => None,
            });
            norms.extend(taken);
            norms.drain(..norms.len().saturating_sub(policy.window));
        }
        Ok(Self {
            policy: policy.clone(),
            path,
            norms,
            faults: kept.iter().filter(|fault| fault.done != Done::Reported).count() as u64,
            told: kept.into_iter().filter_map(|fault| fault.modality).collect(),
            seen: BTreeMap::new(),
            writes,
        })
    }

    /// Faulty steps so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    /// The largest norm with which the next step is taken; `None` for any finite one.
    pub(crate) fn norm_limit(&self) -> Option<f64> {
        let known = self.policy.norm_above > 0.0 && self.norms.len() >= FEWEST_NORMS;
        known.then(|| self.policy.norm_above * median(&self.norms))
    }

    /// A step was taken with a gradient of this norm.
    pub(crate) fn taken(&mut self, grad_norm: f64) {
        self.norms.push_back(grad_norm);
        if self.norms.len() > self.policy.window {
            self.norms.pop_front();
        }
    }

    /// What is to be done about a fault: in the end the run stops.
    pub(crate) fn decide(&self) -> OnFault {
        if self.faults >= self.policy.limit { OnFault::Stop } else { self.policy.on }
    }

    /// The steps that are passed over after a roll-back from `step`.
    pub(crate) fn passes(&self, step: u64) -> std::ops::RangeInclusive<u64> {
        step.saturating_sub(self.policy.passes - 1).max(1)..=step
    }

    /// Looks at the inputs of one micro-batch of a step.
    pub(crate) fn look(&mut self, batch: &Batch) {
        for (name, part) in &batch.parts {
            if self.told.contains(name) {
                continue;
            }
            match self.seen.get_mut(name) {
                Some(seen) => {
                    seen.tokens += part.inputs.len.max(part.targets);
                    seen.same = seen.same && constant(part, f32::from_bits(seen.first));
                }
                None => {
                    let Some(first) = numbers(part).next() else { continue };
                    let same = constant(part, first);
                    let tokens = part.inputs.len.max(part.targets);
                    let first = first.to_bits();
                    self.seen.insert(name.clone(), Uniform { first, same, tokens });
                }
            }
        }
    }

    /// What this process has seen of the modalities since the last call.
    pub(crate) fn seen(&mut self) -> BTreeMap<String, Uniform> {
        std::mem::take(&mut self.seen)
    }

    /// Tells once of every modality whose tokens were all the same number in this step.
    pub(crate) fn dead_modalities(
        &mut self,
        step: u64,
        ids: &[Vec<String>],
        seen: BTreeMap<String, Uniform>,
    ) -> Result<Vec<Fault>> {
        let mut out = Vec::new();
        for (name, seen) in seen.into_iter().filter(|(_, seen)| seen.same && seen.tokens >= FEW) {
            let fault = Fault {
                step,
                what: format!(
                    "all {} tokens of {name} that the step reads are {}: the modality says \
                     nothing there",
                    seen.tokens,
                    f32::from_bits(seen.first)
                ),
                done: Done::Reported,
                loss: None,
                grad_norm: None,
                modality: Some(name.clone()),
                ids: ids.concat(),
            };
            self.append(&fault)?;
            self.told.insert(name);
            out.push(fault);
        }
        Ok(out)
    }

    /// Writes down a fault.
    pub(crate) fn write(&mut self, fault: &Fault) -> Result<()> {
        self.faults += 1;
        self.append(fault)
    }

    fn append(&self, fault: &Fault) -> Result<()> {
        if self.writes { put_line(&self.path, fault) } else { Ok(()) }
    }
}

/// The numbers, or the codes, that a batch has of a modality.
fn numbers(part: &Part) -> impl Iterator<Item = f32> {
    let pieces = part.inputs.values.iter().chain(part.target_values.iter());
    let values = pieces.flat_map(|piece| piece.iter()).copied();
    let codes = part.inputs.codes.iter().chain(&part.target_codes).map(|&code| code as f32);
    values.chain(codes)
}

/// Whether all of them are `first`; ends at the one that is not, as a rule the second.
fn constant(part: &Part, first: f32) -> bool {
    numbers(part).all(|number| number == first)
}

fn median(numbers: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = |k: usize| sorted.get(k).copied().unwrap_or(f64::INFINITY);
    match sorted.len() {
        odd if odd % 2 == 1 => middle(odd / 2),
        even => 0.5 * (middle((even / 2).saturating_sub(1)) + middle(even / 2)),
    }
}

impl Fault {
    /// What is wrong with a step that was not taken on the objects `ids`, by micro-batch.
    pub(crate) fn of(
        step: u64,
        report: &StepReport,
        norm_limit: Option<f64>,
        ids: &[Vec<String>],
        done: Done,
    ) -> Self {
        let mut mean = MeanLosses::default();
        report.losses.iter().for_each(|losses| mean.add(losses, 1.0));
        let (loss, grad_norm) = (mean.total(), f64::from(report.grad_norm));
        let endless = report.losses.iter().zip(ids).filter(|(losses, _)| !losses.total.is_finite());
        let mut blamed: Vec<String> = endless.flat_map(|(_, ids)| ids.clone()).collect();
        if blamed.is_empty() {
            blamed = ids.concat();
        }
        let what = match norm_limit {
            Some(limit) if loss.is_finite() && grad_norm.is_finite() => {
                format!("the gradient's norm is {grad_norm}, above the limit of {limit}")
            }
            _ => format!("the loss is {loss} and the gradient's norm {grad_norm}"),
        };
        let finite = |number: f64| Some(number).filter(|number| number.is_finite());
        Self {
            step,
            what,
            done,
            loss: finite(loss),
            grad_norm: finite(grad_norm),
            modality: None,
            ids: blamed,
        }
    }
}

/// The first of `ids`, and how many more there are.
pub(crate) fn listed(ids: &[String]) -> String {
    let first = ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at step {} {}, on objects {}", self.step, self.what, listed(&self.ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Losses;

    fn policy(on: OnFault) -> FaultPolicy {
        FaultPolicy { on, norm_above: 3.0, window: 4, limit: 2, ..FaultPolicy::default() }
    }

    #[test]
    fn a_gradient_explodes_above_the_running_median() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = policy(OnFault::Skip);
        let mut watch =
            Watch::open(folder.path(), &policy, &TrainState::default(), true).expect("a new run");
        for (norm, limit) in [(9.0, None), (1.0, None), (2.0, Some(15.0)), (3.0, Some(6.0))] {
            assert_eq!(watch.norm_limit(), limit, "before {norm}");
            watch.taken(norm);
        }
        assert_eq!(watch.norm_limit(), Some(7.5));
        watch.taken(4.0);
        assert_eq!(watch.norm_limit(), Some(7.5), "the oldest is forgotten");
    }

    #[test]
    fn faults_are_counted_through_resumes_and_end_the_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = policy(OnFault::RollBack);
        let losses = |total| Losses { total, ..Losses::default() };
        let report = StepReport {
            losses: vec![losses(1.0), losses(f32::INFINITY)],
            grad_norm: f32::NAN,
            taken: false,
        };
        let ids = [vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]];
        let mut watch =
            Watch::open(folder.path(), &policy, &TrainState::default(), true).expect("a new run");
        for step in [3, 6] {
            assert_eq!(watch.decide(), OnFault::RollBack);
            let fault = Fault::of(step, &report, None, &ids, Done::RolledBack);
            assert_eq!(fault.ids, ["b", "c"], "the micro-batch that is endless");
            watch.write(&fault).expect("writable");
        }
        assert_eq!(watch.decide(), OnFault::Stop);
        // A run that goes on from step 4 has seen one of them, or both if it is to pass over 6.
        let at = |passed: &[u64]| {
            let state = TrainState { step: 4, passed: passed.into(), ..TrainState::default() };
            Watch::open(folder.path(), &policy, &state, true).expect("a run").faults()
        };
        assert_eq!(at(&[3, 6]), 2);
        assert_eq!(at(&[3]), 1);
    }

    #[test]
    fn a_modality_that_says_nothing_is_told_of_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = TrainState { step: 9, ..TrainState::default() };
        let batch = |values: &[f32]| {
            let mut part = Part::default();
            (part.inputs.len, part.inputs.values) = (values.len(), values.to_vec().into());
            Batch { parts: [("flux".to_owned(), part)].into(), ..Batch::default() }
        };
        let policy = FaultPolicy::default();
        let mut watch = Watch::open(folder.path(), &policy, &state, true).expect("a run");
        let ids = [vec!["a".to_owned()]];
        for (values, dead) in [([0.5; 8], false), ([0.0; 8], true), ([0.0; 8], false)] {
            watch.look(&batch(&values));
            let mut other = values;
            other[7] += if dead { 0.0 } else { 1.0 };
            watch.look(&batch(&other));
            let seen = watch.seen();
            let told = watch.dead_modalities(9, &ids, seen).expect("writable");
            assert_eq!(told.len(), usize::from(dead), "{told:?}");
        }
        let again = Watch::open(folder.path(), &policy, &state, true).expect("a run");
        assert!(again.told.contains("flux"), "a resumed run has said it already");
        assert_eq!(again.faults(), 0);
    }
}
