//! scratch: contact sheets
use astropt_core::observation::Data;
use astropt_core::seam::SourceConfig;
use astropt_modalities::sources::synthetic::SyntheticConfig;
use std::path::Path;

fn real(path: &str) -> (usize, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let mut d = zune_jpeg::JpegDecoder::new(zune_core::bytestream::ZCursor::new(&bytes));
    let px = d.decode().unwrap();
    let (w, _) = d.dimensions().unwrap();
    (w, px)
}

fn stats(name: &str, size: usize, px: &[u8]) {
    // background: corner 40x40 blocks, robust
    let mut out = [[0.0f64; 4]; 3];
    for c in 0..3 {
        let mut v = Vec::new();
        let mut a = 0.0;
        let mut n = 0.0;
        let at = |x: usize, y: usize| f64::from(px[(y * size + x) * 3 + c]);
        for (x0, y0) in [(4, 4), (size - 44, 4), (4, size - 44), (size - 44, size - 44)] {
            for y in y0..y0 + 40 {
                for x in x0..x0 + 40 {
                    v.push(at(x, y));
                }
            }
        }
        v.sort_by(f64::total_cmp);
        let med = v[v.len() / 2];
        let sd = (v[(v.len() as f64 * 0.84) as usize] - v[(v.len() as f64 * 0.16) as usize]) / 2.0;
        let ok = |x: f64| (x - med).abs() < 3.0 * sd + 2.0;
        let mut var = 0.0;
        let mut m = 0.0;
        for (x0, y0) in [(4, 4), (size - 44, 4), (4, size - 44), (size - 44, size - 44)] {
            for y in y0..y0 + 39 {
                for x in x0..x0 + 39 {
                    let (p, q) = (at(x, y), at(x + 1, y));
                    if ok(p) && ok(q) {
                        a += (p - med) * (q - med);
                        n += 1.0;
                        var += (p - med).powi(2);
                        m += 1.0;
                    }
                }
            }
        }
        out[c] = [med, sd, (a / n) / (var / m), 0.0];
    }
    println!(
        "{name}: R {:.0} {:.1} {:.2} | G {:.0} {:.1} {:.2} | B {:.0} {:.1} {:.2}",
        out[0][0],
        out[0][1],
        out[0][2],
        out[1][0],
        out[1][1],
        out[1][2],
        out[2][0],
        out[2][1],
        out[2][2]
    );
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (cols, rows): (usize, usize) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let mut tiles: Vec<(usize, Vec<u8>)> = Vec::new();
    if args[4] == "real" {
        for p in &args[5..] {
            tiles.push(real(p));
        }
    } else {
        let config: SyntheticConfig = toml::from_str(&args[4].replace(';', "\n")).unwrap();
        let source = config.open(Path::new("")).unwrap();
        let first: usize = args[5].parse().unwrap();
        for k in first..first + cols * rows {
            let o = source.read(k).unwrap();
            if let Data::U8(px) = &o.fields["image"].array.data {
                tiles.push((config.size, px.clone()));
            }
            let g = |n: &str| {
                o.labels.get(n).map_or("-".into(), |l| match l {
                    astropt_core::observation::Label::Number(x) => format!("{x:.2}"),
                    astropt_core::observation::Label::Text(t) => t.clone(),
                })
            };
            println!(
                "{k}: r {} r50 {} z {} M {} ssfr {} B/T {} bar {} i {} pitch {} | sm {} di {} ar {} eo {} ts {} {}",
                g("mag_r"),
                g("half_light_radius"),
                g("redshift"),
                g("log_stellar_mass"),
                g("log_ssfr"),
                g("bulge_fraction"),
                g("bar_fraction"),
                g("inclination"),
                g("pitch_angle"),
                g("smooth"),
                g("disc"),
                g("artefact"),
                g("edge_on"),
                g("tight_spiral"),
                g("telescope")
            );
        }
    }
    let side = tiles[0].0 + 2;
    let mut sheet = image::RgbImage::new((cols * side) as u32, (rows * side) as u32);
    for (k, (size, px)) in tiles.iter().enumerate().take(cols * rows) {
        if std::env::var("STATS").is_ok() {
            stats(&k.to_string(), *size, px);
        }
        for y in 0..*size {
            for x in 0..*size {
                let i = (y * size + x) * 3;
                sheet.put_pixel(
                    ((k % cols) * side + x) as u32,
                    ((k / cols) * side + y) as u32,
                    image::Rgb([px[i], px[i + 1], px[i + 2]]),
                );
            }
        }
    }
    sheet.save(&args[1]).unwrap();
}
