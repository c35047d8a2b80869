//! A network of one hidden layer, `y = v . relu(W x + b) + c`, on standardised features.
//!
//! It is fitted to squared error by Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) with
//! decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101). A fifth of the fitted
//! objects is set aside: by it the decay is chosen, and the epoch at which to stop.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use super::scaling::Scaling;
use super::settings::Features;
use crate::error::{Error, Result};

/// Units of the hidden layer.
const HIDDEN: usize = 64;
const BATCH: usize = 128;
const RATE: f32 = 2e-3;
/// Decays to choose from.
const DECAYS: [f32; 3] = [0.0, 0.1, 1.0];
/// Most epochs, and how many without a better one end the fit.
const EPOCHS: usize = 150;
const PATIENCE: usize = 10;
/// Objects predicted at a time.
const CHUNK: usize = 1024;

/// A fitted network.
pub(super) struct Mlp {
    scaling: Scaling,
    /// Mean and deviation of the fitted labels, which the network does not know.
    shift: f64,
    scale: f64,
    network: Network,
    /// Weight decay chosen.
    pub(super) decay: f64,
}

impl Mlp {
    /// Fits `y` (one number for each of `rows`) on those rows of `features`.
    ///
    /// # Errors
    /// When a feature is not finite.
    pub(super) fn fit(features: &Features, rows: &[usize], y: &[f64], seed: u64) -> Result<Self> {
        let scaling = Scaling::of(features, rows)?;
        let n = y.len() as f64;
        let shift = y.iter().sum::<f64>() / n;
        let deviation = (y.iter().map(|y| (y - shift).powi(2)).sum::<f64>() / n).sqrt();
        let scale = if deviation > 0.0 { deviation } else { 1.0 };
        let y: Vec<f32> = y.iter().map(|y| ((y - shift) / scale) as f32).collect();
        let mut order: Vec<usize> = (0..y.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let (aside, fitted) = order.split_at(y.len() / 5);
        let part = |places: &[usize]| {
            let rows: Vec<usize> = places.iter().map(|&place| rows[place]).collect();
            Objects {
                x_np: scaling.rows(features, &rows),
                y: places.iter().map(|&place| y[place]).collect(),
            }
        };
        let (aside, fitted) = (part(aside), part(fitted));
        let fit = |decay: f32| {
            let (network, error) = trained(&fitted, &aside, decay, seed);
            (decay, network, error)
        };
        let fits: Vec<_> = DECAYS.into_par_iter().map(fit).collect();
        let best = fits.into_iter().min_by(|a, b| a.2.total_cmp(&b.2));
        let Some((decay, network, _)) = best else {
            return Err(Error::Failed("there is no weight decay to choose from".into()));
        };
        Ok(Self { scaling, shift, scale, network, decay: f64::from(decay) })
    }

    /// Predictions for `rows` of `features`.
    pub(super) fn predict(&self, features: &Features, rows: &[usize]) -> Vec<f64> {
        let chunk = |rows: &[usize]| self.network.outputs(&self.scaling.rows(features, rows));
        let outputs = rows.chunks(CHUNK).flat_map(chunk);
        outputs.map(|output| f64::from(output) * self.scale + self.shift).collect()
    }
}

/// Scaled features `[n, p]` and labels.
struct Objects {
    x_np: Vec<f32>,
    y: Vec<f32>,
}

/// The network of the least error on the objects set `aside`, and that error.
fn trained(fitted: &Objects, aside: &Objects, decay: f32, seed: u64) -> (Network, f32) {
    let p = fitted.x_np.len() / fitted.y.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let mut network = Network::new(p, &mut rng);
    let mut adam = Adam::new(&network);
    let mut best = (network.clone(), network.error(aside));
    let mut order: Vec<usize> = (0..fitted.y.len()).collect();
    let mut since = 0;
    for _ in 0..EPOCHS {
        order.shuffle(&mut rng);
        for places in order.chunks(BATCH) {
            let x: Vec<f32> =
                places.iter().flat_map(|&i| &fitted.x_np[i * p..(i + 1) * p]).copied().collect();
            let y: Vec<f32> = places.iter().map(|&i| fitted.y[i]).collect();
            let gradient = network.gradient(&x, &y);
            adam.step(&mut network, &gradient, decay);
        }
        let error = network.error(aside);
        since += 1;
        if error < best.1 {
            (best, since) = ((network.clone(), error), 0);
        } else if since >= PATIENCE {
            break;
        }
    }
    best
}

/// Parameters in one row: W `[p, h]` column by column, b `[h]`, v `[h]`, c.
#[derive(Clone)]
struct Network {
    p: usize,
    parameters: Vec<f32>,
}

impl Network {
    /// Weights of the deviation that keeps a rectified layer's size (He et al. 2015,
    /// arXiv:1502.01852), and zero biases.
    fn new(p: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut parameters = vec![0.0; p * HIDDEN + 2 * HIDDEN + 1];
        let (inner, outer) = ((2.0 / p as f32).sqrt(), (1.0 / HIDDEN as f32).sqrt());
        for w in &mut parameters[..p * HIDDEN] {
            *w = inner * rng.sample::<f32, _>(StandardNormal);
        }
        for v in &mut parameters[p * HIDDEN + HIDDEN..][..HIDDEN] {
            *v = outer * rng.sample::<f32, _>(StandardNormal);
        }
        Self { p, parameters }
    }

