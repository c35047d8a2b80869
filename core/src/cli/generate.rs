//! `astropt generate`: spans of a run's objects as its model would have them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::args::GenerateArgs;
use super::output::Output;
use super::stages::step_words;
use super::{choose, data};
use crate::checkpoint::files::{PARTIAL, nothing_there, sweep};
use crate::checkpoint::write_bytes;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::generate::{
    Asked, Choice, Chosen, Files, Format, Sampling, Wanted, Writer, generate as generate_spans,
};
use crate::progress;
use crate::recipe::{Plan, amend};
use crate::run::{GENERATED as LIST, RunFolder, RunLock, Work, nothing_foreign};
use crate::tokens::{Tokens, Values};
use crate::train::{METRICS, predicted_until};

/// Objects read together at most.
const BATCH: usize = 16;

/// One generated span.
#[derive(Serialize)]
struct Generated {
    id: String,
    modality: String,
    given: Vec<String>,
    /// Tokens of the span that were given.
    prompt: usize,
    tokens: usize,
    /// Mean over generated numbers of the squared difference to the object's own, in the
    /// units of tokens; for codes the share that differs. `None`: the object has no such span.
    error: Option<f64>,
    #[serde(flatten)]
    maker: Maker,
    #[serde(flatten)]
    files: Files,
}

/// What made a span: several runs may write into one folder.
#[derive(Clone, Serialize)]
struct Maker {
    /// The run's folder, as it was named.
    run: PathBuf,
    checkpoint: String,
    /// Digest of the parameters' file, as embeddings have it.
    model: String,
}

/// `astropt generate`.
pub(super) fn generate(args: &GenerateArgs, output: Output) -> Result<()> {
    super::listen()?;
    let (folder, manifest) = match args.out {
        Some(_) => RunFolder::open(&args.run)?,
        None => RunFolder::open_to_write(&args.run)?,
    };
    let saved = folder.checkpoint(&args.checkpoint)?;
    let (plan, parameters, _) = folder.load_model(&saved, &manifest.plan)?;
    let plan = amend(&plan, &[], &[], args.data.as_deref())?;
    let chosen = choose(&args.device, Some(&plan))?;
    let data = data::open_to_read(&plan)?;
    let modality = made(args, &data)?;
    let sampling = sampling(args, &data, &modality)?;

    let out = args.out.clone().unwrap_or_else(|| folder.path().join("generated"));
    check_out(&out, args, &plan)?;
    let (given, like) = (&args.given[..], args.like.as_deref());
    let asked = Asked { made: &modality, given, prompt: args.prompt, like };
    let choice = Choice::new(&data, &plan.stream, plan.objective, asked)?;
    learnt(&folder, saved.step, &data, &modality)?;
    if saved.step == 0 && manifest.imported.is_none() {
        progress::warn("the model is that of step 0, before training: it has learnt nothing");
    }
    let objects = match args.object.is_empty() {
        true => choice.drawn(args.objects)?,
        false => choice.named(&args.object)?,
    };
    let mut session = chosen.backend.open(chosen.index, data.model())?;
    let check = !args.check.no_self_check;
    saved.load(&parameters, data.modalities(), session.as_mut(), check)?;
    match (&args.data, check) {
        (None, true) => manifest.check_data(&data, &args.run)?,
        (Some(_), true) => manifest.check_units(&data, &args.run)?,
        (_, false) => {}
    }
    // The run's own folder is locked already.
    let _lock = args.out.is_some().then(|| claimed(&out)).transpose()?;
    let start = Instant::now();
    let (session, wanted) = (session.as_mut(), &objects.wanted[..]);
    let spans = generate_spans(session, wanted, &modality, plan.objective, BATCH, sampling)?;
    let seconds = start.elapsed().as_secs_f64();

    let (run, checkpoint) = (args.run.clone(), step_words(saved.step));
    let maker = Maker { run, checkpoint, model: saved.digest()? };
    let write =
        |staged: &Path| write(&data, &modality, &objects, &spans, (staged, args.format, &maker));
    let generated = keep(&out, &modality, write)?;
    for one in &generated {
        output.result(one, || describe(one))?;
    }
    let tokens: usize = generated.iter().map(|g| g.tokens - g.prompt.min(g.tokens)).sum();
    progress::say(&format!(
        "{tokens} tokens, {:.2} ms each; files are in {}",
        1e3 * seconds / tokens.max(1) as f64,
        out.display()
    ));
    Ok(())
}

