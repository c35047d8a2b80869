//! Line charts as SVG. Colours come from the page's style, so that charts follow its theme.

use std::fmt::Write;

use super::frame::frame;
use crate::figures::scale::{Scale, escape};

/// A line of a chart.
pub(super) struct Series {
    /// Style: `c1` to `c4`.
    pub(super) class: &'static str,
    /// Places, in order of x.
    pub(super) points: Vec<(f64, f64)>,
    pub(super) look: Look,
}

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Its mean over short stretches, with every value faint behind.
    Noisy,
    /// A line with a dot at every point.
    Dots,
    /// The line alone.
    Plain,
}

/// A chart of some lines over one x axis.
pub(super) struct LineChart {
    /// What the chart shows, for readers who do not see it.
    pub(super) summary: String,
    pub(super) x_title: String,
    pub(super) y_title: String,
    pub(super) log_x: bool,
    pub(super) log_y: bool,
    pub(super) series: Vec<Series>,
    /// A level to compare with, and its name.
    pub(super) level: Option<(String, f64)>,
}

/// Stretches a noisy line's mean is taken over.
const STRETCHES: usize = 90;

impl LineChart {
    /// The chart as SVG twice, for wide and for narrow screens: text keeps its size on both.
    pub(super) fn both(&self, height: f64) -> String {
        let wide = self.svg(720.0, height, "wide");
        let narrow = self.svg(350.0, height.min(260.0), "narrow");
        wide + &narrow
    }

    /// The chart as SVG of `width` by `height`; empty when there is nothing to draw.
    pub(super) fn svg(&self, width: f64, height: f64, class: &str) -> String {
        let points = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let shown = |x: f64| !self.log_x || x > 0.0;
        let xs = points().map(|(x, _)| x).filter(|&x| shown(x));
        let Some(x) = Scale::around(xs, 0.0, self.log_x, 54.0, width - 12.0) else {
            return String::new();
        };
        let lines: Vec<Vec<(f64, f64)>> = self.series.iter().map(|s| s.main_line(&x)).collect();
        let level = self.level.iter().map(|l| l.1);
        let ys = lines.iter().flatten().map(|p| p.1).chain(self.usual_values()).chain(level);
        let Some(y) = Scale::around(ys, 0.06, self.log_y, height - 42.0, 26.0) else {
            return String::new();
        };
        let mut out = format!(
            r#"<svg class="chart {class}" viewBox="0 0 {width} {height}" role="img" aria-label="{}">"#,
            escape(&self.summary)
        );
        let id = format!("clip-{:016x}", xxhash_rust::xxh3::xxh3_64(self.key(class).as_bytes()));
        let _ = write!(
            out,
            r#"<clipPath id="{id}"><rect x="{}" y="{}" width="{}" height="{}"/></clipPath>"#,
            x.from - 4.0,
            y.to - 4.0,
            x.to - x.from + 8.0,
            y.from - y.to + 8.0
        );
        let ticks = if width < 500.0 { 4 } else { 8 };
        frame(&mut out, &x, &y, (&self.x_title, &self.y_title), ticks);
        if let Some((name, value)) = &self.level {
            let place = y.at(*value);
            let _ = write!(
                out,
                r#"<line class="level" x1="{}" x2="{}" y1="{place:.1}" y2="{place:.1}"/><text class="note" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                x.from,
                x.to,
                x.to,
                place - 5.0,
                escape(name)
            );
        }
        let _ = write!(out, r#"<g clip-path="url(#{id})">"#);
        for (series, line) in self.series.iter().zip(&lines) {
            series.draw(&mut out, line, &x, &y);
        }
        out.push_str("</g></svg>");
        out
    }

    /// The middle 96 percent of the noisy lines' values: single spikes may leave the chart.
    fn usual_values(&self) -> Vec<f64> {
        let noisy = self.series.iter().filter(|s| s.look == Look::Noisy);
        noisy
            .flat_map(|s| {
                let values: Vec<f64> =
                    s.points.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
                [0.02, 0.98].map(|q| crate::probe::quantile(&values, q).unwrap_or(f64::NAN))
            })
            .collect()
    }

    /// What makes the chart's clip path its own among those of a page.
    fn key(&self, class: &str) -> String {
        format!("{class}{}{}{}", self.summary, self.y_title, self.log_x)
    }
}

impl Series {
    /// The line to draw: the points themselves or, for a noisy line, means over stretches of
    /// equal length on the drawing.
    fn main_line(&self, x: &Scale) -> Vec<(f64, f64)> {
        let points =
            || self.points.iter().copied().filter(|p| (!x.log || p.0 > 0.0) && p.1.is_finite());
        if self.look != Look::Noisy {
            return thin(points().collect(), 400);
        }
        let stretch = (x.to - x.from) / STRETCHES as f64;
        let mut line: Vec<(usize, f64, f64, f64)> = vec![];
        for (px, py) in points() {
            // The last point would begin a stretch of its own.
            let index = (((x.at(px) - x.from) / stretch) as usize).min(STRETCHES - 1);
            match line.last_mut() {
                Some(last) if last.0 == index => {
                    last.1 += px;
                    last.2 += py;
                    last.3 += 1.0;
                }
                _ => line.push((index, px, py, 1.0)),
            }
        }
        line.into_iter().map(|(_, px, py, n)| (px / n, py / n)).collect()
    }

    fn draw(&self, out: &mut String, line: &[(f64, f64)], x: &Scale, y: &Scale) {
        if self.look == Look::Noisy {
            let raw = self.points.iter().copied().filter(|p| !x.log || p.0 > 0.0);
            let raw = extremes(raw, x);
            let _ = write!(out, r#"<path class="raw {}" d="{}"/>"#, self.class, path(&raw, x, y));
        }
        let _ = write!(out, r#"<path class="line {}" d="{}"/>"#, self.class, path(line, x, y));
        if self.look == Look::Dots && line.len() <= 60 {
            for &(px, py) in line {
                let _ = write!(
                    out,
                    r#"<circle class="dot {}" cx="{:.1}" cy="{:.1}" r="3"><title>step {px}: {}</title></circle>"#,
                    self.class,
                    x.at(px),
                    y.at(py),
                    super::format::significant(py, 5)
                );
            }
        }
    }
}

/// At most about `most` of `points`, the last kept.
fn thin(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(most).max(1);
    let last = points.len().saturating_sub(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i % step == 0 || *i == last)
        .map(|p| p.1)
        .collect()
}

/// The least and the largest value over each pixel, so that long runs stay small files.
fn extremes(points: impl Iterator<Item = (f64, f64)>, x: &Scale) -> Vec<(f64, f64)> {
    let mut out: Vec<(i64, f64, f64, f64)> = vec![];
    for (px, py) in points.filter(|p| p.1.is_finite()) {
        let pixel = x.at(px).round() as i64;
        match out.last_mut() {
            Some(last) if last.0 == pixel => {
                last.2 = last.2.min(py);
                last.3 = last.3.max(py);
            }
            _ => out.push((pixel, px, py, py)),
        }
    }
    out.into_iter().flat_map(|(_, px, low, high)| [(px, low), (px, high)]).collect()
}

fn path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut out = String::new();
    for (i, &(px, py)) in points.iter().enumerate() {
        // A log axis has no place for zero; a value far outside is cut by the clip path.
        let place = y.at(py);
        let place = if place.is_nan() { y.from } else { place.clamp(-2000.0, 4000.0) };
        let _ = write!(out, "{}{:.1} {place:.1}", if i == 0 { "M" } else { "L" }, x.at(px));
    }
    out
}
