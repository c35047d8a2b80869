//! Ranks within one process: threads that meet in memory, for tests of what several processes
//! do.

use std::sync::{Barrier, Mutex, PoisonError};

use crate::error::Result;
use crate::parallel::Ranks;

/// Where the threads meet.
struct Meeting {
    given: Vec<Mutex<Vec<u8>>>,
    barrier: Barrier,
}

struct Thread<'a> {
    rank: usize,
    meeting: &'a Meeting,
}

impl Ranks for Thread<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.given.len()
    }

    fn host(&self) -> String {
        format!("thread {}", self.rank)
    }

    fn sum(&self, numbers: &mut [f32]) -> Result<()> {
        let all = self.share(bytemuck::cast_slice(numbers))?;
        numbers.fill(0.0);
        for bytes in all {
            let given = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            numbers.iter_mut().zip(given).for_each(|(sum, x)| *sum += x);
        }
        Ok(())
    }

    fn share(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let place = |k: usize| self.meeting.given[k].lock().unwrap_or_else(PoisonError::into_inner);
        *place(self.rank) = bytes.to_vec();
        self.meeting.barrier.wait();
        let all = (0..self.size()).map(|k| place(k).clone()).collect();
        self.meeting.barrier.wait();
        Ok(all)
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let all = self.share(bytes)?;
        Ok(if self.rank == 0 { all } else { Vec::new() })
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.share(&bytes)?.swap_remove(0))
    }

    fn wait(&self) -> Result<()> {
        self.share(&[]).map(drop)
    }

    fn abort(&self, code: u8) -> ! {
        panic!("rank {} ends all with code {code}", self.rank)
    }

    fn leave(&self) {}
}

/// What `work` gives on each of `size` ranks, which run at once.
///
/// # Panics
/// When `work` does on one of them.
pub fn threads<T: Send>(size: usize, work: impl Fn(&dyn Ranks) -> T + Sync) -> Vec<T> {
    let given = (0..size).map(|_| Mutex::default()).collect();
    let meeting = Meeting { given, barrier: Barrier::new(size) };
    let (meeting, work) = (&meeting, &work);
    std::thread::scope(|scope| {
        let ranks = (0..size).map(|rank| scope.spawn(move || work(&Thread { rank, meeting })));
        let ranks: Vec<_> = ranks.collect();
        let join = |rank: std::thread::ScopedJoinHandle<'_, T>| {
            rank.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        ranks.into_iter().map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::threads;

    #[test]
    fn sums_and_shares_are_the_same_everywhere() {
        let sums = threads(4, |ranks| {
            let mut numbers = [ranks.rank() as f32, 0.25];
            ranks.sum(&mut numbers).expect("meets");
            (numbers, ranks.share(&[ranks.rank() as u8]).expect("meets"))
        });
        for (numbers, shared) in sums {
            assert_eq!(numbers, [6.0, 1.0]);
            assert_eq!(shared, [[0], [1], [2], [3]]);
        }
    }
}
