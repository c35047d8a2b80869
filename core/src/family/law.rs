//! Scaling laws of the loss: L(C) = L0 + a C^-b of the compute C, a saturating power law, and
//! L(N, D) = E + A N^-alpha + B D^-beta of parameters and tokens (Hoffmann et al. 2022,
//! arXiv:2203.15556, section 3.3). Both are linear once their exponents are given, so the
//! exponents are searched on a grid that narrows, and the rest is least squares with no
//! coefficient below zero.

use serde::{Deserialize, Serialize};

use crate::probe::Interval;

/// Smallest and largest exponent that is looked at.
const EXPONENTS: [f64; 2] = [0.01, 3.0];
/// Exponents tried at a time, and times that the grid narrows.
const GRID: usize = 25;
const ROUNDS: usize = 8;

/// How near to an end an exponent is at it, relatively: as near to it losses hardly differ.
const AT_EDGE: f64 = 1e-3;
/// Times the compute of the fitted models from which on no saturation is foretold.
const FARTHEST: f64 = 1e9;

/// Whether `exponent` is an end of what is searched: it is not determined, only that it is not
/// within.
pub fn at_edge(exponent: f64) -> bool {
    EXPONENTS.iter().any(|edge| (exponent / edge - 1.0).abs() < AT_EDGE)
}

/// What an interval of an exponent leaves open, in words: whether it, or an end of its interval, is
/// but an end of what was searched. Empty where it leaves nothing open.
pub fn left_open(exponent: &Interval) -> String {
    let [low, high] = EXPONENTS;
    // Nothing below is searched: of two models it is the slope between them.
    if exponent.value <= 0.0 {
        return " (the loss does not fall)".to_owned();
    }
    if exponent.low.is_some_and(|low| low <= 0.0) {
        return " (the loss does not clearly fall)".to_owned();
    }
    if at_edge(exponent.value) {
        return format!(" (not determined: an end of what was searched, {low} to {high})");
    }
    match [exponent.low, exponent.high].into_iter().flatten().any(at_edge) {
        true => format!(" (the interval reaches an end of what was searched, {low} to {high})"),
        false => String::new(),
    }
}

/// L(C) = floor + a (C / unit)^-b.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeLaw {
    /// L0, the loss that no compute passes.
    pub floor: f64,
    /// The loss above the floor at C = `unit`.
    pub a: f64,
    /// The exponent; not above zero where the loss of two models does not fall, and `a` is 0.
    pub b: f64,
    /// Compute that the law is written in units of, in FLOP: the geometric mean of the fitted.
    pub unit: f64,
}

impl ComputeLaw {
    /// Fits the law to `(compute, loss)`; `None` with fewer than two different computes. Two say
    /// nothing of a floor: the law is then the power law through both, without one.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let mut computes: Vec<f64> = points.iter().map(|p| p.0).collect();
        computes.sort_by(f64::total_cmp);
        computes.dedup();
        if computes.len() < 2 || computes[0] <= 0.0 {
            return None;
        }
        let unit = geometric_mean(&computes);
        if let [low, high] = computes[..] {
            return Self::through(points, [low, high], unit);
        }
        let at = |b: f64| {
            let terms: Vec<[f64; 2]> =
                points.iter().map(|(c, _)| [1.0, (c / unit).powf(-b)]).collect();
            least_squares(&terms, points.iter().map(|p| p.1))
        };
        let b = narrowed([EXPONENTS], |[b]| at(b).1)[0];
        let ([floor, a], _) = at(b);
        Some(Self { floor, a, b, unit })
    }

    /// The power law through the mean losses at two computes; where they do not fall, their
    /// mean, with nothing above it, and the exponent that says so: not above zero.
    fn through(points: &[(f64, f64)], [low, high]: [f64; 2], unit: f64) -> Option<Self> {
        let mean = |compute: f64| {
            let losses = points.iter().filter(|p| p.0 == compute).map(|p| p.1);
            losses.clone().sum::<f64>() / losses.count() as f64
        };
        let (first, last) = (mean(low), mean(high));
        let b = (first / last).ln() / (high / low).ln();
        if first <= 0.0 || last <= 0.0 {
            return None;
        }
        Some(match b > 0.0 {
            true => Self { floor: 0.0, a: (first * last).sqrt(), b, unit },
            false => Self { floor: f64::midpoint(first, last), a: 0.0, b, unit },
        })
    }

    /// The loss at `compute`, in FLOP.
    pub fn at(&self, compute: f64) -> f64 {
        self.floor + self.a * (compute / self.unit).powf(-self.b)
    }

    /// The compute, in FLOP, from which ten times as much lowers the loss by less than the
    /// share `least` of it. 0 where that holds of any compute: the loss does not fall, or so
    /// slowly that not even without a floor it would be enough. `None` where it holds of none:
    /// the fitted loss has no floor, and falls by a larger share each time; or its exponent is the
    /// smallest that was searched, which leaves the floor undetermined; or the compute is farther off
    /// than the models can tell. Of the largest searched it is an upper bound: a loss that falls
    /// faster is at its floor sooner.
    pub fn saturation(&self, least: f64) -> Option<f64> {
        // a x^-b (1 - 10^-b) = least (floor + a x^-b), solved for x = C / unit.
        let gain = 1.0 - 10f64.powf(-self.b) - least;
        if self.a <= 0.0 || gain <= 0.0 {
            return Some(0.0);
        }
        if self.floor <= 0.0 || (at_edge(self.b) && self.b < 1.0) {
            return None;
        }
        let turn = self.unit * (least * self.floor / (self.a * gain)).powf(-1.0 / self.b);
        if turn > FARTHEST * self.unit {
            return None;
        }
        // Below a single operation there is nothing to compute with.
        Some(if turn < 1.0 { 0.0 } else { turn })
    }
}

