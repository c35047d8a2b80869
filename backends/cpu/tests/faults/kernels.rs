//! The suite of kernels: the reference with one fault at a time, one at least in each kernel.

use std::sync::{Mutex, PoisonError};

use astropt_core::error::Result;
use astropt_core::kernels::{
    AdamW, Attended, AttentionMask, Kernels, LinearGradients, Normalised, Platform, Reference,
    Slot, reference,
};
use astropt_core::parallel::Ranks;
use astropt_core::testkit::kernels::{check, check_rounded};
use burn_backend::bf16;
use burn_flex::{Flex, FlexDevice};
use burn_tensor::{Int, Tensor};

use super::named::{FOUND, FOUND_ROUNDED, Fault, Fault as F};

type T<const D: usize> = Tensor<Flex, D>;

/// The one fault that there is.
static FAULT: Mutex<Fault> = Mutex::new(Fault::None);

fn fault() -> Fault {
    *FAULT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug)]
struct Faulty;

impl Platform for Faulty {
    type Backend = Flex;
    type Kernels = Self;
}

/// A mask as attention with the fault takes it.
fn mistaken(mask: &AttentionMask<Flex>, fault: Fault) -> AttentionMask<Flex> {
    let mut mask = mask.clone();
    match fault {
        F::IgnoresDocuments => mask.documents_bt = None,
        F::IgnoresReach => mask.reach_bt = None,
        F::LooksAhead => mask.causal = false,
        _ => {}
    }
    mask
}

/// A tensor that is held in bf16.
fn in_bf16<const D: usize>(x: T<D>) -> T<D> {
    let data = x.to_data().convert::<bf16>().convert::<f32>();
    Tensor::from_data(data, &x.device())
}

/// A product whose sums are held in bf16, of sixteen terms at a time as tensor cores take them.
fn rounding_product(a_nk: T<2>, b_ko: T<2>) -> T<2> {
    let ([n, k], [_, o]) = (a_nk.dims(), b_ko.dims());
    (0..k).step_by(16).fold(Tensor::zeros([n, o], &a_nk.device()), |sum_no, at| {
        let terms = 16.min(k - at);
        let (a, b) = (a_nk.clone().narrow(1, at, terms), b_ko.clone().narrow(0, at, terms));
        in_bf16(sum_no + Reference::product(a, b))
    })
}

/// Attention of one head in which every token sees all, with such a product for its output.
fn rounding_attention(qkv_bte: T<3>) -> T<3> {
    let [_, t, e] = qkv_bte.dims();
    let [q_td, k_td, v_td] =
        [0, 1, 2].map(|part| qkv_bte.clone().narrow(2, part * e / 3, e / 3).reshape([t, e / 3]));
    let scores_tt = Reference::product(q_td, k_td.transpose()) / ((e / 3) as f32).sqrt();
    let weights_tt = (scores_tt.clone() - scores_tt.max_dim(1)).exp();
    (rounding_product(weights_tt.clone(), v_td) / weights_tt.sum_dim(1)).unsqueeze()
}

/// What is no number made one.
fn without_nan<const D: usize>(x: T<D>) -> T<D> {
    let nan = x.clone().is_nan();
    x.mask_fill(nan, 0.0)
}

impl Kernels<Flex> for Faulty {
    fn product<const D: usize>(a: T<D>, b: T<D>) -> T<D> {
        let product = Reference::product(a, b);
        if fault() == F::ProductTurned { -product } else { product }
    }

    fn linear(x_ni: T<2>, w_oi: T<2>, b_o: Option<T<1>>) -> T<2> {
        match fault() {
            F::LinearForgetsBias => Reference::linear(x_ni, w_oi, None),
            F::RoundsSums => {
                let y_no = rounding_product(x_ni, w_oi.transpose());
                b_o.map_or(y_no.clone(), |b_o| y_no + b_o.unsqueeze())
            }
            _ => Reference::linear(x_ni, w_oi, b_o),
        }
    }

    fn linear_within(x_ni: T<2>, w_oi: T<2>) -> T<2> {
        let y_no = Reference::linear(x_ni, w_oi, None);
        if fault() == F::LinearWithinTurned { -y_no } else { y_no }
    }

