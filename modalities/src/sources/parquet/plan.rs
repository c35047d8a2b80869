//! What is read of a table: the recipe's columns, found in the schema.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_schema::Schema;
use astropt_core::{Error, Result};

use super::columns::{Columns, FieldColumn};
use super::footer::Footer;
use super::schema::{self, Found, Kind};
use super::value::Codes;
use crate::sources::axes::Axes;
use crate::sources::tabular::{self, list};
use crate::sources::units;

/// Columns by name, as the first shard has them.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    fields: BTreeMap<String, FieldColumn>,
    labels: Vec<String>,
    /// Whether the recipe names the labels, so that every shard must have them.
    stated: bool,
    id: Option<String>,
}

/// Columns as one shard has them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) fields: Vec<FieldPlan>,
    /// Name of the label and where it is; labels that the recipe does not name and this shard
    /// lacks are left out.
    pub(super) labels: Vec<(String, Found)>,
    pub(super) id: Option<Found>,
}

/// A field and where it is.
#[derive(Clone, Debug)]
pub(super) struct FieldPlan {
    pub(super) name: String,
    /// As the recipe calls it, for errors.
    pub(super) column: String,
    pub(super) found: Found,
    pub(super) kind: Kind,
    pub(super) unit: Option<String>,
    /// How an image's lists are nested; none: nothing is moved.
    pub(super) axes: Option<Axes>,
    /// The integers that stand for its texts.
    pub(super) codes: Option<Codes>,
}

impl Names {
    /// The columns that the recipe states, filled in with defaults from the first shard.
    ///
    /// # Errors
    /// When the recipe names a column that is not there or of no use for it.
    pub(crate) fn new(columns: &Columns, footer: &Footer, path: &Path) -> Result<Self> {
        let schema = footer.schema();
        let top = || schema.fields().iter().map(|field| field.name().clone());
        let found = |name: &String| schema::find(schema, name);
        let fields = match &columns.fields {
            Some(fields) => fields.clone(),
            None => default_fields(top(), found),
        };
        if fields.is_empty() {
            let message = "no column holds pictures or lists of numbers; name with `fields` what \
                           an object consists of";
            return Err(Error::file(path, format!("{message}: {}", listed(top()))));
        }
        // What is null in this shard may be known in another.
        let scalar = |name: &String| found(name).is_some_and(|f| f.is_scalar() || f.is_null());
        let labels = match &columns.labels {
            Some(labels) => labels.clone(),
            None => top().filter(scalar).filter(|name| Some(name) != columns.id.as_ref()).collect(),
        };
        let stated = columns.labels.is_some();
        let names = Self { fields, labels, stated, id: columns.id.clone() };
        names.plan(footer, path).map(|_| names)
    }

    /// Where the columns are in one shard.
    ///
    /// # Errors
    /// When a field, the id or a label that the recipe names is not there or of no use, or
    /// packed in a way that cannot be read.
    pub(crate) fn plan(&self, footer: &Footer, path: &Path) -> Result<Plan> {
        let schema = footer.schema();
        let mut fields = Vec::with_capacity(self.fields.len());
        for (name, FieldColumn { column, unit, axes, codes, other }) in &self.fields {
            let key = format!("fields.{name}");
            let found = schema::find(schema, column);
            let found = found.ok_or_else(|| absent(path, &key, column, schema))?;
            let kind = found.kind();
            if let Some(why) = refused(&found, codes.is_some()) {
                let message = format!(
                    "the column {column:?} (`{key}`) is of the type {}: {why}",
                    found.data_type
                );
                return Err(Error::file(path, message));
            }
            let written = footer.written.as_ref();
            let stated = written.and_then(|schema| schema::unit(schema, &found.path));
            let stated = found.converted_unit().map(str::to_owned).or(stated);
            let unit = units::settled(stated.as_deref(), unit.as_deref())
                .map_err(|message| Error::file(path, format!("`{key}`: {message}")))?;
            let (name, column) = (name.clone(), column.clone());
            let codes = codes
                .as_ref()
                .map(|texts| Codes { of: texts.iter().cloned().zip(0..).collect(), other: *other });
            fields.push(FieldPlan { name, column, found, kind, unit, axes: *axes, codes });
        }
        let id = match &self.id {
            None => None,
            Some(name) => match schema::find(schema, name) {
                None => return Err(absent(path, "id", name, schema)),
                Some(found) if found.is_scalar() => Some(found),
                Some(_) => {
                    let message = format!("the column {name:?} (`id`) holds no numbers or texts");
                    return Err(Error::file(path, message));
                }
            },
        };
        let plan = Plan { fields, labels: self.find_labels(schema, path)?, id };
        let leaves = plan.leaves();
        let wanted = |leaf: usize| leaves.contains(&leaf);
        tabular::check_codecs(path, footer.metadata.metadata(), wanted)?;
        Ok(plan)
    }

    /// Where the labels are; those that the recipe does not name may be missing.
    fn find_labels(&self, schema: &Schema, path: &Path) -> Result<Vec<(String, Found)>> {
        let mut labels = Vec::with_capacity(self.labels.len());
        for name in &self.labels {
            match schema::find(schema, name) {
                Some(found) if found.is_scalar() => labels.push((name.clone(), found)),
                Some(found) if found.is_null() => {} // known of no object of this shard
                _ if !self.stated => {}
                Some(_) => {
                    let message = format!(
                        "the column {name:?} (`labels`) holds no numbers, truth values or texts"
                    );
                    return Err(Error::file(path, message));
                }
                None => return Err(absent(path, "labels", name, schema)),
            }
        }
        Ok(labels)
    }

