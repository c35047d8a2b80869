//! A session whose panics are errors: Burn and the libraries under it panic where a device fails
//! them, for want of memory most of all.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{
    HostTensor, Layer, Losses, OptimiserState, Precision, Session, StateDict, StepReport,
    StepSettings,
};
use crate::data::{Batch, Uploads};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::parallel::Ranks;
use crate::progress;

/// What `work` answers, or the error that it gave up with: [`Error::OutOfMemory`] where its words
/// are of memory.
///
/// # Errors
/// What `work` answers, and when it panics.
pub fn calm<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|text| Err(gave_up(&text)))
}

thread_local! {
    /// Whether a panic of this thread is caught here.
    static CALM: Cell<bool> = const { Cell::new(false) };
}

/// What `work` answers, or what it panicked with.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CALM.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CALM.set(outer);
    done.map_err(|cause| words(cause.as_ref()).unwrap_or_default().to_owned())
}

/// What the first error said that no session was told of. It stays: what was to be computed after
/// it was not, and nothing that a session answers from then on is of any worth.
static LOST: Mutex<Option<String>> = Mutex::new(None);

/// How the names begin of threads that are a device's.
static DEVICES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn lock<T>(of: &'static Mutex<T>) -> MutexGuard<'static, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of an error of a device that its library would forget: [`heard`] tells of it.
pub fn lost(text: &str) {
    lock(&LOST).get_or_insert_with(|| text.to_owned());
}

/// Hears of panics on threads whose names begin with `prefix`, which a device's library keeps to
/// itself, going on as if what it was to do were done: [`heard`] makes an error of the first, and
/// nothing is said of what follows from it.
pub fn listen(prefix: &'static str) {
    let mut devices = lock(&DEVICES);
    let first = devices.is_empty();
    if !devices.contains(&prefix) {
        devices.push(prefix);
    }
    drop(devices);
    if !first {
        return;
    }
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let begins = |name: &str| lock(&DEVICES).iter().any(|prefix| name.starts_with(prefix));
        let devices = thread.name().is_some_and(begins);
        if devices {
            lost(words(panic.payload()).unwrap_or_default());
        } else if lock(&LOST).is_none() {
            tell(panic);
        } // else it follows from what was lost
    }));
}

/// Where and why a panic was, without the source of a kernel or the calls that led there, unless
/// the user asks for those (`RUST_BACKTRACE`).
fn tell_in_a_line(panic: &PanicHookInfo, tell: &dyn Fn(&PanicHookInfo)) {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        return tell(panic);
    }
    let place = panic.location().map(|place| {
        // Of a library its name and what follows, not where Cargo keeps it.
        let kept = place.file().split_once("/registry/src/");
        let file = kept.and_then(|(_, rest)| rest.split_once('/'));
        format!("{}:{}: ", file.map_or(place.file(), |(_, file)| file), place.line())
    });
    let text = words(panic.payload()).unwrap_or_default();
    progress::warn(&format!("{}{}", place.unwrap_or_default(), reason(text)));
}

/// As [`calm`], and the error that a device gave up with out of sight, now or ever before.
///
/// # Errors
/// As [`calm`], and when [`listen`] has heard of a panic or [`lost`] was told of an error.
pub fn heard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = caught(work);
    if let Some(text) = lock(&LOST).as_deref() {
        return Err(gave_up(text));
    }
    done.unwrap_or_else(|text| Err(gave_up(&text)))
}

/// As [`calm`] of a device that is tried beside others: what it gave up with, out of sight too, says
/// nothing of them.
///
/// # Errors
/// As [`heard`].
pub(crate) fn apart<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = lock(&LOST).take();
    let done = heard(work);
    *lock(&LOST) = before;
    done
}

/// The error of a device that gave up with `text`: [`Error::OutOfMemory`] where that is of memory.
pub fn gave_up(text: &str) -> Error {
    let reason = reason(text);
    match of_memory(&reason) {
        true => Error::OutOfMemory(reason),
        false => Error::Device(format!("the device gave up ({reason}){}", advice(&reason))),
    }
}

