//! Memory of tensors, kept for the next one of its size.
//!
//! A training step makes and drops the same tensors as the step before it. Giving
//! megabytes back to the system each time costs a page fault per 4 KiB when they return,
//! a tenth of a small model's step. At most as much is kept as was once in use.

use std::alloc::Layout;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_backend::{AllocationProperty, Bytes};
use burn_std::AllocationController;

/// Alignment of all blocks: a cache line, which is also the widest vector.
const ALIGN: usize = 64;
/// Blocks below this many bytes are left to the allocator, which keeps them anyway.
const SMALLEST: usize = 32 << 10;

/// Whether blocks are as long as asked for, hold NaN at first and go back to the allocator: in
/// the tests of this crate, so that a kernel that reads what nobody wrote gives NaN, and one that
/// reaches past an end is seen by a memory checker.
const EXACT: bool = cfg!(test);

/// Initialised bytes (zeros at first, then whatever the last user left).
struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a block owns its memory, as a `Box<[u8]>` does.
unsafe impl Send for Block {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Block {}

#[derive(Default)]
struct Pool {
    /// Oldest first.
    free: VecDeque<Block>,
    free_bytes: usize,
    used_bytes: usize,
    most_used: usize,
}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { free: VecDeque::new(), free_bytes: 0, used_bytes: 0, most_used: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `bytes` rounded up so that nearly equal sizes share blocks, an eighth lost at most.
fn class(bytes: usize) -> usize {
    let step = if bytes < SMALLEST { ALIGN } else { bytes.next_power_of_two() / 16 };
    bytes.max(1).next_multiple_of(step)
}

impl Block {
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, ALIGN).expect("a tensor is smaller than the address space")
    }

    fn new(bytes: usize) -> Self {
        let size = if EXACT { bytes.max(1) } else { class(bytes) };
        if size >= SMALLEST && !EXACT {
            let mut pool = pool();
            pool.used_bytes += size;
            pool.most_used = pool.most_used.max(pool.used_bytes);
            if let Some(found) = pool.free.iter().rposition(|block| block.size == size)
                && let Some(block) = pool.free.remove(found)
            {
                pool.free_bytes -= size;
                return block;
            }
        }
        let layout = Self::layout(size);
        // SAFETY: the size is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        // A session turns it into an error that says what to change; an abort would say nothing.
        let start = NonNull::new(start)
            .unwrap_or_else(|| panic!("no memory for {:.0} MB more", size as f64 / 1e6));
        if EXACT {
            // SAFETY: the block is that long, and nobody else knows of it. All bits set is NaN.
            unsafe { start.as_ptr().write_bytes(0xff, size) }
        }
        Self { start, size }
    }

    /// Gives the memory back to the allocator.
    fn free(self) {
        // SAFETY: allocated in `new` with this layout, and owned.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Self::layout(self.size)) }
    }

    /// Keeps the memory for the next block of its size; the oldest make room for it.
    fn recycle(self) {
        if self.size < SMALLEST || EXACT {
            return self.free();
        }
        let mut pool = pool();
        pool.used_bytes -= self.size;
        pool.free_bytes += self.size;
        pool.free.push_back(self);
        while pool.free_bytes > pool.most_used {
            let Some(oldest) = pool.free.pop_front() else { break };
            pool.free_bytes -= oldest.size;
            oldest.free();
        }
    }
}

/// A block that recycles itself.
struct Owned(Option<Block>);

impl Owned {
    fn block(&self) -> &Block {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(block) = self.0.take() {
            block.recycle();
        }
    }
}

impl AllocationController for Owned {
    fn alloc_align(&self) -> usize {
        ALIGN
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let block = self.block();
        // SAFETY: the block is that long and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().cast(), block.size) }
    }

    fn memory(&self) -> &[MaybeUninit<u8>] {
        let block = self.block();
        // SAFETY: the block is that long and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts(block.start.as_ptr().cast(), block.size) }
    }
}

/// Numbers to be written; what they are at first is not said.
pub(crate) struct Buffer {
    block: Owned,
    len: usize,
}

impl Buffer {
    /// `len` numbers.
    pub(crate) fn new(len: usize) -> Self {
        Self { block: Owned(Some(Block::new(len * size_of::<f32>()))), len }
    }

    /// As bytes of a tensor.
    pub(crate) fn into_bytes(self) -> Bytes {
        let len = self.len * size_of::<f32>();
        // SAFETY: blocks are initialised and at least as long as asked for.
        unsafe { Bytes::from_controller(Box::new(self.block), len) }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block is initialised, aligned and at least this long; any bits are
        // a float.
        unsafe { std::slice::from_raw_parts(self.block.block().start.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = self.block.block().start.as_ptr().cast();
        // SAFETY: as for `deref`, and exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_lose_an_eighth_at_most() {
        for bytes in [1, 63, 64, 40_000, 1 << 20, (1 << 20) + 1, 123_456_789] {
            let size = class(bytes);
            assert!(size >= bytes && size.is_multiple_of(ALIGN), "{bytes} {size}");
            assert!(bytes < SMALLEST || size - bytes <= bytes / 8, "{bytes} {size}");
        }
    }

    #[test]
    fn a_buffer_is_as_long_as_asked_for_and_writable() {
        for len in [0, 1, 100_000, 100_000] {
            let mut buffer = Buffer::new(len);
            buffer.fill(2.0);
            let bytes = buffer.into_bytes();
            assert_eq!(bytes.len(), 4 * len);
            assert!(bytemuck::cast_slice::<u8, f32>(&bytes).iter().all(|&x| x == 2.0));
        }
    }
}
