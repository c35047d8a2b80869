//! `astropt bench`: this build against the clock.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::args::{BenchArgs, BenchDataArgs, BenchJob, BenchModelArgs};
use super::choose;
use super::output::Output;
use super::together::same_backend;
use crate::data::{Assembly, Batch, Loader, Objects, Purpose, Row, Sequence};
use crate::engine::{Layer, Precision, Session};
use crate::error::{Error, Result};
use crate::model::{ModelConfig, initial_parameters};
use crate::parallel::{self, Ranks};
use crate::progress;
use crate::recipe::{Plan, Request, TrainConfig, resolve};
use crate::tokens::{Positions, TokenSpec, Tokens, Values};

/// Steps before the clock starts: caches and thread pools warm up.
const WARM_UP: usize = 2;
/// Processor time that data are timed for at least.
const LEAST_SECONDS: f64 = 0.5;

#[derive(Serialize)]
struct ModelTimes {
    job: &'static str,
    recipe: String,
    scale: Option<String>,
    parameters: usize,
    backend: &'static str,
    device: String,
    /// Each of them with the rows that are given.
    processes: usize,
    precision: Precision,
    rows: usize,
    tokens: usize,
    step_seconds: Vec<f64>,
    tokens_per_second: f64,
    /// Of training: six operations a token and parameter, as the paper counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    flops_per_second: Option<f64>,
    /// Of devices with a memory of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Peak>,
    peak_rss_bytes: u64,
    /// What is taken of the device's memory after the steps, by anybody, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
}

/// Model FLOPs utilisation, of as many devices as there are processes, each the one that the recipe's
/// `[cost]` names.
#[derive(Serialize)]
struct Peak {
    of: String,
    share: f64,
}

#[derive(Serialize)]
struct DataTimes {
    job: &'static str,
    objects: usize,
    /// Read as arrays, per second of processor time, as the others; not of converted data.
    arrays_per_second_per_core: Option<f64>,
    /// Read and tokenised.
    images_per_second_per_core: f64,
    /// The same with training's batches made of them: what workers hand over to a device that
    /// computes in the host's memory.
    batched_per_second_per_core: f64,
    /// The same with the numbers of each batch put side by side: what other devices fetch, and
    /// the first thing that happens on one that computes in the host's memory.
    gathered_per_second_per_core: f64,
    peak_rss_bytes: u64,
}

pub(super) fn bench(args: &BenchArgs, output: Output) -> Result<()> {
    match &args.job {
        BenchJob::Train(args) => model("train", args, output),
        BenchJob::Embed(args) => model("embed", args, output),
        BenchJob::Generate(args) => generate(args, output),
        BenchJob::Data(args) => data(args, output),
    }
}

/// The plan whose model is timed.
pub(super) fn plan(args: &BenchModelArgs) -> Result<Plan> {
    if args.steps == 0 || args.micro_batch == 0 || args.tokens == Some(0) {
        let message = "--steps, --micro-batch and --tokens must be at least 1";
        return Err(Error::Misuse(message.into()));
    }
    let plan = resolve(&Request {
        recipe: args.recipe.clone(),
        scale: args.scale.clone(),
        set: args.set.clone(),
        dataless: true,
        data: None,
    })?;
    let most = plan.model_config()?.modalities.values().map(|spec| spec.max_tokens).max();
    match (args.tokens, most) {
        (Some(asked), Some(most)) if asked > most => Err(Error::Misuse(format!(
            "--tokens {asked}: the model's modalities have at most {most}"
        ))),
        _ => Ok(plan),
    }
}

