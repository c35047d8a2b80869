//! The ranks that this process is one of.

use std::sync::OnceLock;

use super::agreement::is_settled;
use super::cores::{self, Place};
use super::{Alone, Launcher, Ranks, launched};
use crate::error::{Error, Result};
use crate::progress;

struct World {
    ranks: Box<dyn Ranks>,
    local: Local,
    threads: usize,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// A process among those of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its number among them, from 0.
    pub rank: usize,
    /// How many they are.
    pub size: usize,
}

/// The ranks this process is one of: those it has [`join`]ed, else itself alone.
pub fn world() -> &'static dyn Ranks {
    WORLD.get().map_or(&Alone, |world| world.ranks.as_ref())
}

/// This process among those of its machine.
pub fn local() -> Local {
    WORLD.get().map_or(Local { rank: 0, size: 1 }, |world| world.local)
}

/// Threads that this process should compute with, where it shares its machine.
pub fn threads() -> Option<usize> {
    WORLD.get().map(|world| world.threads)
}

/// Meets the processes that were started with this one, if any were, and takes its share of the
/// machine's processors. Called before anything computes.
///
/// # Errors
/// When several were started and the program has no way to reach the others, or another one
/// than the launcher's.
pub fn join() -> Result<&'static dyn Ranks> {
    let Some(launch) = launched() else { return Ok(world()) };
    let Some(launcher) = inventory::iter::<Launcher>.into_iter().next() else {
        return Err(Error::Misuse(format!(
            "{} started {} processes, and this program was built to work in one: each would do \
             the whole work. Build it with `--features mpi`, start it without {0}, or, if each \
             is to work by itself, unset {}",
            launch.by, launch.size, launch.variable
        )));
    };
    let ranks = (launcher.join)()?;
    if ranks.size() != launch.size {
        return Err(Error::Failed(format!(
            "{} started {} processes, and {} sees {}: the program was built with another \
             implementation of it than {0} belongs to; build it with that one, or, with Slurm, try \
             `srun --mpi=pmix` or `--mpi=pmi2`",
            launch.by,
            launch.size,
            launcher.name,
            ranks.size()
        )));
    }
    let world = settle_in(ranks)?;
    if WORLD.set(world).is_err() {
        return Err(Error::Failed("the processes met twice; this is a bug".into()));
    }
    Ok(self::world())
}

/// Shares out the processors of each machine.
fn settle_in(ranks: Box<dyn Ranks>) -> Result<World> {
    let rank = ranks.rank();
    let wrong = |e: serde_json::Error| Error::Failed(format!("the processes did not meet: {e}"));
    let mine = serde_json::to_vec(&Place::here(ranks.host())).map_err(wrong)?;
    let places = ranks.share(&mine)?;
    let places: Vec<Place> = places
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).map_err(wrong))
        .collect::<Result<_>>()?;
    let on_host = |places: &[Place]| places.iter().filter(|p| p.host == ranks.host()).count();
    let local = Local { rank: on_host(&places[..rank]), size: on_host(&places) };
    let wished = std::env::var("RAYON_NUM_THREADS").ok();
    let wished = wished.and_then(|n| n.parse::<usize>().ok()).filter(|&n| n > 0);
    let threads = wished.unwrap_or_else(|| cores::threads(&places, rank));
    // Refused where the pool is there already, which then stays as it is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    if rank == 0 {
        cores::advice(&places).iter().for_each(|advice| progress::warn(advice));
    } else {
        progress::set_silent();
    }
    Ok(World { ranks, local, threads })
}

/// Refuses to do as one of several processes what `what` names.
///
/// # Errors
/// When the process was started together with others.
pub fn only_one(what: &str) -> Result<()> {
    match launched() {
        None => Ok(()),
        Some(launch) => Err(Error::Misuse(format!(
            "`astropt {what}` works in one process, and {} started {}: start it without {0}, or, \
             if each is to work by itself, unset {}",
            launch.by, launch.size, launch.variable
        ))),
    }
}

/// Whether this process writes files and results: rank 0.
pub(crate) fn is_first() -> bool {
    world().rank() == 0
}

/// Whether this process tells of the error it ends with: rank 0, or any whose error the others
/// do not know.
pub(crate) fn speaks(error: &Error) -> bool {
    is_first() || !is_settled(error)
}

/// `process 1 of 2 on HOST: ` before an error that is this process's own; nothing when there is
/// one process, or all end with the error.
pub(crate) fn rank_name(error: &Error) -> String {
    let ranks = world();
    match ranks.size() == 1 || is_settled(error) {
        true => String::new(),
        false => format!("process {} of {} on {}: ", ranks.rank(), ranks.size(), ranks.host()),
    }
}

/// After an error that ends this process: ends the others too, where they do not know.
pub(crate) fn end_all(error: &Error) {
    if world().size() > 1 && !is_settled(error) {
        world().abort(error.exit_code());
    }
}

/// Takes leave of the other processes, in good order. Called last.
pub fn leave() {
    world().leave();
}
