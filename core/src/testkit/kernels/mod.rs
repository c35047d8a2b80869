//! The behaviour suite of kernels: each of a platform's kernels, forward and backward, against
//! the reference on the same Burn backend.
//!
//! ```ignore
//! #[test]
//! fn the_kernels_agree_with_the_reference() {
//!     testkit::kernels::check::<MyPlatform>(&MyDevice::default()).expect("agreement");
//! }
//! ```
//!
//! [`check`] goes through shapes that have caught mistakes; the functions beside it check one
//! kernel on one shape, for tests that draw shapes at random.

mod attention;

use burn_backend::DType;
use burn_backend::tensor::Device;
use burn_tensor::{Tensor, TensorData, backend::Backend};

use super::{Check, ensure};
use crate::kernels::{AdamW, AttentionMask, Kernels, Normalised, Platform, Reference, Slot};

/// Largest difference allowed, relative to the largest magnitude.
const TOLERANCE: f32 = 1e-5;

/// The same where factors are rounded to bf16, which has eight bits.
const ROUNDED: f32 = 2e-2;

pub use attention::AttentionCase;
use attention::MASKS;

type T<P, const D: usize> = Tensor<<P as Platform>::Backend, D>;

/// All kernels on many shapes.
///
/// # Errors
/// The first number that differs: of which kernel and shape, and by how much.
pub fn check<P: Platform>(device: &Device<P::Backend>) -> Check {
    check_against::<P, Reference>(device)
}

/// The same against the truth `R`: the reference with another product, for Burn backends that
/// multiply with fewer digits than `f32` has.
///
/// # Errors
/// The first number that differs: of which kernel and shape, and by how much.
pub fn check_against<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    // The last has rows that are longer than kernels on GPUs have threads for one.
    let sizes = [(1, 1, 1), (2, 3, 5), (33, 64, 48), (700, 40, 30), (3, 300, 140)];
    for (k, (n, i, o)) in sizes.into_iter().enumerate() {
        let seed = k as u64;
        linear::<P, R>(device, n, i, o, k % 2 == 0, seed)?;
        layer_norm::<P, R>(device, n, i, seed)?;
        gelu::<P, R>(device, n, i, [0.5, 3.0, 30.0][k % 3], seed)?;
        relu::<P, R>(device, n, i, seed)?;
        huber::<P, R>(device, n, o, seed)?;
        optimiser::<P, R>(device, &[n * i, o, 7 * i * o], 1 + 100 * seed, seed)?;
    }
    let shapes = [(1, 1, 1, 4), (2, 37, 3, 16), (1, 130, 2, 17), (2, 64, 2, 64), (1, 300, 1, 8)];
    attention::cases(&shapes, &MASKS, [1.0, 4.0])
        .try_for_each(|case| case.check::<P, R>(device))?;
    not_numbers::<P>(device)
}

/// Kernels of a platform that rounds factors to bf16, against the truth `R` in `f32`.
///
/// # Errors
/// The first number that differs by more than rounding explains.
pub fn check_rounded<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    for (k, [m, n, o]) in [[1, 1, 1], [33, 64, 48], [130, 40, 30]].into_iter().enumerate() {
        let mut draw = Numbers(k as u64);
        let (a, b) = (draw.tensor([m, n], 1.0, device), draw.tensor([n, o], 1.0, device));
        let ours = P::Kernels::product(a.clone(), b.clone());
        close_within("product", &ours, &R::product::<2>(a, b), ROUNDED)?;
    }
    for (k, [n, i, o]) in [[1, 1, 1], [33, 64, 48], [3, 300, 140]].into_iter().enumerate() {
        within::<P, R>(device, [n, i, o], k as u64)?;
    }
    // Heads of sixteens, as tensor cores take them, and others; rows that fill blocks and do not.
    // Kernels are compiled for size and mask: all of the masks on one size.
    let small = [(1, 1, 1, 16), (2, 37, 3, 16), (1, 130, 2, 16)];
    let wide = [(2, 128, 2, 64), (1, 70, 1, 128), (2, 70, 1, 20)];
    attention::cases(&small, &MASKS, [1.0, 2.0])
        .chain(attention::cases(&wide, &MASKS[4..], [2.0, 1.0]))
        .try_for_each(|case| case.check_within::<P, R>(device, ROUNDED))?;
    not_numbers::<P>(device)
}

