//! Uploads beside the kernels: a batch's numbers are put side by side in pinned memory, from which
//! the GPU fetches them on a stream of their own while kernels compute on theirs.
//!
//! The two streams are kept apart by two rules. Numbers are on the GPU before their tensor is
//! handed out, so that no kernel is queued that would have to wait for them. And they lie in
//! *places*, which are written again only when all that was queued with their tensor has been
//! done, which a fence in the kernels' stream tells ([`Uploads::queued`]): CubeCL's own pools give
//! memory out again as soon as the host drops it, in the order of one stream. The GPU's half of a
//! place that is given up goes back when the next place is made.

mod copies;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use astropt_core::data::{Pieces, UPLOADS, Uploaded, Uploads};
use astropt_core::engine::{Listener, gave_up};
use astropt_core::error::{Error, Result};
use burn_backend::DType;
use burn_cubecl::cubecl::Runtime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use burn_cubecl::cubecl::future::{DynFut, block_on};
use burn_cubecl::cubecl::server::{Handle, ServerError};
use burn_cubecl::cubecl::stream_id::StreamId;
use burn_cubecl::tensor::CubeTensor;
use burn_cuda::Cuda;
use burn_tensor::Tensor;
use cudarc::driver::sys::CUdeviceptr;

use super::tensors::burn;
use super::tuning::listener;
use copies::{Copies, Pinned};

/// Most numbers that all places together have room for, on the GPU and in pinned memory.
const ROOM: usize = UPLOADS / 4;

/// CubeCL's stream that the GPU's memory for places is taken on and given back on, whatever thread
/// does it: each stream has pools of its own.
const STREAM: StreamId = StreamId { value: u64::MAX };

/// How many times the bytes of a new place the GPU must have free.
const SPARE: usize = 8;

/// Uploads to one GPU.
pub(crate) struct CudaUploads {
    client: ComputeClient<CudaRuntime>,
    device: CudaDevice,
    listener: Listener,
    copies: Copies,
    places: Arc<Mutex<Places>>,
}

/// Room for numbers on both sides.
struct Place {
    pinned: Pinned,
    memory: Handle,
    address: CUdeviceptr,
}

/// The places that are not lent.
struct Places {
    /// Most numbers that there may be room for.
    room: usize,
    /// Numbers that there is room for in all places, those that are lent too.
    numbers: usize,
    free: Vec<Place>,
    /// Somebody may still hold their tensors, and what is computed with them not be queued yet.
    dropped: Vec<Place>,
    /// Free when their fence is passed, the first one first.
    queued: VecDeque<(Fence, Vec<Place>)>,
}

type Fence = DynFut<Result<(), ServerError>>;

/// What to do where no free place has the room that is wanted.
enum Next {
    Wait(Fence, Vec<Place>),
    Make,
    GiveUp,
}

/// Gives a place back when its tensor has been dropped.
struct Lent {
    place: Option<Place>,
    home: Arc<Mutex<Places>>,
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    // No change to them is left half done by a panic.
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(cause: impl Debug) -> Error {
    gave_up(&format!("{cause:?}"))
}

impl Places {
    /// The smallest free place with room for so many numbers.
    fn fitting(&mut self, numbers: usize) -> Option<Place> {
        let free = self.free.iter().enumerate().map(|(k, place)| (place.pinned.len(), k));
        let (_, k) = free.filter(|(room, _)| *room >= numbers).min()?;
        Some(self.free.swap_remove(k))
    }

    /// What to do for a place of so many numbers; of [`Next::Make`] they are counted here.
    fn next(&mut self, numbers: usize) -> Next {
        // Behind the first fence there is another: it is passed or will be soon.
        let full = self.numbers + numbers > self.room;
        if (full || self.queued.len() > 1)
            && let Some((fence, places)) = self.queued.pop_front()
        {
            return Next::Wait(fence, places);
        }
        while self.numbers + numbers > self.room {
            // Those that are free are too small.
            let Some(small) = self.free.pop() else { return Next::GiveUp };
            self.numbers -= small.pinned.len();
        }
        self.numbers += numbers;
        Next::Make
    }
}

impl CudaUploads {
    pub(crate) fn new(device: &CudaDevice) -> Result<Self> {
        Self::with_room(device, ROOM)
    }

    /// With room for so many numbers at most.
    fn with_room(device: &CudaDevice, room: usize) -> Result<Self> {
        let places =
            Places { room, numbers: 0, free: vec![], dropped: vec![], queued: VecDeque::new() };
        Ok(Self {
            client: CudaRuntime::client(device),
            device: device.clone(),
            listener: listener(device.index),
            copies: Copies::new(device.index).map_err(failed)?,
            places: Arc::new(Mutex::new(places)),
        })
    }

    /// A place for so many numbers that nothing else uses, where there is room for it.
    fn take(&self, numbers: usize) -> Result<Option<Place>> {
        loop {
            let next = {
                let mut places = lock(&self.places);
                if let Some(place) = places.fitting(numbers) {
                    return Ok(Some(place));
                }
                places.next(numbers)
            };
            match next {
                Next::Wait(fence, freed) => {
                    let passed = block_on(fence);
                    lock(&self.places).free.extend(freed);
                    passed.map_err(failed)?;
                }
                Next::Make => {
                    let made = self.make(numbers);
                    if !matches!(made, Ok(Some(_))) {
                        lock(&self.places).numbers -= numbers;
                    }
                    return made;
                }
                Next::GiveUp => return Ok(None),
            }
        }
    }

