//! Arguments as written.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::exchange::{ExportArgs, ImportArgs};
use super::leaks::LeaksArgs;
use crate::generate::Format;

/// Multimodal foundation models of the sky: tokenise observations, pretrain an
/// autoregressive transformer on them, and probe what it has learnt.
#[derive(Debug, Parser)]
#[command(
    name = "astropt",
    version,
    max_term_width = 100,
    after_help = "Example: astropt run galaxy-grz --demo\n\
                  Exit codes: 0 done, 1 failed, 2 misuse, 75 stopped as asked and to be gone on with, 128 \
                  and the signal's number stopped at once by a second signal (Ctrl-C 130, SIGTERM 143)."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Results as JSON on standard output, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole experiment: pretrain, embed, probe, report; where the recipe has a family of
    /// models and no --scale is given, all of them
    #[command(after_help = "Examples:\n  astropt run galaxy-grz --demo\n  \
        astropt run efigi --data DIR --out runs/efigi\n  \
        astropt run galaxy-grz --scale 1M --data DIR --set train.steps=1000\n  \
        astropt run galaxy-grz --plan\n  \
        astropt run --resume --out runs/efigi")]
    Run(FamilyArgs),
    /// The models of several scales, and what their losses and probes say of scale
    #[command(after_help = "Examples:\n  \
        astropt scale efigi --scales 1M,5M,12M --data DIR --out runs/efigi-family\n  \
        astropt scale galaxy-grz --plan --set cost.devices=8\n  \
        astropt scale galaxy-grz --data DIR --resume --stop-at-saturation")]
    Scale(FamilyArgs),
    /// Pretrain a model
    #[command(after_help = "Example: astropt pretrain galaxy-grz --scale 1M --data DIR")]
    Pretrain(TrainArgs),
    /// Write the embeddings of a run's objects
    #[command(after_help = "Example: astropt embed runs/efigi --set embed.layer=middle")]
    Embed(EmbedArgs),
    /// Ask a run's embeddings for the objects' labels
    #[command(after_help = "Examples:\n  astropt probe runs/efigi --set probe.fit.method=ols\n  \
        astropt probe runs/efigi --set probe.checkpoints=true --set probe.layers=true")]
    Probe(ProbeArgs),
    /// Write the report.html of a run, or of a family of runs
    #[command(after_help = "Example: astropt report runs/efigi")]
    Report(ReportArgs),
    /// Prove from a run's ledger which objects trained it, and that it saw no others
    #[command(after_help = "Examples:\n  astropt audit runs/efigi\n  \
        astropt audit runs/efigi --data DIR --counts counts.csv --json")]
    Audit(super::audit::AuditArgs),
    /// Generate spans of objects, such as the rest of an image, with a run's model
    #[command(after_help = "Examples:\n  astropt generate runs/efigi --prompt 60\n  \
        astropt generate runs/pairs --given images --make spectra --object J1234+0102 \
        --format fits\n  \
        astropt generate runs/pairs --given images --make spectra --like J1235+0103\n\n\
        What is made of a modality that is standardised object by object stays standardised: the \
        object's own mean and scale are part of what is unknown. Pictures show what is made on the \
        left, and on the right the object's own.\n\n\
        Files that an earlier call made of the same modality in the same folder are replaced; those \
        of others stay. generated.json lists them all.")]
    Generate(GenerateArgs),
    /// Replay recorded answers of the Python program and compare
    #[command(after_help = "Example: astropt verify golden/v1_paper golden/v2_images")]
    Verify(VerifyArgs),
    /// Time this build
    #[command(after_help = "Example: astropt bench train --scale 1M --micro-batch 8 --json")]
    Bench(BenchArgs),
    /// Turn data into tokens once, in files that are mapped into memory
    #[command(
        after_help = "Examples:\n  astropt convert galaxy-grz --data DIR --out converted\n  \
        astropt run galaxy-grz --data converted"
    )]
    Convert(ConvertArgs),
    /// Look for objects of one split that are known from another, by id, place on the sky and
    /// pixels
    #[command(after_help = "Examples:\n  astropt leaks galaxy-grz --data DIR\n  \
        astropt leaks efigi --data DIR --ra rc3_ra --dec rc3_dec --separation 5\n\n\
        Exit code 1 when there are some, or when not all was looked at.")]
    Leaks(LeaksArgs),
    /// Make a run of a checkpoint of the Python AstroPT, or of a model that `astropt export`
    /// wrote as safetensors
    #[command(after_help = "Examples:\n  astropt import ckpt.pt --out runs/imported\n  \
        astropt import ckpt.pt --out runs/imported --recipe efigi --data DIR --set train.steps=9000\n  \
        astropt import ckpt.pt --out runs/imported --modality spectra=tokens\n  \
        astropt import model.safetensors --out runs/theirs --data DIR")]
    Import(ImportArgs),
    /// Write a model for the Python AstroPT, or as one safetensors file
    #[command(after_help = "Example: astropt export runs/efigi --to astropt-3 --out ckpt.pt")]
    Export(ExportArgs),
    /// Show what a file, folder, run, checkpoint or recipe holds
    #[command(after_help = "Examples:\n  astropt inspect ckpt.pt\n  astropt inspect galaxies/")]
    Inspect(InspectArgs),
    /// Write one object's tokens and positions
    #[command(
        after_help = "Example: astropt tokenise --recipe galaxy-grz galaxy.jpg --out tokens.safetensors"
    )]
    Tokenise(TokeniseArgs),
    /// The modalities, sources and backends linked into this program
    #[command(after_help = "Example: astropt plugins --json")]
    Plugins,
    /// What each backend sees on this machine, whether it computes, and what to install
    #[command(after_help = "Example: astropt doctor")]
    Doctor,
    /// The recipes inside this program
    #[command(after_help = "Example: astropt recipes galaxy-grz --scale 1M")]
    Recipes(RecipesArgs),
    /// Start a crate of your own, such as a modality
    #[command(after_help = "Example: astropt new modality radio-pulse --astropt ../astropt")]
    New(NewArgs),
}

