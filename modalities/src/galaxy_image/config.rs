//! What a recipe's `[modality.NAME]` table of kind `galaxy-image` can say.

use astropt_core::seam::{Modality, ModalityConfig};
use astropt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::GalaxyImage;
use crate::normalise::Stretch;

/// Largest side of a window, in pixels: what an image may have to be decoded.
const MAX_SIZE: usize = crate::sources::decode::MAX_SIDE;
/// Largest number of bands: far above any survey's filters, far below what exhausts memory.
const MAX_BANDS: usize = 256;

/// Configuration of the modality `galaxy-image`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GalaxyImageConfig {
    /// Field of the observation that holds the image, `[height, width, bands]`.
    #[serde(default = "default_field")]
    pub field: String,
    /// Side of the square window that is read, in pixels.
    pub size: usize,
    /// Side of a patch, in pixels; a token has `patch * patch * bands` numbers.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Number of bands of every image.
    #[serde(default = "default_bands")]
    pub bands: usize,
    /// The planes that are read as its `bands`, counted from 0, of an image with more of
    /// them: for planes that are no bands of one another, such as an alert's science, template
    /// and difference cutouts, each a modality of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planes: Option<Vec<usize>>,
    /// Unit of the pixels, such as `nanomaggy`. Images that state another are refused; nothing
    /// is converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What is done about pixels that are not finite.
    #[serde(default)]
    pub bad: Bad,
    /// What to do with an image larger than `size`, and with a `size` that `patch` does
    /// not divide. An image smaller than `size` is refused in any case.
    #[serde(default)]
    pub crop: Crop,
    /// Whether each patch is brought to mean 0 and standard deviation 1.
    #[serde(default)]
    pub standardise: Standardise,
    /// Function applied to every pixel before patching.
    #[serde(default)]
    pub stretch: Stretch,
    /// The order in which patches are read.
    #[serde(default)]
    pub order: Order,
    /// Which way the spiral lies (default `astropt`); only for `order = "spiral"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Orientation>,
    /// Which axis of the image is called x.
    #[serde(default)]
    pub axes: Axes,
    /// Rows of the position table; the number of tokens by default. A larger table (the
    /// paper's has 1024) lets weights move between window sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Weight of this modality's loss.
    #[serde(default = "default_loss_weight")]
    pub loss_weight: f32,
    /// How numbers become an 8-bit picture.
    #[serde(default)]
    pub preview: PreviewStyle,
    /// Bands shown as red, green and blue, counted from 0. By default, one band is grey;
    /// with `preview = "bytes"` the first three are R, G, B as in a JPEG; with `"asinh"`
    /// bands are taken to run from short to long wavelength, and the last is red.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rgb: Option<[usize; 3]>,
}

/// What is done about pixels that are not finite, such as those outside the chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bad {
    /// The image is refused.
    #[default]
    Refuse,
    /// They take the median of the finite pixels of their band. An image with a band that
    /// has none is refused.
    Median,
}

/// What to do with pixels that do not fit whole patches of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// Take the middle: of a larger image, and of a `size` that is no multiple of `patch`
    /// the largest multiple. Where the margin is odd, the extra pixel is cut off below
    /// and to the right.
    #[default]
    Centre,
    /// Refuse them.
    Refuse,
}

/// How a patch is normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standardise {
    /// `(x - mean) / (std + 1e-8)`, over the pixels and bands of the patch together, with
    /// the unbiased standard deviation (n - 1), as the paper's program does.
    #[default]
    Patch,
    /// Not at all.
    None,
}

/// The order in which patches become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// From the centre out.
    #[default]
    Spiral,
    /// Row by row from the top-left corner.
    Raster,
}

/// Which way the spiral lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// As the program that made the paper's numbers: it ends top-left.
    #[default]
    Astropt,
    /// As the paper's figure 1: turned by 180 degrees, it ends bottom-right.
    #[serde(rename = "figure-1")]
    Figure1,
}

/// Which axis of the image is called x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axes {
    /// Rows are rows, as in the file.
    #[default]
    File,
    /// Rows and columns are swapped before patching, as the paper's program does with
    /// images that come from the Hugging Face hub.
    Hub,
}

/// How numbers become an 8-bit picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreviewStyle {
    /// The numbers are 0 to 255 already; others are clamped.
    #[default]
    Bytes,
    /// Linear fluxes: an arcsinh stretch from the sky (the median) to the 99.7th percentile.
    Asinh,
}

fn default_field() -> String {
    "image".to_owned()
}

fn default_patch() -> usize {
    16
}

fn default_bands() -> usize {
    3
}

fn default_loss_weight() -> f32 {
    1.0
}

