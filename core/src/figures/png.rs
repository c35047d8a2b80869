//! Bitmaps of figures.

use std::sync::{Arc, LazyLock};

use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};

/// Latin, Greek and mathematical characters of DejaVu Sans 2.37; its licence lies beside it.
const FONT: &[u8] = include_bytes!("font/DejaVuSans-subset.ttf");

/// The carried font and no other.
pub(super) fn fonts() -> Arc<Database> {
    static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Database::new();
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    });
    FONTS.clone()
}

/// Most pixels of a bitmap, four bytes each while it is drawn.
const MOST_PIXELS: u64 = 1 << 28;

/// An SVG as a PNG, `scale` pixels for each of its units, on white. All text is set in the font
/// the program carries: the fonts of the machine do not matter.
///
/// # Errors
/// When `svg` is none, or the bitmap would have no pixel or more than 2^28.
pub fn png(svg: &str, scale: f64) -> Result<Vec<u8>> {
    let options =
        Options { font_family: "DejaVu Sans".to_owned(), fontdb: fonts(), ..Options::default() };
    let failed = |what: &dyn std::fmt::Display| {
        Error::Failed(format!("cannot make a bitmap of the figure: {what}"))
    };
    let tree = Tree::from_str(svg, &options).map_err(|e| failed(&e))?;
    let side = |length: f32| (f64::from(length) * scale).round() as u32;
    let (width, height) = (side(tree.size().width()), side(tree.size().height()));
    let drawable = u64::from(width) * u64::from(height) <= MOST_PIXELS;
    let pixels = drawable.then(|| Pixmap::new(width, height)).flatten();
    let mut pixels = pixels.ok_or_else(|| {
        failed(&format!("{width} by {height} pixels cannot be drawn; choose another scale"))
    })?;
    pixels.fill(Color::WHITE);
    let transform = Transform::from_scale(
        width as f32 / tree.size().width(),
        height as f32 / tree.size().height(),
    );
    resvg::render(&tree, transform, &mut pixels.as_mut());
    // Nothing shines through: three channels are enough.
    let rgb: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out)
        .write_image(&rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| failed(&e))?;
    Ok(out)
}
