//! A source, its modalities and its splits, and the objects that turned out unusable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::assembly::Assembly;
use super::batch::{Batch, Purpose, Row};
use super::draw::Drawn;
use super::excerpt::{Excerpt, Loaded};
use super::objects::Objects;
use super::order::Order;
use super::place::Place;
use super::rejections::too_many_rejected;
use super::room::Room;
use super::sequence::{Objective, Sequence, Task};
use super::split::{Split, Splits};
use super::stream::{OrderWord, Packing, SpanOrder, StreamConfig};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::observation::{LabelUnits, Labels, Observation};
use crate::progress;
use crate::recipe::{DeadInputs, Modalities, Plan, data_place};
use crate::tokens::Tokens;

/// A span of at least so many numbers that are all the same is dead; fewer may be so by chance.
const DEAD_FROM: usize = 16;

/// How often an unusable object is replaced by another before the step gives up.
pub(crate) const MAX_SUBSTITUTES: u32 = 100;

/// The data of a plan, opened.
pub struct Dataset {
    objects: Objects,
    model: ModelConfig,
    /// Which objects train, validate and test.
    pub splits: Splits,
    order: Order,
    stream: StreamConfig,
    objective: Objective,
    seed: u64,
    dead: DeadInputs,
    rejected: Mutex<Rejected>,
    /// How many unusable objects a person was told of.
    told: AtomicUsize,
    /// Whether a person was told which objects are too long for a packed row.
    told_room: Once,
    budget: usize,
    /// Where the data lay when they were opened.
    place: Option<Place>,
}

/// Unusable objects by id, with the reason.
pub type Rejected = BTreeMap<String, String>;

impl Dataset {
    /// Opens the data of `plan`; relative paths start at `root`.
    ///
    /// # Errors
    /// When the source cannot be opened or nothing is left to train on.
    pub fn open(plan: &Plan, root: &Path) -> Result<Self> {
        let data = Self::open_to_read(plan, root)?;
        data.splits.check_training().map(|()| data)
    }

    /// As [`open`](Self::open), for work that trains nothing: whichever splits the objects are of.
    pub(crate) fn open_to_read(plan: &Plan, root: &Path) -> Result<Self> {
        let objects = Objects::open(plan, root)?;
        let source = objects.source.as_ref();
        let splits = Splits::of(source, &plan.split)?;
        Ok(Self {
            place: data_place(plan, root).map(Place::of),
            budget: (plan.train.max_rejected * source.len() as f64) as usize,
            model: plan.model_config()?,
            stream: plan.stream.clone(),
            objective: plan.objective,
            order: Order::new(splits.train.clone(), plan.train.seed, source.groups().as_ref()),
            splits,
            objects,
            seed: plan.train.seed,
            dead: plan.train.faults.dead,
            rejected: Mutex::new(Rejected::new()),
            told: AtomicUsize::new(0),
            told_room: Once::new(),
        })
    }

    /// Shape of the model these data are for.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// The modalities by name.
    pub fn modalities(&self) -> &Modalities {
        &self.objects.modalities
    }

    /// The source, and the modalities it is read through.
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What keeps the data as they are now; see [`Source::pins`](crate::seam::Source::pins).
    pub(crate) fn pins(&self) -> Vec<crate::seam::Pin> {
        self.objects.source.pins()
    }

    /// Whether the files that were read are what they were; see
    /// [`Source::unchanged`](crate::seam::Source::unchanged).
    ///
    /// # Errors
    /// The file that was changed.
    pub(crate) fn unchanged(&self) -> Result<()> {
        self.objects.source.unchanged()
    }

    /// Number of objects in all splits.
    pub fn len(&self) -> usize {
        self.objects.source.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.source.is_empty()
    }

    /// Id of object `index`.
    pub fn id(&self, index: u32) -> String {
        self.objects.source.id(index as usize)
    }

    /// Labels of object `index`.
    pub fn labels(&self, index: u32) -> Labels {
        self.objects.source.labels(index as usize)
    }

    /// Units of labels, as the data or the modalities state them.
    pub fn label_units(&self) -> &LabelUnits {
        &self.objects.label_units
    }

