//! Maps the rows of a NumPy array.
//!
//!     cargo run --release -p astropt-core --example umap -- IN.npy OUT.npy [SEED]
//!
//! `IN.npy` holds `f4` of shape `[n, width]`, `OUT.npy` will hold `f4` of shape `[n, 2]`; the
//! map's trustworthiness for 15 neighbours and the seconds both took are said on standard error.
//! `tests/python/check_umap.py` compares them with umap-learn and scikit-learn.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::time::Instant;

use astropt_core::probe::Features;
use astropt_core::umap::{UmapConfig, trustworthiness, umap};
use npyz::WriterBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, seed @ ..] = arguments.as_slice() else {
        return Err("usage: umap IN.npy OUT.npy [SEED]".into());
    };
    let seed = seed.first().map_or(Ok(0), |seed| seed.parse())?;
    let array = npyz::NpyFile::new(BufReader::new(File::open(input)?))?;
    let &[_, width] = array.shape() else { return Err("an array of [n, width] is needed".into()) };
    let features = Features::new(width as usize, array.into_vec()?)?;

    let start = Instant::now();
    let map = umap(&features, &UmapConfig { seed, ..UmapConfig::default() })?;
    let mapped = start.elapsed().as_secs_f64();
    let trust = trustworthiness(&features, &map, 15)?;
    let judged = start.elapsed().as_secs_f64() - mapped;
    writeln!(std::io::stderr(), "{trust:.6} {mapped:.2} {judged:.2}")?;

    let file = BufWriter::new(File::create(output)?);
    let shape = [map.len() as u64, 2];
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(map.into_iter().flatten())?;
    writer.finish()?;
    Ok(())
}
