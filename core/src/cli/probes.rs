//! `astropt probe`: from the embeddings in a folder to `probes.json`, and its table in words.

use std::path::Path;

use super::args::ProbeArgs;
use super::output::{Output, columns};
use super::stages::{EMBEDDINGS, MODEL, RAW, REPORT, random_inits, step_words};
use super::{choose, data, emergence, report};
use crate::checkpoint::checksums;
use crate::data::split_key;
use crate::embed::{Description, Embeddings, LabelKind, describe as describe_embedding};
use crate::error::{Error, Result};
use crate::figures::format::significant;
use crate::probe::{
    Audit, Emergence, FeatureSet, Features, Interval, Nuisance, Outcome, ProbeRow, ProbeSettings,
    ProbeTable, Split, add_tasks, asked_labels, audit, probe_table,
};
use crate::progress;
use crate::recipe::{Plan, ProbeProtocol, amend};
use crate::run::RunFolder;
use crate::seam::nearest;

/// The table of probes.
pub(super) const PROBES: &str = "probes.json";

/// `astropt probe`.
pub(super) fn probe(args: &ProbeArgs, output: Output) -> Result<()> {
    super::listen()?;
    let rest = " before the probes were done; the same command does them again";
    super::unless_stopped(output, rest, || probed(args, output))
}

fn probed(args: &ProbeArgs, output: Output) -> Result<()> {
    // What is read from another folder is written there too.
    let (folder, mut manifest) = match args.embeddings {
        Some(_) => RunFolder::open(&args.run)?,
        None => RunFolder::open_to_write(&args.run)?,
    };
    let plan = amend(&manifest.plan, &["probe."], &args.set, None)?;
    let from = args.embeddings.as_deref().unwrap_or(folder.path());
    let table = probes_of(from, &plan)?;
    if args.embeddings.is_some() {
        keep(from, &table)?;
        return output.result(&table, || describe(&table));
    }
    let mut emerged = Emergence::default();
    if emergence::asked(&plan) {
        let chosen = choose(&args.device, Some(&plan))?;
        let data = data::open_to_read(&plan)?;
        manifest.check_data(&data, folder.path())?;
        let mut session = chosen.backend.open(chosen.index, data.model())?;
        emerged = emergence::probes_of(&folder, &plan, &data, session.as_mut())?;
    }
    // All of the new is there: nothing of the old went for what cannot be made or was stopped.
    let reported = report::forget(folder.path(), "of the probes before these")?;
    emergence::forget(folder.path())?;
    keep(folder.path(), &table)?;
    if emergence::asked(&plan) {
        emergence::keep(&folder, &emerged)?;
    }
    manifest.plan = plan;
    folder.write_manifest(&manifest)?;
    // A report that an interrupt kept from being drawn is missed in what is trained to its end.
    if reported || folder.taken()? >= manifest.plan.train.steps {
        report::write(&folder, &manifest)?;
        progress::say(&format!("{REPORT} and figures are drawn anew"));
    }
    output.result(&table, || {
        [describe(&table), emergence::describe(&emerged)].join("\n").trim_end().to_owned()
    })
}

/// The probes of the embeddings in `folder`, in every way that the plan asks for.
pub(super) fn probes_of(folder: &Path, plan: &Plan) -> Result<ProbeTable> {
    let embedded = Embedded::read(folder, plan)?;
    let mut probes = embedded.probe(&plan.probe.fit)?;
    for method in plan.probe.beside.iter().filter(|method| **method != plan.probe.fit.method) {
        probes
            .beside
            .push(embedded.probe(&ProbeSettings { method: *method, ..plan.probe.fit.clone() })?);
    }
    for nuisance in &plan.probe.nuisance {
        probes.audits.push(embedded.audit(nuisance)?);
    }
    Ok(probes)
}

/// Writes the table beside the embeddings in `folder`.
pub(super) fn keep(folder: &Path, probes: &ProbeTable) -> Result<()> {
    checksums::rewritten(folder, &[PROBES], || probes.write_json(folder.join(PROBES)))
}

/// Probes the embeddings in `folder` by the recipe's own model alone.
pub(super) fn table(folder: &Path, plan: &Plan) -> Result<ProbeTable> {
    Embedded::read(folder, plan)?.probe(&plan.probe.fit)
}

