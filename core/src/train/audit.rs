//! The ledger of a run, replayed: the order of objects is a pure function of recipe, seed and
//! step, so that the data and the recipe alone must lead to the chain that the run wrote down.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Serialize;

use super::faults::{FAULTS, Fault};
use super::ledger::{Entry, LEDGER, chain, from_hex, to_hex};
use super::lines::read_lines;
use crate::data::{Dataset, Drawn, MAX_SUBSTITUTES, Rejected, Split};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::recipe::Plan;
use crate::run::{Manifest, RunFolder, TrainState};

/// What a replay has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// Steps replayed.
    pub steps: u64,
    /// Steps before the first of them: taken before the run kept a ledger, or imported.
    pub steps_before: u64,
    /// Objects drawn in these steps, each position of the stream once.
    pub draws: u64,
    /// Steps that were passed over because their numbers were wrong.
    pub steps_passed: u64,
    /// Of the draws, those at whose positions another object stood in for one that cannot be used.
    pub stood_in: u64,
    /// Objects of the training split.
    pub train_objects: u64,
    /// Of these, objects that trained the model.
    pub trained_objects: u64,
    /// Least draws of an object of the training split.
    pub least: u32,
    /// Median over the training split, the lower of the two in the middle.
    pub median: u32,
    /// Most draws of one object.
    pub most: u32,
    /// Objects of the validation split, none of which was drawn.
    pub validation_objects: u64,
    /// Objects of the test split, none of which was drawn.
    pub test_objects: u64,
    /// Checkpoints that are what was written, and whose state has the chain after their step.
    pub checkpoints: u64,
    /// The step of a best model that is of steps which a resumed run has yet to take again, and
    /// may take otherwise, as one of them was faulty.
    pub unproved: Option<u64>,
    /// The step of the last checkpoint, from which a resumed run goes on.
    pub last_checkpoint: Option<u64>,
    /// Steps after the last checkpoint, which a resumed run takes again.
    pub steps_after: u64,
    /// The chain's end, in hexadecimal.
    pub chain: String,
    /// Draws by object, in the order of the source.
    #[serde(skip)]
    pub counts: Vec<u32>,
}

/// A replay of a run's ledger against its data.
pub struct Audit<'a> {
    run: &'a RunFolder,
    plan: &'a Plan,
    data: &'a Dataset,
    path: PathBuf,
    entries: Vec<Entry>,
    rejected: Rejected,
    /// Steps that may have been passed over: the faulty ones, and those just before a roll-back.
    faulty: Vec<RangeInclusive<u64>>,
}

/// The ledger of `run`.
///
/// # Errors
/// When it has none, or one that is not what was written.
pub fn read_ledger(run: &RunFolder) -> Result<Vec<Entry>> {
    let entries: Vec<Entry> = read_lines(&run.verified(LEDGER)?)?;
    if entries.is_empty() {
        return Err(Error::Failed(format!(
            "{} keeps no ledger of its objects: it has taken no step yet, or was trained before \
             runs kept one ({LEDGER}); what it trained on cannot be proved",
            run.path().display()
        )));
    }
    Ok(entries)
}

impl<'a> Audit<'a> {
    /// Prepares to replay the ledger of `run`, which trained on `data`.
    ///
    /// # Errors
    /// As [`read_ledger`], and when the data are others than the run's.
    pub fn new(run: &'a RunFolder, manifest: &'a Manifest, data: &'a Dataset) -> Result<Self> {
        let entries = read_ledger(run)?;
        manifest.check_data(data, run.path())?;
        let (path, rejected) = (run.file(LEDGER), run.read_rejected()?);
        let faults: Vec<Fault> = read_lines(&run.verified(FAULTS)?)?;
        let passes = manifest.plan.train.faults.passes;
        let faulty = faults.iter().map(|fault| fault.passed(passes)).collect();
        Ok(Self { run, plan: &manifest.plan, data, path, entries, rejected, faulty })
    }

