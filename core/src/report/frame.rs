//! What charts are drawn in: grid, ticks and titles, in the page's style.

use std::fmt::Write;

use crate::figures::scale::{Scale, escape};

/// Draws the grid, the tick texts and the axis titles of a chart whose plot lies between the
/// two scales.
pub(super) fn frame(out: &mut String, x: &Scale, y: &Scale, titles: (&str, &str), ticks: usize) {
    let (bottom, top) = (y.from, y.to);
    for (value, text) in y.ticks(5) {
        let place = y.at(value);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{}" x2="{}" y1="{place:.1}" y2="{place:.1}"/><text x="{}" y="{:.1}" text-anchor="end">{text}</text>"#,
            x.from,
            x.to,
            x.from - 6.0,
            place + 4.0
        );
    }
    for (value, text) in x.ticks(ticks) {
        let place = x.at(value);
        let _ = write!(
            out,
            r#"<line class="axis" x1="{place:.1}" x2="{place:.1}" y1="{bottom}" y2="{}"/><text x="{place:.1}" y="{}" text-anchor="middle">{text}</text>"#,
            bottom + 4.0,
            bottom + 17.0
        );
    }
    let _ = write!(
        out,
        r#"<line class="axis" x1="{}" x2="{}" y1="{bottom}" y2="{bottom}"/><text class="title" x="{:.1}" y="{}" text-anchor="middle">{}</text><text class="title" x="2" y="{}">{}</text>"#,
        x.from,
        x.to,
        f64::midpoint(x.from, x.to),
        bottom + 34.0,
        escape(titles.0),
        top - 8.0,
        escape(titles.1)
    );
}
