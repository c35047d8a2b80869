//! The plans of a family's models: of a new one by the command line, of one that is gone on
//! with by the recipes that stand in its folder.

use std::path::Path;

use super::super::args::FamilyArgs;
use super::members::{self, is_run};
use crate::cost::Forecast;
use crate::error::{Error, Result};
use crate::family::{Family, Member, Settings};
use crate::progress;
use crate::recipe::{self, Plan, RESUMABLE, amend, other_training, resolve};

/// A family before any of its models is trained or looked at.
pub(super) struct Planned {
    /// None of its members is trained yet, as far as it says.
    pub(super) family: Family,
    /// One a member.
    pub(super) plans: Vec<Plan>,
    /// The `--set` that models which have begun take up.
    pub(super) changed: Vec<String>,
}

impl Planned {
    /// The family in `out` to go on with, or a new one of the scales `names`.
    pub(super) fn of(args: &FamilyArgs, names: &[String], out: &Path) -> Result<Self> {
        let old = Family::read(out)?;
        // A family whose first model never started may start with other arguments.
        let begun = old.members.iter().any(|member| is_run(&out.join(&member.scale)));
        let train = &args.train;
        if begun && !train.resume && !train.overwrite {
            return Err(Error::Misuse(format!(
                "{} holds a family already; go on with --resume, start anew with --overwrite, or \
                 choose another folder with --out",
                out.display()
            )));
        }
        // One whose recipe is not named goes on by its record, though no model has begun.
        let recorded = train.recipe.is_none() && !old.members.is_empty();
        let planned = match train.resume && (begun || recorded) {
            true => Self::resumed(args, names, out, &old)?,
            false => Self::fresh(args, names)?,
        };
        in_order(&planned.family)?;
        Ok(planned)
    }

    fn fresh(args: &FamilyArgs, names: &[String]) -> Result<Self> {
        let choice = &args.train.choice;
        let settings = Settings {
            recipe: args.train.recipe.clone().unwrap_or_default(),
            data: choice.data.clone(),
            set: choice.set.clone(),
            stop_at_saturation: args.stop_at_saturation.unwrap_or(false),
        };
        let plans = by_settings(&settings, names, false)?;
        let family = family(&plans, settings, &Family::default())?;
        Ok(Self { family, plans, changed: choice.set.clone() })
    }

    /// Models that have begun go on by the recipes in their folders, with what `--set` may change
    /// of them, now or when the family was gone on with before: an interrupt may have kept it from
    /// some. The others begin by the family's.
    fn resumed(args: &FamilyArgs, names: &[String], out: &Path, old: &Family) -> Result<Self> {
        let choice = &args.train.choice;
        if let Some(recipe) = &args.train.recipe
            && recipe::name(recipe)? != old.recipe
        {
            return Err(Error::Misuse(format!(
                "{} is a family of the recipe {:?}, not of {recipe:?}",
                out.display(),
                old.recipe
            )));
        }
        // Families of earlier versions do not say what they were begun with.
        let mut settings = old.settings.clone().unwrap_or_else(|| Settings {
            recipe: args.train.recipe.clone().unwrap_or_else(|| old.recipe.clone()),
            data: None,
            set: choice.set.clone(),
            stop_at_saturation: false,
        });
        let asked = changed(&choice.set, &settings.set)?;
        settings.set.retain(|set| !asked.contains(set));
        settings.set.extend(asked);
        settings.data = choice.data.clone().or(settings.data);
        let before = settings.stop_at_saturation;
        settings.stop_at_saturation = args.stop_at_saturation.unwrap_or(before);
        let changed: Vec<String> = settings.set.iter().filter(may_change).cloned().collect();
        let data = choice.data.as_deref();
        let (mut plans, mut anew) = (Vec::new(), Vec::new());
        for name in with_known(names, old) {
            let (place, known) = (out.join(&name), old.members.iter().find(|m| m.scale == name));
            plans.push(match known {
                _ if is_run(&place) => begun(&place, &changed, data)?,
                Some(member) if !member.recipe.is_empty() => {
                    let plan = recipe::reread(&member.recipe, Some(name.clone()))?;
                    amend(&plan, &RESUMABLE, &changed, data)?
                }
                _ => {
                    anew.push(name.clone());
                    by_settings(&settings, &[name], false)?.remove(0)
                }
            });
        }
        if old.settings.is_some() {
            let begun =
                plans.iter().filter(|plan| !plan.scale.as_ref().is_some_and(|s| anew.contains(s)));
            still_says(begun, &settings, &anew)?;
        }
        let mut by_compute = Vec::new();
        for plan in plans {
            by_compute.push((Forecast::of(&plan)?.flops, plan));
        }
        by_compute.sort_by(|a, b| a.0.total_cmp(&b.0));
        let plans: Vec<Plan> = by_compute.into_iter().map(|(_, plan)| plan).collect();
        let family = family(&plans, settings, old)?;
        Ok(Self { family, plans, changed })
    }
}

