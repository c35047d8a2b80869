//! What an object's own observation tells of a span beyond its tokens.

use std::collections::BTreeMap;

use crate::observation::{Array, Data, LabelUnits, Observation};
use crate::tokens::Tokens;

/// What is needed to write tokens in an object's own numbers, and what they do not hold themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanFacts {
    /// Samples at the end of the columns, or rows at the end of the tables, that
    /// [`reconstruct`](crate::seam::Modality::reconstruct) gives which fill the last token up, and
    /// are none of the object's. `None`: not known.
    pub padding: Option<usize>,
    /// Units that the data state, of fields whose numbers are the data's.
    pub units: LabelUnits,
    /// By field what is to be added to its numbers to have those of the object, such as the time
    /// of its first measurement.
    pub offsets: BTreeMap<String, f64>,
    /// By field what its name and unit do not say of its numbers.
    pub notes: BTreeMap<String, String>,
}

impl SpanFacts {
    /// What names and shapes tell: `told`, which the tokens of the observation `own` became, ends
    /// along the first axis where the shortest of the fields of the same names does, and has their
    /// units where no [`affine`](Tokens::affine) took them out. What has three axes is an image,
    /// whole where its own tells no less. `array` stands for what tells no more than its numbers.
    pub(crate) fn by_name(
        own: Option<&Observation>,
        tokens: &Tokens,
        told: Option<&Observation>,
        array: Option<&Array>,
    ) -> Self {
        let fields = || told.into_iter().flat_map(|told| &told.fields);
        let own_field = |name: &String| own.and_then(|own| own.fields.get(name));
        let past = |(name, field): (&String, &crate::observation::Field)| {
            rows_past(&own_field(name)?.array.shape, &field.array.shape)
        };
        let has_rows = fields().any(|(_, field)| matches!(field.array.shape.len(), 1 | 2));
        let padding = fields().filter_map(past).max().or((!has_rows).then_some(0));
        let mut facts = Self { padding, ..Self::default() };
        if !tokens.affine.is_empty() {
            return facts;
        }
        let mut units = |name: &String, unit: &Option<String>| {
            facts.units.extend(unit.clone().map(|unit| (name.clone(), unit)));
        };
        if let Some(told) = told {
            for name in told.fields.keys() {
                own_field(name).into_iter().for_each(|own| units(name, &own.unit));
            }
        } else if let (Some(array), Some(own)) = (array, own) {
            let mut alike = own.fields.iter().filter(|(_, f)| same_shape(&f.array, array));
            if let (Some((name, field)), None) = (alike.next(), alike.next()) {
                units(name, &field.unit);
            }
        }
        facts
    }

    /// Makes `told` what the object would have: without padding, with the units that only the data
    /// state, and with offsets added.
    pub(crate) fn complete(&self, told: &mut Observation) {
        let rows = rows(told);
        for (name, field) in &mut told.fields {
            if let [len, rest @ ..] = &mut field.array.shape[..]
                && rows.contains(len)
            {
                *len = len.saturating_sub(self.padding.unwrap_or(0));
                truncate(
                    &mut field.array.data,
                    rest.iter().fold(*len, |n, &width| n.saturating_mul(width)),
                );
            }
            if let Some(offset) = self.offsets.get(name) {
                let numbers = field.array.data.to_f64().iter().map(|x| x + offset).collect();
                field.array.data = Data::F64(numbers);
            }
            if field.unit.is_none() {
                field.unit = self.units.get(name).cloned();
            }
        }
    }
}

/// How many rows an array of the shape `told` has beyond one of the shape `own`. `None`: they are
/// not rows of one kind.
fn rows_past(own: &[usize], told: &[usize]) -> Option<usize> {
    let long = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    let ([of_own, row @ ..], [of_told, told_row @ ..]) = (own, told) else { return None };
    if long(row) == long(told_row) {
        return Some(of_told.saturating_sub(*of_own));
    }
    let cut_out = own.len() == told.len() && own.iter().zip(told).all(|(own, told)| own >= told);
    (cut_out || long(own) == long(told)).then_some(0)
}

/// How many rows the columns have or, where there are none, the fields of the fewest axes. An image
/// beside columns has others.
fn rows(told: &Observation) -> Vec<usize> {
    let shapes = || told.fields.values().map(|field| &field.array.shape[..]);
    let fewest = shapes().map(<[usize]>::len).filter(|&axes| axes > 0).min();
    shapes().filter(|shape| Some(shape.len()) == fewest).map(|shape| shape[0]).collect()
}

/// Whether two arrays have as many numbers along each axis, that of a single band left out or not.
fn same_shape(a: &Array, b: &Array) -> bool {
    let bare = |shape: &[usize]| match *shape {
        [height, width, 1] => vec![height, width],
        _ => shape.to_vec(),
    };
    bare(&a.shape) == bare(&b.shape)
}

