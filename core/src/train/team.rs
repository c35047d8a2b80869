//! One process's share of training: which micro-batches of a step are its own, and what the
//! processes tell each other of them.
//!
//! A step's micro-batches are dealt out in blocks: of p, rank r of n takes p/n in a row. What was
//! seen is put together in the order of the ranks, which is that of the stream. So the objects of
//! a step do not depend on the number of processes, and the sums of its gradients only in the
//! order of their terms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::{from_hex, to_hex};
use super::targets::Targets;
use super::watch::Uniform;
use crate::checkpoint::tensors::digest;
use crate::data::{Dataset, Drawn, SharedRejections};
use crate::engine::{Losses, Session, StepSettings};
use crate::error::{Error, Result};
use crate::parallel::{Ranks, agree, agree_with, first, settled};
use crate::recipe::TrainConfig;

/// What was seen of a step: by one process, or by all in the order of the stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Ids of the objects, by micro-batch.
    pub(super) ids: Vec<Vec<String>>,
    /// The objects as they were drawn.
    pub(super) drawn: Vec<Drawn>,
    /// By modality, whether its numbers were all the same.
    pub(super) uniform: BTreeMap<String, Uniform>,
    /// Tokens read.
    pub(super) tokens: u64,
    /// Targets of the micro-batches.
    pub(super) targets: Vec<Targets>,
    /// Losses of the micro-batches.
    pub(super) losses: Vec<Losses>,
}

/// A process among those that train together.
pub(super) struct Team<'a> {
    ranks: &'a dyn Ranks,
    rejections: SharedRejections,
    wishes: Wishes,
}

/// What is done after a step where one of the processes wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) stop: bool,
    pub(super) save: bool,
}

/// Checks that `size` processes can share the micro-batches of a step.
///
/// # Errors
/// When they cannot: what would do.
pub fn check_shares(train: &TrainConfig, size: usize) -> Result<()> {
    let (batch, micro) = (train.batch, train.micro_batch);
    let pieces = batch / micro;
    if pieces.is_multiple_of(size) {
        return Ok(());
    }
    let way_out = match batch.is_multiple_of(size) {
        true => {
            // The largest that is not larger than what the recipe asks for.
            let own = batch / size;
            let fits = (1..=own.min(micro)).rev().find(|micro| own.is_multiple_of(*micro));
            format!("set train.micro_batch={}", fits.unwrap_or(1))
        }
        false => format!("start as many processes as divide {batch}, or change train.batch"),
    };
    Err(Error::Misuse(format!(
        "train.batch = {batch} in pieces of train.micro_batch = {micro} makes {pieces} pieces, \
         which {size} processes cannot share equally; {way_out}"
    )))
}

impl<'a> Team<'a> {
    pub(super) fn new(ranks: &'a dyn Ranks, train: &TrainConfig) -> Result<Self> {
        check_shares(train, ranks.size())?;
        Ok(Self { ranks, rejections: SharedRejections::default(), wishes: Wishes::default() })
    }

