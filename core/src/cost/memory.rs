//! The memory that training takes: one formula, for forecasts, for the check before a run
//! begins, and for what to change where a device has run out of it.

use super::machine::among_processes;
use crate::data::UPLOADS;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::recipe::TrainConfig;
use crate::seam::Room;
use crate::tokens::{Positions, TokenSpec};

/// Bytes of a parameter in training: its value, gradient and AdamW's two moments, in f32.
const BYTES_PER_PARAMETER: f64 = 16.0;
/// Bytes of a number that forward keeps for backward.
const BYTES_PER_NUMBER: f64 = 4.0;
/// Micro-batches a worker may be ahead (see [`Loader`](crate::data::Loader)).
const AHEAD: f64 = 3.0;
/// Micro-batches whose inputs a device of its own memory holds before and after their turn.
const AHEAD_ON_DEVICE: f64 = 5.0;
/// Bytes of the program itself, its libraries and its data's tables, on the host.
const PROGRAM: f64 = 1e8;
/// Share of the room above which a run is told that it is close.
const CLOSE: f64 = 0.8;

/// Memory of a training, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Parameters, gradients and AdamW's moments.
    pub model: f64,
    /// What a micro-batch keeps for backward, its own tokens included.
    pub activations: f64,
    /// Micro-batches that are prepared, and a step that is read whole, on the host.
    pub queue: f64,
    /// Inputs of micro-batches that a device with memory of its own holds ahead of their turn.
    pub uploads: f64,
}

impl Memory {
    /// What training `model` takes with micro-batches of `micro_batch` objects that have as
    /// many tokens as they may. Of a block forward keeps 16 d + h + 4 numbers a token, or 2 d
    /// where it is recomputed (docs/ARCHITECTURE.md); backward holds the gradients of one block,
    /// 12 d, beside. docs/RELIABILITY.md compares it with what was measured.
    pub fn of(
        model: &ModelConfig,
        train: &TrainConfig,
        micro_batch: usize,
        recompute: bool,
    ) -> Self {
        let (layers, heads, d) = (model.layers as f64, model.heads as f64, model.width as f64);
        let parameters: f64 = model.parameters().iter().map(|p| p.elements() as f64).sum();
        let specs = || model.modalities.values();
        let row: f64 = specs().map(|spec| spec.max_tokens as f64).sum();
        let placed = specs().filter(|spec| matches!(spec.positions, Positions::Continuous { .. }));
        let block = if recompute { 2.0 * d } else { 16.0 * d + heads + 4.0 };
        let ends = (6.0 + placed.count() as f64) * d + 12.0 * d;
        let tokens: f64 = specs().map(|spec| spec.max_tokens as f64 * numbers(spec)).sum();
        let objects = micro_batch as f64 * BYTES_PER_NUMBER;
        // Inputs and targets of the one that is read, and the predictions and their gradient.
        let activations = objects * (row * (layers * block + ends) + 4.0 * tokens);
        let ahead = AHEAD * train.workers as f64 * objects * 2.0 * tokens;
        // Of several modalities a step is read before its first gradient (`train/targets.rs`).
        let whole = if model.modalities.len() > 1 { train.batch as f64 } else { 0.0 };
        Self {
            model: BYTES_PER_PARAMETER * parameters,
            activations,
            queue: ahead + whole * BYTES_PER_NUMBER * tokens,
            uploads: (AHEAD_ON_DEVICE * objects * tokens).min(UPLOADS as f64),
        }
    }

    /// What of it the device holds.
    pub fn on_device(&self) -> f64 {
        self.model + self.activations
    }

    /// What has to fit the room.
    fn in_room(&self, room: &Room) -> f64 {
        self.on_device() + self.prepared(room) + if room.shared { PROGRAM } else { 0.0 }
    }

    /// What of it are micro-batches whose turn has not come.
    fn prepared(&self, room: &Room) -> f64 {
        if room.shared { self.queue } else { self.uploads }
    }
}

/// Numbers of a token: its value, or the logits that predict it.
fn numbers(spec: &TokenSpec) -> f64 {
    spec.values.size() as f64
}

/// Refuses a training that needs more memory than `device` has room for, in a sentence that
/// says what would fit, or `Ok` with a warning where it is close, or where `train.memory_check`
/// is off.
///
/// # Errors
/// When it does not fit and `train.memory_check` is on.
pub(crate) fn check(
    train: &TrainConfig,
    model: &ModelConfig,
    room: &Room,
    device: &str,
) -> Result<Option<String>> {
    let need = Memory::of(model, train, train.micro_batch, train.recompute);
    let (needed, free) = (need.in_room(room), room.free);
    if needed <= CLOSE * free {
        return Ok(None);
    }
    let sizes = format!(
        "training needs about {} ({} for the model and its optimiser, {} for a micro-batch of \
         {}, {} for those prepared), and {device} has {} free{}",
        gigabytes(needed),
        gigabytes(need.model),
        gigabytes(need.activations),
        train.micro_batch,
        gigabytes(need.prepared(room)),
        gigabytes(free),
        if room.shared { among_processes() } else { String::new() },
    );
    if needed <= free {
        return Ok(Some(format!("memory is close: {sizes}")));
    }
    let message = match smaller(model, train, |memory| memory.in_room(room) <= free) {
        Some(change) => format!("{sizes}; {change}"),
        None => format!(
            "{sizes}; it would not fit with any micro-batch: choose a smaller model, or a larger \
             device"
        ),
    };
    match train.memory_check {
        true => Err(Error::Misuse(format!(
            "{message} (train.memory_check=false tries it all the same)"
        ))),
        false => Ok(Some(message)),
    }
}

