//! What training writes down: `metrics.jsonl` (what the numbers were: the same bytes for
//! the same recipe, seed and machine), `timings.jsonl` (how fast), and TensorBoard events.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::{LineFile, digest_lines, each_line, read_lines};
use super::tensorboard::EventFile;
use crate::error::{Error, Result};
use crate::progress;
use crate::run::TrainState;

/// File of [`Metric`] lines.
pub const METRICS: &str = "metrics.jsonl";
/// File of [`Timing`] lines.
pub const TIMINGS: &str = "timings.jsonl";

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Metric {
    /// An optimiser step was taken.
    Train {
        /// Steps taken, this one included.
        step: u64,
        /// Loss before the step, mean over its micro-batches.
        loss: f64,
        /// Unweighted loss by modality.
        modalities: std::collections::BTreeMap<String, f64>,
        /// Learning rate of the step.
        lr: f64,
        /// Global norm of the gradient before clipping.
        grad_norm: f64,
        /// Tokens read so far.
        tokens: u64,
    },
    /// The validation objects were evaluated.
    Validation {
        /// Steps taken before it.
        step: u64,
        /// Weighted loss, mean over the modalities that are predicted.
        loss: f64,
        /// Unweighted loss by modality, mean over its targets.
        modalities: std::collections::BTreeMap<String, f64>,
        /// Loss of predicting zero everywhere, for comparison: of the same targets.
        zero_loss: f64,
        /// Objects evaluated.
        objects: u64,
    },
}

impl Metric {
    /// Steps taken when it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train { step, .. } | Self::Validation { step, .. } => *step,
        }
    }
}

/// One line of `timings.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Steps taken, this one included.
    pub step: u64,
    /// Wall-clock seconds of the step.
    pub seconds: f64,
    /// Seconds of them spent waiting for data.
    pub data_seconds: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// Model FLOPs per second: 6 N per token, attention not counted.
    pub flops_per_second: f64,
    /// Bytes of the device's memory that are taken, where its driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// Share of the time that the device computes in, 0 to 1, where its driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_utilisation: Option<f64>,
}

/// Appends metrics and timings to a run.
pub(crate) struct MetricsWriter {
    metrics: LineFile,
    timings: LineFile,
    events: EventFile,
}

impl MetricsWriter {
    /// Opens the files in `folder` to go on after the checkpoint of `state`, `None` where there is
    /// none yet: later lines, which an interrupted run left behind, are cut off.
    ///
    /// # Errors
    /// When a file cannot be read or written, or the metrics are not those that led to the
    /// checkpoint.
    pub(crate) fn open(folder: &Path, state: Option<&TrainState>) -> Result<Self> {
        let (metrics, timings) = Self::cut(folder, state)?;
        Ok(Self { metrics, timings, events: EventFile::new(folder) })
    }

