//! Layer normalisation, one pass over memory each way.

use astropt_core::kernels::Normalised;
use burn_flex::Flex;
use burn_tensor::Tensor;
use rayon::prelude::*;

use super::pool::Buffer;
use super::simd::{self, Simd, Task};
use super::tensors::{CHUNK, Dense, tensor};

/// Rows per task for rows of `d` numbers.
fn rows_per_task(d: usize) -> usize {
    (CHUNK / d.max(1)).max(1)
}

struct Forward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
    mean: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let d = self.gain.len();
        let rows = self.x.chunks_exact(d).zip(self.y.chunks_exact_mut(d));
        let moments = self.mean.iter_mut().zip(self.rstd);
        for ((x, y), (mean, rstd)) in rows.zip(moments) {
            let zero = [simd.splat(0.0)];
            let [sum] = simd::fold(
                simd,
                [x],
                0.0,
                zero,
                #[inline(always)]
                |[sum], [x]| [simd.add(sum, x)],
            );
            *mean = simd.sum(sum) / d as f32;
            let mean_v = simd.splat(*mean);
            let [squares] = simd::fold(
                simd,
                [x],
                *mean,
                zero,
                #[inline(always)]
                |[sum], [x]| {
                    let centred = simd.sub(x, mean_v);
                    [simd.fma(centred, centred, sum)]
                },
            );
            *rstd = 1.0 / (simd.sum(squares) / d as f32 + self.eps).sqrt();
            let rstd_v = simd.splat(*rstd);
            simd::map(
                simd,
                [x, self.gain],
                y,
                #[inline(always)]
                |[x, gain]| simd.mul(simd.mul(simd.sub(x, mean_v), rstd_v), gain),
            );
        }
    }
}

#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::V, mean: S::V, rstd: S::V) -> S::V {
    simd.mul(simd.sub(x, mean), rstd)
}

/// See [`astropt_core::kernels::reference::layer_norm_backward`].
#[inline(always)]
fn input_gradient<S: Simd>(
    simd: S,
    [dy, x, gain]: [S::V; 3],
    [mean, rstd, mean_g, mean_gz]: [S::V; 4],
) -> S::V {
    let centred = simd.sub(simd.mul(dy, gain), mean_g);
    let slant = simd.mul(normal(simd, x, mean, rstd), mean_gz);
    simd.mul(simd.sub(centred, slant), rstd)
}

struct Backward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    /// The gradient of the output on entry, of the input on return.
    dy: &'a mut [f32],
    /// The gradient for the gain from these rows.
    dgain: &'a mut [f32],
    /// What the gradient of the input comes on top of.
    onto: Option<&'a [f32]>,
}

impl Task for Backward<'_> {
    type Output = ();

    /// See [`astropt_core::kernels::reference::layer_norm_backward`].
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let d = self.gain.len();
        self.dgain.fill(0.0);
        let rows = self.x.chunks_exact(d).zip(self.dy.chunks_exact_mut(d));
        let moments = self.mean.iter().zip(self.rstd);
        for (row, ((x, dy), (mean, rstd))) in rows.zip(moments).enumerate() {
            let (mean, rstd) = (simd.splat(*mean), simd.splat(*rstd));
            simd::update(
                simd,
                self.dgain,
                [x, dy],
                #[inline(always)]
                |dgain, [x, dy]| simd.fma(dy, normal(simd, x, mean, rstd), dgain),
            );
            let zeros = [simd.splat(0.0); 2];
            let sums = simd::fold(
                simd,
                [x, dy, self.gain],
                0.0,
                zeros,
                #[inline(always)]
                |[g, gz], [x, dy, gain]| {
                    let term = simd.mul(dy, gain);
                    [simd.add(g, term), simd.fma(term, normal(simd, x, mean, rstd), gz)]
                },
            );
            let [mean_g, mean_gz] = sums.map(|sum| simd.splat(simd.sum(sum) / d as f32));
            let means = [mean, rstd, mean_g, mean_gz];
            match self.onto {
                None => simd::update(
                    simd,
                    dy,
                    [x, self.gain],
                    #[inline(always)]
                    |dy, [x, gain]| input_gradient(simd, [dy, x, gain], means),
                ),
                Some(onto) => simd::update(
                    simd,
                    dy,
                    [x, self.gain, &onto[row * d..(row + 1) * d]],
                    #[inline(always)]
                    |dy, [x, gain, onto]| {
                        simd.add(onto, input_gradient(simd, [dy, x, gain], means))
                    },
                ),
            }
        }
    }
}

/// See [`Kernels::layer_norm`](astropt_core::kernels::Kernels::layer_norm).
pub(super) fn forward(
    x_nd: Tensor<Flex, 2>,
    gain_d: Tensor<Flex, 1>,
    eps: f32,
) -> Normalised<Flex> {
    let [n, d] = x_nd.dims();
    let (x, gain) = (Dense::new(x_nd), Dense::new(gain_d));
    let (mut y, mut mean, mut rstd) = (Buffer::new(n * d), Buffer::new(n), Buffer::new(n));
    let rows = rows_per_task(d);
    let moments = mean.par_chunks_mut(rows).zip(rstd.par_chunks_mut(rows));
    let values = x.par_chunks(rows * d).zip(y.par_chunks_mut(rows * d));
    values.zip(moments).for_each(|((x, y), (mean, rstd))| {
        simd::run(Forward { x, gain: &gain, eps, y, mean, rstd });
    });
    Normalised { y_nd: tensor(y, [n, d]), mean_n: tensor(mean, [n]), rstd_n: tensor(rstd, [n]) }
}

/// See [`Kernels::layer_norm_backward`](astropt_core::kernels::Kernels::layer_norm_backward).
pub(super) fn backward(
    x_nd: Tensor<Flex, 2>,
    gain_d: Tensor<Flex, 1>,
    mean_n: Tensor<Flex, 1>,
    rstd_n: Tensor<Flex, 1>,
    dy_nd: Tensor<Flex, 2>,
    onto_nd: Option<Tensor<Flex, 2>>,
) -> (Tensor<Flex, 2>, Tensor<Flex, 1>) {
    let [n, d] = x_nd.dims();
    let (x, gain, mut dy) = (Dense::new(x_nd), Dense::new(gain_d), Dense::new(dy_nd));
    let onto = onto_nd.map(Dense::new);
    let (mean, rstd) = (Dense::new(mean_n), Dense::new(rstd_n));
    let rows = rows_per_task(d);
    let mut partial = Buffer::new(n.div_ceil(rows) * d);
    let moments = mean.par_chunks(rows).zip(rstd.par_chunks(rows));
    let values = x.par_chunks(rows * d).zip(dy.to_mut().par_chunks_mut(rows * d));
    let tasks = values.zip(moments).zip(partial.par_chunks_mut(d)).enumerate();
    tasks.for_each(|(task, (((x, dy), (mean, rstd)), dgain))| {
        let first = task * rows * d;
        let onto = onto.as_ref().map(|onto| &onto[first..first + dy.len()]);
        simd::run(Backward { x, gain: &gain, mean, rstd, dy, dgain, onto });
    });
    (dy.into_tensor(), tensor(super::sums::of_rows(&partial, d), [d]))
}