/// The way out, where what a device gave up with has one.
fn advice(reason: &str) -> &'static str {
    if reason.contains("CUDA_ERROR_UNSUPPORTED_PTX_VERSION") {
        return "; NVRTC, which compiled it, must be no newer than NVIDIA's driver: run \
                `CUDA=12.x backends/cuda/setup.sh DIR` with the version that `nvidia-smi` names, or \
                an older one, and set CUDA_PATH=DIR, or install a newer driver";
    }
    if ["No space left on device", "quota exceeded"].iter().any(|words| reason.contains(words)) {
        return "; the kernels that are compiled are kept in $XDG_CACHE_HOME/astropt \
                (~/.cache/astropt): free some space there, or have XDG_CACHE_HOME name a folder on \
                another disk";
    }
    ""
}

/// The line of an error that says why. Libraries say where they were before it (CubeCL: "Caused
/// by:", the names of its errors), and after it who called (a backtrace, whose names of functions
/// say nothing of the cause) or, of a kernel that does not compile, the whole of its source.
fn reason(text: &str) -> String {
    // Burn's bindings of libtorch quote the ends of lines.
    let text = text.replace("\\n", "\n");
    let after = ["backtrace", "no backtrace", "0:", "[source]", "exception raised from", "frame #"];
    let is_after = |line: &str| {
        let line = line.trim().to_lowercase();
        after.iter().any(|begin| line.starts_with(begin))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.take_while(|line| !is_after(line)).map(str::trim).collect();
    let driver = lines.iter().find(|line| line.contains("CUDA_ERROR"));
    // A compiler warns of what it took before it says what it did not take.
    let compiler = || lines.iter().find(|line| line.contains("error:"));
    let is_before = |line: &&str| ["Caused by:", "[Compilation Error]"].contains(line);
    let caused = lines.iter().rposition(is_before).map_or(0, |at| at + 1);
    let line = driver.or_else(compiler).or_else(|| lines.get(caused));
    let line = line.copied().unwrap_or("without a word");
    let line = line.trim_start_matches("called `Result::unwrap()` on an `Err` value: ");
    let shell = line.strip_prefix("ServerUnhealthy { errors: [");
    let line = shell.and_then(|rest| rest.split_once('(')).map_or(line, |(_, line)| line);
    // Of the system's errors, what it says itself.
    let system = line.split_once("Os { ").and_then(|(_, rest)| rest.split_once("message: \""));
    let line = system.map_or(line, |(_, message)| message.trim_end_matches("\" }"));
    line.trim_start_matches("Torch(\"").to_owned()
}

fn words(cause: &(dyn Any + Send)) -> Option<&str> {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied())
}

/// Whether a panic is for want of memory, and not of an access to what is none: CUDA says
/// `CUDA_ERROR_OUT_OF_MEMORY`, CubeCL `BufferTooBig` or `can't allocate`, libtorch `CUDA out of
/// memory` or `can't allocate memory`, cuBLAS `ALLOC_FAILED`, the CPU backend `no memory for`.
fn of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    [
        "out_of_memory",
        "outofmemory",
        "out of memory",
        "no memory",
        "allocate",
        "memory allocation",
        "alloc_failed",
        "bad_alloc",
        "buffertoobig",
    ]
    .iter()
    .any(|word| text.contains(word))
}

