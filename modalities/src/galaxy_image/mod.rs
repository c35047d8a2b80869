//! The modality `galaxy-image`: an image becomes square patches, read from the centre out.
//!
//! ```text
//! image [H, W, bands] -> crop -> stretch -> axes -> patches [p, p, bands] -> standardise
//!                     -> tokens [T, p * p * bands] in spiral or raster order
//! ```
//!
//! A token is a patch laid out as (row, column, band), band fastest. The mean and scale
//! that standardisation takes out of it stay beside it in `Tokens::affine`, so that
//! [`Modality::detokenise`] returns the pixels within rounding. Patches that a model made have
//! none and are returned standardised, without a unit: with `standardise = "none"`, and a stretch
//! that brings pixels to order 1, they are pixels.

mod config;
mod dead;
mod import;
mod planes;
mod preview;
mod recording;
mod spiral;
mod tokenise;

pub use crate::normalise::Stretch;
pub use config::{
    Axes, Bad, Crop, GalaxyImageConfig, Order, Orientation, PreviewStyle, Standardise,
};
pub use spiral::spiral;

use std::borrow::Cow;

use astropt_core::observation::{Array, Data, Field, Observation};
use astropt_core::seam::{Modality, Preview};
use astropt_core::tokens::{Positions, TokenSpec, Tokens, Values};
use astropt_core::{Error, Result};

use crate::fields::{check_unit, example};
use tokenise::Layout;

/// The tokeniser that [`GalaxyImageConfig`] builds.
#[derive(Debug)]
pub struct GalaxyImage {
    config: GalaxyImageConfig,
    layout: Layout,
    spec: TokenSpec,
}

/// An image checked against the configuration, and where its window starts.
struct Window<'a> {
    image: Cow<'a, Data>,
    /// Pixels in a row of the image.
    width: usize,
    top: usize,
    left: usize,
}

/// Height, width and bands of an image; one of two axes has one band.
fn axes(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [height, width, bands] => Some([height, width, bands]),
        [height, width] => Some([height, width, 1]),
        _ => None,
    }
}

impl GalaxyImage {
    /// The tokeniser of a configuration that [`GalaxyImageConfig`] has checked.
    fn new(config: GalaxyImageConfig) -> Self {
        let side = config.size / config.patch;
        let order = match config.order {
            Order::Raster => (0..side * side).collect(),
            Order::Spiral => spiral(side, config.orientation.unwrap_or_default()),
        };
        let spec = TokenSpec {
            values: Values::Continuous { width: config.patch * config.patch * config.bands },
            positions: Positions::Index { max: config.positions.unwrap_or(order.len()) },
            loss_weight: config.loss_weight,
            max_tokens: order.len(),
        };
        let layout = Layout {
            patch: config.patch,
            side,
            bands: config.bands,
            transpose: config.axes == Axes::Hub,
            order,
        };
        Self { config, layout, spec }
    }