    /// Cuts off what came after `state`, to which the training goes back.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn back_to(&mut self, folder: &Path, state: &TrainState) -> Result<()> {
        (self.metrics, self.timings) = Self::cut(folder, Some(state))?;
        Ok(())
    }

    fn cut(folder: &Path, state: Option<&TrainState>) -> Result<(LineFile, LineFile)> {
        let kept = |at: u64| state.is_some_and(|state| at <= state.step);
        let metrics = LineFile::open(folder.join(METRICS), |metric: &Metric| kept(metric.step()))?;
        let timings = LineFile::open(folder.join(TIMINGS), |timing: &Timing| kept(timing.step))?;
        if let Some((state, stated)) =
            state.and_then(|state| Some((state, state.metrics.as_ref()?)))
            && metrics.digest() != *stated
        {
            lead(&metrics, state.step)?;
        }
        Ok((metrics, timings))
    }

    /// Digest of all metrics, for the checkpoint that they lead to.
    pub(crate) fn digest(&self) -> String {
        self.metrics.digest()
    }

    /// Flushes the metrics to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&self) -> Result<()> {
        self.metrics.sync()
    }

    /// Notices that the metrics were deleted or replaced.
    ///
    /// # Errors
    /// When they were.
    pub(crate) fn still_there(&self) -> Result<()> {
        self.metrics.still_there()
    }

    /// Appends a metric.
    pub(crate) fn metric(&mut self, metric: &Metric) -> Result<()> {
        self.metrics.put(metric)?;
        match metric {
            Metric::Train { step, loss, lr, grad_norm, .. } => self
                .events
                .scalars(*step, &[("train/loss", *loss), ("lr", *lr), ("grad_norm", *grad_norm)]),
            Metric::Validation { step, loss, .. } => {
                self.events.scalars(*step, &[("validation/loss", *loss)])
            }
        }
    }

    /// Appends a timing.
    pub(crate) fn timing(&mut self, timing: &Timing) -> Result<()> {
        self.timings.put(timing)?;
        let mut tags = vec![
            ("speed/tokens_per_second", timing.tokens_per_second),
            ("speed/data_seconds", timing.data_seconds),
        ];
        tags.extend(timing.device_memory_bytes.map(|bytes| ("device/memory_bytes", bytes as f64)));
        tags.extend(timing.device_utilisation.map(|share| ("device/utilisation", share)));
        self.events.scalars(timing.step, &tags)
    }
}

/// Digest of the lines in the metrics file `path` until `step`, as
/// [`digest`](MetricsWriter::digest) was after it; `None` where there are none.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub(crate) fn digest_until(path: &Path, step: u64) -> Result<Option<String>> {
    let mut metrics = read_lines::<Metric>(path)?;
    metrics.retain(|metric| metric.step() <= step);
    (!metrics.is_empty()).then(|| digest_lines(&metrics)).transpose()
}

/// The validation loss after `step` in the metrics file `path`, where it has one.
///
/// # Errors
/// As [`digest_until`].
pub(crate) fn validation_at(path: &Path, step: u64) -> Result<Option<f64>> {
    Ok(read_lines(path)?.into_iter().find_map(|metric| match metric {
        Metric::Validation { step: at, loss, .. } if at == step => Some(loss),
        _ => None,
    }))
}

/// What the steps of a training predicted.
#[derive(Debug, PartialEq)]
pub(crate) struct Predicted {
    /// The first step that is told of.
    pub(crate) first: u64,
    /// Modalities that any of them predicted tokens of.
    pub(crate) modalities: BTreeSet<String>,
}

/// What the steps until `step` predicted, by the metrics file `path`; `None` where it tells of none.
///
/// # Errors
/// As [`digest_until`].
pub(crate) fn predicted_until(path: &Path, step: u64) -> Result<Option<Predicted>> {
    let mut predicted = None;
    each_line(path, |metric| match metric {
        Metric::Train { step: at, modalities, .. } if at <= step => {
            let all = predicted
                .get_or_insert_with(|| Predicted { first: at, modalities: BTreeSet::new() });
            all.modalities.extend(modalities.into_keys());
        }
        _ => {}
    })?;
    Ok(predicted)
}

/// The error of metrics in the file `path` that did not lead to the checkpoint after `step`.
pub(crate) fn not_as_led(path: &Path, step: u64) -> Error {
    Error::file(
        path,
        format!(
            "is not what it was at the checkpoint after step {step}: lines are missing or were \
             changed, or the checkpoint is another run's; copy both again, or delete the file to go \
             on without the losses of these steps"
        ),
    )
}

