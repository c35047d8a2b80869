//! Which of a machine's processors a process may use, shared out among those that may use the
//! same ones.

use serde::{Deserialize, Serialize};

/// Where a process is and which processors it may run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The machine.
    pub(super) host: String,
    /// Processors that the process is allowed, by the system's numbers.
    pub(super) processors: Vec<usize>,
    /// How many of them at a time, where a container sets a limit.
    pub(super) at_once: usize,
    /// Processors of the whole machine.
    pub(super) machine: usize,
}

impl Place {
    /// This process's, on the machine `host`.
    pub(super) fn here(host: String) -> Self {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let processors = allowed.map_or_else(|| (0..at_once).collect(), numbers);
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let machine = numbers(&online).len().max(processors.len());
        Self { host, processors, at_once, machine }
    }
}

/// `0-2,5` as 0, 1, 2, 5.
fn numbers(list: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Threads for the process of rank `rank`: its processors, divided among all processes of its
/// machine that may run on some of them too.
pub(super) fn threads(places: &[Place], rank: usize) -> usize {
    let mine = &places[rank];
    let shares = |other: &&Place| {
        other.host == mine.host && other.processors.iter().any(|p| mine.processors.contains(p))
    };
    let sharing = places.iter().filter(shares).count().max(1);
    (mine.processors.len().min(mine.at_once) / sharing).max(1)
}

/// What to tell a user whose launcher ties processes to fewer processors than there are.
pub(super) fn advice(places: &[Place]) -> Option<String> {
    let first = places.first()?;
    let on_host = places.iter().filter(|place| place.host == first.host).count();
    let tied = on_host > 1 && threads(places, 0) == first.processors.len();
    (tied && first.processors.len() < first.machine / on_host).then(|| {
        format!(
            "each process is tied to {} of the {} processors of {}; `mpirun --bind-to none` (or \
             srun's --cpus-per-task) gives it more",
            first.processors.len(),
            first.machine,
            first.host
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, processors: std::ops::Range<usize>) -> Place {
        Place { host: host.into(), processors: processors.collect(), at_once: 64, machine: 8 }
    }

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(numbers("7"), [7]);
        assert!(numbers("").is_empty());
    }

    #[test]
    fn processors_are_shared_out_among_those_who_may_use_them() {
        let free = [place("a", 0..8), place("a", 0..8), place("b", 0..8)];
        assert_eq!([0, 1, 2].map(|rank| threads(&free, rank)), [4, 4, 8]);
        let tied = [place("a", 0..4), place("a", 4..8), place("b", 0..1)];
        assert_eq!([0, 1, 2].map(|rank| threads(&tied, rank)), [4, 4, 1]);
        let crowded: Vec<_> = (0..9).map(|_| place("a", 0..8)).collect();
        assert_eq!(threads(&crowded, 3), 1);
    }

    #[test]
    fn ties_that_cost_processors_are_told_of() {
        assert_eq!(advice(&[place("a", 0..8), place("a", 0..8)]), None);
        assert_eq!(advice(&[place("a", 0..4), place("a", 4..8)]), None);
        let told = advice(&[place("a", 0..1), place("a", 1..2)]).expect("told");
        assert!(told.contains("1 of the 8") && told.contains("--bind-to none"), "{told}");
    }
}
