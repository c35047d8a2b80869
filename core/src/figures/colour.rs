//! Colours: viridis for amounts, and a palette for names.

use super::scale::Scale;
use super::svg::{Anchor, Area, Look, Svg};

/// Every sixteenth colour of viridis (S. van der Walt & N. Smith, 2015; public domain), which
/// looks evenly graded, also to those who do not tell red from green and in grey.
const VIRIDIS: [[u8; 3]; 17] = [
    [68, 1, 84],
    [72, 24, 106],
    [71, 45, 123],
    [66, 64, 134],
    [59, 82, 139],
    [51, 99, 141],
    [44, 114, 142],
    [38, 130, 142],
    [33, 145, 140],
    [31, 160, 136],
    [40, 174, 128],
    [63, 188, 115],
    [94, 201, 98],
    [132, 212, 75],
    [173, 220, 48],
    [216, 226, 25],
    [253, 231, 37],
];

/// The colours of Okabe & Ito (2008), told apart by everyone, without yellow and black.
const NAMED: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Viridis at `share` of its way, from 0 (dark) to 1 (bright), as `#rrggbb`.
pub(super) fn viridis(share: f64) -> String {
    let place = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) * 16.0 };
    let index = (place as usize).min(15);
    let (low, high, part) = (VIRIDIS[index], VIRIDIS[index + 1], place - index as f64);
    let mix = |channel: usize| {
        let (low, high) = (f64::from(low[channel]), f64::from(high[channel]));
        (low + (high - low) * part).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// Colour of the model `index` of `count`, by rising size; the brightest would be lost on white.
pub(super) fn of_model(index: usize, count: usize) -> String {
    viridis(0.87 * index as f64 / (count.max(2) - 1) as f64)
}

/// Colour and dashes of the line `index`.
pub(super) fn of_name(index: usize) -> (&'static str, &'static str) {
    let dashes = ["", "6 3", "2 2.5", "8 3 2 3"];
    (NAMED[index % NAMED.len()], dashes[index / NAMED.len() % dashes.len()])
}

/// A bar of viridis in `area`, upright, with the ticks of `scale` (whose pixels are those of the
/// bar, from its foot) to its right and `title` beside them.
pub(super) fn bar(svg: &mut Svg, area: Area, scale: &Scale, title: &str) {
    const STRIPS: usize = 48;
    let height = area.height() / STRIPS as f64;
    for strip in 0..STRIPS {
        let bottom = area.bottom - strip as f64 * height;
        let colour = viridis((strip as f64 + 0.5) / STRIPS as f64);
        // A little overlap leaves no seams.
        let top = if strip + 1 < STRIPS { bottom - height - 0.5 } else { area.top };
        svg.rect(Area { top, bottom, ..area }, &format!(r#"fill="{colour}""#));
    }
    svg.rect(area, &format!(r#"fill="none" stroke="{}" stroke-width="0.8""#, super::svg::INK));
    let mut widest = 0.0f64;
    for (value, text) in scale.ticks(4) {
        let y = scale.at(value);
        svg.line([area.right, y], [area.right + 3.5, y], super::axes::AXIS);
        svg.text([area.right + 6.0, y + 4.0], &text, Look::new(11.0));
        widest = widest.max(super::svg::text_width(&text, 11.0));
    }
    let place = [area.right + 19.0 + widest, area.centre()[1]];
    svg.text(place, title, Look::new(12.0).anchor(Anchor::Middle).turned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viridis_grows_brighter() {
        let brightness = |share: f64| {
            let text = viridis(share);
            let part = |k: usize| f64::from(u8::from_str_radix(&text[k..k + 2], 16).expect("hex"));
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        assert!(
            (0..100)
                .all(|k| brightness(f64::from(k) / 100.0) < brightness(f64::from(k + 1) / 100.0))
        );
        assert_eq!(viridis(-1.0), "#440154");
        assert_eq!(viridis(2.0), "#fde725");
        assert_eq!(viridis(f64::NAN), "#440154");
    }
}