/// Metrics that are not those which led to the checkpoint after `step`: none are told of, others
/// refused.
fn lead(metrics: &LineFile, step: u64) -> Result<()> {
    let path = metrics.path();
    if std::fs::metadata(path).is_ok_and(|data| data.len() > 0) {
        return Err(not_as_led(path, step));
    }
    progress::warn(&format!(
        "{} is gone: the losses of the {step} steps before are lost, the training goes on",
        path.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(step: u64) -> TrainState {
        TrainState { step, ..TrainState::default() }
    }

    /// A checkpoint knows the metrics that led to it.
    #[test]
    fn metrics_that_were_lost_or_changed_are_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(METRICS);
        let metric = |step| Metric::Train {
            step,
            loss: 0.25,
            modalities: [].into(),
            lr: 1e-4,
            grad_norm: 1.5,
            tokens: 8,
        };
        let mut writer = MetricsWriter::open(folder.path(), None).expect("writable");
        (1..=3).for_each(|step| writer.metric(&metric(step)).expect("written"));
        let state = TrainState { metrics: Some(writer.digest()), ..after(3) };
        (4..=5).for_each(|step| writer.metric(&metric(step)).expect("written"));
        let reopen = || MetricsWriter::open(folder.path(), Some(&state));
        assert_eq!(reopen().expect("cut back").digest(), writer_digest(&state));
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        for other in [lines[..2].join("\n"), text.replacen("0.25", "0.26", 1)] {
            std::fs::write(&path, other + "\n").expect("writable");
            let error = reopen().err().expect("not what led there").to_string();
            assert!(error.contains("metrics.jsonl: is not what it was"), "{error}");
        }
        std::fs::remove_file(&path).expect("deleted");
        reopen().expect("goes on without");
    }

    #[test]
    fn what_was_predicted_is_what_the_steps_have_losses_of() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(METRICS);
        let modalities = |names: &[&str]| names.iter().map(|name| ((*name).into(), 0.5)).collect();
        let train = |step, names: &[&str]| Metric::Train {
            step,
            loss: 0.5,
            modalities: modalities(names),
            lr: 1e-4,
            grad_norm: 1.5,
            tokens: 8,
        };
        let mut writer = MetricsWriter::open(folder.path(), None).expect("writable");
        let validation = Metric::Validation {
            step: 0,
            loss: 0.5,
            modalities: modalities(&["z"]),
            zero_loss: 0.5,
            objects: 1,
        };
        for metric in [validation, train(2, &["b"]), train(3, &["a", "b"]), train(4, &["c"])] {
            writer.metric(&metric).expect("written");
        }
        let until = |step| predicted_until(&path, step).expect("readable");
        assert_eq!(until(1), None);
        let names = |step| until(step).expect("told").modalities.into_iter().collect::<String>();
        assert_eq!([names(2), names(3), names(9)], ["b", "ab", "abc"]);
        assert_eq!(until(9).expect("told").first, 2);
        assert_eq!(predicted_until(&folder.path().join("none"), 9).expect("no file"), None);
    }

    fn writer_digest(state: &TrainState) -> String {
        state.metrics.clone().expect("stated")
    }

    #[test]
    fn resuming_cuts_off_what_came_after() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let timing = |step| Timing {
            step,
            seconds: 1.0,
            data_seconds: 0.0,
            tokens_per_second: 1.0,
            flops_per_second: 1.0,
            device_memory_bytes: (step > 2).then_some(1 << 30),
            device_utilisation: None,
        };
        let mut writer = MetricsWriter::open(folder.path(), None).expect("writable");
        for step in 1..=5 {
            writer.timing(&timing(step)).expect("writable");
        }
        drop(writer);
        // An interrupted write leaves half a line.
        let path = folder.path().join(TIMINGS);
        let mut text = std::fs::read_to_string(&path).expect("readable");
        text.push_str("{\"step\":6,\"sec");
        std::fs::write(&path, text).expect("writable");
        drop(MetricsWriter::open(folder.path(), Some(&after(3))).expect("writable"));
        let kept: Vec<Timing> = read_lines(&path).expect("readable");
        assert_eq!(kept, [timing(1), timing(2), timing(3)]);
        // Without a checkpoint nothing that was written leads to one.
        drop(MetricsWriter::open(folder.path(), None).expect("writable"));
        assert!(read_lines::<Timing>(&path).expect("readable").is_empty());
    }
}