/// Checks that the embeddings in the run's `folder` were made as its recipe says, and warns where
/// they are of an older step. Embeddings elsewhere were made as their maker wished.
///
/// # Errors
/// With what they have otherwise: an `embed` was interrupted, or settings changed after it.
pub(super) fn as_recipe_says(folder: &Path, plan: &Plan, made: &Description) -> Result<()> {
    if !RunFolder::is_run(folder) {
        return Ok(());
    }
    let wanted = describe_embedding(&plan.embed);
    let other = wanted.iter().find_map(|(key, wanted)| {
        let found = made.get(key).filter(|found| *found != wanted)?;
        Some(format!("were made with {key} = {found}, and the run's recipe says {wanted}"))
    });
    let (inits, count) = (random_inits(folder).len(), plan.embed.random_inits);
    let fewer =
        || format!("have {inits} untrained models beside them, and the recipe says {count}");
    let other = other.or(of_another_model(folder, made)?);
    // Where there are no untrained models, they were not wanted or are missed as lost.
    match other.or_else(|| (inits > 0 && inits != count).then(fewer)) {
        Some(what) => Err(Error::file(
            folder.join(EMBEDDINGS),
            format!("its embeddings {what}; `astropt embed` makes them again"),
        )),
        None => {
            warn_if_stale(folder, plan, made);
            Ok(())
        }
    }
}

/// Whether the embeddings in the run's `folder` are of none of its models after their step; nothing
/// where those are gone, or the embeddings do not say.
fn of_another_model(folder: &Path, made: &Description) -> Result<Option<String>> {
    let Some((model, step)) = made.get(MODEL).zip(made.get("checkpoint")) else { return Ok(None) };
    let run = RunFolder::at(folder);
    let (mut known, mut found) = (false, false);
    for saved in run.checkpoints()?.into_iter().chain(run.best()?) {
        if step_words(saved.step) == *step {
            (known, found) = (true, found || saved.digest()? == *model);
        }
    }
    Ok((known && !found).then(|| format!("are of another model than this run's after {step}")))
}

/// Says that the embeddings in the run's `folder` are of another step than the checkpoint that they
/// would be of now.
fn warn_if_stale(folder: &Path, plan: &Plan, made: &Description) {
    let choice = plan.embed.checkpoint.name();
    let Ok(saved) = RunFolder::at(folder).checkpoint(choice) else { return };
    let (of, now) = (made.get("checkpoint"), step_words(saved.step));
    if let Some(of) = of.filter(|of| **of != now) {
        progress::warn(&format!(
            "the embeddings in {} are of {of}, and the {choice} checkpoint is of {now}; `astropt \
             embed` makes them again",
            folder.display()
        ));
    }
}

/// The embeddings in a folder, beside those of untrained models and raw features.
struct Embedded<'a> {
    plan: &'a Plan,
    table: Embeddings,
    sets: Vec<(&'static str, Vec<Features>)>,
}

impl<'a> Embedded<'a> {
    fn read(folder: &Path, plan: &'a Plan) -> Result<Self> {
        let path = folder.join(EMBEDDINGS);
        if !path.exists() {
            return Err(Error::file(&path, "is not there; `astropt embed` writes it"));
        }
        checksums::check_whole(&path)?;
        checksums::none_lost(folder, "embeddings")?;
        let mut table = Embeddings::read_parquet(path)?;
        as_recipe_says(folder, plan, &table.description)?;
        add_tasks(&mut table, &plan.probe.tasks)?;
        tell_odd_labels(&table, plan);
        let width = table.width();
        let mut sets = vec![("embedding", vec![Features::new(width, table.vectors.split_off(0))?])];
        let untrained: Result<Vec<_>> =
            random_inits(folder).iter().map(|path| aligned(&table, path)).collect();
        sets.push(("random-init", untrained?));
        let raw = folder.join(RAW);
        if raw.exists() {
            sets.push(("raw features", vec![aligned(&table, &raw)?]));
        }
        sets.retain(|(_, members)| !members.is_empty());
        Ok(Self { plan, table, sets })
    }

