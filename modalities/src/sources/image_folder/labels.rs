//! Labels of images, matched to a table's rows by name.

use std::collections::HashSet;

use astropt_core::observation::{Label, Labels};
use astropt_core::{Error, Result};

use super::listing::{Listing, Names};
use super::table::{Cell, Table};

/// How many column names an error lists before it stops.
const LISTED: usize = 12;

/// The labels of every image, column by column.
#[derive(Debug)]
pub(super) struct LabelTable {
    columns: Vec<(String, Column)>,
}

/// One label for every image, in the least space its cells allow.
#[derive(Debug)]
enum Column {
    /// NaN where unknown.
    Numbers(Vec<f64>),
    Labels(Vec<Option<Label>>),
}

impl Column {
    fn set(&mut self, image: usize, label: Option<Label>) {
        match (&mut *self, label) {
            (_, None) => {}
            (Self::Numbers(numbers), Some(Label::Number(number))) => numbers[image] = number,
            (Self::Numbers(numbers), label) => {
                let known = |&x: &f64| (!x.is_nan()).then_some(Label::Number(x));
                let mut labels: Vec<_> = numbers.iter().map(known).collect();
                labels[image] = label;
                *self = Self::Labels(labels);
            }
            (Self::Labels(labels), label) => labels[image] = label,
        }
    }

    /// Makes the label of `image` unknown.
    fn clear(&mut self, image: usize) {
        match self {
            Self::Numbers(numbers) => numbers[image] = f64::NAN,
            Self::Labels(labels) => labels[image] = None,
        }
    }

    fn get(&self, image: usize) -> Option<Label> {
        match self {
            Self::Numbers(numbers) => {
                let number = *numbers.get(image)?;
                (!number.is_nan()).then_some(Label::Number(number))
            }
            Self::Labels(labels) => labels.get(image)?.clone(),
        }
    }
}

impl LabelTable {
    /// Finds the column that names the images (or takes `name_column`) and keeps the labels
    /// of those it names.
    ///
    /// # Errors
    /// When the table cannot be read or names none of the images.
    pub(super) fn load(
        table: &Table,
        listing: &Listing,
        name_column: Option<&str>,
    ) -> Result<Self> {
        let names = listing.names();
        let candidates = candidates(table, name_column)?;
        let key = choose(table, listing, &names, &candidates)?;
        let unknown = vec![f64::NAN; listing.len()];
        let mut columns: Vec<_> =
            table.columns().iter().map(|c| (c.clone(), Column::Numbers(unknown.clone()))).collect();
        let mut named = vec![false; listing.len()];
        let mut disputed = HashSet::new();
        table.for_each(&mut |cells| {
            let Some(image) = find(&names, cells, key) else { return };
            let again = std::mem::replace(&mut named[image], true);
            for (k, ((_, column), cell)) in columns.iter_mut().zip(cells).enumerate() {
                let label = cell.label();
                if !again {
                    column.set(image, label);
                } else if column.get(image) != label {
                    disputed.insert((k, image));
                }
            }
        })?;
        for (k, image) in disputed {
            columns[k].1.clear(image);
        }
        columns.remove(key);
        Ok(Self { columns })
    }

    /// Labels of image `image`.
    pub(super) fn of(&self, image: usize) -> Labels {
        self.columns
            .iter()
            .filter_map(|(name, column)| Some((name.clone(), column.get(image)?)))
            .collect()
    }
}

fn find(names: &Names<'_>, cells: &[Cell<'_>], column: usize) -> Option<usize> {
    cells.get(column)?.with_name(|name| names.find(name))
}

/// The columns that may name the images.
fn candidates(table: &Table, name_column: Option<&str>) -> Result<Vec<usize>> {
    if let Some(name) = name_column {
        let found = table.columns().iter().position(|column| column == name);
        return found.map(|column| vec![column]).ok_or_else(|| {
            Error::file(
                table.path(),
                format!("no column {name:?} (`name_column`); it has {}", list(table.columns())),
            )
        });
    }
    // A count such as "1" may well be the stem of some file.
    let mut may_name: Vec<bool> = table.columns().iter().map(|c| is_called_a_name(c)).collect();
    table.for_each(&mut |cells| {
        for (may, cell) in may_name.iter_mut().zip(cells) {
            *may |= matches!(cell.label(), Some(Label::Text(_)));
        }
    })?;
    Ok((0..may_name.len()).filter(|&column| may_name[column]).collect())
}

/// Whether a column's heading says that it names things.
fn is_called_a_name(heading: &str) -> bool {
    let heading = heading.to_lowercase();
    let words = ["name", "file", "image", "path", "stem", "object", "objid"];
    words.iter().any(|word| heading.contains(word))
        || heading.split(|c: char| !c.is_alphanumeric()).any(|word| word == "id")
}

/// The candidate that names most images.
fn choose(
    table: &Table,
    listing: &Listing,
    names: &Names<'_>,
    candidates: &[usize],
) -> Result<usize> {
    let (mut rows, mut example) = (0usize, None);
    let mut matches = vec![0usize; candidates.len()];
    let mut found = vec![None; candidates.len()];
    // A pair of candidates that name different images in one row.
    let mut disagree = vec![vec![false; candidates.len()]; candidates.len()];
    table.for_each(&mut |cells| {
        rows += 1;
        for (k, &column) in candidates.iter().enumerate() {
            found[k] = find(names, cells, column);
            matches[k] += usize::from(found[k].is_some());
            for other in 0..k {
                disagree[other][k] |= found[other].is_some() && found[other] != found[k];
            }
        }
        if example.is_none() {
            example =
                candidates.iter().find_map(|&c| cells.get(c)?.with_name(|n| Some(n.to_owned())));
        }
    })?;
    let most = matches.iter().max().copied().unwrap_or(0);
    if most == 0 {
        let looked: Vec<_> = candidates.iter().map(|&c| table.columns()[c].clone()).collect();
        return Err(none_named(table, listing, rows, &looked, example));
    }
    let best: Vec<usize> = (0..candidates.len()).filter(|&k| matches[k] == most).collect();
    if let Some(&rival) = best[1..].iter().find(|&&k| disagree[best[0]][k]) {
        let [a, b] = [best[0], rival].map(|k| &table.columns()[candidates[k]]);
        return Err(Error::file(
            table.path(),
            format!(
                "its columns {a:?} and {b:?} both name {most} images, but not the same ones; say \
                 which to believe with `name_column`"
            ),
        ));
    }
    Ok(candidates[best[0]])
}

/// The error of a table that names no image.
fn none_named(
    table: &Table,
    listing: &Listing,
    rows: usize,
    looked: &[String],
    example: Option<String>,
) -> Error {
    Error::file(
        table.path(),
        format!(
            "none of its {rows} rows names an image; looked in {}, where a row says {:?} and the \
             first image is {:?}. Name the right column with `name_column`, or another table with \
             `labels`",
            list(looked),
            example.unwrap_or_default(),
            listing.relative(0)
        ),
    )
}

/// Names for an error, cut short when there are many.
fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
