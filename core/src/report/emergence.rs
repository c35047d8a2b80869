//! Probes through training and from block to block.

use maud::{Markup, html};

use super::input::ReportInput;
use crate::probe::{Emergence, Told};

pub(super) fn section(input: &ReportInput) -> Option<Markup> {
    let emergence = input.emergence.as_ref()?;
    let parts = [("step", &emergence.checkpoints), ("block", &emergence.layers)];
    let parts = parts.map(|(what, told)| (what, told.as_slice()));
    let all = [&emergence.checkpoints[..], &emergence.layers].concat();
    (!all.is_empty()).then(|| {
        html! {
            p {
                (Emergence::measure(&all)) " of the same probe, on the same objects, after each checkpoint of the training or "
                "from each block of the model (the first of them 0), with its interval. The figures "
                "below draw it."
            }
            @for (what, told) in parts { @if !told.is_empty() { (table(what, told)) } }
        }
    })
}

fn table(what: &str, told: &[Told]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(format!("Table of probes by {what}")) {
            table.scores {
                thead { tr {
                    th { "Property" }
                    @for told in told { th.n { (what) " " (told.at) } }
                } }
                tbody {
                    @for label in Emergence::labels(told) {
                        tr {
                            th scope="row" { (label) }
                            @for told in told {
                                td.n { @match told.score(label) {
                                    Some(score) => (super::probes::interval(score, 3)),
                                    None => "–",
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}