    pub(super) fn ranks(&self) -> &'a dyn Ranks {
        self.ranks
    }

    /// Whether this process writes.
    pub(super) fn writes(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Number of micro-batches of a step that are this process's.
    pub(super) fn pieces(&self, train: &TrainConfig) -> usize {
        train.batch / train.micro_batch / self.ranks.size()
    }

    /// Where in the stream this process's micro-batches begin, counted from the first one of
    /// step `step` (from 0).
    pub(super) fn places(
        &self,
        train: &TrainConfig,
        step: u64,
    ) -> impl Fn(u64) -> u64 + Send + Sync + use<> {
        let (rank, mine) = (self.ranks.rank() as u64, self.pieces(train) as u64);
        let (batch, size) = (train.batch as u64, train.micro_batch as u64);
        move |k| (step + k / mine) * batch + (rank * mine + k % mine) * size
    }

    /// The targets of a step, from those of each process's share of it.
    ///
    /// # Errors
    /// What ended another one.
    pub(super) fn targets(&self, mine: Result<Targets>) -> Result<Targets> {
        let mut all = agree(self.ranks, mine)?;
        if self.ranks.size() > 1 {
            let theirs = self.ranks.share(&serde_json::to_vec(&all).map_err(wrong)?)?;
            all = Targets::default();
            for theirs in theirs {
                all.add(&serde_json::from_slice(&theirs).map_err(wrong)?);
            }
        }
        Ok(all)
    }

    /// Goes on with a step when every process has read its share of it; after the step all do what
    /// one of them wishes.
    ///
    /// # Errors
    /// What ended another one, or too many unusable objects.
    pub(super) fn agree(
        &mut self,
        seen: Result<Seen>,
        data: &Dataset,
        wishes: Wishes,
    ) -> Result<Seen> {
        let flags = [wishes.stop, wishes.save, self.rejections.has_news(data)];
        let (seen, [stop, save, news]) = agree_with(self.ranks, seen, flags)?;
        self.wishes = Wishes { stop, save };
        if news {
            self.rejections.tell(self.ranks, data)?;
        }
        Ok(seen)
    }

    /// Tells the others of this process's unusable objects, and hears of theirs.
    pub(super) fn tell_rejected(&mut self, data: &Dataset) -> Result<()> {
        self.rejections.tell(self.ranks, data)
    }

    /// Whether to stop after this step: the same on every process. One by itself is asked now.
    pub(super) fn stopping(&self, now: impl FnOnce() -> bool) -> bool {
        if self.ranks.size() == 1 { now() } else { self.wishes.stop }
    }

    /// Whether to save after this step: the same on every process. One by itself is asked now.
    pub(super) fn saving(&self, now: impl FnOnce() -> bool) -> bool {
        if self.ranks.size() == 1 { now() } else { self.wishes.save }
    }

    /// Sums the gradients of all processes.
    pub(super) fn sum_gradients(
        &self,
        session: &mut dyn Session,
        settings: &StepSettings,
    ) -> Result<()> {
        if self.ranks.size() == 1 { Ok(()) } else { session.sum_gradients(self.ranks, settings) }
    }

    /// What all processes saw of a step, on each of them.
    pub(super) fn join(&self, seen: Seen) -> Result<Seen> {
        if self.ranks.size() == 1 {
            return Ok(seen);
        }
        let mut all = Seen::default();
        for bytes in self.ranks.share(&encode(&seen)?)? {
            let theirs = decode(&bytes)?;
            all.ids.extend(theirs.ids);
            all.drawn.extend(theirs.drawn);
            all.tokens += theirs.tokens;
            Uniform::join(&mut all.uniform, theirs.uniform);
            all.targets.extend(theirs.targets);
            all.losses.extend(theirs.losses);
        }
        Ok(all)
    }

    /// An error that every process ends with at this point.
    pub(super) fn of_all(&self, error: Error) -> Error {
        settled(error)
    }

    /// Does `work`, which writes, on rank 0, where the others wait for it.
    pub(super) fn write(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        first(self.ranks, work).map(drop)
    }

    /// Compares the parameters of all processes, which took the same steps.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn compare(&self, session: &dyn Session, step: u64) -> Result<()> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let mine = agree(self.ranks, session.parameters())?;
        let mine = digest(&mine).to_le_bytes();
        let all = self.ranks.share(&mine)?;
        let Some(other) = all.iter().position(|theirs| *theirs != all[0]) else { return Ok(()) };
        Err(self.of_all(Error::Failed(format!(
            "after step {step} the parameters of process {other} differ from those of process 0, \
             though both took the same steps; nothing was saved after the last checkpoint. Machines \
             of one kind compute the same: look at the memory of that one, or leave it out"
        ))))
    }
}

/// Losses as their bits, which JSON keeps whatever they are.
#[derive(Serialize, Deserialize)]
pub(super) struct Bits(u32, BTreeMap<String, u32>);

impl From<&Losses> for Bits {
    fn from(losses: &Losses) -> Self {
        let modalities = losses.modalities.iter();
        Self(
            losses.total.to_bits(),
            modalities.map(|(name, loss)| (name.clone(), loss.to_bits())).collect(),
        )
    }
}

impl From<Bits> for Losses {
    fn from(Bits(total, modalities): Bits) -> Self {
        let modalities = modalities.into_iter();
        Self {
            total: f32::from_bits(total),
            modalities: modalities.map(|(name, loss)| (name, f32::from_bits(loss))).collect(),
        }
    }
}

fn wrong(error: serde_json::Error) -> Error {
    Error::Failed(format!("cannot read what another process has seen: {error}"))
}

/// [`Seen`] as it passes between processes.
type Sent = (
    Vec<Vec<String>>,
    Vec<(u64, u32, String)>,
    BTreeMap<String, Uniform>,
    u64,
    Vec<Targets>,
    Vec<Bits>,
);

