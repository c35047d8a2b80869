//! The arrays of one object, put together of HDUs, columns, bands and arms.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use astropt_core::observation::{Array, Data, Field};

use super::config::{Arms, FieldConfig, FitsConfig, Name, Transform};
use super::header::{Hdu, Kind};
use super::image;
use super::reader::Reader;
use super::table::Table;
use crate::sources::axes::{Axes, transposed};
use crate::sources::units::{self, OneUnit};

/// Where in a file an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The file itself.
    Whole,
    /// The HDU with this number, whose header starts at `offset`.
    Hdu {
        /// 0 for the primary.
        number: usize,
        /// In bytes.
        offset: u64,
    },
    /// A row.
    Row(usize),
}

/// A file and the headers met in it so far.
pub(super) struct Open {
    /// Its bytes.
    pub(super) reader: Reader,
    hdus: Vec<Arc<Hdu>>,
    next: Option<u64>,
}

impl Open {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, hdus: Vec::new(), next: Some(0) }
    }

    /// The first HDU that is `wanted`.
    ///
    /// # Errors
    /// When a header before it is damaged.
    pub(super) fn first(
        &mut self,
        wanted: impl Fn(&Hdu) -> bool,
    ) -> Result<Option<Arc<Hdu>>, String> {
        if let Some(known) = self.hdus.iter().find(|hdu| wanted(hdu)) {
            return Ok(Some(known.clone()));
        }
        while let Some(offset) = self.next {
            let hdu = Arc::new(Hdu::read(&mut self.reader, offset, self.hdus.len())?);
            self.next = hdu.next(&self.reader);
            self.hdus.push(hdu.clone());
            if wanted(&hdu) {
                return Ok(Some(hdu));
            }
        }
        Ok(None)
    }

    /// The headers of the first `most` HDUs.
    ///
    /// # Errors
    /// When one is damaged.
    pub(super) fn headers(&mut self, most: usize) -> Result<&[Arc<Hdu>], String> {
        self.first(|hdu| hdu.number + 1 >= most)?;
        Ok(&self.hdus)
    }

    /// The HDU `name`.
    ///
    /// # Errors
    /// When there is none; lists what there is.
    pub(super) fn named(&mut self, name: &Name) -> Result<Arc<Hdu>, String> {
        let found = match name {
            Name::Number(number) => self.first(|hdu| hdu.number == *number as usize)?,
            Name::Text(text) => self.first(|hdu| hdu.is_called(text))?,
        };
        found.ok_or_else(|| {
            let titles: Vec<_> = self.hdus.iter().take(40).map(|hdu| hdu.title()).collect();
            format!("no HDU {name}; it has {}", titles.join(", "))
        })
    }

    /// The HDU that `field` reads from.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn of_field(
        &mut self,
        field: &FieldConfig,
        place: Place,
    ) -> Result<Arc<Hdu>, String> {
        match (&field.hdu, place) {
            (Some(name), _) => self.named(name),
            (None, Place::Hdu { number, offset }) => {
                Hdu::read(&mut self.reader, offset, number).map(Arc::new)
            }
            (None, _) if field.column.is_some() => self
                .first(Hdu::is_table)?
                .ok_or_else(|| "it has no binary table to take the column from".to_owned()),
            (None, _) => self.first_image(),
        }
    }

    /// The image that the file is of: what its first HDU with data holds. An image behind a
    /// table is a part of something else, such as an aperture or a grid of wavelengths.
    fn first_image(&mut self) -> Result<Arc<Hdu>, String> {
        let found = self.first(|hdu| hdu.is_image() || hdu.is_table())?;
        match found {
            Some(hdu) if hdu.is_image() => Ok(hdu),
            Some(hdu) => Err(format!(
                "{} is a table and comes first: say what to read, a `column` of it or another \
                 `hdu`",
                hdu.title()
            )),
            None => Err("it holds no image".to_owned()),
        }
    }

    /// The shape of the image that `field` reads; empty where it reads something else.
    fn shape(&mut self, field: &FieldConfig, place: Place) -> Result<Vec<usize>, String> {
        let hdu = self.of_field(field, place)?;
        let (Kind::Image { axes, .. } | Kind::Tiles { axes, .. }) = &hdu.kind else {
            return Ok(Vec::new());
        };
        let rows = usize::from(matches!(place, Place::Row(_)) && !field.shared);
        Ok(axes.iter().skip(rows).copied().collect())
    }

    /// How many rows there are where objects are rows of `field`.
    pub(super) fn rows(&mut self, field: &FieldConfig) -> Result<usize, String> {
        let hdu = self.of_field(field, Place::Whole)?;
        match &hdu.kind {
            Kind::Table { row: 1.., rows } if field.column.is_some() => Ok(*rows),
            Kind::PackedTable { .. } => Table::of(&hdu).map(|table| table.rows),
            Kind::Image { axes, .. } if hdu.is_image() && field.column.is_none() => {
                Ok(axes.first().copied().unwrap_or(0))
            }
            _ => Err(format!("{}: it has no rows to be objects", hdu.title())),
        }
    }

    /// The array of one HDU or column, and its unit.
    fn array(
        &mut self,
        field: &FieldConfig,
        place: Place,
    ) -> Result<(Array, Option<Stated>), String> {
        let hdu = self.of_field(field, place)?;
        let row = match place {
            Place::Row(row) if !field.shared => Some(row),
            _ => None,
        };
        let Some(name) = &field.column else {
            let array = image::read(&mut self.reader, &hdu, row)?;
            let unit = hdu.header.text("BUNIT").map(str::to_owned);
            return Ok((array, unit.map(|unit| Stated { unit, place: hdu.title() })));
        };
        let table = Table::of(&hdu)?;
        let column = table.find(&hdu, name)?;
        let (rows, one) = match row {
            Some(row) => (row..row.saturating_add(1), true),
            // The column of a table with one row is that row.
            None => (0..table.rows, table.rows == 1),
        };
        let array = table.read(&mut self.reader, &hdu, column, rows, one)?;
        let place = || format!("{}, column {}", hdu.title(), column.name);
        let stated = column.unit.clone().map(|unit| Stated { unit, place: place() });
        Ok((array, stated))
    }
}

