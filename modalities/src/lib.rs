//! AstroPT's own modalities and sources.
//!
//! | kind | seam | module |
//! |---|---|---|
//! | `codes` | modality | [`codes`]: integers of a declared vocabulary |
//! | `fits` | source | [`sources::fits`]: FITS images, cubes, spectra and light curves, by HDU and column |
//! | `galaxy-image` | modality | [`galaxy_image`]: pixels -> standardised patches in spiral order |
//! | `hdf5` | source | [`sources::hdf5`]: rows of datasets in HDF5 files |
//! | `hub` | source | [`sources::hub`]: Parquet datasets on the Hugging Face hub, fetched as needed |
//! | `scalar` | modality | [`scalar`]: numbers of a catalogue -> one token |
//! | `spectrum` | modality | [`spectrum`]: flux -> windows of samples, placed by wavelength |
//! | `time-series` | modality | [`time_series`]: irregular samples -> tokens, placed by time |
//! | `tokens` | modality | [`tokens`]: ready-made tokens, as another program made them |
//! | `image-folder` | source | [`sources::image_folder`]: JPEG, PNG and TIFF files with a table of labels |
//! | `join` | source | [`sources::join`]: several sources, their objects matched by id |
//! | `npz` | source | [`sources::npz`]: NumPy arrays whose first axis is the object |
//! | `parquet` | source | [`sources::parquet`]: pictures, spectra and light curves in Parquet columns |
//! | `scalar` | modality | [`scalar`]: numbers of a catalogue -> one token |
//! | `spectrum` | modality | [`spectrum`]: flux -> windows of samples, placed by wavelength |
//! | `synthetic` | source | [`sources::synthetic`]: a survey of simulated galaxies, no file needed |
//! | `table` | source | [`sources::table`]: CSV or Parquet with a row per sample or per object |
//! | `time-series` | modality | [`time_series`]: irregular samples -> tokens, placed by time |
//!
//! Each registers itself with the seams of `astropt_core`; a program that links this crate
//! (`use astropt_modalities as _;`) can name them in its recipes.

pub mod codes;
mod fields;
pub mod galaxy_image;
mod marks;
mod normalise;
mod plot;
pub mod scalar;
pub mod sources;
pub mod spectrum;
pub mod time_series;
pub mod tokens;
