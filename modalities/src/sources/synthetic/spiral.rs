//! The pattern of young stars in a disc: logarithmic spiral arms and flocculence.
//!
//! A logarithmic spiral of pitch angle p is a straight line in the coordinates u = ln(r / h)
//! and v = azimuth - u / tan p. The pattern is a table over u and v: arms are waves along v
//! alone, flocculence a sum of further waves that drift with u. Seeing is taken into the
//! table: it weakens a wave of n crests by exp(-(k s)^2 / 2) with the wave number
//! k = n / (r sin p).

use std::f64::consts::TAU;

use rand::{Rng, RngExt};

use super::morphology::Arms;
use super::population::normal;

/// Rows of the table, from `INNER` to `OUTER` scale lengths.
const ROWS: usize = 48;
/// Columns of the table: steps of azimuth.
const COLUMNS: usize = 128;
/// Innermost radius of the table, in scale lengths.
const INNER: f64 = 0.2;
/// Outermost radius, in scale lengths.
pub(super) const OUTER: f64 = 6.0;
/// Waves of the flocculence, by their number of crests around the centre.
const WAVES: usize = 14;

/// The density of young stars relative to its mean along a circle, less 1.
pub(super) struct Pattern {
    /// `ROWS` times `COLUMNS + 1` numbers, the last column the first again.
    table: Vec<f32>,
    /// Scale length of the disc, in pixels.
    scale: f64,
    /// 1 / tan of the pitch angle; negative for arms that wind the other way.
    winding: f64,
    phase: f64,
    count: usize,
}

impl Pattern {
    /// The pattern of a disc of scale length `scale` pixels, seen through a point-spread
    /// function of deviation `blur` pixels in the plane of the disc.
    pub(super) fn new(arms: &Arms, scale: f64, blur: f64, random: &mut impl Rng) -> Self {
        let pitch = arms.pitch.to_radians();
        let waves = waves(arms, random);
        let circle: Vec<f32> = (0..COLUMNS)
            .map(|column| (TAU * column as f64 / COLUMNS as f64).cos() as f32)
            .collect();
        let mut table = Vec::with_capacity(ROWS * (COLUMNS + 1));
        for row in 0..ROWS {
            let u = INNER.ln() + (OUTER / INNER).ln() * row as f64 / (ROWS - 1) as f64;
            let wave_number = 1.0 / (scale * u.exp() * pitch.sin().abs());
            let mut logs = [0.0f32; COLUMNS];
            for wave in &waves {
                let seeing = (-0.5 * (wave.crests as f64 * wave_number * blur).powi(2)).exp();
                let (s, c) = (wave.phase + wave.drift * u).sin_cos();
                let amplitude = wave.amplitude * seeing * window(u.exp());
                let [c, s] = [c, s].map(|x| (x * amplitude) as f32);
                for (column, log) in logs.iter_mut().enumerate() {
                    let at = wave.crests * column;
                    // sin x = cos (x - a quarter turn)
                    *log += c * circle[at % COLUMNS] - s * circle[(at + 3 * COLUMNS / 4) % COLUMNS];
                }
            }
            let young = logs.map(f32::exp);
            let mean = young.iter().sum::<f32>() / COLUMNS as f32;
            table.extend(young.iter().chain(&young[..1]).map(|x| x / mean - 1.0));
        }
        let winding = 1.0 / pitch.tan();
        Self { table, scale, winding, phase: arms.phase, count: arms.count }
    }

    /// The pattern at `x` along and `y` across the major axis in the plane of the disc, in
    /// pixels from the centre.
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let scale = self.scale as f32;
        let u = 0.5 * ((x * x + y * y).max(1e-6) / (scale * scale)).ln();
        let (inner, outer) = (INNER.ln() as f32, OUTER.ln() as f32);
        let row = (u - inner) / (outer - inner) * (ROWS - 1) as f32;
        if !(0.0..(ROWS - 1) as f32).contains(&row) {
            return 0.0;
        }
        let turns = (y.atan2(x) - self.winding as f32 * u - self.phase as f32) / TAU as f32;
        let column = (turns - turns.floor()) * COLUMNS as f32;
        let (i, j) = (row as usize, (column as usize).min(COLUMNS - 1));
        let (s, t) = (row - i as f32, column - j as f32);
        let across = |i: usize| {
            let row = &self.table[i * (COLUMNS + 1)..];
            row[j] + t * (row[j + 1] - row[j])
        };
        let (low, high) = (across(i), across(i + 1));
        low + s * (high - low)
    }

    /// A place near the crest of an arm: along and across the major axis in the plane of the
    /// disc, in pixels from the centre.
    pub(super) fn on_an_arm(&self, random: &mut impl Rng) -> [f64; 2] {
        let radius = 0.6 + 2.8 * random.random::<f64>();
        let arm = random.random_range(0..self.count) as f64 / self.count as f64;
        let v = TAU * arm + normal(random, 0.0, 0.35 / self.count as f64);
        let azimuth = v + self.phase + self.winding * radius.ln();
        [azimuth.cos(), azimuth.sin()].map(|x| x * radius * self.scale)
    }
}