/// The modality to generate: the one asked for, or the only one.
fn made(args: &GenerateArgs, data: &Dataset) -> Result<String> {
    let names: Vec<&String> = data.modalities().keys().collect();
    let known = |name: &String| -> Result<()> {
        if names.contains(&name) {
            return Ok(());
        }
        let list = names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
        Err(Error::Misuse(format!("the run has no modality {name:?}; it has {list}")))
    };
    match (&args.make, &names[..]) {
        (Some(name), _) => known(name).map(|()| name.clone()),
        (None, [only]) => Ok((*only).clone()),
        (None, _) => Err(Error::Misuse(format!(
            "--make NAME is needed: the run has {}",
            names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Refuses to make what the run never learnt to make until `step`, as far as its metrics tell: of
/// steps that they do not cover, as before an import, nothing is known.
fn learnt(folder: &RunFolder, step: u64, data: &Dataset, made: &str) -> Result<()> {
    let Some(predicted) = predicted_until(&folder.file(METRICS), step)? else { return Ok(()) };
    let counts = |name: &str| {
        let weight = data.model().modalities.get(name).map_or(1.0, |spec| spec.loss_weight);
        weight > 0.0 && predicted.modalities.contains(name)
    };
    if counts(made) {
        return Ok(());
    }
    let steps = format!("in steps {} to {step}", predicted.first);
    let why = match predicted.modalities.contains(made) {
        true => format!(
            "modality.{made}.loss_weight is 0, so {steps} the model did not learn to make it: train \
             with a weight above 0"
        ),
        false => format!(
            "{made} was never predicted {steps} ({METRICS}), so the model did not learn to make it: \
             no training object had it, the objective never came to it, or it is one token that \
             always came first; train on data that have it, or with stream.order = \"shuffled\""
        ),
    };
    let others: Vec<&str> =
        predicted.modalities.iter().map(String::as_str).filter(|name| counts(name)).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(", or make another with --make: {}", others.join(", ")),
    };
    match predicted.first {
        ..=1 => Err(Error::Misuse(format!("{why}{others}"))),
        _ => {
            progress::warn(&format!("{why}{others}; what steps before did is not known"));
            Ok(())
        }
    }
}

fn sampling(args: &GenerateArgs, data: &Dataset, made: &str) -> Result<Sampling> {
    for (name, value) in [("--temperature", args.temperature), ("--noise", args.noise)] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Misuse(format!("{name} {value}: must be 0 or more")));
        }
    }
    let for_other = match data.model().modalities.get(made).map(|spec| spec.values) {
        Some(Values::Codes { .. }) if args.noise > 0.0 => {
            Some("--noise is added to numbers, and its tokens are codes: use --temperature")
        }
        Some(Values::Continuous { .. }) if args.temperature > 0.0 => {
            Some("--temperature is for codes, and its tokens are numbers: use --noise")
        }
        _ => None,
    };
    match for_other {
        Some(message) => Err(Error::Misuse(format!("{made}: {message}"))),
        None => Ok(Sampling { temperature: args.temperature, noise: args.noise, seed: args.seed }),
    }
}

fn write(
    data: &Dataset,
    modality: &str,
    objects: &Chosen,
    spans: &[Tokens],
    (out, format, maker): (&Path, Format, &Maker),
) -> Result<Vec<Generated>> {
    let made = data.modalities()[modality].as_ref();
    let mut writer = Writer::new(made, modality, out, format).in_units(data.label_units());
    let mut generated = Vec::new();
    for (place, (wanted, span)) in objects.wanted.iter().zip(spans).enumerate() {
        let own = objects.own[place].then_some(&wanted.span);
        let files = writer.write((place, &wanted.id), span, own, &objects.facts[place])?;
        generated.push(Generated {
            id: wanted.id.clone(),
            modality: modality.to_owned(),
            given: wanted.given.iter().map(|(name, _)| name.clone()).collect(),
            prompt: wanted.prompt,
            tokens: span.len,
            error: own.and_then(|own| difference(span, own, wanted.prompt)),
            maker: maker.clone(),
            files,
        });
    }
    let endless = writer.finish()?;
    if endless > 0 {
        progress::say(&format!(
            "of {endless} objects the data do not say how many samples they have: what fills up \
             their last token, where its place does not tell, is written too"
        ));
    }
    let standardised = |wanted: &Wanted| !wanted.span.affine.is_empty();
    if objects.wanted.iter().any(standardised) {
        progress::say(&format!(
            "{modality} is standardised object by object: what is made is written as standardised, \
             without a unit"
        ));
    }
    Ok(generated)
}

/// Checks that `out` is a folder, or can be one, in which nothing else is kept.
fn check_out(out: &Path, args: &GenerateArgs, plan: &Plan) -> Result<()> {
    if out.exists() && !out.is_dir() {
        let message = format!("{} is a file; name a folder with --out", out.display());
        return Err(Error::Misuse(message));
    }
    if args.out.is_some() {
        data::apart_from(plan, out)?;
        nothing_foreign(out, Work::Generated)?;
    }
    Ok(())
}

/// The right to write into `out`, before anything is computed for it.
fn claimed(out: &Path) -> Result<RunLock> {
    std::fs::create_dir_all(out).map_err(|e| Error::io("make the folder", out, &e))?;
    RunLock::take(out)
}

/// What `write` writes into a folder that it is given, put into `out` once it is whole, in place
/// of what an earlier call made of the same `modality`.
fn keep(
    out: &Path,
    modality: &str,
    write: impl FnOnce(&Path) -> Result<Vec<Generated>>,
) -> Result<Vec<Generated>> {
    std::fs::create_dir_all(out).map_err(|e| Error::io("make the folder", out, &e))?;
    sweep(out)?;
    let earlier = Earlier::read(out, modality)?;
    // Under hidden names until all are whole and nothing is in their way: what a process leaves
    // that is killed is listed, or swept by the next.
    let staged = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(out);
    let staged = staged.map_err(|e| Error::io("write into", out, &e))?;
    put(write(staged.path())?, earlier, staged.path(), out)
}

/// Moves the files of `generated` from `staged` to `out`, which lists them from before the first has
/// come, beside what is kept of the `earlier`.
fn put(
    mut generated: Vec<Generated>,
    earlier: Earlier,
    staged: &Path,
    out: &Path,
) -> Result<Vec<Generated>> {
    let names = entries(staged)?;
    let mut new = names.iter().filter(|name| !earlier.replaced.contains(*name));
    new.try_for_each(|name| nothing_there(&out.join(name)))?;
    for one in &mut generated {
        one.files.move_to(out);
    }
    let failed = |e| Error::Failed(format!("cannot describe what was generated: {e}"));
    earlier.delete(out)?;
    let mut list = earlier.kept;
    for one in &generated {
        list.push(serde_json::to_value(one).map_err(failed)?);
    }
    let text = serde_json::to_string_pretty(&list).map_err(failed)?;
    write_bytes(out.join(LIST), text.as_bytes())?;
    for name in names {
        let path = out.join(&name);
        std::fs::rename(staged.join(&name), &path)
            .map_err(|e| Error::io("put in place", &path, &e))?;
    }
    Ok(generated)
}

/// Names of what lies in `folder`.
fn entries(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |e: std::io::Error| Error::io("read", folder, &e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name())).collect()
}

