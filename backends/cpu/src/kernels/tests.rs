//! Every kernel against the reference, forward and backward, at every vector level, and on
//! one thread as on many.

use astropt_core::kernels::{AdamW, Attended, AttentionMask, Kernels, Reference, Slot};
use burn_flex::{Flex, FlexDevice};
use burn_tensor::{Int, Tensor, TensorData};
use proptest::prelude::*;

use super::CpuKernels;
use super::simd::testing::at_every_level;

/// Largest difference allowed, relative to the largest magnitude.
const TOLERANCE: f32 = 1e-5;

/// Reproducible numbers in [-1, 1).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], scale: f32) -> Tensor<Flex, D> {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| scale * self.next()).collect();
        Tensor::from_data(TensorData::new(data, shape), &FlexDevice)
    }
}

fn numbers<const D: usize>(tensor: &Tensor<Flex, D>) -> Vec<f32> {
    tensor.to_data().to_vec().expect("f32")
}

fn assert_close<const D: usize>(what: &str, ours: &Tensor<Flex, D>, truth: &Tensor<Flex, D>) {
    assert_eq!(ours.dims(), truth.dims(), "{what}");
    let (ours, truth) = (numbers(ours), numbers(truth));
    let largest = truth.iter().fold(1e-30f32, |m, x| m.max(x.abs()));
    for (k, (a, b)) in ours.iter().zip(&truth).enumerate() {
        let error = (a - b).abs() / largest;
        assert!(error <= TOLERANCE, "{what}[{k}] is {a}, not {b}: off by {error} of {largest}");
    }
}

fn check_linear(n: usize, i: usize, o: usize, bias: bool, seed: u64) {
    let mut draw = Numbers(seed);
    let (x, w) = (draw.tensor([n, i], 1.0), draw.tensor([o, i], 1.0));
    let (b, dy) = (bias.then(|| draw.tensor([o], 1.0)), draw.tensor([n, o], 1.0));
    let ours = CpuKernels::linear(x.clone(), w.clone(), b.clone());
    assert_close("y", &ours, &Reference::linear(x.clone(), w.clone(), b));
    let onto = CpuKernels::linear_onto(x.clone(), w.clone(), dy.clone());
    assert_close("onto", &onto, &Reference::linear_onto(x.clone(), w.clone(), dy.clone()));
    let fused = CpuKernels::linear_gelu(x.clone(), w.clone());
    let truth = Reference::linear_gelu(x.clone(), w.clone());
    assert_close("wide", &fused[0], &truth[0]);
    assert_close("gelu", &fused[1], &truth[1]);
    let gelu = Reference::gelu(x.clone());
    let fused = CpuKernels::gelu_linear_backward(x.clone(), gelu.clone(), w.clone(), dy.clone());
    let truth = Reference::gelu_linear_backward(x.clone(), gelu, w.clone(), dy.clone());
    assert_close("dwide", &fused[0], &truth[0]);
    assert_close("dw after gelu", &fused[1], &truth[1]);
    let ours = CpuKernels::linear_backward(x.clone(), w.clone(), dy.clone(), true, bias);
    let truth = Reference::linear_backward(x, w, dy, true, bias);
    assert_close("dx", &ours.dx_ni.expect("asked for"), &truth.dx_ni.expect("asked for"));
    assert_close("dw", &ours.dw_oi, &truth.dw_oi);
    assert_eq!(ours.db_o.is_some(), bias);
    if let (Some(ours), Some(truth)) = (ours.db_o, truth.db_o) {
        assert_close("db", &ours, &truth);
    }
}

fn check_norm(n: usize, d: usize, seed: u64) {
    let mut draw = Numbers(seed);
    let (x, gain) = (draw.tensor([n, d], 2.0) + 0.5, draw.tensor([d], 1.0));
    let dy = draw.tensor([n, d], 1.0);
    // With epsilon this large a row of one number, whose variance is zero, stays tame.
    let ours = CpuKernels::layer_norm(x.clone(), gain.clone(), 1e-2);
    let truth = Reference::layer_norm(x.clone(), gain.clone(), 1e-2);
    assert_close("y", &ours.y_nd, &truth.y_nd);
    assert_close("mean", &ours.mean_n, &truth.mean_n);
    assert_close("rstd", &ours.rstd_n, &truth.rstd_n);
    let (mean, rstd) = (truth.mean_n, truth.rstd_n);
    for onto in [None, Some(draw.tensor([n, d], 1.0))] {
        let backward = |f: fn(_, _, _, _, _, _) -> (Tensor<Flex, 2>, Tensor<Flex, 1>)| {
            let (x, gain, mean) = (x.clone(), gain.clone(), mean.clone());
            f(x, gain, mean, rstd.clone(), dy.clone(), onto.clone())
        };
        let ours = backward(CpuKernels::layer_norm_backward);
        let truth = backward(<Reference as Kernels<Flex>>::layer_norm_backward);
        assert_close("dx", &ours.0, &truth.0);
        assert_close("dgain", &ours.1, &truth.1);
    }
}

