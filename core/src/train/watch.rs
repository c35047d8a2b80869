//! What is noticed of steps whose numbers are wrong.
//!
//! A step's losses are those of the parameters before it. Where no micro-batch has a sound one the
//! step before has ruined the model; and a checkpoint is known to be sound once a step was taken
//! from it.
//!
//! Nothing here is state that a checkpoint would have to carry: losses and gradient norms are read
//! back from `metrics.jsonl`, faults from `faults.jsonl`, and both files are cut back to the
//! checkpoint when a run goes on. Only the steps that a roll-back passes over stand in the
//! checkpoint's `state.json`, for they lie ahead of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::faults::{Done, FAULTS, Fault};
use super::lines::{keep_lines, put_line, read_lines};
use super::metrics::{METRICS, Metric};
use crate::data::{Batch, Part};
use crate::engine::{Losses, StepSettings};
use crate::error::Result;
use crate::recipe::{FaultPolicy, OnFault};
use crate::run::TrainState;

/// Tokens of a step, at least, for a modality that says nothing to be told of.
const FEW: usize = 8;
/// Watches the numbers of a training.
pub(crate) struct Watch {
    policy: FaultPolicy,
    path: PathBuf,
    /// Gradient norms above 0 of the last steps that were taken, the oldest first.
    norms: VecDeque<f64>,
    /// Loss of the first step that was taken and had one above 0.
    first_loss: Option<f64>,
    /// The last step that was taken; 0 before there is one.
    last: u64,
    /// Checkpoints that were gone back to as the model was ruined, and the step at which it was.
    spent: BTreeMap<u64, u64>,
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
        let mut watch = Self {
            policy: policy.clone(),
            path,
            norms: VecDeque::new(),
            first_loss: None,
            last: 0,
            spent: BTreeMap::new(),
            faults: kept.iter().filter(|fault| fault.done != Done::Reported).count() as u64,
            told: kept.iter().filter_map(|fault| fault.modality.clone()).collect(),
            seen: BTreeMap::new(),
            writes,
        };
        for metric in read_lines(&folder.join(METRICS))? {
            match metric {
                Metric::Train { step, loss, grad_norm, .. } if step <= state.step => {
                    watch.taken(step, loss, grad_norm);
                }
                _ => {}
            }
        }
        for fault in &kept {
            let Some(back_to) = fault.back_to else { continue };
            // What lay after it was undone then.
            watch.spent.retain(|step, _| *step <= back_to);
            if fault.ruined {
                watch.spent.insert(back_to, fault.step);
            }
        }
        Ok(watch)
    }

    /// Faulty steps so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    /// The last step that was taken: the loss of every checkpoint from before it was sound.
    pub(crate) fn last_taken(&self) -> u64 {
        self.last
    }

    /// The largest loss of a micro-batch with which the next step is taken; `None` for any finite
    /// one. The first step's stays its measure, however losses grow later.
    pub(crate) fn loss_limit(&self) -> Option<f64> {
        let above = self.policy.loss_above;
        self.first_loss.filter(|_| above > 0.0).map(|first| above * first)
    }

    /// The largest norm with which the next step is taken; `None` for any finite one.
    fn norm_limit(&self) -> Option<f64> {
        let above = self.policy.norm_above;
        median(&self.norms).filter(|_| above > 0.0).map(|median| above * median)
    }

    /// `settings` with the limits of the next step.
    pub(crate) fn limited(&self, settings: StepSettings) -> StepSettings {
        let (norm_limit, loss_limit) = (self.norm_limit(), self.loss_limit());
        StepSettings { norm_limit, loss_limit, ..settings }
    }

    /// `step` was taken, with this loss before it and a gradient of this norm.
    pub(crate) fn taken(&mut self, step: u64, loss: f64, grad_norm: f64) {
        self.last = step;
        self.first_loss = self.first_loss.or(Some(loss).filter(|loss| *loss > 0.0));
        if grad_norm > 0.0 {
            self.norms.push_back(grad_norm);
        }
        if self.norms.len() > self.policy.window {
            self.norms.pop_front();
        }
    }

    /// Whether a step with these losses, that was not taken, shows that the step before it has
    /// ruined the model: none of them is sound.
    pub(crate) fn ruined(&self, losses: &[Losses], settings: &StepSettings) -> bool {
        self.last > 0 && !losses.iter().any(|losses| settings.bears(losses.total))
    }

    /// Whether going back to the checkpoint after `back_to` has not helped against a ruined model
    /// of late, counted from `step`.
    pub(crate) fn is_spent(&self, back_to: u64, step: u64) -> bool {
        let late = |at: &u64| step.saturating_sub(*at) < self.policy.window as u64;
        self.spent.get(&back_to).is_some_and(late)
    }

    /// What is to be done about a fault: in the end the run stops.
    pub(crate) fn decide(&self) -> OnFault {
        if self.faults >= self.policy.limit { OnFault::Stop } else { self.policy.on }
    }

    /// The steps that are passed over after a roll-back from `step`: the one before it too where
    /// that has `ruined` the model.
    pub(crate) fn passes(&self, step: u64, ruined: bool) -> RangeInclusive<u64> {
        let first = step.saturating_sub(self.policy.passes - 1).max(1);
        (if ruined { first.min(self.last) } else { first })..=step
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
                ruined: false,
                back_to: None,
                passed_from: None,
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

/// The lower of the two in the middle: a single large number among two changes nothing.
fn median(numbers: &VecDeque<f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::StepReport;

    fn policy(on: OnFault) -> FaultPolicy {
        FaultPolicy { on, norm_above: 3.0, window: 4, limit: 2, ..FaultPolicy::default() }
    }

    #[test]
    fn a_gradient_explodes_above_the_running_median() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = policy(OnFault::Skip);
        let mut watch =
            Watch::open(folder.path(), &policy, &TrainState::default(), true).expect("a new run");
        let norms = [(9.0, None), (1.0, Some(27.0)), (0.0, Some(3.0)), (2.0, Some(3.0))];
        for (step, (norm, limit)) in (1..).zip(norms) {
            assert_eq!(watch.norm_limit(), limit, "before {norm}");
            watch.taken(step, 1.0, norm);
        }
        assert_eq!(watch.norm_limit(), Some(6.0), "nothing is learnt of 0");
        watch.taken(5, 1.0, 3.0);
        assert_eq!(watch.norm_limit(), Some(6.0));
        watch.taken(6, 1.0, 4.0);
        assert_eq!(watch.norm_limit(), Some(6.0), "the oldest is forgotten");
        watch.taken(7, 1.0, 4.0);
        assert_eq!(watch.norm_limit(), Some(9.0));
    }

    /// The first loss is the measure of all, and a step without a sound one shows that the step
    /// before it has ruined the model.
    #[test]
    fn a_loss_explodes_above_the_first_and_a_ruined_model_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = FaultPolicy { loss_above: 10.0, passes: 1, ..policy(OnFault::RollBack) };
        let mut watch =
            Watch::open(folder.path(), &policy, &TrainState::default(), true).expect("a new run");
        let limited = |watch: &Watch| watch.limited(StepSettings::new(1e-3));
        let losses = |total| Losses { total, ..Losses::default() };
        assert!(!watch.ruined(&[losses(f32::NAN)], &limited(&watch)), "no step was taken");
        for (step, loss, limit) in [(1, 0.0, None), (2, 0.5, None), (4, 4.0, Some(5.0))] {
            assert_eq!(watch.loss_limit(), limit);
            watch.taken(step, loss, 1.0);
        }
        let settings = limited(&watch);
        assert_eq!(settings.loss_limit, Some(5.0), "whatever losses came later");
        let of = |all: &[f32]| {
            let losses: Vec<Losses> = all.iter().map(|&total| losses(total)).collect();
            let ruined = watch.ruined(&losses, &settings);
            let report = StepReport { losses, grad_norm: 1.0, taken: false };
            let ids = [vec!["a".to_owned()], vec!["b".to_owned()]];
            let loss = all.iter().sum::<f32>().into();
            (ruined, Fault::of(5, &report, loss, &settings, &ids, Done::Stopped))
        };
        let (ruined, fault) = of(&[4.0, 6.0]);
        assert!(!ruined && fault.ids == ["b"], "{fault}");
        assert!(fault.what.contains("1 of 2 micro-batches is above the limit of 5"), "{fault}");
        assert_eq!(watch.passes(6, ruined), 6..=6);
        let (ruined, fault) = of(&[7.0, f32::INFINITY]);
        assert!(ruined && fault.ids == ["a", "b"] && fault.what.contains("inf"), "{fault}");
        assert_eq!(watch.passes(6, ruined), 4..=6, "step 5 was passed over, 4 has ruined it");
    }

    /// Going back to a checkpoint that did not help is not tried again, unless much later; nor is
    /// that forgotten when a run goes on.
    #[test]
    fn a_checkpoint_that_did_not_help_is_spent() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = FaultPolicy { limit: 9, ..policy(OnFault::RollBack) };
        let settings = StepSettings::new(1e-3);
        let report = StepReport { losses: Vec::new(), grad_norm: f32::NAN, taken: false };
        let state = |passed: &[u64]| TrainState { passed: passed.into(), ..TrainState::default() };
        let open = |passed: &[u64]| {
            Watch::open(folder.path(), &policy, &state(passed), true).expect("a run")
        };
        let rolled_back = |step, back_to| Fault {
            ruined: true,
            back_to: Some(back_to),
            passed_from: Some(step - 1),
            ..Fault::of(step, &report, f64::NAN, &settings, &[], Done::RolledBack)
        };
        let mut watch = open(&[]);
        watch.write(&rolled_back(9, 6)).expect("writable");
        let mut watch = open(&[8, 9]);
        assert!(watch.is_spent(6, 11) && !watch.is_spent(4, 11));
        assert!(!watch.is_spent(6, 13), "four steps on, which is the window");
        watch.write(&rolled_back(11, 4)).expect("writable");
        let watch = open(&[8, 9, 10, 11]);
        assert!(watch.is_spent(4, 11) && !watch.is_spent(6, 11), "6 is another one by now");
        assert_eq!(rolled_back(9, 6).passed(1), 8..=9);
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
            let settings = StepSettings::new(1e-3);
            let loss = f64::INFINITY;
            let fault = Fault::of(step, &report, loss, &settings, &ids, Done::RolledBack);
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
