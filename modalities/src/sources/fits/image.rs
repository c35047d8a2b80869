//! Image HDUs, whole or the part of one object, plain or compressed by tiles.

use std::borrow::Cow;
use std::ops::Range;

use astropt_core::guard::guarded;
use astropt_core::observation::{Array, Data};
use fitsio_pure::bintable::BinaryColumnType as Type;
use fitsio_pure::hdu::Hdu as CrateHdu;
use fitsio_pure::image::{ImageData, read_image_data};

use super::header::{Hdu, Kind, MAX_BYTES};
use super::numbers::{Scale, decode};
use super::reader::Reader;
use super::table::{Column, Table, descriptor};

/// How many bytes of an image are read at a time.
const STEP: usize = 4 << 20;
/// Compressed tiles up to this size may unpack to what they like: at most 1,032 times as much.
const SMALL_TILE: u64 = 64 << 10;

/// Reads an image, or of its slowest axis the part `row`, as stored: the axes follow
/// each other as in the file, the slowest first.
///
/// # Errors
/// What is wrong with the HDU, naming it.
pub(super) fn read(reader: &mut Reader, hdu: &Hdu, row: Option<usize>) -> Result<Array, String> {
    let mut read = || match &hdu.kind {
        Kind::Image { bitpix, axes } => plain(reader, hdu, *bitpix, axes, row),
        Kind::Tiles { bitpix, axes } => {
            if row.is_some() {
                return Err("the objects of an image compressed by tiles cannot be read one by \
                            one; unpack it with funpack first"
                    .to_owned());
            }
            tiles(reader, hdu, *bitpix, axes)
        }
        _ => Err("it holds no image; name a `column` of it, or another `hdu`".to_owned()),
    };
    read().map_err(|message| format!("{}: {message}", hdu.title()))
}

/// How many numbers lie along `axes`: at least one, and no more than are read at once.
fn numbers(axes: &[usize], bitpix: i64) -> Result<usize, String> {
    if axes.is_empty() || axes.contains(&0) {
        return Err("it holds no numbers".to_owned());
    }
    let width = bitpix.unsigned_abs() / 8;
    let bytes = axes.iter().fold(width, |n, &axis| n.saturating_mul(axis as u64));
    if bytes > MAX_BYTES {
        return Err(format!(
            "an array of shape {axes:?} is more than the {} GiB that are read for one object; \
             if its slowest axis counts objects, say `objects = \"row\"`",
            MAX_BYTES >> 30
        ));
    }
    Ok((bytes / width) as usize)
}

fn scale(hdu: &Hdu, bitpix: i64) -> Result<Scale, String> {
    Ok(Scale {
        scale: hdu.header.number("BSCALE")?.unwrap_or(1.0),
        zero: hdu.header.number("BZERO")?.unwrap_or(0.0),
        blank: if bitpix > 0 { hdu.header.whole("BLANK")? } else { None },
        double: false,
    })
}

fn plain(
    reader: &mut Reader,
    hdu: &Hdu,
    bitpix: i64,
    axes: &[usize],
    row: Option<usize>,
) -> Result<Array, String> {
    let (shape, first) = match (row, axes) {
        (None, axes) => (axes, 0),
        // One number per object is an array, too.
        (Some(row), [rows]) if row < *rows => (&[1][..], row as u64),
        (Some(row), [rows, rest @ ..]) if row < *rows => (rest, row as u64),
        (Some(row), _) => {
            return Err(format!(
                "object {row} is not in it: its slowest axis has the length {}",
                axes.first().copied().unwrap_or(0)
            ));
        }
    };
    let count = numbers(shape, bitpix)?;
    let bytes = count * (bitpix.unsigned_abs() as usize / 8);
    // The header's check of the whole has shown that these fit.
    let offset = hdu.data + first * bytes as u64;
    let scale = scale(hdu, bitpix)?;
    // Step by step, so that a large image is in memory once and not thrice.
    let mut data: Option<Data> = None;
    for start in (0..bytes).step_by(STEP) {
        let step = reader.at(offset + start as u64, STEP.min(bytes - start))?;
        let numbers = scale.apply(decode(step, bitpix))?;
        match &mut data {
            None => data = Some(numbers),
            Some(data) => append(data, numbers, count)?,
        }
    }
    let data = data.ok_or("it holds no numbers")?;
    Ok(Array { shape: shape.to_vec(), data })
}

/// Appends numbers of the same type, of `count` in all.
fn append(all: &mut Data, more: Data, count: usize) -> Result<(), String> {
    fn chain<T>(all: &mut Vec<T>, more: Vec<T>, count: usize) {
        all.reserve_exact(count.saturating_sub(all.len()));
        all.extend(more);
    }
    match (all, more) {
        (Data::U8(all), Data::U8(more)) => chain(all, more, count),
        (Data::U16(all), Data::U16(more)) => chain(all, more, count),
        (Data::I64(all), Data::I64(more)) => chain(all, more, count),
        (Data::F32(all), Data::F32(more)) => chain(all, more, count),
        (Data::F64(all), Data::F64(more)) => chain(all, more, count),
        _ => return Err("its numbers change their type; the file is damaged".to_owned()),
    }
    Ok(())
}

