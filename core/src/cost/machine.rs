//! The memory that this machine, or the part of it that this process may use, has left.

use std::path::{Path, PathBuf};

use crate::parallel;

/// Bytes that this process could still have: its equal share, among the processes on this machine
/// that were started with it, of what the system has free (`MemAvailable` of Linux's
/// /proc/meminfo, which counts caches that it would give up) or what its control groups leave; or
/// what its own limit of address space leaves, whichever is least. `None` where the system does
/// not say.
pub fn available_memory() -> Option<f64> {
    let free = free(Path::new("/proc"))?;
    let grouped = groups_leave(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    Some(share(free, grouped, limit_leaves(Path::new("/proc")), parallel::local().size))
}

/// Whose [`available_memory`] is, after "free": ` for each of 3 processes on this machine`; nothing
/// where this process is the only one.
pub fn among_processes() -> String {
    for_each_of(parallel::local().size)
}

fn for_each_of(processes: usize) -> String {
    match processes {
        0 | 1 => String::new(),
        many => format!(" for each of {many} processes on this machine"),
    }
}

/// The share of one of `processes` in what the machine and its groups have, or what its `own` limit
/// leaves.
fn share(free: f64, grouped: Option<f64>, own: Option<f64>, processes: usize) -> f64 {
    let least = |a: f64, b: Option<f64>| b.map_or(a, |b| a.min(b));
    least(least(free, grouped) / processes.max(1) as f64, own).max(0.0)
}

/// A line such as `MemAvailable:  123 kB`, in bytes.
fn line(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(1024.0 * kilobytes)
}

fn free(proc: &Path) -> Option<f64> {
    line(&std::fs::read_to_string(proc.join("meminfo")).ok()?, "MemAvailable")
}

/// What `ulimit -v` leaves.
#[cfg(target_os = "linux")]
fn limit_leaves(proc: &Path) -> Option<f64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    if soft == RLIM_INFINITY {
        return None;
    }
    let status = std::fs::read_to_string(proc.join("self/status")).ok()?;
    Some(soft as f64 - line(&status, "VmSize")?)
}

#[cfg(not(target_os = "linux"))]
fn limit_leaves(_proc: &Path) -> Option<f64> {
    None
}

/// What the memory controllers of the process's control groups leave, each group's limit
/// binding all below it (the kernel's documentation, admin-guide/cgroup-v2 and cgroup-v1/memory).
fn groups_leave(proc: &Path, mounted: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(proc.join("self/cgroup")).ok()?;
    let mut least: Option<f64> = None;
    for entry in text.lines() {
        let mut parts = entry.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, files) = match controllers {
            "" => (mounted.to_owned(), Files::V2),
            list if list.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), Files::V1)
            }
            _ => continue,
        };
        for group in up(&root, path) {
            if let Some(left) = files.left(&group) {
                least = Some(least.map_or(left, |least| least.min(left)));
            }
        }
    }
    least
}

/// The group at `path` under `root` and those above it; in a container, whose own group is
/// mounted at the root, the first of them may not be there.
fn up(root: &Path, path: &str) -> Vec<PathBuf> {
    let below = Path::new(path.trim_start_matches('/'));
    below.ancestors().map(|part| root.join(part)).collect()
}

#[derive(Clone, Copy)]
enum Files {
    V1,
    V2,
}

impl Files {
    /// What the group in this folder leaves; `None` where it sets no limit.
    fn left(self, group: &Path) -> Option<f64> {
        let [limit, used, cached] = match self {
            Self::V2 => ["memory.max", "memory.current", "inactive_file"],
            Self::V1 => ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
        };
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        // "max" is no number, and stands for no limit.
        let number = |name: &str| read(name)?.trim().parse::<f64>().ok();
        let stat = read("memory.stat").unwrap_or_default();
        let given_up = stat.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            (key == cached).then(|| value.trim().parse::<f64>().ok())?
        });
        Some(number(limit)? - number(used)? + given_up.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }

    #[test]
    fn processes_of_a_machine_share_what_it_has_and_each_keeps_its_own_limit() {
        assert_eq!(share(900.0, None, None, 1), 900.0);
        assert_eq!(share(900.0, None, None, 3), 300.0);
        assert_eq!(share(900.0, Some(600.0), None, 3), 200.0);
        assert_eq!(share(900.0, Some(600.0), Some(250.0), 3), 200.0);
        assert_eq!(share(900.0, None, Some(250.0), 3), 250.0, "not a third of its own limit");
        assert_eq!(share(900.0, Some(-5.0), None, 2), 0.0);
        assert_eq!(for_each_of(1), "");
        assert_eq!(for_each_of(3), " for each of 3 processes on this machine");
    }

    #[test]
    fn the_tightest_group_binds() {
        let folder = tempfile::tempdir().expect("a folder");
        let (proc, mounted) = (folder.path().join("proc"), folder.path().join("cgroup"));
        put(&proc, "self/cgroup", "0::/slurm/job7/step0\n");
        assert_eq!(groups_leave(&proc, &mounted), None, "no limit is set");
        put(&mounted, "slurm/job7/memory.max", "4000\n");
        put(&mounted, "slurm/job7/memory.current", "1500\n");
        put(&mounted, "slurm/job7/memory.stat", "anon 900\ninactive_file 500\n");
        put(&mounted, "slurm/job7/step0/memory.max", "max\n");
        put(&mounted, "slurm/job7/step0/memory.current", "1500\n");
        assert_eq!(groups_leave(&proc, &mounted), Some(3000.0));
        put(&mounted, "slurm/memory.max", "2000\n");
        put(&mounted, "slurm/memory.current", "1900\n");
        assert_eq!(groups_leave(&proc, &mounted), Some(100.0));
    }

    #[test]
    fn the_first_version_of_control_groups_is_read_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let (proc, mounted) = (folder.path().join("proc"), folder.path().join("cgroup"));
        put(&proc, "self/cgroup", "7:cpu,cpuacct:/a\n5:memory:/a\n");
        put(&mounted, "memory/memory.limit_in_bytes", "1000\n");
        put(&mounted, "memory/memory.usage_in_bytes", "400\n");
        assert_eq!(groups_leave(&proc, &mounted), Some(600.0), "the folder of a container");
    }

    #[test]
    fn meminfo_is_in_kilobytes() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), "meminfo", "MemTotal: 9 kB\nMemAvailable:    2 kB\n");
        assert_eq!(free(folder.path()), Some(2048.0));
        assert_eq!(line("VmSize:\t 3 kB", "VmSize"), Some(3072.0));
    }
}