/// A unit and where it is stated.
#[derive(Clone, Debug)]
struct Stated {
    unit: String,
    /// HDU and column.
    place: String,
}

/// A part of a field and where its unit is stated.
struct Part {
    name: String,
    place: String,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.place)
    }
}

/// Takes the unit of the part called `name` into that of the field.
///
/// # Errors
/// When it is another than before.
fn add(unit: &mut OneUnit<Part>, name: String, stated: Option<Stated>) -> Result<(), String> {
    let Some(Stated { unit: stated, place }) = stated else { return Ok(()) };
    unit.add(Part { name, place }, Some(&stated)).map_err(|message| {
        format!("{message}; write them in one unit, or read them as fields of their own")
    })
}

fn settled(unit: OneUnit<Part>) -> Option<Stated> {
    unit.settled().map(|(part, unit)| Stated { unit, place: part.place })
}

/// The fields of the object at `place` of `files`: one file, or one per band.
///
/// # Errors
/// What cannot be read, naming the field, HDU and column; and the number of the file.
pub(super) fn read(
    config: &FitsConfig,
    files: &mut [Open],
    place: Place,
) -> Result<BTreeMap<String, Field>, (usize, String)> {
    let sorting = match &config.arms {
        Some(arms) => sorting(config, arms, files, place)?,
        None => None,
    };
    let mut fields = BTreeMap::new();
    for (name, field) in &config.fields {
        let at = |(file, message): (usize, String)| (file, format!("field {name:?}: {message}"));
        let (array, unit) = bands(config, field, files, place).map_err(at)?;
        let array = match &sorting {
            Some(order) if field.has("{arm}") => {
                take(array, order).map_err(|message| at((0, message)))?
            }
            _ => array,
        };
        let array = transform(array, field.transform);
        // A transform changes the unit, so that the file's is no longer that of the numbers.
        let stated = unit.as_ref().map(|s| s.unit.as_str()).filter(|_| field.transform.is_none());
        let unit = units::settled(stated, field.unit.as_deref()).map_err(|m| at((0, m)))?;
        fields.insert(name.clone(), Field { array, unit });
    }
    Ok(fields)
}

