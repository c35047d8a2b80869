//! Picture files -> arrays, for every source whose objects are pictures.
//!
//! The kind of file is told from its first bytes, not from its name. A file that ends too
//! early is an error, never a picture with a grey rest.

use std::io::{Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use astropt_core::observation::{Array, Data};
use image::{ColorType, DynamicImage, ImageDecoder};
use tiff::decoder::DecodingResult;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

/// Largest side of a picture, in pixels. A file that claims more is refused before memory
/// is set aside for it.
pub const MAX_SIDE: usize = 16_384;
/// Largest decoded picture, in bytes.
const MAX_BYTES: usize = 2 << 30;

/// Decodes a JPEG, PNG or TIFF file to `[height, width, bands]`.
///
/// JPEG and 8-bit files give [`Data::U8`], 16-bit files [`Data::U16`], floating-point TIFF
/// [`Data::F32`] or [`Data::F64`], wider integers [`Data::F64`]. Grey pictures have one band,
/// colour pictures three, in the order red, green, blue; palettes are resolved. A fully
/// opaque alpha channel is dropped.
///
/// # Errors
/// What is wrong with the file and what to do; the caller names the file.
pub fn decode(bytes: &[u8]) -> Result<Array, String> {
    let decode = match bytes {
        [] => return Err("the file is empty; fetch it again or remove it".to_owned()),
        [0xff, 0xd8, 0xff, ..] => jpeg,
        [0x89, b'P', b'N', b'G', ..] => png,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => tiff,
        _ => {
            let start = &bytes[..bytes.len().min(4)];
            return Err(format!(
                "not a JPEG, PNG or TIFF file (it starts with the bytes {start:02x?}); convert \
                 it or remove it"
            ));
        }
    };
    // A damaged file must not end a long run, even through a mistake in a decoder.
    catch_unwind(AssertUnwindSafe(|| decode(bytes)))
        .unwrap_or_else(|_| Err(damaged("picture", "the decoder gave up")))
}

fn damaged(kind: &str, why: impl std::fmt::Display) -> String {
    let why = why.to_string();
    let why = why.trim_start_matches("Format error decoding Png: ");
    // The library shows its own structures, which say nothing to a person.
    let why = why.split(" while decoding ").next().unwrap_or_default();
    let why = if why.contains('{') { "its parts are out of order" } else { why };
    format!(
        "the {kind} cannot be decoded ({why}); it is damaged or cut short: fetch it again or \
         remove it"
    )
}

/// Refuses pictures too large to be what they claim.
fn check_size(width: usize, height: usize, bytes_per_pixel: usize) -> Result<(), String> {
    let bytes = width.saturating_mul(height).saturating_mul(bytes_per_pixel);
    if width.max(height) > MAX_SIDE || bytes > MAX_BYTES {
        return Err(format!(
            "the picture claims {height} x {width} pixels; at most {MAX_SIDE} on a side and \
             {} GiB are read: cut it into stamps",
            MAX_BYTES >> 30
        ));
    }
    Ok(())
}

fn array(height: usize, width: usize, bands: usize, data: Data) -> Result<Array, String> {
    Array::new(vec![height, width, bands], data).map_err(|error| error.to_string())
}

fn jpeg(bytes: &[u8]) -> Result<Array, String> {
    let fail = |error| damaged("JPEG", error);
    if !jpeg_ends(bytes) {
        return Err(damaged("JPEG", "its end is missing"));
    }
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fail)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (space, bands) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => (ColorSpace::RGB, 3),
        other => {
            return Err(format!("the JPEG is in the colours {other:?}; convert it to grey or RGB"));
        }
    };
    check_size(width, height, bands)?;
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(fail)?;
    array(height, width, bands, Data::U8(pixels))
}

/// Whether a JPEG has its end-of-image marker. The decoder's strict mode misses a file that
/// lacks only the last few bytes.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const END: [u8; 2] = [0xff, 0xd9];
    const SCAN: [u8; 2] = [0xff, 0xda];
    // Neither marker can occur in the pixels' code. An end that a scan follows is that of a
    // thumbnail in the header.
    let end = bytes.windows(2).rposition(|marker| marker == END);
    end.is_some_and(|end| !bytes[end..].windows(2).any(|marker| marker == SCAN))
}

fn png(bytes: &[u8]) -> Result<Array, String> {
    let fail = |error| damaged("PNG", error);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_BYTES as u64);
    let decoder =
        image::codecs::png::PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let kind = decoder.color_type();
    check_size(width, height, kind.bytes_per_pixel().into())?;
    let bands = if kind.has_color() { 3 } else { 1 };
    let data = match DynamicImage::from_decoder(decoder).map_err(fail)? {
        DynamicImage::ImageLuma8(image) => Data::U8(image.into_raw()),
        DynamicImage::ImageRgb8(image) => Data::U8(image.into_raw()),
        DynamicImage::ImageLuma16(image) => Data::U16(image.into_raw()),
        DynamicImage::ImageRgb16(image) => Data::U16(image.into_raw()),
        DynamicImage::ImageLumaA8(image) => Data::U8(opaque(&image, bands)?),
        DynamicImage::ImageRgba8(image) => Data::U8(opaque(&image, bands)?),
        DynamicImage::ImageLumaA16(image) => Data::U16(opaque(&image, bands)?),
        DynamicImage::ImageRgba16(image) => Data::U16(opaque(&image, bands)?),
        _ => return Err(unknown("PNG", kind)),
    };
    array(height, width, bands, data)
}

