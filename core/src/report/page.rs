//! The page: its head, its sections in reading order, and what stands beside the charts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::input::{Choice, ReportInput};
use super::{curves, emergence, figures, probes, summary};

/// A part of a page; without a body it is left out.
pub(super) struct Section {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) body: Option<Markup>,
}

/// The report of a run as one HTML page.
pub fn render(input: &ReportInput) -> String {
    let title = if input.title.is_empty() { "A run" } else { &input.title };
    let sections = [
        ("loss", "How it learned", curves::loss(input)),
        ("previews", "What it predicts", curves::previews(input)),
        ("probes", "What its embeddings know", probes::section(input)),
        ("emergence", "When and where it knows them", emergence::section(input)),
        ("figures", "Figures", figures::section(&input.figures)),
        ("choices", "Choices made", choices(&input.choices)),
        ("left-out", "Objects left out", rejected(input)),
        ("recipe", "Recipe", recipe(input)),
        ("provenance", "Provenance", provenance(input)),
    ]
    .map(|(id, name, body)| Section { id, name, body });
    let titles = (title, "AstroPT run report", input.subtitle.as_str());
    document(titles, &summary::section(input), &sections, or(&input.run.program, "AstroPT"))
}

/// A page with its title, kicker and subtitle: `head` first, then what sections there are.
pub(super) fn document(
    (title, kicker, subtitle): (&str, &str, &str),
    head: &Markup,
    sections: &[Section],
    program: &str,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(format!("astropt {}", env!("CARGO_PKG_VERSION")));
                title { (title) " — AstroPT" }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    p.kicker { (kicker) }
                    h1 { (title) }
                    @if !subtitle.is_empty() { p.lead { (subtitle) } }
                }
                main {
                    (head)
                    nav aria-label="Sections" {
                        @for Section { id, name, body } in sections {
                            @if body.is_some() { a href=(format!("#{id}")) { (name) } }
                        }
                    }
                    @for Section { id, name, body } in sections {
                        @if let Some(body) = body {
                            section id=(id) { h2 { (name) } (body) }
                        }
                    }
                }
                footer {
                    "Written by " (program)
                    ". This page is complete in itself: it loads nothing and runs no script."
                }
            }
        }
    };
    page.into_string()
}

/// `text`, or `otherwise` where it is empty.
pub(super) fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

pub(super) fn choices(choices: &[Choice]) -> Option<Markup> {
    (!choices.is_empty()).then(|| {
        html! {
            p { "Where the paper and its program differ, or both leave a point open, this run chose:" }
            dl.choices {
                @for choice in choices {
                    div {
                        dt { (choice.name) }
                        dd { strong { (choice.choice) } " " span { (choice.meaning) } }
                    }
                }
            }
        }
    })
}

fn rejected(input: &ReportInput) -> Option<Markup> {
    let rejected = &input.rejected;
    let objects = or(&input.objects, "objects");
    (rejected.count > 0).then(|| {
        html! {
            p {
                strong { (super::format::count(rejected.count)) }
                " " (objects) " could not be used and were left out of training and scoring."
            }
            @if !rejected.examples.is_empty() {
                div.scroll { table {
                    thead { tr { th { "Object" } th { "Why" } } }
                    tbody {
                        @for (id, reason) in &rejected.examples {
                            tr { td.id { (id) } td { (reason) } }
                        }
                    }
                } }
                @if rejected.count > rejected.examples.len() as u64 {
                    p.explain {
                        (rejected.examples.len()) " of "
                        (super::format::count(rejected.count)) " shown."
                    }
                }
            }
        }
    })
}

fn recipe(input: &ReportInput) -> Option<Markup> {
    let (written, resolved) = (&input.recipe_written, &input.recipe_resolved);
    (!written.is_empty() || !resolved.is_empty()).then(|| {
        html! {
            p { "To repeat this run, save the recipe and start it on the same data." }
            @if !written.is_empty() {
                details open { summary { "As written" } pre { code { (written) } } }
            }
            @if !resolved.is_empty() {
                details { summary { "With every value filled in" } pre { code { (resolved) } } }
            }
        }
    })
}

fn provenance(input: &ReportInput) -> Option<Markup> {
    let run = &input.run;
    let fixed = [
        ("Program", &run.program),
        ("Command", &run.command),
        ("Backend", &run.backend),
        ("Device", &run.device),
        ("Precision", &run.precision),
        ("Host", &run.host),
        ("Started", &run.started),
        ("Finished", &run.finished),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.as_str()));
    let more = run.more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let facts: Vec<_> = fixed.chain(more).filter(|(_, value)| !value.is_empty()).collect();
    (!facts.is_empty()).then(|| {
        html! {
            dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        }
    })
}
