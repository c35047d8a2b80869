//! What a table holds: its columns.

use std::path::Path;

use arrow_schema::{DataType, Field};
use astropt_core::Result;
use astropt_core::embed::column_unit;
use astropt_core::seam::{Part, Section};

use super::cell::converted_unit;
use super::parquet::{ParquetFile, content};
use super::{Content, Table};

/// The columns of the CSV table at `path`.
///
/// # Errors
/// When it cannot be read.
fn written(path: &Path) -> Result<Vec<Section>> {
    let table = Table::open(path.to_owned())?;
    let part = |column: &super::Column| Part {
        name: column.name.clone(),
        shape: Vec::new(),
        holds: "text or numbers".to_owned(),
        unit: None,
    };
    Ok(vec![section(table.columns().iter().map(part).collect())])
}

/// The leaf columns of the Parquet table at `path`, by the dotted names that recipes give them.
///
/// # Errors
/// When it cannot be read.
fn leaves(path: &Path) -> Result<Vec<Section>> {
    let file = ParquetFile::open(path)?;
    let mut parts = Vec::new();
    file.schema().fields().iter().for_each(|field| add_leaves(field, None, &mut parts));
    Ok(vec![section(parts)])
}

fn section(parts: Vec<Part>) -> Section {
    Section { title: "columns".into(), parts }
}

/// Adds the leaves of `field`, a child of the column `parent`.
fn add_leaves(field: &Field, parent: Option<&Part>, parts: &mut Vec<Part>) {
    let (mut data_type, mut lists) = (field.data_type(), String::new());
    while let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) =
        data_type
    {
        data_type = item.data_type();
        lists += "lists of ";
    }
    let (mut name, mut unit) = (field.name().clone(), column_unit(field));
    if let Some(parent) = parent {
        name = format!("{}.{name}", parent.name);
        lists = format!("{}{lists}", parent.holds);
        unit = unit.or_else(|| parent.unit.clone());
    }
    let unit = converted_unit(data_type).map(str::to_owned).or(unit);
    let mut part = Part { name, shape: Vec::new(), holds: lists, unit };
    match data_type {
        DataType::Struct(children) => {
            children.iter().for_each(|child| add_leaves(child, Some(&part), parts));
        }
        leaf => {
            part.holds += &words(leaf);
            parts.push(part);
        }
    }
}

/// What a leaf holds, for a person to read.
fn words(data_type: &DataType) -> String {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".to_owned(),
        DataType::Map(..) => "maps of keys to values, which are not read".to_owned(),
        DataType::Null => "nothing known".to_owned(),
        DataType::Boolean => "truth values".to_owned(),
        other => match content(other) {
            Content::Written | Content::Text => "text".to_owned(),
            Content::Integer => "integers".to_owned(),
            Content::Single => "f32".to_owned(),
            Content::Double => "f64".to_owned(),
            Content::Date => "dates, read as MJD in f64".to_owned(),
            Content::Duration => "durations, read as seconds in f64".to_owned(),
            Content::Other(what) => what,
        },
    }
}

astropt_core::register_format!("a CSV table", &["csv"], written);
astropt_core::register_format!("a Parquet table", &["parquet"], leaves);
