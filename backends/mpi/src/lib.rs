//! Several processes that train together, over MPI.
//!
//! Linking this crate with its feature `linked` registers MPI as the way to reach the processes
//! that `mpirun` or Slurm's `srun` started beside this one. MPI is not touched before they are
//! met, and never where there is one process.

#[cfg(feature = "linked")]
mod ranks;
