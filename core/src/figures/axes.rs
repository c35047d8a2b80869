//! Frames of plots: a box with ticks inwards, as astronomers draw it.

use super::format::superscript;
use super::scale::Scale;
use super::svg::{Anchor, Area, INK, Look, Svg};

/// Style of frames and ticks.
pub(super) const AXIS: &str = r##"stroke="#1a1a1a" stroke-width="0.9""##;
/// Size of the numbers at ticks.
pub(super) const TICK_TEXT: f64 = 11.5;
/// Size of titles of axes.
pub(super) const TITLE_TEXT: f64 = 13.0;

/// A plot's two axes; `y.from` is its foot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    pub(super) x: Scale,
    pub(super) y: Scale,
}

/// Ticks with their texts, and the small ones between.
pub(super) struct Ticks {
    pub(super) major: Vec<(f64, String)>,
    minor: Vec<f64>,
}

impl Axes {
    /// The part of the drawing inside the frame.
    pub(super) fn area(&self) -> Area {
        Area { left: self.x.from, right: self.x.to, top: self.y.to, bottom: self.y.from }
    }

    /// Place of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> [f64; 2] {
        [self.x.at(x), self.y.at(y)]
    }

    /// Draws the frame, ticks on all four sides, about `wanted` of them with numbers, and the
    /// titles; each of x and y.
    pub(super) fn draw(&self, svg: &mut Svg, titles: [&str; 2], wanted: [usize; 2]) {
        let [x, y] = [ticks(&self.x, wanted[0]), ticks(&self.y, wanted[1])];
        self.draw_with(svg, titles, [&x, &y]);
    }

    /// The same with given ticks.
    pub(super) fn draw_with(&self, svg: &mut Svg, titles: [&str; 2], [x, y]: [&Ticks; 2]) {
        let area = self.area();
        svg.rect(area, &format!(r#"fill="none" {AXIS}"#));
        for (place, length) in x.places(&self.x) {
            svg.line([place, area.bottom], [place, area.bottom - length], AXIS);
            svg.line([place, area.top], [place, area.top + length], AXIS);
        }
        for (place, length) in y.places(&self.y) {
            svg.line([area.left, place], [area.left + length, place], AXIS);
            svg.line([area.right, place], [area.right - length, place], AXIS);
        }
        let look = Look::new(TICK_TEXT);
        for (value, text) in &x.major {
            let place = [self.x.at(*value), area.bottom + 15.0];
            svg.text(place, text, look.anchor(Anchor::Middle));
        }
        let mut widest = 0.0f64;
        for (value, text) in &y.major {
            let place = [area.left - 5.0, self.y.at(*value) + 4.0];
            svg.text(place, text, look.anchor(Anchor::End));
            widest = widest.max(super::svg::text_width(text, TICK_TEXT));
        }
        let [x_middle, y_middle] = area.centre();
        let look = Look::new(TITLE_TEXT).anchor(Anchor::Middle);
        svg.text([x_middle, area.bottom + 34.0], titles[0], look);
        svg.text([area.left - 14.0 - widest, y_middle], titles[1], look.turned());
    }
}

impl Ticks {
    /// Without the ticks below `low`.
    pub(super) fn drop_below(&mut self, low: f64) {
        self.major.retain(|tick| tick.0 >= low);
        self.minor.retain(|&value| value >= low);
    }

    /// Every tick's place in pixels and its length.
    fn places(&self, scale: &Scale) -> Vec<(f64, f64)> {
        let major = self.major.iter().map(|(value, _)| (scale.at(*value), 6.0));
        major.chain(self.minor.iter().map(|&value| (scale.at(value), 3.0))).collect()
    }
}

/// The ticks of `scale`, about `wanted` with numbers: powers of ten on a logarithmic axis that
/// spans more than one.
pub(super) fn ticks(scale: &Scale, wanted: usize) -> Ticks {
    let decades = (scale.high / scale.low).log10();
    if !scale.log || decades < 1.0 {
        let linear = Scale { log: false, ..*scale };
        return Ticks { major: linear.ticks(wanted), minor: vec![] };
    }
    let (first, last) = (scale.low.log10().floor() as i32, scale.high.log10().ceil() as i32);
    let stride = (decades / wanted.max(1) as f64).ceil().max(1.0) as i32;
    let inside = |value: &f64| (scale.low * 0.9999..scale.high * 1.0001).contains(value);
    let major = |&k: &i32| k.rem_euclid(stride) == 0 && inside(&10f64.powi(k));
    let minor = |k: i32| {
        let factors: &[f64] =
            if stride == 1 { &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0] } else { &[1.0] };
        let whole = stride == 1 || k.rem_euclid(stride) != 0;
        factors.iter().filter(move |_| whole).map(move |f| f * 10f64.powi(k))
    };
    Ticks {
        major: (first..=last).filter(major).map(|k| (10f64.powi(k), power_of_ten(k))).collect(),
        minor: (first..=last).flat_map(minor).filter(inside).collect(),
    }
}

