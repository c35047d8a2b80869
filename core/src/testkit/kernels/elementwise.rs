//! Norms, activations, losses and sums: what is rounded nowhere.

use burn_backend::tensor::Device;
use burn_tensor::{Int, Tensor, TensorData};

use super::numbers::{Numbers, close, numbers};
use super::{Check, T, ensure};
use crate::kernels::{Kernels, Platform};

/// Layer norm of `n` rows of `d` numbers.
///
/// # Errors
/// The first number that differs.
pub fn layer_norm<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    d: usize,
    seed: u64,
) -> Check {
    let mut draw = Numbers::new(seed);
    let x: T<P, 2> = draw.tensor([n, d], 2.0, device) + 0.5;
    let (gain, dy): (T<P, 1>, T<P, 2>) =
        (draw.tensor([d], 1.0, device), draw.tensor([n, d], 1.0, device));
    // With epsilon this large a row of one number, whose variance is zero, stays tame.
    let ours = P::Kernels::layer_norm(x.clone(), gain.clone(), 1e-2);
    let truth = R::layer_norm(x.clone(), gain.clone(), 1e-2);
    close("layer norm", &ours.y_nd, &truth.y_nd)?;
    close("layer norm's means", &ours.mean_n, &truth.mean_n)?;
    close("layer norm's deviations", &ours.rstd_n, &truth.rstd_n)?;
    for onto in [None, Some(draw.tensor([n, d], 1.0, device))] {
        let (mean, rstd) = (truth.mean_n.clone(), truth.rstd_n.clone());
        let (x, gain, dy) = (x.clone(), gain.clone(), dy.clone());
        let ours = P::Kernels::layer_norm_backward(
            x.clone(),
            gain.clone(),
            mean.clone(),
            rstd.clone(),
            dy.clone(),
            onto.clone(),
        );
        let truth = R::layer_norm_backward(x, gain, mean, rstd, dy, onto);
        close("gradient for layer norm's input", &ours.0, &truth.0)?;
        close("gradient for layer norm's gain", &ours.1, &truth.1)?;
    }
    Ok(())
}

/// GELU of numbers up to `scale`.
///
/// # Errors
/// The first number that differs.
pub fn gelu<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    d: usize,
    scale: f32,
    seed: u64,
) -> Check {
    let mut draw = Numbers::new(seed);
    let (x, dy): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, d], scale, device), draw.tensor([n, d], 1.0, device));
    close("GELU", &P::Kernels::gelu(x.clone()), &R::gelu(x.clone()))?;
    let before = numbers(&dy)?;
    let ours = P::Kernels::gelu_backward(x.clone(), dy.clone());
    ensure(numbers(&dy)? == before, || "GELU writes to a gradient that others hold".to_owned())?;
    close("gradient of GELU", &ours, &R::gelu_backward(x, dy))
}

/// The rectifier, to the bit.
///
/// # Errors
/// That it differs.
pub fn relu<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    d: usize,
    seed: u64,
) -> Check {
    let mut draw = Numbers::new(seed);
    let (x, dy): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, d], 1.0, device), draw.tensor([n, d], 1.0, device));
    let y = R::relu(x.clone());
    let ours = P::Kernels::relu(x);
    ensure(numbers(&ours)? == numbers(&y)?, || "ReLU is not max(x, 0)".to_owned())?;
    let ours = P::Kernels::relu_backward(y.clone(), dy.clone());
    let truth = R::relu_backward(y, dy);
    let same = numbers(&ours)? == numbers(&truth)?;
    ensure(same, || "the gradient of ReLU is not the output's where it is above 0".to_owned())
}

