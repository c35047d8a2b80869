//! AdamW over all parameters at once, in place.

use astropt_core::kernels::{AdamW, Slot};
use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense};

/// The same piece of a parameter, its gradient and its moments.
struct Piece<'a> {
    value: &'a mut [f32],
    grad: &'a [f32],
    moment1: &'a mut [f32],
    moment2: &'a mut [f32],
    /// Factor on the value: one, less the weight decay.
    keep: f32,
}

/// The numbers of a step that all pieces share.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    /// 1/√(1 - β₂ⁿ).
    root_scale: f32,
    eps: f32,
    /// -lr/(1 - β₁ⁿ).
    rate: f32,
}

impl Factors {
    fn new(step: &AdamW) -> Self {
        let (correction1, correction2) = step.corrections();
        Self {
            grad_scale: step.grad_scale,
            beta1: step.beta1,
            beta2: step.beta2,
            root_scale: 1.0 / correction2.sqrt(),
            eps: step.eps,
            rate: -step.lr / correction1,
        }
    }
}

struct Update<'a>(Piece<'a>, Factors);

impl Task for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(piece, factors) = self;
        let scale = simd.splat(factors.grad_scale);
        let (beta1, rest1) = (simd.splat(factors.beta1), simd.splat(1.0 - factors.beta1));
        let (beta2, rest2) = (simd.splat(factors.beta2), simd.splat(1.0 - factors.beta2));
        simd::update(
            simd,
            piece.moment1,
            [piece.grad],
            #[inline(always)]
            |moment, [grad]| simd.fma(simd.mul(grad, scale), rest1, simd.mul(moment, beta1)),
        );
        simd::update(
            simd,
            piece.moment2,
            [piece.grad],
            #[inline(always)]
            |moment, [grad]| {
                let grad = simd.mul(grad, scale);
                simd.fma(simd.mul(grad, grad), rest2, simd.mul(moment, beta2))
            },
        );
        let (root_scale, eps) = (simd.splat(factors.root_scale), simd.splat(factors.eps));
        let (keep, rate) = (simd.splat(piece.keep), simd.splat(factors.rate));
        simd::update(
            simd,
            piece.value,
            [piece.moment1, piece.moment2],
            #[inline(always)]
            |value, [m, v]| {
                let denominator = simd.fma(simd.sqrt(v), root_scale, eps);
                simd.fma(simd.div(m, denominator), rate, simd.mul(value, keep))
            },
        );
    }
}

/// A slot's tensors, taken out of it.
struct Taken {
    value: Dense,
    grad: Dense,
    moment1: Dense,
    moment2: Dense,
    keep: f32,
}

/// See [`Kernels::adamw`](astropt_core::kernels::Kernels::adamw).
pub(super) fn adamw(slots: &mut [Slot<Flex>], step: &AdamW) {
    let Some(first) = slots.first() else { return };
    // A tensor that stays in its slot would count as a second owner and be copied.
    let empty = Tensor::<Flex, 1>::zeros([1], &first.value.device());
    let take = |tensor: &mut Tensor<Flex, 1>| Dense::new(std::mem::replace(tensor, empty.clone()));
    let mut taken: Vec<Taken> = slots
        .iter_mut()
        .map(|slot| Taken {
            value: take(&mut slot.value),
            grad: Dense::new(slot.grad.clone()),
            moment1: take(&mut slot.moment1),
            moment2: take(&mut slot.moment2),
            keep: if slot.decay { 1.0 - step.lr * step.weight_decay } else { 1.0 },
        })
        .collect();

    let factors = Factors::new(step);
    let pieces: Vec<Piece<'_>> = taken.iter_mut().flat_map(pieces).collect();
    pieces.into_par_iter().for_each(|piece| simd::run(Update(piece, factors)));

    for (slot, taken) in slots.iter_mut().zip(taken) {
        slot.value = taken.value.into_tensor();
        slot.moment1 = taken.moment1.into_tensor();
        slot.moment2 = taken.moment2.into_tensor();
    }
}

fn pieces(taken: &mut Taken) -> impl Iterator<Item = Piece<'_>> {
    let Taken { value, grad, moment1, moment2, keep } = taken;
    let keep = *keep;
    // Small enough that the three passes of an update read from the first cache.
    const PIECE: usize = CHUNK / 8;
    let moments = moment1.to_mut().chunks_mut(PIECE).zip(moment2.to_mut().chunks_mut(PIECE));
    let values = value.to_mut().chunks_mut(PIECE).zip(grad.chunks(PIECE));
    values.zip(moments).map(move |((value, grad), (moment1, moment2))| Piece {
        value,
        grad,
        moment1,
        moment2,
        keep,
    })
}
