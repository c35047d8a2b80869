//! Backend: where the model computes.

use super::registry::PluginInfo;
use crate::engine::{Precision, Session};
use crate::error::Result;
use crate::model::ModelConfig;

/// A place to compute. A backend crate names a Burn backend and its kernels
/// ([`Platform`](crate::kernels::Platform)) and opens sessions with
/// [`engine::open`](crate::engine::open); the engine itself is generic and lives in core.
pub trait Backend: Send + Sync {
    /// The devices this machine has for it.
    ///
    /// # Errors
    /// When there is none: why, and what to install.
    fn devices(&self) -> Result<Vec<Device>>;

    /// What its sessions can train in, without asking a device.
    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32]
    }

    /// Which device is for the process that is number `local`, from 0, among those of this machine,
    /// where no index is given: one each as far as they go, then in turns.
    ///
    /// # Errors
    /// As [`devices`](Self::devices).
    fn device_of(&self, local: usize) -> Result<usize> {
        Ok(local % self.devices()?.len().max(1))
    }

    /// What tells what device `index` is doing, where something does.
    fn monitor(&self, _index: usize) -> Option<Monitor> {
        None
    }

    /// How much memory device `index` has left for a training, where something tells. One that
    /// computes in the host's says so here ([`Room::shared`]): its speed is then no share of a GPU's.
    fn room(&self, _index: usize) -> Option<Room> {
        None
    }

    /// A model of this shape, with all parameters zero, on device `index` of
    /// [`devices`](Self::devices).
    ///
    /// # Errors
    /// When the device cannot be used or the model does not fit.
    fn open(&self, index: usize, model: &ModelConfig) -> Result<Box<dyn Session>>;
}

/// Memory that a training could have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Bytes.
    pub free: f64,
    /// Whether it is the host's, where batches are prepared, too.
    pub shared: bool,
}

/// What a device is doing, as its driver tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Bytes of its memory that are taken, by anybody.
    pub memory_bytes: u64,
    /// Share of the last moments that it computed in, 0 to 1; `None` where it does not tell.
    pub utilisation: Option<f64>,
    /// Energy it has taken since some moment before the program started, in joules; `None`
    /// where it does not count.
    pub joules: Option<f64>,
}

/// Asks a device what it is doing; cheap enough for every step.
pub type Monitor = Box<dyn Fn() -> Option<Usage> + Send>;

/// A device as a person would name it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Device {
    /// Such as `AMD EPYC, 2 threads, AVX-512`.
    pub name: String,
}

/// A registered backend.
pub struct BackendPlugin {
    /// Name, summary and example.
    pub info: PluginInfo,
    /// Makes the backend; cheap, touches no device.
    pub build: fn() -> Box<dyn Backend>,
}

inventory::collect!(BackendPlugin);

/// Registers a backend: its name, a one-line summary and an expression that makes it.
#[macro_export]
macro_rules! register_backend {
    ($name:literal, $summary:literal, $build:expr) => {
        $crate::inventory::submit! {
            $crate::seam::BackendPlugin {
                info: $crate::seam::PluginInfo {
                    kind: $name,
                    summary: $summary,
                    example: "",
                    package: env!("CARGO_PKG_NAME"),
                },
                build: || Box::new($build),
            }
        }
    };
}
