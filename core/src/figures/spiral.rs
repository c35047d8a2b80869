//! Figure 1: the order in which the patches of a stamp are read.

use base64::Engine;

use super::colour::{bar, viridis};
use super::scale::Scale;
use super::svg::{Anchor, Area, INK, Look, MUTED, Svg, WIDTH};

/// An image, eight bits a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stamp {
    /// Pixels across and down.
    pub size: usize,
    /// Red, green and blue of every pixel, row by row from the top: `3 * size * size` bytes.
    pub rgb: Vec<u8>,
}

/// The order of a square grid of patches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spiral {
    /// Patches across and down.
    pub grid: usize,
    /// Row (from the top) and column of every patch, in the order they are read.
    pub order: Vec<(usize, usize)>,
    /// What lies under the path. An image that does not hold `size` squared pixels is left out.
    pub stamp: Option<Stamp>,
}

/// Patches across up to which every one is numbered.
const NUMBERED: usize = 12;

/// Figure 1: the path through the patches over the stamp, from its start to its arrow, coloured
/// by place in the sequence; up to twelve patches across, each is numbered.
pub fn spiral(input: &Spiral) -> String {
    let count = input.order.len();
    let title = "The order in which patches are read";
    let description = match (input.order.first(), input.order.last()) {
        (Some(first), Some(last)) => format!(
            "{count} patches on a grid of {0} by {0}, from row {1}, column {2} to row {3}, column {4}, counted from the top left",
            input.grid,
            first.0 + 1,
            first.1 + 1,
            last.0 + 1,
            last.1 + 1
        ),
        _ => "No patches".to_owned(),
    };
    let area = Area { left: 12.0, top: 12.0, right: 392.0, bottom: 392.0 };
    let mut svg = Svg::new(area.bottom + 34.0, title, &description);
    svg.rect(area, r##"fill="#f1f3f4""##);
    let image = input.stamp.as_ref().and_then(data_url);
    if let Some(url) = &image {
        let (x, y, side) = (area.left, area.top, area.width());
        svg.add(format_args!(
            r#"<image x="{x}" y="{y}" width="{side}" height="{side}" preserveAspectRatio="none" href="{url}"/>"#
        ));
    }
    grid(&mut svg, area, input.grid, image.is_some());
    path(&mut svg, area, input, image.is_some());
    let feet = [area.left, area.bottom + 20.0];
    legend(&mut svg, feet);
    let scale = Scale {
        low: 0.0,
        high: count.max(2) as f64 - 1.0,
        from: area.bottom - 20.0,
        to: area.top + 20.0,
        log: false,
    };
    let beside = Area {
        left: area.right + 16.0,
        right: area.right + 30.0,
        top: area.top + 20.0,
        bottom: area.bottom - 20.0,
    };
    bar(&mut svg, beside, &scale, "Place in the sequence");
    debug_assert!(beside.right < WIDTH);
    svg.finish()
}

/// The stamp as a PNG in a URL.
fn data_url(stamp: &Stamp) -> Option<String> {
    let size = u32::try_from(stamp.size).ok()?;
    let image = image::RgbImage::from_raw(size, size, stamp.rgb.clone())?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).ok()?;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes.into_inner());
    Some(format!("data:image/png;base64,{text}"))
}

fn grid(svg: &mut Svg, area: Area, grid: usize, dark: bool) {
    let style = if dark {
        r##"stroke="#ffffff" stroke-opacity="0.28" stroke-width="0.6""##
    } else {
        r##"stroke="#c4c8cc" stroke-width="0.6""##
    };
    for k in 1..grid {
        let share = k as f64 / grid as f64;
        let (x, y) = (area.left + share * area.width(), area.top + share * area.height());
        svg.line([x, area.top], [x, area.bottom], style);
        svg.line([area.left, y], [area.right, y], style);
    }
    svg.rect(area, &format!(r#"fill="none" {}"#, super::axes::AXIS));
}

/// The path, piece by piece in its colours, its start, its arrow, and the numbers.
fn path(svg: &mut Svg, area: Area, input: &Spiral, dark: bool) {
    let side = area.width() / input.grid.max(1) as f64;
    let centre = |&(row, column): &(usize, usize)| {
        [area.left + (column as f64 + 0.5) * side, area.top + (row as f64 + 0.5) * side]
    };
    let places: Vec<[f64; 2]> = input.order.iter().map(centre).collect();
    let last = places.len().saturating_sub(1);
    let width = (0.16 * side).clamp(1.6, 4.0);
    // A dark rim keeps the bright end visible on a bright galaxy, and on paper.
    let rim = if dark { "#000000" } else { "#ffffff" };
    svg.path(
        &places,
        &format!(r#"stroke="{rim}" stroke-opacity="0.65" stroke-width="{:.1}""#, width + 1.8),
    );
    for (k, pair) in places.windows(2).enumerate() {
        let colour = viridis(k as f64 / last as f64);
        svg.path(
            pair,
            &format!(r#"stroke="{colour}" stroke-width="{width:.1}" stroke-linecap="round""#),
        );
    }
    if let &[.., before, end] = places.as_slice() {
        arrow(svg, before, end, (0.28 * side).max(4.5));
    }
    if input.grid <= NUMBERED {
        let size = (0.26 * side).clamp(8.0, 13.0);
        for (k, [x, y]) in places.iter().enumerate() {
            let (radius, colour) = (0.78 * size, viridis(k as f64 / last.max(1) as f64));
            svg.add(format_args!(
                r##"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" fill="#ffffff" stroke="{colour}" stroke-width="1.6"/>"##
            ));
            let look = Look::new(size * if k < 100 { 1.0 } else { 0.8 }).anchor(Anchor::Middle);
            svg.text([*x, y + 0.36 * look.size], &k.to_string(), look);
        }
    }
    if let Some([x, y]) = places.first() {
        let radius = if input.grid <= NUMBERED {
            0.95 * (0.26 * side).clamp(8.0, 13.0)
        } else {
            (0.34 * side).max(4.0)
        };
        let fill = if input.grid <= NUMBERED { "none" } else { START };
        svg.add(format_args!(
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" fill="{fill}" stroke="{START}" stroke-width="2.4"/>"##
        ));
    }
}

/// Colour of the start's mark.
const START: &str = "#e4572e";

fn arrow(svg: &mut Svg, before: [f64; 2], end: [f64; 2], size: f64) {
    let length = (end[0] - before[0]).hypot(end[1] - before[1]).max(1e-9);
    let along = [(end[0] - before[0]) / length * size, (end[1] - before[1]) / length * size];
    let corner = |side: f64| [end[0] - along[1] * side, end[1] + along[0] * side];
    let tip = [end[0] + 1.5 * along[0], end[1] + 1.5 * along[1]];
    svg.polygon(&[corner(1.0), tip, corner(-1.0)], START, 1.0);
}

fn legend(svg: &mut Svg, [x, y]: [f64; 2]) {
    svg.add(format_args!(
        r##"<circle cx="{:.1}" cy="{:.1}" r="4.5" fill="{START}"/>"##,
        x + 6.0,
        y - 4.0
    ));
    svg.text([x + 16.0, y], "first patch", Look::new(12.0).colour(INK));
    arrow(svg, [x + 104.0, y - 4.0], [x + 112.0, y - 4.0], 5.0);
    svg.text([x + 126.0, y], "last patch", Look::new(12.0).colour(INK));
    svg.text([392.0, y], "0 is read first", Look::new(11.5).colour(MUTED).anchor(Anchor::End));
}