fn model(job: &'static str, args: &BenchModelArgs, output: Output) -> Result<()> {
    let plan = plan(args)?;
    let model = plan.model_config()?;
    let purpose = if job == "train" { Purpose::Predict } else { Purpose::Read };
    let rows = random_rows(&model, args.micro_batch, args.tokens, purpose);
    let batch = Batch::assemble(&rows, &model.modalities, purpose)?;
    let chosen = choose(&args.device, Some(&plan))?;
    same_backend(parallel::world(), chosen.name)?;
    // Embeddings are computed in single precision, whatever the training's.
    let precision = if job == "train" { plan.train.precision } else { Precision::F32 };
    let mut session = chosen.open(&model, precision)?;
    session.set_parameters(&initial_parameters(&model, plan.train.seed))?;
    session.set_recompute(plan.train.recompute);
    let timed = timed(job, session.as_mut(), &batch, &plan.train, args.steps)?;
    if !timed.finite {
        progress::warn(
            "the losses of the timed steps are no numbers: the device does not compute what it \
             should (`astropt doctor` looks), and these times are of nothing",
        );
    }
    let processes = parallel::world().size();
    let tokens = processes * batch.rows * batch.len;
    let tokens_per_second = tokens as f64 / median(&timed.step_seconds);
    let flops = (job == "train").then(|| tokens_per_second * model.train_flops_per_token());
    let on_host = chosen.backend.room(chosen.index).is_some_and(|room| room.shared);
    let usage = chosen.backend.monitor(chosen.index).and_then(|ask| ask());
    let times = ModelTimes {
        job,
        recipe: plan.name,
        scale: plan.scale,
        parameters: model.parameter_count(),
        backend: chosen.name,
        device: chosen.device,
        processes,
        precision,
        rows: batch.rows,
        tokens: batch.len,
        tokens_per_second,
        flops_per_second: flops,
        peak: flops.filter(|_| !on_host).map(|flops| Peak {
            of: plan.cost.device.clone(),
            share: flops / (processes as f64 * plan.cost.peak(precision)),
        }),
        step_seconds: timed.step_seconds,
        peak_rss_bytes: peak_rss(),
        device_memory_bytes: usage.map(|usage| usage.memory_bytes),
    };
    output.result(&times, || times.in_words())
}

impl ModelTimes {
    fn in_words(&self) -> String {
        let processes = match self.processes {
            1 => String::new(),
            size => format!("{size} processes x "),
        };
        let share = self.peak.as_ref().map(|peak| {
            let share = 100.0 * peak.share;
            format!(" ({share:.1}% of the peak of {}, which [cost] names)", peak.of)
        });
        let of_device = self.device_memory_bytes.map(|bytes| {
            format!(", {:.0} MB of the device's taken, by anybody", bytes as f64 / 1e6)
        });
        format!(
            "{} {}: median {:.3} s a step of {processes}{} x {} tokens, {:.0} tokens/s{}{}, peak \
             memory {:.0} MB{}",
            self.job,
            self.scale.as_deref().unwrap_or(&self.recipe),
            median(&self.step_seconds),
            self.rows,
            self.tokens,
            self.tokens_per_second,
            self.flops_per_second.map_or(String::new(), operations),
            share.unwrap_or_default(),
            self.peak_rss_bytes as f64 / 1e6,
            of_device.unwrap_or_default()
        )
    }
}

/// What the clock says of steps.
struct Timed {
    step_seconds: Vec<f64>,
    /// Whether all losses were numbers.
    finite: bool,
}

/// Times steps of `job` on the batch, after some that are not timed.
fn timed(
    job: &str,
    session: &mut dyn Session,
    batch: &Batch,
    train: &TrainConfig,
    steps: usize,
) -> Result<Timed> {
    let (ranks, last) = (parallel::world(), Layer::Block(session.model().layers - 1));
    let mut ahead = if job == "train" { ahead(session, batch)? } else { None };
    let mut finite = true;
    let mut step = |_| {
        // Training's workers hand over batches that they have made.
        let copy = if ahead.is_none() { Some(batch.clone()) } else { None };
        let start = Instant::now();
        // What is uploaded ahead may have to be waited for.
        let made = ahead.as_mut().and_then(Iterator::next).transpose()?.or(copy);
        let made = made.ok_or_else(|| Error::Failed("there are no more batches".into()))?;
        match job {
            "train" => finite &= train_step(session, made, train, ranks)?,
            _ => drop(session.hidden(&made, last)?),
        }
        Ok(start.elapsed().as_secs_f64())
    };
    (0..WARM_UP).try_for_each(|k| step(k).map(drop))?;
    let step_seconds = (0..steps).map(step).collect::<Result<Vec<_>>>()?;
    Ok(Timed { step_seconds, finite })
}

fn operations(a_second: f64) -> String {
    let (unit, prefix) = if a_second < 1e12 { (1e9, "G") } else { (1e12, "T") };
    format!(", {:.1} {prefix}FLOP/s", a_second / unit)
}

/// The batch, again and again, on a device that takes batches ahead of their turn.
fn ahead(session: &mut dyn Session, batch: &Batch) -> Result<Option<Loader<Batch>>> {
    let Some(uploads) = session.uploads()? else { return Ok(None) };
    let batch = batch.clone();
    Ok(Some(Loader::start(1, u64::MAX, move |_| Ok(batch.clone())).uploaded(Some(uploads))))
}

