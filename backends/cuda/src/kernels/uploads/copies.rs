//! Pinned memory and a stream of its own, straight from the driver: CubeCL copies what it is given
//! to memory that is not pinned, and uploads it among the kernels.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::result::{self as cuda, DriverError, ctx, stream};
use cudarc::driver::sys::{CUcontext, CUdeviceptr, CUstream, cuMemAllocHost_v2};

use super::super::driver;

/// A stream for copies to a GPU.
pub(super) struct Copies {
    context: CUcontext,
    stream: CUstream,
}

// SAFETY: the driver takes these handles from any thread, several at a time too.
unsafe impl Send for Copies {}
// SAFETY: as above.
unsafe impl Sync for Copies {}

impl Copies {
    pub(super) fn new(index: usize) -> Result<Self, DriverError> {
        let context = driver::enter(index)?;
        Ok(Self { context, stream: stream::create(stream::StreamKind::NonBlocking)? })
    }

    /// Room for so many numbers in memory that the GPU reads by itself.
    pub(super) fn pinned(&self, numbers: usize) -> Result<Pinned, DriverError> {
        self.enter()?;
        let mut at: *mut c_void = null_mut();
        // SAFETY: the driver writes an address, or an error says that it has not.
        unsafe { cuMemAllocHost_v2(&mut at, 4 * numbers) }.result()?;
        // SAFETY: the driver gave so many bytes, aligned to pages.
        unsafe { at.write_bytes(0, 4 * numbers) };
        Ok(Pinned { at: at.cast(), numbers, context: self.context })
    }

    /// Bytes of the GPU's memory that nobody has.
    pub(super) fn free(&self) -> Result<usize, DriverError> {
        self.enter()?;
        cuda::mem_get_info().map(|(free, _)| free)
    }

    /// Copies numbers from pinned memory to the GPU, and waits until they are there.
    ///
    /// # Safety
    /// At `to` there is room for as many numbers, which nothing that is queued reads or writes.
    pub(super) unsafe fn copy(&self, from: &[f32], to: CUdeviceptr) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller's; `from` is borrowed until the copy is over.
        unsafe {
            cuda::memcpy_htod_async(to, from, self.stream)?;
            stream::synchronize(self.stream)
        }
    }

    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the driver gave the context, which is never released.
        unsafe { ctx::set_current(self.context) }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: the stream is this one's, and every copy on it was waited for. What the
            // driver says of a stream that nobody needs any more is of no use.
            let _ = unsafe { stream::destroy(self.stream) };
        }
    }
}

/// Pinned memory.
pub(super) struct Pinned {
    at: *mut f32,
    numbers: usize,
    context: CUcontext,
}

// SAFETY: the memory has one owner, whatever thread that is on.
unsafe impl Send for Pinned {}
// SAFETY: whoever shares it can only ask for its length.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// How many numbers it has room for.
    pub(super) fn len(&self) -> usize {
        self.numbers
    }

    /// The first so many of its numbers.
    pub(super) fn numbers(&mut self, count: usize) -> &mut [f32] {
        // SAFETY: so many numbers were written at `at`, and the borrow of this one owner is theirs.
        let all = unsafe { std::slice::from_raw_parts_mut(self.at, self.numbers) };
        &mut all[..count]
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the context is never released; the memory is this one's, and no copy from it is
        // under way, for `Copies::copy` borrows it until it is over.
        unsafe {
            if ctx::set_current(self.context).is_ok() {
                let _ = cuda::free_host(self.at.cast());
            }
        }
    }
}
