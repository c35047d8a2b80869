//! A drawing under construction.

use std::fmt::Write;

use super::scale::escape;

/// Width of every figure, in its own units: text of 13 is read well when a column of a journal
/// or a phone is as wide.
pub(super) const WIDTH: f64 = 480.0;
/// Colour of axes and names.
pub(super) const INK: &str = "#1a1a1a";
/// Colour of what stands back.
pub(super) const MUTED: &str = "#5f6368";

/// The carried font first; Verdana has nearly its widths, for browsers that lack it.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// A part of a drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn centre(&self) -> [f64; 2] {
        [f64::midpoint(self.left, self.right), f64::midpoint(self.top, self.bottom)]
    }
}

/// Where a text stands relative to its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Anchor {
    #[default]
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) anchor: Anchor,
    /// Read from bottom to top.
    pub(super) turned: bool,
    /// A white rim, for text over lines.
    pub(super) rim: bool,
}

impl Look {
    /// Dark text of `size` from its place on.
    pub(super) fn new(size: f64) -> Self {
        Self { size, colour: INK, anchor: Anchor::Start, turned: false, rim: false }
    }

    pub(super) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(super) fn colour(self, colour: &'static str) -> Self {
        Self { colour, ..self }
    }

    pub(super) fn turned(self) -> Self {
        Self { turned: true, ..self }
    }

    pub(super) fn rim(self) -> Self {
        Self { rim: true, ..self }
    }
}

/// A drawing under construction.
pub(super) struct Svg {
    out: String,
    name: u64,
    clips: usize,
}

impl Svg {
    /// A white sheet. `title` names the figure and `description` says what it shows.
    pub(super) fn new(height: f64, title: &str, description: &str) -> Self {
        let (title, description) = (escape(title), escape(description));
        let mut out = String::new();
        let _ = write!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img" aria-label="{title}. {description}" font-family="{FONTS}"><title>{title}</title><desc>{description}</desc><rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>"##
        );
        // Names of clip paths, which several drawings on a page must not share.
        let name = xxhash_rust::xxh3::xxh3_64(out.as_bytes());
        Self { out, name, clips: 0 }
    }

    /// Adds SVG as it is.
    pub(super) fn add(&mut self, svg: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(svg);
    }

    /// A straight line in `style`: presentation attributes.
    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2], style: &str) {
        let ([x1, y1], [x2, y2]) = (from, to);
        self.add(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#
        ));
    }

    /// A line through `points` in `style`; nothing for less than two points.
    pub(super) fn path(&mut self, points: &[[f64; 2]], style: &str) {
        if points.len() > 1 {
            let d = path_data(points);
            self.add(format_args!(
                r#"<path d="{d}" fill="none" stroke-linejoin="round" {style}/>"#
            ));
        }
    }

    /// A filled polygon.
    pub(super) fn polygon(&mut self, points: &[[f64; 2]], fill: &str, opacity: f64) {
        let d = path_data(points);
        self.add(format_args!(r#"<path d="{d}Z" fill="{fill}" fill-opacity="{opacity}"/>"#));
    }

    /// A rectangle in `style`.
    pub(super) fn rect(&mut self, area: Area, style: &str) {
        let (width, height) = (area.width(), area.height());
        let Area { left, top, .. } = area;
        self.add(format_args!(
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" {style}/>"#
        ));
    }

    /// A text whose baseline is at `place`.
    pub(super) fn text(&mut self, place: [f64; 2], text: &str, look: Look) {
        let [x, y] = place;
        let Look { size, colour, anchor, turned, rim } = look;
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let turn = if turned {
            format!(r#" transform="rotate(-90 {x:.1} {y:.1})""#)
        } else {
            String::new()
        };
        let text = escape(text);
        let place = format!(r#"x="{x:.1}" y="{y:.1}" font-size="{size}"{anchor}{turn}"#);
        if rim {
            self.add(format_args!(
                r##"<text {place} fill="none" stroke="#ffffff" stroke-width="3.5" stroke-linejoin="round" aria-hidden="true">{text}</text>"##
            ));
        }
        self.add(format_args!(r#"<text {place} fill="{colour}">{text}</text>"#));
    }

    /// What `draw` adds, cut to `area`.
    pub(super) fn within(&mut self, area: Area, draw: impl FnOnce(&mut Self)) {
        let id = format!("clip-{:016x}-{}", self.name, self.clips);
        self.clips += 1;
        self.add(format_args!(r#"<clipPath id="{id}">"#));
        self.rect(area, "");
        self.add(format_args!(r#"</clipPath><g clip-path="url(#{id})">"#));
        draw(self);
        self.add(format_args!("</g>"));
    }

    /// The finished drawing.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// Path data through `points`.
fn path_data(points: &[[f64; 2]]) -> String {
    let mut d = String::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let _ = write!(d, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    }
    d
}

/// About how wide `text` is in the carried font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    0.61 * size * text.chars().count() as f64
}