fn check_gelu(n: usize, d: usize, scale: f32, seed: u64) {
    let mut draw = Numbers(seed);
    let (x, dy) = (draw.tensor([n, d], scale), draw.tensor([n, d], 1.0));
    assert_close("y", &CpuKernels::gelu(x.clone()), &Reference::gelu(x.clone()));
    let before = numbers(&dy);
    let ours = CpuKernels::gelu_backward(x.clone(), dy.clone());
    assert_eq!(numbers(&dy), before, "a gradient that others hold is not written to");
    assert_close("dx", &ours, &Reference::gelu_backward(x, dy));
}

fn check_relu(n: usize, d: usize, seed: u64) {
    let mut draw = Numbers(seed);
    let (x, dy) = (draw.tensor([n, d], 1.0), draw.tensor([n, d], 1.0));
    let y = Reference::relu(x.clone());
    assert_eq!(numbers(&CpuKernels::relu(x)), numbers(&y));
    let ours = CpuKernels::relu_backward(y.clone(), dy.clone());
    assert_eq!(numbers(&ours), numbers(&Reference::relu_backward(y, dy)));
}

fn check_huber(n: usize, f: usize, seed: u64) {
    let mut draw = Numbers(seed);
    let (y, target) = (draw.tensor([n, f], 2.0), draw.tensor([n, f], 2.0));
    let ours = CpuKernels::huber(y.clone(), target.clone());
    let truth = Reference::huber(y, target);
    assert_close("loss", &ours.0, &truth.0);
    assert_close("dy", &ours.1, &truth.1);
    for factor in [1.0, -0.3] {
        let by = Tensor::full([1], factor, &FlexDevice);
        let ours = CpuKernels::scale(truth.1.clone(), by.clone());
        assert_close("scaled", &ours, &Reference::scale(truth.1.clone(), by));
    }
}

fn slots(lengths: &[usize], draw: &mut Numbers) -> Vec<Slot<Flex>> {
    let slot = |(k, &length): (usize, &usize)| Slot {
        value: draw.tensor([length], 1.0),
        grad: draw.tensor([length], 1.0),
        moment1: draw.tensor([length], 1.0),
        moment2: draw.tensor([length], 1.0).abs(),
        decay: k % 2 == 0,
    };
    lengths.iter().enumerate().map(slot).collect()
}

fn check_optimiser(lengths: &[usize], step: u64, seed: u64) {
    let mut draw = Numbers(seed);
    let mut ours = slots(lengths, &mut draw);
    let mut truth = ours.clone();
    let grads: Vec<_> = ours.iter().map(|slot| slot.grad.clone()).collect();
    assert_close("norm", &CpuKernels::global_norm(&grads), &Reference::global_norm(&grads));
    let step = AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        grad_scale: 0.7,
    };
    CpuKernels::adamw(&mut ours, &step);
    Reference::adamw(&mut truth, &step);
    for (ours, truth) in ours.iter().zip(&truth) {
        assert_close("value", &ours.value, &truth.value);
        assert_close("moment 1", &ours.moment1, &truth.moment1);
        assert_close("moment 2", &ours.moment2, &truth.moment2);
    }
}

#[derive(Clone, Copy, Debug)]
struct AttentionCase {
    b: usize,
    t: usize,
    heads: usize,
    size: usize,
    causal: bool,
    /// Documents of this many tokens; 0: none.
    document: usize,
    /// Each token of a run of this many also sees the run's first half; 0: none does.
    prefix: usize,
    scale: f32,
    seed: u64,
}

