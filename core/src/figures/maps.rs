//! Figure 3: maps of embeddings in hexagons coloured by properties.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::axes::AXIS;
use super::colour::{bar, viridis};
use super::scale::Scale;
use super::svg::{Anchor, Area, Look, MUTED, Svg, WIDTH, text_width};

/// A map of the objects, such as that of one model's embeddings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapColumn {
    /// What stands above it, such as `1M`.
    pub title: String,
    /// Place of every object.
    pub places: Vec<[f32; 2]>,
}

/// A property of the objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapProperty {
    /// Its name.
    pub name: String,
    /// Its unit; empty for a pure number.
    pub unit: String,
    /// Value for every object, in the order of the places; NaN where it is not known.
    pub values: Vec<f64>,
}

/// Maps in a grid: a row a property, a column a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertyMaps {
    /// The maps, such as those of the smallest and the largest model. Two fill the width.
    pub columns: Vec<MapColumn>,
    /// The properties.
    pub properties: Vec<MapProperty>,
    /// Hexagons across a map; 0 for a number that suits the objects.
    pub bins: usize,
}

/// Room right of the maps for the colour bars.
const BARS: f64 = 82.0;
/// Room left of the maps for the axes' name.
const LEFT: f64 = 26.0;
const GAP: f64 = 8.0;
/// Grades of colour, so that hexagons of the same can be one shape in the file.
const GRADES: usize = 64;

/// Figure 3: hexagons coloured by the mean of a property over the objects in each, a row a
/// property and a column a map. The maps of a row share their colours, which span the middle 96
/// percent of the row's means.
pub fn property_maps(input: &PropertyMaps) -> String {
    let columns = input.columns.len().max(1) as f64;
    let side = (WIDTH - LEFT - BARS - GAP * (columns - 1.0)) / columns;
    let top = 30.0;
    // Without a property there is still a sheet for the axes' names.
    let rows = input.properties.len().max(1) as f64;
    let height = top + rows * (side + GAP) + 22.0;
    let names: Vec<&str> = input.properties.iter().map(|p| p.name.as_str()).collect();
    let titles: Vec<&str> = input.columns.iter().map(|c| c.title.as_str()).collect();
    let description = format!(
        "Maps of {} ({}), in hexagons coloured by the mean of {}",
        titles.join(" and "),
        input.columns.first().map_or(0, |c| c.places.len()),
        names.join(", ")
    );
    let mut svg = Svg::new(height, "Maps of the embeddings by property", &description);
    let left = |column: usize| LEFT + column as f64 * (side + GAP);
    for (column, title) in titles.iter().enumerate() {
        let look = Look::new(14.0).anchor(Anchor::Middle);
        svg.text([left(column) + side / 2.0, top - 10.0], title, look);
    }
    for (row, property) in input.properties.iter().enumerate() {
        let y = top + row as f64 * (side + GAP);
        let area = |column: usize| {
            let left = left(column);
            Area { left, right: left + side, top: y, bottom: y + side }
        };
        let grids: Vec<Hexagons> = input
            .columns
            .iter()
            .enumerate()
            .map(|(column, map)| Hexagons::new(map, &property.values, area(column), input.bins))
            .collect();
        draw_row(&mut svg, &grids, property, area(input.columns.len().max(1) - 1));
    }
    let foot = top + rows * (side + GAP) + 8.0;
    let look = Look::new(12.0).colour(MUTED).anchor(Anchor::Middle);
    svg.text([LEFT + (WIDTH - LEFT - BARS) / 2.0, foot], "UMAP 1", look);
    svg.text([LEFT - 9.0, f64::midpoint(top, foot)], "UMAP 2", look.turned());
    svg.finish()
}

/// The maps of one property, and its colours right of the `last` of them.
fn draw_row(svg: &mut Svg, grids: &[Hexagons], property: &MapProperty, last: Area) {
    let means: Vec<f64> = grids.iter().flat_map(|grid| grid.means.iter().map(|m| m.1)).collect();
    let ends = [0.02, 0.98].map(|share| crate::probe::quantile(&means, share).unwrap_or(0.0));
    let high = if ends[1] > ends[0] { ends[1] } else { ends[0] + 1.0 };
    let (top, bottom) = (last.top + 8.0, last.bottom - 8.0);
    let scale = Scale { low: ends[0], high, from: bottom, to: top, log: false };
    for grid in grids {
        grid.draw(svg, |mean| (mean - scale.low) / (scale.high - scale.low));
    }
    let beside = Area { left: last.right + 10.0, right: last.right + 22.0, top, bottom };
    let unit =
        if property.unit.is_empty() { String::new() } else { format!(" [{}]", property.unit) };
    bar(
        svg,
        beside,
        &scale,
        &format!("{}{unit}", shorten(&property.name, last.height() - text_width(&unit, 12.0))),
    );
}