/// L(N, D) = floor + a (N / parameters)^-alpha + b (D / tokens)^-beta.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeLaw {
    /// E, the loss that neither size nor data pass.
    pub floor: f64,
    /// The loss that N = `parameters` leaves.
    pub a: f64,
    /// Exponent of the parameters.
    pub alpha: f64,
    /// The loss that D = `tokens` leaves.
    pub b: f64,
    /// Exponent of the tokens.
    pub beta: f64,
    /// Parameters that N is in units of: the geometric mean of the fitted.
    pub parameters: f64,
    /// Tokens that D is in units of: the geometric mean of the fitted.
    pub tokens: f64,
}

impl SizeLaw {
    /// Fits the law to `(parameters, tokens, loss)`; `None` with fewer than six points, or
    /// fewer than two different numbers of either.
    pub fn fit(points: &[(f64, f64, f64)]) -> Option<Self> {
        let varies = |of: fn(&(f64, f64, f64)) -> f64| {
            points.iter().any(|p| of(p) != of(&points[0])) && points.iter().all(|p| of(p) > 0.0)
        };
        if points.len() < 6 || !varies(|p| p.0) || !varies(|p| p.1) {
            return None;
        }
        let mean = |of: fn(&(f64, f64, f64)) -> f64| {
            geometric_mean(&points.iter().map(of).collect::<Vec<_>>())
        };
        let (parameters, tokens) = (mean(|p| p.0), mean(|p| p.1));
        let at = |alpha: f64, beta: f64| {
            let term = |&(n, d, _): &(f64, f64, f64)| {
                [1.0, (n / parameters).powf(-alpha), (d / tokens).powf(-beta)]
            };
            let terms: Vec<[f64; 3]> = points.iter().map(term).collect();
            least_squares(&terms, points.iter().map(|p| p.2))
        };
        let [alpha, beta] = narrowed([EXPONENTS, EXPONENTS], |[alpha, beta]| at(alpha, beta).1);
        let ([floor, a, b], _) = at(alpha, beta);
        Some(Self { floor, a, alpha, b, beta, parameters, tokens })
    }

