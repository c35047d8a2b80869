//! How the program was started: by itself, or by something that starts it several times.

use super::Ranks;
use crate::error::Result;

/// A way to reach the other processes of a job, linked into the program.
pub struct Launcher {
    /// Its name, such as `MPI`.
    pub name: &'static str,
    /// Meets the other processes. Called once, when there is more than one.
    pub join: fn() -> Result<Box<dyn Ranks>>,
}

inventory::collect!(Launcher);

/// Registers a [`Launcher`]: its name and the function that meets the other processes.
#[macro_export]
macro_rules! register_launcher {
    ($name:literal, $join:expr) => {
        $crate::inventory::submit! {
            $crate::parallel::Launcher { name: $name, join: $join }
        }
    };
}

/// What started this process together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The command, such as `mpirun`.
    pub by: &'static str,
    /// Number of processes it started.
    pub size: usize,
    /// The variable that says so.
    pub variable: &'static str,
}

/// Variables that launchers set to the number of processes. Slurm's is that of the job step,
/// which `srun` alone sets: `SLURM_NTASKS` stands in a batch script too, where one process runs.
const SIZES: [(&str, &str); 5] = [
    ("OMPI_COMM_WORLD_SIZE", "mpirun"),
    ("PMI_SIZE", "mpiexec"),
    ("MV2_COMM_WORLD_SIZE", "mpirun"),
    ("FLUX_JOB_SIZE", "flux run"),
    ("SLURM_STEP_NUM_TASKS", "srun"),
];

/// What started this process and others with it, if anything did.
pub fn launched() -> Option<Launch> {
    of(|name| std::env::var(name).ok())
}

fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    // The innermost launcher speaks: `mpirun` within a step of `srun` comes first.
    let mut said = SIZES.iter().filter_map(|&(name, by)| {
        let size = variable(name)?.trim().parse().ok()?;
        Some(Launch { by, size, variable: name })
    });
    said.next().filter(|launch| launch.size > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_told_by_what_they_set() {
        let with = |set: &[(&str, &str)]| {
            of(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(with(&[]), None);
        let four = with(&[("OMPI_COMM_WORLD_SIZE", "4")]).expect("four");
        assert_eq!((four.by, four.size), ("mpirun", 4));
        assert_eq!(with(&[("SLURM_STEP_NUM_TASKS", "8")]).expect("eight").by, "srun");
        // A batch script on its own, and one process each.
        assert_eq!(with(&[("SLURM_NTASKS", "8")]), None);
        assert_eq!(with(&[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_STEP_NUM_TASKS", "8")]), None);
        assert_eq!(with(&[("PMI_SIZE", "many")]), None);
    }
}
