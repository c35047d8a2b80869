//! Numbers that are on a device before they are wanted there.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::Pieces;
use crate::error::Result;

/// Most bytes that uploads hold on a device: four micro-batches of 64 galaxies fit, of 1,024 tokens
/// with 768 numbers.
pub const UPLOADS: usize = 1 << 30;

/// Brings the numbers of batches onto a device while it computes something else.
///
/// A thread uploads, in the order in which batches are wanted (for a moment two do, where training
/// goes back and begins another loader); another computes. None waits for another: only for the
/// device.
pub trait Uploads: Send + Sync {
    /// Copies `numbers` to the device. `Ok(None)`: there is no room for them beside what was
    /// uploaded and is still wanted, and whoever computes uploads them when it comes to them.
    ///
    /// # Errors
    /// When the device fails.
    fn upload(&self, numbers: &Pieces) -> Result<Option<Uploaded>>;

    /// Says that all work on what has been dropped of what was uploaded is in the device's queue:
    /// once the device has done it, there is room again. Called by the thread that computes.
    ///
    /// # Errors
    /// When what is queued has failed.
    fn queued(&self) -> Result<()>;
}

/// Numbers on a device, one after the other.
#[derive(Clone)]
pub struct Uploaded(Arc<Inner>);

struct Inner {
    // Dropped in this order: nobody holds the tensor any more when its memory is given back.
    tensor: Box<dyn Any + Send + Sync>,
    _memory: Box<dyn Any + Send + Sync>,
}

impl Uploaded {
    /// A tensor of one axis, of the backend's own type, and what gives its memory back when it is
    /// dropped.
    pub fn new<T: Send + Sync + 'static, M: Send + Sync + 'static>(tensor: T, memory: M) -> Self {
        Self(Arc::new(Inner { tensor: Box::new(tensor), _memory: Box::new(memory) }))
    }

    /// The tensor; `None` where it is of another backend.
    pub fn tensor<T: Clone + 'static>(&self) -> Option<T> {
        self.0.tensor.downcast_ref().cloned()
    }
}

impl fmt::Debug for Uploaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uploaded")
    }
}
