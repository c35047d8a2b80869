//! Whole models on a platform's kernels against the same models on the reference kernels.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use burn_backend::tensor::Device;

use super::super::kernels::Numbers;
use super::{Check, ensure};
use crate::data::{Batch, Purpose, Row};
use crate::engine::{self, HostTensor, Session, StateDict, StepReport, StepSettings};
use crate::kernels::{Kernels, Platform, Reference};
use crate::model::{ModelConfig, Tokeniser};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// The Burn backend of `P` with the kernels `R`.
#[derive(Clone, Copy, Debug)]
pub struct ReferencePlatform<P, R = Reference>(PhantomData<(P, R)>);

impl<P: Platform, R: Kernels<P::Backend> + Clone> Platform for ReferencePlatform<P, R> {
    type Backend = P::Backend;
    type Kernels = R;
}

/// Three steps of three models on `P`'s kernels and on the reference: first gradients, losses,
/// norms and predictions agree.
///
/// # Errors
/// The first number that differs.
pub fn check_platform<P: Platform>(device: &Device<P::Backend>) -> Check {
    check_platform_against::<P, Reference>(device)
}

/// The same against the truth `R`: the reference with another product.
///
/// # Errors
/// The first number that differs.
pub fn check_platform_against<P: Platform, R: Kernels<P::Backend> + Clone>(
    device: &Device<P::Backend>,
) -> Check {
    for (tokeniser, mixed) in
        [(Tokeniser::Aim, false), (Tokeniser::Paper, true), (Tokeniser::Affine, true)]
    {
        compare::<P, R>(device, &model(tokeniser), mixed)
            .map_err(|wrong| format!("{tokeniser:?}: {wrong}"))?;
    }
    Ok(())
}

/// The first gradients of the same models where `P` rounds factors to bf16, against the truth `R` in
/// `f32`.
///
/// # Errors
/// The first number that differs by more than rounding explains.
pub fn check_platform_rounded<P: Platform, R: Kernels<P::Backend> + Clone>(
    device: &Device<P::Backend>,
) -> Check {
    for (tokeniser, mixed) in [(Tokeniser::Aim, false), (Tokeniser::Affine, true)] {
        let model = model(tokeniser);
        let gradients = || {
            let batch = batch(&model, mixed)?;
            let gradients = opened::<P, R>(device, &model)?.map(|mut session| {
                session.accumulate(batch.clone(), 0.5)?;
                session.gradients()
            });
            let [ours, truth] = gradients;
            Ok([ours?, truth?])
        };
        let [ours, truth] = gradients().map_err(|e: crate::Error| e.to_string())?;
        close("gradient", &ours, &truth, 0.05)
            .map_err(|wrong| format!("{tokeniser:?}: {wrong}"))?;
    }
    Ok(())
}

/// A session on `P`'s kernels and one on `R`, of the same parameters.
fn opened<P: Platform, R: Kernels<P::Backend> + Clone>(
    device: &Device<P::Backend>,
    model: &ModelConfig,
) -> crate::Result<[Box<dyn Session>; 2]> {
    let mut ours = engine::open::<P>(device.clone(), model)?;
    let mut truth = engine::open::<ReferencePlatform<P, R>>(device.clone(), model)?;
    ours.set_parameters(&parameters(model))?;
    truth.set_parameters(&parameters(model))?;
    Ok([ours, truth])
}