/// Which recipe, and what to change in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Scale of the recipe, such as 1M or 89M
    #[arg(long, conflicts_with = "demo")]
    pub(crate) scale: Option<String>,
    /// The recipe's demonstration: its scale demo, or the family that this lists
    #[arg(long)]
    pub(crate) demo: bool,
    /// File or folder the recipe's source reads
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Change a key of the recipe, such as train.steps=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TrainArgs {
    /// Name of a recipe (see `astropt recipes`) or path of a .toml file
    #[arg(required_unless_present = "resume")]
    pub(crate) recipe: Option<String>,
    #[command(flatten)]
    pub(crate) choice: RecipeArgs,
    /// Folder of the run [default: runs/RECIPE-SCALE]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    /// Save and stop ahead of this limit, such as 3h50m; --resume goes on
    #[arg(long, value_name = "TIME", value_parser = super::walltime)]
    pub(crate) walltime: Option<std::time::Duration>,
    /// Go on from the run's last whole checkpoint
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// --resume where --out holds a run or a family, else begin one: for scripts that are started
    /// again
    #[arg(long, requires = "out", conflicts_with_all = ["resume", "overwrite"])]
    pub(crate) resume_if_begun: bool,
    /// Start anew where a run stands already
    #[arg(long)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FamilyArgs {
    #[command(flatten)]
    pub(crate) train: TrainArgs,
    /// Scales to train, the smallest first, such as 1M,5M,12M [default: the recipe's family]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["scale", "demo"])]
    pub(crate) scales: Vec<String>,
    /// Leave out the scales from which ten times the compute would lower the loss by less than
    /// --least-gain, as three smaller ones or more tell by the whole interval; the family remembers
    /// it, =false takes it back
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) stop_at_saturation: Option<bool>,
    /// Share of the loss that counts as a gain [default: 0.005, or what the family that is gone on
    /// with was asked]
    #[arg(long, value_name = "SHARE")]
    pub(crate) least_gain: Option<f64>,
    /// Say what it would cost, train nothing, and need no data
    #[arg(long)]
    pub(crate) plan: bool,
}

