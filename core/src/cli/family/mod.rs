//! `astropt scale`, and `astropt run` of a recipe with a family: one model a scale, each a run
//! of its own in the family's folder, then the laws.

mod cost;
mod members;
mod plans;
mod told;

use std::path::{Path, PathBuf};

use super::args::{FamilyArgs, TrainArgs};
use super::output::Output;
use super::stages::REPORT;
use super::{choose, data, run};
use crate::checkpoint::checksums;
use crate::error::{Error, Result};
use crate::family::{FAMILY, Family, Prediction};
use crate::parallel::{self, agree, first};
use crate::progress;
use crate::recipe::{self, Plan};
use crate::run::{RunLock, Work, nothing_foreign};
pub(super) use cost::forecast;
use members::finished;
pub(super) use members::is_run;
use plans::Planned;

/// Share of the loss that counts as a gain, where nothing says another.
const LEAST_GAIN: f64 = 0.005;

/// Why a model that was left out is not trained.
const SATURATED: &str = "left out: saturated there";
/// The same of one that `--scales` does not name now.
const LATER: &str = "left for later: --scales did not name it";
/// Models that say for sure that a loss is saturated: the law of two has no bend.
const SURE: usize = 3;

/// `astropt scale`.
pub(super) fn scale(args: &FamilyArgs, output: Output) -> Result<()> {
    let names = names(args)?;
    if args.plan {
        return forecast(args, &names, output);
    }
    if names.is_empty() {
        return Err(Error::Misuse(match &args.train.recipe {
            Some(_) => {
                "the recipe lists no `family` of scales; name them with --scales 1M,5M".into()
            }
            None => format!("{} holds no family to go on with", folder(args)?.display()),
        }));
    }
    super::listen_until(&args.train)?;
    run(args, &names, output)
}

/// The scales to train: those named, those of the family to go on with, or the recipe's family
/// (or its demonstration's). None where it is one model, as with --scale.
pub(super) fn names(args: &FamilyArgs) -> Result<Vec<String>> {
    let least = args.least_gain.unwrap_or(LEAST_GAIN);
    if !(least > 0.0 && least < 1.0) {
        let message = format!("--least-gain {least}: a share between 0 and 1");
        return Err(Error::Misuse(message));
    }
    if args.train.choice.scale.is_some() {
        return Ok(Vec::new());
    }
    if args.train.resume && args.scales.is_empty() {
        let out = folder(args)?;
        let begun: Vec<String> = Family::read(&out)?.members.into_iter().map(|m| m.scale).collect();
        // A run's folder holds one model, whatever family its recipe lists.
        if !begun.is_empty() || is_run(&out) {
            return Ok(begun);
        }
    }
    match (&args.train.recipe, &args.scales[..]) {
        (None, []) => Ok(Vec::new()),
        (Some(recipe), []) => recipe::family(&args.train.choice.request(recipe)),
        (recipe, named) => {
            // Of a family that is gone on with, the recipe stands in its record.
            let out = folder(args)?;
            if recipe.is_none() && !is_family(&out) {
                return Err(Error::Misuse(format!(
                    "{} holds no family to go on with; of a new one, name the recipe",
                    out.display()
                )));
            }
            let twice = |(k, name): &(usize, &String)| named[..*k].contains(name);
            match named.iter().enumerate().find(twice) {
                Some((_, name)) => {
                    Err(Error::Misuse(format!("--scales names {name} twice; name each scale once")))
                }
                None => Ok(named.to_vec()),
            }
        }
    }
}

/// The family's folder.
fn folder(args: &FamilyArgs) -> Result<PathBuf> {
    let train = &args.train;
    match (&train.out, &train.recipe) {
        (Some(out), _) => Ok(out.clone()),
        (None, None) => {
            let message = "--resume needs --out DIR, the run or the family to go on with";
            Err(Error::Misuse(message.into()))
        }
        (None, Some(recipe)) => {
            let demo = if train.choice.demo { "-demo" } else { "" };
            let name = recipe::name(recipe)?;
            Ok(Path::new("runs").join(format!("{name}{demo}")))
        }
    }
}

/// What is left to do of a model.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Training,
    /// It has not begun, and `--scales` does not name it.
    Later,
}

/// What is left to do of the model of `plan` in `place`.
fn left(args: &FamilyArgs, names: &[String], place: &Path, plan: &Plan) -> Result<Left> {
    if !args.train.overwrite && finished(place, plan)?.is_some() {
        return Ok(Left::Nothing);
    }
    let named = plan.scale.as_ref().is_some_and(|scale| names.contains(scale));
    Ok(if named || is_run(place) { Left::Training } else { Left::Later })
}