    /// The unusable objects met so far.
    pub fn rejected(&self) -> Rejected {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Rejected> {
        // A map of strings is whole whatever a panicking thread left undone.
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the unusable objects that an earlier part of the run met.
    pub fn resume_rejected(&self, earlier: Rejected) {
        self.lock().extend(earlier);
    }

    /// Number of unusable objects met so far.
    pub(crate) fn rejected_count(&self) -> usize {
        self.lock().len()
    }

    /// The unusable objects met so far that are not among `known`.
    pub(crate) fn rejected_beside(&self, known: &BTreeSet<String>) -> Rejected {
        let rejected = self.lock();
        let new = rejected.iter().filter(|(id, _)| !known.contains(*id));
        new.map(|(id, reason)| (id.clone(), reason.clone())).collect()
    }

    /// Whether so many unusable objects, the last because of `reason`, are allowed.
    ///
    /// # Errors
    /// When they are more than `train.max_rejected` allows.
    pub(crate) fn allow_rejected(&self, count: usize, reason: &str) -> Result<()> {
        match count > self.budget {
            true => Err(too_many_rejected(count, self.len(), &reason)),
            false => Ok(()),
        }
    }

    /// A digest of all objects' ids, their order and their splits: it changes when the
    /// data are not the same.
    pub fn digest(&self) -> String {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for split in [Split::Train, Split::Validation, Split::Test] {
            hash.update(split.name().as_bytes());
            for &index in self.splits.get(split) {
                hash.update(&index.to_le_bytes());
                hash.update(self.id(index).as_bytes());
                hash.update(&[0]);
            }
        }
        format!("{:032x}", hash.digest128())
    }

    /// Number of objects that have labels.
    pub fn labelled(&self) -> usize {
        self.objects.source.labelled()
    }

    /// Reads object `index`. An object that cannot be read or tokenised is `None`, and
    /// counted.
    ///
    /// # Errors
    /// When more objects are unusable than `train.max_rejected` allows, or a file that holds
    /// objects cannot be had at all.
    pub fn read(&self, index: u32) -> Result<Option<(Observation, Row)>> {
        let id = self.id(index);
        if self.lock().contains_key(&id) {
            return Ok(None);
        }
        match self.objects.read(index as usize).and_then(|object| self.check(object)) {
            Ok(object) => Ok(Some(object)),
            // No object's fault: which ones a run sees must not depend on a network.
            Err(error) if error.ends_work() => Err(error),
            Err(error) if self.place.as_ref().is_some_and(|place| place.is_gone(&error)) => {
                let what = "the folder was moved, emptied or unmounted while it was read";
                Err(Error::Failed(format!("{error}; {what}")))
            }
            Err(error) => {
                self.reject(id, &error)?;
                Ok(None)
            }
        }
    }

    fn check(&self, object: (Observation, Row)) -> Result<(Observation, Row)> {
        let tokens: usize = object.1.iter().map(|(_, tokens)| tokens.len).sum();
        self.objective
            .check_tokens(tokens, self.model.delimiters)
            .map_err(|message| Error::object(&object.0.id, message))?;
        if self.dead == DeadInputs::Reject
            && let Some((name, number)) = object.1.iter().find_map(dead)
        {
            let message = format!(
                "all numbers of its {name} tokens are {number}, as of a blank image; \
                 train.faults.dead = \"keep\" uses such objects"
            );
            return Err(Error::object(&object.0.id, message));
        }
        if self.dead == DeadInputs::Reject
            && let Some((name, what)) = object.1.iter().find_map(|span| self.dead_part(span))
        {
            let message = format!(
                "{what} ({name}), as where nothing was observed; train.faults.dead = \"keep\" uses \
                 such objects"
            );
            return Err(Error::object(&object.0.id, message));
        }
        Ok(object)
    }

    /// A part of a span that its modality knows to say nothing, and the modality's name.
    fn dead_part<'a>(&self, (name, tokens): &'a (String, Tokens)) -> Option<(&'a str, String)> {
        let what = self.objects.modalities.get(name)?.dead_part(tokens)?;
        Some((name, what))
    }

    /// The plain features of object `index`, read as `observation`, in `modality`; `None`
    /// where it has none.
    ///
    /// # Errors
    /// When the object cannot be used.
    pub fn raw_features(
        &self,
        index: u32,
        observation: &Observation,
        modality: &str,
    ) -> Result<Option<Vec<f32>>> {
        self.objects.raw_features(index as usize, observation, modality)
    }

    /// Of converted data, a few objects as they were before, with what the modalities make of
    /// them now; `None` where the data are not converted ones.
    ///
    /// # Errors
    /// When they are damaged or cannot be tokenised.
    pub(crate) fn originals(&self) -> Result<Option<Vec<(Observation, Row)>>> {
        let Some(made) = self.objects.source.tokenised() else { return Ok(None) };
        let mut found = Vec::new();
        for (_, observation) in made.originals()? {
            let row = self.objects.tokenise(&observation)?;
            if !row.is_empty() {
                found.push((observation, row));
            }
        }
        Ok(Some(found))
    }

    fn reject(&self, id: String, error: &Error) -> Result<()> {
        let mut rejected = self.lock();
        // The one too many is not listed: what ends the run must not stay left out of it.
        if rejected.len() >= self.budget && !rejected.contains_key(&id) {
            return Err(too_many_rejected(rejected.len() + 1, self.len(), error));
        }
        rejected.insert(id, error.to_string());
        drop(rejected);
        if self.told.fetch_max(1, Ordering::Relaxed) == 0 {
            progress::warn(&format!(
                "{error}: the first object that cannot be used; up to {} of {} are left out \
                 (train.max_rejected)",
                self.budget,
                self.len()
            ));
        }
        Ok(())
    }

    /// Tells how many objects could not be used, where that was not told yet.
    pub(crate) fn tell_rejected(&self) {
        let rejected = self.lock();
        let (count, first) = (rejected.len(), rejected.first_key_value());
        let Some((id, reason)) = first else { return };
        // A single one was told of when it was met; and again, for that may be long ago.
        if self.told.swap(count + 1, Ordering::Relaxed) != count + 1 {
            progress::warn(&format!(
                "{count} of {} objects could not be used and were left out (rejected.csv); one is \
                 {id}: {reason}",
                self.len()
            ));
        }
    }

    /// The training objects of positions `first..first + count` of the endless shuffled
    /// stream, as one batch. Unusable objects are replaced by others, so that which
    /// objects a step sees depends on seed and step alone; so are those that do not fit a packed
    /// row.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn train_batch(&self, first: u64, count: usize) -> Result<Batch> {
        self.told_room.call_once(|| self.tell_room());
        let upcoming = self.order.upcoming(first);
        if !upcoming.is_empty() {
            self.objects.source.expect(&upcoming);
        }
        let rows: Vec<_> =
            (first..first + count as u64).map(|k| self.train_row(k)).collect::<Result<_>>()?;
        let sequences = rows.iter().map(|(drawn, id, spans)| {
            // Each time an object comes up it is asked something else.
            let seed = self.seed ^ drawn.position.rotate_left(32);
            let tokens = spans.iter().map(|(_, tokens)| tokens.len).sum();
            Sequence { id, spans, task: self.objective.task(id, tokens, seed) }
        });
        let batch = self.assembly(true).batch(&sequences.collect::<Vec<_>>())?;
        Ok(Batch { drawn: rows.iter().map(|(drawn, ..)| *drawn).collect(), ..batch })
    }

