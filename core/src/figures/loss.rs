//! Figure 2: loss against compute and against tokens.

use super::axes::{Axes, apart, point, stroke};
use super::colour::of_model;
use super::format::{fixed, significant};
use super::scale::Scale;
use super::svg::{Anchor, Area, INK, Look, MUTED, Svg, WIDTH, text_width};
use crate::probe::Interval;

/// How the loss of one model fell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCurve {
    /// Name of the model, such as `89M`.
    pub name: String,
    /// Floating-point operations of training for a token.
    pub flops_per_token: f64,
    /// Tokens seen and loss, in order of tokens. Points at no tokens are left out.
    pub points: Vec<(f64, f64)>,
}

/// A law fitted to the losses at the curves' ends: `L(C) = floor + a C^-b` of the compute C.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FittedLaw {
    /// The loss that no compute goes below; 0 where none is in sight.
    pub floor: f64,
    /// Factor of the part that compute removes, for C in FLOP.
    pub a: f64,
    /// Exponent, with its interval if one is known.
    pub b: Interval,
    /// Compute in FLOP, lower and upper loss: the law's band, in order of compute.
    pub band: Vec<(f64, f64, f64)>,
    /// Whether `b`, or an end of its interval, is but an end of what was searched.
    pub open: bool,
}

/// A loss at a compute, with words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossMark {
    /// What it is, such as `830M, predicted`.
    pub name: String,
    /// Training compute in FLOP.
    pub flops: f64,
    /// Loss, with its interval if it is a prediction.
    pub loss: Interval,
}

/// The losses of a family of models.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCurves {
    /// What the loss is, such as `validation Huber loss`.
    pub loss_name: String,
    /// The models, by rising size.
    pub curves: Vec<LossCurve>,
    /// The law, if one was fitted.
    pub law: Option<FittedLaw>,
    /// From where on more compute gains next to nothing.
    pub saturation: Option<LossMark>,
    /// What the law expects of a model that is not trained yet, with its interval.
    pub forecast: Option<LossMark>,
}

/// Room right of the second panel for the models' names.
const NAMES: f64 = 62.0;
/// Size of names and notes.
const NOTE: f64 = 11.5;
/// From a mark down to the foot of its name.
const NAME_BELOW: f64 = 18.0;

/// Figure 2: a curve a model against compute (above) and against tokens (below), both axes
/// logarithmic, with the law, its band, the saturation and the forecast. Empty axes where there
/// is nothing to draw.
pub fn loss_curves(input: &LossCurves) -> String {
    let title = format!("{} against training compute and tokens", capital(&input.loss_name));
    let mut svg = Svg::new(660.0, &title, &description(input));
    let top = Area { left: 66.0, top: 14.0, right: WIDTH - 14.0, bottom: 330.0 };
    let below = Area { left: 66.0, top: 392.0, right: WIDTH - NAMES, bottom: 612.0 };
    against_compute(&mut svg, input, top);
    against_tokens(&mut svg, input, below);
    svg.finish()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn description(input: &LossCurves) -> String {
    let ends = input.curves.iter().filter_map(|curve| {
        let (tokens, loss) = curve.shown().last()?;
        let flops = tokens * curve.flops_per_token;
        Some(format!(
            "{} ends at {} after {} FLOP",
            curve.name,
            fixed(loss, 4),
            significant(flops, 2)
        ))
    });
    let mut said: Vec<String> = ends.collect();
    if let Some(law) = &input.law {
        said.push(format!("Fitted law: {}", law_text(law).join(", ")));
    }
    for mark in input.saturation.iter().chain(&input.forecast) {
        said.push(format!("{}: {}", mark.name, loss_text(&mark.loss)));
    }
    said.join(". ")
}

impl LossCurve {
    /// The points that have a place on logarithmic axes.
    fn shown(&self) -> impl DoubleEndedIterator<Item = (f64, f64)> + '_ {
        let whole = |&(tokens, loss): &(f64, f64)| {
            tokens > 0.0 && loss > 0.0 && tokens.is_finite() && loss.is_finite()
        };
        self.points.iter().copied().filter(whole)
    }
}

impl FittedLaw {
    fn at(&self, flops: f64) -> f64 {
        self.floor + self.a * flops.powf(-self.b.value)
    }
}