/// What earlier calls wrote into a folder, as its list names it.
#[derive(Default)]
struct Earlier {
    /// Entries of the list, of other modalities.
    kept: Vec<serde_json::Value>,
    /// Names of the files of the modality that is made anew, so that two calls are not taken for
    /// one.
    replaced: BTreeSet<OsString>,
    modality: String,
}

/// The part of a list's entry that names files.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    modality: String,
    #[serde(flatten)]
    files: Files,
}

impl Earlier {
    /// What the list in `out` names, of which `modality` is made anew.
    fn read(out: &Path, modality: &str) -> Result<Self> {
        let mut earlier = Self { modality: modality.to_owned(), ..Self::default() };
        let list = out.join(LIST);
        let Ok(text) = std::fs::read(&list) else { return Ok(earlier) };
        let failed = |e: serde_json::Error| {
            let message = format!("is no list of what was generated: {e}; choose another --out");
            Error::file(&list, message)
        };
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&text).map_err(failed)?;
        for value in entries {
            let entry: Entry = serde_json::from_value(value.clone()).map_err(failed)?;
            if entry.modality != modality {
                earlier.kept.push(value);
                continue;
            }
            // Whatever the list says, nothing outside the folder is touched.
            for file in entry.files.into_all() {
                let names = file.extension().is_some_and(|e| e == "npy");
                let names = names.then(|| file.with_extension("ids.txt"));
                let all = names.iter().chain([&file]).filter_map(|path| path.file_name());
                earlier.replaced.extend(all.map(ToOwned::to_owned));
            }
        }
        Ok(earlier)
    }

    /// Deletes the files that are replaced, and says so.
    fn delete(&self, out: &Path) -> Result<()> {
        let mut gone = 0;
        for path in self.replaced.iter().map(|name| out.join(name)) {
            match std::fs::remove_file(&path) {
                Ok(()) => gone += 1,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("delete", &path, &e)),
            }
        }
        if gone > 0 {
            progress::say(&format!(
                "the {gone} files of {} that an earlier call wrote into {} are replaced; keep them \
                 with another --out",
                self.modality,
                out.display()
            ));
        }
        Ok(())
    }
}

/// See [`Generated::error`].
fn difference(generated: &Tokens, own: &Tokens, prompt: usize) -> Option<f64> {
    let left = generated.len.checked_sub(prompt).filter(|&n| n > 0)?;
    let [generated, own] = [generated, own].map(|tokens| tokens.slice(prompt, left));
    let codes = generated.codes.iter().zip(&own.codes).map(|(a, b)| f64::from(u8::from(a != b)));
    let values = generated.values.iter().zip(&own.values).map(|(a, b)| f64::from(a - b).powi(2));
    let all: Vec<f64> = codes.chain(values).collect();
    Some(all.iter().sum::<f64>() / all.len().max(1) as f64)
}

fn describe(one: &Generated) -> String {
    let files = one.files.clone().into_all().map(|path| path.display().to_string());
    let files: Vec<String> = files.collect();
    format!(
        "{}: {} {} tokens after {} given: {}",
        one.id,
        one.tokens - one.prompt,
        one.modality,
        if one.given.is_empty() { one.prompt.to_string() } else { one.given.join(", ") },
        files.join(", ")
    )
}
