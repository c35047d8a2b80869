//! Pictures of objects, side by side in a PNG.

use image::{Rgb, RgbImage};

use crate::error::{Error, Result};
use crate::seam::Preview;

/// Pixels between pictures.
const GAP: u32 = 4;
/// Small pictures are enlarged to at least this many pixels.
const SMALLEST: u32 = 160;

/// Rows of pictures on one sheet, as a PNG.
///
/// # Errors
/// When they are too large for one.
pub(crate) fn sheet(rows: &[Vec<Preview>]) -> Result<Vec<u8>> {
    png(&arrange(rows))
}

fn arrange(rows: &[Vec<Preview>]) -> RgbImage {
    let scale = |p: &Preview| SMALLEST.div_ceil(p.width.max(1) as u32).max(1);
    let size = |p: &Preview| (p.width as u32 * scale(p), p.height as u32 * scale(p));
    let row_width = |row: &Vec<Preview>| row.iter().map(|p| size(p).0 + GAP).sum::<u32>();
    let row_height = |row: &Vec<Preview>| row.iter().map(|p| size(p).1).max().unwrap_or(0) + GAP;
    let width = rows.iter().map(row_width).max().unwrap_or(0);
    let mut out = RgbImage::from_pixel(
        width.saturating_sub(GAP),
        rows.iter().map(row_height).sum::<u32>().saturating_sub(GAP),
        Rgb([255, 255, 255]),
    );
    let mut top = 0;
    for row in rows {
        let mut left = 0;
        for picture in row {
            let (w, h) = size(picture);
            for y in 0..h {
                for x in 0..w {
                    let (sx, sy) = ((x / scale(picture)) as usize, (y / scale(picture)) as usize);
                    let at = 3 * (sy * picture.width + sx);
                    let rgb = [picture.rgb[at], picture.rgb[at + 1], picture.rgb[at + 2]];
                    out.put_pixel(left + x, top + y, Rgb(rgb));
                }
            }
            left += w + GAP;
        }
        top += row_height(row);
    }
    out
}

/// The first picture of a [`sheet`], if it is one of `size` by `size` pixels.
pub(crate) fn first(sheet: &[u8], size: usize) -> Option<Vec<u8>> {
    let sheet = image::load_from_memory(sheet).ok()?.to_rgb8();
    let size = u32::try_from(size).ok().filter(|&size| size > 0)?;
    let scale = SMALLEST.div_ceil(size);
    if sheet.width().min(sheet.height()) < size.checked_mul(scale)? {
        return None;
    }
    let places = (0..size).flat_map(|y| (0..size).map(move |x| (x, y)));
    Some(places.flat_map(|(x, y)| sheet.get_pixel(scale * x, scale * y).0).collect())
}

fn png(sheet: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::Failed(format!("cannot make a picture: {e}")))?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_picture_comes_back_as_it_was() {
        let picture = |first: u8| Preview {
            width: 9,
            height: 9,
            rgb: (0..243).map(|k| first.wrapping_add(k)).collect(),
        };
        let png = sheet(&[vec![picture(1), picture(2)], vec![picture(3)]]).expect("a sheet");
        assert_eq!(first(&png, 9), Some(picture(1).rgb));
        assert_eq!(first(&png, 400), None);
        assert_eq!(first(b"no picture", 9), None);
    }
}