/// `10¹⁸`.
fn power_of_ten(exponent: i32) -> String {
    format!("10{}", superscript(exponent))
}

/// A point with its error bar, `colour`ed.
pub(super) fn point(svg: &mut Svg, axes: &Axes, x: f64, y: &crate::probe::Interval, colour: &str) {
    let [px, py] = axes.at(x, y.value);
    if let (Some(low), Some(high)) = (y.low, y.high) {
        let style = format!(r#"stroke="{colour}" stroke-width="1.4""#);
        let (low, high) = (axes.y.at(low), axes.y.at(high));
        svg.line([px, low], [px, high], &style);
        for end in [low, high] {
            svg.line([px - 3.0, end], [px + 3.0, end], &style);
        }
    }
    svg.add(format_args!(
        r##"<circle cx="{px:.1}" cy="{py:.1}" r="3.8" fill="{colour}" stroke="#ffffff" stroke-width="0.8"/>"##
    ));
}

/// Moves wanted heights apart until neighbours are `gap` apart, within `top..bottom` as far as
/// there is room; in the order given.
pub(super) fn apart(wanted: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut places = wanted.to_vec();
    // Down from the top, then up from the bottom where that went too far.
    let mut least = top;
    for &i in &order {
        places[i] = places[i].max(least);
        least = places[i] + gap;
    }
    let mut most = bottom;
    for &i in order.iter().rev() {
        places[i] = places[i].min(most);
        most = places[i] - gap;
    }
    places
}

/// Style of a line of `colour`, `width` wide and dashed.
pub(super) fn stroke(colour: &str, width: f64, dashes: &str) -> String {
    let dashes =
        if dashes.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dashes}""#) };
    format!(r#"stroke="{colour}" stroke-width="{width}"{dashes}"#)
}

/// The colour of what is compared with, dashed.
pub(super) fn level() -> String {
    stroke(INK, 0.9, "4 3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_ticks_are_powers_of_ten() {
        let scale = Scale { low: 3e15, high: 4e18, from: 0.0, to: 100.0, log: true };
        let texts: Vec<String> = ticks(&scale, 5).major.into_iter().map(|t| t.1).collect();
        assert_eq!(texts, ["10¹⁶", "10¹⁷", "10¹⁸"]);
        let wide = Scale { low: 1e10, high: 1e21, ..scale };
        let texts: Vec<String> = ticks(&wide, 4).major.into_iter().map(|t| t.1).collect();
        assert_eq!(texts, ["10¹²", "10¹⁵", "10¹⁸", "10²¹"]);
        assert_eq!(ticks(&wide, 4).minor.len(), 8);
        let narrow = Scale { low: 0.362, high: 0.377, ..scale };
        let texts: Vec<String> = ticks(&narrow, 4).major.into_iter().map(|t| t.1).collect();
        assert_eq!(texts, ["0.365", "0.370", "0.375"]);
    }

    #[test]
    fn names_are_moved_apart() {
        assert_eq!(apart(&[10.0, 50.0, 12.0], 8.0, 0.0, 100.0), [10.0, 50.0, 18.0]);
        assert_eq!(apart(&[98.0, 99.0], 10.0, 0.0, 100.0), [90.0, 100.0]);
        assert_eq!(apart(&[], 10.0, 0.0, 100.0), Vec::<f64>::new());
    }
}