/// Losses whose range the axes show: all but the steepest first part of a curve, which would
/// press the rest together.
fn losses(input: &LossCurves) -> impl Iterator<Item = f64> + '_ {
    input.curves.iter().flat_map(|curve| {
        let all: Vec<(f64, f64)> = curve.shown().collect();
        let from = all.last().map_or(0.0, |last| last.0 / 50.0);
        all.into_iter().filter(move |point| point.0 >= from).map(|point| point.1)
    })
}

fn axes(
    area: Area,
    xs: impl Iterator<Item = f64>,
    ys: impl Iterator<Item = f64>,
    margins: [f64; 2],
    y_margin: f64,
) -> Axes {
    let usual = |from, to| Scale { low: 1.0, high: 10.0, from, to, log: true };
    let x = Scale::around(xs, 0.0, true, area.left, area.right);
    let mut x = x.unwrap_or(usual(area.left, area.right));
    let ratio = x.high / x.low;
    (x.low, x.high) = (x.low / ratio.powf(margins[0]), x.high * ratio.powf(margins[1]));
    let y = Scale::around(ys, y_margin, true, area.bottom, area.top);
    Axes { x, y: y.unwrap_or(usual(area.bottom, area.top)) }
}

fn against_compute(svg: &mut Svg, input: &LossCurves, area: Area) {
    let flops = |curve: &LossCurve| {
        let per_token = curve.flops_per_token;
        curve.shown().map(move |(tokens, _)| tokens * per_token).collect::<Vec<_>>()
    };
    let marks = || near(input).into_iter().chain(&input.forecast);
    let xs = input.curves.iter().flat_map(flops).chain(marks().map(|mark| mark.flops));
    let band = input.law.iter().flat_map(|law| law.band.iter().flat_map(|b| [b.1, b.2]));
    let ends = marks().flat_map(|m| [Some(m.loss.value), m.loss.low, m.loss.high]).flatten();
    // Up to two names stand below a loss that was foretold.
    let y_margin = if input.forecast.is_some() { 0.2 } else { 0.07 };
    let axes = axes(area, xs, losses(input).chain(band).chain(ends), [0.03, 0.13], y_margin);
    let at_points = |curve: &LossCurve| {
        let place = |(tokens, loss)| axes.at(tokens * curve.flops_per_token, loss);
        curve.shown().map(place).collect::<Vec<_>>()
    };
    svg.within(area, |svg| {
        if let Some(law) = &input.law {
            draw_law(svg, &axes, law);
        }
        draw_curves(svg, input, at_points);
    });
    for (index, curve) in input.curves.iter().enumerate() {
        if let Some(&[x, y]) = at_points(curve).last() {
            end_dot(svg, [x, y], &of_model(index, input.curves.len()));
            if input.forecast.as_ref().is_some_and(|mark| hides(&axes, mark, [x, y])) {
                name_beside(svg, &axes, [x, y], &curve.name);
                continue;
            }
            let foot = input.forecast.iter().map(|mark| below(&axes, mark, x)).fold(y, f64::max);
            name_below(svg, &axes, [x, foot + NAME_BELOW], &curve.name, INK);
        }
    }
    if let Some(mark) = near(input) {
        draw_saturation(svg, &axes, mark);
    }
    if let Some(mark) = &input.forecast {
        let ends = input.curves.iter().filter_map(|curve| at_points(curve).pop());
        draw_forecast(svg, &axes, mark, &ends.collect::<Vec<_>>());
    }
    note(svg, area, input);
    axes.draw(svg, ["Training compute [FLOP]", &capital(&input.loss_name)], [6, 5]);
}

fn against_tokens(svg: &mut Svg, input: &LossCurves, area: Area) {
    let xs = input.curves.iter().flat_map(|curve| curve.shown().map(|point| point.0));
    let axes = axes(area, xs, losses(input), [0.02, 0.02], 0.07);
    let at_points = |curve: &LossCurve| {
        curve.shown().map(|(tokens, loss)| axes.at(tokens, loss)).collect::<Vec<_>>()
    };
    svg.within(area, |svg| draw_curves(svg, input, at_points));
    let ends: Vec<[f64; 2]> = input
        .curves
        .iter()
        .map(|c| at_points(c).pop().unwrap_or([area.right, area.bottom]))
        .collect();
    let heights: Vec<f64> = ends.iter().map(|end| end[1]).collect();
    let heights = apart(&heights, 13.0, area.top + 4.0, area.bottom);
    for (index, (curve, (&end, height))) in
        input.curves.iter().zip(ends.iter().zip(heights)).enumerate()
    {
        let colour = of_model(index, input.curves.len());
        end_dot(svg, end, &colour);
        // Hair lines lead from the curves' ends to names that had to give way.
        svg.path(
            &[[end[0] + 4.0, end[1]], [area.right + 4.0, end[1]], [area.right + 11.0, height]],
            &stroke(&colour, 0.8, ""),
        );
        svg.text([area.right + 14.0, height + 4.0], &curve.name, Look::new(NOTE));
    }
    axes.draw(svg, ["Tokens seen", &capital(&input.loss_name)], [6, 4]);
}

