//! The command line. Results go to standard output (as text, or as JSON lines with
//! `--json`), progress and errors to standard error.

mod args;
mod as_begun;
mod audit;
mod bench;
mod chosen;
mod convert;
mod data;
mod doctor;
mod emergence;
mod exchange;
mod family;
mod figures;
mod generate;
mod inspect;
mod leaks;
mod list;
mod new;
mod output;
mod probes;
mod report;
mod run;
mod stages;
mod together;
mod tokenise;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::error::{Error, Result};
use crate::seam::check_registry;
use crate::{parallel, progress, stop};
use args::{BenchJob, Cli, Command, NewWhat, TrainArgs};
pub use chosen::asks_for;
use chosen::{Chosen, choose};
use output::Output;

/// Runs the program: parses the arguments, does what they say, and answers with the exit
/// code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    progress::set_quiet(cli.quiet);
    crate::engine::quieten();
    let output = Output { json: cli.json };
    let backend = trained_on(&cli.command).cloned();
    let done = check_registry()
        .and_then(|()| stop::outlive_file_limits())
        .and_then(|()| meet(&cli.command))
        .and_then(|()| dispatch(cli.command, output))
        .map_err(|error| to_go_on(error, backend.as_deref()));
    let code = match done {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            parallel::end_all(&error);
            ExitCode::from(error.exit_code())
        }
    };
    parallel::leave();
    code
}

/// The `--backend` of a command that trains.
fn trained_on(command: &Command) -> Option<&String> {
    match command {
        Command::Run(args) | Command::Scale(args) => args.train.device.backend.as_ref(),
        Command::Pretrain(args) => args.device.backend.as_ref(),
        _ => None,
    }
}

/// What ended a training, with its `--backend` where it says how to go on: no run remembers it.
fn to_go_on(error: Error, backend: Option<&str>) -> Error {
    let Some(backend) = backend else { return error };
    parallel::reworded(error, |what| {
        what.replace("--resume --out", &format!("--resume --backend {backend} --out"))
    })
}

/// Meets the other processes that were started with this one, for commands that share their work
/// out; the others are refused to several processes, each of which would do the whole.
fn meet(command: &Command) -> Result<()> {
    let name = match command {
        Command::Run(args) | Command::Scale(args) if !args.plan => None,
        Command::Pretrain(_) | Command::Embed(_) => None,
        Command::Bench(args) if matches!(args.job, BenchJob::Train(_)) => None,
        Command::Run(_) | Command::Scale(_) => Some("run --plan"),
        Command::Bench(_) => Some("bench embed, generate and data"),
        Command::Probe(_) => Some("probe"),
        Command::Report(_) => Some("report"),
        Command::Audit(_) => Some("audit"),
        Command::Leaks(_) => Some("leaks"),
        Command::Generate(_) => Some("generate"),
        Command::Verify(_) => Some("verify"),
        Command::Convert(_) => Some("convert"),
        Command::Import(_) => Some("import"),
        Command::Export(_) => Some("export"),
        Command::Inspect(_) => Some("inspect"),
        Command::Tokenise(_) => Some("tokenise"),
        Command::Doctor => Some("doctor"),
        Command::Plugins => Some("plugins"),
        Command::Recipes(_) => Some("recipes"),
        Command::New(_) => Some("new"),
    };
    name.map_or_else(|| parallel::join().map(drop), parallel::only_one)
}

fn dispatch(command: Command, output: Output) -> Result<ExitCode> {
    match command {
        Command::Run(mut args) => {
            run::settle(&mut args.train);
            run::run(&args, output)?;
        }
        Command::Scale(mut args) => {
            run::settle(&mut args.train);
            family::scale(&args, output)?;
        }
        Command::Pretrain(mut args) => {
            run::settle(&mut args);
            run::pretrain(&args, output)?;
        }
        Command::Embed(args) => stages::embed(&args, output)?,
        Command::Probe(args) => probes::probe(&args, output)?,
        Command::Report(args) => stages::report(&args, output)?,
        Command::Audit(args) => audit::audit(&args, output)?,
        Command::Generate(args) => generate::generate(&args, output)?,
        Command::Verify(args) => return verify::verify(&args, output),
        Command::Bench(args) => bench::bench(&args, output)?,
        Command::Convert(args) => convert::convert(&args, output)?,
        Command::Leaks(args) => return leaks::leaks(&args, output),
        Command::Import(args) => exchange::import(&args, output)?,
        Command::Export(args) => exchange::export(&args, output)?,
        Command::Inspect(args) => inspect::inspect(&args, output)?,
        Command::Tokenise(args) => tokenise::tokenise(&args, output)?,
        Command::Doctor => doctor::doctor(output)?,
        Command::Plugins => list::plugins(output)?,
        Command::Recipes(args) => list::recipes(&args, output)?,
        Command::New(args) => match args.what {
            NewWhat::Modality(args) => new::modality(&args, output)?,
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Listens for interrupts during long work.
pub(crate) fn listen() -> Result<()> {
    stop::listen()
}

/// Does `work`, which does not look by itself at whether to stop and whose files appear whole or not
/// at all: where it is asked to, the program ends at once. `rest` goes on after "stopped".
fn unless_stopped<T>(output: Output, rest: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(LOOK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                if stop::asked() {
                    let error = stop::stopped(rest);
                    output.error(&error);
                    parallel::end_all(&error);
                    stop::end_at_once(i32::from(error.exit_code()));
                }
            }
        });
        let worked = work();
        drop(done);
        worked
    })
}