/// What kernels that round hand to each other: `n` rows from `i` to `o` numbers.
fn within<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    [n, i, o]: [usize; 3],
    seed: u64,
) -> Check {
    let mut draw = Numbers(seed);
    let (x, w): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, i], 1.0, device), draw.tensor([o, i], 1.0, device));
    let gain: T<P, 1> = draw.tensor([i], 1.0, device);
    let dlinear: T<P, 2> = draw.tensor([n, o], 1.0, device);
    let (back, onto): (T<P, 2>, T<P, 2>) =
        (draw.tensor([i, o], 1.0, device), draw.tensor([n, i], 1.0, device));
    let close =
        |what: &str, ours: &T<P, 2>, truth: &T<P, 2>| close_within(what, ours, truth, ROUNDED);
    // As in a block: each kernel reads what the one before it made.
    let Normalised { y_nd: norm, mean_n, rstd_n } =
        P::Kernels::layer_norm_within(x.clone(), gain.clone(), 1e-2);
    let truth = R::layer_norm(x.clone(), gain.clone(), 1e-2).y_nd;
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
    close_within("gradient for a norm's gain", &dgain, &true_dgain, ROUNDED)?;
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

/// Reproducible numbers in [-1, 1).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The next numbers.
    pub fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    /// A tensor of the next numbers, times `scale`.
    pub fn tensor<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
        scale: f32,
        device: &Device<B>,
    ) -> Tensor<B, D> {
        let data: Vec<f32> = self.take(shape.iter().product()).iter().map(|x| scale * x).collect();
        Tensor::from_data(TensorData::new(data, shape), device)
    }
}

/// The numbers of a tensor; of one in bf16, as `f32`.
///
/// # Errors
/// When they are neither.
pub fn numbers<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Result<Vec<f32>, String> {
    let data = tensor.to_data();
    let data = if data.dtype == DType::BF16 { data.convert::<f32>() } else { data };
    data.to_vec().map_err(|e| format!("the backend's floats are not f32: {e:?}"))
}

/// That `ours` has the shape of `truth` and its numbers but for rounding.
///
/// # Errors
/// The first number that differs.
pub fn close<B: Backend, const D: usize>(
    what: &str,
    ours: &Tensor<B, D>,
    truth: &Tensor<B, D>,
) -> Check {
    close_within(what, ours, truth, TOLERANCE)
}

fn close_within<B: Backend, const D: usize>(
    what: &str,
    ours: &Tensor<B, D>,
    truth: &Tensor<B, D>,
    tolerance: f32,
) -> Check {
    let (shape, wanted) = (ours.dims(), truth.dims());
    ensure(shape == wanted, || format!("{what} has the shape {shape:?}, not {wanted:?}"))?;
    let (ours, truth) = (numbers(ours)?, numbers(truth)?);
    let largest = truth.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    for (k, (a, b)) in ours.iter().zip(&truth).enumerate() {
        let error = (a - b).abs() / largest;
        ensure(error <= tolerance, || {
            format!("{what} {shape:?}: number {k} is {a}, not {b}: off by {error} of {largest}")
        })?;
    }
    Ok(())
}

/// Linear layers of `n` rows from `i` to `o` numbers, alone and with what is fused with them.
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
    let mut draw = Numbers(seed);
    let (x, w): (T<P, 2>, T<P, 2>) =
        (draw.tensor([n, i], 1.0, device), draw.tensor([o, i], 1.0, device));
    let b: Option<T<P, 1>> = bias.then(|| draw.tensor([o], 1.0, device));
    let dy: T<P, 2> = draw.tensor([n, o], 1.0, device);
    let ours = P::Kernels::linear(x.clone(), w.clone(), b.clone());
    close("linear", &ours, &R::linear(x.clone(), w.clone(), b))?;
    let onto = P::Kernels::linear_onto(x.clone(), w.clone(), dy.clone());
    close("linear onto", &onto, &R::linear_onto(x.clone(), w.clone(), dy.clone()))?;
    let fused = P::Kernels::linear_gelu(x.clone(), w.clone());
    let truth = R::linear_gelu(x.clone(), w.clone());
    close("linear before GELU", &fused[0], &truth[0])?;
    close("linear with GELU", &fused[1], &truth[1])?;
    let gelu = R::gelu(x.clone());
    let fused = P::Kernels::gelu_linear_backward(x.clone(), gelu.clone(), w.clone(), dy.clone());
    let truth = R::gelu_linear_backward(x.clone(), gelu, w.clone(), dy.clone());
    close("gradient for GELU's input", &fused[0], &truth[0])?;
    close("gradient for the weight after GELU", &fused[1], &truth[1])?;
    for input in [true, false] {
        let ours = P::Kernels::linear_backward(x.clone(), w.clone(), dy.clone(), input, bias);
        let truth = R::linear_backward(x.clone(), w.clone(), dy.clone(), input, bias);
        close("gradient for linear's weight", &ours.dw_oi, &truth.dw_oi)?;
        given("gradient for linear's input", ours.dx_ni, truth.dx_ni)?;
        given("gradient for linear's bias", ours.db_o, truth.db_o)?;
    }
    Ok(())
}