type Found = Result<(Array, Option<Stated>), (usize, String)>;

/// A field of all its bands.
fn bands(config: &FitsConfig, field: &FieldConfig, files: &mut [Open], place: Place) -> Found {
    let single = |files: &mut [Open], file: usize, field: &FieldConfig| -> Found {
        let open = files.get_mut(file).ok_or((file, "its file is missing".to_owned()))?;
        let axes = match field.axes {
            Some(axes) => axes,
            None if field.column.is_some() || field.has("{arm}") => Axes::Stored,
            None => Axes::Chw,
        };
        let image = field.column.is_none() && !field.has("{arm}");
        if image {
            let shape = open.shape(field, place).map(|shape| axes.without_degenerate(&shape));
            shape.and_then(|shape| axes.check(&shape)).map_err(|m| (file, m))?;
        }
        let (array, unit) = arms(config, field, open, place).map_err(|m| (file, m))?;
        let array = match image {
            true => Array { shape: axes.without_degenerate(&array.shape), ..array },
            false => array,
        };
        Ok((axes.arrange(array).map_err(|m| (file, m))?, unit))
    };
    if config.bands.is_empty() || !(config.files.is_some() || field.has("{band}")) {
        return single(files, 0, field);
    }
    let mut stack = Vec::with_capacity(config.bands.len());
    let mut unit = OneUnit::default();
    for (k, band) in config.bands.iter().enumerate() {
        let file = if config.files.is_some() { k } else { 0 };
        let (array, stated) = single(files, file, &field.with("{band}", band))?;
        if let Some(first) = stack.first().map(|first: &Array| &first.shape)
            && *first != array.shape
        {
            return Err((
                file,
                format!(
                    "band {band} has the shape {:?}, band {} has {first:?}; cut them alike",
                    array.shape, config.bands[0]
                ),
            ));
        }
        let name = |file: &Open| file.reader.path().display().to_string();
        let part = match (&config.files, files.get(file).map(name)) {
            (Some(_), Some(path)) => format!("band {band} of {path}"),
            _ => format!("band {band}"),
        };
        add(&mut unit, part, stated).map_err(|m| (file, m))?;
        stack.push(array);
    }
    Ok((stacked(stack).map_err(|m| (0, m))?, settled(unit)))
}

/// Arrays of one shape along a new last axis; one that has the length 1 already is used.
fn stacked(arrays: Vec<Array>) -> Result<Array, String> {
    let mut shape = arrays.first().map(|array| array.shape.clone()).unwrap_or_default();
    if shape.len() == 3 && shape.last() == Some(&1) {
        shape.pop();
    }
    let (bands, numbers) = (arrays.len(), shape.iter().product());
    let data = chained(arrays.into_iter().map(|array| array.data))?;
    shape.push(bands);
    Array::new(shape, transposed(&data, bands, numbers)).map_err(|error| error.to_string())
}

/// A field of all its arms, one after the other.
fn arms(
    config: &FitsConfig,
    field: &FieldConfig,
    open: &mut Open,
    place: Place,
) -> Result<(Array, Option<Stated>), String> {
    let (Some(arms), true) = (&config.arms, field.has("{arm}")) else {
        return open.array(field, place);
    };
    let (mut parts, mut unit) = (Vec::new(), OneUnit::default());
    for arm in &arms.names {
        let (array, stated) = open.array(&field.with("{arm}", arm), place)?;
        if array.shape.len() != 1 {
            return Err(format!(
                "arm {arm} has the shape {:?}; the arms of one object are chained along one axis",
                array.shape
            ));
        }
        add(&mut unit, format!("arm {arm}"), stated)?;
        parts.push(array.data);
    }
    let data = chained(parts.into_iter())?;
    Ok((Array { shape: vec![data.len()], data }, settled(unit)))
}