/// Time between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A limit of time as `--walltime` takes it.
fn walltime(text: &str) -> std::result::Result<Duration, String> {
    let mut units = text.split(|c: char| !c.is_ascii_alphabetic());
    if let Some(unit) = units.find(|unit| BEYOND_WALLTIMES.contains(unit)) {
        return Err(format!(
            "{unit:?} stands for months or years, and no run is given so long; minutes are `m`, \
             such as 3h50m"
        ));
    }
    let parsed = match text.contains(':') {
        true => by_the_clock(text),
        false => humantime::parse_duration(text).map_err(|e| e.to_string()),
    };
    match parsed {
        Ok(Duration::ZERO) => Err("leaves no time; such as 3h50m".into()),
        parsed => parsed.map_err(|e| format!("{e}; such as 3h50m")),
    }
}

/// `hours:minutes:seconds`, with `days-` before it, as Slurm writes limits.
fn by_the_clock(text: &str) -> std::result::Result<Duration, String> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let numbers = std::iter::once(days).chain(clock.split(':')).map(str::parse::<u32>);
    match numbers.collect::<std::result::Result<Vec<u32>, _>>().as_deref() {
        Ok(&[days, hours, minutes, seconds]) if minutes < 60 && seconds < 60 => {
            let [days, hours, minutes] = [days, hours, minutes].map(u64::from);
            Ok(Duration::from_secs(
                86_400 * days + 3600 * hours + 60 * minutes + u64::from(seconds),
            ))
        }
        _ => Err(format!("{text:?} is no hours:minutes:seconds, with days- before it or without")),
    }
}

/// Units of time that are longer than any run, one of which is easily written for minutes.
const BEYOND_WALLTIMES: [&str; 8] = ["M", "month", "months", "y", "yr", "yrs", "year", "years"];

/// As [`listen`], and minds the walltime of `args`.
pub(crate) fn listen_until(args: &TrainArgs) -> Result<()> {
    args.walltime.into_iter().for_each(stop::set_walltime);
    listen()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_names_the_backend_and_what_others_do_stays() {
        let on = |of: fn(String) -> Error| {
            to_go_on(of("x; --resume --out r".into()), Some("libtorch")).to_string()
        };
        assert_eq!(on(Error::Misuse), "x; --resume --backend libtorch --out r");
        assert_eq!(on(Error::Interrupted), on(Error::Misuse));
        assert_eq!(on(Error::Held), "x; --resume --out r");
    }

    #[test]
    fn walltimes_are_no_months() {
        assert_eq!(walltime("3h50m"), Ok(Duration::from_secs(13_800)));
        assert_eq!(walltime("2days 30 min"), Ok(Duration::from_secs(174_600)));
        assert_eq!(walltime("3:50:00"), Ok(Duration::from_secs(13_800)));
        assert_eq!(walltime("1-00:00:30"), Ok(Duration::from_secs(86_430)));
        for text in ["30:00", "1:90:00", "1-2", "a:b:c", "-1:00:00", "0:00:00"] {
            assert!(walltime(text).is_err(), "{text}");
        }
        for text in ["30M", "1h30M", "2 months", "1y", "1year 2h"] {
            let said = walltime(text).expect_err(text);
            assert!(said.contains("minutes are `m`"), "{text}: {said}");
        }
        assert!(walltime("0s").expect_err("none").contains("no time"));
        assert!(walltime("soon").expect_err("no number").contains("such as 3h50m"));
    }
}