    /// The image of `observation`, checked; `None` when it has none.
    fn window<'a>(&self, observation: &'a Observation) -> Result<Option<Window<'a>>> {
        let Some(field) = observation.fields.get(&self.config.field) else {
            return Ok(None);
        };
        let refuse = |message: String| {
            Err(Error::object(&observation.id, format!("field {:?} {message}", self.config.field)))
        };
        check_unit(observation, &self.config.field, self.config.unit.as_deref())?;
        let image = &field.array;
        let Some([height, width, bands]) = axes(&image.shape) else {
            return refuse(format!(
                "has shape {:?}; an image is [height, width, bands], or [height, width] of one band",
                image.shape
            ));
        };
        let count = height.checked_mul(width).and_then(|n| n.checked_mul(bands));
        if count != Some(image.data.len()) {
            return refuse(format!(
                "says {height} x {width} x {bands} but holds {} numbers",
                image.data.len()
            ));
        }
        let least = self.config.planes.iter().flatten().max().map_or(0, |&plane| plane + 1);
        if bands < least {
            return refuse(format!(
                "has {bands} planes, and `planes` asks for plane {}",
                least - 1
            ));
        }
        if self.config.planes.is_none() && bands != self.config.bands {
            return refuse(format!(
                "has {bands} bands, not {}; set `bands` to what the images have, or list those \
                 to read as `planes`",
                self.config.bands
            ));
        }
        let size = self.config.size;
        if height.min(width) < size {
            return refuse(format!(
                "is {height} x {width} pixels, smaller than the {size} x {size} of the recipe; \
                 lower `size` or leave small images out"
            ));
        }
        if self.config.crop == Crop::Refuse && (height, width) != (size, size) {
            return refuse(format!(
                "is {height} x {width} pixels, not {size} x {size}; `crop = \"centre\"` would \
                 take the middle of it"
            ));
        }
        let used = self.layout.pixels();
        let picked = match &self.config.planes {
            Some(planes) => Cow::Owned(planes::pick(&image.data, bands, planes)),
            None => Cow::Borrowed(&image.data),
        };
        let image = match self.config.bad {
            Bad::Refuse => picked,
            Bad::Median => planes::fill(picked, self.config.bands),
        };
        Ok(Some(Window { image, width, top: (height - used) / 2, left: (width - used) / 2 }))
    }

    /// Where the first pixel that is not a finite number is.
    fn bad_pixel(&self, observation: &Observation, window: &Window<'_>) -> Error {
        let numbers = window.image.to_f32();
        let bad = numbers.iter().filter(|v| !v.is_finite()).count();
        let first = numbers.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let (pixel, band) = (first / self.config.bands, first % self.config.bands);
        Error::object(
            &observation.id,
            format!(
                "field {:?} has {bad} values that are NaN or too large, the first at row {}, \
                 column {}, band {band}; mask them or leave the object out",
                self.config.field,
                pixel / window.width,
                pixel % window.width
            ),
        )
    }

    /// Whether the numbers of `tokens` can be brought back to the file's units.
    fn has_units(&self, tokens: &Tokens) -> bool {
        self.config.standardise == Standardise::None || !tokens.affine.is_empty()
    }

    /// The window's numbers as `f32` after the stretch. The rest of the image, which may be
    /// far larger, costs nothing.
    fn stretched(&self, window: &Window<'_>) -> Vec<f32> {
        let side = self.layout.pixels();
        let corner = (window.top, window.left);
        let cut = planes::cut(&window.image, (window.width, self.config.bands), corner, side);
        match self.config.stretch {
            Stretch::None => cut.to_f32().into_owned(),
            stretch => {
                cut.to_f32().iter().map(|&flux| stretch.apply(f64::from(flux)) as f32).collect()
            }
        }
    }
}

impl Modality for GalaxyImage {
    fn spec(&self) -> TokenSpec {
        self.spec.clone()
    }

    fn dead_part(&self, tokens: &Tokens) -> Option<String> {
        let Layout { patch, bands, .. } = self.layout;
        let band = dead::dead_band(tokens, patch * patch, bands)?;
        Some(format!("band {band} of 0 to {} is one number throughout", bands - 1))
    }

    fn choices(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let order = match config.order {
            Order::Raster => "row by row from the top left".to_owned(),
            Order::Spiral => {
                spiral::in_words(self.layout.side, config.orientation.unwrap_or_default())
            }
        };
        let axes = match config.axes {
            Axes::File => "as in the file; the paper's program swapped x and y for hub images",
            Axes::Hub => "x and y swapped, as the paper's program did for images from the hub",
        };
        let standardise = match config.standardise {
            Standardise::Patch => "each patch to mean 0 and standard deviation 1",
            Standardise::None => "none",
        };
        let (axes, standardise) = (axes.to_owned(), standardise.to_owned());
        [("Patch order", order), ("Image axes", axes), ("Standardisation", standardise)]
            .map(|(name, choice)| (name.to_owned(), choice))
            .into()
    }

    fn tokenise(&self, observation: &Observation) -> Result<Option<Tokens>> {
        let Some(window) = self.window(observation)? else {
            return Ok(None);
        };
        let standardise = self.config.standardise == Standardise::Patch;
        let (width, corner) = (window.width, (window.top, window.left));
        let tokens = match (&*window.image, self.config.stretch) {
            (Data::U8(pixels), Stretch::None) => {
                self.layout.tokens(pixels, width, corner, standardise)
            }
            (Data::U16(pixels), Stretch::None) => {
                self.layout.tokens(pixels, width, corner, standardise)
            }
            _ => {
                let pixels = self.stretched(&window);
                self.layout.tokens(&pixels, self.layout.pixels(), (0, 0), standardise)
            }
        };
        tokens.map(Some).ok_or_else(|| self.bad_pixel(observation, &window))
    }

