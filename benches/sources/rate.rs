//! How fast a source gives its objects.
//!
//! `cargo bench -p astropt-modalities --bench rate -- KIND TABLE ROOT`, where TABLE is the
//! source's table as a recipe has it, without `kind`. Everything is read once, and then again for
//! at least half a second; prints, as JSON, the objects, the numbers in them, how often they were
//! read again, and the seconds to open and to read them again once.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a bench may panic, and prints

use std::path::Path;
use std::time::Instant;

use astropt_core::seam::find_source;
use astropt_modalities as _;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [kind, table, root] = arguments.as_slice() else {
        println!("usage: rate KIND TABLE ROOT");
        return;
    };
    let config = (find_source(kind).unwrap().parse)(table.parse().unwrap()).unwrap();
    let start = Instant::now();
    let source = config.open(Path::new(root)).unwrap();
    let opened = start.elapsed().as_secs_f64();
    let read = || -> usize {
        let fields = |index| source.read(index).unwrap().fields;
        (0..source.len()).flat_map(fields).map(|(_, field)| field.array.data.len()).sum()
    };
    let (numbers, objects) = (read(), source.len());
    let (start, mut passes) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 0.5 {
        read();
        passes += 1;
    }
    let seconds = start.elapsed().as_secs_f64() / f64::from(passes);
    println!(
        "{{\"objects\": {objects}, \"numbers\": {numbers}, \"passes\": {passes}, \
         \"open\": {opened}, \"read\": {seconds}}}"
    );
}