/// The device of the first model that is to be trained, if any is. What is not to be had for a later
/// one is told before the first is trained, and what another program has for it is handed over to.
fn device(args: &FamilyArgs, names: &[String], out: &Path, of: &Planned) -> Result<Option<String>> {
    let mut device = None;
    for (member, plan) in of.family.members.iter().zip(&of.plans) {
        if left(args, names, &out.join(&member.scale), plan)? == Left::Training {
            let chosen = choose(&args.train.device, Some(plan))?;
            chosen.knows(plan.train.precision)?;
            device.get_or_insert(chosen.device);
        }
    }
    Ok(device)
}

/// Trains what is not trained yet, smallest first, and tells what came of it.
pub(super) fn run(args: &FamilyArgs, names: &[String], output: Output) -> Result<()> {
    let out = folder(args)?;
    let ranks = parallel::world();
    // What is refused leaves no folder behind; one that is there is looked at once it is held.
    let plan = || agree(ranks, Planned::of(args, names, &out));
    let fresh = if out.exists() { None } else { Some(plan()?) };
    fresh.as_ref().map(|planned| device(args, names, &out, planned)).transpose()?;
    if out.exists() && !is_family(&out) {
        let planned = plan()?;
        planned.plans.first().map_or(Ok(()), |plan| data::apart_from(plan, &out))?;
    }
    let _lock = first(ranks, || {
        std::fs::create_dir_all(&out).map_err(|e| Error::io("make the folder", &out, &e))?;
        let lock = RunLock::take(&out)?;
        if is_run(&out) {
            return Err(Error::Misuse(format!(
                "{} holds a run of one model; choose another folder with --out",
                out.display()
            )));
        }
        nothing_foreign(&out, Work::Family)?;
        checksums::list(&out, &[])?;
        Ok(lock)
    })?;
    let planned = fresh.map_or_else(plan, Ok)?;
    let device = device(args, names, &out, &planned)?;
    let Planned { mut family, plans, changed } = planned;
    let before = family.compute.take();
    let least = args.least_gain.or(before.map(|fit| fit.least_gain)).unwrap_or(LEAST_GAIN);
    let write = |family: &Family| if ranks.rank() == 0 { family.write(&out) } else { Ok(()) };
    cost::say(&family, &plans, &out, args.train.overwrite, device.as_deref())?;
    let (mut done, mut before) = (Vec::new(), None);
    for (k, plan) in plans.into_iter().enumerate() {
        let place = out.join(&family.members[k].scale);
        let plan = plans::on_the_data_of(before.as_ref(), plan)?;
        let left = left(args, names, &place, &plan)?;
        if left == Left::Later {
            progress::say(&format!("{}: {LATER}", family.members[k].scale));
            family.members[k].unfinished = Some(LATER.to_owned());
            continue;
        }
        if left == Left::Training {
            family.fit(least);
            let stops = family.settings.as_ref().is_some_and(|of| of.stop_at_saturation);
            if stops && saturated(&family, k) {
                progress::say(&format!(
                    "leaving out {}: the smaller models say that the loss is saturated there \
                     (--stop-at-saturation=false trains it)",
                    family.members[k].scale
                ));
                family.members[k].unfinished = Some(SATURATED.to_owned());
                continue;
            }
            foretell(&mut family, k, least);
            write(&family)?;
            let one = member_args(args, &place, &changed);
            let others = family.members.iter().map(|member| out.join(&member.scale));
            let before = others.filter(|other| *other != place).find(|other| is_run(other));
            let before = before.filter(|_| !args.train.overwrite);
            let of = run::OfFamily { plan: &plan, out: &out, before: before.as_deref() };
            let begun = run::whole(&one, output, Some(of));
            begun.map_err(|error| of_family(error, &place, &out))?;
        }
        let Some(trained) = finished(&place, &plan)? else {
            return Err(Error::Failed(format!("{} did not finish", place.display())));
        };
        family.settle(k, trained, least);
        done.push(plan);
        before = Some(members::open(&place)?.1.plan);
        write(&family)?;
        progress::say(&told::describe_member(&family.members[k]));
    }
    first(ranks, || told::conclude(&mut family, &done, &out, least))?;
    output.result(&family, || told::describe(&family, &out))
}

