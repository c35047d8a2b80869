//! What holds for every source.

use std::collections::HashSet;
use std::path::Path;

use super::{Check, calm, config, ensure, on_threads};
use crate::observation::Observation;
use crate::seam::{self, Source, SourcePlugin};

/// How many objects of a source are read by a check.
const READ: usize = 24;

/// Checks what can be checked without data; a source that needs none is checked whole.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_plugin(plugin: &SourcePlugin) -> Check {
    let check = || {
        let config = config::check(&plugin.info, plugin.parse)?;
        if config.is_remote() {
            return Ok(()); // its own tests bring a server
        }
        let empty = tempfile::tempdir().map_err(|e| e.to_string())?;
        let opened = calm("open", || config.open(empty.path()))?;
        let Some(key) = plugin.path_key else {
            let source = opened.map_err(|e| format!("its example does not open: {e}"))?;
            return check_source(&*source);
        };
        let table: toml::Table = plugin.info.example.parse().unwrap_or_default();
        ensure(table.contains_key(key), || {
            format!("its example does not show {key:?}, the key that --data sets")
        })?;
        ensure(opened.is_err(), || {
            "it opens a path that does not exist; an error is asked for".to_owned()
        })
    };
    check().map_err(|message| format!("source {:?}: {message}", plugin.info.kind))
}

/// Runs the whole suite on the source `kind` with this table (without `kind`) and root.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(kind: &str, table: &str, root: &Path) -> Check {
    let plugin = seam::find_source(kind).map_err(|e| e.to_string())?;
    check_plugin(plugin)?;
    let check = || {
        let config = config::parse_text(table, plugin.parse)?;
        let open =
            || calm("open", || config.open(root))?.map_err(|e| format!("it does not open: {e}"));
        let (source, again) = (open()?, open()?);
        check_source(&*source)?;
        let same = source.len() == again.len()
            && source.label_units() == again.label_units()
            && sampled(&*source).all(|i| source.id(i) == again.id(i));
        ensure(same, || {
            "opened twice, it has other objects, another order or other units".to_owned()
        })
    };
    check().map_err(|message| format!("source {kind:?}: {message}"))
}

/// Runs the suite on a source that is open already. Its objects must be readable.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_source(source: &dyn Source) -> Check {
    ensure(!source.is_empty(), || "it is empty; open must refuse that".to_owned())?;
    let mut ids = HashSet::with_capacity(source.len());
    for index in 0..source.len() {
        let id = source.id(index);
        ensure(!id.is_empty(), || format!("object {index} has no id"))?;
        ensure(ids.insert(id.clone()), || format!("the id {id:?} occurs twice"))?;
    }
    let blank = source.label_units().into_iter().find(|(_, unit)| unit.trim().is_empty());
    ensure(blank.is_none(), || format!("a label has no word for its unit: {blank:?}"))?;
    check_reading(source)?;
    let beyond = calm("read beyond the end", || source.read(source.len()))?;
    ensure(beyond.is_err(), || "it reads an object beyond its end".to_owned())
}

/// Up to [`READ`] indices spread over the source.
fn sampled(source: &dyn Source) -> impl DoubleEndedIterator<Item = usize> + use<> {
    let (len, count) = (source.len(), source.len().min(READ));
    (0..count).map(move |i| i * len / count)
}

fn read(source: &dyn Source, index: usize) -> Result<Observation, String> {
    calm("read", || source.read(index))?.map_err(|e| format!("it cannot read object {index}: {e}"))
}

fn check_reading(source: &dyn Source) -> Check {
    let mut objects = Vec::new();
    for index in sampled(source) {
        let object = read(source, index)?;
        check_object(source, index, &object)?;
        objects.push((index, object));
    }
    // The other way round, and from several threads.
    let backwards = || {
        sampled(source)
            .rev()
            .map(|index| Ok((index, read(source, index)?)))
            .collect::<Result<Vec<_>, String>>()
    };
    let mut answers = vec![backwards()];
    answers.extend(on_threads(backwards)?);
    for answer in answers {
        let mut answer = answer?;
        answer.reverse();
        for (first, again) in objects.iter().zip(&answer) {
            ensure(same(&first.1, &again.1), || {
                format!("object {} is another when it is read again", first.0)
            })?;
        }
    }
    Ok(())
}

/// Whether two observations agree; a NaN equals a NaN.
fn same(a: &Observation, b: &Observation) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

fn check_object(source: &dyn Source, index: usize, object: &Observation) -> Check {
    ensure(object.id == source.id(index), || {
        format!("object {index} is called {:?} and, when read, {:?}", source.id(index), object.id)
    })?;
    ensure(object.labels == source.labels(index), || {
        format!("object {index} has other labels when it is read")
    })?;
    ensure(!object.fields.is_empty(), || format!("object {index} holds no array"))?;
    for (name, field) in &object.fields {
        let (shape, held) = (&field.array.shape, field.array.data.len());
        ensure(shape.iter().product::<usize>() == held && held > 0, || {
            format!("array {name:?} of object {index} has shape {shape:?} and {held} numbers")
        })?;
    }
    let unsound = object.labels.iter().find(|(_, l)| l.number().is_some_and(f64::is_nan));
    ensure(unsound.is_none(), || format!("object {index} has the label {unsound:?}"))
}
