//! Drawn figures on a page.

use base64::Engine;
use maud::{Markup, html};

/// A drawn figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// The name of its files, without their endings.
    pub name: &'static str,
    /// Its title.
    pub title: String,
    /// What it shows and how to read it.
    pub caption: String,
    /// It as a standalone SVG.
    pub svg: String,
}

pub(super) fn section(figures: &[Figure]) -> Option<Markup> {
    (!figures.is_empty()).then(|| {
        html! {
            div.drawn {
                @for figure in figures {
                    @let data = base64::engine::general_purpose::STANDARD.encode(&figure.svg);
                    figure id=(figure.name) {
                        img src=(format!("data:image/svg+xml;base64,{data}")) alt=(figure.title);
                        figcaption { strong { (figure.title) "." } " " (figure.caption) }
                    }
                }
            }
            p.explain { "The same figures are in " code { "figures/" } ", as SVG and PNG." }
        }
    })
}