    fn sets(&self) -> Vec<FeatureSet<'_>> {
        self.sets.iter().map(|(name, members)| FeatureSet { name, members }).collect()
    }

    /// The labels that are probed.
    fn labels(&self) -> Vec<String> {
        asked_labels(&self.table, &self.plan.probe.labels, &self.plan.probe.tasks)
    }

    fn probe(&self, settings: &ProbeSettings) -> Result<ProbeTable> {
        let split = objects(&self.table, self.plan);
        probe_table(&self.table, &self.sets(), &self.labels(), &split, settings)
    }

    fn audit(&self, nuisance: &Nuisance) -> Result<Audit> {
        let Plan { probe, .. } = self.plan;
        let (split, keys) = (objects(&self.table, self.plan), keys(&self.table, self.plan));
        let objects = (&split, &keys[..]);
        audit(&self.table, &self.sets(), &self.labels(), nuisance, objects, &probe.fit)
    }
}

/// Warns of bounds of labels that no object has and that are called almost like one, for the values
/// they should keep out are probed; and of numbers that are taken for names of classes, because some
/// objects have a text in their place.
fn tell_odd_labels(table: &Embeddings, plan: &Plan) {
    let columns = table.columns();
    for (name, _) in columns.iter().filter(|(_, kind)| **kind == LabelKind::Text) {
        // In a column with a text in it the numbers are texts too.
        let texts = table.texts(name);
        let number = |text: &&&str| text.trim().parse::<f64>().is_ok();
        let numbers = texts.iter().flatten().filter(number).count();
        let mut odd = texts.iter().flatten().filter(|text| !number(text));
        if let Some(first) = odd.next()
            && numbers > odd.clone().count() + 1
        {
            progress::warn(&format!(
                "the label {name:?} is a number of {numbers} objects and a text such as {first:?} of \
                 {}: it is taken for a class and not probed as a number; leave such cells empty",
                odd.count() + 1
            ));
        }
    }
    let known: Vec<_> = columns.keys().map(String::as_str).collect();
    for name in plan.probe.fit.valid.keys().filter(|name| !known.contains(&name.as_str())) {
        let hint = nearest(name, &known);
        if !hint.is_empty() {
            progress::warn(&format!("probe.fit.valid.{name}: no object has such a label{hint}"));
        }
    }
}

/// The objects that the plan's probes are fitted and scored on.
pub(super) fn objects(table: &Embeddings, plan: &Plan) -> Split {
    let config = &plan.probe;
    let keys = keys(table, plan);
    let named = |fit: &[&str], score: &[&str]| Split::named(&table.splits, fit, score);
    let split = match config.protocol {
        ProbeProtocol::TrainValidation => named(&["train"], &["validation"]),
        ProbeProtocol::ValidationTest => named(&["validation"], &["test"]),
        ProbeProtocol::TrainTest => named(&["train", "validation"], &["test"]),
        ProbeProtocol::Halves => {
            Split::halved(&keys, &table.splits, &["validation", "test"], config.fit.seed)
        }
    };
    split.folded(&keys, config.folds, config.fit.seed)
}

/// What tells which objects of `table` belong together: ids, or the labels of `split.group`, or
/// the tiles of `split.tile`.
fn keys(table: &Embeddings, plan: &Plan) -> Vec<String> {
    let rows = table.ids.iter().zip(&table.labels);
    // Coordinates that are none were refused when the data were split.
    rows.map(|(id, labels)| split_key(id, labels, &plan.split).unwrap_or_else(|_| id.clone()))
        .collect()
}

/// The features in the file `path` for the objects of `table`, in its order.
fn aligned(table: &Embeddings, path: &Path) -> Result<Features> {
    checksums::check_whole(path)?;
    let set = Embeddings::read_parquet(path)?;
    if set.ids != table.ids {
        return Err(Error::file(
            path,
            format!("holds other objects than {EMBEDDINGS}; run `astropt embed` again"),
        ));
    }
    Features::new(set.width(), set.vectors)
}