    /// W, b, v and c.
    fn parts(&self) -> (MatRef<'_, f32>, &[f32], &[f32], f32) {
        let (w, rest) = self.parameters.split_at(self.p * HIDDEN);
        let w_ph = MatRef::from_column_major_slice(w, self.p, HIDDEN);
        (w_ph, &rest[..HIDDEN], &rest[HIDDEN..2 * HIDDEN], rest[2 * HIDDEN])
    }

    /// The hidden layer `[n, h]` of `x` `[n, p]`.
    fn hidden(&self, x: &[f32]) -> Mat<f32> {
        let (w_ph, b_h, ..) = self.parts();
        let n = x.len() / self.p;
        let mut h_nh = Mat::from_fn(n, HIDDEN, |_, j| b_h[j]);
        let x_np = MatRef::from_row_major_slice(x, n, self.p);
        matmul(&mut h_nh, Accum::Add, x_np, w_ph, 1.0, Par::Seq);
        for column in h_nh.col_iter_mut() {
            column.iter_mut().for_each(|h| *h = h.max(0.0));
        }
        h_nh
    }

    fn outputs_of(&self, h_nh: &Mat<f32>) -> Vec<f32> {
        let (.., v_h, c) = self.parts();
        let row = |i: usize| v_h.iter().enumerate().map(|(j, v)| v * h_nh[(i, j)]).sum::<f32>();
        (0..h_nh.nrows()).map(|i| row(i) + c).collect()
    }

    fn outputs(&self, x: &[f32]) -> Vec<f32> {
        self.outputs_of(&self.hidden(x))
    }

    /// Half the mean squared error.
    fn error(&self, of: &Objects) -> f32 {
        let outputs = self.outputs(&of.x_np);
        let squares = outputs.iter().zip(&of.y).map(|(o, y)| (o - y).powi(2));
        squares.sum::<f32>() / (2 * of.y.len()) as f32
    }