/// Whether all losses of the step are numbers.
fn train_step(
    session: &mut dyn Session,
    batch: Batch,
    train: &TrainConfig,
    ranks: &dyn Ranks,
) -> Result<bool> {
    session.accumulate(batch, 1.0 / ranks.size() as f32)?;
    let settings = train.step_settings(train.final_lr);
    if ranks.size() > 1 {
        session.sum_gradients(ranks, &settings)?;
    }
    let report = session.step(&settings)?;
    Ok(report.losses.iter().all(|losses| losses.total.is_finite()))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) }
}

/// Rows of random tokens that fill the model's modalities.
pub(super) fn random_rows(
    model: &ModelConfig,
    rows: usize,
    tokens: Option<usize>,
    purpose: Purpose,
) -> Vec<(String, Row)> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut span = |spec: &TokenSpec| -> Tokens {
        let extra = usize::from(purpose == Purpose::Predict);
        // One token more than is read, where there is room: the last one only is predicted.
        let len = tokens.map_or(spec.max_tokens, |n| (n + extra).min(spec.max_tokens));
        let mut floats = |n: usize| -> Vec<f32> {
            let draw = |_| -> f32 { StandardNormal.sample(&mut rng) };
            (0..n).map(draw).collect()
        };
        let mut tokens = Tokens { len, ..Tokens::default() };
        match spec.values {
            Values::Continuous { width } => tokens.values = floats(len * width).into(),
            Values::Codes { vocabulary } => {
                tokens.codes = (0..len).map(|k| (k * 7919 % vocabulary) as u32).collect();
            }
        }
        match spec.positions {
            Positions::Index { max } => {
                tokens.indices = (0..len).map(|k| (k % max) as u32).collect()
            }
            Positions::Continuous { width } => tokens.positions = floats(len * width),
        }
        tokens
    };
    let rows = (0..rows).map(|row| {
        let spans = model.modalities.iter().map(|(name, spec)| (name.clone(), span(spec)));
        (format!("random-{row}"), spans.collect())
    });
    rows.collect()
}

#[derive(Serialize)]
struct GenerateTimes {
    job: &'static str,
    recipe: String,
    scale: Option<String>,
    backend: &'static str,
    device: String,
    rows: usize,
    tokens: usize,
    /// Median time of a token of every row, among the first and the last tenth.
    first_seconds: f64,
    last_seconds: f64,
    /// Time to run all tokens again, which is what the last would cost without a cache.
    again_seconds: f64,
    tokens_per_second: f64,
}

