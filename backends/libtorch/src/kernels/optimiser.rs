//! AdamW and the norm of all gradients.

use astropt_core::kernels::{AdamW, Slot};
use burn_tch::LibTorch;
use burn_tensor::Tensor;

use super::fused::{self, AdamWSettings};
use super::tensors::{fresh, owned, raw};

/// See [`Kernels::global_norm`](astropt_core::kernels::Kernels::global_norm).
pub(super) fn global_norm(grads: &[Tensor<LibTorch, 1>]) -> Tensor<LibTorch, 1> {
    let norms: Vec<_> = grads.iter().map(|grad| raw(grad.clone()).norm()).collect();
    fresh(tch::Tensor::stack(&norms, 0).norm().reshape([1]))
}

/// See [`Kernels::adamw`](astropt_core::kernels::Kernels::adamw): libtorch's fused step, once
/// for parameters that decay and once for those that do not.
pub(super) fn adamw(slots: &mut [Slot<LibTorch>], step: &AdamW) {
    for decay in [true, false] {
        let mut chosen: Vec<&mut Slot<LibTorch>> =
            slots.iter_mut().filter(|slot| slot.decay == decay).collect();
        let mut parameters: Vec<[tch::Tensor; 4]> = chosen.iter_mut().map(|s| take(s)).collect();
        let settings = AdamWSettings {
            lr: f64::from(step.lr),
            beta1: f64::from(step.beta1),
            beta2: f64::from(step.beta2),
            eps: f64::from(step.eps),
            weight_decay: if decay { f64::from(step.weight_decay) } else { 0.0 },
            step: step.step as f64,
            grad_scale: f64::from(step.grad_scale),
        };
        fused::adamw(&mut parameters, &settings);
        for (slot, [value, grad, moment1, moment2]) in chosen.into_iter().zip(parameters) {
            slot.value = fresh(value);
            slot.grad = fresh(grad);
            slot.moment1 = fresh(moment1);
            slot.moment2 = fresh(moment2);
        }
    }
}

/// The tensors of a slot, to be written to; the slot is left with an empty one.
fn take(slot: &mut Slot<LibTorch>) -> [tch::Tensor; 4] {
    let empty = Tensor::zeros([1], &slot.value.device());
    let taken = |tensor: &mut Tensor<LibTorch, 1>| owned(std::mem::replace(tensor, empty.clone()));
    [
        taken(&mut slot.value),
        taken(&mut slot.grad),
        taken(&mut slot.moment1),
        taken(&mut slot.moment2),
    ]
}
