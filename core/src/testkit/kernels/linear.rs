//! Products of matrices and linear layers, alone and as they stand in a block.

use burn_backend::tensor::Device;
use burn_tensor::{Tensor, TensorData};

use super::numbers::{Numbers, TOLERANCE, close_within, given, growing};
use super::{Check, ROUNDED, T};
use crate::kernels::{Kernels, Normalised, Platform};

/// Linear layers of `n` rows from `i` to `o` numbers, alone and as they stand in a block.
///
/// # Errors
/// The first number that differs.
pub fn linear<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    i: usize,
    o: usize,
    bias: bool,
    seed: u64,
) -> Check {
    layers::<P, R>(device, [n, i, o], bias, seed, TOLERANCE)
}

/// The same where products may be off by `tolerance`.
pub(super) fn layers<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    shape: [usize; 3],
    bias: bool,
    seed: u64,
    tolerance: f32,
) -> Check {
    alone::<P, R>(device, shape, bias, seed, tolerance)?;
    within::<P, R>(device, shape, seed, tolerance)
}

fn alone<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    [n, i, o]: [usize; 3],
    bias: bool,
    seed: u64,
    tolerance: f32,
) -> Check {
    let mut draw = Numbers::new(seed);
    let (x, w): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, i], 1.0, device), draw.tensor([o, i], 1.0, device));
    let b: Option<T<P, 1>> = bias.then(|| draw.tensor([o], 1.0, device));
    let dy: T<P, 2> = draw.tensor([n, o], 1.0, device);
    let close =
        |what: &str, ours: &T<P, 2>, truth: &T<P, 2>| close_within(what, ours, truth, tolerance);
    // Of a matrix as it lies, and of one that is seen across.
    let ours = P::Kernels::product(dy.clone(), w.clone());
    close("product", &ours, &R::product(dy.clone(), w.clone()))?;
    let ours = P::Kernels::product(dy.clone().transpose(), x.clone());
    close("product of a transposed matrix", &ours, &R::product(dy.clone().transpose(), x.clone()))?;
    let ours = P::Kernels::linear(x.clone(), w.clone(), b.clone());
    close("linear", &ours, &R::linear(x.clone(), w.clone(), b))?;
    for input in [true, false] {
        let ours = P::Kernels::linear_backward(x.clone(), w.clone(), dy.clone(), input, bias);
        let truth = R::linear_backward(x.clone(), w.clone(), dy.clone(), input, bias);
        close("gradient for linear's weight", &ours.dw_oi, &truth.dw_oi)?;
        given("gradient for linear's input", ours.dx_ni, truth.dx_ni, tolerance)?;
        // A parameter's gradient that no product has a part in.
        given("gradient for linear's bias", ours.db_o, truth.db_o, TOLERANCE)?;
    }
    Ok(())
}

/// Products that sum very many numbers, which a kernel that rounds factors to bf16 must not round as
/// they grow: of a row's numbers, and of rows.
pub(super) fn long_sums<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    let (few, many) = (4, 2048);
    let mut draw = Numbers::new(1);
    let rows: Vec<f32> = (0..few).flat_map(|_| growing(many, &mut draw)).collect();
    let x: T<P, 2> = Tensor::from_data(TensorData::new(rows, [few, many]), device);
    let w: T<P, 2> = draw.tensor([few, many], 0.5, device) + 1.5;
    let close =
        |what: &str, ours: &T<P, 2>, truth: &T<P, 2>| close_within(what, ours, truth, ROUNDED);
    let ours = P::Kernels::linear(x.clone(), w.clone(), None);
    close("linear of many numbers", &ours, &R::linear(x.clone(), w.clone(), None))?;
    let [x, dy] = [x, w].map(|turned| turned.transpose() * 1.0);
    let w: T<P, 2> = Tensor::zeros([few, few], device);
    let ours = P::Kernels::linear_backward(x.clone(), w.clone(), dy.clone(), false, false);
    let truth = R::linear_backward(x, w, dy, false, false);
    close("gradient for a weight of many rows", &ours.dw_oi, &truth.dw_oi)
}

/// What kernels hand to each other, which those that round may have rounded.
fn within<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    [n, i, o]: [usize; 3],
    seed: u64,
    tolerance: f32,
) -> Check {
    let mut draw = Numbers::new(seed);
    let (x, w): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, i], 1.0, device), draw.tensor([o, i], 1.0, device));
    let gain: T<P, 1> = draw.tensor([i], 1.0, device);
    let dlinear: T<P, 2> = draw.tensor([n, o], 1.0, device);
    let (back, onto): (T<P, 2>, T<P, 2>) =
        (draw.tensor([i, o], 1.0, device), draw.tensor([n, i], 1.0, device));
    let close =
        |what: &str, ours: &T<P, 2>, truth: &T<P, 2>| close_within(what, ours, truth, tolerance);
    // As in a block: each kernel reads what the one before it made.
    let Normalised { y_nd: norm, mean_n, rstd_n } =
        P::Kernels::layer_norm_within(x.clone(), gain.clone(), 1e-2);
    let truth = R::layer_norm(x.clone(), gain.clone(), 1e-2);
    close_within("layer norm's means within", &mean_n, &truth.mean_n, TOLERANCE)?;
    close_within("layer norm's deviations within", &rstd_n, &truth.rstd_n, TOLERANCE)?;
    let truth = truth.y_nd;
    close("layer norm within", &norm, &truth)?;
    let [dnorm, dw] = P::Kernels::linear_backward_within(norm.clone(), w.clone(), dlinear.clone());
    let [true_dnorm, true_dw] = R::linear_backward_within(truth.clone(), w.clone(), dlinear);
    close("gradient for a linear layer's input", &dnorm, &true_dnorm)?;
    close("gradient for a linear layer's weight", &dw, &true_dw)?;
    let norm_backward = |dnorm: T<P, 2>, ours: bool| {
        let (x, gain, onto) = (x.clone(), gain.clone(), Some(onto.clone()));
        let (mean_n, rstd_n) = (mean_n.clone(), rstd_n.clone());
        match ours {
            true => P::Kernels::layer_norm_backward(x, gain, mean_n, rstd_n, dnorm, onto),
            false => R::layer_norm_backward(x, gain, mean_n, rstd_n, dnorm, onto),
        }
    };
    let ((dx, dgain), (true_dx, true_dgain)) =
        (norm_backward(dnorm, true), norm_backward(true_dnorm, false));
    close("gradient for a norm's input", &dx, &true_dx)?;
    close_within("gradient for a norm's gain", &dgain, &true_dgain, tolerance)?;
    let linear = P::Kernels::linear_within(norm.clone(), w.clone());
    close("linear within", &linear, &R::linear(truth.clone(), w.clone(), None))?;
    let [wide, gelu] = P::Kernels::linear_gelu(norm, w.clone());
    let [true_wide, true_gelu] = R::linear_gelu(truth, w);
    close("linear before GELU", &wide, &true_wide)?;
    close("linear with GELU", &gelu, &true_gelu)?;
    let ours = P::Kernels::linear_onto(gelu.clone(), back.clone(), onto.clone());
    close("linear onto", &ours, &R::linear_onto(true_gelu.clone(), back.clone(), onto.clone()))?;
    let [dwide, dback] = P::Kernels::gelu_linear_backward(wide, gelu, back.clone(), onto.clone());
    let [true_dwide, true_dback] = R::gelu_linear_backward(true_wide, true_gelu, back, onto);
    close("gradient for GELU's input", &dwide, &true_dwide)?;
    close("gradient for the weight after GELU", &dback, &true_dback)
}
