//! What to compute on: by `--backend`, else by the recipe.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use super::args::{BenchJob, Cli, Command, DeviceArgs, FamilyArgs, RecipeArgs, TrainArgs};
use super::family::{self, is_family, is_run};
use super::{bench, run};
use crate::engine::{Precision, Session};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::model::ModelConfig;
use crate::recipe::{Plan, amend, resolve};
use crate::run::RunFolder;
use crate::seam::{Backend, backends, find_backend};
use crate::{parallel, progress};

/// The backend where neither the command line nor a recipe names one.
pub(super) const DEFAULT_BACKEND: &str = "cpu";

/// A backend and which of its devices.
pub(crate) struct Chosen {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) name: &'static str,
    pub(crate) index: usize,
    pub(crate) device: String,
}

/// Finds what `--backend NAME[:INDEX]` names, else the `backend` of `plan`, else the default.
///
/// # Errors
/// When no such backend is linked, or it lacks the device.
pub(crate) fn choose(args: &DeviceArgs, plan: Option<&Plan>) -> Result<Chosen> {
    let of_plan = plan.and_then(|plan| plan.backend.as_deref());
    let (wanted, said) = match (args.backend.as_deref(), of_plan) {
        (Some(wanted), _) => (wanted, format!("--backend {wanted}")),
        (None, Some(wanted)) => (wanted, format!("backend = {wanted:?} of the recipe")),
        (None, None) => (DEFAULT_BACKEND, format!("--backend {DEFAULT_BACKEND}")),
    };
    // A recipe may have been written for another machine.
    let else_here = match args.backend {
        None if of_plan.is_some() => "; --backend NAME computes on another",
        _ => "",
    };
    let told = |error: Error| match (else_here, error) {
        ("", error) => error,
        (_, Error::Misuse(message)) => Error::Misuse(format!("{said}: {message}{else_here}")),
        (_, error) => Error::Failed(format!("{said}: {error}{else_here}")),
    };
    let (name, index) = parsed(wanted, &said)?;
    let plugin = find_backend(name).map_err(told)?;
    let backend = (plugin.build)();
    let devices = backend.devices().map_err(told)?;
    let index = match index {
        Some(index) => index,
        None => backend.device_of(parallel::local().rank)?,
    };
    let device = devices.get(index).ok_or_else(|| {
        Error::Misuse(format!(
            "{said}: {name} has {} device(s), numbered from 0{else_here}",
            devices.len()
        ))
    })?;
    let device = device.name.clone();
    Ok(Chosen { backend, name: plugin.info.kind, index, device })
}

/// The name and the device number of `wanted`; `said` is where it was written.
fn parsed<'a>(wanted: &'a str, said: &str) -> Result<(&'a str, Option<usize>)> {
    let Some((name, index)) = wanted.split_once(':') else { return Ok((wanted, None)) };
    let index = index.parse().map_err(|_| {
        Error::Misuse(format!(
            "{said}: {index:?} is no device number; write {name}:0 for the first"
        ))
    })?;
    Ok((name, Some(index)))
}

/// That what `--backend` names is linked, for commands that compute nothing: its devices are not
/// asked for.
///
/// # Errors
/// When it is not.
pub(super) fn linked(args: &DeviceArgs) -> Result<()> {
    let Some(wanted) = &args.backend else { return Ok(()) };
    let (name, _) = parsed(wanted, &format!("--backend {wanted}"))?;
    find_backend(name).map(|_| ())
}

impl Chosen {
    /// That the backend computes in `precision`.
    pub(crate) fn knows(&self, precision: Precision) -> Result<()> {
        if self.backend.precisions().contains(&precision) {
            return Ok(());
        }
        let knowing = backends()
            .into_iter()
            .filter(|plugin| (plugin.build)().precisions().contains(&precision));
        let names: Vec<_> = knowing.map(|plugin| plugin.info.kind).collect();
        Err(Error::Misuse(format!(
            "train.precision = \"{}\" is not for --backend {}; backends that know it: {}",
            precision.name(),
            self.name,
            if names.is_empty() { "none in this program".into() } else { names.join(", ") }
        )))
    }

