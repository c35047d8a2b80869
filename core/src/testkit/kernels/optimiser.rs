//! Gradients of all parameters: their norm, their sums over processes, and AdamW.

use burn_backend::tensor::Device;

use super::super::ranks::threads;
use super::numbers::{Numbers, TOLERANCE, close, near, numbers};
use super::{Check, T, ensure};
use crate::kernels::{AdamW, Kernels, Platform, Slot};

/// AdamW's epsilon.
const EPS: f32 = 1e-8;

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

/// Those parameters, and one whose gradients are about as large as AdamW's epsilon: where it stands
/// in the quotient shows in those alone.
fn with_small<P: Platform>(
    device: &Device<P::Backend>,
    lengths: &[usize],
    seed: u64,
) -> Vec<Slot<P::Backend>> {
    let mut draw = Numbers::new(seed);
    let mut slots = slots::<P>(device, lengths, &mut draw);
    slots.push(Slot {
        value: draw.tensor([37], 1.0, device),
        grad: draw.tensor([37], EPS, device),
        moment1: draw.tensor([37], EPS, device),
        moment2: draw.tensor([37], EPS * EPS, device).abs(),
        decay: false,
    });
    slots
}

/// The global norm and one AdamW step over parameters of these lengths and one with small gradients,
/// on tensors that others hold and on tensors of one owner.
///
/// # Errors
/// The first number that differs.
pub fn optimiser<P: Platform, R: Kernels<P::Backend>>(
    device: &Device<P::Backend>,
    lengths: &[usize],
    step: u64,
    seed: u64,
) -> Check {
    let start = with_small::<P>(device, lengths, seed);
    let mut owned = with_small::<P>(device, lengths, seed);
    let (mut ours, mut truth) = (start.clone(), start.clone());
    let grads: Vec<_> = ours.iter().map(|slot| slot.grad.clone()).collect();
    close("global norm", &P::Kernels::global_norm(&grads), &R::global_norm(&grads))?;
    drop(grads);
    for grad_scale in [0.7, 1.0] {
        let step = AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: EPS,
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
    let untouched = with_small::<P>(device, lengths, seed);
    for (held, wanted) in start.iter().zip(&untouched) {
        let same = numbers(&held.value)? == numbers(&wanted.value)?
            && numbers(&held.grad)? == numbers(&wanted.grad)?;
        ensure(same, || "AdamW writes to tensors that others hold".to_owned())?;
    }
    Ok(())
}

/// Gradients summed over two processes, small ones and one that is large enough to travel by
/// itself: the same bytes on both, and the sums.
///
/// # Errors
/// The first number that differs.
pub fn sums<P: Platform>(device: &Device<P::Backend>) -> Check {
    let gradients = |rank: usize| -> Vec<T<P, 1>> {
        let mut draw = Numbers::new(rank as u64);
        [3, 70_000, 1].map(|length| draw.tensor([length], 1.0, device)).into()
    };
    let read = |gradients: &[T<P, 1>]| -> Result<Vec<f32>, String> {
        gradients.iter().map(numbers).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
    };
    let sums = threads(2, |ranks| {
        let mut gradients = gradients(ranks.rank());
        P::Kernels::sum_over(&mut gradients, ranks).map_err(|error| error.to_string())?;
        read(&gradients)
    });
    let sums = sums.into_iter().collect::<Result<Vec<_>, String>>()?;
    ensure(sums[0] == sums[1], || "two processes have different sums of gradients".to_owned())?;
    let (first, second) = (read(&gradients(0))?, read(&gradients(1))?);
    let truth: Vec<f32> = first.iter().zip(second).map(|(a, b)| a + b).collect();
    near("sum over processes", &sums[0], &truth, TOLERANCE)
}