    /// The gradient of half the mean squared error on `x` `[n, p]`, `y` `[n]`.
    fn gradient(&self, x: &[f32], y: &[f32]) -> Vec<f32> {
        let n = y.len();
        let h_nh = self.hidden(x);
        let outputs = self.outputs_of(&h_nh);
        let e_n: Vec<f32> = outputs.iter().zip(y).map(|(o, y)| (o - y) / n as f32).collect();
        let (.., v_h, _) = self.parts();
        let back = |i: usize, j: usize| if h_nh[(i, j)] > 0.0 { e_n[i] * v_h[j] } else { 0.0 };
        let d_nh = Mat::from_fn(n, HIDDEN, back);
        let x_np = MatRef::from_row_major_slice(x, n, self.p);
        let mut dw_ph = Mat::<f32>::zeros(self.p, HIDDEN);
        matmul(&mut dw_ph, Accum::Replace, x_np.transpose(), &d_nh, 1.0, Par::Seq);
        let mut out = Vec::with_capacity(self.parameters.len());
        for column in dw_ph.col_iter() {
            out.extend(column.iter());
        }
        out.extend(d_nh.col_iter().map(|column| column.iter().sum::<f32>()));
        let along = |j: usize| e_n.iter().enumerate().map(|(i, e)| e * h_nh[(i, j)]).sum::<f32>();
        out.extend((0..HIDDEN).map(along));
        out.push(e_n.iter().sum());
        out
    }
}

/// Adam's running means.
struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    fn new(network: &Network) -> Self {
        let zeros = vec![0.0; network.parameters.len()];
        Self { first: zeros.clone(), second: zeros, steps: 0 }
    }

    /// One step; weights decay, biases do not.
    fn step(&mut self, network: &mut Network, gradient: &[f32], decay: f32) {
        self.steps += 1;
        let corrections = [0.9f32, 0.999].map(|beta| 1.0 - beta.powi(self.steps));
        let inner = network.p * HIDDEN;
        let moments = self.first.iter_mut().zip(&mut self.second);
        let all = network.parameters.iter_mut().zip(gradient).zip(moments).enumerate();
        for (k, ((parameter, &g), (first, second))) in all {
            *first = 0.9 * *first + 0.1 * g;
            *second = 0.999 * *second + 0.001 * g * g;
            let weight = k < inner || (inner + HIDDEN..inner + 2 * HIDDEN).contains(&k);
            if weight {
                *parameter -= RATE * decay * *parameter;
            }
            let step = *first / corrections[0] / ((*second / corrections[1]).sqrt() + 1e-8);
            *parameter -= RATE * step;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f32 {
        ((i as f32 * 12.9898).sin() * 437.585).fract()
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut network = Network::new(3, &mut ChaCha8Rng::seed_from_u64(0));
        let x: Vec<f32> = (0..30).map(noise).collect();
        let of = Objects { y: (0..10).map(|i| noise(100 + i)).collect(), x_np: x.clone() };
        let gradient = network.gradient(&x, &of.y);
        for k in [0, 5, 100, 3 * HIDDEN + 4, 4 * HIDDEN + 9, 5 * HIDDEN] {
            let kept = network.parameters[k];
            let at = |network: &mut Network, shift: f32| {
                network.parameters[k] = kept + shift;
                network.error(&of)
            };
            let slope = (at(&mut network, 1e-2) - at(&mut network, -1e-2)) / 2e-2;
            network.parameters[k] = kept;
            assert!((slope - gradient[k]).abs() < 2e-3, "{k}: {slope} {}", gradient[k]);
        }
    }

    #[test]
    fn what_no_line_follows_is_learnt() {
        let x: Vec<f32> = (0..2400).map(noise).collect();
        let y = |i: usize| 1e6 * f64::from(x[3 * i] * x[3 * i + 1]) + 5e6;
        let y: Vec<f64> = (0..800).map(y).collect();
        let features = Features::new(3, x).unwrap();
        let (rows, tests): (Vec<usize>, Vec<usize>) = (0..800).partition(|i| i % 4 > 0);
        let fitted: Vec<f64> = rows.iter().map(|&i| y[i]).collect();
        let truth: Vec<f64> = tests.iter().map(|&i| y[i]).collect();
        let mlp = Mlp::fit(&features, &rows, &fitted, 3).unwrap();
        let r2 = crate::probe::r_squared(&truth, &mlp.predict(&features, &tests)).unwrap();
        assert!(r2 > 0.7, "{r2}");
        let again = Mlp::fit(&features, &rows, &fitted, 3).unwrap();
        assert_eq!(again.predict(&features, &tests), mlp.predict(&features, &tests));
    }
}
