//! Columns by their dotted names in the schema of one file.

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use astropt_core::embed::column_unit;

use crate::sources::tabular;

/// A column found in a schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// Names from the table's column down to what was asked for, lists passed over.
    pub(super) path: Vec<String>,
    /// The file's leaf columns that hold it: from, and how many.
    pub(super) first_leaf: usize,
    pub(super) leaves: usize,
    pub(super) data_type: DataType,
    /// Whether a list lies on the way to it.
    pub(super) in_list: bool,
}

/// What a column can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of a picture file.
    Picture,
    /// A number, or lists of numbers in lists.
    Numbers,
    /// A text.
    Text,
    /// Neither.
    Other,
}

/// The column `name`: dots step into structs, also into structs in lists. A column of that
/// very name goes first.
pub(super) fn find(schema: &Schema, name: &str) -> Option<Found> {
    let mut found = descend(schema.fields(), name, 0)?;
    found.path.reverse();
    // Of a picture, what counts is the bytes.
    if let DataType::Struct(children) = &found.data_type
        && let Some(mut bytes) = descend(children, "bytes", found.first_leaf)
        && bytes.data_type == DataType::BinaryView
    {
        found.path.append(&mut bytes.path);
        return Some(Found { path: found.path, in_list: found.in_list, ..bytes });
    }
    Some(found)
}

/// The leaf columns of the struct that a dotted `name` steps into, by their dotted names; none where
/// it steps into none.
pub(super) fn beside(schema: &Schema, name: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = name;
    while let (true, Some((parent, _))) = (names.is_empty(), rest.rsplit_once('.')) {
        let found = descend(schema.fields(), parent, 0);
        if let Some(DataType::Struct(children)) = found.as_ref().map(|f| innermost(&f.data_type)) {
            add_leaves(children, parent, &mut names);
        }
        rest = parent;
    }
    names
}

fn add_leaves(fields: &Fields, parent: &str, names: &mut Vec<String>) {
    for field in fields {
        let name = format!("{parent}.{}", field.name());
        match innermost(field.data_type()) {
            DataType::Struct(children) => add_leaves(children, &name, names),
            _ => names.push(name),
        }
    }
}

fn descend(fields: &Fields, name: &str, mut leaf: usize) -> Option<Found> {
    let mut within = None;
    for field in fields {
        let count = leaves(field.data_type());
        if field.name() == name {
            return Some(Found {
                path: vec![field.name().clone()],
                first_leaf: leaf,
                leaves: count,
                data_type: field.data_type().clone(),
                in_list: false,
            });
        }
        let rest = name.strip_prefix(field.name().as_str()).and_then(|r| r.strip_prefix('.'));
        if let (None, Some(rest)) = (&within, rest) {
            within = Some((field, rest, leaf));
        }
        leaf += count;
    }
    let (field, rest, leaf) = within?;
    let inner = innermost(field.data_type());
    let DataType::Struct(children) = inner else { return None };
    let mut found = descend(children, rest, leaf)?;
    found.path.push(field.name().clone());
    found.in_list |= inner != field.data_type();
    Some(found)
}

/// What a list holds in the end; of another type, itself.
fn innermost(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            innermost(item.data_type())
        }
        other => other,
    }
}

/// Number of leaf columns of a type.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaves(f.data_type())).sum(),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => leaves(f.data_type()),
        _ => 1,
    }
}

impl Found {
    /// What it can be used for.
    pub(super) fn kind(&self) -> Kind {
        let inner = innermost(&self.data_type);
        let listed = self.in_list || inner != &self.data_type;
        match inner {
            DataType::BinaryView if !listed => Kind::Picture,
            DataType::Utf8View if !listed => Kind::Text,
            DataType::Boolean | DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Kind::Numbers
            }
            integer if integer.is_integer() => Kind::Numbers,
            other if tabular::is_converted(other) => Kind::Numbers,
            _ => Kind::Other,
        }
    }

    /// Whether it is a text, or texts in lists.
    pub(super) fn has_texts(&self) -> bool {
        matches!(innermost(&self.data_type), DataType::Utf8View | DataType::Utf8)
    }

    /// The unit of what its dates, times or durations, alone or in lists, become.
    pub(super) fn converted_unit(&self) -> Option<&'static str> {
        tabular::converted_unit(innermost(&self.data_type))
    }

    /// Whether nothing is known in any row, as pyarrow writes a column of nothing but `None`.
    pub(super) fn is_null(&self) -> bool {
        self.data_type == DataType::Null
    }

    /// Whether it is one number, truth value or text a row.
    pub(super) fn is_scalar(&self) -> bool {
        let plain = !self.in_list && innermost(&self.data_type) == &self.data_type;
        plain && matches!(self.kind(), Kind::Numbers | Kind::Text)
    }
}

impl Found {
    /// Whether it is one value a row that is neither [scalar](Self::is_scalar) nor a picture.
    pub(super) fn looks_scalar(&self) -> bool {
        let plain = !self.in_list && innermost(&self.data_type) == &self.data_type;
        let nested = matches!(self.data_type, DataType::Struct(_) | DataType::Map(..));
        plain && !nested && self.kind() == Kind::Other
    }
}

