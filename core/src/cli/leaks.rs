//! `astropt leaks`: objects of one split that are known from another.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::args::RecipeArgs;
use super::output::{Output, columns};
use crate::data::{Objects, Splits};
use crate::error::{Error, Result};
use crate::leaks::{By, Leak, LeakSettings, Leaks, find};
use crate::recipe::{Plan, resolve};

/// Pairs that a person is shown.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct LeaksArgs {
    /// Name of a recipe (see `astropt recipes`) or path of a .toml file
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) choice: RecipeArgs,
    /// Objects of different splits nearer than this are one
    #[arg(long, value_name = "ARCSEC", default_value_t = 1.0)]
    pub(crate) separation: f64,
    /// Label of the right ascension in degrees [default: split.tile's, else ra]
    #[arg(long, value_name = "LABEL")]
    pub(crate) ra: Option<String>,
    /// Label of the declination in degrees [default: split.tile's, else dec]
    #[arg(long, value_name = "LABEL")]
    pub(crate) dec: Option<String>,
    /// Do not compare pictures, which reads every object
    #[arg(long)]
    pub(crate) no_pixels: bool,
    /// Pairs of pictures to look at closely, of those that are alike as a whole
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) pairs: usize,
}

/// Looks for leaks; the exit code is 1 when there are some, or may be.
pub(super) fn leaks(args: &LeaksArgs, output: Output) -> Result<ExitCode> {
    super::listen()?;
    let plan = resolve(&args.choice.request(&args.recipe))?;
    let settings = settings(args, &plan)?;
    let objects = Objects::open(&plan, Path::new("."))?;
    let splits = Splits::of(objects.source.as_ref(), &plan.split)?;
    let found = find(&objects, &splits, &settings)?;
    let mut missed = not_looked_at(&found, &settings);
    let named = args.ra.is_some() || args.dec.is_some() || plan.split.tile.is_some();
    if named && found.placed == 0 && found.pictured > 0 {
        missed.push(format!(
            "no object has the labels {:?} and {:?} that were named",
            settings.ra, settings.dec
        ));
    }
    let clean = found.leaks.is_empty() && missed.is_empty();
    output.result(&found, || describe(&found, &settings, &missed))?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settings(args: &LeaksArgs, plan: &Plan) -> Result<LeakSettings> {
    if !(args.separation >= 0.0 && args.separation <= 3600.0) {
        let message = format!("--separation {}: 0 to 3600 arcseconds", args.separation);
        return Err(Error::Misuse(message));
    }
    let tile = plan.split.tile.as_ref();
    let or = |given: &Option<String>, tiled: Option<&String>, plain: &str| {
        given.as_ref().or(tiled).map_or(plain.to_owned(), String::clone)
    };
    Ok(LeakSettings {
        ra: or(&args.ra, tile.map(|tile| &tile.ra), "ra"),
        dec: or(&args.dec, tile.map(|tile| &tile.dec), "dec"),
        separation: args.separation,
        pixels: !args.no_pixels,
        pairs: args.pairs,
    })
}

/// What was not looked at, though asked for, and how it would be.
fn not_looked_at(found: &Leaks, settings: &LeakSettings) -> Vec<String> {
    let mut missed = Vec::new();
    if found.unread > 0 {
        missed.push(format!("{} of {} objects could not be read", found.unread, found.objects));
    }
    if found.blank > 0 {
        missed.push(format!(
            "{} pictures are blank or nowhere finite, and were compared with none",
            found.blank
        ));
    }
    if found.uncompared > 0 {
        missed.push(format!(
            "{} pairs of pictures are alike as a whole and could not be compared closely: they have \
             too little detail, or too little that is finite in both, or could not be read again",
            found.uncompared
        ));
    }
    if found.placed == 0 && found.pictured == 0 {
        missed.push(
            "no object has a place on the sky or a picture that was compared, so that their ids \
             alone speak"
                .to_owned(),
        );
    }
    if found.unlooked > 0 {
        missed.push(format!(
            "{} further pairs of pictures are alike as a whole, less so than those that were looked \
             at closely; --pairs {} looks at all",
            found.unlooked,
            settings.pairs as u64 + found.unlooked
        ));
    }
    missed
}

fn describe(found: &Leaks, settings: &LeakSettings, missed: &[String]) -> String {
    let count = |of: fn(&By) -> bool| found.leaks.iter().filter(|leak| of(&leak.by)).count();
    let placed = match found.placed {
        0 => format!(
            "no object has the labels {:?} and {:?}; name others with --ra and --dec",
            settings.ra, settings.dec
        ),
        placed => format!("{placed} with a place on the sky"),
    };
    let mut lines = vec![format!(
        "{} objects; {placed}; {} pictures compared{}",
        found.objects,
        found.pictured,
        match found.unread {
            0 => String::new(),
            unread => format!("; {unread} could not be read"),
        }
    )];
    if let Some(id) = found.repeated.first() {
        let n = found.repeated.len();
        lines.push(format!("{n} ids are there more than once in one split, such as {id}"));
    }
    if !found.elsewhere.is_empty() {
        lines.push(format!(
            "{} pairs look alike, elsewhere on the sky (more than a degree apart): no leaks",
            found.elsewhere.len()
        ));
    }
    lines.extend(missed.iter().map(|what| format!("not all was looked at: {what}")));
    if found.leaks.is_empty() {
        let of = if missed.is_empty() { "" } else { "of what was looked at, " };
        lines.push(format!("{of}none was found in two splits"));
        return lines.join("\n");
    }
    lines.push(columns(&rows(&found.leaks)));
    if found.leaks.len() > SHOWN {
        lines.push(format!("and {} more; --json lists them all", found.leaks.len() - SHOWN));
    }
    lines.push(format!(
        "{} pairs{} are one object in two splits: {} by id, {} within {} arcseconds, {} by their \
         pixels. Split by what they share (split.group, split.tile), or take one of each out",
        found.leaks.len(),
        if found.more { ", or more," } else { "" },
        count(|by| matches!(by, By::Id)),
        count(|by| matches!(by, By::Sky { .. })),
        settings.separation,
        count(|by| matches!(by, By::Pixels { .. }))
    ));
    lines.join("\n")
}

fn rows(leaks: &[Leak]) -> Vec<Vec<String>> {
    let mut rows = vec![["by", "split", "id", "split", "id", ""].map(str::to_owned).to_vec()];
    for leak in leaks.iter().take(SHOWN) {
        let (by, how) = match leak.by {
            By::Id => ("id", String::new()),
            By::Sky { separation } => ("sky", format!("{separation:.2} arcsec")),
            By::Pixels { correlation } => ("pixels", format!("correlation {correlation:.3}")),
        };
        let [a, b] = &leak.ids;
        let [of_a, of_b] = leak.splits.map(|split| split.name().to_owned());
        rows.push(vec![by.to_owned(), of_a, a.clone(), of_b, b.clone(), how]);
    }
    rows
}