/// How a checkpoint is loaded.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// Load the checkpoint even if it no longer answers as it did when it was written
    #[arg(long)]
    pub(crate) no_self_check: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Backend to compute on, and which of its devices [default: the recipe's backend, else cpu]
    #[arg(long, value_name = "NAME[:INDEX]")]
    pub(crate) backend: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Folder of the run
    pub(crate) run: PathBuf,
    /// Which checkpoint: last, best or a step [default: the recipe's embed.checkpoint]
    #[arg(long, value_name = "NAME")]
    pub(crate) checkpoint: Option<String>,
    /// File or folder to read instead of the one trained on
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Change a key of [embed], such as embed.layer=middle; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder to write to [default: the run's]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Folder of the run
    pub(crate) run: PathBuf,
    /// Folder that `astropt embed --out` wrote [default: the run's]
    #[arg(long, value_name = "DIR")]
    pub(crate) embeddings: Option<PathBuf>,
    /// Change a key of [probe], such as probe.fit.method=ridge; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Folder of the run
    pub(crate) run: PathBuf,
    /// Modality to generate [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) make: Option<String>,
    /// Modality to give, may be repeated; "none" gives the span's own beginning alone [default: all
    /// that the object has of those before it in stream.order, of all others if shuffled or masked]
    #[arg(long, value_name = "NAME")]
    pub(crate) given: Vec<String>,
    /// Tokens of the span itself that are given [default: none; half where nothing else is]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) prompt: Option<usize>,
    /// Id of an object whose number of tokens and positions those take that lack the modality
    /// [default: as the recipe tells, where it does]
    #[arg(long, value_name = "ID")]
    pub(crate) like: Option<String>,
    /// Id of an object, may be repeated [default: some of the validation split]
    #[arg(long, value_name = "ID")]
    pub(crate) object: Vec<String>,
    /// How many objects, where none is named; those that are not suitable are passed over
    #[arg(long, default_value_t = 4, conflicts_with = "object")]
    pub(crate) objects: usize,
    /// How numbers are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Draw codes from softmax(logits / T); 0 takes the likeliest
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Standard deviation of noise added to continuous tokens, in their units
    #[arg(long, value_name = "SIGMA", default_value_t = 0.0)]
    pub(crate) noise: f32,
    /// Seed of temperature and noise
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which checkpoint: last, best or a step
    #[arg(long, default_value = "last")]
    pub(crate) checkpoint: String,
    /// File or folder to read instead of the one trained on
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Folder to write to; what it has of the same modality is replaced [default: generated/ in the
    /// run's]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder of the run, or of the family
    pub(crate) run: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Folders of recorded cases, or of recorded tokens
    #[arg(required = true, value_name = "CASE_DIR")]
    pub(crate) cases: Vec<PathBuf>,
    /// File of weights in each case's folder [default: weights.safetensors, else ckpt.pt]
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) job: BenchJob,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchJob {
    /// Training steps on random tokens
    #[command(after_help = "Example: astropt bench train --scale 21M --micro-batch 2")]
    Train(BenchModelArgs),
    /// Embeddings of random tokens
    #[command(after_help = "Example: astropt bench embed --scale 21M --micro-batch 4")]
    Embed(BenchModelArgs),
    /// New tokens, with the keys and values of the tokens before them kept
    #[command(after_help = "Example: astropt bench generate --scale 21M --tokens 1024")]
    Generate(BenchModelArgs),
    /// Files to tokens, on one core
    #[command(after_help = "Example: astropt bench data DIR")]
    Data(BenchDataArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchModelArgs {
    /// Recipe whose model is timed
    #[arg(long, default_value = "galaxy-grz")]
    pub(crate) recipe: String,
    /// Scale of the recipe
    #[arg(long)]
    pub(crate) scale: Option<String>,
    /// Rows per step
    #[arg(long, default_value_t = 8)]
    pub(crate) micro_batch: usize,
    /// Tokens per row [default: as many as the modality has]
    #[arg(long)]
    pub(crate) tokens: Option<usize>,
    /// Steps to time, after two that are not timed
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: usize,
    /// Change a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BenchDataArgs {
    /// What the recipe's source reads
    pub(crate) data: PathBuf,
    /// Recipe whose source and modalities are timed
    #[arg(long, default_value = "galaxy-grz")]
    pub(crate) recipe: String,
    /// Change a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Objects to time, at most
    #[arg(long, default_value_t = 64)]
    pub(crate) objects: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Name of a recipe (see `astropt recipes`) or path of a .toml file
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) choice: RecipeArgs,
    /// Folder to write to; an interrupted conversion in it goes on
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Size at which a shard is full, such as 64MB or 1GiB
    #[arg(long, value_name = "SIZE", default_value = "256MB", value_parser = super::convert::size)]
    pub(crate) shard_size: u64,
    /// How the numbers of tokens are stored: f16 halves the size and rounds
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: crate::shards::Precision,
    /// Threads that read and tokenise [default: train.workers of the recipe]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// File or folder
    pub(crate) path: PathBuf,
    /// Source to read it with [default: the first that can]
    #[arg(long, value_name = "KIND")]
    pub(crate) source: Option<String>,
    /// Change a key of the source, such as source.labels=table.csv; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokeniseArgs {
    /// File that holds the object
    pub(crate) file: PathBuf,
    /// Recipe whose source and modalities are used
    #[arg(long)]
    pub(crate) recipe: String,
    /// Scale of the recipe
    #[arg(long)]
    pub(crate) scale: Option<String>,
    /// Change a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// File to write
    #[arg(long, value_name = "X.safetensors")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecipesArgs {
    /// Show this recipe resolved, as TOML
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) choice: RecipeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    #[command(subcommand)]
    pub(crate) what: NewWhat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NewWhat {
    /// A crate with a modality that builds and conforms, and a program that has it linked
    #[command(after_help = "Example: astropt new modality radio-pulse --astropt ../astropt")]
    Modality(NewModalityArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewModalityArgs {
    /// Its kind: lower-case words joined by hyphens
    pub(crate) name: String,
    /// Folder of the crate, which must not be there yet [default: astropt-NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// AstroPT's repository [default: the one that the current folder is in]
    #[arg(long, value_name = "PATH|GIT-URL")]
    pub(crate) astropt: Option<String>,
}
