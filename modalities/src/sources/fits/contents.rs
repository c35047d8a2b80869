//! What a FITS file holds: its HDUs and the columns of its tables.

use std::path::Path;

use astropt_core::seam::{Part, Section};
use astropt_core::{Error, Result};

use super::EXTENSIONS;
use super::fields::Open;
use super::header::{Hdu, Kind};
use super::reader::Reader;
use super::table::{Column, PACKED_TABLE, Table};
use super::unpack::Unpacked;

/// Most HDUs that are listed.
const MOST: usize = 200;

/// The HDUs of the file at `path`, and the columns of each of its binary tables.
///
/// # Errors
/// When it cannot be read as FITS.
fn sections(path: &Path) -> Result<Vec<Section>> {
    let mut open = Open::new(Reader::open(path, &Unpacked::new(None), false)?);
    let hdus = open.headers(MOST).map_err(|message| Error::file(path, message))?;
    let mut sections =
        vec![Section { title: "HDUs".into(), parts: hdus.iter().map(|hdu| of_hdu(hdu)).collect() }];
    for hdu in hdus {
        if let Ok(table) = Table::of(hdu) {
            let title = format!("columns of {}", hdu.title());
            let part = |column: &Column| Part {
                name: column.name.clone(),
                shape: column.axes.clone(),
                holds: column.holds(),
                unit: column.unit.clone(),
            };
            let mut parts: Vec<Part> = table.columns.iter().map(part).collect();
            parts.extend(table.unknown.map(|why| Part {
                name: format!("{} and on", parts.len() + 1),
                holds: why,
                ..Part::default()
            }));
            sections.push(Section { title, parts });
        }
    }
    Ok(sections)
}

fn of_hdu(hdu: &Hdu) -> Part {
    let (shape, holds) = match &hdu.kind {
        Kind::Image { axes, .. } if axes.is_empty() => (Vec::new(), "no data".to_owned()),
        Kind::Image { bitpix, axes } => (axes.clone(), numbers(*bitpix).to_owned()),
        Kind::Tiles { bitpix, axes } => {
            (axes.clone(), format!("{}, compressed by tiles", numbers(*bitpix)))
        }
        Kind::Table { rows, .. } => (vec![*rows], "rows of a binary table".to_owned()),
        Kind::PackedTable { rows } => {
            (vec![*rows], format!("rows of a binary table: {PACKED_TABLE}"))
        }
        Kind::Other => (Vec::new(), "something that is not read".to_owned()),
    };
    let name = hdu.name();
    Part {
        name: name.map_or_else(|| hdu.number.to_string(), |n| format!("{} {n}", hdu.number)),
        shape,
        holds,
        unit: hdu.header.text("BUNIT").map(str::to_owned),
    }
}

/// The numbers of an image of this BITPIX.
pub(super) fn numbers(bitpix: i64) -> &'static str {
    match bitpix {
        8 => "u8",
        16 => "i16",
        32 => "i32",
        64 => "i64",
        -32 => "f32",
        -64 => "f64",
        _ => "numbers of unknown type",
    }
}

astropt_core::register_format!("a FITS file", EXTENSIONS, sections);