    /// How sequences become batches, packed only where `pack` allows.
    fn assembly(&self, pack: bool) -> Assembly<'_> {
        let longest = || {
            let spans = self.model.modalities.values();
            let delimiters = if self.model.delimiters { 2 } else { 0 };
            spans.map(|spec| spec.max_tokens + delimiters).sum()
        };
        let packed = pack && self.stream.packing == Packing::Rows;
        Assembly {
            specs: &self.model.modalities,
            delimiters: self.model.delimiters,
            full: !self.objective.is_causal(),
            row_length: packed.then(|| self.stream.row_length.unwrap_or_else(longest)),
        }
    }

    /// What a packed row of training holds of one object.
    fn room(&self) -> Option<Room> {
        let Assembly { row_length, delimiters, .. } = self.assembly(true);
        let unread = self.objective.unread();
        row_length.map(|length| Room { length, delimiters, unread })
    }

    /// Says which objects will be too long for a packed row, where there may be such.
    fn tell_room(&self) {
        if let Some(what) = self.room().and_then(|room| room.beyond(&self.model.modalities)) {
            let (budget, all) = (self.budget, self.len());
            progress::warn(&format!(
                "{what}; up to {budget} of {all} objects may be left out (train.max_rejected)"
            ));
        }
    }

    /// Index of the object that training reads at `position` of its endless stream, on the
    /// `attempt`th try from 0: the further ones stand in for objects that cannot be used.
    pub fn draw(&self, position: u64, attempt: u32) -> u32 {
        match attempt {
            0 => self.order.at(position),
            _ => self.order.instead(position, attempt.into()),
        }
    }

    fn train_row(&self, k: u64) -> Result<(Drawn, String, Row)> {
        let room = self.room();
        for attempt in 0..MAX_SUBSTITUTES {
            if let Some((observation, mut row)) = self.read(self.draw(k, attempt))? {
                // Only here: evaluation and embedding give each object a row of its own.
                if let Some(Err(message)) = room.map(|room| room.check(&row)) {
                    let error = Error::object(&observation.id, message);
                    self.reject(observation.id, &error)?;
                    continue;
                }
                let epoch = k / self.splits.train.len() as u64;
                self.stream.arrange(&mut row, &observation.id, self.seed, epoch);
                self.stream.thin(&mut row, &observation.id, self.seed, epoch);
                return Ok((Drawn::new(k, attempt, &observation.id), observation.id, row));
            }
        }
        Err(Error::Failed(format!(
            "{MAX_SUBSTITUTES} training objects in a row cannot be used; see rejected.csv"
        )))
    }

    /// Puts the spans of object `id` in the order in which they are predicted after training.
    pub fn arrange(&self, id: &str, row: &mut Row) {
        self.stream.arrange(row, id, self.seed, 0);
    }

    /// Puts the spans of any object in the order in which hidden states are read of it.
    pub(crate) fn settle(&self, row: &mut Row) {
        self.stream.settle(row);
    }

    /// Whether the order of an object's spans differs from object to object.
    pub fn shuffles_spans(&self) -> bool {
        matches!(self.stream.order, SpanOrder::Word(OrderWord::Shuffled))
    }

    /// The first `count` usable objects of `split` in a shuffled order that does not
    /// change during a run: indices into the source.
    pub fn sample(&self, split: Split, count: usize) -> Vec<u32> {
        let objects = self.splits.get(split);
        let count = objects.len().min(count) as u64;
        let order = Order::new(objects.to_vec(), self.seed, self.objects.source.groups().as_ref());
        (0..count).map(|k| order.at(k)).collect()
    }

    /// The usable ones of these objects, read and chained for `purpose`, with their
    /// observations; of each object the `excerpt`. `None` when none is usable. What is read is
    /// chained in one order for all objects, so that it does not depend on their ids.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn batch(
        &self,
        indices: &[u32],
        purpose: Purpose,
        excerpt: &Excerpt,
    ) -> Result<Option<Loaded>> {
        let mut observations = Vec::new();
        let mut rows = Vec::new();
        let mut kept = Vec::new();
        for &index in indices {
            if let Some((observation, mut row)) = self.read(index)? {
                match purpose {
                    Purpose::Read => self.settle(&mut row),
                    Purpose::Predict => self.arrange(&observation.id, &mut row),
                }
                excerpt.cut(&mut row);
                if row.is_empty() {
                    continue;
                }
                rows.push((observation.id.clone(), row));
                observations.push(observation);
                kept.push(index);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let sequences = rows.iter().map(|(id, spans)| {
            let tokens = spans.iter().map(|(_, tokens)| tokens.len).sum();
            let task = match purpose {
                Purpose::Read => Task::Read,
                Purpose::Predict => self.objective.task(id, tokens, self.seed),
            };
            Sequence { id, spans, task }
        });
        // Never packed: rows are objects, for the reader of hidden states.
        let batch = self.assembly(false).batch(&sequences.collect::<Vec<_>>())?;
        Ok(Some(Loaded { indices: kept, observations, rows, batch }))
    }
}

/// The one number that a span holds over and over, and its modality.
fn dead((name, tokens): &(String, Tokens)) -> Option<(&str, f32)> {
    let first = *tokens.values.first().filter(|_| tokens.values.len() >= DEAD_FROM)?;
    // Ends at the first number that is another, as a rule the second.
    tokens.values.iter().all(|&number| number == first).then_some((name, first))
}
