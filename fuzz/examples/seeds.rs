//! Writes the sound files that fuzzing starts from to `FOLDER/TARGET/`:
//! `cargo run --release -p astropt-fuzz --example seeds -- fuzz/corpus`.

use std::path::Path;

use astropt_fuzz::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned());
    for (name, _) in TARGETS {
        let target = Path::new(&folder).join(name);
        std::fs::create_dir_all(&target)?;
        for seed in seeds::of(name) {
            std::fs::write(target.join(seed.name.replace(['/', '<', '>', '|'], "-")), seed.bytes)?;
        }
    }
    Ok(())
}
