//! What an HDF5 file holds: its datasets.

use std::path::Path;

use astropt_core::seam::{Part, Section};
use astropt_core::{Error, Result};

use super::EXTENSIONS;
use super::file::File;

/// Most datasets that are listed.
const MOST: usize = 500;
/// Groups within groups that are looked into.
const DEEPEST: usize = 8;

/// The datasets of the file at `path`, with those in its groups.
///
/// # Errors
/// When it cannot be read as HDF5.
fn sections(path: &Path) -> Result<Vec<Section>> {
    let file = File::open(path).map_err(|message| Error::file(path, message))?;
    let mut parts = Vec::new();
    walk(&file, "", DEEPEST, &mut parts);
    Ok(vec![Section { title: "datasets".into(), parts }])
}

fn walk(file: &File, group: &str, deeper: usize, parts: &mut Vec<Part>) {
    let (groups, datasets) = file.members(group);
    let within = |name: String| if group.is_empty() { name } else { format!("{group}/{name}") };
    for name in datasets.into_iter().map(within) {
        if parts.len() == MOST {
            return;
        }
        parts.push(match file.dataset(&name) {
            Ok(dataset) => Part {
                holds: dataset.holds(),
                unit: dataset.units.clone(),
                shape: dataset.shape,
                name,
            },
            Err(why) => Part { holds: why, name, ..Part::default() },
        });
    }
    if deeper > 0 {
        groups.into_iter().map(within).for_each(|name| walk(file, &name, deeper - 1, parts));
    }
}

astropt_core::register_format!("an HDF5 file", EXTENSIONS, sections);
