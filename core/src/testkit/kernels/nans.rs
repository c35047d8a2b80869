//! A number that went wrong must show, not be clipped into one that looks right.

use burn_backend::tensor::Device;
use burn_tensor::{Int, Tensor};

use super::numbers::{Numbers, numbers};
use super::{Check, T, ensure};
use crate::kernels::{AttentionMask, Kernels, Platform};

/// Kernels whose inputs are no numbers, and attention to one token whose are none.
///
/// # Errors
/// Which kernel hides it.
pub fn not_numbers<P: Platform>(device: &Device<P::Backend>) -> Check {
    elementwise::<P>(device)?;
    sums::<P>(device)?;
    layer_norm::<P>(device)?;
    // Heads as tensor cores take them, and others.
    for size in [16, 20] {
        attention::<P>(device, size)?;
    }
    Ok(())
}

fn all_nan<P: Platform, const D: usize>(what: &str, x: &T<P, D>) -> Check {
    let x = numbers(x)?;
    ensure(x.iter().all(|x| x.is_nan()), || format!("{what} makes numbers of NaN: {x:?}"))
}

fn elementwise<P: Platform>(device: &Device<P::Backend>) -> Check {
    let nan = || -> T<P, 2> { Tensor::full([3, 7], f32::NAN, device) };
    let ones = || -> T<P, 2> { Tensor::ones([3, 7], device) };
    all_nan::<P, 2>("GELU", &P::Kernels::gelu(nan()))?;
    for (x, dy) in [(nan(), ones()), (ones(), nan())] {
        all_nan::<P, 2>("the gradient of GELU", &P::Kernels::gelu_backward(x, dy))?;
    }
    all_nan::<P, 2>("ReLU", &P::Kernels::relu(nan()))?;
    all_nan::<P, 2>("the gradient of ReLU", &P::Kernels::relu_backward(ones(), nan()))?;
    let (loss, dy) = P::Kernels::huber(nan(), ones());
    all_nan::<P, 1>("Huber's loss", &loss)?;
    all_nan::<P, 2>("the gradient of Huber's loss", &dy)?;
    let codes: Tensor<P::Backend, 1, Int> = Tensor::zeros([3], device);
    let (loss, dy) = P::Kernels::cross_entropy(nan(), codes);
    all_nan::<P, 1>("cross-entropy", &loss)?;
    all_nan::<P, 2>("the gradient of cross-entropy", &dy)
}

/// One row whose numbers are none: in what is a sum with it, and in nothing else.
fn sums<P: Platform>(device: &Device<P::Backend>) -> Check {
    let sound: T<P, 2> = Tensor::ones([4, 7], device);
    let dy = sound.slice_fill(2..3, f32::NAN);
    all_nan::<P, 1>("a sum of columns", &P::Kernels::column_sums(dy.clone()))?;
    let indices: Tensor<P::Backend, 1, Int> = Tensor::from_ints([0, 2, 1, 0], device);
    let dx = P::Kernels::select_backward(3, indices, dy);
    all_nan::<P, 2>("the gradient of a selection", &dx.clone().narrow(0, 1, 1))?;
    let others = numbers(&Tensor::cat(vec![dx.clone().narrow(0, 0, 1), dx.narrow(0, 2, 1)], 0))?;
    let told =
        || "the gradient of a selection spreads NaN to rows that it is no part of".to_owned();
    ensure(others.iter().all(|x| x.is_finite()), told)
}

fn layer_norm<P: Platform>(device: &Device<P::Backend>) -> Check {
    let nan = || -> T<P, 2> { Tensor::full([3, 7], f32::NAN, device) };
    let sound = || -> T<P, 2> { Numbers::new(1).tensor([3, 7], 1.0, device) };
    let gain: T<P, 1> = Tensor::ones([7], device);
    for (x, dy) in [(nan(), sound()), (sound(), nan())] {
        let normed = P::Kernels::layer_norm(x.clone(), gain.clone(), 1e-5);
        if numbers(&x)?[0].is_nan() {
            all_nan::<P, 2>("layer norm", &normed.y_nd)?;
        }
        let (mean_n, rstd_n) = (normed.mean_n, normed.rstd_n);
        let (dx, dgain) =
            P::Kernels::layer_norm_backward(x, gain.clone(), mean_n, rstd_n, dy, None);
        all_nan::<P, 2>("the gradient for layer norm's input", &dx)?;
        all_nan::<P, 1>("the gradient for layer norm's gain", &dgain)?;
    }
    Ok(())
}

/// One token's query, key, value or output gradient in turn, under a causal mask. What does not see
/// it may be NaN too: a weight of zero makes no number of one.
fn attention<P: Platform>(device: &Device<P::Backend>, size: usize) -> Check {
    let (b, t, token) = (2, 70, 5);
    let mask = AttentionMask::causal();
    for part in ["query", "key", "value", "output gradient"] {
        let mut draw = Numbers::new(1);
        let mut made = |name: &str| -> Vec<f32> {
            let mut numbers = draw.take(b * t * size);
            if name == part {
                numbers[token * size..][..size].fill(f32::NAN);
            }
            numbers
        };
        let tensor = |numbers: Vec<f32>| -> T<P, 3> {
            Tensor::<P::Backend, 1>::from_floats(numbers.as_slice(), device).reshape([b, t, size])
        };
        let qkv = Tensor::cat(["query", "key", "value"].map(|name| tensor(made(name))).into(), 2);
        let dout = tensor(made("output gradient"));
        let attended = P::Kernels::attention(qkv.clone(), 1, &mask);
        let of_first = |x: T<P, 3>, part: usize, from: usize, to: usize| {
            x.narrow(0, 0, 1).narrow(1, from, to - from).narrow(2, part * size, size)
        };
        if part != "output gradient" {
            let to = if part == "query" { token + 1 } else { t };
            let out = of_first(attended.out_btd.clone(), 0, token, to);
            all_nan::<P, 3>(&format!("attention with heads of {size} and a {part}"), &out)?;
        }
        let dqkv = P::Kernels::attention_backward(qkv, attended, dout, 1, &mask);
        let what = format!("the gradient of attention with heads of {size} and a {part}");
        all_nan::<P, 3>(&what, &of_first(dqkv.clone(), 0, token, token + 1))?;
        all_nan::<P, 3>(&what, &of_first(dqkv.clone(), 1, 0, token + 1))?;
        // Gradients of values are sums of the output's with weights that know nothing of values.
        if part != "value" {
            all_nan::<P, 3>(&what, &of_first(dqkv, 2, 0, token + 1))?;
        }
    }
    Ok(())
}
