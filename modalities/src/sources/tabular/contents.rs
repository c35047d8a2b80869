//! What a table holds: its columns.

use std::path::Path;

use astropt_core::Result;
use astropt_core::seam::{Part, Section};

use super::{Content, Table};

/// The columns of the table at `path`.
///
/// # Errors
/// When it cannot be read.
fn sections(path: &Path) -> Result<Vec<Section>> {
    let table = Table::open(path.to_owned())?;
    let part = |column: &super::Column| Part {
        name: column.name.clone(),
        shape: Vec::new(),
        holds: match &column.content {
            Content::Written => "text or numbers".to_owned(),
            Content::Text => "text".to_owned(),
            Content::Integer => "integers".to_owned(),
            Content::Single => "f32".to_owned(),
            Content::Double => "f64".to_owned(),
            Content::Date => "dates, read as MJD in f64".to_owned(),
            Content::Duration => "durations, read as seconds in f64".to_owned(),
            Content::Other(what) => what.clone(),
        },
        unit: column.unit.clone(),
    };
    Ok(vec![Section { title: "columns".into(), parts: table.columns().iter().map(part).collect() }])
}

astropt_core::register_format!("a CSV table", &["csv"], sections);
astropt_core::register_format!("a Parquet table", &["parquet"], sections);