    fn linear_backward(
        x_ni: T<2>,
        w_oi: T<2>,
        dy_no: T<2>,
        input: bool,
        bias: bool,
    ) -> LinearGradients<Flex> {
        let [n, _] = x_ni.dims();
        let mut found = Reference::linear_backward(x_ni.clone(), w_oi, dy_no.clone(), input, bias);
        match fault() {
            F::BackwardForgetsBias => found.db_o = None,
            F::BackwardForgetsInput => found.dx_ni = None,
            F::BiasIsAMean => found.db_o = found.db_o.map(|db_o| db_o / n as f32),
            F::WeightTurned => found.dw_oi = -found.dw_oi,
            F::RoundsSumsOfRows => found.dw_oi = rounding_product(dy_no.transpose(), x_ni),
            _ => {}
        }
        found
    }

    fn linear_backward_within(x_ni: T<2>, w_oi: T<2>, dy_no: T<2>) -> [T<2>; 2] {
        let [dx_ni, dw_oi] = Reference::linear_backward_within(x_ni, w_oi, dy_no);
        match fault() {
            F::InputWithinTurned => [-dx_ni, dw_oi],
            F::WeightWithinTurned => [dx_ni, -dw_oi],
            _ => [dx_ni, dw_oi],
        }
    }

    fn linear_onto(x_ni: T<2>, w_oi: T<2>, onto_no: T<2>) -> T<2> {
        match fault() {
            F::OntoNothing => Reference::linear(x_ni, w_oi, None),
            _ => Reference::linear_onto(x_ni, w_oi, onto_no),
        }
    }

    fn linear_gelu(x_ni: T<2>, w_oi: T<2>) -> [T<2>; 2] {
        let [wide_no, gelu_no] = Reference::linear_gelu(x_ni, w_oi);
        match fault() {
            F::GeluTwice => [wide_no, Reference::gelu(gelu_no)],
            F::GeluOfBoth => [gelu_no.clone(), gelu_no],
            _ => [wide_no, gelu_no],
        }
    }

    fn gelu_linear_backward(wide_ni: T<2>, gelu_ni: T<2>, w_oi: T<2>, dy_no: T<2>) -> [T<2>; 2] {
        match fault() {
            F::SlopeForgotten => Reference::linear_backward_within(gelu_ni, w_oi, dy_no),
            F::WeightOfWide => {
                Reference::gelu_linear_backward(wide_ni.clone(), wide_ni, w_oi, dy_no)
            }
            _ => Reference::gelu_linear_backward(wide_ni, gelu_ni, w_oi, dy_no),
        }
    }

    fn layer_norm(x_nd: T<2>, gain_d: T<1>, eps: f32) -> Normalised<Flex> {
        match fault() {
            F::NormForgetsGain => Reference::layer_norm(x_nd, gain_d.ones_like(), eps),
            F::NormWithOtherEpsilon => Reference::layer_norm(x_nd, gain_d, 2.0 * eps),
            F::NormOfOtherMeans => {
                let found = Reference::layer_norm(x_nd, gain_d, eps);
                Normalised { mean_n: found.mean_n * 2.0, ..found }
            }
            _ => Reference::layer_norm(x_nd, gain_d, eps),
        }
    }

    fn layer_norm_within(x_nd: T<2>, gain_d: T<1>, eps: f32) -> Normalised<Flex> {
        match fault() {
            F::NormWithinForgetsGain => Reference::layer_norm(x_nd, gain_d.ones_like(), eps),
            _ => Reference::layer_norm(x_nd, gain_d, eps),
        }
    }

    fn layer_norm_backward(
        x_nd: T<2>,
        gain_d: T<1>,
        mean_n: T<1>,
        rstd_n: T<1>,
        dy_nd: T<2>,
        onto_nd: Option<T<2>>,
    ) -> (T<2>, T<1>) {
        let onto_nd = onto_nd.filter(|_| fault() != F::NormForgetsOnto);
        let dy = dy_nd.clone();
        let (dx_nd, dgain_d) =
            Reference::layer_norm_backward(x_nd, gain_d, mean_n, rstd_n, dy_nd, onto_nd);
        match fault() {
            F::GainOfDy => (dx_nd, reference::column_sums(dy)),
            F::NormBackwardHidesNan => (without_nan(dx_nd), dgain_d),
            _ => (dx_nd, dgain_d),
        }
    }

    fn gelu(x_nd: T<2>) -> T<2> {
        match fault() {
            F::GeluIsRelu => Reference::relu(x_nd),
            F::GeluHidesNan => without_nan(Reference::gelu(x_nd)),
            _ => Reference::gelu(x_nd),
        }
    }

