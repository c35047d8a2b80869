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

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to a device whose library keeps errors to itself and goes on as if what it was to do were
/// done. The first error stays: nothing that a session on this device answers from then on is of any
/// worth.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    threads: Vec<String>,
    lost: Mutex<Option<String>>,
}

static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(Vec::new());

impl Listener {
    /// That of the device whose library's threads have these names. A panic on one of them is
    /// [`lost`](Self::lost), and nothing is said of what follows from it. The names are a device's
    /// in one order; a program that sets a hook for panics later calls the one that it finds.
    pub fn of(threads: &[String]) -> Self {
        let mut all = lock(&LISTENERS);
        if all.is_empty() {
            listen();
        }
        if let Some(known) = all.iter().find(|known| known.0.threads == threads) {
            return known.clone();
        }
        let new = Self(Arc::new(Heard { threads: threads.to_vec(), lost: Mutex::new(None) }));
        all.push(new.clone());
        new
    }

    /// Of an error that the library would forget: [`heard`](Self::heard) tells of the first.
    /// Whether this is the first.
    pub fn lost(&self, text: &str) -> bool {
        let mut lost = lock(&self.0.lost);
        let first = lost.is_none();
        lost.get_or_insert_with(|| text.to_owned());
        first
    }

    /// As [`calm`], and the error that this device gave up with out of sight, now or ever before.
    ///
    /// # Errors
    /// As [`calm`], and the first that was [`lost`](Self::lost).
    pub fn heard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = calm(work);
        match lock(&self.0.lost).as_deref() {
            Some(text) => Err(gave_up(text)),
            None => done,
        }
    }

    fn has_thread(&self, name: &str) -> bool {
        self.0.threads.iter().any(|thread| thread == name)
    }
}

/// Has [`LISTENERS`] hear of panics.
fn listen() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let all = lock(&LISTENERS);
        match all.iter().find(|one| thread.name().is_some_and(|name| one.has_thread(name))) {
            Some(device) => {
                let first = device.lost(words(panic.payload()).unwrap_or_default());
                if first && wants_traces() {
                    drop(all);
                    tell(panic);
                }
            }
            // It follows from what was lost, or is told of as an error all the same.
            None if CALM.get()
                && !wants_traces()
                && all.iter().any(|device| lock(&device.0.lost).is_some()) => {}
            None => {
                drop(all);
                tell(panic);
            }
        }
    }));
}

/// Whether the user asks for the calls that led to a panic.
fn wants_traces() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

