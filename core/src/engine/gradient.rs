//! Losses and gradients of a batch, in one piece or block by block.

use std::collections::BTreeMap;

use burn_autodiff::grads::Gradients;
use burn_tensor::Tensor;

use crate::engine::Layer;
use crate::kernels::{Differentiated, Platform};
use crate::model::{self, DeviceBatch, ModelConfig, Weights};

/// Gradients by parameter name, flattened.
type Named<P> = BTreeMap<String, Tensor<<P as Platform>::Backend, 1>>;

/// The losses of a batch, and the gradients of the total times a factor.
pub(super) struct Differentiation<P: Platform> {
    pub(super) total: Tensor<P::Backend, 1>,
    pub(super) modalities: BTreeMap<String, Tensor<P::Backend, 1>>,
    pub(super) gradients: Named<P>,
}

/// Forward and backward in one piece: every activation that backward needs is kept.
pub(super) fn whole<P: Platform>(
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
    scale: f32,
) -> Differentiation<P> {
    let states_nd = model::states(batch, model, weights, Layer::Final);
    let outputs = model::decode(&states_nd, batch, model, weights);
    drop(states_nd);
    let (total, modalities) = model::losses(outputs, batch, model);
    let losses = modalities.into_iter().map(|(name, loss)| (name, loss.inner())).collect();
    let (value, mut gradients) = (total.clone().inner(), Named::<P>::new());
    take(weights, &mut total.mul_scalar(scale).backward(), &mut gradients);
    Differentiation { total: value, modalities: losses, gradients }
}

/// The same numbers with less memory and a third more arithmetic: of the forward pass only
/// the entrance of each block is kept, and each block is run again when its turn comes in
/// backward (Chen et al. 2016, arXiv:1604.06174). `frozen` are the same weights, asking for
/// no gradients.
pub(super) fn by_block<P: Platform>(
    batch: &DeviceBatch<P>,
    model: &ModelConfig,
    weights: &Weights<P>,
    frozen: &Weights<P>,
    scale: f32,
) -> Differentiation<P> {
    let mut exit_nd = model::embed(batch, model, frozen);
    let mut entrances = Vec::new();
    for index in 0..model.layers {
        entrances.push(exit_nd.clone().inner());
        exit_nd = model::block(exit_nd, index, batch, model, frozen);
    }
    let mut gradients = Named::<P>::new();
    let leaf = |x_nd| Tensor::<Differentiated<P>, 2>::from_inner(x_nd).require_grad();
    let exit_nd = leaf(exit_nd.inner());
    let states_nd = model::final_norm(exit_nd.clone(), weights);
    let outputs = model::decode(&states_nd, batch, model, weights);
    drop(states_nd);
    let (total, modalities) = model::losses(outputs, batch, model);
    let losses = modalities.into_iter().map(|(name, loss)| (name, loss.inner())).collect();
    let value = total.clone().inner();
    let mut grads = total.mul_scalar(scale).backward();
    let mut dy_nd = exit_nd.grad_remove(&mut grads);
    take(weights, &mut grads, &mut gradients);

    // The loss depends on every entrance, so each has a gradient for the block before it.
    for (index, x_nd) in entrances.into_iter().enumerate().rev() {
        let Some(dy) = dy_nd else { break };
        let x_nd = leaf(x_nd);
        let y_nd = model::block(x_nd.clone(), index, batch, model, weights);
        let mut grads = pull::<P>(y_nd, dy);
        dy_nd = x_nd.grad_remove(&mut grads);
        take(weights, &mut grads, &mut gradients);
    }
    if let Some(dy_nd) = dy_nd {
        let mut grads = pull::<P>(model::embed(batch, model, weights), dy_nd);
        take(weights, &mut grads, &mut gradients);
    }
    Differentiation { total: value, modalities: losses, gradients }
}

/// Backward from `y_nd` with the gradient `dy_nd`: that of the sum of their product.
fn pull<P: Platform>(
    y_nd: Tensor<Differentiated<P>, 2>,
    dy_nd: Tensor<P::Backend, 2>,
) -> Gradients {
    (y_nd * Tensor::from_inner(dy_nd)).sum().backward()
}

/// Moves the gradients of the weights that took part from `grads` to `out`.
fn take<P: Platform>(weights: &Weights<P>, grads: &mut Gradients, out: &mut Named<P>) {
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
