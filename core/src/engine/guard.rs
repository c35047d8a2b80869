//! A session whose panics are errors: Burn and the libraries under it panic where a device fails
//! them, for want of memory most of all.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;

use super::{
    HostTensor, Layer, Losses, OptimiserState, Precision, Session, StateDict, StepReport,
    StepSettings,
};
use crate::data::{Batch, Uploads};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::parallel::Ranks;

/// What `work` answers, or the error that it gave up with: [`Error::OutOfMemory`] where its words
/// are of memory.
///
/// # Errors
/// What `work` answers, and when it panics.
pub fn calm<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|cause| Err(gave_up(words(cause.as_ref()).unwrap_or_default())))
}

/// What the first panic for want of memory on a device's own threads said. It stays: what was to be computed after it
/// was not, and nothing that a session answers from then on is of any worth.
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// Hears of panics for want of memory on threads whose names begin with `prefix`, which a device's
/// library keeps to itself: [`heard`] makes errors of them. Of those that follow from the first,
/// nothing is said. Others may be of a kernel that was only tried, and are told of as before.
pub fn listen(prefix: &'static str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
            let text = words(panic.payload()).unwrap_or_default();
            let devices = thread::current().name().is_some_and(|name| name.starts_with(prefix));
            if devices && of_memory(text) {
                lost.get_or_insert_with(|| text.to_owned());
            } else if lost.is_none() {
                drop(lost);
                tell(panic);
            }
        }));
    });
}

/// As [`calm`], and the error that a device's own threads gave up with, now or ever before.
///
/// # Errors
/// As [`calm`], and when [`listen`] has heard of a panic.
pub fn heard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = calm(work);
    match LOST.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
        Some(text) => Err(gave_up(text)),
        None => done,
    }
}

/// The error of a device that gave up with `text`: [`Error::OutOfMemory`] where that is of memory.
pub fn gave_up(text: &str) -> Error {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    // Libraries say where they were before they say why.
    let line = lines.clone().find(|line| line.contains("CUDA_ERROR")).or_else(|| lines.next());
    let line = line.unwrap_or("without a word").trim();
    let line = line.trim_start_matches("called `Result::unwrap()` on an `Err` value: ").to_owned();
    match of_memory(text) {
        true => Error::OutOfMemory(line),
        false => Error::Failed(format!("the device gave up ({line})")),
    }
}

fn words(cause: &(dyn Any + Send)) -> Option<&str> {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
}

/// Whether a panic is for want of memory: CUDA says `CUDA_ERROR_OUT_OF_MEMORY`, CubeCL
/// `BufferTooBig` or `can't allocate`, libtorch `CUDA out of memory` or `can't allocate memory`.
fn of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    ["memory", "alloc", "buffertoobig"].iter().any(|word| text.contains(word))
}

/// Lets panics for want of memory pass without a word, for [`calm`] says what there is to say, and
/// those that [`guarded`](crate::guard::guarded) catches; others are told of as before.
pub(crate) fn quieten() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !crate::guard::is_guarded() && !words(panic.payload()).is_some_and(of_memory) {
            tell(panic);
        }
    }));
}

/// The session within, calm, and none that goes on when a device has [given up](heard).
pub struct Guarded(pub Box<dyn Session>);

impl Session for Guarded {
    fn model(&self) -> &ModelConfig {
        self.0.model()
    }

    fn on_host(&self) -> bool {
        self.0.on_host()
    }

    fn uploads(&mut self) -> Result<Option<Arc<dyn Uploads>>> {
        heard(|| self.0.uploads())
    }

    fn parameters(&self) -> Result<StateDict> {
        heard(|| self.0.parameters())
    }

    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()> {
        heard(|| self.0.set_parameters(parameters))
    }

    fn optimiser(&self) -> Result<OptimiserState> {
        heard(|| self.0.optimiser())
    }

    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()> {
        heard(|| self.0.set_optimiser(state))
    }

    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()> {
        heard(|| self.0.accumulate(batch, scale))
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.0.set_recompute(recompute);
    }

    fn set_precision(&mut self, precision: Precision) -> Result<()> {
        self.0.set_precision(precision)
    }

    fn gradients(&self) -> Result<StateDict> {
        heard(|| self.0.gradients())
    }

    fn sum_gradients(&mut self, ranks: &dyn Ranks, settings: &StepSettings) -> Result<()> {
        heard(|| self.0.sum_gradients(ranks, settings))
    }

    fn step(&mut self, settings: &StepSettings) -> Result<StepReport> {
        heard(|| self.0.step(settings))
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        heard(|| self.0.evaluate(batch))
    }

    fn predict(&mut self, batch: &Batch) -> Result<StateDict> {
        heard(|| self.0.predict(batch))
    }

    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor> {
        heard(|| self.0.hidden(batch, layer))
    }

    fn read(&mut self, batch: &Batch) -> Result<()> {
        heard(|| self.0.read(batch))
    }

    fn predict_next(&mut self, modality: &str) -> Result<HostTensor> {
        heard(|| self.0.predict_next(modality))
    }

    fn forget(&mut self) {
        self.0.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_on_a_devices_thread_is_heard_of() {
        listen("a device of this test");
        let device = |work: fn()| {
            let named = thread::Builder::new().name("a device of this test, 0".into());
            named.spawn(work).expect("a thread").join()
        };
        assert!(device(|| ()).is_ok());
        assert_eq!(heard(|| Ok(1)).expect("nothing was lost"), 1);
        assert!(device(|| panic!("where\nCUDA_ERROR_OUT_OF_MEMORY")).is_err());
        for _ in 0..2 {
            let error = heard(|| Ok(1)).expect_err("a device that gave up");
            let of_memory = matches!(&error, Error::OutOfMemory(why) if why.starts_with("CUDA"));
            assert!(of_memory, "{error}");
        }
        // For the other tests of this process.
        *LOST.lock().expect("no panic holds it") = None;
    }

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        let result: Result<()> = calm(|| panic!("no such device\nor so"));
        let error = result.expect_err("a panic").to_string();
        assert!(error.contains("(no such device)") && !error.contains("micro_batch"), "{error}");
        let result: Result<()> = calm(|| panic!("CUDA_ERROR_OUT_OF_MEMORY\n  at frame 1"));
        let error = result.expect_err("a panic");
        assert!(matches!(error, Error::OutOfMemory(_)), "{error:?}");
        assert!(error.to_string().contains("train.micro_batch"), "{error}");
    }
}