/// Both or neither, and close.
fn given<B: Backend, const D: usize>(
    what: &str,
    ours: Option<Tensor<B, D>>,
    truth: Option<Tensor<B, D>>,
) -> Check {
    match (ours, truth) {
        (Some(ours), Some(truth)) => close(what, &ours, &truth),
        (ours, truth) => ensure(ours.is_some() == truth.is_some(), || {
            let (found, wanted) = (ours.is_some(), truth.is_some());
            format!("{what}: given is {found}, asked for is {wanted}")
        }),
    }
}

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
    let mut draw = Numbers(seed);
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
    let mut draw = Numbers(seed);
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
    let mut draw = Numbers(seed);
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
    let mut draw = Numbers(seed);
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

/// Parameters of these lengths, with gradients and moments; every second one decays.
pub fn slots<P: Platform>(
    device: &Device<P::Backend>,
    lengths: &[usize],
    draw: &mut Numbers,
) -> Vec<Slot<P::Backend>> {
    let slot = |(k, &length): (usize, &usize)| Slot {
        value: draw.tensor([length], 1.0, device),
        grad: draw.tensor([length], 1.0, device),
        moment1: draw.tensor([length], 1.0, device),
        moment2: draw.tensor([length], 1.0, device).abs(),
        decay: k % 2 == 0,
    };
    lengths.iter().enumerate().map(slot).collect()
}

/// The global norm and one AdamW step over parameters of these lengths, on tensors that
/// others hold and on tensors of one owner.
///
/// # Errors
/// The first number that differs.
pub fn optimiser<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    lengths: &[usize],
    step: u64,
    seed: u64,
) -> Check {
    let start = slots::<P>(device, lengths, &mut Numbers(seed));
    let mut owned = slots::<P>(device, lengths, &mut Numbers(seed));
    let (mut ours, mut truth) = (start.clone(), start.clone());
    let grads: Vec<_> = ours.iter().map(|slot| slot.grad.clone()).collect();
    close("global norm", &P::Kernels::global_norm(&grads), &R::global_norm(&grads))?;
    drop(grads);
    for grad_scale in [0.7, 1.0] {
        let step = AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale,
        };
        P::Kernels::adamw(&mut ours, &step);
        P::Kernels::adamw(&mut owned, &step);
        R::adamw(&mut truth, &step);
        for slots in [&mut ours, &mut owned] {
            for (ours, truth) in slots.iter_mut().zip(&truth) {
                close("AdamW's value", &ours.value, &truth.value)?;
                close("AdamW's first moment", &ours.moment1, &truth.moment1)?;
                close("AdamW's second moment", &ours.moment2, &truth.moment2)?;
                ours.grad = truth.grad.clone() * 1.0;
            }
        }
    }
    let untouched = slots::<P>(device, lengths, &mut Numbers(seed));
    for (held, wanted) in start.iter().zip(&untouched) {
        let same = numbers(&held.value)? == numbers(&wanted.value)?
            && numbers(&held.grad)? == numbers(&wanted.grad)?;
        ensure(same, || "AdamW writes to tensors that others hold".to_owned())?;
    }
    Ok(())
}

/// A number that went wrong must show, not be clipped into one that looks right.
///
/// # Errors
/// Which kernel hides it.
pub fn not_numbers<P: Platform>(device: &Device<P::Backend>) -> Check {
    let nan = |shape: [usize; 2]| -> T<P, 2> { Tensor::full(shape, f32::NAN, device) };
    let ones = |shape: [usize; 2]| -> T<P, 2> { Tensor::ones(shape, device) };
    let all_nan = |what: &str, x: Vec<f32>| {
        ensure(x.iter().all(|x| x.is_nan()), || format!("{what} makes numbers of NaN: {x:?}"))
    };
    all_nan("GELU", numbers(&P::Kernels::gelu(nan([3, 7])))?)?;
    let dx = P::Kernels::gelu_backward(nan([3, 7]), ones([3, 7]));
    all_nan("the gradient of GELU", numbers(&dx)?)?;
    let (loss, dy) = P::Kernels::huber(nan([3, 7]), ones([3, 7]));
    all_nan("Huber's loss", numbers(&loss)?)?;
    all_nan("the gradient of Huber's loss", numbers(&dy)?)?;
    let queries = Tensor::cat(vec![nan([20, 4]), ones([20, 8])], 1).unsqueeze();
    let attended = P::Kernels::attention(queries, 1, &AttentionMask::causal());
    all_nan("attention", numbers(&attended.out_btd)?)
}