/// Every token of some rows predicted and read, one after the other.
fn generate(args: &BenchModelArgs, output: Output) -> Result<()> {
    let plan = plan(args)?;
    let model = plan.model_config()?;
    let rows = random_rows(&model, args.micro_batch, args.tokens, Purpose::Read);
    let chosen = choose(&args.device, Some(&plan))?;
    let mut session = chosen.backend.open(chosen.index, &model)?;
    session.set_parameters(&initial_parameters(&model, plan.train.seed))?;
    let whole = Batch::assemble(&rows, &model.modalities, Purpose::Read)?;
    session.hidden(&whole, Layer::Final)?;
    let start = Instant::now();
    session.hidden(&whole, Layer::Final)?;
    let again_seconds = start.elapsed().as_secs_f64();

    let spans = rows.first().map_or(&[][..], |(_, spans)| spans);
    let places = spans
        .iter()
        .enumerate()
        .flat_map(|(k, (_, span))| (0..span.len).map(move |token| (k, token)));
    let mut seconds = Vec::new();
    for (k, token) in places {
        let newest = |(id, spans): &(String, Row)| {
            (id.clone(), vec![(spans[k].0.clone(), spans[k].1.slice(token, 1))])
        };
        let batch: Vec<_> = rows.iter().map(newest).collect();
        let start = Instant::now();
        session.read(&Batch::assemble(&batch, &model.modalities, Purpose::Read)?)?;
        std::hint::black_box(session.predict_next(&spans[k].0)?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let tenth = seconds.len().div_ceil(10);
    let times = GenerateTimes {
        job: "generate",
        recipe: plan.name,
        scale: plan.scale,
        backend: chosen.name,
        device: chosen.device,
        rows: rows.len(),
        tokens: seconds.len(),
        first_seconds: median(&seconds[..tenth]),
        last_seconds: median(&seconds[seconds.len() - tenth..]),
        again_seconds,
        tokens_per_second: (rows.len() * seconds.len()) as f64 / seconds.iter().sum::<f64>(),
    };
    output.result(&times, || {
        format!(
            "generate {}: {} rows of {} tokens, {:.2} ms a token at first, {:.2} ms at last \
             (running all again: {:.0} ms), {:.0} tokens/s",
            times.scale.as_deref().unwrap_or(&times.recipe),
            times.rows,
            times.tokens,
            1e3 * times.first_seconds,
            1e3 * times.last_seconds,
            1e3 * times.again_seconds,
            times.tokens_per_second
        )
    })
}

fn data(args: &BenchDataArgs, output: Output) -> Result<()> {
    let plan = resolve(&Request {
        recipe: args.recipe.clone(),
        data: Some(args.data.clone()),
        set: args.set.clone(),
        ..Request::default()
    })?;
    if args.objects == 0 {
        return Err(Error::Misuse("--objects must be at least 1".into()));
    }
    let data = Objects::open(&plan, Path::new("."))?;
    let objects = data.source.len().min(args.objects);
    let one = |index: usize| data.read(index).map(|object| drop(std::hint::black_box(object)));
    (0..objects).try_for_each(one)?; // files into the cache of the operating system
    let batches = |gather: bool| {
        (0..objects).step_by(plan.train.micro_batch).try_for_each(|first| {
            let last = objects.min(first + plan.train.micro_batch);
            let mut batch = training_batch(&plan, &data, first..last)?;
            if gather {
                batch.gather();
            }
            std::hint::black_box(batch);
            Ok(())
        })
    };
    let arrays = |index: usize| data.source.read(index).map(|o| drop(std::hint::black_box(o)));
    let read = || rate(objects, || (0..objects).try_for_each(arrays));
    let times = DataTimes {
        job: "data",
        objects,
        arrays_per_second_per_core: data.source.tokenised().is_none().then(read).transpose()?,
        images_per_second_per_core: rate(objects, || (0..objects).try_for_each(one))?,
        batched_per_second_per_core: rate(objects, || batches(false))?,
        gathered_per_second_per_core: rate(objects, || batches(true))?,
        peak_rss_bytes: peak_rss(),
    };
    output.result(&times, || {
        format!(
            "{objects} objects: {}{:.0} a second of processor time as tokens, {:.0} with batches \
             made of them, {:.0} with those put side by side",
            times
                .arrays_per_second_per_core
                .map_or(String::new(), |n| format!("{n:.0} as arrays, ")),
            times.images_per_second_per_core,
            times.batched_per_second_per_core,
            times.gathered_per_second_per_core
        )
    })
}

/// The objects `range` as a micro-batch of training.
fn training_batch(plan: &Plan, data: &Objects, range: Range<usize>) -> Result<Batch> {
    let row = |index: usize| data.read(index).map(|(object, row)| (object.id, row));
    let rows = range.map(row).collect::<Result<Vec<_>>>()?;
    let sequences = rows.iter().map(|(id, spans)| {
        let tokens = spans.iter().map(|(_, tokens)| tokens.len).sum();
        Sequence { id, spans, task: plan.objective.task(id, tokens, plan.train.seed) }
    });
    let assembly = Assembly {
        specs: &data.specs,
        delimiters: plan.model_config()?.delimiters,
        full: !plan.objective.is_causal(),
        row_length: None,
    };
    assembly.batch(&sequences.collect::<Vec<_>>())
}

/// Objects per second of processor time, when `pass` goes through `objects` of them; as often
/// as it takes to see.
fn rate(objects: usize, pass: impl Fn() -> Result<()>) -> Result<f64> {
    let (start, mut passes) = (processor_seconds(), 0);
    loop {
        pass()?;
        passes += 1;
        let spent = processor_seconds() - start;
        if spent >= LEAST_SECONDS {
            return Ok((passes * objects) as f64 / spent);
        }
    }
}

/// Processor time of this process so far, in seconds.
fn processor_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let parts = [usage.user_time(), usage.system_time()];
        parts.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
    })
}

/// Largest resident memory of this process so far, in bytes.
fn peak_rss() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    // Linux counts kilobytes, macOS bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss() as u64 * unit)
}
