//! What files of NumPy hold: their arrays.

use std::path::Path;

use astropt_core::Result;
use astropt_core::seam::{Part, Section};

use super::archive::Archive;

/// The arrays of the file at `path`.
///
/// # Errors
/// When it cannot be read.
fn sections(path: &Path) -> Result<Vec<Section>> {
    let archive = Archive::open(path.to_owned())?;
    let parts = archive.headers().map(|(name, header)| match header {
        Ok(header) => Part {
            name: name.to_owned(),
            shape: header.shape.clone(),
            holds: header.holds(),
            unit: None,
        },
        Err(why) => Part { name: name.to_owned(), holds: why.clone(), ..Part::default() },
    });
    Ok(vec![Section { title: "arrays".into(), parts: parts.collect() }])
}

astropt_core::register_format!("arrays of NumPy", &["npz", "npy"], sections);