    /// The loss of a model of `parameters` after `tokens`.
    pub fn at(&self, parameters: f64, tokens: f64) -> f64 {
        self.floor
            + self.a * (parameters / self.parameters).powf(-self.alpha)
            + self.b * (tokens / self.tokens).powf(-self.beta)
    }
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// Where `cost` is least: a grid, even in the logarithm, that narrows about its best point.
fn narrowed<const K: usize>(ranges: [[f64; 2]; K], cost: impl Fn([f64; K]) -> f64) -> [f64; K] {
    let mut ranges = ranges.map(|range| range.map(f64::ln));
    let mut best = (f64::INFINITY, ranges.map(|[low, high]| f64::midpoint(low, high)));
    for _ in 0..ROUNDS {
        for cell in 0..GRID.pow(K as u32) {
            let mut rest = cell;
            let point = ranges.map(|[low, high]| {
                let place = (rest % GRID) as f64 / (GRID - 1) as f64;
                rest /= GRID;
                low + place * (high - low)
            });
            let found = cost(point.map(f64::exp));
            if found < best.0 {
                best = (found, point);
            }
        }
        for (range, (middle, limits)) in
            ranges.iter_mut().zip(best.1.iter().zip([EXPONENTS.map(f64::ln); K]))
        {
            let half = 2.0 * (range[1] - range[0]) / (GRID - 1) as f64;
            *range = [(middle - half).max(limits[0]), (middle + half).min(limits[1])];
        }
    }
    best.1.map(f64::exp)
}

/// Coefficients, none below zero, of the sum of `terms` nearest to `values`, and the sum of
/// squares that is left. There are few terms, so every choice of those that are zero is tried.
fn least_squares<const K: usize>(
    terms: &[[f64; K]],
    values: impl Iterator<Item = f64>,
) -> ([f64; K], f64) {
    let values: Vec<f64> = values.collect();
    let (mut normal, mut right) = ([[0.0; K]; K], [0.0; K]);
    for (term, value) in terms.iter().zip(&values) {
        for i in 0..K {
            for j in 0..K {
                normal[i][j] += term[i] * term[j];
            }
            right[i] += term[i] * value;
        }
    }
    let left = |solution: &[f64; K]| {
        let fitted = |term: &[f64; K]| term.iter().zip(solution).map(|(t, x)| t * x).sum::<f64>();
        terms.iter().zip(&values).map(|(term, value)| (value - fitted(term)).powi(2)).sum::<f64>()
    };
    let mut best = ([0.0; K], left(&[0.0; K]));
    for used in 1u32..1 << K {
        let Some(solution) = solve(&normal, &right, used) else { continue };
        if solution.iter().any(|&x| x < 0.0) {
            continue;
        }
        let left = left(&solution);
        if left < best.1 {
            best = (solution, left);
        }
    }
    best
}

/// Solves the normal equations of the terms whose bits are set in `used`; the others are zero.
fn solve<const K: usize>(normal: &[[f64; K]; K], right: &[f64; K], used: u32) -> Option<[f64; K]> {
    let (mut m, mut r) = (*normal, *right);
    let inside = |k: usize| used >> k & 1 == 1;
    for k in (0..K).filter(|&k| inside(k)) {
        // Symmetric and positive definite, unless terms are alike: no pivoting is needed.
        if m[k][k] <= 1e-12 * normal[k][k] {
            return None;
        }
        for i in (0..K).filter(|&i| inside(i) && i != k) {
            let (pivot, factor) = (m[k], m[i][k] / m[k][k]);
            m[i].iter_mut().zip(pivot).for_each(|(x, p)| *x -= factor * p);
            r[i] -= factor * r[k];
        }
    }
    Some(std::array::from_fn(|k| if inside(k) { r[k] / m[k][k] } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses that fall about as the logarithm of the compute say nothing of a floor.
    #[test]
    fn an_end_of_the_search_is_known_for_one() {
        let points = [(8.184e8, 0.417_822), (1.717_9e9, 0.416_983), (4.604_3e9, 0.411_146)];
        let law = ComputeLaw::fit(&points).expect("three computes");
        assert!(at_edge(law.b) && law.saturation(0.005).is_none(), "{law:?}");
        for k in 0..200 {
            let wiggle = |i: u32| 2e-4 * (f64::from(7 * k + 13 * i) * 0.7).sin();
            let points: Vec<(f64, f64)> = (0..3 + k % 6)
                .map(|i| (1e9 * 3f64.powi(i as i32), 0.42 - 0.004 * f64::from(i) + wiggle(i)))
                .collect();
            let law = ComputeLaw::fit(&points).expect("three computes or more");
            assert!(law.saturation(0.005).is_none_or(|turn| turn < 1e20), "{law:?}");
        }
    }

    #[test]
    fn a_law_is_found_again() {
        let law = ComputeLaw { floor: 0.36, a: 0.02, b: 0.31, unit: 1e18 };
        let computes = [1e16, 1e17, 1e18, 3e18, 1e20];
        let points: Vec<_> = computes.map(|c| (c, law.at(c))).into();
        let found = ComputeLaw::fit(&points).expect("five points");
        assert!((found.b - 0.31).abs() < 1e-3 && (found.floor - 0.36).abs() < 1e-4, "{found:?}");
        assert!((found.at(1e21) - law.at(1e21)).abs() < 1e-5);
        // Two points lie on a power law, whatever floor there is.
        let two = ComputeLaw::fit(&points[..2]).expect("two points");
        assert!(two.floor == 0.0 && points[..2].iter().all(|p| (two.at(p.0) - p.1).abs() < 1e-9));
        assert!(two.at(1e18) < points[2].1 && two.saturation(0.005).is_none(), "{two:?}");
        assert!(ComputeLaw::fit(&points[..1]).is_none());
        let law = SizeLaw {
            floor: 0.3,
            a: 0.05,
            alpha: 0.4,
            b: 0.1,
            beta: 0.7,
            parameters: 1e6,
            tokens: 1e8,
        };
        let mut points = Vec::new();
        for n in [1e5, 1e6, 1e7] {
            for d in [1e7, 1e8, 1e9] {
                points.push((n, d, law.at(n, d)));
            }
        }
        let found = SizeLaw::fit(&points).expect("nine points");
        assert!((found.alpha - 0.4).abs() < 5e-3 && (found.beta - 0.7).abs() < 5e-3, "{found:?}");
        assert!((found.at(1e8, 1e10) - law.at(1e8, 1e10)).abs() < 1e-4);
    }

    /// Validation Huber of the paper's models, read off its Figure 2 (log10 exaFLOP, log10 loss).
    const PAPER: [(f64, f64); 8] = [
        (-1.20, -0.426),
        (-0.49, -0.432),
        (-0.15, -0.4335),
        (0.09, -0.434),
        (0.72, -0.435),
        (1.26, -0.4355),
        (1.69, -0.436),
        (2.09, -0.437),
    ];

    #[test]
    fn the_papers_losses_saturate() {
        let points: Vec<_> =
            PAPER.iter().map(|(c, l)| (10f64.powf(c + 18.0), 10f64.powf(*l))).collect();
        let law = ComputeLaw::fit(&points).expect("eight points");
        for (c, l) in &points {
            assert!((law.at(*c).log10() - l.log10()).abs() < 1e-3, "{c:e} {l}");
        }
        let turn = law.saturation(0.005).expect("it falls");
        assert!(law.at(turn) / law.at(10.0 * turn) - 1.0 < 0.0052, "{turn:e}");
        assert!((1e17..1e20).contains(&turn), "{turn:e}");
    }

    #[test]
    fn losses_that_rise_or_hardly_fall_are_saturated_everywhere() {
        let rising = [(1.0, 1.0), (10.0, 2.0), (100.0, 3.0)];
        let law = ComputeLaw::fit(&rising).expect("three points");
        assert_eq!(law.saturation(0.01), Some(0.0), "{law:?}");
        let two = ComputeLaw::fit(&rising[..2]).expect("two points");
        assert!(two.a == 0.0 && two.at(3.0) == 1.5, "{two:?}");
        assert_eq!(two.saturation(0.01), Some(0.0));
        assert!((two.b + 2f64.log10()).abs() < 1e-12, "its true slope: {two:?}");
        // Ten times as much lowers it by 18%, whatever it is: never less, or always.
        let slow = ComputeLaw { floor: 0.0, a: 1.0, b: 0.086, unit: 1e18 };
        assert_eq!(slow.saturation(0.1), None);
        assert_eq!(slow.saturation(0.5), Some(0.0));
        let edge = ComputeLaw { floor: 0.3, a: 0.1, b: EXPONENTS[0], unit: 1e18 };
        assert_eq!(edge.saturation(0.005), None, "the floor is not determined");
        assert_eq!(ComputeLaw { b: 0.02, ..edge }.saturation(0.005), None, "out of sight");
        assert!(ComputeLaw { b: 0.2, ..edge }.saturation(0.005).is_some());
        assert_eq!(edge.saturation(0.5), Some(0.0), "whatever the floor is");
        let flat = ComputeLaw { floor: 0.3, a: 1e-14, b: 0.05, unit: 1e12 };
        assert_eq!(flat.saturation(0.01), Some(0.0), "no power of ten far below one operation");
    }

    #[test]
    fn exponents_at_an_end_of_the_search_are_not_determined() {
        // A loss that falls by as much with every decade has no exponent above zero.
        let logarithmic: Vec<_> =
            [1e15, 1e16, 1e17, 1e18].iter().map(|c: &f64| (*c, 12.0 - 0.1 * c.log10())).collect();
        let law = ComputeLaw::fit(&logarithmic).expect("four points");
        assert!(at_edge(law.b) && law.saturation(0.005).is_none(), "{law:?}");
        let said =
            |value, low, high| left_open(&Interval { value, low: Some(low), high: Some(high) });
        assert!(said(law.b, 0.01, 0.02).contains("not determined"));
        assert!(said(0.5, 0.01, 3.0).contains("reaches an end"));
        assert_eq!(said(0.5, 0.1, 0.9), "");
        assert!(said(0.02, -0.01, 0.05).contains("does not clearly fall"));
        assert!(said(-0.02, -0.05, 0.01).contains("does not fall"));
    }
}
