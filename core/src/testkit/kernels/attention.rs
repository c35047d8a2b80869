//! Attention on many shapes under all kinds of masks.

use burn_backend::tensor::Device;
use burn_tensor::{Int, Tensor, TensorData};

use super::numbers::{Numbers, TOLERANCE, close_within, growing, held_by_bf16};
use super::{Check, ROUNDED, T};
use crate::kernels::{Attended, AttentionMask, Kernels, Platform};

/// All kinds of masks: whether causal, tokens of a document and of a run with a prefix.
pub(super) const MASKS: [(bool, usize, usize); 6] =
    [(true, 0, 0), (false, 0, 0), (true, 23, 0), (false, 23, 0), (true, 0, 9), (true, 40, 9)];

/// Largest difference allowed of logarithms where factors are rounded to bf16 and inputs are held by
/// it already: scores are then sums in `f32` of exact products, and what is left is the rounding of
/// those, of exponentials and of logarithms as GPUs have them. One that is rounded to bf16 itself is
/// off by twenty times as much.
const LOGARITHMS: f32 = 1e-4;

/// Heads of a multiple of so many numbers have scores that no backend rounds.
const WHOLE: usize = 16;

/// Rows, tokens, heads and numbers of a head, each under all of `masks`.
pub(super) fn cases(
    shapes: &[(usize, usize, usize, usize)],
    masks: &[(bool, usize, usize)],
    scales: [f32; 2],
) -> impl Iterator<Item = AttentionCase> {
    shapes.iter().enumerate().flat_map(move |(k, &(b, t, heads, size))| {
        masks.iter().map(move |&(causal, document, prefix)| {
            let (scale, seed) = (scales[k % 2], k as u64);
            AttentionCase { b, t, heads, size, causal, document, prefix, scale, seed }
        })
    })
}

/// One shape of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCase {
    /// Rows.
    pub b: usize,
    /// Tokens of a row.
    pub t: usize,
    /// Heads.
    pub heads: usize,
    /// Numbers of a head.
    pub size: usize,
    /// Whether a token sees what comes before it only.
    pub causal: bool,
    /// Documents of this many tokens; 0: none.
    pub document: usize,
    /// Each token of a run of this many also sees the run's first half; 0: none does.
    pub prefix: usize,
    /// Largest magnitude of queries, keys and values.
    pub scale: f32,
    /// Of the numbers.
    pub seed: u64,
}

impl AttentionCase {
    /// Which tokens see which.
    pub fn mask<P: Platform>(&self, device: &Device<P::Backend>) -> AttentionMask<P::Backend> {
        let tensor = |of_token: &dyn Fn(usize) -> i64| -> Tensor<P::Backend, 2, Int> {
            let data: Vec<i64> = (0..self.b * self.t).map(of_token).collect();
            Tensor::from_data(TensorData::new(data, [self.b, self.t]), device)
        };
        let (document, prefix) = (self.document, self.prefix);
        let documents = |k: usize| (k % self.t / document) as i64;
        let reach = |k: usize| (k % self.t / prefix * prefix + prefix.div_ceil(2)) as i64;
        AttentionMask {
            causal: self.causal,
            documents_bt: (document > 0).then(|| tensor(&documents)),
            reach_bt: (prefix > 0).then(|| tensor(&reach)),
        }
    }

    /// Queries, keys and values `[b, t, 3 d]`, and the output's gradient `[b, t, d]`.
    pub fn inputs<P: Platform>(&self, device: &Device<P::Backend>) -> (T<P, 3>, T<P, 3>) {
        let mut draw = Numbers::new(self.seed);
        let d = self.heads * self.size;
        let qkv = draw.tensor([self.b, self.t, 3 * d], self.scale, device);
        (qkv, draw.tensor([self.b, self.t, d], 1.0, device))
    }

    /// Attention of this shape, forward and backward.
    ///
    /// # Errors
    /// The first number that differs.
    pub fn check<P: Platform, R: Kernels<P::Backend>>(&self, device: &Device<P::Backend>) -> Check {
        let (qkv, dout) = self.inputs::<P>(device);
        self.told(self.compare::<P, R>(device, qkv, dout, [TOLERANCE; 2]))
    }