/// `plan` on the data as the model `before` it has them, of whatever commit; a scale's source may be
/// of another kind, which is let be.
pub(super) fn on_the_data_of(before: Option<&Plan>, plan: Plan) -> Result<Plan> {
    let kind = |plan: &Plan| Some(serde_json::to_value(&plan.source).ok()?.get("kind")?.clone());
    match before.filter(|before| kind(before) == kind(&plan)) {
        Some(before) => recipe::with_pins(&plan, &before.source.pins()),
        None => Ok(plan),
    }
}

/// What of `asked` changes models that have begun. Of the rest, only what the family was begun
/// with may be said again.
fn changed(asked: &[String], begun_with: &[String]) -> Result<Vec<String>> {
    match asked.iter().find(|set| !may_change(set) && !begun_with.contains(set)) {
        Some(set) => Err(Error::Misuse(format!(
            "--set {set}: going on with a family may change only {}; anything else takes a new \
             family (--overwrite, or another --out)",
            RESUMABLE.join(", ")
        ))),
        None => Ok(asked.iter().filter(may_change).cloned().collect()),
    }
}

/// Checks that a family's recipe still says what its models have `begun` by, where others begin
/// `anew` by it: they could not be compared. Where none does, a person is told.
///
/// # Errors
/// With what it says otherwise.
fn still_says<'a>(
    begun: impl Iterator<Item = &'a Plan>,
    settings: &Settings,
    anew: &[String],
) -> Result<()> {
    for plan in begun {
        let Some(scale) = &plan.scale else { continue };
        // Without new models the recipe is not needed, and may be gone.
        let Ok(now) = by_settings(settings, std::slice::from_ref(scale), true) else { continue };
        let places = ["in the recipe now", "in the model"];
        let different = now.iter().flat_map(|now| other_training(now, plan, places)).next();
        let Some(different) = different else { continue };
        let said = format!(
            "the recipe {} is no longer what {scale} was begun by: {different}",
            settings.recipe
        );
        if !anew.is_empty() {
            return Err(Error::Misuse(format!(
                "{said}; {} could not be compared with it: give the recipe back what it said, or \
                 begin a new family (--overwrite, or another --out)",
                anew.join(", ")
            )));
        }
        progress::warn(&format!("{said}; the family goes on as it was begun"));
        return Ok(());
    }
    Ok(())
}

/// Whether models that have begun may take up `set`.
fn may_change(set: &&String) -> bool {
    RESUMABLE.iter().any(|key| set.trim().starts_with(key))
}

/// The scales of `old`, and those `names` that it has not.
fn with_known(names: &[String], old: &Family) -> Vec<String> {
    let mut all: Vec<String> = old.members.iter().map(|member| member.scale.clone()).collect();
    all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
    all
}

/// The plan of the run in `place`, with `changed` laid over it.
fn begun(place: &Path, changed: &[String], data: Option<&Path>) -> Result<Plan> {
    let (folder, manifest) = members::open(place)?;
    let plan = amend(&manifest.plan, &RESUMABLE, changed, data)?;
    let taken = folder.taken()?;
    if plan.train.steps < taken {
        return Err(Error::Misuse(format!(
            "{} has taken {taken} steps already, more than train.steps = {}; --set \
             train.steps={taken} takes as many with all models",
            place.display(),
            plan.train.steps
        )));
    }
    Ok(plan)
}

/// The plan of each scale by what a family is begun with; `dataless`, of data that need not be
/// there.
pub(super) fn by_settings(
    settings: &Settings,
    names: &[String],
    dataless: bool,
) -> Result<Vec<Plan>> {
    let plan = |scale: &String| {
        resolve(&recipe::Request {
            recipe: settings.recipe.clone(),
            scale: Some(scale.clone()),
            data: settings.data.clone(),
            set: settings.set.clone(),
            dataless,
        })
    };
    names.iter().map(plan).collect()
}

/// The members that `plans` make, with what `old` foretold of them.
fn family(plans: &[Plan], settings: Settings, old: &Family) -> Result<Family> {
    let member = |plan: &Plan| -> Result<Member> {
        let scale = plan.scale.clone().unwrap_or_default();
        let before = old.members.iter().find(|member| member.scale == scale);
        let predicted = before.and_then(|member| member.predicted.clone());
        let mut member = Member { scale, predicted, ..Member::default() };
        members::describe(&mut member, plan)?;
        Ok(member)
    };
    Ok(Family {
        recipe: plans.first().map(|plan| plan.name.clone()).unwrap_or_default(),
        members: plans.iter().map(member).collect::<Result<_>>()?,
        settings: Some(settings),
        compute: old.compute.clone(),
        ..Family::default()
    })
}

/// Refuses models that do not come by rising compute: laws are fitted to the smaller ones, and
/// gains are over the first.
fn in_order(family: &Family) -> Result<()> {
    let flops = |member: &Member| member.forecast.as_ref().map_or(0.0, |of: &Forecast| of.flops);
    if family.members.is_sorted_by_key(flops) {
        return Ok(());
    }
    let mut sorted: Vec<&Member> = family.members.iter().collect();
    sorted.sort_by(|a, b| flops(a).total_cmp(&flops(b)));
    let names: Vec<&str> = sorted.into_iter().map(|member| member.scale.as_str()).collect();
    Err(Error::Misuse(format!(
        "the scales are not in the order of their compute, which laws and gains go by; write \
         --scales {}",
        names.join(",")
    )))
}
