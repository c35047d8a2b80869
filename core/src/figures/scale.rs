//! Axes: from numbers to places on a drawing, and the ticks between.

/// An axis from `low` to `high` over `from..to` pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) log: bool,
}

impl Scale {
    /// An axis that shows `values` with `margin` (a share of their range) on both sides;
    /// `None` when there is nothing to show. On a logarithmic axis only values above zero
    /// count.
    pub(crate) fn around(
        values: impl IntoIterator<Item = f64>,
        margin: f64,
        log: bool,
        from: f64,
        to: f64,
    ) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        if log {
            let ratio = if high > low { (high / low).powf(margin) } else { 2.0 };
            return Some(Self { low: low / ratio, high: high * ratio, from, to, log });
        }
        let room = if high > low { (high - low) * margin } else { high.abs().max(1.0) * 0.1 };
        Some(Self { low: low - room, high: high + room, from, to, log })
    }

    /// Place of `value` in pixels.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// The value at `place` pixels: the inverse of [`at`](Self::at).
    pub(crate) fn value(&self, place: f64) -> f64 {
        let share = (place - self.from) / (self.to - self.from);
        if self.log {
            self.low * (self.high / self.low).powf(share)
        } else {
            self.low + share * (self.high - self.low)
        }
    }

    /// The same axis drawn on from `from` to `to` pixels.
    pub(crate) fn extended(&self, from: f64, to: f64) -> Self {
        Self { low: self.value(from), high: self.value(to), from, to, log: self.log }
    }

    /// Round values within the axis, about `wanted` of them, with their texts.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        if self.log { self.log_ticks(wanted) } else { self.linear_ticks(wanted) }
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * decade >= rough * 0.999);
        let step = factor.unwrap_or(10.0) * decade;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let decimals = (-(step * 1.001).log10().floor()).max(0.0) as usize;
        (first..=last.min(first + 50))
            .map(|k| {
                let value = k as f64 * step;
                (value, tick_text(value, decimals))
            })
            .collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = if decades < 1.2 {
            &[1.0, 2.0, 3.0, 5.0, 7.0]
        } else if decades < 2.5 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let stride = ((decades / wanted as f64).ceil() as usize).max(1);
        (first..=last)
            .step_by(stride)
            .flat_map(|k| factors.iter().map(move |f| (f * 10f64.powi(k), k)))
            .filter(|&(v, _)| v >= self.low * 0.9999 && v <= self.high * 1.0001)
            .map(|(value, k)| (value, tick_text(value, (-k).max(0) as usize)))
            .collect()
    }
}

/// `0.25`, `12k`, `3M`, `1e-5`.
fn tick_text(value: f64, decimals: usize) -> String {
    let magnitude = value.abs();
    let whole = |x: f64| {
        let text = format!("{x:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = if value == 0.0 {
        "0".to_owned()
    } else if magnitude >= 1e6 {
        whole(value / 1e6) + "M"
    } else if magnitude >= 1e4 {
        whole(value / 1e3) + "k"
    } else if decimals > 4 {
        format!("{value:.1e}").replace(".0e", "e")
    } else {
        format!("{value:.decimals$}")
    };
    text.replace('-', "\u{2212}")
}

/// Makes `text` safe inside SVG; XML has no place for control characters.
pub(crate) fn escape(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control(), " ");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(low: f64, high: f64, log: bool) -> Vec<String> {
        let scale = Scale { low, high, from: 0.0, to: 100.0, log };
        scale.ticks(5).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(texts(0.0, 1.0, false), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(-0.1, 0.1, false), ["−0.10", "−0.05", "0", "0.05", "0.10"]);
        assert_eq!(texts(0.0, 30_000.0, false), ["0", "10k", "20k", "30k"]);
        assert_eq!(texts(1.0, 1000.0, true), ["1", "10", "100", "1000"]);
        assert_eq!(texts(0.3, 0.6, true), ["0.3", "0.5"]);
        assert_eq!(texts(0.0, 1e-3, false)[1], "0.0002");
    }

    #[test]
    fn places_are_within_the_axis() {
        let scale = Scale::around([1.0, 100.0, f64::NAN, -3.0], 0.0, true, 0.0, 10.0);
        assert!(scale.is_some_and(|s| (s.at(10.0) - 5.0).abs() < 1e-9));
        assert!(Scale::around([f64::NAN], 0.1, false, 0.0, 1.0).is_none());
        let flat = Scale::around([2.0, 2.0], 0.1, false, 0.0, 1.0);
        assert!(flat.is_some_and(|s| (s.at(2.0) - 0.5).abs() < 1e-9));
        for log in [false, true] {
            let scale = Scale { low: 1.0, high: 100.0, from: 20.0, to: 40.0, log };
            let wider = scale.extended(10.0, 40.0);
            assert!((wider.at(7.0) - scale.at(7.0)).abs() < 1e-9);
            assert!((wider.value(wider.at(7.0)) - 7.0).abs() < 1e-9);
        }
    }
}