/// Lets panics for want of memory pass without a word, for [`calm`] says what there is to say, and
/// those that [`guarded`](crate::guard::guarded) catches. Others that [`calm`] catches are told of
/// in a line, and what nothing catches as before.
pub(crate) fn quieten() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let told = words(panic.payload()).is_some_and(|text| of_memory(&reason(text)));
        if crate::guard::is_guarded() || told {
            return;
        }
        if CALM.get() { tell_in_a_line(panic, &*tell) } else { tell(panic) }
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
    fn panics_on_devices_threads_are_heard_of() {
        let kinds = ["a device of this test", "another device of this test"];
        kinds.into_iter().for_each(listen);
        let on = |kind: &str, work: fn()| {
            let named = thread::Builder::new().name(format!("{kind}, 0"));
            named.spawn(work).expect("a thread").join()
        };
        for kind in kinds {
            assert!(on(kind, || ()).is_ok());
            assert_eq!(heard(|| Ok(1)).expect("nothing was lost"), 1);
            assert!(on(kind, || panic!("where\nCUDA_ERROR_OUT_OF_MEMORY")).is_err());
            for _ in 0..2 {
                let error = heard(|| Ok(1)).expect_err("a device that gave up");
                let of_memory =
                    matches!(&error, Error::OutOfMemory(why) if why.starts_with("CUDA"));
                assert!(of_memory, "{error}");
            }
            *lock(&LOST) = None;
            // Of a device that is tried apart it says nothing of others.
            let tried = apart(|| {
                let full = || {
                    let cause = std::io::Error::from_raw_os_error(28);
                    panic!("called `Result::unwrap()` on an `Err` value: {cause:?}")
                };
                assert!(on(kind, full).is_err());
                // Whoever waits for a thread that panics hears no more than this.
                let waits = || panic!("called `Result::unwrap()` on an `Err` value: RecvError");
                heard(|| -> Result<()> { waits() })
            });
            let error = tried.expect_err("a panic").to_string();
            assert!(error.contains("gave up (No space left on device); "), "{error}");
            assert!(error.contains("XDG_CACHE_HOME"), "{error}");
            assert_eq!(heard(|| Ok(1)).expect("nothing was lost"), 1);
            let error = heard(|| -> Result<()> { panic!("of its own") }).expect_err("a panic");
            assert_eq!(error.to_string(), "the device gave up (of its own)");
        }
        lost("what a library would forget\nbacktrace of 3 allocations");
        lost("what followed from it");
        let error = heard(|| Ok(1)).expect_err("a device that gave up").to_string();
        assert_eq!(error, "the device gave up (what a library would forget)");
        // For the other tests of this process.
        *lock(&LOST) = None;
    }

    #[test]
    fn the_reason_is_found_among_what_libraries_say() {
        for (text, expected) in [
            ("", "without a word"),
            (
                "where\nDriverError(CUDA_ERROR_OUT_OF_MEMORY, \"\")",
                "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"\")",
            ),
            ("CUDA out of memory.\nException raised from malloc\nframe #0", "CUDA out of memory."),
            (
                "called `Result::unwrap()` on an `Err` value: ServerUnhealthy { errors: \
                 [Io(can't allocate buffer of size: 512\n   0: memory_pool::alloc",
                "can't allocate buffer of size: 512",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: Torch(\"size mismatch\\nException \
                 raised from f\\nframe #0: std::allocator<char>\")",
                "size mismatch",
            ),
            (
                "ServerUnhealthy { errors: [Launch(A compilation error happened\nCaused by:\n  An \
                 error caused it\nCaused by:\n  [Compilation Error] \n    k.cu(1): warning: \
                 memory\n    k.cu(3): error: no such name\n[Source]\n  alloc()\nBacktrace:\n  0: f",
                "k.cu(3): error: no such name",
            ),
            ("An error happened\nCaused by:\n  a reason\nBacktrace\n  0: alloc", "a reason"),
        ] {
            assert_eq!(reason(text), expected);
        }
    }

    #[test]
    fn what_has_a_way_out_is_told_with_it() {
        let text = "An error\nCaused by:\n  Unable to load the PTX: \
                    DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"unsupported\")\nBacktrace";
        let error = gave_up(text).to_string();
        assert!(error.contains("setup.sh") && error.contains("newer driver"), "{error}");
    }

    #[test]
    fn a_wrong_access_is_no_want_of_memory() {
        for text in [
            "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")",
            "CUDA error: an illegal memory access was encountered",
            "INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:3",
            "DriverError(CUDA_ERROR_MISALIGNED_ADDRESS, \"misaligned address\")",
        ] {
            let error = gave_up(text);
            assert!(matches!(error, Error::Device(_)), "{error}");
        }
        for text in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "CUDA out of memory. Tried to allocate 2 GiB",
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
            "BufferTooBig(9000000000)",
            "no memory for 25 MB more",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "std::bad_alloc",
        ] {
            let error = gave_up(text);
            assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
        }
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