/// The same types with texts and bytes as views into the pages they were read from: nothing
/// is copied, and a value that a page repeats is held once. Durations, which Parquet itself does
/// not tell from integers, are such as they were `written`.
pub(super) fn with_views(schema: &Schema, written: Option<&Schema>) -> Schema {
    let fields = views(schema.fields(), written.map(Schema::fields));
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn views(fields: &Fields, written: Option<&Fields>) -> Fields {
    let with = |(k, field): (usize, &FieldRef)| {
        let written = written.and_then(|written| written.get(k));
        view(field, written.filter(|written| written.name() == field.name()))
    };
    fields.iter().enumerate().map(with).collect()
}

fn view(field: &FieldRef, written: Option<&FieldRef>) -> FieldRef {
    let written = written.map(|written| written.data_type());
    let data_type = match (field.data_type(), written) {
        (DataType::Utf8, _) => DataType::Utf8View,
        (DataType::Binary, _) => DataType::BinaryView,
        (DataType::Int64, Some(duration @ DataType::Duration(_))) => duration.clone(),
        (DataType::List(item), written) => {
            let written = written.and_then(|written| match written {
                DataType::List(item)
                | DataType::LargeList(item)
                | DataType::FixedSizeList(item, _) => Some(item),
                _ => None,
            });
            DataType::List(view(item, written))
        }
        (DataType::Struct(fields), written) => {
            let written = written.and_then(|written| match written {
                DataType::Struct(fields) => Some(fields),
                _ => None,
            });
            DataType::Struct(views(fields, written))
        }
        (other, _) => other.clone(),
    };
    Field::clone(field).with_data_type(data_type).into()
}

/// The unit that a schema states for the column at `path`, lists passed over.
pub(super) fn unit(schema: &Schema, path: &[String]) -> Option<String> {
    let mut fields = schema.fields();
    let mut found = None;
    for name in path {
        let field = fields.iter().find(|field| field.name() == name)?;
        // The innermost statement is the most exact one.
        found = stated(field).or(found);
        fields = match innermost(field.data_type()) {
            DataType::Struct(children) => children,
            _ => break,
        };
    }
    found
}

fn stated(field: &Field) -> Option<String> {
    column_unit(field).or_else(|| match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            stated(item)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn list(inner: DataType) -> DataType {
        DataType::List(Field::new("item", inner, true).into())
    }

    fn schema() -> Schema {
        let bytes = Field::new("bytes", DataType::BinaryView, true);
        let image = vec![bytes, Field::new("path", DataType::Utf8View, true)];
        let unit = HashMap::from([("unit".to_owned(), "Angstrom".to_owned())]);
        let spectrum = vec![
            Field::new("flux", list(DataType::Float32), true),
            Field::new("lambda", list(DataType::Float32), true).with_metadata(unit),
        ];
        let bands = DataType::Struct(vec![Field::new("psf", DataType::Float64, true)].into());
        Schema::new(vec![
            Field::new("image", DataType::Struct(image.into()), true),
            Field::new("spectrum", DataType::Struct(spectrum.into()), true),
            Field::new("spectrum.flux", DataType::Int8, true),
            Field::new("bands", list(bands), true),
            Field::new("z", DataType::Float32, true),
        ])
    }

    #[test]
    fn columns_are_found_by_dotted_names() {
        let found = |name| find(&schema(), name).map(|f| (f.first_leaf, f.leaves, f.kind()));
        assert_eq!(found("image"), Some((0, 1, Kind::Picture)));
        assert_eq!(found("image.path"), Some((1, 1, Kind::Text)));
        assert_eq!(found("spectrum.lambda"), Some((3, 1, Kind::Numbers)));
        assert_eq!(found("spectrum"), Some((2, 2, Kind::Other)));
        assert_eq!(found("spectrum.flux"), Some((4, 1, Kind::Numbers)), "the very name");
        assert_eq!(found("bands.psf"), Some((5, 1, Kind::Numbers)));
        assert_eq!(found("z"), Some((6, 1, Kind::Numbers)));
        assert_eq!(found("spectrum.ivar"), None);
        assert_eq!(found("z.x"), None);
        let scalar = |name| find(&schema(), name).expect("there").is_scalar();
        assert!(scalar("z") && scalar("image.path") && !scalar("bands.psf"));
        assert!(!scalar("spectrum.lambda") && !scalar("image"));
    }

    #[test]
    fn leaves_beside_a_wrong_name_are_listed() {
        let beside = |name| beside(&schema(), name);
        assert_eq!(beside("spectrum.fluxx"), ["spectrum.flux", "spectrum.lambda"]);
        assert_eq!(beside("bands.psf.x"), ["bands.psf"]);
        assert_eq!(beside("image.z"), ["image.bytes", "image.path"]);
        assert!(beside("z.x").is_empty() && beside("nothing").is_empty());
    }

    #[test]
    fn units_are_read_off_the_schema() {
        let path = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let of = |names: &[&str]| unit(&schema(), &path(names));
        assert_eq!(of(&["spectrum", "lambda"]).as_deref(), Some("Angstrom"));
        assert_eq!(of(&["spectrum", "flux"]), None);
        assert_eq!(of(&["nothing"]), None);
    }
}