    /// Names of the fields, in the order in which a plan has them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Units of the labels of one shard that state one, by the labels' names.
    pub(crate) fn label_units(plan: &Plan, footer: &Footer) -> Vec<(String, String)> {
        let unit = |(name, found): &(String, Found)| {
            let stated = footer.written.as_ref().and_then(|s| schema::unit(s, &found.path));
            let unit = match found.kind() {
                Kind::Numbers => found.converted_unit().map(str::to_owned).or(stated),
                Kind::Picture | Kind::Text | Kind::Other => None,
            };
            Some((name.clone(), unit?))
        };
        plan.labels.iter().filter_map(unit).collect()
    }

    /// Columns of a shard that look like labels and are none, with the reason; none where the
    /// recipe says which are labels.
    pub(crate) fn unlabelled(&self, footer: &Footer) -> Vec<(String, String)> {
        let schema = footer.schema();
        let used = |name: &str| {
            let within = |column: &str| column.split('.').next() == Some(name) || column == name;
            self.id.as_deref() == Some(name) || self.fields.values().any(|f| within(&f.column))
        };
        let mut out = Vec::new();
        for field in schema.fields().iter().filter(|field| !self.stated && !used(field.name())) {
            let name = field.name();
            let Some(found) = schema::find(schema, name) else { continue };
            let known = self.labels.contains(name);
            let why = match found.is_scalar() || found.is_null() {
                true if !known => "not in the first shard, but".to_owned(),
                false if known || found.looks_scalar() => {
                    format!("of the type {}", found.data_type)
                }
                _ => continue,
            };
            out.push((name.clone(), why));
        }
        let lacking = self.labels.iter().filter(|name| schema::find(schema, name).is_none());
        let lacking = lacking.filter(|_| !self.stated);
        out.extend(lacking.map(|name| (name.clone(), "missing".to_owned())));
        out
    }

    /// Whether ids come from a column.
    pub(crate) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Whether objects have labels.
    pub(crate) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }
}

impl Plan {
    /// The leaf columns that fields are read from.
    pub(crate) fn field_leaves(&self) -> Vec<usize> {
        leaves(self.fields.iter().map(|field| &field.found))
    }

    /// All leaf columns that are read.
    fn leaves(&self) -> Vec<usize> {
        let labels = self.labels.iter().map(|(_, found)| found);
        leaves(self.fields.iter().map(|field| &field.found).chain(labels).chain(&self.id))
    }

    /// The leaf columns that labels are read from.
    pub(super) fn label_leaves(&self) -> Vec<usize> {
        leaves(self.labels.iter().map(|(_, found)| found))
    }
}

/// Why no field is made of a column, if none is.
fn refused(found: &Found, codes: bool) -> Option<&'static str> {
    match (found.kind(), found.has_texts(), codes) {
        (Kind::Picture | Kind::Numbers, _, false) | (_, true, true) => None,
        (_, false, true) => Some("`codes` are of texts; leave them out"),
        (_, true, false) => Some("texts become a field by their `codes`, a list of them"),
        (_, false, false) => Some(
            "a field is made of pictures, numbers or lists of numbers; of a struct, name a part \
             as in \"spectrum.flux\"",
        ),
    }
}

fn leaves<'a>(found: impl Iterator<Item = &'a Found>) -> Vec<usize> {
    let mut leaves: Vec<usize> =
        found.flat_map(|f| f.first_leaf..f.first_leaf + f.leaves).collect();
    leaves.sort_unstable();
    leaves.dedup();
    leaves
}

/// `image` where there are pictures of that name, otherwise all pictures and lists.
fn default_fields(
    top: impl Iterator<Item = String>,
    found: impl Fn(&String) -> Option<Found>,
) -> BTreeMap<String, FieldColumn> {
    const IMAGE: &str = "image";
    let usable = |name: &String| {
        found(name).is_some_and(|f| match f.kind() {
            Kind::Picture => true,
            Kind::Numbers => !f.is_scalar(),
            Kind::Text | Kind::Other => false,
        })
    };
    let names: Vec<String> = top.filter(usable).collect();
    let image = names.iter().find(|name| *name == IMAGE).cloned();
    let chosen = image.map_or(names, |image| vec![image]);
    chosen.into_iter().map(|name| (name.clone(), name.into())).collect()
}

/// The error of a column that is not there, with those of its struct or else of the table.
fn absent(path: &Path, key: &str, name: &str, schema: &Schema) -> Error {
    let known = match schema::beside(schema, name) {
        none if none.is_empty() => schema.fields().iter().map(|f| f.name().clone()).collect(),
        beside => beside,
    };
    Error::file(path, format!("no column {name:?} (`{key}`): {}", listed(known.into_iter())))
}

/// What columns there are, cut short.
fn listed(names: impl Iterator<Item = String>) -> String {
    format!("it has {}", list(&names.collect::<Vec<_>>()))
}
