//! `astropt scale`, and `astropt run` of a recipe with a family: one model a scale, each a run
//! of its own in the family's folder, then the laws.

use std::path::{Path, PathBuf};

use super::args::{FamilyArgs, TrainArgs};
use super::output::{Output, columns};
use super::probes::{self, PROBES};
use super::{choose, figures, run};
use crate::checkpoint::{format, write_bytes};
use crate::cost::{Energy, Forecast, KILOWATT_HOUR, assumptions};
use crate::error::{Error, Result};
use crate::family::{Family, Member, Prediction, Trained};
use crate::parallel::{self, agree, first};
use crate::probe::{Interval, ProbeTable, Trend, trend};
use crate::progress::{self, duration, quantity};
use crate::recipe::{self, Plan, resolve};
use crate::report::{Choice, FamilyInput, Preview, render_family};
use crate::run::{Manifest, RunFolder, RunLock};
use crate::train::{METRICS, Metric, VALIDATION, ValidationLosses, read_lines};

/// `astropt scale`.
pub(super) fn scale(args: &FamilyArgs, output: Output) -> Result<()> {
    let names = names(args)?;
    if args.plan {
        return forecast(args, &names, output);
    }
    if names.is_empty() {
        return Err(Error::Misuse(
            "the recipe lists no `family` of scales; name them with --scales 1M,5M".into(),
        ));
    }
    super::listen_until(&args.train)?;
    run(args, &names, output)
}

/// The scales to train: those named, or the recipe's family (or its demonstration's). None
/// where it is one model, as with --scale.
pub(super) fn names(args: &FamilyArgs) -> Result<Vec<String>> {
    if !(args.least_gain > 0.0 && args.least_gain < 1.0) {
        let message = format!("--least-gain {}: a share between 0 and 1", args.least_gain);
        return Err(Error::Misuse(message));
    }
    match (&args.train.recipe, &args.scales[..]) {
        (None, _) => Ok(Vec::new()),
        (Some(_), []) if args.train.choice.scale.is_some() => Ok(Vec::new()),
        (Some(recipe), []) => recipe::family(&args.train.choice.request(recipe)),
        (Some(_), named) => Ok(named.to_vec()),
    }
}

/// The arguments of the one model `scale`, which goes on where it has begun.
fn member_args(args: &FamilyArgs, scale: &str, out: &Path) -> TrainArgs {
    let mut one = args.train.clone();
    let folder = out.join(scale);
    one.resume = !one.overwrite && folder.join("manifest.json").exists();
    if one.resume {
        // The rest of what --set says is in the run's own recipe already.
        one.choice.set.retain(|set| run::RESUMABLE.iter().any(|key| set.trim().starts_with(key)));
    }
    one.choice.scale = Some(scale.to_owned());
    one.choice.demo = false;
    one.out = Some(folder);
    one
}

/// The plan of each scale; `dataless`, of data that need not be there.
fn plans(args: &FamilyArgs, names: &[String], dataless: bool) -> Result<Vec<Plan>> {
    let recipe = args.train.recipe.as_deref().unwrap_or_default();
    let plan = |scale: &String| {
        let mut choice = args.train.choice.clone();
        (choice.scale, choice.demo) = (Some(scale.clone()), false);
        resolve(&recipe::Request { dataless, ..choice.request(recipe) })
    };
    names.iter().map(plan).collect()
}

/// `--plan`: what the family, or the one model, would cost.
pub(super) fn forecast(args: &FamilyArgs, names: &[String], output: Output) -> Result<()> {
    let plans = match names {
        [] => {
            let recipe = args.train.recipe.as_deref().unwrap_or_default();
            let choice = &args.train.choice;
            let request =
                recipe::Request { dataless: choice.data.is_none(), ..choice.request(recipe) };
            vec![resolve(&request)?]
        }
        names => plans(args, names, args.train.choice.data.is_none())?,
    };
    let all: Vec<Forecast> = plans.iter().map(Forecast::of).collect::<Result<_>>()?;
    let cost = &plans[0].cost;
    let result = serde_json::json!({ "models": all, "assumed": cost });
    let reference = plans[0].reference.stated().filter(|_| all.len() > 1);
    let published = reference.and_then(|of| {
        Some(format!("published: {} kg CO2 for all models of {}", of.co2_kg?, of.source))
    });
    output.result(&result, || {
        let lines = [table(&all), assumptions(cost)];
        lines.into_iter().chain(published).collect::<Vec<_>>().join("\n")
    })
}

