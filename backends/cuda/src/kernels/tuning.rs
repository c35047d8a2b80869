//! Errors that CubeCL would forget.
//!
//! What fails on a device, such as a launch for which there is no memory, waits in its stream until
//! somebody asks for errors. Whoever tunes an operation of a shape that is not known yet asks
//! first, and throws away what is answered, so that a program would go on with numbers that were
//! never computed. That it is about to tune CubeCL says through the facade `log`, on the thread
//! whose stream it is; what listens there asks before it.

use std::sync::{Mutex, PoisonError};

use astropt_core::engine::Listener;
use burn_cubecl::cubecl::Runtime;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::cuda::{CudaDevice, CudaRuntime};
use burn_cubecl::cubecl::server::{IoError, ServerError};
use log::{LevelFilter, Log, Metadata, Record};

/// Where CubeCL says that it begins to tune, as the one thing that it says at this level.
const TUNER: &str = "cubecl_runtime::tune::tuner";

/// The GPUs that were opened.
static OPENED: Mutex<Vec<(usize, ComputeClient<CudaRuntime>)>> = Mutex::new(Vec::new());

struct BeforeTuning;

impl Log for BeforeTuning {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= LevelFilter::Info && metadata.target() == TUNER
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            keep_errors();
        }
    }

    fn flush(&self) {}
}

/// Listens to the GPU of this number: CubeCL calls its two threads so, and those of another runtime's
/// device of the same number, which no program has beside this one.
pub(crate) fn listener(index: usize) -> Listener {
    Listener::of(&["U", "D"].map(|stage| format!("DS{stage}-0-{index}")))
}

/// From now on errors of this GPU outlive tuning. A program that has a logger of its own keeps it,
/// and calls [`keep_errors`] from it.
pub(crate) fn watch(device: &CudaDevice) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if opened.iter().all(|(index, _)| *index != device.index) {
        opened.push((device.index, CudaRuntime::client(device)));
    }
    if log::set_logger(&BeforeTuning).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Asks the GPUs that were opened for the errors of this thread's streams, and has sessions tell of
/// them. Only for programs with a logger of their own, which call it before a message of
/// `cubecl_runtime::tune::tuner` at level info returns.
pub fn keep_errors() {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (index, client) in opened {
        if let Err(error) = client.flush() {
            listener(index).lost(&said(&error));
        }
    }
}

/// The words of an error. One that is of no kind that CubeCL knows keeps its reason to itself.
fn said(error: &ServerError) -> String {
    match error {
        ServerError::ServerUnhealthy { errors, .. } if !errors.is_empty() => said(&errors[0]),
        ServerError::Io(IoError::Unknown { description, .. }) => description.clone(),
        _ => format!("{error:?}"),
    }
}

/// GPUs for the tests of this process.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Once;

    use burn_cubecl::cubecl::config::cache::CacheConfig;
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    use burn_cubecl::cubecl::cuda::CudaDevice;

    use crate::kernels::driver;

    static TUNING: Once = Once::new();

    /// The first of them, if any.
    pub(crate) fn gpu() -> Option<CudaDevice> {
        gpus().into_iter().next()
    }

    /// Those that the driver shows, on which nothing is known of what was tuned before this process;
    /// where there is none, it is said.
    #[allow(clippy::print_stdout, reason = "a skipped test must be seen")]
    pub(crate) fn gpus() -> Vec<CudaDevice> {
        let gpus = match driver::find() {
            Ok(gpus) => gpus,
            Err(missing) => {
                println!("skipped: {}", missing.join("; "));
                return Vec::new();
            }
        };
        TUNING.call_once(|| {
            let mut config = CubeClRuntimeConfig::from_current_dir();
            // Where no folder can be, CubeCL keeps what it tunes in memory alone.
            config.autotune.cache = CacheConfig::File("/dev/null".into());
            CubeClRuntimeConfig::set(config);
        });
        (0..gpus.len()).map(CudaDevice::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cuda::Cuda;
    use burn_tensor::Tensor;

    use super::testing::gpu;
    use super::*;

    #[cube(launch)]
    fn zeros(x: &mut Array<f32>) {
        x[UNIT_POS as usize] = 0.0;
    }

    /// In a process of its own: other tests may have tuned the operation already, and would hear that
    /// the device gave up.
    #[test]
    fn an_error_outlives_tuning() {
        if gpu().is_none() {
            return;
        }
        let program = std::env::current_exe().expect("this program");
        let test = "kernels::tuning::tests::a_device_gives_up_before_tuning";
        let run = Command::new(program).args(["--ignored", "--exact", test]).output();
        let said = run.expect("a process").stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("1 passed; 0 failed"), "{said}");
    }

    #[test]
    #[ignore = "gives up on a device: run by the test above"]
    fn a_device_gives_up_before_tuning() {
        let Some(device) = gpu() else { return };
        watch(&device);
        let x = Tensor::<Cuda<f32, i32>, 2>::ones([64, 96], &device);
        let tuned = |x: &Tensor<Cuda<f32, i32>, 2>| x.clone().sum_dim(0).into_data();
        let listener = listener(device.index);
        listener.heard(|| Ok(())).expect("nothing has failed");
        // More units than any GPU has.
        let client = CudaRuntime::client(&device);
        let out = client.empty(4);
        // SAFETY: the kernel is not launched.
        let out = unsafe { ArrayArg::from_raw_parts(out, 1) };
        zeros::launch::<CudaRuntime>(
            &client,
            CubeCount::new_single(),
            CubeDim::new_1d(1 << 20),
            out,
        );
        let sums = tuned(&x);
        let error =
            listener.heard(|| Ok(sums)).expect_err("a kernel that was not launched").to_string();
        assert!(error.contains("gave up"), "{error}");
    }
}