    /// A new place, unless the host grants no pinned memory or the GPU's is short: the kernels need
    /// it more.
    fn make(&self, numbers: usize) -> Result<Option<Place>> {
        let bytes = 4 * numbers;
        if self.copies.free().map_err(failed)? < SPARE * bytes {
            return Ok(None);
        }
        let Ok(pinned) = self.copies.pinned(numbers) else { return Ok(None) };
        STREAM.executes(|| {
            self.client.memory_cleanup();
            // It is there once it has been waited for; and no page of a pool, which may be a quarter
            // of the GPU's memory.
            let memory = self.client.memory_persistent_allocation(bytes, |b| self.client.empty(b));
            let memory = memory.map_err(failed)?;
            block_on(self.client.sync()).map_err(failed)?;
            let resource = self.client.get_resource(memory.clone()).map_err(failed)?;
            let address = resource.resource().ptr;
            Ok(Some(Place { pinned, memory, address }))
        })
    }
}

impl Uploads for CudaUploads {
    fn upload(&self, numbers: &Pieces) -> Result<Option<Uploaded>> {
        let count = numbers.len();
        if count == 0 {
            return Ok(None);
        }
        let Some(mut place) = self.listener.heard(|| self.take(count))? else { return Ok(None) };
        let room = place.pinned.numbers(count);
        numbers.copy_to(room);
        // SAFETY: the place has room for so many, and was taken: all that was queued with what lay
        // there has been done.
        let copied = unsafe { self.copies.copy(room, place.address) };
        let rest = 4 * (place.pinned.len() - count) as u64;
        let memory = place.memory.clone().offset_end(rest);
        let lent = Lent { place: Some(place), home: self.places.clone() };
        copied.map_err(failed)?;
        let (client, device) = (self.client.clone(), self.device.clone());
        let tensor = CubeTensor::new_contiguous(client, device, [count].into(), memory, DType::F32);
        let tensor: Tensor<Cuda<f32, i32>, 1> = burn(tensor);
        Ok(Some(Uploaded::new(tensor, lent)))
    }

    fn queued(&self) -> Result<()> {
        if lock(&self.places).dropped.is_empty() {
            return Ok(());
        }
        // What has failed is said here, to the thread that computes, and not to the one that waits
        // for the fence. CubeCL holds no tensor any more of what is queued by then.
        self.client.flush().map_err(failed)?;
        let mut places = lock(&self.places);
        // With a tensor that somebody has kept more may be queued: it has no fence yet.
        let all = std::mem::take(&mut places.dropped);
        let (done, kept): (Vec<Place>, _) = all.into_iter().partition(|p| p.memory.can_mut());
        places.dropped = kept;
        if !done.is_empty() {
            places.queued.push_back((self.client.sync(), done));
        }
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.home).dropped.extend(self.place.take());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tuning::testing::gpu;
    use super::*;

    type Numbers = Tensor<Cuda<f32, i32>, 1>;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|k| (1000 * seed + k) as f32).collect()
    }

    fn tensor(uploaded: &Uploaded) -> Numbers {
        uploaded.tensor().expect("a tensor of this backend")
    }

    fn read(tensor: Numbers) -> Vec<f32> {
        tensor.into_data().into_vec().expect("numbers")
    }

    /// Of all sizes, one after the other, with room for the largest alone: on the GPU too.
    #[test]
    fn places_that_are_too_small_make_room() {
        const ROOM: usize = 3000;
        let Some(device) = gpu() else { return };
        let uploads = CudaUploads::with_room(&device, ROOM).expect("uploads");
        for (seed, count) in [400, 900, 1300, 2000, 2600, 500, 3000].into_iter().enumerate() {
            let wanted = numbers(count, seed);
            let uploaded = uploads.upload(&wanted.clone().into()).expect("a device");
            assert_eq!(read(tensor(&uploaded.expect("room"))), wanted);
            uploads.queued().expect("a device");
            assert!(lock(&uploads.places).numbers <= ROOM);
        }
        let more = uploads.upload(&numbers(ROOM + 1, 0).into()).expect("a device");
        assert!(more.is_none(), "more than there is room for");
        let usage = STREAM.executes(|| uploads.client.memory_usage()).expect("a device");
        assert!(usage.bytes_reserved <= 4 * ROOM as u64 + 512, "{usage}");
    }

    #[test]
    fn what_somebody_keeps_is_not_written_over() {
        let Some(device) = gpu() else { return };
        let uploads = CudaUploads::with_room(&device, 20).expect("uploads");
        let upload = |seed| {
            let uploaded = uploads.upload(&numbers(10, seed).into()).expect("a device");
            let kept = tensor(&uploaded.expect("room"));
            uploads.queued().expect("a device");
            kept
        };
        let (first, second) = (upload(1), upload(2));
        assert!(
            uploads.upload(&numbers(10, 3).into()).expect("a device").is_none(),
            "both are held"
        );
        assert_eq!(read(first), numbers(10, 1));
        uploads.queued().expect("a device");
        assert_eq!(read(upload(4)), numbers(10, 4));
        assert_eq!(read(second), numbers(10, 2));
        assert_eq!(lock(&uploads.places).numbers, 20);
    }
}