/// Numbers of one type, one array after the other.
fn chained(mut parts: impl Iterator<Item = Data>) -> Result<Data, String> {
    let mut all = parts.next().ok_or("there is nothing to put together")?;
    for part in parts {
        match (&mut all, part) {
            (Data::U8(all), Data::U8(part)) => all.extend(part),
            (Data::U16(all), Data::U16(part)) => all.extend(part),
            (Data::F32(all), Data::F32(part)) => all.extend(part),
            (Data::F64(all), Data::F64(part)) => all.extend(part),
            (Data::I64(all), Data::I64(part)) => all.extend(part),
            _ => {
                return Err("its bands or arms hold numbers of different types; write them \
                            alike"
                    .to_owned());
            }
        }
    }
    Ok(all)
}

/// Which samples of the chained arms are kept, in which order.
struct Sorting {
    kept: Vec<usize>,
    /// How many there are in all.
    of: usize,
}

/// The order of the samples along `arms.along`. `None`: all, as they are.
fn sorting(
    config: &FitsConfig,
    arms: &Arms,
    files: &mut [Open],
    place: Place,
) -> Result<Option<Sorting>, (usize, String)> {
    let Some((along, open)) = arms.along.as_ref().zip(files.first_mut()) else { return Ok(None) };
    let Some(field) = config.fields.get(along) else { return Ok(None) };
    let fail = |message: String| (0, format!("field {along:?}: {message}"));
    let mut samples: Vec<(f64, usize)> = Vec::new();
    for (k, arm) in arms.names.iter().enumerate() {
        let (array, _) = open.array(&field.with("{arm}", arm), place).map_err(fail)?;
        let first = k.checked_sub(1).and_then(|k| arms.cut.get(k)).copied();
        let last = arms.cut.get(k).copied();
        let array = transform(array, field.transform);
        let before = samples.len();
        let wavelengths = doubles(&array.data);
        samples.extend(wavelengths.into_iter().zip(before..));
        // What is cut keeps its number, for the numbers are those of the chained arms.
        for sample in samples.iter_mut().skip(before) {
            let kept = first.is_none_or(|first| sample.0 >= first)
                && last.is_none_or(|last| sample.0 < last);
            if !kept {
                sample.0 = f64::NAN;
            }
        }
    }
    let of = samples.len();
    samples.retain(|(wavelength, _)| !wavelength.is_nan());
    samples.sort_by(|a, b| a.0.total_cmp(&b.0));
    if samples.is_empty() {
        return Err(fail("no sample lies between the wavelengths of `arms.cut`".to_owned()));
    }
    Ok(Some(Sorting { kept: samples.into_iter().map(|(_, index)| index).collect(), of }))
}

/// The samples of `array` in that order.
fn take(array: Array, sorting: &Sorting) -> Result<Array, String> {
    fn pick<T: Copy>(v: &[T], order: &[usize]) -> Vec<T> {
        order.iter().filter_map(|&k| v.get(k).copied()).collect()
    }
    let kept = &sorting.kept;
    if array.shape != [sorting.of] {
        return Err(format!(
            "its arms have the shape {:?} in all, the wavelengths {}",
            array.shape, sorting.of
        ));
    }
    let data = match &array.data {
        Data::U8(v) => Data::U8(pick(v, kept)),
        Data::U16(v) => Data::U16(pick(v, kept)),
        Data::F32(v) => Data::F32(pick(v, kept)),
        Data::F64(v) => Data::F64(pick(v, kept)),
        Data::I64(v) => Data::I64(pick(v, kept)),
    };
    Ok(Array { shape: vec![kept.len()], data })
}

fn doubles(data: &Data) -> Vec<f64> {
    match data {
        Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
        Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F32(v) => v.iter().map(|&x| x.into()).collect(),
        Data::F64(v) => v.clone(),
        Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
    }
}

fn transform(array: Array, transform: Option<Transform>) -> Array {
    match transform {
        None => array,
        Some(Transform::Pow10) => {
            let powers = doubles(&array.data).into_iter().map(|x| 10f64.powf(x)).collect();
            Array { data: Data::F64(powers), ..array }
        }
    }
}
