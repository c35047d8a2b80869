//! Charts of probes: scores with their intervals, and predictions against labels.

use std::fmt::Write;

use super::format::fixed;
use super::frame::frame;
use crate::figures::scale::{Scale, escape};
use crate::probe::ProbeTable;

/// Style of the n-th set of features.
pub(super) fn class(index: usize) -> &'static str {
    ["c1", "c2", "c3", "c4"][index.min(3)]
}

/// R^2 of every label and set with its interval, as SVG `width` wide.
pub(super) fn forest(table: &ProbeTable, width: f64, class_name: &str) -> String {
    let labels: Vec<&str> = table
        .labels()
        .into_iter()
        .filter(|label| table.rows.iter().any(|r| r.label == *label && r.score().is_some()))
        .collect();
    let narrow = width < 500.0;
    // About the width of the longest name, at some 8 pixels a letter.
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let beside = (24.0 + 8.0 * longest as f64).clamp(160.0, 300.0);
    let (left, band) = (if narrow { 12.0 } else { beside }, 14.0 * table.sets.len() as f64);
    let gap = if narrow { 30.0 } else { 16.0 };
    let height = labels.len() as f64 * (band + gap) + 52.0;
    // Scores far below zero say no more than "worse than the mean".
    let ends = table.rows.iter().filter_map(|r| r.score()).flat_map(|s| {
        [Some(s.r2.value), s.r2.low, s.r2.high].into_iter().flatten().map(|v| v.max(-0.5))
    });
    let Some(mut x) = Scale::around(ends.chain([0.0, 1.0]), 0.0, false, left, width - 14.0) else {
        return String::new();
    };
    x.low = x.low.min(-0.02);
    let mut out = format!(
        r#"<svg class="chart {class_name}" viewBox="0 0 {width} {height}" role="img" aria-label="R squared of every probe with its interval">"#
    );
    let bottom = height - 40.0;
    grid(&mut out, &x, bottom, if narrow { 4 } else { 8 });
    for (i, label) in labels.iter().enumerate() {
        let top = 6.0 + i as f64 * (band + gap);
        if i > 0 {
            let _ = write!(
                out,
                r#"<line class="grid" x1="0" x2="{width}" y1="{:.1}" y2="{:.1}"/>"#,
                top + 1.0,
                top + 1.0
            );
        }
        let (tx, ty, anchor) = if narrow {
            (left, top + 12.0, "start")
        } else {
            (left - 12.0, top + gap / 2.0 + band / 2.0 + 4.0, "end")
        };
        let _ = write!(
            out,
            r#"<text class="name" x="{tx}" y="{ty:.1}" text-anchor="{anchor}">{}</text>"#,
            escape(label)
        );
        let first = top + if narrow { 20.0 } else { gap / 2.0 };
        for (k, set) in table.sets.iter().enumerate() {
            mark(&mut out, table, label, (k, set), first + 14.0 * k as f64 + 7.0, &x);
        }
    }
    out.push_str("</svg>");
    out
}

/// The grid of scores, their axis and its title.
fn grid(out: &mut String, x: &Scale, bottom: f64, ticks: usize) {
    for (value, text) in x.ticks(ticks) {
        let place = x.at(value);
        let style = if value == 0.0 { "axis" } else { "grid" };
        let _ = write!(
            out,
            r#"<line class="{style}" x1="{place:.1}" x2="{place:.1}" y1="4" y2="{bottom}"/><text x="{place:.1}" y="{}" text-anchor="middle">{text}</text>"#,
            bottom + 16.0
        );
    }
    let _ = write!(
        out,
        r#"<text class="title" x="{:.1}" y="{}" text-anchor="middle">R² on held-out objects (1 is perfect)</text>"#,
        f64::midpoint(x.from, x.to),
        bottom + 33.0
    );
}

/// One score and its interval at height `y`.
fn mark(out: &mut String, table: &ProbeTable, label: &str, set: (usize, &str), y: f64, x: &Scale) {
    let Some(score) = table.row(label, set.1).and_then(|row| row.score()) else { return };
    let at = |value: f64| x.at(value.clamp(x.low, x.high));
    let class = class(set.0);
    if let (Some(low), Some(high)) = (score.r2.low, score.r2.high) {
        let _ = write!(
            out,
            r#"<line class="whisker {class}" x1="{:.1}" x2="{:.1}" y1="{y}" y2="{y}"/>"#,
            at(low),
            at(high)
        );
    }
    let px = at(score.r2.value);
    let title = format!("{label}, {}: R² {}", set.1, fixed(score.r2.value, 3));
    // Each set has a shape of its own, for readers who do not tell the colours apart.
    let shape = match set.0 {
        0 => format!(r#"<circle class="dot {class}" cx="{px:.1}" cy="{y}" r="5">"#),
        1 => format!(
            r#"<path class="dot {class}" d="M{px:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z">"#,
            y - 4.5
        ),
        _ => format!(
            r#"<rect class="dot {class}" x="{:.1}" y="{:.1}" width="7.5" height="7.5">"#,
            px - 3.75,
            y - 3.75
        ),
    };
    let tag = ["circle", "path", "rect"][set.0.min(2)];
    let _ = write!(out, "{shape}<title>{}</title></{tag}>", escape(&title));
}

/// Predictions against labels of some held-out objects, with the line of equality.
pub(super) fn scatter(pairs: &[[f64; 2]], title: &str, unit: &str) -> String {
    let values = || pairs.iter().flatten().copied();
    let (width, height) = (230.0, 220.0);
    let (Some(x), Some(y)) = (
        Scale::around(pairs.iter().map(|p| p[0]), 0.05, false, 42.0, width - 8.0),
        Scale::around(values(), 0.05, false, height - 40.0, 22.0),
    ) else {
        return String::new();
    };
    // Equal axes: a good probe lies on the diagonal.
    let x = Scale { low: y.low, high: y.high, ..x };
    let mut out = format!(
        r#"<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{} predicted against known">"#,
        escape(title)
    );
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    let name = if title.chars().count() > 16 { "known value" } else { title };
    frame(&mut out, &x, &y, (&format!("{name}{unit}"), &format!("predicted{unit}")), 4);
    let _ = write!(
        out,
        r#"<line class="level" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
        x.from, y.from, x.to, y.to
    );
    for [known, predicted] in pairs {
        let _ = write!(
            out,
            r#"<circle class="point c1" cx="{:.1}" cy="{:.1}" r="1.8"/>"#,
            x.at(*known),
            y.at(*predicted)
        );
    }
    out.push_str("</svg>");
    out
}
