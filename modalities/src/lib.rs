//! AstroPT's own modalities and sources.
//!
//! | kind | seam | module |
//! |---|---|---|
//! | `fits` | source | [`sources::fits`]: FITS images, cubes, spectra and light curves, by HDU and column |
//! | `galaxy-image` | modality | [`galaxy_image`]: pixels -> standardised patches in spiral order |
//! | `hdf5` | source | [`sources::hdf5`]: rows of datasets in HDF5 files |
//! | `hub` | source | [`sources::hub`]: Parquet datasets on the Hugging Face hub, fetched as needed |
//! | `image-folder` | source | [`sources::image_folder`]: JPEG, PNG and TIFF files with a table of labels |
//! | `parquet` | source | [`sources::parquet`]: pictures, spectra and light curves in Parquet columns |
//! | `synthetic` | source | [`sources::synthetic`]: a survey of simulated galaxies, no file needed |
//!
//! Each registers itself with the seams of `astropt_core`; a program that links this crate
//! (`use astropt_modalities as _;`) can name them in its recipes.

pub mod galaxy_image;
pub mod sources;