fn encode(seen: &Seen) -> Result<Vec<u8>> {
    let drawn = seen.drawn.iter().map(|d| (d.position, d.attempt, to_hex(&d.id))).collect();
    let losses = seen.losses.iter().map(Bits::from).collect();
    let (ids, uniform, targets) = (seen.ids.clone(), seen.uniform.clone(), seen.targets.clone());
    let sent: Sent = (ids, drawn, uniform, seen.tokens, targets, losses);
    serde_json::to_vec(&sent).map_err(wrong)
}

fn decode(bytes: &[u8]) -> Result<Seen> {
    let (ids, drawn, uniform, tokens, targets, losses): Sent =
        serde_json::from_slice(bytes).map_err(wrong)?;
    let drawn = drawn.into_iter().map(|(position, attempt, id)| {
        let id = from_hex(&id).ok_or_else(|| Error::Failed(format!("{id:?} is no digest")))?;
        Ok(Drawn { position, attempt, id })
    });
    let losses = losses.into_iter().map(Losses::from).collect();
    Ok(Seen { ids, drawn: drawn.collect::<Result<_>>()?, uniform, tokens, targets, losses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TrainConfig;
    use crate::testkit::ranks::threads;

    fn train(batch: usize, micro_batch: usize) -> TrainConfig {
        let text = format!(
            "steps = 1\nbatch = {batch}\nmicro_batch = {micro_batch}\npeak_lr = 1.0\n\
             final_lr = 1.0\nwarmup_steps = 0\ndecay_steps = 1\nweight_decay = 0.0\nclip = 1.0\n\
             eval_every = 1\neval_batches = 1\nseed = 1\n"
        );
        toml::from_str(&text).expect("a training")
    }

    #[test]
    fn what_cannot_be_shared_says_what_would_do() {
        assert!(check_shares(&train(16, 4), 4).is_ok());
        let error = check_shares(&train(16, 8), 4).expect_err("two pieces").to_string();
        assert!(
            error.contains("2 pieces") && error.ends_with("set train.micro_batch=4"),
            "{error}"
        );
        let error = check_shares(&train(24, 8), 4).expect_err("three pieces").to_string();
        assert!(error.ends_with("set train.micro_batch=6"), "{error}");
        let error = check_shares(&train(6, 1), 4).expect_err("six pieces").to_string();
        assert!(error.contains("as many processes as divide 6"), "{error}");
    }

    /// Each position of the stream is read once, whatever the number of processes.
    #[test]
    fn micro_batches_are_dealt_out_once() {
        let train = train(16, 2);
        for size in [1, 2, 4, 8] {
            let mut all: Vec<u64> = threads(size, |ranks| {
                let team = Team::new(ranks, &train).expect("shared");
                let count = 3 * team.pieces(&train) as u64;
                (0..count).map(team.places(&train, 5)).collect::<Vec<_>>()
            })
            .concat();
            all.sort_unstable();
            let expected: Vec<u64> = (0..24).map(|piece| 5 * 16 + 2 * piece).collect();
            assert_eq!(all, expected, "{size} processes");
        }
    }

    #[test]
    fn what_was_seen_is_put_together_in_order() {
        let losses = |total| Losses { total, modalities: BTreeMap::from([("m".into(), f32::NAN)]) };
        let joined = threads(2, |ranks| {
            let team = Team::new(ranks, &train(2, 1)).expect("shared");
            let rank = ranks.rank();
            let id = format!("object \u{fc} {rank}");
            let drawn = vec![Drawn::new(rank as u64, 0, &id)];
            let losses = vec![losses(rank as f32 + 0.1)];
            let seen = Seen { ids: vec![vec![id]], drawn, tokens: 10, losses, ..Seen::default() };
            team.join(seen).expect("met")
        });
        for seen in joined {
            assert_eq!(seen.ids.concat(), ["object \u{fc} 0", "object \u{fc} 1"]);
            assert_eq!(seen.drawn[1], Drawn::new(1, 0, "object \u{fc} 1"));
            assert_eq!(seen.tokens, 20);
            assert_eq!(seen.losses.iter().map(|l| l.total).collect::<Vec<_>>(), [0.1, 1.1]);
            assert!(seen.losses[1].modalities["m"].is_nan());
        }
    }
}