/// R^2 and the median absolute error of each label from each set of features, and in words
/// what the first set is beside each other.
pub(super) fn describe(table: &ProbeTable) -> String {
    let mut heading = vec!["label".to_owned()];
    heading.extend(table.sets.iter().map(|set| format!("R² {set}")));
    heading.push("median |error| (IQR)".into());
    let in_units = !table.units.is_empty();
    heading.extend(in_units.then(|| "in its unit".to_owned()));
    let score_of = |label: &str, set: &str| table.row(label, set).and_then(|row| row.score());
    let classes = table.rows.iter().any(|row| row.score().is_some_and(|s| s.auc.is_some()));
    if classes {
        heading.extend(table.sets.iter().map(|set| format!("AUC {set}")));
    }
    let mut rows = vec![heading];
    for label in table.labels() {
        let mut row = vec![label.to_owned()];
        for set in &table.sets {
            let score = score_of(label, set);
            row.push(score.map_or("-".into(), |s| interval(&s.r2)));
        }
        let score = table.sets.first().and_then(|set| table.row(label, set)?.score());
        let error = score.and_then(|s| s.error);
        row.push(error.map_or("-".into(), |e| format!("{:.3}", e.value)));
        if in_units {
            row.push(score.zip(table.units.get(label)).map_or("-".into(), |(score, unit)| {
                format!("{} {unit}", significant(score.error_label.value, 3))
            }));
        }
        for set in table.sets.iter().filter(|_| classes) {
            let auc = score_of(label, set).and_then(|s| s.auc);
            row.push(auc.map_or("-".into(), |auc| interval(&auc)));
        }
        rows.push(row);
    }
    let mut text = columns(&rows);
    for row in table.rows.iter().filter(|row| table.sets.first() == Some(&row.features)) {
        text.push_str(&verdicts(row));
    }
    for skipped in &table.skipped {
        text.push_str(&format!("\n{}: not probed, {}", skipped.label, skipped.reason));
    }
    if !table.beside.is_empty() {
        text.push_str(&format!("\n{}", others(table)));
    }
    table.audits.iter().for_each(|audit| text.push_str(&format!("\n{}", audited(audit))));
    text
}

/// R^2 of the embedding by every model.
fn others(table: &ProbeTable) -> String {
    let all = || std::iter::once(table).chain(&table.beside);
    let mut rows = vec![vec!["label".to_owned()]];
    rows[0].extend(all().map(|table| format!("R² by {}", table.settings.method.name())));
    for label in table.labels() {
        let mut row = vec![label.to_owned()];
        row.extend(all().map(|table| {
            let score = table.sets.first().and_then(|set| table.row(label, set)?.score());
            score.map_or("-".into(), |score| interval(&score.r2))
        }));
        rows.push(row);
    }
    columns(&rows)
}

/// What a nuisance does: how well it is told, and how far the probes drop.
fn audited(audit: &Audit) -> String {
    let name = &audit.nuisance;
    let told = audit.told.iter().filter_map(|row| {
        let score = row.score()?;
        let (what, of) = score.auc.as_ref().map_or(("R²", &score.r2), |auc| ("AUC", auc));
        Some(format!("{} told from {}: {what} {}", row.label, row.features, interval(of)))
    });
    let mut lines: Vec<String> = told.collect();
    if !audit.cuts.is_empty() {
        let cuts: Vec<_> = audit.cuts.iter().map(|cut| significant(*cut, 4)).collect();
        lines.push(format!(
            "{name} is cut into {} ranges of equally many objects, at {}",
            audit.values,
            cuts.join(", ")
        ));
    }
    let heading = ["label", &format!("R², {name} mixed"), &format!("R², {name} unseen"), "drop"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(audit.drops.iter().map(|drop| {
        let scores = [&drop.mixed, &drop.parted, &drop.drop].map(interval);
        std::iter::once(drop.label.clone()).chain(scores).collect()
    }));
    lines.push(columns(&rows));
    lines.join("\n")
}

/// What the held-out objects say of the model's row: one sentence.
fn verdicts(row: &ProbeRow) -> String {
    if let Outcome::Failed(reason) = &row.outcome {
        return format!("\n{}: no score, {reason}", row.label);
    }
    let said = row.versus.iter().map(|versus| {
        let (score, by) = match &versus.difference.auc {
            Some(auc) => ("AUC", auc),
            None => ("R²", &versus.difference.r2),
        };
        format!("{}, {score} by {}", versus.verdict.says(&versus.baseline), interval(by))
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { String::new() } else { format!("\n{}: {}", row.label, said.join("; ")) }
}

/// A value with its interval, where there is one.
fn interval(of: &Interval) -> String {
    match (of.low, of.high) {
        (Some(low), Some(high)) => format!("{:.3} [{low:.3}, {high:.3}]", of.value),
        _ => format!("{:.3}", of.value),
    }
}
