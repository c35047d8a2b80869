//! The processes of `MPI_COMM_WORLD`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use astropt_core::error::{Error, Result};
use astropt_core::parallel::Ranks;
use astropt_core::register_launcher;
use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::{self, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

register_launcher!("MPI", join);

/// Numbers that travel at once: memory for as many more is all that a sum needs, and MPI counts
/// in 32 bits.
const PIECE: usize = 1 << 22;
/// Below so many numbers a sum is a matter of delay alone.
const SMALL: usize = 1 << 12;
/// Bytes of one message, which MPI counts in 32 bits.
const MESSAGE: usize = 1 << 30;
/// Time between looks at whether the others have come.
const NAP: Duration = Duration::from_millis(5);

/// The processes, and the library as long as it is used.
struct World {
    universe: Mutex<Option<Universe>>,
    rank: usize,
    size: usize,
    host: String,
}

fn join() -> Result<Box<dyn Ranks>> {
    let (universe, threading) = environment::initialize_with_threading(Threading::Serialized)
        .ok_or_else(|| {
            Error::Failed("MPI was initialised before AstroPT came to it; this is a bug".into())
        })?;
    if threading < Threading::Funneled {
        return Err(Error::Failed(
            "this MPI library cannot be used by a program with threads; use one that was built \
             with MPI_THREAD_FUNNELED or more"
                .into(),
        ));
    }
    let world = universe.world();
    let host = environment::processor_name().unwrap_or_else(|_| "a machine without a name".into());
    Ok(Box::new(World {
        rank: world.rank() as usize,
        size: world.size() as usize,
        universe: Mutex::new(Some(universe)),
        host,
    }))
}

/// Where each of `size` parts of `count` elements begins and how long it is.
fn parts(count: usize, size: usize) -> (Vec<i32>, Vec<i32>) {
    let begin = |rank: usize| (count * rank / size) as i32;
    let begins: Vec<i32> = (0..size).map(begin).collect();
    let lengths = (0..size).map(|rank| begin(rank + 1) - begin(rank)).collect();
    (begins, lengths)
}

/// `lengths` one after the other.
fn in_a_row(lengths: &[i32]) -> Vec<i32> {
    let mut begin = 0;
    let next = |length: &i32| {
        begin += length;
        begin - length
    };
    lengths.iter().map(next).collect()
}

impl World {
    fn world(&self) -> SimpleCommunicator {
        SimpleCommunicator::world()
    }

    /// Every rank gives its numbers to all, and adds up what it got in the order of the ranks.
    fn sum_small(&self, numbers: &mut [f32]) {
        let mut all = vec![0.0f32; numbers.len() * self.size];
        self.world().all_gather_into(&*numbers, &mut all[..]);
        add_up(&all, numbers);
    }

    /// Every rank adds up a part of the numbers, in the order of the ranks, and gives the sums to
    /// all: each number travels there and back once, as with MPI's own sums, whose order
    /// of terms is the library's affair.
    fn sum_piece(&self, numbers: &mut [f32], theirs: &mut Vec<f32>) {
        let (begins, lengths) = parts(numbers.len(), self.size);
        let mine = lengths[self.rank];
        let same = vec![mine; self.size];
        theirs.resize(mine as usize * self.size, 0.0);
        let send = Partition::new(&*numbers, &lengths[..], &begins[..]);
        let places = in_a_row(&same);
        let mut receive = PartitionMut::new(&mut theirs[..], &same[..], &places[..]);
        self.world().all_to_all_varcount_into(&send, &mut receive);
        let mut sums = vec![0.0f32; mine as usize];
        add_up(theirs, &mut sums);
        let mut receive = PartitionMut::new(numbers, &lengths[..], &begins[..]);
        self.world().all_gather_varcount_into(&sums[..], &mut receive);
    }

    /// How many bytes each rank has.
    fn lengths(&self, bytes: &[u8]) -> Result<Vec<i32>> {
        let mut lengths = vec![0u64; self.size];
        self.world().all_gather_into(&(bytes.len() as u64), &mut lengths[..]);
        if lengths.iter().sum::<u64>() > MESSAGE as u64 {
            return Err(Error::Failed(format!(
                "the processes have {} bytes to tell each other at once, more than MPI takes; a \
                 smaller embed.batch or train.batch has less",
                lengths.iter().sum::<u64>()
            )));
        }
        Ok(lengths.into_iter().map(|length| length as i32).collect())
    }
}

/// The sums of rows of as many numbers as `sums` has, the first row first.
fn add_up(rows: &[f32], sums: &mut [f32]) {
    let Some(length) = Some(sums.len()).filter(|length| *length > 0) else { return };
    let mut rows = rows.chunks_exact(length);
    if let Some(first) = rows.next() {
        sums.copy_from_slice(first);
    }
    rows.for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
}

/// `all` cut into pieces of these lengths.
fn cut(all: &[u8], lengths: &[i32]) -> Vec<Vec<u8>> {
    let mut rest = all;
    let piece = |length: &i32| {
        let (piece, after) = rest.split_at(*length as usize);
        rest = after;
        piece.to_vec()
    };
    lengths.iter().map(piece).collect()
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn sum(&self, numbers: &mut [f32]) -> Result<()> {
        if numbers.len() < SMALL {
            self.sum_small(numbers);
            return Ok(());
        }
        let mut theirs = Vec::new();
        numbers.chunks_mut(PIECE).for_each(|piece| self.sum_piece(piece, &mut theirs));
        Ok(())
    }

    fn share(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.lengths(bytes)?;
        let mut all = vec![0u8; lengths.iter().sum::<i32>() as usize];
        let places = in_a_row(&lengths);
        let mut receive = PartitionMut::new(&mut all[..], &lengths[..], &places[..]);
        self.world().all_gather_varcount_into(bytes, &mut receive);
        Ok(cut(&all, &lengths))
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.lengths(bytes)?;
        let world = self.world();
        let root = world.process_at_rank(0);
        if self.rank > 0 {
            root.gather_varcount_into(bytes);
            return Ok(Vec::new());
        }
        let mut all = vec![0u8; lengths.iter().sum::<i32>() as usize];
        let places = in_a_row(&lengths);
        let mut receive = PartitionMut::new(&mut all[..], &lengths[..], &places[..]);
        root.gather_varcount_into_root(bytes, &mut receive);
        Ok(cut(&all, &lengths))
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut bytes = if self.rank == 0 { bytes } else { Vec::new() };
        let length = self.lengths(&bytes)?[0];
        bytes.resize(length as usize, 0);
        self.world().process_at_rank(0).broadcast_into(&mut bytes[..]);
        Ok(bytes)
    }

    fn wait(&self) -> Result<()> {
        let world = self.world();
        let mut request = world.immediate_barrier();
        while let Err(still) = request.test() {
            request = still;
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    fn abort(&self, code: u8) -> ! {
        self.world().abort(code.into())
    }

    fn leave(&self) {
        // Dropped, the library takes leave of the other processes.
        drop(self.universe.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_once() {
        for (count, size) in [(10, 3), (2, 4), (1 << 22, 7)] {
            let (begins, lengths) = parts(count, size);
            assert_eq!(begins, in_a_row(&lengths));
            assert_eq!(lengths.iter().sum::<i32>() as usize, count);
        }
    }

    #[test]
    fn rows_are_added_in_order() {
        let mut sums = [9.0; 2];
        add_up(&[1e8, 1.0, 1.0, 2.0, -1e8, 3.0], &mut sums);
        assert_eq!(sums, [1e8 + 1.0 - 1e8, 6.0]);
        add_up(&[], &mut []);
    }

    #[test]
    fn bytes_are_cut_where_ranks_end() {
        assert_eq!(cut(&[1, 2, 3], &[1, 0, 2]), [vec![1], vec![], vec![2, 3]]);
    }
}