/// The error of a device that has run out of memory while it trained, with what to change.
pub(crate) fn exhausted(error: Error, train: &TrainConfig, model: &ModelConfig) -> Error {
    let Error::OutOfMemory(cause) = error else { return error };
    let now = Memory::of(model, train, train.micro_batch, train.recompute);
    // What is free is not known here, but that this was too much, and half may not be.
    let half = now.model + 0.5 * now.activations;
    let change = smaller(model, train, |memory| memory.on_device() <= half);
    let change = change.unwrap_or_else(|| "choose a smaller model, or a larger device".to_owned());
    Error::Device(format!(
        "the device has no more memory ({cause}); a step of micro-batches of {} takes about {}; \
         {change}",
        train.micro_batch,
        gigabytes(now.on_device())
    ))
}

/// The largest micro-batch that fits, kept or recomputed, as what to set.
fn smaller(
    model: &ModelConfig,
    train: &TrainConfig,
    fits: impl Fn(&Memory) -> bool,
) -> Option<String> {
    let largest = |recompute: bool, most: usize| {
        let divisors = (1..=most).rev().filter(|size| train.batch.is_multiple_of(*size));
        let memory = |size| (size, Memory::of(model, train, size, recompute));
        divisors.map(memory).find(|(_, memory)| fits(memory))
    };
    let said = |(size, memory): (usize, Memory), recompute: bool| {
        format!(
            "train.micro_batch={size}{} takes about {}",
            match (recompute, size == train.micro_batch) {
                (true, true) => " with train.recompute=true, which --resume may set,",
                (true, false) => " with train.recompute=true",
                (false, _) => "",
            },
            gigabytes(memory.on_device())
        )
    };
    let kept = largest(train.recompute, train.micro_batch - 1);
    let again = if train.recompute { None } else { largest(true, train.micro_batch) };
    let ways: Vec<String> =
        [kept.map(|way| said(way, train.recompute)), again.map(|way| said(way, true))]
            .into_iter()
            .flatten()
            .collect();
    (!ways.is_empty()).then(|| ways.join(", or "))
}

fn gigabytes(bytes: f64) -> String {
    match bytes / 1e9 {
        large if large >= 9.95 => format!("{large:.0} GB"),
        small if small >= 0.095 => format!("{small:.1} GB"),
        tiny if tiny >= 0.00995 => format!("{:.0} MB", 1e3 * tiny),
        least => format!("{:.1} MB", 1e3 * least),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Tokeniser;
    use crate::tokens::Values;

    fn model() -> ModelConfig {
        let spec = TokenSpec {
            values: Values::Continuous { width: 192 },
            positions: Positions::Index { max: 256 },
            loss_weight: 1.0,
            max_tokens: 256,
        };
        ModelConfig {
            layers: 6,
            heads: 4,
            width: 128,
            tokeniser: Tokeniser::Aim,
            modalities: BTreeMap::from([("images".to_owned(), spec)]),
            mask_token: false,
            delimiters: false,
        }
    }

    fn train() -> TrainConfig {
        let text = "steps = 1\nbatch = 96\nmicro_batch = 48\npeak_lr = 1e-3\nfinal_lr = 1e-4\n\
                    warmup_steps = 0\ndecay_steps = 1\nweight_decay = 0.1\nclip = 1.0\n\
                    eval_every = 1\neval_batches = 0\n";
        toml::from_str(text).expect("a [train]")
    }

    #[test]
    fn activations_are_those_of_the_architecture_page() {
        let (model, train) = (model(), train());
        let kept = Memory::of(&model, &train, 48, false).activations;
        let again = Memory::of(&model, &train, 48, true).activations;
        let blocks = 4.0 * 48.0 * 256.0 * 6.0 * (16.0 * 128.0 + 4.0 + 4.0 - 2.0 * 128.0);
        assert_eq!(kept - again, blocks);
        assert_eq!(Memory::of(&model, &train, 24, false).activations, kept / 2.0);
    }

    #[test]
    fn what_is_advised_fits_and_is_the_largest_that_does() {
        let (model, train) = (model(), train());
        let need = |size, recompute| Memory::of(&model, &train, size, recompute);
        // Room for 31 objects: of the divisors of 96 that is 24; recomputed all fit.
        let room = |shared| {
            let fits = need(31, false).in_room(&Room { free: 0.0, shared });
            Room { free: fits, shared }
        };
        for shared in [false, true] {
            let error = check(&train, &model, &room(shared), "a device").expect_err("too much");
            let error = error.to_string();
            assert!(error.contains("train.micro_batch=24 takes"), "{error}");
            assert!(error.contains("train.micro_batch=48 with train.recompute=true"), "{error}");
        }
        let lenient = TrainConfig { memory_check: false, ..train.clone() };
        assert!(check(&lenient, &model, &room(true), "a device").expect("allowed").is_some());
        let ample = Room { free: 1e12, shared: true };
        assert_eq!(check(&train, &model, &ample, "a device").expect("fits"), None);
        let none = Room { free: 1e6, shared: true }; // less than the program itself
        let error = check(&train, &model, &none, "a device").expect_err("nothing fits");
        assert!(error.to_string().contains("smaller model"), "{error}");
    }

    #[test]
    fn a_device_without_memory_is_told_what_to_try() {
        let (model, train) = (model(), train());
        let error = exhausted(Error::OutOfMemory("CUDA says so".into()), &train, &model);
        let error = error.to_string();
        assert!(
            error.contains("CUDA says so") && error.contains("train.micro_batch=24"),
            "{error}"
        );
        let other = exhausted(Error::Failed("else".into()), &train, &model);
        assert_eq!(other.to_string(), "else");
    }
}
