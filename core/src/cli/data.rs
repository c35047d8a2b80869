//! From arguments to plans and data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::RecipeArgs;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::probe::Nuisance;
use crate::progress;
use crate::recipe::{self, DEMO, Plan, Request, data_stated, lacks_data};
use crate::run::is_made;
use crate::seam::nearest;

impl RecipeArgs {
    /// What these arguments ask of the recipe `name`.
    pub(super) fn request(&self, name: &str) -> Request {
        let demo = self.demo.then(|| DEMO.to_owned());
        Request {
            recipe: name.to_owned(),
            scale: self.scale.clone().or(demo),
            data: self.data.clone(),
            set: self.set.clone(),
            dataless: false,
        }
    }

    /// The same, with data that will not be opened.
    pub(super) fn request_dataless(&self, name: &str) -> Request {
        Request { data: None, dataless: true, ..self.request(name) }
    }
}

/// Opens the data of `plan`; relative paths start at the working folder.
pub(super) fn open(plan: &Plan) -> Result<Arc<Dataset>> {
    Dataset::open(plan, Path::new(".")).map(Arc::new).map_err(|error| from_where(error, plan))
}

/// As [`open`], for work that trains nothing: none of the objects need be of the training split.
pub(super) fn open_to_read(plan: &Plan) -> Result<Arc<Dataset>> {
    let data = Dataset::open_to_read(plan, Path::new("."));
    data.map(Arc::new).map_err(|error| from_where(error, plan))
}

/// Checks that `out` is not the folder of the `data`, where pictures that are written would be taken
/// for objects, nor a folder of them: folders of this program's are passed over by what reads the
/// data, with all that is in them.
///
/// # Errors
/// When it is.
pub(super) fn apart(data: Option<&Path>, out: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok().filter(|path| path.is_dir());
    let (Some(data), Some(place)) = (data.and_then(real), real(out)) else {
        return Ok(());
    };
    let hidden = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    let filled =
        || std::fs::read_dir(&place).is_ok_and(|all| all.flatten().any(|entry| !hidden(&entry)));
    if place != data && place.starts_with(&data) && !is_made(&place) && filled() {
        return Err(Error::Misuse(format!(
            "{} lies among the data and holds files: with what is written there they would be passed \
             over as this program's own; choose another with --out",
            out.display()
        )));
    }
    if data == place {
        return Err(Error::Misuse(format!(
            "{} is the folder of the data, where what is written would be taken for more of them; \
             choose another with --out",
            out.display()
        )));
    }
    Ok(())
}

/// As [`apart`], of the data of `plan`.
///
/// # Errors
/// As there.
pub(super) fn apart_from(plan: &Plan, out: &Path) -> Result<()> {
    apart(data_stated(plan).as_deref(), out)
}

/// Warns, before days of training, of labels that the recipe's probes name, or compute others of,
/// and no object seems to have.
pub(super) fn tell_unknown_labels(plan: &Plan, data: &Dataset) {
    let probe = &plan.probe;
    let nuisances = probe.nuisance.iter().flat_map(Nuisance::labels);
    let mut asked: Vec<&str> = probe.labels.iter().map(String::as_str).chain(nuisances).collect();
    let by_name = !probe.labels.is_empty();
    if !by_name {
        asked.extend(probe.tasks.keys().map(String::as_str));
    }
    if asked.is_empty() {
        return;
    }
    let Some(known) = data.label_names() else { return };
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let lacks = |name: &str| {
        let of: Vec<&str> = match probe.tasks.get(name) {
            Some(task) if !known.contains(&name) => task.labels().collect(),
            _ => vec![name],
        };
        of.into_iter().find(|label| !known.contains(label)).map(str::to_owned)
    };
    let computed = probe.tasks.keys().filter(|name| lacks(name).is_none()).count();
    if !by_name && computed == 0 && !probe.tasks.is_empty() {
        progress::say(
            "no object has what the recipe's probe.tasks are computed of: every label is probed",
        );
        asked.retain(|name| !probe.tasks.contains_key(*name));
    }
    for (name, lacking) in asked.into_iter().filter_map(|name| Some((name, lacks(name)?))) {
        let task =
            if name == lacking { String::new() } else { format!("{name:?} is computed of ") };
        let without = match by_name || !probe.tasks.contains_key(name) {
            true => "without which there will be no probes",
            false => "so it will not be probed",
        };
        progress::warn(&format!(
            "probe: {task}{lacking:?}, a label that no object looked at has{}, {without}; there are {}",
            nearest(&lacking, &known),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        ));
    }
}

/// `plan` with what keeps its data, which are open, as they are now: they are the same when the run
/// goes on, and when it is embedded or audited.
pub(super) fn pinned(plan: &Plan, data: &Dataset) -> Result<Plan> {
    recipe::with_pins(plan, &data.pins())
}

/// `error`, with a word on relative paths where the data are not there: they may have been given in
/// another folder.
fn from_where(error: Error, plan: &Plan) -> Error {
    let missing = |path: &PathBuf| path.is_relative() && !path.exists() && !lacks_data(plan);
    // The name of a dataset on another machine looks like such a path.
    let path = data_stated(plan).filter(|path| !plan.source.is_remote() && missing(path));
    let (Some(path), Ok(here)) = (path, std::env::current_dir()) else { return error };
    let (path, here) = (path.display(), here.display());
    let hint = format!(
        "; {path} is a relative path, which starts at the folder the command is given in, now {here}: \
         give it there, or the whole path with --data"
    );
    match error {
        Error::Misuse(said) => Error::Misuse(said + &hint),
        Error::Failed(said) => Error::Failed(said + &hint),
        Error::File { path, message } => Error::File { path, message: message + &hint },
        other => other,
    }
}