/// The Huber loss of `n` rows of `f` numbers, and its gradient times a factor.
///
/// # Errors
/// The first number that differs.
pub fn huber<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    f: usize,
    seed: u64,
) -> Check {
    let mut draw = Numbers::new(seed);
    let (y, target): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, f], 2.0, device), draw.tensor([n, f], 2.0, device));
    let ours = P::Kernels::huber(y.clone(), target.clone());
    let truth = R::huber(y, target);
    close("Huber's loss", &ours.0, &truth.0)?;
    close("gradient of Huber's loss", &ours.1, &truth.1)?;
    for parts in [1, 3, n].into_iter().filter(|&parts| n.is_multiple_of(parts)) {
        let y: T<P, 2> = draw.tensor([n, f], 2.0, device);
        let x: T<P, 2> = draw.tensor([n, f], 2.0, device);
        let last: T<P, 2> = draw.tensor([parts, f], 2.0, device);
        let ours = P::Kernels::huber_next(y.clone(), x.clone(), last.clone());
        let target = (0..n).map(|k| match ((k + 1) % (n / parts), k / (n / parts)) {
            (0, part) => last.clone().narrow(0, part, 1),
            _ => x.clone().narrow(0, k + 1, 1),
        });
        let truth = R::huber(y, Tensor::cat(target.collect(), 0));
        close("Huber's loss of the next", &ours.0, &truth.0)?;
        close("gradient of Huber's loss of the next", &ours.1, &truth.1)?;
    }
    for factor in [1.0, -0.3] {
        let by: T<P, 1> = Tensor::full([1], factor, device);
        let ours = P::Kernels::scale(truth.1.clone(), by.clone());
        close("scale", &ours, &R::scale(truth.1.clone(), by))?;
    }
    Ok(())
}

/// The cross-entropy of `k` codes of a vocabulary of `v`, and its gradient.
///
/// # Errors
/// The first number that differs.
pub fn cross_entropy<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    k: usize,
    v: usize,
    seed: u64,
) -> Check {
    let mut draw = Numbers::new(seed);
    let logits: T<P, 2> = draw.tensor([k, v], 4.0, device);
    // The first of all codes and the last among them.
    let code = |row: usize| if row == 0 { v - 1 } else { 7 * (row - 1) % v } as i64;
    let codes = TensorData::new((0..k).map(code).collect::<Vec<_>>(), [k]);
    let codes: Tensor<P::Backend, 1, Int> = Tensor::from_data(codes, device);
    let ours = P::Kernels::cross_entropy(logits.clone(), codes.clone());
    let truth = R::cross_entropy(logits, codes);
    close("cross-entropy", &ours.0, &truth.0)?;
    close("gradient of cross-entropy", &ours.1, &truth.1)
}

/// The gradient for `rows` rows of `d` numbers of `k` that were selected of them: the first and the
/// last often, others seldom or not at all.
///
/// # Errors
/// The first number that differs.
pub fn select<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    rows: usize,
    k: usize,
    d: usize,
    seed: u64,
) -> Check {
    // Both are views, of which the first row is no part.
    let dy: T<P, 2> = Numbers::new(seed).tensor([k + 1, d], 1.0, device).narrow(0, 1, k);
    let index = |at: usize| match at % 3 {
        0 => 0,
        1 => rows - 1,
        _ => 211 * at % rows,
    } as i64;
    let indices = TensorData::new((0..=k).map(index).collect::<Vec<_>>(), [k + 1]);
    let indices: Tensor<P::Backend, 1, Int> = Tensor::from_data(indices, device);
    let indices = indices.narrow(0, 1, k);
    let ours = P::Kernels::select_backward(rows, indices.clone(), dy.clone());
    close("gradient of a selection", &ours, &R::select_backward(rows, indices, dy))
}

/// Sums of the columns of `n` rows of `d` numbers.
///
/// # Errors
/// The first number that differs.
pub fn column_sums<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    n: usize,
    d: usize,
    seed: u64,
) -> Check {
    let x: T<P, 2> = Numbers::new(seed).tensor([n, d], 1.0, device);
    close("sums of columns", &P::Kernels::column_sums(x.clone()), &R::column_sums(x))
}