    /// Replays all steps.
    ///
    /// # Errors
    /// With the first step that was not taken on the objects that recipe and seed say, the first
    /// checkpoint of another chain, or an object that was trained on and is held out.
    pub fn replay(&self) -> Result<Audited> {
        let entries = &self.entries;
        let start = entries.first().map_or(1, |entry| entry.step.max(1));
        let mut counts = vec![0u32; self.data.len()];
        let (mut head, mut stood_in, mut chains) = (self.head_before(start)?, 0, Vec::new());
        let mut progress = Progress::new("audit", entries.len() as u64, 0);
        for (entry, step) in entries.iter().zip(start..) {
            let drawn = self.step(entry, step, &mut counts)?;
            head = chain(&head, step, &drawn);
            if to_hex(&head) != entry.chain {
                return Err(self.wrong(&format!(
                    "step {step} was taken on other objects than recipe and seed say, or a step \
                     before it is missing"
                )));
            }
            stood_in += entry.instead.len() as u64;
            chains.push((step, to_hex(&head)));
            progress.update(step + 1 - start, "steps");
        }
        self.held_out(&counts)?;
        let (checkpoints, last, unproved) = self.checkpoints(&chains)?;
        progress.finish(&format!("audit: {} steps", entries.len()));
        let splits = &self.data.splits;
        let mut times: Vec<u32> = splits.train.iter().map(|&k| counts[k as usize]).collect();
        times.sort_unstable();
        let steps_before = start - 1;
        Ok(Audited {
            steps: entries.len() as u64,
            steps_before,
            draws: entries.iter().map(|entry| entry.objects).sum(),
            steps_passed: entries.iter().filter(|entry| entry.objects == 0).count() as u64,
            stood_in,
            train_objects: times.len() as u64,
            trained_objects: times.iter().filter(|&&n| n > 0).count() as u64,
            least: times.first().copied().unwrap_or(0),
            median: times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or(0),
            most: times.last().copied().unwrap_or(0),
            validation_objects: splits.validation.len() as u64,
            test_objects: splits.test.len() as u64,
            checkpoints,
            unproved,
            last_checkpoint: self.run.checkpoints()?.last().map(|saved| saved.step),
            steps_after: (steps_before + entries.len() as u64).saturating_sub(last),
            chain: to_hex(&head),
            counts,
        })
    }

    /// The chain's end before `step`: that of a checkpoint, where a run went on without the ledger
    /// of the steps before.
    fn head_before(&self, step: u64) -> Result<[u8; 32]> {
        let before = self.run.checkpoints()?.into_iter().find(|saved| saved.step + 1 == step);
        let state = before.map(|saved| saved.state()).transpose()?;
        let head = state.and_then(|state| from_hex(&state.ledger?));
        Ok(head.unwrap_or_default())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::file(&self.path, format!("{what}; the audit fails"))
    }

    /// What `step` must have drawn, counted.
    fn step(&self, entry: &Entry, step: u64, counts: &mut [u32]) -> Result<Vec<Drawn>> {
        if (entry.step, entry.first, entry.objects) == (step, 0, 0) {
            return self.passed_over(step);
        }
        let batch = self.plan.train.batch as u64;
        let first = (step - 1).saturating_mul(batch);
        if step > self.plan.train.steps {
            let steps = self.plan.train.steps;
            return Err(self.wrong(&format!("has step {step} of a run of {steps}")));
        }
        if (entry.step, entry.first, entry.objects) != (step, first, batch) {
            return Err(self.wrong(&format!(
                "where step {step} was due, with the {batch} objects from position {first} on, it \
                 has step {} with {} from {} on",
                entry.step, entry.objects, entry.first
            )));
        }
        let position = |position: u64| {
            let attempt = entry.instead.get(&position).copied().unwrap_or(0);
            self.stands_in(step, position, attempt)?;
            let index = self.data.draw(position, attempt);
            counts[index as usize] += 1;
            Ok(Drawn::new(position, attempt, &self.data.id(index)))
        };
        (first..first + batch).map(position).collect()
    }