/// `astropt report` of the family in `out`: anew from the files of its models.
pub(super) fn report(out: &Path, output: Output) -> Result<()> {
    let _lock = RunLock::take(out)?;
    let mut family = Family::read(out)?;
    let before = family.compute.take();
    let least = before.map_or(LEAST_GAIN, |fit| fit.least_gain);
    let mut done = Vec::new();
    family.members.iter_mut().for_each(|member| member.trained = None);
    for k in 0..family.members.len() {
        let place = out.join(&family.members[k].scale);
        if !is_run(&place) {
            continue;
        }
        let (_, manifest) = members::open(&place)?;
        let Some(trained) = finished(&place, &manifest.plan)? else {
            let unfinished = members::unfinished(&place)?;
            if let Some(how_far) = &unfinished {
                let scale = &family.members[k].scale;
                progress::warn(&format!("leaving out {scale}: {how_far}"));
            }
            family.members[k].unfinished = unfinished;
            continue;
        };
        family.members[k].unfinished = None;
        members::describe(&mut family.members[k], &manifest.plan)?;
        family.settle(k, trained, least);
        done.push(manifest.plan);
    }
    if done.is_empty() {
        return Err(Error::file(out, "holds no model of the family that is trained"));
    }
    told::conclude(&mut family, &done, out, least)?;
    let path = out.join(REPORT);
    output.result(&serde_json::json!({ "report": path }), || path.display().to_string())
}

/// Whether `path` is a family's folder.
pub(super) fn is_family(path: &Path) -> bool {
    path.join(FAMILY).is_file()
}

/// Folders of the models of the family in `out` whose training has begun.
///
/// # Errors
/// When there are none, or one is of another scale than its folder is named after.
pub(super) fn runs(out: &Path) -> Result<Vec<PathBuf>> {
    let members = Family::read(out)?.members;
    let places = members.iter().map(|member| out.join(&member.scale));
    let runs: Vec<PathBuf> = places.filter(|place| is_run(place)).collect();
    if runs.is_empty() {
        return Err(Error::file(out, "holds no model of the family whose training has begun"));
    }
    runs.iter().try_for_each(|run| members::open(run).map(drop))?;
    Ok(runs)
}

/// The arguments of the one model in `place`, which goes on where it has begun.
fn member_args(args: &FamilyArgs, place: &Path, changed: &[String]) -> TrainArgs {
    let mut one = args.train.clone();
    one.resume = !one.overwrite && is_run(place);
    // Its own recipe is what counts, with what may change of it.
    (one.recipe, one.choice.demo) = (None, false);
    one.choice.set = changed.to_vec();
    one.out = Some(place.to_owned());
    one
}

/// What ended the model in `place`, with its family as what is to be gone on with.
fn of_family(error: Error, place: &Path, out: &Path) -> Error {
    let again = |folder: &Path| format!("--resume --out {}", folder.display());
    parallel::reworded(error, |what| what.replace(&again(place), &again(out)))
}

/// The compute that model `k` will have been trained with, counted as it was of the models before
/// it: their objects may have fewer tokens than a forecast has to take them for.
fn expected(family: &Family, k: usize) -> Option<f64> {
    let (last, trained) = family.trained().last()?;
    let counted = trained.flops / last.forecast.as_ref()?.flops;
    Some(counted * family.members[k].forecast.as_ref()?.flops)
}

/// Whether the loss is saturated where model `k` will be, as the smaller models say: [`SURE`] of them
/// at least, and by the whole interval. Says so where it only seems to be.
fn saturated(family: &Family, k: usize) -> bool {
    let turn = family.compute.as_ref().and_then(|fit| fit.saturation);
    let Some((turn, compute)) = turn.zip(expected(family, k)) else { return false };
    if compute < turn.value {
        return false;
    }
    let models = family.compared().len();
    let sure = models >= SURE && turn.high.is_some_and(|high| compute >= high);
    if !sure {
        progress::say(&format!(
            "{}: the loss seems to be saturated from {:.2e} FLOP on, {}, so it is trained all the same",
            family.members[k].scale,
            turn.value,
            match models {
                ..SURE => format!("of {models} models alone"),
                _ => "whose interval reaches beyond it".to_owned(),
            }
        ));
    }
    sure
}

/// Writes down what the smaller models say of model `k`, before it is trained.
fn foretell(family: &mut Family, k: usize, least: f64) {
    let said: Option<Prediction> =
        expected(family, k).and_then(|flops| family.foretell(flops, least));
    if let Some(said) = &said {
        progress::say(&format!(
            "{}: the smaller models foretell a loss of {} ({})",
            family.members[k].scale,
            told::interval(&said.loss),
            told::OVER_OBJECTS
        ));
    }
    family.members[k].predicted = said;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_a_model_names_the_family_to_go_on_with() {
        let (out, place) = (Path::new("runs/f"), Path::new("runs/f/1M"));
        let said = || "it ended after step 3; go on with --resume --out runs/f/1M".to_owned();
        let full = Error::file(place.join("metrics.jsonl"), said());
        for error in [Error::Interrupted(said()), Error::Failed(said()), full] {
            let error = of_family(error, place, out);
            assert!(error.to_string().ends_with("go on with --resume --out runs/f"), "{error}");
        }
    }
}