/// `name`, cut with an ellipsis where it is wider than `room`.
fn shorten(name: &str, room: f64) -> String {
    let most = (room / text_width("x", 12.0)).max(4.0) as usize;
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

/// The means of a property over the hexagons of a map.
struct Hexagons {
    area: Area,
    /// Distance of neighbouring centres.
    pitch: f64,
    /// Centre of every hexagon that holds objects whose value is known, and their mean.
    means: Vec<([f64; 2], f64)>,
}

impl Hexagons {
    fn new(map: &MapColumn, values: &[f64], area: Area, bins: usize) -> Self {
        let bins = if bins > 0 { bins } else { usual_bins(map.places.len()) };
        let pitch = area.width() / bins as f64;
        let place = frame(&map.places, area, pitch);
        let mut sums = BTreeMap::<(i64, i64), (f64, f64)>::new();
        for (object, &value) in map.places.iter().zip(values) {
            if value.is_finite() && object.iter().all(|x| x.is_finite()) {
                let sum = sums.entry(hexagon(place(*object), area, pitch)).or_default();
                *sum = (sum.0 + value, sum.1 + 1.0);
            }
        }
        let mean = |(at, (sum, count))| (centre(at, area, pitch), sum / count);
        Self { area, pitch, means: sums.into_iter().map(mean).collect() }
    }

    /// Draws the hexagons, coloured by the `share` of viridis that a mean has.
    fn draw(&self, svg: &mut Svg, share: impl Fn(f64) -> f64) {
        let mut shapes = vec![String::new(); GRADES];
        let (w, h) = (self.pitch / 2.0, self.pitch / 3f64.sqrt());
        for ([x, y], mean) in &self.means {
            let grade = (share(*mean).clamp(0.0, 1.0) * (GRADES - 1) as f64).round() as usize;
            let _ = write!(
                shapes[grade],
                "M{x:.2} {:.2}l{w:.2} {:.2}v{h:.2}l-{w:.2} {:.2}l-{w:.2} -{:.2}v-{h:.2}z",
                y - h,
                h / 2.0,
                h / 2.0,
                h / 2.0
            );
        }
        svg.within(self.area, |svg| {
            for (grade, d) in shapes.iter().enumerate().filter(|(_, d)| !d.is_empty()) {
                let colour = viridis(grade as f64 / (GRADES - 1) as f64);
                // The thin rim closes the seams that renderers leave between hexagons.
                svg.add(format_args!(
                    r#"<path d="{d}" fill="{colour}" stroke="{colour}" stroke-width="0.4"/>"#
                ));
            }
        });
        svg.rect(self.area, &format!(r#"fill="none" {AXIS}"#));
    }
}

/// Hexagons across for `n` objects: some ten objects in each that is filled.
fn usual_bins(n: usize) -> usize {
    ((n as f64 / 5.0).sqrt().round() as usize).clamp(12, 40)
}

/// From places on a map to places in `area`, whose units are equal both ways, with room for a
/// hexagon at the rim. The farthest half percent at each side may fall off.
fn frame(places: &[[f32; 2]], area: Area, pitch: f64) -> impl Fn([f32; 2]) -> [f64; 2] {
    let ends = [0, 1].map(|axis| {
        let along: Vec<f64> =
            places.iter().map(|p| f64::from(p[axis])).filter(|x| x.is_finite()).collect();
        let end = |share: f64| crate::probe::quantile(&along, share).unwrap_or(0.0);
        let (low, high) = (end(0.005), end(0.995));
        let room = 0.04 * (high - low);
        (low - room, high + room)
    });
    let widest = ends.iter().map(|(low, high)| high - low).fold(1e-9, f64::max);
    let scale = (area.width() - 2.0 * pitch) / widest;
    let middle = ends.map(|(low, high)| f64::midpoint(low, high));
    let [x, y] = area.centre();
    move |p| {
        let [u, v] = [0, 1].map(|axis| (f64::from(p[axis]) - middle[axis]) * scale);
        [x + u, y - v]
    }
}

/// Row and column of the hexagon that holds a place: the nearer of two interleaved lattices'
/// nearest points (Carr et al. 1987).
fn hexagon([x, y]: [f64; 2], area: Area, pitch: f64) -> (i64, i64) {
    let (u, v) = ((x - area.left) / pitch, (y - area.top) / (pitch * 3f64.sqrt()));
    let even = (u.round(), v.round());
    let odd = ((u - 0.5).round() + 0.5, (v - 0.5).round() + 0.5);
    let far = |(a, b): (f64, f64)| (u - a).powi(2) + 3.0 * (v - b).powi(2);
    let (column, row) = if far(even) <= far(odd) { even } else { odd };
    ((2.0 * row) as i64, (2.0 * column) as i64)
}

fn centre((row, column): (i64, i64), area: Area, pitch: f64) -> [f64; 2] {
    [area.left + column as f64 / 2.0 * pitch, area.top + row as f64 / 2.0 * pitch * 3f64.sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_within_its_hexagon() {
        let area = Area { left: 10.0, top: 20.0, right: 110.0, bottom: 120.0 };
        for k in 0..400 {
            let place = [10.0 + f64::from(k % 20) * 4.7, 20.0 + f64::from(k / 20) * 4.9];
            let [x, y] = centre(hexagon(place, area, 8.0), area, 8.0);
            let (dx, dy) = ((place[0] - x).abs(), (place[1] - y).abs());
            assert!(dx <= 4.0 + 1e-9, "{place:?}");
            assert!(dy <= (8.0 - dx) / 3f64.sqrt() + 1e-9, "{place:?}");
        }
    }

    #[test]
    fn a_hexagon_has_the_mean_of_its_objects() {
        let map = MapColumn {
            title: String::new(),
            places: vec![[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [9.0, 9.0]],
        };
        let area = Area { left: 0.0, top: 0.0, right: 100.0, bottom: 100.0 };
        let grid = Hexagons::new(&map, &[1.0, 4.0, 7.0, f64::NAN], area, 10);
        let mut means: Vec<f64> = grid.means.iter().map(|m| m.1).collect();
        means.sort_by(f64::total_cmp);
        assert_eq!(means, [2.5, 7.0]);
    }
}