    /// A step that trained on nothing, as the list of faults must say.
    fn passed_over(&self, step: u64) -> Result<Vec<Drawn>> {
        if !self.faulty.iter().any(|steps| steps.contains(&step)) {
            return Err(
                self.wrong(&format!("step {step} trained on nothing, which {FAULTS} lacks"))
            );
        }
        Ok(Vec::new())
    }

    /// Checks that all draws before the `attempt`th at a position are of objects that cannot be
    /// used.
    fn stands_in(&self, step: u64, position: u64, attempt: u32) -> Result<()> {
        let passed_over = (0..attempt.min(MAX_SUBSTITUTES)).map(|k| self.data.draw(position, k));
        for id in passed_over.map(|index| self.data.id(index)) {
            if !self.rejected.contains_key(&id) {
                return Err(self.wrong(&format!(
                    "at step {step} another object stood in for {id}, which rejected.csv does not \
                     list"
                )));
            }
        }
        Ok(())
    }

    /// Checks that nothing was drawn that is held out, by index or by id.
    fn held_out(&self, counts: &[u32]) -> Result<()> {
        let mut held = BTreeSet::new();
        for split in [Split::Validation, Split::Test] {
            held.extend(self.data.splits.get(split).iter().map(|&index| self.data.id(index)));
        }
        let drawn = (0..).zip(counts).filter(|(_, times)| **times > 0);
        let mut both = drawn.map(|(index, _)| self.data.id(index)).filter(|id| held.contains(id));
        match both.next() {
            None => Ok(()),
            Some(id) => Err(Error::object(
                id,
                "was trained on, and the validation or test split holds an object of the same id; \
                 the audit fails",
            )),
        }
    }

    /// Compares the chain in every checkpoint with that after its step: how many there are, the last
    /// one's step, and the step of a best model of which nothing can be said yet.
    fn checkpoints(&self, chains: &[(u64, String)]) -> Result<(u64, u64, Option<u64>)> {
        let mut all = self.run.checkpoints()?;
        let last = all.last().map_or(0, |saved| saved.step);
        all.extend(self.run.best()?);
        let (mut checked, mut unproved) = (0, None);
        for saved in all {
            saved.verify()?;
            saved.is_of(self.run, self.plan)?;
            let state = saved.state()?;
            let Some(stated) = &state.ledger else { continue };
            let found = chains.iter().find(|(at, _)| *at == state.step);
            // What comes after the last checkpoint was undone when the run went back to that.
            let ahead = saved.step > last;
            let found = match found {
                Some((_, chain)) => Some(chain.clone()),
                None if ahead => self.ahead(chains.last(), &state),
                None => None,
            };
            if found.as_ref() == Some(stated) {
                checked += 1;
            } else if ahead && chains.last().is_none_or(|(at, _)| state.step > *at) {
                unproved = Some(state.step);
            } else {
                return Err(Error::file(
                    saved.path,
                    format!(
                        "was saved after step {} of another chain of objects than {LEDGER} has; \
                         the audit fails",
                        state.step
                    ),
                ));
            }
        }
        Ok((checked, last, unproved))
    }

    /// The chain after the steps that led from the ledger's end to `state`: a best model is kept
    /// when a run goes back to a checkpoint before it, and its steps are due again.
    fn ahead(&self, end: Option<&(u64, String)>, state: &TrainState) -> Option<String> {
        let (last, chained) = end?;
        let mut head = from_hex(chained)?;
        let batch = self.plan.train.batch as u64;
        for step in last + 1..=state.step.min(self.plan.train.steps) {
            let first = (step - 1).saturating_mul(batch);
            let drawn = match state.passed.contains(&step) {
                true => Vec::new(),
                false => (first..first + batch).map(|k| self.due(k)).collect::<Option<_>>()?,
            };
            head = chain(&head, step, &drawn);
        }
        Some(to_hex(&head))
    }

    /// What is due at a position: the first object that can be used.
    fn due(&self, position: u64) -> Option<Drawn> {
        (0..MAX_SUBSTITUTES).find_map(|attempt| {
            let id = self.data.id(self.data.draw(position, attempt));
            (!self.rejected.contains_key(&id)).then(|| Drawn::new(position, attempt, &id))
        })
    }
}