fn draw_curves(svg: &mut Svg, input: &LossCurves, places: impl Fn(&LossCurve) -> Vec<[f64; 2]>) {
    for (index, curve) in input.curves.iter().enumerate() {
        let colour = of_model(index, input.curves.len());
        svg.path(&thin(places(curve)), &stroke(&colour, 1.5, ""));
    }
}

/// The points that are at least half a unit from the one before, and the last.
fn thin(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for (i, &[x, y]) in points.iter().enumerate() {
        let far = |last: &[f64; 2]| (x - last[0]).hypot(y - last[1]) > 0.5;
        if i + 1 == points.len() || kept.last().is_none_or(far) {
            kept.push([x, y]);
        }
    }
    kept
}

fn draw_law(svg: &mut Svg, axes: &Axes, law: &FittedLaw) {
    let lower = law.band.iter().map(|&(flops, low, _)| axes.at(flops, low));
    let upper = law.band.iter().rev().map(|&(flops, _, high)| axes.at(flops, high));
    let outline: Vec<[f64; 2]> = lower.chain(upper).collect();
    if outline.len() > 2 {
        svg.polygon(&outline, "#8a8f98", 0.3);
    }
    let (low, high) = (axes.x.low, axes.x.high);
    let line: Vec<[f64; 2]> = (0..=100)
        .map(|k| low * (high / low).powf(f64::from(k) / 100.0))
        .map(|flops| axes.at(flops, law.at(flops)))
        .filter(|[_, y]| y.is_finite())
        .collect();
    svg.path(&line, &stroke(INK, 1.3, "6 4"));
}

fn end_dot(svg: &mut Svg, [x, y]: [f64; 2], colour: &str) {
    svg.add(format_args!(
        r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.6" fill="{colour}" stroke="#ffffff" stroke-width="0.8"/>"##
    ));
}

/// The saturation, where it is not so far off that it would press the curves together.
fn near(input: &LossCurves) -> Option<&LossMark> {
    const FAR: f64 = 100.0;
    let computes = input.curves.iter().filter_map(|curve| {
        let (tokens, _) = curve.shown().last()?;
        Some(tokens * curve.flops_per_token)
    });
    let most = computes.fold(0.0, f64::max);
    input.saturation.as_ref().filter(|mark| mark.flops <= FAR * most)
}

/// A ring at the loss, a line down to its compute, and words along it, or above the ring where
/// there is no room below.
fn draw_saturation(svg: &mut Svg, axes: &Axes, mark: &LossMark) {
    let [x, y] = axes.at(mark.flops, mark.loss.value);
    svg.line([x, y + 7.0], [x, axes.y.from], &stroke(MUTED, 1.0, "1.5 3"));
    svg.add(format_args!(
        r#"<circle cx="{x:.1}" cy="{y:.1}" r="7" fill="none" {}/>"#,
        stroke(INK, 1.2, "")
    ));
    let look = Look::new(NOTE).colour(MUTED).turned().rim();
    let fits = axes.y.from - y > text_width(&mark.name, NOTE) + 24.0;
    let place = if fits { [x - 5.0, axes.y.from - 10.0] } else { [x + 4.0, y - 14.0] };
    svg.text(place, &mark.name, look);
}

/// Whether a text about `x` would cover a mark.
fn covers(axes: &Axes, mark: &LossMark, x: f64) -> bool {
    (axes.x.at(mark.flops) - x).abs() < 40.0
}

/// The foot of a mark's error bar, where a text about `x` would cover it; else 0.
fn below(axes: &Axes, mark: &LossMark, x: f64) -> f64 {
    let lowest = mark.loss.low.unwrap_or(mark.loss.value);
    if covers(axes, mark, x) { axes.y.at(lowest) } else { 0.0 }
}

