//! Whether a run that is gone on with is still what is asked for: what was changed meanwhile is not
//! taken up in silence, nor left in silence.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::plain::differences;
use crate::progress;
use crate::recipe::{Plan, RESUMABLE, amend, lacks_data, other_course, other_training};
use crate::seam::find_source;

/// Those of `set` that change something of `plan`, or may: what was said when the run was begun may be
/// said again.
///
/// # Errors
/// When one is no assignment, or makes no plan.
pub(super) fn changing(plan: &Plan, set: &[String]) -> Result<Vec<String>> {
    let json = |plan: &Plan| serde_json::to_value(plan).ok();
    let before = json(plan);
    let mut out = Vec::new();
    for one in set {
        let may = RESUMABLE.iter().any(|key| one.trim().starts_with(key));
        if may || json(&amend(plan, &[""], std::slice::from_ref(one), None)?) != before {
            out.push(one.clone());
        }
    }
    Ok(out)
}

/// Checks that the recipe that is `named`, which says `now` what it does, describes the run in `out`,
/// by its own `plan`, still: what was changed of it meanwhile would not be taken up. What `--set`
/// may change is told of, and other data.
///
/// # Errors
/// When it describes another run.
pub(super) fn still_says(
    (now, by_data): (&Plan, bool),
    named: &str,
    plan: &Plan,
    out: &Path,
) -> Result<()> {
    let out = out.display();
    if now.name != plan.name {
        return Err(Error::Misuse(format!(
            "{out} is a run of the recipe {:?}, not of {named:?}",
            plan.name
        )));
    }
    let places = ["in the recipe now", "in the run"];
    let scale = |plan: &Plan| plan.scale.clone().unwrap_or_else(|| "no scale".to_owned());
    let scales = (now.scale != plan.scale).then(|| {
        format!("the scale is {} {} and {} {}", scale(now), places[0], scale(plan), places[1])
    });
    if let Some(other) = scales.or_else(|| other_training(now, plan, places).into_iter().next()) {
        return Err(Error::Misuse(format!(
            "{out} was begun by another recipe than {named} is now: {other}; go on as it was begun by \
             leaving the recipe out, or by giving the --scale and --set of then again; else begin a \
             new run (--overwrite, or another --out)"
        )));
    }
    let mut told = other_data((now, by_data), plan, places)?;
    told.extend(other_course(now, plan, places));
    if let Some(first) = told.first() {
        let more = told.len() - 1;
        progress::warn(&format!(
            "{first}{}: the run goes on as it was begun; --set KEY=VALUE (--data of data) takes \
             up what the recipe says now",
            if more == 0 { String::new() } else { format!(", and {more} more keys differ") }
        ));
    }
    Ok(())
}

/// In what the data that the recipe names now are others than those of the run; where they are named
/// `by_data`, by `--data` that is, does not count.
fn other_data(
    (now, by_data): (&Plan, bool),
    plan: &Plan,
    places: [&str; 2],
) -> Result<Vec<String>> {
    let kind = |source: &Value| source.get("kind")?.as_str().map(str::to_owned);
    let named_by = |source: &Value| find_source(&kind(source)?).ok()?.path_key;
    let json = |plan: &Plan| {
        serde_json::to_value(&plan.source)
            .map_err(|e| Error::Failed(format!("cannot read the source of the recipe: {e}")))
    };
    let by_data = by_data || lacks_data(now);
    let (mut now, then) = (json(now)?, json(plan)?);
    if let Some(key) = named_by(&then).filter(|_| by_data)
        && let Value::Object(now) = &mut now
    {
        now.remove(key);
    }
    if let (Value::Object(now), Value::Object(then)) = (&mut now, &then) {
        // What is not named now, such as a commit that the run has kept, is the run's.
        let unnamed = then.iter().filter(|(key, _)| now.get(*key).is_none_or(Value::is_null));
        let unnamed: Vec<_> = unnamed.map(|(key, value)| (key.clone(), value.clone())).collect();
        now.extend(unnamed);
    }
    Ok(differences("source", &now, &then, places))
}