    /// The same where factors are rounded to bf16, of inputs that it holds.
    pub(super) fn check_rounded<P: Platform, R: Kernels<P::Backend>>(
        &self,
        device: &Device<P::Backend>,
    ) -> Check {
        let (qkv, dout) = self.inputs::<P>(device);
        let logarithms = if self.size.is_multiple_of(WHOLE) { LOGARITHMS } else { ROUNDED };
        self.told(
            held_by_bf16(&qkv)
                .and_then(|qkv| self.compare::<P, R>(device, qkv, dout, [ROUNDED, logarithms])),
        )
    }

    fn told(&self, compared: Check) -> Check {
        compared.map_err(|wrong| format!("{self:?}: {wrong}"))
    }

    fn compare<P: Platform, R: Kernels<P::Backend>>(
        &self,
        device: &Device<P::Backend>,
        qkv: T<P, 3>,
        dout: T<P, 3>,
        [tolerance, logarithms]: [f32; 2],
    ) -> Check {
        let mask = self.mask::<P>(device);
        let ours = P::Kernels::attention(qkv.clone(), self.heads, &mask);
        let truth = R::attention(qkv.clone(), self.heads, &mask);
        close_within("attention", &ours.out_btd, &truth.out_btd, tolerance)?;
        // A logarithm matters by its absolute error: weights are exp(score - lse).
        let (lse, wanted) = (ours.lse_bht + 1.0, truth.lse_bht.clone() + 1.0);
        close_within("attention's logarithms", &lse, &wanted, logarithms)?;
        let attended = Attended { out_btd: truth.out_btd.clone(), lse_bht: truth.lse_bht.clone() };
        let backward = |attended, dout| {
            P::Kernels::attention_backward(qkv.clone(), attended, dout, self.heads, &mask)
        };
        let within = backward(
            P::Kernels::attention(qkv.clone(), self.heads, &mask),
            handed::<P>(dout.clone()),
        );
        let ours = backward(attended, dout.clone());
        let truth = R::attention_backward(qkv.clone(), truth, dout, self.heads, &mask);
        close_within("gradient of attention", &ours, &truth, tolerance)?;
        // As in a block: of what the kernels before it made, and for the one after it.
        let ours = handed::<P>(within);
        close_within("gradient of attention within", &ours, &truth, 2.0 * tolerance)
    }
}

/// Values of many keys of one weight, whose sum a kernel must not round as it grows. Sums of scores are
/// short, and logarithms show how they are taken; those of gradients are not asked, which libtorch
/// may round after every few tokens.
pub(super) fn long_sums<P: Platform, R: Kernels<P::Backend>>(device: &Device<P::Backend>) -> Check {
    let (t, size) = (512, WHOLE);
    let zeros: T<P, 3> = Tensor::zeros([1, t, 2 * size], device);
    let values = TensorData::new(growing(t, &mut Numbers::new(1)), [1, t, 1]);
    let values: T<P, 3> = Tensor::from_data(values, device);
    let qkv = Tensor::cat(vec![zeros, values.expand([1, t, size])], 2);
    let mask = AttentionMask { causal: false, documents_bt: None, reach_bt: None };
    let ours = P::Kernels::attention(qkv.clone(), 1, &mask);
    let truth = R::attention(qkv, 1, &mask);
    close_within("attention to many keys", &ours.out_btd, &truth.out_btd, ROUNDED)
}

/// A gradient as a linear layer hands it back: one that leaves numbers as they are.
fn handed<P: Platform>(dy_bto: Tensor<P::Backend, 3>) -> Tensor<P::Backend, 3> {
    let [b, t, o] = dy_bto.dims();
    let dy_no = dy_bto.reshape([b * t, o]);
    let same_oo = Tensor::eye(o, &dy_no.device());
    let [dx_no, _] = P::Kernels::linear_backward_within(dy_no.clone(), same_oo, dy_no);
    dx_no.reshape([b, t, o])
}