fn table(all: &[Forecast]) -> String {
    let heading = [
        "scale",
        "parameters",
        "steps",
        "tokens",
        "6ND FLOP",
        "memory a device",
        "hours",
        "kWh",
        "kg CO2",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let number = |x: f64| match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 1.0 => format!("{x:.1}"),
        x if x >= 0.01 => format!("{x:.2}"),
        _ => "<0.01".to_owned(),
    };
    for f in all {
        let memory = match f.memory_bytes {
            bytes if bytes < 1e8 => format!("{:.0} MB", bytes / 1e6),
            bytes => format!("{:.1} GB", bytes / 1e9),
        };
        let memory = memory + if f.fits { "" } else { " (too much)" };
        rows.push(vec![
            f.scale.clone().unwrap_or_else(|| "-".into()),
            quantity(f.parameters as f64),
            f.steps.to_string(),
            quantity(f.tokens),
            quantity(f.flops),
            memory,
            number(f.hours),
            number(f.energy_kwh),
            number(f.co2_kg),
        ]);
    }
    if all.len() > 1 {
        let sum = |of: fn(&Forecast) -> f64| all.iter().map(of).sum::<f64>();
        let mut row =
            vec!["all".to_owned(), String::new(), String::new(), quantity(sum(|f| f.tokens))];
        row.push(quantity(sum(|f| f.flops)));
        row.push(String::new());
        row.extend([sum(|f| f.hours), sum(|f| f.energy_kwh), sum(|f| f.co2_kg)].map(number));
        rows.push(row);
    }
    columns(&rows)
}

/// Trains what is not trained yet, smallest first, and tells what came of it.
pub(super) fn run(args: &FamilyArgs, names: &[String], output: Output) -> Result<()> {
    // Runs that have begun know their data.
    let plans = plans(args, names, args.train.resume && args.train.choice.data.is_none())?;
    choose(&args.train.device)?;
    let out = folder(args, &plans[0]);
    let ranks = parallel::world();
    let _lock = first(ranks, || {
        std::fs::create_dir_all(&out).map_err(|e| Error::io("make the folder", &out, &e))?;
        RunLock::take(&out)
    })?;
    let mut family = agree(ranks, begin(args, &out, &plans))?;
    let write = |family: &Family| if ranks.rank() == 0 { family.write(&out) } else { Ok(()) };
    for (k, plan) in plans.iter().enumerate() {
        let place = out.join(&names[k]);
        if args.train.overwrite || finished(&place, plan)?.is_none() {
            family.fit(args.least_gain);
            let next = Forecast::of(plan)?;
            if args.stop_at_saturation && saturated(&family, next.flops) {
                progress::say(&format!(
                    "stopping before {}: the smaller models say that the loss is saturated there",
                    names[k]
                ));
                break;
            }
            foretell(&mut family, k, next.flops);
            write(&family)?;
            run::whole(&member_args(args, &names[k], &out), output)?;
        }
        let Some(trained) = finished(&place, plan)? else {
            return Err(Error::Failed(format!("{} did not finish", place.display())));
        };
        let member = &mut family.members[k];
        if let Some(prediction) = &mut member.predicted {
            let within = |low: f64, high: f64| (low..=high).contains(&trained.loss);
            prediction.right =
                prediction.loss.low.zip(prediction.loss.high).map(|(l, h)| within(l, h));
        }
        member.trained = Some(trained);
        let said = describe_member(member);
        write(&family)?;
        progress::say(&said);
    }
    first(ranks, || {
        family.fit(args.least_gain);
        family.trends = trends(&family, &plans, &out)?;
        family.write(&out)?;
        write_report(&family, &plans, &out)
    })?;
    output.result(&family, || describe(&family, &out))
}

/// The family's folder.
fn folder(args: &FamilyArgs, plan: &Plan) -> PathBuf {
    let demo = if args.train.choice.demo { "-demo" } else { "" };
    let own = || Path::new("runs").join(format!("{}{demo}", plan.name));
    args.train.out.clone().unwrap_or_else(own)
}