impl AttentionCase {
    fn mask(&self) -> AttentionMask<Flex> {
        let documents = |length: usize| {
            let of_token = |k: usize| (k % self.t / length) as i64;
            let data: Vec<i64> = (0..self.b * self.t).map(of_token).collect();
            let data = TensorData::new(data, [self.b, self.t]);
            Tensor::<Flex, 2, Int>::from_data(data, &FlexDevice)
        };
        let documents_bt = (self.document > 0).then(|| documents(self.document));
        let reach = |length: usize| {
            let of_token = |k: usize| (k % self.t / length * length + length.div_ceil(2)) as i64;
            let data: Vec<i64> = (0..self.b * self.t).map(of_token).collect();
            Tensor::from_data(TensorData::new(data, [self.b, self.t]), &FlexDevice)
        };
        let reach_bt = (self.prefix > 0).then(|| reach(self.prefix));
        AttentionMask { causal: self.causal, documents_bt, reach_bt }
    }

    fn inputs(&self) -> (Tensor<Flex, 3>, Tensor<Flex, 3>) {
        let mut draw = Numbers(self.seed);
        let d = self.heads * self.size;
        let qkv = draw.tensor([self.b, self.t, 3 * d], self.scale);
        (qkv, draw.tensor([self.b, self.t, d], 1.0))
    }

