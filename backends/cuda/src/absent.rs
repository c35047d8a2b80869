//! What stands under the backend's name where it was not built in.

use astropt_core::engine::{Precision, Session};
use astropt_core::model::ModelConfig;
use astropt_core::seam::{Backend, Device};
use astropt_core::{Error, Result, register_backend};

register_backend!("cuda", "NVIDIA GPUs, with kernels of this project", Absent);

struct Absent;

fn reason() -> Error {
    Error::Failed(
        "this program was built without CUDA; build it with `cargo build --release --features \
         cuda`, which needs no CUDA on the machine that builds"
            .into(),
    )
}

impl Backend for Absent {
    fn devices(&self) -> Result<Vec<Device>> {
        Err(reason())
    }

    fn precisions(&self) -> &'static [Precision] {
        &[Precision::F32, Precision::Bf16]
    }

    fn open(&self, _index: usize, _model: &ModelConfig) -> Result<Box<dyn Session>> {
        Err(reason())
    }
}