    fn gelu_backward(x_nd: T<2>, dy_nd: T<2>) -> T<2> {
        match fault() {
            F::GeluPassesGradients => dy_nd,
            _ => Reference::gelu_backward(x_nd, dy_nd),
        }
    }

    fn relu(x_nd: T<2>) -> T<2> {
        match fault() {
            F::ReluLeaks => x_nd.clone().clamp_min(0.0) + x_nd * 0.01,
            // Flex takes the larger of the two, as it is for a NaN.
            F::ReluHidesNan => Reference::relu(x_nd),
            _ => x_nd.clone().mask_fill(x_nd.lower_elem(0.0), 0.0),
        }
    }

    fn relu_backward(y_nd: T<2>, dy_nd: T<2>) -> T<2> {
        match fault() {
            F::ReluPassesGradients => dy_nd,
            F::ReluGradientHidesNan => Reference::relu_backward(y_nd, without_nan(dy_nd)),
            _ => Reference::relu_backward(y_nd, dy_nd),
        }
    }

    fn attention(qkv_bte: T<3>, heads: usize, mask: &AttentionMask<Flex>) -> Attended<Flex> {
        let fits = qkv_bte.dims()[2] == 3 * 16 * heads;
        let found = Reference::attention(qkv_bte.clone(), heads, &mistaken(mask, fault()));
        match fault() {
            F::AttentionHidesNan if fits => {
                Attended { out_btd: without_nan(found.out_btd), ..found }
            }
            F::RoundsSumsOfKeys if !mask.causal && mask.documents_bt.is_none() && heads == 1 => {
                Attended { out_btd: rounding_attention(qkv_bte), ..found }
            }
            F::RoundsLogarithms => Attended { lse_bht: in_bf16(found.lse_bht), ..found },
            F::LogarithmsToBaseTwo => {
                Attended { lse_bht: found.lse_bht / std::f32::consts::LN_2, ..found }
            }
            _ => found,
        }
    }

    fn attention_backward(
        qkv_bte: T<3>,
        attended: Attended<Flex>,
        dout_btd: T<3>,
        heads: usize,
        mask: &AttentionMask<Flex>,
    ) -> T<3> {
        let seen = match fault() {
            F::BackwardIgnoresDocuments => mistaken(mask, F::IgnoresDocuments),
            _ => mask.clone(),
        };
        let d = dout_btd.dims()[2];
        let fits = d == 16 * heads;
        let dqkv_bte = Reference::attention_backward(qkv_bte, attended, dout_btd, heads, &seen);
        let part = |k: usize| dqkv_bte.clone().narrow(2, k * d, d);
        match fault() {
            F::KeysForValues => Tensor::cat(vec![part(0), part(2), part(1)], 2),
            F::BackwardHidesNan if fits => without_nan(dqkv_bte),
            _ => dqkv_bte,
        }
    }

    fn huber(y_nf: T<2>, target_nf: T<2>) -> (T<1>, T<2>) {
        let [n, f] = y_nf.dims();
        let error_nf = y_nf.clone() - target_nf.clone();
        let (loss, dy_nf) = Reference::huber(y_nf, target_nf);
        match fault() {
            F::HuberIsSquare => ((error_nf.clone() * error_nf).mean() * 0.5, dy_nf),
            F::HuberGradientOfSum => (loss, dy_nf * (n * f) as f32),
            F::HuberHidesNan => (loss.clone().mask_fill(loss.is_nan(), 0.0), dy_nf),
            _ => (loss, dy_nf),
        }
    }

    fn huber_next(y_nf: T<2>, x_nf: T<2>, last_bf: T<2>) -> (T<1>, T<2>) {
        let [b, _] = last_bf.dims();
        match fault() {
            F::NextIsSame => Reference::huber(y_nf, x_nf),
            // As if all were one row.
            F::NextAcrossRows => Reference::huber_next(y_nf, x_nf, last_bf.narrow(0, b - 1, 1)),
            _ => Reference::huber_next(y_nf, x_nf, last_bf),
        }
    }

