//! Figure 4: what probes gain with compute.

use super::axes::{Axes, level, point, stroke};
use super::colour::of_model;
use super::format::fixed;
use super::scale::Scale;
use super::svg::{Anchor, Area, Look, MUTED, Svg, WIDTH};
use crate::probe::Interval;

/// What one model gains on a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gain {
    /// Training compute of the model in FLOP.
    pub flops: f64,
    /// Its score in units of the reference's, with its interval.
    pub gain: Interval,
}

/// The gains on one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GainPanel {
    /// Name of the task, such as `redshift`.
    pub task: String,
    /// The models, by rising compute.
    pub gains: Vec<Gain>,
    /// Spearman's rank correlation of gain and compute.
    pub spearman: Interval,
    /// Pearson's correlation of gain and the logarithm of compute.
    pub pearson: Interval,
}

/// The gains on every task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gains {
    /// What the gain is, such as `Gain over 1M`.
    pub gain_name: String,
    /// A panel a task.
    pub panels: Vec<GainPanel>,
    /// Panels side by side, at least 1; 2 can still be read on a phone.
    pub columns: usize,
}

const LEFT: f64 = 52.0;
const GAP: f64 = 34.0;
/// Height of a panel, and from the top of one to that of the next.
const PANEL: f64 = 132.0;
const STRIDE: f64 = PANEL + 34.0;

/// Figure 4: a panel a task with the gain of every model against its compute, error bars, and
/// both correlations. All panels share the axis of compute.
pub fn gains(input: &Gains) -> String {
    let columns = input.columns.max(1).min(input.panels.len().max(1));
    let rows = input.panels.len().div_ceil(columns);
    let top = 26.0;
    let height = top + rows as f64 * STRIDE + 38.0;
    let width = (WIDTH - LEFT - 12.0 - GAP * (columns - 1) as f64) / columns as f64;
    let texts = input.panels.iter().map(|panel| {
        let last = panel.gains.last().map_or(f64::NAN, |gain| gain.gain.value);
        format!(
            "{}: {} at most compute, {}",
            panel.task,
            fixed(last, 2),
            correlations(panel).join(", ")
        )
    });
    let description = texts.collect::<Vec<_>>().join(". ");
    let mut svg =
        Svg::new(height, &format!("{} against training compute", input.gain_name), &description);
    let flops = || input.panels.iter().flat_map(|panel| panel.gains.iter().map(|gain| gain.flops));
    for (k, panel) in input.panels.iter().enumerate() {
        let (row, column) = (k / columns, k % columns);
        let left = LEFT + column as f64 * (width + GAP);
        let y = top + row as f64 * STRIDE;
        let area = Area { left, right: left + width, top: y, bottom: y + PANEL };
        let Some(x) = Scale::around(flops(), 0.08, true, area.left, area.right) else { continue };
        let below = input.panels.len() > k + columns;
        let x_title = if below { "" } else { "Training compute [FLOP]" };
        let y_title = if column == 0 { input.gain_name.as_str() } else { "" };
        draw(&mut svg, panel, x, area, [x_title, y_title]);
    }
    let note = "ρ: Spearman, r: Pearson with log compute; brackets: intervals";
    svg.text([LEFT, height - 10.0], note, Look::new(10.5).colour(MUTED));
    svg.finish()
}

fn draw(svg: &mut Svg, panel: &GainPanel, x: Scale, area: Area, titles: [&str; 2]) {
    let ends = |gain: &Gain| [Some(gain.gain.value), gain.gain.low, gain.gain.high];
    let values = panel.gains.iter().flat_map(ends).flatten().chain([1.0]);
    let Some(mut y) = Scale::around(values, 0.08, false, area.bottom, area.top) else { return };
    // Above what rises, and what falls, is room for the correlations.
    y.high += 0.42 * (y.high - y.low);
    let axes = Axes { x, y };
    let at_one = y.at(1.0);
    svg.line([area.left, at_one], [area.right, at_one], &level());
    let line: Vec<[f64; 2]> = panel.gains.iter().map(|g| axes.at(g.flops, g.gain.value)).collect();
    svg.path(&line, &stroke("#b7bcc4", 1.2, ""));
    for (index, gain) in panel.gains.iter().enumerate() {
        point(svg, &axes, gain.flops, &gain.gain, &of_model(index, panel.gains.len()));
    }
    let look = Look::new(13.0).anchor(Anchor::Middle);
    svg.text([area.centre()[0], area.top - 7.0], &panel.task, look);
    for (k, text) in correlations(panel).iter().enumerate() {
        svg.text([area.left + 9.0, area.top + 17.0 + 14.0 * k as f64], text, Look::new(11.0).rim());
    }
    axes.draw(svg, titles, [4, 4]);
}

fn correlations(panel: &GainPanel) -> Vec<String> {
    let text = |name: &str, r: &Interval| match (r.low, r.high) {
        _ if !r.value.is_finite() => format!("{name} undefined"),
        (Some(low), Some(high)) => {
            format!("{name} = {} [{}, {}]", fixed(r.value, 2), fixed(low, 2), fixed(high, 2))
        }
        _ => format!("{name} = {}", fixed(r.value, 3)),
    };
    vec![text("ρ", &panel.spearman), text("r", &panel.pearson)]
}