fn truncate(data: &mut Data, len: usize) {
    match data {
        Data::U8(all) => all.truncate(len),
        Data::U16(all) => all.truncate(len),
        Data::F32(all) => all.truncate(len),
        Data::F64(all) => all.truncate(len),
        Data::I64(all) => all.truncate(len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Field;

    fn field(shape: &[usize], unit: Option<&str>) -> Field {
        let numbers = vec![1.0; shape.iter().product()];
        let array = Array::new(shape.to_vec(), Data::F32(numbers)).expect("sound");
        Field { array, unit: unit.map(str::to_owned) }
    }

    fn object(fields: &[(&str, &[usize], Option<&str>)]) -> Observation {
        let fields = fields.iter().map(|(name, shape, u)| ((*name).to_owned(), field(shape, *u)));
        Observation { fields: fields.collect(), ..Observation::default() }
    }

    #[test]
    fn columns_end_where_the_objects_own_do_and_have_their_units() {
        let made = || object(&[("flux", &[8], None), ("time", &[8], Some("d"))]);
        let plain = Tokens::default();
        for (own, expected) in [(6, 6), (8, 8), (100, 8)] {
            let own = object(&[("flux", &[own], Some("Jy")), ("ivar", &[1], None)]);
            let mut facts = SpanFacts::by_name(Some(&own), &plain, Some(&made()), None);
            facts.offsets.insert("time".to_owned(), 58_000.0);
            let mut told = made();
            facts.complete(&mut told);
            assert!(told.fields.values().all(|field| field.array.data.len() == expected));
            assert!(told.fields.values().all(|field| field.array.shape == [expected]));
            assert_eq!(told.fields["flux"].unit.as_deref(), Some("Jy"));
            assert_eq!(told.fields["time"].unit.as_deref(), Some("d"));
            assert_eq!(told.fields["time"].array.data.to_f64()[0], 58_001.0);
        }
        let own = object(&[("flux", &[6], Some("Jy"))]);
        let standardised = Tokens { affine: vec![[0.0, 2.0]], ..Tokens::default() };
        let facts = SpanFacts::by_name(Some(&own), &standardised, Some(&made()), None);
        assert!(facts.units.is_empty(), "what is standardised has no unit");
        assert_eq!(SpanFacts::by_name(None, &plain, Some(&made()), None).padding, None);
        let none = SpanFacts::by_name(None, &plain, Some(&Observation::default()), None);
        assert_eq!(none.padding, Some(0), "there are no columns");
    }

    #[test]
    fn rows_of_any_width_end_where_the_objects_own_do() {
        let padding = |own: Option<&[usize]>, told: &[usize]| {
            let own = own.map(|own| object(&[("uv", own, None)]));
            let told = object(&[("uv", told, None)]);
            SpanFacts::by_name(own.as_ref(), &Tokens::default(), Some(&told), None).padding
        };
        assert_eq!(padding(Some(&[5, 2]), &[6, 2]), Some(1));
        assert_eq!(padding(Some(&[5, 1]), &[6]), Some(1));
        // Without an own, or beside one of another kind, it cannot be told.
        assert_eq!(padding(None, &[6, 2]), None);
        assert_eq!(padding(Some(&[2, 5]), &[6, 2]), None);
        // Images, of which the own may be larger or laid out in another way.
        for own in [&[60, 60, 3][..], &[3, 48, 48], &[48, 48, 3]] {
            assert_eq!(padding(Some(own), &[48, 48, 3]), Some(0), "{own:?}");
        }
        for own in [&[4, 4][..], &[4, 4, 1], &[1, 4, 4], &[5, 6]] {
            assert_eq!(padding(Some(own), &[4, 4]), Some(0), "{own:?}");
        }
        assert_eq!(padding(None, &[48, 48, 3]), Some(0));
        let facts = SpanFacts { padding: Some(1), ..SpanFacts::default() };
        let mut told = object(&[("uv", &[6, 2], None), ("image", &[4, 4, 3], None)]);
        facts.complete(&mut told);
        let [uv, image] = ["uv", "image"].map(|name| &told.fields[name].array);
        assert_eq!((&uv.shape[..], uv.data.len()), (&[5, 2][..], 10));
        assert_eq!((&image.shape[..], image.data.len()), (&[4, 4, 3][..], 48));
    }

    #[test]
    fn an_array_has_the_unit_of_the_one_field_of_its_shape() {
        let array = field(&[4, 4, 1], None).array;
        let unit = |own: &Observation| {
            SpanFacts::by_name(Some(own), &Tokens::default(), None, Some(&array)).units
        };
        let mut own = object(&[("image", &[4, 4], Some("nanomaggy")), ("x", &[3], Some("s"))]);
        assert_eq!(unit(&own), LabelUnits::from([("image".into(), "nanomaggy".into())]));
        own.fields.insert("other".into(), field(&[4, 4], Some("Jy")));
        assert!(unit(&own).is_empty(), "two could be meant");
    }
}
