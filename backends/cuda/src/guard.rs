//! A session whose panics are errors: CubeCL and Burn panic where the GPU fails them, for want of
//! memory most of all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use astropt_core::data::Batch;
use astropt_core::engine::{
    HostTensor, Layer, Losses, OptimiserState, Precision, Session, StateDict, StepReport,
    StepSettings,
};
use astropt_core::error::{Error, Result};
use astropt_core::model::ModelConfig;
use astropt_core::parallel::Ranks;

/// What `work` answers, or the error that it gave up with.
pub(crate) fn calm<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
        let line = text.and_then(|text| text.lines().find(|line| !line.trim().is_empty()));
        Err(Error::Failed(format!(
            "the GPU gave up ({}); a smaller train.micro_batch or train.recompute = true needs \
             less of its memory, and `nvidia-smi` shows who else has some",
            line.unwrap_or("without a word")
        )))
    })
}

/// The session within, calm.
pub(crate) struct Guarded(pub(crate) Box<dyn Session>);

impl Session for Guarded {
    fn model(&self) -> &ModelConfig {
        self.0.model()
    }

    fn parameters(&self) -> Result<StateDict> {
        calm(|| self.0.parameters())
    }

    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()> {
        calm(|| self.0.set_parameters(parameters))
    }

    fn optimiser(&self) -> Result<OptimiserState> {
        calm(|| self.0.optimiser())
    }

    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()> {
        calm(|| self.0.set_optimiser(state))
    }

    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()> {
        calm(|| self.0.accumulate(batch, scale))
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.0.set_recompute(recompute);
    }

    fn set_precision(&mut self, precision: Precision) -> Result<()> {
        self.0.set_precision(precision)
    }

    fn gradients(&self) -> Result<StateDict> {
        calm(|| self.0.gradients())
    }

    fn sum_gradients(&mut self, ranks: &dyn Ranks) -> Result<()> {
        calm(|| self.0.sum_gradients(ranks))
    }

    fn step(&mut self, settings: &StepSettings) -> Result<StepReport> {
        calm(|| self.0.step(settings))
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        calm(|| self.0.evaluate(batch))
    }

    fn predict(&mut self, batch: &Batch) -> Result<StateDict> {
        calm(|| self.0.predict(batch))
    }

    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor> {
        calm(|| self.0.hidden(batch, layer))
    }

    fn read(&mut self, batch: &Batch) -> Result<()> {
        calm(|| self.0.read(batch))
    }

    fn predict_next(&mut self, modality: &str) -> Result<HostTensor> {
        calm(|| self.0.predict_next(modality))
    }

    fn forget(&mut self) {
        self.0.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        let result: Result<()> = calm(|| panic!("no room\nfor more"));
        let error = result.expect_err("a panic").to_string();
        assert!(error.contains("(no room)") && error.contains("train.micro_batch"), "{error}");
    }
}