    fn cross_entropy(logits_kv: T<2>, codes_k: Tensor<Flex, 1, Int>) -> (T<1>, T<2>) {
        let [k, v] = logits_kv.dims();
        let hot_kv: T<2> = codes_k.clone().one_hot(v).float();
        let (loss, dlogits_kv) = Reference::cross_entropy(logits_kv, codes_k);
        match fault() {
            F::CrossEntropyOfSum => (loss * k as f32, dlogits_kv),
            F::CrossEntropyForgetsCode => (loss, dlogits_kv + hot_kv / k as f32),
            _ => (loss, dlogits_kv),
        }
    }

    fn column_sums(x_nd: T<2>) -> T<1> {
        let [n, _] = x_nd.dims();
        match fault() {
            F::ColumnsOfMeans => Reference::column_sums(x_nd) / n as f32,
            F::ColumnsHideNan => Reference::column_sums(without_nan(x_nd)),
            _ => Reference::column_sums(x_nd),
        }
    }

    fn select_backward(rows: usize, indices_k: Tensor<Flex, 1, Int>, dy_kd: T<2>) -> T<2> {
        let of = |indices_k, dy_kd| Reference::select_backward(rows, indices_k, dy_kd);
        match fault() {
            F::SelectsTheLast => {
                let indices = indices_k.into_data();
                let rows_rd = Tensor::zeros([rows, dy_kd.dims()[1]], &dy_kd.device());
                indices.iter::<i64>().enumerate().fold(rows_rd, |rows_rd, (k, row)| {
                    let row = row as usize;
                    rows_rd.slice_assign(row..=row, dy_kd.clone().narrow(0, k, 1))
                })
            }
            F::SelectsWithSixteenBits => of(indices_k.remainder_scalar(65_536), dy_kd),
            F::SelectionHidesNan => of(indices_k, without_nan(dy_kd)),
            // As in a product with zeros.
            F::SelectionSpreadsNan => {
                of(indices_k, dy_kd.clone()) + (dy_kd.sum() * 0.0).unsqueeze()
            }
            _ => of(indices_k, dy_kd),
        }
    }

    fn scale(x_nf: T<2>, by: T<1>) -> T<2> {
        if fault() == F::ScaleByOne { x_nf } else { Reference::scale(x_nf, by) }
    }

    fn global_norm(grads: &[T<1>]) -> T<1> {
        Reference::global_norm(if fault() == F::NormOfTheFirst { &grads[..1] } else { grads })
    }

    fn sum_over(grads: &mut [T<1>], ranks: &dyn Ranks) -> Result<()> {
        if fault() == F::SumsNothing {
            return Ok(());
        }
        Reference::sum_over(grads, ranks)?;
        if fault() == F::SumsTwice {
            grads.iter_mut().for_each(|grad| *grad = grad.clone() * 2.0);
        }
        Ok(())
    }

    fn adamw(slots: &mut [Slot<Flex>], step: &AdamW) {
        let (mut step, before) = (*step, slots.to_vec());
        match fault() {
            // All corrections come to one.
            F::NoBiasCorrection => step.step = 1_000_000,
            F::NoDecay => step.weight_decay = 0.0,
            F::DecaysAll => slots.iter_mut().for_each(|slot| slot.decay = true),
            F::IgnoresScale => step.grad_scale = 1.0,
            F::EpsilonTooEarly => step.eps /= step.corrections().1.sqrt(),
            _ => {}
        }
        Reference::adamw(slots, &step);
        for (slot, before) in slots.iter_mut().zip(before) {
            slot.decay = before.decay;
            if fault() == F::KeepsMoments {
                (slot.moment1, slot.moment2) = (before.moment1, before.moment2);
            }
        }
    }
}

#[test]
fn each_fault_of_a_kernel_is_found_and_named() {
    for (fault, words) in FOUND {
        *FAULT.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        match check::<Faulty>(&FlexDevice) {
            Ok(()) => assert_eq!(fault, F::None, "not found"),
            Err(said) => assert!(fault != F::None && said.contains(words), "{fault:?}: {said}"),
        }
        // What rounding may explain is seen in a kernel that reads it, and then told of that one.
        let rounded = check_rounded::<Faulty, Reference>(&FlexDevice);
        assert_eq!(rounded.is_ok(), fault == F::None, "{fault:?}: {rounded:?}");
        if let Some((_, words)) = FOUND_ROUNDED.iter().find(|(rounds, _)| *rounds == fault) {
            assert!(rounded.is_err_and(|said| said.contains(words)), "{fault:?}");
        }
    }
}