fn unknown(kind: &str, colours: ColorType) -> String {
    format!("the {kind} holds pixels of type {colours:?}; convert it to 8 or 16 bits per channel")
}

/// The pixels of `bands` channels and an alpha channel, without the latter.
///
/// # Errors
/// When a pixel is transparent: what it would look like is not for a reader to decide.
fn opaque<T: Copy + PartialEq + MaxValue>(pixels: &[T], bands: usize) -> Result<Vec<T>, String> {
    let mut out = Vec::with_capacity(pixels.len() / (bands + 1) * bands);
    for pixel in pixels.chunks_exact(bands + 1) {
        if pixel[bands] != T::MAX {
            return Err("the picture has transparent pixels; put it on a background first, \
                        such as with `magick IN -background black -alpha remove OUT`"
                .to_owned());
        }
        out.extend_from_slice(&pixel[..bands]);
    }
    Ok(out)
}

/// The largest number of a type: full opacity.
trait MaxValue {
    const MAX: Self;
}

impl MaxValue for u8 {
    const MAX: Self = u8::MAX;
}

impl MaxValue for u16 {
    const MAX: Self = u16::MAX;
}

fn tiff(bytes: &[u8]) -> Result<Array, String> {
    use tiff::ColorType as Colour;
    let fail = |error| damaged("TIFF", error);
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = MAX_BYTES;
    limits.intermediate_buffer_size = MAX_BYTES;
    let mut decoder =
        tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(fail)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(fail)?;
    let (width, height) = (width as usize, height as usize);
    let colours = decoder.colortype().map_err(fail)?;
    let (bands, alpha) = match colours {
        Colour::Gray(_) => (1, false),
        Colour::RGB(_) => (3, false),
        Colour::GrayA(_) => (1, true),
        Colour::RGBA(_) => (3, true),
        Colour::Multiband { num_samples, .. } => (num_samples.into(), false),
        other => return Err(format!("the TIFF is in the colours {other:?}; convert it to RGB")),
    };
    let channels = bands + usize::from(alpha);
    check_size(width, height, channels * usize::from(colours.bit_depth()).div_ceil(8))?;
    let planar = decoder.find_tag_unsigned::<u16>(tiff::tags::Tag::PlanarConfiguration);
    if channels > 1 && planar.map_err(fail)? == Some(2) {
        return Err("the TIFF stores its bands one after the other; rewrite it with interleaved \
                    bands, such as with `tiffcp -p contig IN OUT`"
            .to_owned());
    }
    let data = match (decoder.read_image().map_err(fail)?, alpha) {
        (DecodingResult::U8(v), false) => Data::U8(v),
        (DecodingResult::U16(v), false) => Data::U16(v),
        (DecodingResult::F32(v), false) => Data::F32(v),
        (DecodingResult::F64(v), false) => Data::F64(v),
        (DecodingResult::I16(v), false) => Data::F32(v.into_iter().map(f32::from).collect()),
        (DecodingResult::I32(v), false) => Data::F64(v.into_iter().map(f64::from).collect()),
        (DecodingResult::U32(v), false) => Data::F64(v.into_iter().map(f64::from).collect()),
        (DecodingResult::U8(v), true) => Data::U8(opaque(&v, bands)?),
        (DecodingResult::U16(v), true) => Data::U16(opaque(&v, bands)?),
        _ => {
            return Err(format!(
                "the TIFF holds pixels of type {colours:?}; convert it to 8 or 16 bits or to \
                 32-bit floating point"
            ));
        }
    };
    one_page(&mut decoder)?;
    array(height, width, bands, data)
}

/// Refuses a TIFF of several pictures, of which one alone would be read. Smaller versions of the same
/// picture are none.
fn one_page<R: Read + Seek>(decoder: &mut tiff::decoder::Decoder<R>) -> Result<(), String> {
    const REDUCED: u32 = 1;
    let fail = |error| damaged("TIFF", error);
    while decoder.more_images() {
        decoder.next_image().map_err(fail)?;
        let kind = decoder.find_tag_unsigned::<u32>(tiff::tags::Tag::NewSubfileType);
        if kind.map_err(fail)?.is_none_or(|kind| kind & REDUCED == 0) {
            return Err(
                "the TIFF holds several pictures; write each into a file of its own, such \
                        as with `tiffsplit IN`"
                    .to_owned(),
            );
        }
    }
    Ok(())
}