/// The family in `out` to go on with, or a new one.
fn begin(args: &FamilyArgs, out: &Path, plans: &[Plan]) -> Result<Family> {
    let old = Family::read(out)?;
    // A family whose first model never started may start with other arguments.
    let mut runs = old.members.iter().map(|member| out.join(&member.scale).join("manifest.json"));
    let begun = runs.any(|manifest| manifest.exists());
    if begun && !args.train.resume && !args.train.overwrite {
        return Err(Error::Misuse(format!(
            "{} holds a family already; go on with --resume, start anew with --overwrite, or choose \
             another folder with --out",
            out.display()
        )));
    }
    if args.train.resume && !old.members.is_empty() && old.recipe != plans[0].name {
        return Err(Error::Misuse(format!(
            "{} is a family of the recipe {:?}, not of {:?}",
            out.display(),
            old.recipe,
            plans[0].name
        )));
    }
    let kept = if args.train.overwrite { Vec::new() } else { old.members };
    let member = |plan: &Plan| -> Result<Member> {
        let scale = plan.scale.clone().unwrap_or_default();
        let before = kept.iter().find(|member| member.scale == scale);
        Ok(Member {
            parameters: plan.model_config()?.parameter_count(),
            steps: plan.train.steps,
            predicted: before.and_then(|member| member.predicted.clone()),
            trained: None,
            scale,
        })
    };
    let members = plans.iter().map(member).collect::<Result<_>>()?;
    Ok(Family { recipe: plans[0].name.clone(), members, ..Family::default() })
}

/// What came of the run in `path`, if it has gone through all its stages.
fn finished(path: &Path, plan: &Plan) -> Result<Option<Trained>> {
    if !path.join("report.html").exists() {
        return Ok(None);
    }
    let (folder, manifest) = RunFolder::open(path)?;
    let taken = folder.checkpoints()?.last().map_or(0, |saved| saved.step);
    if taken < plan.train.steps {
        return Ok(None);
    }
    trained(&folder, &manifest).map(Some)
}

/// What the files of a run say of its training.
fn trained(folder: &RunFolder, manifest: &Manifest) -> Result<Trained> {
    let mut out = Trained::default();
    let steps_to_tokens = |step: u64, read: &[(u64, u64)]| {
        read.iter().rev().find(|(at, _)| *at <= step).map_or(0, |(_, tokens)| *tokens)
    };
    let mut read = Vec::new();
    for metric in read_lines::<Metric>(&folder.verified(METRICS)?)? {
        match metric {
            Metric::Train { step, tokens, .. } => {
                read.push((step, tokens));
                out.tokens = tokens;
            }
            Metric::Validation { step, loss, zero_loss, .. } => {
                (out.loss, out.zero_loss) = (loss, zero_loss);
                out.curve.push((steps_to_tokens(step, &read), loss));
            }
        }
    }
    if out.curve.is_empty() {
        let message = "was never evaluated: it has no validation objects; set [split]";
        return Err(Error::file(folder.path(), message));
    }
    out.flops = 6.0 * manifest.parameters as f64 * out.tokens as f64;
    let pretrained = || manifest.stages.iter().filter(|stage| stage.stage == "pretrain");
    out.seconds = pretrained().map(|stage| stage.seconds).sum();
    let energies = pretrained().filter_map(|stage| stage.energy.clone());
    out.energy = energies.reduce(|a, b| Energy { joules: a.joules + b.joules, ..a });
    let path = folder.verified(VALIDATION)?;
    if path.exists() {
        let losses: ValidationLosses = format::read_json(&path, "losses of an evaluation")?;
        out.batches = losses.batches;
    }
    Ok(out)
}

fn saturated(family: &Family, compute: f64) -> bool {
    let turn = family.compute.as_ref().and_then(|fit| fit.saturation);
    turn.is_some_and(|turn| compute > turn.value)
}

/// Writes down what the smaller models say of model `k`, before it is trained.
fn foretell(family: &mut Family, k: usize, flops: f64) {
    let Some(fit) = &family.compute else { return };
    let loss = fit.at(flops);
    progress::say(&format!(
        "{}: the smaller models foretell a loss of {}",
        family.members[k].scale,
        interval(&loss)
    ));
    family.members[k].predicted = Some(Prediction { loss, right: None });
}

/// The trends of all labels that every model was asked for.
fn trends(family: &Family, plans: &[Plan], out: &Path) -> Result<Vec<Trend>> {
    let mut tables: Vec<(f64, ProbeTable)> = Vec::new();
    for (plan, (member, trained)) in plans.iter().zip(family.trained()) {
        tables.push((trained.flops, probes::table(&out.join(&member.scale), plan)?));
    }
    let Some((_, first)) = tables.first() else { return Ok(Vec::new()) };
    let of = |label: &str| {
        let scores = tables
            .iter()
            .map(|(flops, table)| Some((*flops, table.row(label, table.sets.first()?)?.score()?)));
        trend(label, &scores.collect::<Option<Vec<_>>>()?, first.settings.confidence)
    };
    Ok(first.labels().into_iter().filter_map(of).collect())
}

