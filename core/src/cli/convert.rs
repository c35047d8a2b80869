//! `astropt convert`: data as tokens, in files that are mapped into memory.

use std::path::Path;

use super::args::ConvertArgs;
use super::output::Output;
use crate::error::{Error, Result};
use crate::progress::quantity;
use crate::recipe::resolve;
use crate::shards::{self, Settings};

/// Most threads that may be asked for: more than any machine has cores.
const MAX_WORKERS: usize = 1024;

pub(super) fn convert(args: &ConvertArgs, output: Output) -> Result<()> {
    super::listen()?;
    let plan = resolve(&args.choice.request(&args.recipe))?;
    let workers = args.workers.unwrap_or(plan.train.workers);
    if !(1..=MAX_WORKERS).contains(&workers) {
        let message = format!("--workers {workers}: it must be 1 to {MAX_WORKERS}");
        return Err(Error::Misuse(message));
    }
    let settings = Settings { shard_bytes: args.shard_size, precision: args.dtype, workers };
    let converted = shards::convert(&plan, Path::new("."), &args.out, &settings)?;
    output.result(&converted, || {
        format!(
            "{}: {} objects in {} shard(s) of {}B together, {} could not be used{}",
            args.out.display(),
            converted.objects,
            converted.shards,
            quantity(converted.bytes as f64),
            converted.rejected,
            if converted.rejected == 0 { "" } else { " (rejected.csv says why)" }
        )
    })
}

/// Reads a size such as `64MB` or `1GiB`, in bytes.
pub(super) fn size(text: &str) -> std::result::Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write a whole number and B, KB, MB, GB, KiB, MiB or GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number first, such as 256MB")?;
    match number.checked_mul(unit) {
        None | Some(0) => Err("it must be at least 1 byte and less than 2^64".into()),
        Some(bytes) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("256MB"), Ok(256_000_000));
        assert_eq!(size("3KiB"), Ok(3072));
        assert_eq!(size("17"), Ok(17));
        for wrong in ["", "MB", "0GB", "1.5GB", "-1", "99999999999999GB", "1 MB", "7Mb"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