impl GalaxyImageConfig {
    /// Bands shown as red, green and blue; see [`rgb`](Self::rgb).
    pub(super) fn rgb_bands(&self) -> [usize; 3] {
        self.rgb.unwrap_or(match (self.bands, self.preview) {
            (1, _) => [0, 0, 0],
            (2, _) => [1, 1, 0],
            (_, PreviewStyle::Bytes) => [0, 1, 2],
            (bands, PreviewStyle::Asinh) => [bands - 1, bands / 2, 0],
        })
    }

    fn check_sizes(&self) -> Result<(), String> {
        let Self { size, patch, bands, .. } = *self;
        if patch == 0 || patch > size {
            return Err(format!(
                "`patch` is {patch} pixels; it must lie between 1 and `size`, {size}"
            ));
        }
        if size > MAX_SIZE {
            return Err(format!("`size` is {size} pixels; at most {MAX_SIZE} are read"));
        }
        if bands == 0 || bands > MAX_BANDS {
            return Err(format!("`bands` is {bands}; it must lie between 1 and {MAX_BANDS}"));
        }
        if let Some(planes) = &self.planes
            && (planes.len() != bands || planes.iter().any(|&plane| plane >= MAX_BANDS))
        {
            return Err(format!(
                "`planes` lists {} planes for `bands` = {bands}; list that many, each below \
                 {MAX_BANDS}",
                planes.len()
            ));
        }
        if self.crop == Crop::Refuse && !size.is_multiple_of(patch) {
            return Err(format!(
                "`size`, {size}, is no multiple of `patch`, {patch}; set it to {}, or use \
                 `crop = \"centre\"` to leave the rest out",
                size / patch * patch
            ));
        }
        if self.standardise == Standardise::Patch && patch * patch * bands < 2 {
            return Err("a patch of one number has no standard deviation; use a larger `patch` \
                        or `standardise = \"none\"`"
                .to_owned());
        }
        Ok(())
    }

    fn check_rest(&self) -> Result<(), String> {
        let tokens = (self.size / self.patch).pow(2);
        if let Some(positions) = self.positions
            && positions < tokens
        {
            return Err(format!(
                "`positions` is {positions}, but an image makes {tokens} tokens; it needs at \
                 least as many"
            ));
        }
        self.stretch.check("stretch")?;
        if !(self.loss_weight.is_finite() && self.loss_weight >= 0.0) {
            return Err(format!("`loss_weight` is {}; it must be 0 or more", self.loss_weight));
        }
        if let Some(band) = self.rgb.iter().flatten().find(|&&band| band >= self.bands) {
            return Err(format!("`rgb` names band {band}; bands run from 0 to {}", self.bands - 1));
        }
        Ok(())
    }
}

#[typetag::serde(name = "galaxy-image")]
impl ModalityConfig for GalaxyImageConfig {
    fn build(&self) -> Result<Box<dyn Modality>> {
        self.check_sizes().and_then(|()| self.check_rest()).map_err(Error::Misuse)?;
        Ok(Box::new(GalaxyImage::new(self.clone())))
    }
}

astropt_core::register_modality!(
    "galaxy-image",
    "Images as standardised patches, read in a spiral from the centre out",
    "size = 96\npatch = 16\nbands = 3\norder = \"spiral\"\nstandardise = \"patch\"",
    GalaxyImageConfig
);

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Result<(), String> {
        let table = text.parse().expect("valid TOML");
        let config: GalaxyImageConfig =
            astropt_core::seam::parse_config(table).map_err(|e| e.message)?;
        config.build().map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn contradictions_are_refused_by_the_name_of_the_key() {
        for (text, key) in [
            ("patch = 8", "size"),
            ("size = 8", "`patch`"),
            ("size = 8\npatch = 0", "`patch`"),
            ("size = 99999", "`size`"),
            ("size = 20\npatch = 8\ncrop = 'refuse'", "`size`"),
            ("size = 32\nbands = 0", "`bands`"),
            ("size = 4\npatch = 1\nbands = 1", "standard deviation"),
            ("size = 32\npositions = 3", "`positions`"),
            ("size = 32\nstretch = { arcsinh = 0 }", "`stretch.arcsinh`"),
            ("size = 32\nplanes = [0, 1]", "`planes`"),
            ("size = 32\nplanes = [0, 1, 256]", "`planes`"),
            ("size = 32\nloss_weight = -1.0", "`loss_weight`"),
            ("size = 32\nrgb = [0, 1, 3]", "`rgb`"),
        ] {
            let error = build(text).expect_err(text);
            assert!(error.contains(key), "{text}: {error}");
        }
        build("size = 32\nstretch = { arcsinh = 0.1 }\npositions = 1024").expect("valid");
    }
}
