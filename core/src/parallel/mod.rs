//! Several processes that train one model together, each on its share of every step.
//!
//! A process is a *rank*, numbered from 0, among `size` of them. Each holds the whole model and
//! reads its own micro-batches; gradients are summed over the ranks ([`Ranks::sum`]), so that all
//! take the same step. Rank 0 alone writes files and speaks to the user. What passes between the
//! ranks goes through a [`Ranks`], which a crate outside core brings ([`register_launcher!`]), as
//! the one for MPI does; core knows [`Alone`], a process by itself.
//!
//! Every rank must make the same calls of a [`Ranks`] in the same order. So what may fail on one
//! rank stands between such calls, and [`agree`] comes after it: either all go on or all end.
//! Where that is not possible the process that failed ends all of them ([`Ranks::abort`]).

mod agreement;
mod cores;
mod launch;
mod world;

pub(crate) use agreement::reworded;
pub use agreement::{agree, agree_with, first, settled};
pub use launch::{Launch, Launcher, launched};
pub use world::{Local, join, leave, local, only_one, threads, world};
pub(crate) use world::{end_all, is_first, rank_name, speaks};

use crate::error::Result;
use crate::stop;

/// The processes of a job, as one of them sees them. All calls but `rank`, `size` and `host` are
/// made by every rank, in the same order.
pub trait Ranks: Send + Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Name of the machine that this process is on.
    fn host(&self) -> String;

    /// Replaces `numbers` by their sums over all ranks, added in the order of the ranks whatever
    /// their number of elements or the network: the same bytes on every rank and every time.
    /// Every rank gives as many.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    fn sum(&self, numbers: &mut [f32]) -> Result<()>;

    /// What every rank gave, in the order of the ranks, on every rank.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    fn share(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// What every rank gave, in the order of the ranks, on rank 0; nothing on the others.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// What rank 0 gave, on every rank.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;

    /// Returns when every rank has called it, asleep until then: for waits that may be long.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    fn wait(&self) -> Result<()>;

    /// Ends all ranks at once, with this exit code.
    fn abort(&self, code: u8) -> !;

    /// Takes leave of the other ranks, in good order; nothing is called after it.
    fn leave(&self);
}

/// A process by itself: every sum is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn host(&self) -> String {
        "this machine".into()
    }

    fn sum(&self, _numbers: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn share(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        stop::end_at_once(code.into())
    }

    fn leave(&self) {}
}