    fn check(&self) {
        let (mask, (qkv, dout)) = (self.mask(), self.inputs());
        let ours = CpuKernels::attention(qkv.clone(), self.heads, &mask);
        let truth = Reference::attention(qkv.clone(), self.heads, &mask);
        assert_close("out", &ours.out_btd, &truth.out_btd);
        // A logarithm matters by its absolute error: weights are exp(score - lse).
        assert_close("lse", &(ours.lse_bht + 1.0), &(truth.lse_bht.clone() + 1.0));
        let backward = <Reference as Kernels<Flex>>::attention_backward;
        let attended = Attended { out_btd: truth.out_btd.clone(), lse_bht: truth.lse_bht.clone() };
        let ours =
            CpuKernels::attention_backward(qkv.clone(), attended, dout.clone(), self.heads, &mask);
        assert_close("dqkv", &ours, &backward(qkv, truth, dout, self.heads, &mask));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear(n in 1usize..90, i in 1usize..70, o in 1usize..70, bias: bool, seed: u64) {
        check_linear(n, i, o, bias, seed);
    }

    #[test]
    fn layer_norm(n in 1usize..300, d in 1usize..200, seed: u64) {
        at_every_level(|_| check_norm(n, d, seed));
    }

    #[test]
    fn gelu(n in 1usize..60, d in 1usize..700, scale in 0.1f32..30.0, seed: u64) {
        at_every_level(|_| check_gelu(n, d, scale, seed));
        check_relu(n, d, seed);
    }

    #[test]
    fn huber(n in 1usize..60, f in 1usize..700, seed: u64) {
        at_every_level(|_| check_huber(n, f, seed));
    }

    #[test]
    fn optimiser(
        lengths in prop::collection::vec(1usize..40_000, 1..5),
        step in 1u64..2000,
        seed: u64,
    ) {
        at_every_level(|_| check_optimiser(&lengths, step, seed));
    }

    #[test]
    fn attention(
        b in 1usize..3,
        t in 1usize..150,
        heads in 1usize..4,
        size in prop::sample::select(vec![1usize, 3, 8, 16, 17, 32, 64, 80, 100, 128]),
        causal: bool,
        document in 0usize..80,
        prefix in 0usize..90,
        scale in 0.1f32..4.0,
        seed: u64,
    ) {
        let case = AttentionCase { b, t, heads, size, causal, document, prefix, scale, seed };
        at_every_level(|_| case.check());
    }
}

#[test]
fn long_rows_of_small_heads() {
    let (b, t, heads, size, scale, seed) = (1, 1024, 2, 16, 1.0, 7);
    AttentionCase { b, t, heads, size, causal: true, document: 0, prefix: 0, scale, seed }.check();
    AttentionCase { b, t, heads, size, causal: true, document: 300, prefix: 500, scale, seed }
        .check();
}

/// More rows than one task takes, and a rest.
#[test]
fn linear_of_many_rows() {
    check_linear(1500, 40, 30, true, 1);
}

/// Views whose numbers lie apart or start late are read as what they show.
#[test]
fn views_are_read_as_they_look() {
    let mut draw = Numbers(3);
    let x = draw.tensor([40, 30], 1.0);
    for view in [x.clone().transpose(), x.clone().narrow(0, 5, 20), x.narrow(1, 5, 20)] {
        assert_close("gelu", &CpuKernels::gelu(view.clone()), &Reference::gelu(view.clone()));
        let w = draw.tensor([view.dims()[1], 9], 1.0).transpose();
        let ours = CpuKernels::linear(view.clone(), w.clone(), None);
        assert_close("linear", &ours, &Reference::linear(view, w, None));
    }
}

/// A number that went wrong must show, not be clipped into one that looks right.
#[test]
fn what_is_no_number_stays_none() {
    at_every_level(|level| {
        let nan = |shape: [usize; 2]| Tensor::<Flex, 2>::full(shape, f32::NAN, &FlexDevice);
        let all_nan = |x: Vec<f32>| assert!(x.iter().all(|x| x.is_nan()), "{x:?} with {level}");
        let ones = |shape: [usize; 2]| Tensor::<Flex, 2>::ones(shape, &FlexDevice);
        all_nan(numbers(&CpuKernels::gelu(nan([3, 7]))));
        all_nan(numbers(&CpuKernels::gelu_backward(nan([3, 7]), ones([3, 7]))));
        let (loss, dy) = CpuKernels::huber(nan([3, 7]), ones([3, 7]));
        all_nan(numbers(&loss));
        all_nan(numbers(&dy));
        let queries = Tensor::cat(vec![nan([20, 4]), ones([20, 8])], 1).unsqueeze();
        let attended = CpuKernels::attention(queries, 1, &AttentionMask::causal());
        all_nan(numbers(&attended.out_btd));
    });
}

/// The bytes of the results of all kernels on tensors large enough to be cut into pieces.
fn everything() -> Vec<Vec<f32>> {
    let mut draw = Numbers(11);
    let mut out = Vec::new();
    let (x, w) = (draw.tensor([2000, 128], 1.0), draw.tensor([200, 128], 1.0));
    let (b, dy) = (draw.tensor([200], 1.0), draw.tensor([2000, 200], 1.0));
    out.push(numbers(&CpuKernels::linear(x.clone(), w.clone(), Some(b))));
    let grads = CpuKernels::linear_backward(x.clone(), w, dy.clone(), true, true);
    out.push(numbers(&grads.dx_ni.expect("asked for")));
    out.push(numbers(&grads.dw_oi));
    out.push(numbers(&grads.db_o.expect("asked for")));
    let gain = draw.tensor([128], 1.0);
    let normal = CpuKernels::layer_norm(x.clone(), gain.clone(), 1e-5);
    let (dx, dgain) = CpuKernels::layer_norm_backward(
        x.clone(),
        gain,
        normal.mean_n,
        normal.rstd_n,
        x.clone(),
        None,
    );
    out.extend([numbers(&normal.y_nd), numbers(&dx), numbers(&dgain)]);
    out.push(numbers(&CpuKernels::gelu(x.clone())));
    let (loss, dy) = CpuKernels::huber(dy.clone(), dy * 0.5);
    out.extend([numbers(&loss), numbers(&dy)]);
    let mut slots = slots(&[100_000, 3, 50_000], &mut draw);
    let grads: Vec<_> = slots.iter().map(|slot| slot.grad.clone()).collect();
    out.push(numbers(&CpuKernels::global_norm(&grads)));
    let step = AdamW {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 3,
        grad_scale: 1.0,
    };
    CpuKernels::adamw(&mut slots, &step);
    out.extend(slots.iter().map(|slot| numbers(&slot.value)));
    let (b, t, heads, size, scale, seed) = (2, 200, 3, 16, 1.0, 5);
    let case =
        AttentionCase { b, t, heads, size, causal: true, document: 0, prefix: 0, scale, seed };
    let ((qkv, dout), mask) = (case.inputs(), case.mask());
    let attended = CpuKernels::attention(qkv.clone(), heads, &mask);
    out.push(numbers(&attended.out_btd));
    out.push(numbers(&CpuKernels::attention_backward(qkv, attended, dout, heads, &mask)));
    out
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    at_every_level(|level| {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(everything)
        };
        let one = on(1);
        for threads in [2, 3, 5] {
            for (k, (a, b)) in one.iter().zip(&on(threads)).enumerate() {
                let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "result {k} differs on {threads} threads with {level}");
            }
        }
    });
}