    fn detokenise(&self, tokens: &Tokens) -> Result<Array> {
        tokens.check(&self.spec)?;
        if tokens.len != self.spec.max_tokens {
            return Err(Error::Failed(format!(
                "{} tokens do not make an image; {} do",
                tokens.len, self.spec.max_tokens
            )));
        }
        let mut pixels = self.layout.pixels_of(tokens);
        // Without the removed mean and scale the numbers are not in stretched units.
        if self.has_units(tokens) {
            for pixel in &mut pixels {
                *pixel = self.config.stretch.undo(f64::from(*pixel)) as f32;
            }
        }
        let side = self.layout.pixels();
        Array::new(vec![side, side, self.config.bands], Data::F32(pixels))
    }

    fn reconstruct(&self, tokens: &Tokens) -> Result<Option<Observation>> {
        let unit = self.config.unit.clone().filter(|_| self.has_units(tokens));
        let field = Field { array: self.detokenise(tokens)?, unit };
        let fields = [(self.config.field.clone(), field)].into();
        Ok(Some(Observation { fields, ..Observation::default() }))
    }

    /// A round galaxy of exponential profile off the middle, brighter in later bands, with a margin
    /// where the window is cut out, and a pixel to be filled where such are.
    fn example(&self) -> Option<Observation> {
        let config = &self.config;
        let side = config.size + if config.crop == Crop::Centre { 3 } else { 0 };
        let planes = config.planes.iter().flatten().max().map_or(config.bands, |last| last + 1);
        let scale = side as f64 / 6.0;
        let flux = |k: usize| {
            let (pixel, plane) = (k / planes, k % planes);
            let off = |place: usize, centre: f64| place as f64 - centre * side as f64;
            let radius = off(pixel / side, 0.45).hypot(off(pixel % side, 0.55));
            // Noise that is the same everywhere.
            let noise = ((k as u64).wrapping_mul(2_654_435_761) >> 7) % 17;
            (150.0 + 60.0 * (plane + 1) as f64 / planes as f64) * (-radius / scale).exp()
                + noise as f64
        };
        let count = side * side * planes;
        let data = if config.stretch == Stretch::None && config.bad == Bad::Refuse {
            Data::U8((0..count).map(|k| flux(k) as u8).collect())
        } else {
            let mut pixels: Vec<f32> = (0..count).map(|k| flux(k) as f32 / 100.0).collect();
            if config.bad == Bad::Median {
                pixels[count / 2] = f32::NAN;
            }
            Data::F32(pixels)
        };
        let array = Array::new(vec![side, side, planes], data).ok()?;
        let field = Field { array, unit: config.unit.clone() };
        Some(Observation { fields: [(config.field.clone(), field)].into(), ..example() })
    }

    fn is_even(&self) -> bool {
        true
    }

    /// All patches.
    fn blank(&self) -> Option<Tokens> {
        let len = self.spec.max_tokens;
        let values = vec![0.0; len * self.spec.values.size()].into();
        Some(Tokens { len, values, indices: (0..len as u32).collect(), ..Tokens::default() })
    }

    fn preview(&self, tokens: &Tokens) -> Result<Option<Preview>> {
        let image = self.detokenise(tokens)?;
        let in_units = self.has_units(tokens);
        let scaling = match self.config.preview {
            PreviewStyle::Bytes if in_units => preview::Scaling::Bytes,
            PreviewStyle::Bytes => preview::Scaling::Linear,
            PreviewStyle::Asinh => preview::Scaling::Asinh,
        };
        Ok(Some(preview::picture(
            &image.data.to_f32(),
            self.layout.pixels(),
            self.config.bands,
            self.config.rgb_bands(),
            scaling,
        )))
    }

    /// The window averaged over equal areas to a grid of 16 x 16 cells, or of as many as
    /// there are patches when those are fewer, in stretched units: `[cells, cells, bands]`.
    fn raw_features(&self, observation: &Observation) -> Result<Option<Vec<f32>>> {
        let Some(window) = self.window(observation)? else {
            return Ok(None);
        };
        let features = preview::average(
            &self.stretched(&window),
            self.config.bands,
            self.layout.pixels(),
            self.layout.side.min(16),
        );
        if features.iter().any(|v| !v.is_finite()) {
            return Err(self.bad_pixel(observation, &window));
        }
        Ok(Some(features))
    }
}