fn tiles(reader: &mut Reader, hdu: &Hdu, bitpix: i64, axes: &[usize]) -> Result<Array, String> {
    let count = numbers(axes, bitpix)?;
    if hdu.len > MAX_BYTES {
        return Err("its compressed data are more than 2 GiB; unpack it with funpack".to_owned());
    }
    let gap = check_tiles(reader, hdu, bitpix, axes)?;
    let cards = hdu.header.0.clone();
    let mut bytes = Cow::Borrowed(reader.at(hdu.data, hdu.len as usize)?);
    // The decompressor takes the heap to begin where the rows end.
    if !gap.is_empty() {
        bytes.to_mut().drain(gap);
    }
    let raw = guarded(|| {
        let fail = |error| format!("its tiles cannot be decompressed ({error})");
        let compressed = CrateHdu::from_cards(cards, 0, 0).map_err(fail)?;
        read_image_data(&bytes, &compressed).map_err(fail)
    })?;
    let held = match &raw {
        ImageData::U8(v) => v.len(),
        ImageData::I16(v) => v.len(),
        ImageData::I32(v) => v.len(),
        ImageData::I64(v) => v.len(),
        ImageData::F32(v) => v.len(),
        ImageData::F64(v) => v.len(),
    };
    if held != count {
        return Err(format!("its tiles hold {held} numbers, its header promises {count}"));
    }
    Ok(Array { shape: axes.to_vec(), data: scale(hdu, bitpix)?.apply(raw)? })
}

/// Checks what the decompressor takes on trust: that there is a tile for every part of the
/// image, that tiles lie within the heap, and that none unpacks to more than it holds. Hands back
/// where in the HDU's data the gap between the table's rows and the heap lies.
fn check_tiles(
    reader: &mut Reader,
    hdu: &Hdu,
    bitpix: i64,
    axes: &[usize],
) -> Result<Range<usize>, String> {
    let table = Table::of_tiles(hdu)?.whole()?;
    let (tiles, tile_pixels) = stated_tiles(hdu, axes);
    if tiles != table.rows as u64 {
        return Err(format!("it has {} tiles where its header promises {tiles}", table.rows));
    }
    let method = hdu.header.text("ZCMPTYPE").unwrap_or_default();
    let gzip = method.starts_with("GZIP");
    if method.starts_with("RICE")
        && hdu.header.integer("ZVAL1").is_some_and(|n| !(1..=1 << 16).contains(&n))
    {
        return Err("ZVAL1, the block size of RICE, cannot be; the file is damaged".to_owned());
    }
    let (rows, heap) = (table.row * table.rows, hdu.heap(table.row, table.rows)?);
    if !(rows as u64..=hdu.len).contains(&heap) {
        return Err(format!("THEAP, {heap}, is no place behind its rows; the file is damaged"));
    }
    let most = tile_pixels.saturating_mul(bitpix.unsigned_abs() / 8).saturating_add(64);
    for column in ["COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA"] {
        let Some(column) = table.columns.iter().find(|c| c.name == column) else { continue };
        let (wide, width) = of_tiles(column)?;
        let start = hdu.data + heap;
        for row in 0..table.rows {
            let at = hdu.data + (row * table.row + column.offset) as u64;
            let (count, offset) = descriptor(reader.at(at, if wide { 16 } else { 8 })?, wide)?;
            let bytes = count.saturating_mul(width);
            let place = start.saturating_add(offset);
            if place.saturating_add(bytes) > hdu.data + hdu.len {
                return Err(format!("tile {row} lies outside of its data; the file is damaged"));
            }
            if bytes > most.saturating_mul(2) {
                return Err(format!(
                    "tile {row} is longer compressed than unpacked; the file is damaged"
                ));
            }
            if bytes > SMALL_TILE && (gzip || column.name != "COMPRESSED_DATA") {
                check_unpacked(reader.at(place, bytes as usize)?, most)
                    .map_err(|message| format!("tile {row} {message}"))?;
            }
        }
    }
    Ok(rows..heap as usize)
}

/// Whether the cells of a column of tiles have wide descriptors, and the bytes of a number in them.
fn of_tiles(column: &Column) -> Result<(bool, u64), String> {
    let (wide, element) = match column.kind {
        Type::VarArrayP(element) => (false, element),
        Type::VarArrayQ(element) => (true, element),
        _ => return Err(format!("its column {} does not hold tiles", column.name)),
    };
    if column.repeat == 0 {
        return Err(format!("its column {} has no room for tiles", column.name));
    }
    let width = match element {
        'I' => 2,
        'J' | 'E' => 4,
        'K' | 'D' => 8,
        _ => 1,
    };
    Ok((wide, width))
}

/// How many tiles the header states, and how many numbers the largest has.
fn stated_tiles(hdu: &Hdu, axes: &[usize]) -> (u64, u64) {
    let (mut tiles, mut numbers) = (1u64, 1u64);
    for (k, &axis) in axes.iter().rev().enumerate() {
        let whole = if k == 0 { axis } else { 1 };
        let stated = hdu.header.integer(&format!("ZTILE{}", k + 1)).unwrap_or(whole as i64);
        let tile = u64::try_from(stated).unwrap_or(0).clamp(1, axis as u64);
        tiles = tiles.saturating_mul((axis as u64).div_ceil(tile));
        numbers = numbers.saturating_mul(tile);
    }
    (tiles, numbers)
}

/// Unpacks a large gzip tile once without keeping anything: the decompressor would let it grow
/// without bounds.
fn check_unpacked(tile: &[u8], most: u64) -> Result<(), String> {
    let mut unpacked = std::io::Read::take(flate2::read::MultiGzDecoder::new(tile), most + 1);
    match std::io::copy(&mut unpacked, &mut std::io::sink()) {
        Ok(bytes) if bytes <= most => Ok(()),
        Ok(_) => Err(format!("unpacks to more than its {most} bytes; the file is damaged")),
        Err(error) => Err(format!("cannot be unpacked ({error}); the file is damaged")),
    }
}
