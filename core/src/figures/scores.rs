//! How well properties are known along the way: at steps of training, from layers.

use super::axes::{Axes, Ticks, apart, stroke, ticks};
use super::colour::of_name;
use super::format::fixed;
use super::scale::Scale;
use super::svg::{Area, Look, Svg, WIDTH, text_width};
use crate::probe::Interval;

/// Size of the lines' names.
const NAME: f64 = 11.5;

/// A score at a place on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScorePoint {
    /// The place: a step of training, or a layer.
    pub at: f64,
    /// The score, with its interval if one is known.
    pub score: Interval,
}

/// How well a property is known on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreSeries {
    /// Name of the property.
    pub name: String,
    /// Scores, in order of place.
    pub points: Vec<ScorePoint>,
}

/// How well properties are known on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreCurves {
    /// What the score is, such as `R² of a linear probe`.
    pub score_name: String,
    /// What the places are, such as `Training step`.
    pub x_name: String,
    /// Whether places are on a logarithmic axis, where 0 stands apart at the left end.
    pub log: bool,
    /// A line a property.
    pub series: Vec<ScoreSeries>,
}

/// The score of every property against the place, with its interval as a band and
/// its name at the line's end.
pub fn score_curves(input: &ScoreCurves) -> String {
    let title = format!("{} against {}", input.score_name, input.x_name.to_lowercase());
    let mut svg = Svg::new(360.0, &title, &description(input));
    let names = input.series.iter().map(|series| text_width(&series.name, NAME));
    let room = names.fold(20.0, f64::max).min(150.0) + 24.0;
    let area = Area { left: 62.0, top: 14.0, right: WIDTH - room, bottom: 312.0 };
    let (axes, ticks_x) = axes(input, area);
    svg.within(area, |svg| {
        for (index, series) in input.series.iter().enumerate() {
            draw_band(svg, &axes, &places(series, input.log, &axes), of_name(index).0);
        }
        for (index, series) in input.series.iter().enumerate() {
            let (colour, dashes) = of_name(index);
            let line = places(series, input.log, &axes);
            let line: Vec<[f64; 2]> =
                line.into_iter().map(|(x, score)| [x, axes.y.at(score.value)]).collect();
            svg.path(&line, &stroke(colour, 1.7, dashes));
            for [x, y] in line {
                svg.add(format_args!(
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.4" fill="{colour}"/>"#
                ));
            }
        }
    });
    name_lines(&mut svg, input, &axes);
    let titles = [input.x_name.as_str(), &input.score_name];
    axes.draw_with(&mut svg, titles, [&ticks_x, &ticks(&axes.y, 6)]);
    svg.finish()
}

fn description(input: &ScoreCurves) -> String {
    let said = input.series.iter().filter_map(|series| {
        let (first, last) = (series.points.first()?, series.points.last()?);
        let score = |point: &ScorePoint| fixed(point.score.value, 2);
        Some(format!(
            "{}: {} at {}, {} at {}",
            series.name,
            score(first),
            first.at,
            score(last),
            last.at
        ))
    });
    said.collect::<Vec<_>>().join(". ")
}

/// The axes and the ticks of places. 0 has no logarithm: it stands at the left end, half a
/// decade before the first other place.
fn axes(input: &ScoreCurves, area: Area) -> (Axes, Ticks) {
    let points = || input.series.iter().flat_map(|series| &series.points);
    let first = points().map(|p| p.at).filter(|&at| at > 0.0).fold(f64::INFINITY, f64::min);
    let zero = input.log && first.is_finite() && points().any(|p| p.at <= 0.0);
    let low = first / 10f64.sqrt();
    let extra = zero.then_some(low);
    let all = points().map(|p| p.at).chain(extra);
    let usual = |from, to| Scale { low: 0.0, high: 1.0, from, to, log: false };
    let inner = (area.left + 8.0, area.right - 8.0);
    let inner = Scale::around(all, 0.0, input.log, inner.0, inner.1);
    let x =
        inner.map_or(usual(area.left, area.right), |inner| inner.extended(area.left, area.right));
    let ends = points().flat_map(|p| [Some(p.score.value), p.score.low, p.score.high]).flatten();
    let y = Scale::around(ends, 0.06, false, area.bottom, area.top);
    let mut ticks_x = ticks(&x, 5);
    if zero {
        ticks_x.drop_below(0.99 * first);
        ticks_x.major.insert(0, (low, "0".to_owned()));
    }
    (Axes { x, y: y.unwrap_or(usual(area.bottom, area.top)) }, ticks_x)
}

/// Place across and score of every point.
fn places(series: &ScoreSeries, log: bool, axes: &Axes) -> Vec<(f64, Interval)> {
    let zero = axes.x.value(axes.x.from + 8.0);
    let at = |at: f64| if log && at <= 0.0 { zero } else { at };
    let finite = series.points.iter().filter(|point| point.score.value.is_finite());
    finite.map(|point| (axes.x.at(at(point.at)), point.score)).collect()
}

fn draw_band(svg: &mut Svg, axes: &Axes, places: &[(f64, Interval)], colour: &str) {
    let upper = places.iter().filter_map(|(x, score)| Some([*x, axes.y.at(score.high?)]));
    let lower = places.iter().rev().filter_map(|(x, score)| Some([*x, axes.y.at(score.low?)]));
    let outline: Vec<[f64; 2]> = upper.chain(lower).collect();
    if outline.len() > 2 {
        svg.polygon(&outline, colour, 0.13);
    }
}

/// The names right of the frame, at their lines' ends as far as there is room, with hair lines.
fn name_lines(svg: &mut Svg, input: &ScoreCurves, axes: &Axes) {
    let area = axes.area();
    let end = |series: &ScoreSeries| {
        let (x, score) = places(series, input.log, axes).pop()?;
        Some([x, axes.y.at(score.value)])
    };
    let ends: Vec<[f64; 2]> =
        input.series.iter().map(|s| end(s).unwrap_or([area.right, area.bottom])).collect();
    let wanted: Vec<f64> = ends.iter().map(|end| end[1]).collect();
    let heights = apart(&wanted, 13.5, area.top + 4.0, area.bottom - 2.0);
    for (index, (series, (&[_, y], height))) in
        input.series.iter().zip(ends.iter().zip(heights)).enumerate()
    {
        let (colour, dashes) = of_name(index);
        let lead =
            [[area.right + 2.0, y], [area.right + 10.0, height], [area.right + 18.0, height]];
        svg.path(&lead, &stroke(colour, 1.4, dashes));
        svg.text([area.right + 21.0, height + 4.0], &series.name, Look::new(NAME));
    }
}