/// A wave along v.
struct Wave {
    /// Crests around the centre.
    crests: usize,
    amplitude: f64,
    phase: f64,
    /// How far it turns with u, in radians.
    drift: f64,
}

/// The arms, and the irregular waves.
fn waves(arms: &Arms, random: &mut impl Rng) -> Vec<Wave> {
    let arm = Wave { crests: arms.count, amplitude: arms.strength, phase: 0.0, drift: 0.0 };
    let irregular = (1..=WAVES).map(|crests| Wave {
        crests,
        amplitude: arms.flocculence * normal(random, 0.0, 0.45),
        phase: TAU * random.random::<f64>(),
        drift: normal(random, 0.0, 3.0),
    });
    std::iter::once(arm).chain(irregular).collect()
}

/// Arms begin outside the bulge and fade where the disc ends: their amplitude at `r` scale
/// lengths.
fn window(r: f64) -> f64 {
    let rise = ((r - 0.3) / 0.6).clamp(0.0, 1.0);
    let fall = ((OUTER - r) / 2.5).clamp(0.0, 1.0);
    rise * rise * (3.0 - 2.0 * rise) * fall
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// The pitch angle of the pattern by a Fourier transform over ln r and azimuth: a wave
    /// exp i(m azimuth + q ln r) winds with tan(pitch) = -m / q.
    fn measured_pitch(pattern: &Pattern, count: usize) -> f64 {
        let power = |q: f64| {
            let (mut real, mut imaginary) = (0.0, 0.0);
            for i in 0..200 {
                let u = f64::from(i) / 200.0 * 1.5;
                for j in 0..180 {
                    let azimuth = TAU * f64::from(j) / 180.0;
                    let r = pattern.scale * u.exp();
                    let value = f64::from(
                        pattern.at((r * azimuth.cos()) as f32, (r * azimuth.sin()) as f32),
                    );
                    let (s, c) = (count as f64 * azimuth + q * u).sin_cos();
                    real += value * c;
                    imaginary += value * s;
                }
            }
            real * real + imaginary * imaginary
        };
        let best =
            (-300..300).map(|q| f64::from(q) * 0.1).max_by(|a, b| power(*a).total_cmp(&power(*b)));
        (count as f64 / -best.expect("a maximum")).atan().to_degrees()
    }

    #[test]
    fn arms_have_their_pitch_and_keep_the_light() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        for (count, pitch) in [(2, 12.0), (2, -25.0), (3, 18.0)] {
            let arms =
                Arms { count, pitch, strength: 1.0, flocculence: 0.3, phase: 1.0, young: 0.5 };
            let pattern = Pattern::new(&arms, 30.0, 2.0, &mut random);
            let measured = measured_pitch(&pattern, count);
            assert!((measured - pitch).abs() < 2.0, "{pitch}: {measured}");
            for radius in [25.0f64, 60.0] {
                let at = |k: i32| {
                    let azimuth = TAU * f64::from(k) / 500.0;
                    pattern.at((radius * azimuth.cos()) as f32, (radius * azimuth.sin()) as f32)
                };
                let mean = (0..500).map(at).sum::<f32>() / 500.0;
                assert!(mean.abs() < 0.02, "{mean}");
                assert!((0..500).all(|k| at(k) > -1.0));
            }
        }
    }

    #[test]
    fn seeing_washes_arms_out() {
        let arms =
            Arms { count: 2, pitch: 15.0, strength: 1.0, flocculence: 0.0, phase: 0.0, young: 0.5 };
        let contrast = |blur| {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
            let pattern = Pattern::new(&arms, 8.0, blur, &mut random);
            pattern.table.iter().copied().fold(0.0, f32::max)
        };
        assert!(contrast(0.0) > 2.0 * contrast(6.0));
    }
}