/// Whether a mark stands below the `end` of a curve, so that a name below would be read as the
/// mark's.
fn hides(axes: &Axes, mark: &LossMark, end: [f64; 2]) -> bool {
    let [x, y] = axes.at(mark.flops, mark.loss.value);
    (end[0] - x).abs() < 1.0 && end[1] < y
}

/// A name to the right of the end of a curve at `place` and above it, as the curve comes from the
/// left and the law goes down.
fn name_beside(svg: &mut Svg, axes: &Axes, [x, y]: [f64; 2], name: &str) {
    let room = axes.x.to - 4.0 - text_width(name, NOTE);
    svg.text([(x + 7.0).min(room), y - 5.0], name, Look::new(NOTE).rim());
}

/// A name centred at `place`, as far as the panel goes.
fn name_below(svg: &mut Svg, axes: &Axes, [x, y]: [f64; 2], name: &str, colour: &'static str) {
    let room = axes.x.to - 4.0 - text_width(name, NOTE) / 2.0;
    let look = Look::new(NOTE).colour(colour).anchor(Anchor::Middle).rim();
    svg.text([x.min(room), y.min(axes.y.from - 8.0)], name, look);
}

/// A diamond with its error bar. Its name stands below it, and below that of a model whose curve has
/// one of the `ends` and is named there.
fn draw_forecast(svg: &mut Svg, axes: &Axes, mark: &LossMark, ends: &[[f64; 2]]) {
    const COLOUR: &str = "#c2410c";
    point(svg, axes, mark.flops, &mark.loss, COLOUR);
    let [x, y] = axes.at(mark.flops, mark.loss.value);
    svg.add(format_args!(
        r##"<path d="M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" fill="#ffffff" stroke="{COLOUR}" stroke-width="1.6"/>"##,
        y - 5.5
    ));
    let foot = below(axes, mark, x).max(y);
    let at = ends.iter().filter(|end| (end[0] - x).abs() < 1.0);
    let foot = at.map(|end| end[1]).fold(foot, f64::max);
    let named = ends.iter().any(|end| covers(axes, mark, end[0]) && !hides(axes, mark, *end));
    let line = if named { 15.0 } else { 0.0 };
    name_below(svg, axes, [x, foot + NAME_BELOW + line], &mark.name, COLOUR);
}

/// The law's formula and numbers, and a saturation too far off to be drawn, in the corner below
/// the curves.
fn note(svg: &mut Svg, area: Area, input: &LossCurves) {
    let mut lines = input.law.as_ref().map(law_text).unwrap_or_default();
    if let Some(mark) = input.saturation.as_ref().filter(|_| near(input).is_none()) {
        lines.push(format!("{}: {} FLOP", mark.name, significant(mark.flops, 2)));
    }
    let first = area.bottom - 12.0 - 15.0 * lines.len() as f64 + 15.0;
    for (k, line) in lines.iter().enumerate() {
        svg.text([area.left + 12.0, first + 15.0 * k as f64], line, Look::new(NOTE).rim());
    }
}

fn law_text(fitted: &FittedLaw) -> Vec<String> {
    let b = match (fitted.b.low, fitted.b.high) {
        (Some(low), Some(high)) => {
            format!("{} [{}, {}]", fixed(fitted.b.value, 3), fixed(low, 3), fixed(high, 3))
        }
        _ => fixed(fitted.b.value, 3),
    };
    let a = format!("a = {}", significant(fitted.a, 3));
    let (law, constants) = match fitted.floor {
        0.0 => ("L(C) = a C⁻ᵇ", a),
        floor => ("L(C) = L₀ + a C⁻ᵇ", format!("L₀ = {}, {a}", fixed(floor, 4))),
    };
    let mut lines = vec![law.to_owned(), constants, format!("b = {b}")];
    if fitted.open {
        let rises = fitted.b.low.is_some_and(|low| low <= 0.0) || fitted.b.value <= 0.0;
        let said = if rises { "no clear fall" } else { "b reaches an end of the search" };
        lines.push(said.to_owned());
    }
    if fitted.b.low.is_some() {
        lines.push("intervals: over the evaluated objects".to_owned());
    }
    lines
}

fn loss_text(loss: &Interval) -> String {
    match (loss.low, loss.high) {
        (Some(low), Some(high)) => {
            format!("{} [{}, {}]", fixed(loss.value, 4), fixed(low, 4), fixed(high, 4))
        }
        _ => fixed(loss.value, 4),
    }
}
