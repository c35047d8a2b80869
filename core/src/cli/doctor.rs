//! `astropt doctor`: what each backend sees on this machine, and whether it computes.

use serde::Serialize;

use super::bench::random_rows;
use super::chosen::DEFAULT_BACKEND;
use super::output::{Output, columns};
use crate::data::{Batch, Purpose};
use crate::engine::{StepSettings, calm};
use crate::error::{Error, Result};
use crate::model::{ModelConfig, Tokeniser, initial_parameters};
use crate::seam::{Backend, backends};
use crate::tokens::{Positions, TokenSpec, Values};

/// A device, or the lack of one.
#[derive(Serialize)]
struct Finding {
    backend: &'static str,
    summary: &'static str,
    /// Number and name of the device; none when the backend sees none.
    index: Option<usize>,
    device: Option<String>,
    /// Whether a small model trained a step on it.
    works: bool,
    /// Whether it is used where `--backend` says nothing.
    default: bool,
    /// What is wrong, and what to do.
    problem: Option<String>,
}

/// Tries every device of every backend linked.
pub(super) fn doctor(output: Output) -> Result<()> {
    let findings: Vec<Finding> = backends()
        .into_iter()
        .flat_map(|plugin| examine(plugin.info.kind, plugin.info.summary, &*(plugin.build)()))
        .collect();
    output.result(&findings, || describe(&findings))?;
    if findings.iter().any(|finding| finding.works) {
        return Ok(());
    }
    Err(Error::Failed("no backend of this program can compute on this machine".into()))
}

fn examine(backend: &'static str, summary: &'static str, opened: &dyn Backend) -> Vec<Finding> {
    let finding = |index: Option<usize>, device: Option<String>, problem: Option<String>| Finding {
        backend,
        summary,
        index,
        device,
        works: problem.is_none(),
        default: backend == DEFAULT_BACKEND && index == Some(0),
        problem,
    };
    match opened.devices() {
        Err(error) => vec![finding(None, None, Some(error.to_string()))],
        Ok(devices) => devices
            .into_iter()
            .enumerate()
            .map(|(index, device)| {
                // A library that gives up in a panic, such as one without code for this GPU, has
                // failed like any other.
                let tried = calm(|| try_step(opened, index));
                let problem = tried.err().map(|error| said(&error));
                finding(Some(index), Some(device.name), problem)
            })
            .collect(),
    }
}

/// What a device failed with. A model as small as this one wants no smaller batches.
fn said(error: &Error) -> String {
    match error {
        Error::OutOfMemory(cause) => {
            format!("the device has no memory left for a small model ({cause}): others hold it")
        }
        error => error.to_string(),
    }
}

/// One step of a small model: its loss and its gradient's norm are numbers.
fn try_step(backend: &dyn Backend, index: usize) -> Result<()> {
    let spec = TokenSpec {
        values: Values::Continuous { width: 12 },
        positions: Positions::Index { max: 16 },
        loss_weight: 1.0,
        max_tokens: 16,
    };
    let model = ModelConfig {
        layers: 1,
        heads: 2,
        width: 16,
        tokeniser: Tokeniser::Aim,
        modalities: [("images".to_owned(), spec)].into(),
        mask_token: false,
        delimiters: false,
    };
    let purpose = Purpose::Predict;
    let batch =
        Batch::assemble(&random_rows(&model, 2, None, purpose), &model.modalities, purpose)?;
    let mut session = backend.open(index, &model)?;
    session.set_parameters(&initial_parameters(&model, 1))?;
    session.accumulate(batch, 1.0)?;
    let report = session.step(&StepSettings::new(1e-3))?;
    let finite = report.losses.iter().all(|loss| loss.total.is_finite());
    if finite && report.grad_norm.is_finite() && report.grad_norm > 0.0 {
        return Ok(());
    }
    let losses: Vec<String> = report.losses.iter().map(|loss| loss.total.to_string()).collect();
    Err(Error::Failed(format!(
        "a step of a small model gives a loss of {} and a gradient with a norm of {}: this device does \
         not compute what it should. See that driver and libraries are of versions that go together, \
         and try it with another program",
        losses.join(", "),
        report.grad_norm
    )))
}

fn describe(findings: &[Finding]) -> String {
    let name = |f: &Finding| {
        f.index.map_or(f.backend.to_owned(), |index| format!("{}:{index}", f.backend))
    };
    let row = |f: &Finding| {
        let state = match (f.works, &f.device, f.default) {
            (true, _, true) => "works, used unless --backend or a recipe names another",
            (true, _, false) => "works",
            (false, Some(_), _) => "fails",
            (false, None, _) => "no device",
        };
        vec![name(f), state.to_owned(), f.device.clone().unwrap_or_else(|| f.summary.to_owned())]
    };
    let mut text = columns(&findings.iter().map(row).collect::<Vec<_>>());
    for finding in findings {
        if let Some(problem) = &finding.problem {
            text += &format!("\n\n{}: {problem}", name(finding));
        }
    }
    text
}
