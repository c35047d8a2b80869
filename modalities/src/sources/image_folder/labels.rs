//! Labels of images, matched to a table's rows by name.

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
        table.for_each(&mut |cells| {
            if let Some(image) = find(&names, cells, key)
                && !std::mem::replace(&mut named[image], true)
            {
                for ((_, column), cell) in columns.iter_mut().zip(cells) {
                    column.set(image, cell.label());
                }
            }
        })?;
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
    let Some(name) = name_column else {
        return Ok((0..table.columns().len()).collect());
    };
    let found = table.columns().iter().position(|column| column == name);
    found.map(|column| vec![column]).ok_or_else(|| {
        Error::file(
            table.path(),
            format!("no column {name:?} (`name_column`); it has {}", list(table.columns())),
        )
    })
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
    table.for_each(&mut |cells| {
        rows += 1;
        for (count, &column) in matches.iter_mut().zip(candidates) {
            *count += usize::from(find(names, cells, column).is_some());
        }
        if example.is_none() {
            example =
                candidates.iter().find_map(|&c| cells.get(c)?.with_name(|n| Some(n.to_owned())));
        }
    })?;
    let most = matches.iter().max().copied().unwrap_or(0);
    if most == 0 {
        let looked: Vec<_> = candidates.iter().map(|&c| table.columns()[c].clone()).collect();
        return Err(Error::file(
            table.path(),
            format!(
                "none of its {rows} rows names an image; looked in {}, where a row says {:?} \
                 and the first image is {:?}. Name the right column with `name_column`, or \
                 another table with `labels`",
                list(&looked),
                example.unwrap_or_default(),
                listing.relative(0)
            ),
        ));
    }
    let best = matches.iter().position(|&count| count == most).unwrap_or(0);
    Ok(candidates[best])
}

/// Names for an error, cut short when there are many.
fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
