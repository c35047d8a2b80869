//! Losses and gradients of a batch.

use std::collections::BTreeMap;

use burn_autodiff::grads::Gradients;
use burn_tensor::{Tensor, backend::Backend};

use crate::engine::Layer;
use crate::kernels::Platform;
use crate::model::{self, BatchLosses, DeviceBatch, ModelConfig, Weights};

/// Gradients by parameter name, flattened.
type Named<B> = BTreeMap<String, Tensor<B, 1>>;

/// The losses of a batch, and the gradients of the total times a factor.
pub(super) struct Differentiation<B: Backend> {
    pub(super) total: Tensor<B, 1>,
    pub(super) modalities: Named<B>,
    pub(super) gradients: Named<B>,
}

/// Forward and backward.
pub(super) fn differentiate<P: Platform>(
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
    scale: f32,
) -> Differentiation<P::Backend> {
    let states_nd = model::states(batch, model, weights, Layer::Final);
    let outputs = model::decode(&states_nd, batch, model, weights);
    drop(states_nd);
    let BatchLosses { total, modalities, descended } = model::losses(outputs, batch, model);
    let losses = modalities.into_iter().map(|(name, loss)| (name, loss.inner())).collect();
    let (value, mut gradients) = (total.inner(), Named::<P::Backend>::new());
    take(weights, &mut descended.mul_scalar(scale).backward(), &mut gradients);
    Differentiation { total: value, modalities: losses, gradients }
}

/// Moves the gradients of the weights that took part from `grads` to `out`.
fn take<P: Platform>(weights: &Weights<P>, grads: &mut Gradients, out: &mut Named<P::Backend>) {
    for (name, matrix) in &weights.matrices {
        if let Some(grad) = matrix.grad_remove(grads) {
            let n = grad.shape().num_elements();
            out.insert(name.clone(), grad.reshape([n]));
        }
    }
    for (name, vector) in &weights.vectors {
        if let Some(grad) = vector.grad_remove(grads) {
            out.insert(name.clone(), grad);
        }
    }
}
