//! What training writes down: `metrics.jsonl` (what the numbers were: the same bytes for
//! the same recipe, seed and machine), `timings.jsonl` (how fast), and TensorBoard events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tensorboard::EventFile;
use crate::checkpoint::write_bytes;
use crate::engine::Losses;
use crate::error::{Error, Result};
use crate::plain;

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
        /// Mean loss over the objects.
        loss: f64,
        /// Unweighted loss by modality.
        modalities: std::collections::BTreeMap<String, f64>,
        /// Loss of predicting zero everywhere, for comparison.
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
    metrics: (PathBuf, File),
    timings: (PathBuf, File),
    events: EventFile,
}

impl MetricsWriter {
    /// Opens the files in `folder` to go on after `step`, `None` where there is no checkpoint
    /// yet: later lines, which an interrupted run left behind, are cut off.
    pub(crate) fn open(folder: &Path, step: Option<u64>) -> Result<Self> {
        let metrics = folder.join(METRICS);
        let timings = folder.join(TIMINGS);
        let kept = |at: u64| step.is_some_and(|step| at <= step);
        keep_lines(&metrics, |metric: &Metric| kept(metric.step()))?;
        keep_lines(&timings, |timing: &Timing| kept(timing.step))?;
        Ok(Self {
            metrics: append(metrics)?,
            timings: append(timings)?,
            events: EventFile::create(folder)?,
        })
    }

    /// Cuts off what came after `step`, to which the training goes back.
    pub(crate) fn back_to(&mut self, step: u64) -> Result<()> {
        let (metrics, timings) = (self.metrics.0.clone(), self.timings.0.clone());
        keep_lines(&metrics, |metric: &Metric| metric.step() <= step)?;
        keep_lines(&timings, |timing: &Timing| timing.step <= step)?;
        (self.metrics, self.timings) = (append(metrics)?, append(timings)?);
        Ok(())
    }

    /// Flushes the metrics to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let (path, file) = &self.metrics;
        file.sync_data().map_err(|e| Error::io("write", path, &e))
    }

    /// Appends a metric.
    pub(crate) fn metric(&mut self, metric: &Metric) -> Result<()> {
        put_line(&mut self.metrics, metric)?;
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
        put_line(&mut self.timings, timing)?;
        let mut tags = vec![
            ("speed/tokens_per_second", timing.tokens_per_second),
            ("speed/data_seconds", timing.data_seconds),
        ];
        tags.extend(timing.device_memory_bytes.map(|bytes| ("device/memory_bytes", bytes as f64)));
        tags.extend(timing.device_utilisation.map(|share| ("device/utilisation", share)));
        self.events.scalars(timing.step, &tags)
    }
}

pub(super) fn append(path: PathBuf) -> Result<(PathBuf, File)> {
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(|e| Error::io("write", &path, &e))?;
    Ok((path, file))
}

pub(super) fn put_line((path, file): &mut (PathBuf, File), line: &impl Serialize) -> Result<()> {
    file.write_all(to_line(line)?.as_bytes()).map_err(|e| Error::io("write", &*path, &e))
}

fn to_line(record: &impl Serialize) -> Result<String> {
    serde_json::to_string(record)
        .map(|text| text + "\n")
        .map_err(|e| Error::Failed(format!("cannot write a metric: {e}")))
}

/// Reads a file of JSON lines; a last line cut short by an interruption is left out.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path, &e)),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(k, line)| {
            serde_json::from_str(line).map_err(|e| {
                Error::file(path, format!("line {}: {}", k + 1, plain::json_value(&e)))
            })
        })
        .collect()
}

pub(super) fn keep_lines<T: Serialize + DeserializeOwned>(
    path: &Path,
    keep: impl Fn(&T) -> bool,
) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let records: Vec<T> = read_lines(path)?;
    let mut text = String::new();
    for record in records.iter().filter(|record| keep(record)) {
        text += &to_line(record)?;
    }
    write_bytes(path, text.as_bytes())
}

/// The mean of losses, each counted `weight` times.
#[derive(Debug, Default)]
pub(crate) struct MeanLosses {
    total: f64,
    modalities: std::collections::BTreeMap<String, (f64, f64)>,
    weight: f64,
}

impl MeanLosses {
    pub(crate) fn add(&mut self, losses: &Losses, weight: f64) {
        self.total += weight * f64::from(losses.total);
        self.weight += weight;
        for (name, loss) in &losses.modalities {
            let (sum, count) = self.modalities.entry(name.clone()).or_default();
            *sum += weight * f64::from(*loss);
            *count += weight;
        }
    }

    pub(crate) fn total(&self) -> f64 {
        self.total / self.weight
    }

    pub(crate) fn modalities(&self) -> std::collections::BTreeMap<String, f64> {
        self.modalities.iter().map(|(name, (sum, n))| (name.clone(), sum / n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        drop(MetricsWriter::open(folder.path(), Some(3)).expect("writable"));
        let kept: Vec<Timing> = read_lines(&path).expect("readable");
        assert_eq!(kept, [timing(1), timing(2), timing(3)]);
        // Without a checkpoint nothing that was written leads to one.
        drop(MetricsWriter::open(folder.path(), None).expect("writable"));
        assert!(read_lines::<Timing>(&path).expect("readable").is_empty());
    }
}