/// Writes the family's report.
fn write_report(family: &Family, plans: &[Plan], out: &Path) -> Result<()> {
    let plan = &plans[0];
    let (mut gallery, mut objects, mut largest) = (Vec::new(), 0, None);
    for (member, _) in family.trained() {
        let (folder, manifest) = RunFolder::open(&out.join(&member.scale))?;
        objects = manifest.objects.get("train").copied().unwrap_or(0);
        let probes = folder.verified(PROBES)?;
        largest = probes.exists().then(|| ProbeTable::read_json(probes)).transpose()?;
        let Some((step, path)) = folder.previews()?.pop() else { continue };
        let png = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        gallery.push(Preview { step, png, caption: member.scale.clone() });
    }
    let mut choices = super::report::choices(plan, objects)?;
    choices.push(Choice {
        name: "Correlation with scale".into(),
        choice: "Pearson's and Spearman's, both".into(),
        meaning: String::new(),
    });
    let figures = figures::of_family(family, plan, out)?;
    figures::write(out, &figures)?;
    let input = FamilyInput {
        title: plan.name.clone(),
        subtitle: plan.summary.clone(),
        family: Some(family),
        reference: plan.reference.stated(),
        choices,
        grid: plan.cost.grid,
        largest,
        figures,
        gallery,
    };
    write_bytes(out.join("report.html"), render_family(&input).as_bytes())
}

fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.5} [{low:.5}, {high:.5}]", of.value),
        _ => format!("{:.5}", of.value),
    }
}

fn describe_member(member: &Member) -> String {
    let Some(trained) = &member.trained else { return format!("{}: not trained", member.scale) };
    let energy = trained.energy.as_ref();
    let energy = energy.map_or(String::new(), |e| match 1000.0 * e.joules / KILOWATT_HOUR {
        hours if hours < 100.0 => format!(", {hours:.2} Wh"),
        hours => format!(", {:.2} kWh", hours / 1000.0),
    });
    let said = member.predicted.as_ref().map_or(String::new(), |said| {
        let right = match said.right {
            Some(true) => ", as was said",
            Some(false) => ", outside the interval",
            None => "",
        };
        format!("; foretold {}{right}", interval(&said.loss))
    });
    format!(
        "{}: loss {:.5} after {} FLOP, {}{energy}{said}",
        member.scale,
        trained.loss,
        quantity(trained.flops),
        duration(trained.seconds)
    )
}

fn describe(family: &Family, out: &Path) -> String {
    let mut lines: Vec<String> = family.members.iter().map(describe_member).collect();
    if let Some(fit) = &family.compute {
        let floor = match fit.floor.value > 0.0 {
            true => interval(&fit.floor) + " + ",
            false => String::new(),
        };
        lines.push(format!(
            "L(C) = {floor}{:.5} (C / {:.2e} FLOP)^-b, b = {}",
            fit.law.a,
            fit.law.unit,
            interval(&fit.b)
        ));
        let share = 100.0 * fit.least_gain;
        lines.push(match &fit.saturation {
            Some(turn) => format!(
                "saturated from {:.2e} FLOP on: ten times as much lowers the loss by less than {share}%",
                turn.value
            ),
            None if fit.law.a > 0.0 => "no floor is in sight: a power law fits alone".to_owned(),
            None => "the loss does not fall with compute".to_owned(),
        });
    }
    if let Some(fit) = &family.size {
        lines.push(format!(
            "L(N, D): N^-{:.3} and D^-{:.3}, from {} evaluations, {:.1e} left",
            fit.alpha.value, fit.beta.value, fit.points, fit.residual
        ));
    }
    for trend in &family.trends {
        let gain = trend.gains.last().map_or(String::new(), interval);
        let rho = |of: &Option<Interval>| of.as_ref().map_or("-".into(), interval);
        lines.push(format!(
            "{}: gain {gain}, Pearson {}, Spearman {}",
            trend.label,
            rho(&trend.pearson),
            rho(&trend.spearman)
        ));
    }
    lines.push(format!("family: {}", out.display()));
    lines.join("\n")
}
