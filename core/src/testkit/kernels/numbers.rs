//! Numbers to compute with, and how far answers may lie apart.

use burn_backend::tensor::Device;
use burn_backend::{DType, bf16};
use burn_tensor::{Tensor, TensorData, backend::Backend};

use super::super::{Check, ensure};

/// Largest difference allowed, relative to the largest magnitude, of what no kernel may round: sums
/// of some hundred terms in another order, in `f32`, which has 24 bits.
pub(super) const TOLERANCE: f32 = 1e-5;

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

/// A tensor whose numbers are rounded to bf16, so that no kernel rounds them any further.
pub(super) fn held_by_bf16<B: Backend, const D: usize>(
    tensor: &Tensor<B, D>,
) -> Result<Tensor<B, D>, String> {
    let held: Vec<f32> = numbers(tensor)?.into_iter().map(|x| bf16::from_f32(x).to_f32()).collect();
    Ok(Tensor::from_data(TensorData::new(held, tensor.dims()), &tensor.device()))
}

/// The numbers of `count` terms whose sum shows where it is rounded as it grows: the first is
/// large, and so small are all others that a sum of bf16, which has eight bits, loses sixteen of them
/// at a time, as many as tensor cores add at once. Together they are a sixteenth of it in 512 terms.
pub(super) fn growing(count: usize, draw: &mut Numbers) -> Vec<f32> {
    let mut terms = draw.take(count);
    terms.iter_mut().for_each(|x| *x = x.abs() / 16.0);
    terms[0] = 256.0;
    terms
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

/// The same within a tolerance, relative to the largest magnitude.
pub(super) fn close_within<B: Backend, const D: usize>(
    what: &str,
    ours: &Tensor<B, D>,
    truth: &Tensor<B, D>,
    tolerance: f32,
) -> Check {
    let (shape, wanted) = (ours.dims(), truth.dims());
    ensure(shape == wanted, || format!("{what} has the shape {shape:?}, not {wanted:?}"))?;
    near(&format!("{what} {shape:?}"), &numbers(ours)?, &numbers(truth)?, tolerance)
}

/// The same of numbers on the host, as many as there are of the truth's.
pub(super) fn near(what: &str, ours: &[f32], truth: &[f32], tolerance: f32) -> Check {
    let largest = truth.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    for (k, (a, b)) in ours.iter().zip(truth).enumerate() {
        let error = (a - b).abs() / largest;
        ensure(error <= tolerance, || {
            format!("{what}: number {k} is {a}, not {b}: off by {error} of {largest}")
        })?;
    }
    Ok(())
}

/// Both or neither, and close.
pub(super) fn given<B: Backend, const D: usize>(
    what: &str,
    ours: Option<Tensor<B, D>>,
    truth: Option<Tensor<B, D>>,
    tolerance: f32,
) -> Check {
    match (ours, truth) {
        (Some(ours), Some(truth)) => close_within(what, &ours, &truth, tolerance),
        (ours, truth) => ensure(ours.is_some() == truth.is_some(), || {
            let (found, wanted) = (ours.is_some(), truth.is_some());
            format!("{what}: given is {found}, asked for is {wanted}")
        }),
    }
}