/// Where and why a panic was, without the source of a kernel or the calls that led there, unless
/// the user asks for those (`RUST_BACKTRACE`).
fn tell_in_a_line(panic: &PanicHookInfo, tell: &dyn Fn(&PanicHookInfo)) {
    if wants_traces() {
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
                an older one, and a new folder as DIR, and set CUDA_PATH=DIR, or install a newer \
                driver";
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

/// The session within, calm, and none that goes on when its device has given up
/// ([`Listener::heard`]).
pub struct Guarded {
    session: Box<dyn Session>,
    device: Option<Listener>,
}

impl Guarded {
    /// On a device whose errors are those of its calls.
    pub fn new(session: Box<dyn Session>) -> Self {
        Self { session, device: None }
    }

    /// On a device that is listened to.
    pub fn listening(session: Box<dyn Session>, device: Listener) -> Self {
        Self { session, device: Some(device) }
    }
}

/// As [`Listener::heard`] where there is a listener, else as [`calm`].
fn within<T>(device: &Option<Listener>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match device {
        Some(device) => device.heard(work),
        None => calm(work),
    }
}

impl Session for Guarded {
    fn model(&self) -> &ModelConfig {
        self.session.model()
    }

    fn on_host(&self) -> bool {
        self.session.on_host()
    }

    fn uploads(&mut self) -> Result<Option<Arc<dyn Uploads>>> {
        within(&self.device, || self.session.uploads())
    }

    fn parameters(&self) -> Result<StateDict> {
        within(&self.device, || self.session.parameters())
    }

    fn set_parameters(&mut self, parameters: &StateDict) -> Result<()> {
        within(&self.device, || self.session.set_parameters(parameters))
    }

    fn optimiser(&self) -> Result<OptimiserState> {
        within(&self.device, || self.session.optimiser())
    }

    fn set_optimiser(&mut self, state: &OptimiserState) -> Result<()> {
        within(&self.device, || self.session.set_optimiser(state))
    }

    fn accumulate(&mut self, batch: Batch, scale: f32) -> Result<()> {
        within(&self.device, || self.session.accumulate(batch, scale))
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.session.set_recompute(recompute);
    }

    fn set_precision(&mut self, precision: Precision) -> Result<()> {
        self.session.set_precision(precision)
    }

    fn gradients(&self) -> Result<StateDict> {
        within(&self.device, || self.session.gradients())
    }

    fn sum_gradients(&mut self, ranks: &dyn Ranks, settings: &StepSettings) -> Result<()> {
        within(&self.device, || self.session.sum_gradients(ranks, settings))
    }

    fn step(&mut self, settings: &StepSettings) -> Result<StepReport> {
        within(&self.device, || self.session.step(settings))
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        within(&self.device, || self.session.evaluate(batch))
    }

    fn predict(&mut self, batch: &Batch) -> Result<StateDict> {
        within(&self.device, || self.session.predict(batch))
    }

    fn hidden(&mut self, batch: &Batch, layer: Layer) -> Result<HostTensor> {
        within(&self.device, || self.session.hidden(batch, layer))
    }

    fn read(&mut self, batch: &Batch) -> Result<()> {
        within(&self.device, || self.session.read(batch))
    }

    fn predict_next(&mut self, modality: &str) -> Result<HostTensor> {
        within(&self.device, || self.session.predict_next(modality))
    }

    fn forget(&mut self) {
        self.session.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(thread: &str, work: fn()) -> thread::Result<()> {
        thread::Builder::new().name(thread.to_owned()).spawn(work).expect("a thread").join()
    }

    #[test]
    fn panics_on_a_devices_threads_are_heard_of_it_alone() {
        let names = |kind: &str| [1, 2].map(|k| format!("{kind} {k}"));
        let [device, full, other] = ["a", "b", "c"].map(names);
        let listeners = [&device, &full, &other].map(|threads| Listener::of(threads));
        assert!(on(&device[0], || ()).is_ok());
        for listener in &listeners {
            assert_eq!(listener.heard(|| Ok(1)).expect("nothing was lost"), 1);
        }
        assert!(on(&device[1], || panic!("where\nCUDA_ERROR_OUT_OF_MEMORY")).is_err());
        for _ in 0..2 {
            let error = Listener::of(&device).heard(|| Ok(1)).expect_err("a device that gave up");
            let of_memory = matches!(&error, Error::OutOfMemory(why) if why.starts_with("CUDA"));
            assert!(of_memory, "{error}");
        }
        let disk = || {
            let cause = std::io::Error::from_raw_os_error(28);
            panic!("called `Result::unwrap()` on an `Err` value: {cause:?}")
        };
        assert!(on(&full[0], disk).is_err());
        // Whoever waits for a thread that panics hears no more than this.
        let waits = || panic!("called `Result::unwrap()` on an `Err` value: RecvError");
        let error = listeners[1].heard(|| -> Result<()> { waits() }).expect_err("a panic");
        let error = error.to_string();
        assert!(error.contains("gave up (No space left on device); "), "{error}");
        assert!(error.contains("XDG_CACHE_HOME"), "{error}");
        assert_eq!(listeners[2].heard(|| Ok(1)).expect("nothing was lost"), 1);
        let error = listeners[2].heard(|| -> Result<()> { panic!("of its own") });
        let error = error.expect_err("a panic").to_string();
        assert_eq!(error, "the device gave up (of its own)");
        assert!(listeners[2].lost("what a library would forget\nbacktrace of 3 allocations"));
        assert!(!listeners[2].lost("what followed from it"));
        let error = listeners[2].heard(|| Ok(1)).expect_err("a device that gave up").to_string();
        assert_eq!(error, "the device gave up (what a library would forget)");
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
