//! Sums over processes from GPU to GPU, by NVIDIA's NCCL, which is loaded when it is asked for.
//!
//! It is asked for with `ASTROPT_NCCL=1` and not otherwise: it has been compiled and never run, for
//! want of a machine with two GPUs. Each process needs a GPU of its own.

use std::any::Any;
use std::ffi::c_void;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use astropt_core::error::{Error, Result};
use astropt_core::parallel::{Ranks, agree};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use burn_cubecl::cubecl::future;
use burn_cubecl::tensor::CubeTensor;
use cudarc::driver::result::{ctx, stream};
use cudarc::driver::sys::{CUcontext, CUstream};
use cudarc::nccl::{result as nccl, sys};

use super::driver;

/// Whether the user asks for it.
pub(super) fn wanted() -> bool {
    std::env::var("ASTROPT_NCCL").is_ok_and(|value| value == "1")
}

/// This process's place among those that NCCL connects.
struct Communicator {
    handle: sys::ncclComm_t,
    stream: CUstream,
    context: CUcontext,
}

// SAFETY: NCCL and the driver take these handles from any thread, one at a time, which the mutex
// around them sees to.
unsafe impl Send for Communicator {}

static COMMUNICATOR: Mutex<Option<Communicator>> = Mutex::new(None);

fn failed(what: &str) -> impl Fn(&dyn Debug) -> Error {
    move |cause| {
        Error::Failed(format!(
            "NCCL cannot {what} ({cause:?}); each process needs a GPU of its own. Unset \
             ASTROPT_NCCL to sum gradients in the host's memory"
        ))
    }
}

impl Communicator {
    /// Connects all processes; `index` is this one's GPU.
    fn connect(index: usize, ranks: &dyn Ranks) -> Result<Self> {
        let own = agree(ranks, Self::own(index, ranks.rank()))?;
        let (context, stream, id) = own;
        let id =
            ranks.broadcast(id.map_or_else(Vec::new, |id| id.internal.map(|c| c as u8).into()))?;
        let internal: [u8; 128] = id
            .try_into()
            .map_err(|_| failed("connect the processes")(&"an id of another length"))?;
        let id = sys::ncclUniqueId { internal: internal.map(|byte| byte as _) };
        let mut handle = std::ptr::null_mut();
        let (size, rank) = (ranks.size() as i32, ranks.rank() as i32);
        // SAFETY: the handle is written to before it is read; all processes call with one id.
        let connected = unsafe { nccl::comm_init_rank(&mut handle, size, id, rank) };
        let connected = connected.map_err(|e| failed("connect the processes")(&e));
        agree(ranks, connected)?;
        Ok(Self { handle, stream, context })
    }

    /// The GPU's context, a stream on it and, from process 0, an id for all.
    fn own(index: usize, rank: usize) -> Result<(CUcontext, CUstream, Option<sys::ncclUniqueId>)> {
        // SAFETY: opens NCCL's library, whose initialisation has no conditions.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Failed(
                "NCCL cannot be loaded: libnccl.so is not found. Install NVIDIA's NCCL for CUDA 12, or \
                 unset ASTROPT_NCCL to sum gradients in the host's memory"
                    .into(),
            ));
        }
        let no_gpu = failed("use the GPU");
        let context = driver::enter(index).map_err(|e| no_gpu(&e))?;
        let stream = stream::create(stream::StreamKind::NonBlocking).map_err(|e| no_gpu(&e))?;
        let id = (rank == 0).then(nccl::get_uniqueid).transpose();
        Ok((context, stream, id.map_err(|e| failed("make an id")(&e))?))
    }

    /// Sums so many numbers at each address over all processes, in place.
    fn sum(&self, pieces: &[(u64, usize)]) -> Result<()> {
        let cannot = failed("sum gradients");
        // SAFETY: the context is never released.
        unsafe { ctx::set_current(self.context) }.map_err(|e| cannot(&e))?;
        nccl::group_start().map_err(|e| cannot(&e))?;
        for &(address, count) in pieces {
            let (place, stream) = (address as *mut c_void, self.stream.cast());
            let (kind, sum) = (sys::ncclDataType_t::ncclFloat32, sys::ncclRedOp_t::ncclSum);
            // SAFETY: the address is of a buffer of at least so many `f32`, which is kept until the
            // stream has been waited for and which nothing else uses meanwhile.
            unsafe { nccl::all_reduce(place, place, count, kind, sum, self.handle, stream) }
                .map_err(|e| cannot(&e))?;
        }
        nccl::group_end().map_err(|e| cannot(&e))?;
        // SAFETY: the stream is this communicator's.
        unsafe { stream::synchronize(self.stream) }.map_err(|e| cannot(&e))
    }
}

/// Sums dense tensors that nobody else holds over all processes, in place.
pub(super) fn sum_over<R: CubeRuntime>(tensors: &[CubeTensor<R>], ranks: &dyn Ranks) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    let client = (&first.client as &dyn Any).downcast_ref::<ComputeClient<CudaRuntime>>();
    let device = (&first.device as &dyn Any).downcast_ref::<CudaDevice>();
    let (Some(client), Some(device)) = (client, device) else {
        return Err(Error::Misuse("ASTROPT_NCCL is for CUDA alone; unset it".into()));
    };
    let mut communicator = COMMUNICATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let communicator = match &mut *communicator {
        Some(communicator) => communicator,
        none => none.insert(Communicator::connect(device.index, ranks)?),
    };
    // What computes the gradients is done before they are summed.
    future::block_on(client.sync()).map_err(|e| failed("wait for the gradients")(&e))?;
    let buffers = tensors.iter().map(|tensor| client.get_resource(tensor.handle.clone()));
    let buffers: Vec<_> =
        buffers.collect::<Result<_, _>>().map_err(|e| failed("find the gradients")(&e))?;
    let pieces = buffers.iter().zip(tensors);
    let pieces: Vec<_> = pieces
        .map(|(buffer, tensor)| (buffer.resource().ptr, tensor.meta.shape().num_elements()))
        .collect();
    communicator.sum(&pieces)
}