fn compare<P: Platform, R: Kernels<P::Backend> + Clone>(
    device: &Device<P::Backend>,
    model: &ModelConfig,
    mixed: bool,
) -> Check {
    let text = |e: crate::Error| e.to_string();
    let batch = batch(model, mixed).map_err(text)?;
    let [mut ours, mut truth] = opened::<P, R>(device, model).map_err(text)?;
    for step in 0..3 {
        ours.accumulate(batch.clone(), 0.5).map_err(text)?;
        truth.accumulate(batch.clone(), 0.5).map_err(text)?;
        if step == 0 {
            let (ours, truth) = (ours.gradients(), truth.gradients());
            close("gradient", &ours.map_err(text)?, &truth.map_err(text)?, 2e-5)?;
        }
        let ours = ours.step(&StepSettings::new(1e-3)).map_err(text)?;
        let truth = truth.step(&StepSettings::new(1e-3)).map_err(text)?;
        close_reports(&ours, &truth)?;
    }
    let (ours, truth) = (ours.predict(&batch), truth.predict(&batch));
    close("prediction", &ours.map_err(text)?, &truth.map_err(text)?, 1e-4)
}

fn close_reports(ours: &StepReport, truth: &StepReport) -> Check {
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-5 * b.abs();
    let losses = ours.losses.iter().zip(&truth.losses).all(|(a, b)| near(a.total, b.total));
    ensure(losses && near(ours.grad_norm, truth.grad_norm), || {
        format!("a step reports {ours:?}, on the reference {truth:?}")
    })
}

fn close(what: &str, ours: &StateDict, truth: &StateDict, tolerance: f32) -> Check {
    ensure(ours.keys().eq(truth.keys()), || format!("other {what}s than on the reference"))?;
    for (name, truth) in truth {
        let ours = &ours[name];
        ensure(ours.shape == truth.shape, || format!("{what} of {name}: another shape"))?;
        let largest = truth.data.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
        for (a, b) in ours.data.iter().zip(&truth.data) {
            ensure((a - b).abs() / largest <= tolerance, || {
                format!("{what} of {name}: {a}, not {b}; the largest is {largest}")
            })?;
        }
    }
    Ok(())
}

/// Continuous values and codes, positions of both kinds.
fn model(tokeniser: Tokeniser) -> ModelConfig {
    let spec =
        |values, positions| TokenSpec { values, positions, loss_weight: 1.5, max_tokens: 90 };
    let index = Positions::Index { max: 90 };
    ModelConfig {
        layers: 2,
        heads: 3,
        width: 24,
        tokeniser,
        mask_token: false,
        delimiters: false,
        modalities: BTreeMap::from([
            ("images".to_owned(), spec(Values::Continuous { width: 20 }, index)),
            (
                "spectra".to_owned(),
                spec(Values::Continuous { width: 7 }, Positions::Continuous { width: 2 }),
            ),
            ("types".to_owned(), spec(Values::Codes { vocabulary: 11 }, index)),
        ]),
    }
}

fn parameters(model: &ModelConfig) -> StateDict {
    let mut draw = Numbers::new(5);
    let parameters = model.parameters().into_iter().map(|p| {
        let data = draw.take(p.elements()).iter().map(|x| 0.3 * x).collect();
        (p.name, HostTensor { shape: p.shape, data })
    });
    parameters.collect()
}

/// One modality that fills the grid, or all three in rows of different lengths.
fn batch(model: &ModelConfig, mixed: bool) -> crate::Result<Batch> {
    let mut draw = Numbers::new(9);
    let mut row = |length: usize| -> Row {
        let images = Tokens {
            len: length,
            values: draw.take(20 * length).into(),
            indices: (0..length as u32).collect(),
            ..Tokens::default()
        };
        let spectra = Tokens {
            len: 9,
            values: draw.take(7 * 9).into(),
            positions: draw.take(2 * 9),
            ..Tokens::default()
        };
        let types = Tokens { len: 2, codes: vec![3, 10], indices: vec![0, 1], ..Tokens::default() };
        let mut row = vec![("images".to_owned(), images)];
        if mixed {
            row.push(("spectra".to_owned(), spectra));
            row.push(("types".to_owned(), types));
        }
        row
    };
    let second = if mixed { 50 } else { 71 };
    let rows = [("a".to_owned(), row(71)), ("b".to_owned(), row(second))];
    Batch::assemble(&rows, &model.modalities, Purpose::Predict)
}
