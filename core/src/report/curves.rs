//! The course of the training: losses, learning rate, gradient, speed, previews.

use base64::Engine;
use maud::{Markup, PreEscaped, html};

use super::format::count;
use super::input::{CurvePoint, Preview, ReportInput};
use super::line::{LineChart, Look, Series};
use super::page::or;

pub(super) fn loss(input: &ReportInput) -> Option<Markup> {
    let name = or(&input.loss_name, "prediction");
    let charts = [false, true].map(|log_x| loss_chart(input, name, log_x).both(340.0));
    if charts.iter().all(String::is_empty) {
        return None;
    }
    let [linear, log] = charts;
    Some(html! {
        p {
            "The " (name) " loss measures how far predicted tokens are from what the telescope saw" @if !input.loss_meaning.is_empty() { ", " (input.loss_meaning) }
            ": lower is better. The validation " (or(&input.objects, "objects"))
            " were never trained on."
        }
        div.tabs {
            input type="radio" name="axis" id="axis-linear" checked;
            label for="axis-linear" { "linear steps" }
            input type="radio" name="axis" id="axis-log";
            label for="axis-log" { "logarithmic steps" }
            figure.linear { (legend()) (PreEscaped(linear)) }
            figure.log { (legend()) (PreEscaped(log)) }
        }
        p.explain {
            "The thick line is the mean over short stretches; the faint one every step. "
            "A logarithmic axis shows how the first steps went and whether the loss still falls."
        }
        (small_charts(input))
    })
}

fn legend() -> Markup {
    html! {
        figcaption.legend {
            span.key.c1 { "training" } span.key.c2 { "validation" }
        }
    }
}

fn loss_chart(input: &ReportInput, name: &str, log_x: bool) -> LineChart {
    LineChart {
        summary: format!("{name} loss against training step"),
        x_title: "training step".into(),
        y_title: format!("{name} loss"),
        log_x,
        log_y: false,
        series: vec![
            series(input, "c1", Look::Noisy, |p| p.train),
            series(input, "c2", Look::Dots, |p| p.validation),
        ],
        level: input.zero_loss.map(|zero| ("predicting zero".to_owned(), zero)),
    }
}

fn series(
    input: &ReportInput,
    class: &'static str,
    look: Look,
    of: impl Fn(&CurvePoint) -> Option<f64>,
) -> Series {
    let points = input.curve.iter().filter_map(|p| Some((p.step as f64, of(p)?)));
    Series { class, points: points.collect(), look }
}

/// Learning rate, gradient norm and speed.
fn small_charts(input: &ReportInput) -> Markup {
    type Of = fn(&CurvePoint) -> Option<f64>;
    let charts: [(&str, &str, Look, bool, Of); 3] = [
        (
            "Learning rate",
            "How far one step moves the parameters: it warms up, then decays.",
            Look::Plain,
            false,
            |p| p.lr,
        ),
        (
            "Gradient norm",
            "Length of the gradient before clipping; spikes are hard batches.",
            Look::Noisy,
            true,
            |p| p.grad_norm,
        ),
        (
            "Speed (tokens/s)",
            "Training tokens a second; dips are pauses for evaluation and saving.",
            Look::Noisy,
            false,
            |p| p.tokens_per_second,
        ),
    ];
    html! {
        div.small {
            @for (title, meaning, look, log_y, of) in charts {
                @let chart = LineChart {
                    summary: format!("{title} against training step"),
                    x_title: "training step".into(),
                    y_title: title.into(),
                    log_x: false,
                    log_y,
                    series: vec![series(input, "c3", look, of)],
                    level: None,
                };
                @let svg = chart.svg(290.0, 200.0, "");
                @if !svg.is_empty() {
                    figure { (PreEscaped(svg)) figcaption.explain { (meaning) } }
                }
            }
        }
    }
}

pub(super) fn previews(input: &ReportInput) -> Option<Markup> {
    let previews: Vec<_> = input.previews.iter().filter(|p| !p.png.is_empty()).collect();
    let latest = previews.last()?;
    Some(html! {
        p {
            (or(&input.task, "Each token is predicted from those before it in the stream")) ", on "
            (or(&input.objects, "objects")) " the model never trained on."
        }
        (image(latest, "now", LEFT_RIGHT))
        @if previews.len() > 1 {
            h3 { "How the predictions changed" }
            div.strip tabindex="0" role="group" aria-label="Previews through training" {
                @for preview in &previews { (image(preview, "", "")) }
            }
            p.explain { "Scroll sideways: from the first preview to the last." }
        }
    })
}

const LEFT_RIGHT: &str = "target on the left, prediction on the right";

fn image(preview: &Preview, class: &str, otherwise: &str) -> Markup {
    let data = base64::engine::general_purpose::STANDARD.encode(&preview.png);
    let caption = or(&preview.caption, otherwise);
    html! {
        figure class=(class) {
            img src=(format!("data:image/png;base64,{data}"))
                alt=(format!("step {}: {}", preview.step, or(&preview.caption, LEFT_RIGHT)));
            figcaption { strong { "Step " (count(preview.step)) } " " span { (caption) } }
        }
    }
}