    /// A model on the device, to be trained in `precision`.
    pub(crate) fn open(
        &self,
        model: &ModelConfig,
        precision: Precision,
    ) -> Result<Box<dyn Session>> {
        self.knows(precision)?;
        let mut session = self.backend.open(self.index, model)?;
        session.set_precision(precision)?;
        Ok(session)
    }
}

/// Whether the command line asks for `backend`: by `--backend`, or by the recipe or the run that it
/// names, or by one of a family's; `doctor` asks for all. The command line begins with the program's
/// name. For programs that have a backend in another program beside them, and become that one before
/// anything is begun. What is only found while a command does its work is not seen here.
pub fn asks_for(backend: &str, command_line: impl IntoIterator<Item = OsString>) -> bool {
    let Ok(cli) = Cli::try_parse_from(command_line) else { return false };
    progress::set_quiet(true); // the program that does the work says what there is to say
    let asked = match &cli.command {
        Command::Doctor => return true,
        command => asked_by(command),
    };
    progress::set_quiet(cli.quiet);
    asked.iter().any(|asked| asked.split(':').next() == Some(backend))
}

/// What [`choose`] will find for this command, or for each model of a family, as far as one can tell;
/// nothing where it chooses nothing or will fail.
fn asked_by(command: &Command) -> Vec<String> {
    let of_run = |device: &DeviceArgs, path: &Path| {
        device.backend.clone().or_else(|| RunFolder::open(path).ok()?.1.plan.backend)
    };
    let asked = match command {
        Command::Run(args) | Command::Scale(args) => return of_family(args),
        Command::Pretrain(args) => of_training(args),
        Command::Embed(args) => of_run(&args.device, &args.run),
        Command::Probe(args) => of_run(&args.device, &args.run),
        Command::Generate(args) => of_run(&args.device, &args.run),
        Command::Export(args) => of_run(&args.device, &args.model),
        Command::Import(args) => args.device.backend.clone(),
        Command::Verify(args) => args.device.backend.clone(),
        Command::Bench(args) => match &args.job {
            BenchJob::Train(args) | BenchJob::Embed(args) | BenchJob::Generate(args) => {
                args.device.backend.clone().or_else(|| bench::plan(args).ok()?.backend)
            }
            BenchJob::Data(_) => None,
        },
        _ => None,
    };
    asked.into_iter().collect()
}

fn of_family(args: &FamilyArgs) -> Vec<String> {
    let train = &args.train;
    let out = train.out.as_deref().filter(|out| is_family(out));
    match (out, train.device.backend.is_none() && train.recipe.is_none() && !args.plan) {
        (Some(out), true) => {
            let members = Family::read(out).map(|family| family.members).unwrap_or_default();
            let plan = |scale| RunFolder::open(&out.join(scale)).ok()?.1.plan.backend;
            members.into_iter().filter_map(|member| plan(member.scale)).collect()
        }
        _ => {
            let of_scale = |scale| {
                let choice = RecipeArgs { scale, ..train.choice.clone() };
                of_training(&TrainArgs { choice, ..train.clone() })
            };
            // The default scale need not be one of the family's, nor know what is set of them.
            let names = family::names(args).unwrap_or_default();
            let mut scales: Vec<_> = names.into_iter().map(Some).collect();
            if scales.is_empty() {
                scales.push(train.choice.scale.clone());
            }
            scales.into_iter().filter_map(of_scale).collect()
        }
    }
}

fn of_training(args: &TrainArgs) -> Option<String> {
    if args.device.backend.is_some() {
        return args.device.backend.clone();
    }
    let new = || resolve(&args.choice.request_dataless(args.recipe.as_deref()?)).ok();
    if !args.resume && !args.resume_if_begun {
        return new()?.backend;
    }
    let out = args.out.clone().or_else(|| Some(run::default_folder(&new()?)))?;
    match is_run(&out) {
        true => {
            let plan = RunFolder::open(&out).ok()?.1.plan;
            let set = args.choice.set.iter().filter(|set| set.trim().starts_with("backend"));
            amend(&plan, &["backend"], &set.cloned().collect::<Vec<_>>(), None).ok()?.backend
        }
        false => new()?.backend,
    }
}
