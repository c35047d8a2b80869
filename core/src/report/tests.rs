#![allow(clippy::unwrap_used)]

use super::*;
use crate::embed::{Description, Embeddings};
use crate::observation::{Label, Labels};
use crate::probe::{
    Emergence, FeatureSet, Features, Interval, ProbeSettings, Split, Told, ValidRange, probe_table,
};

/// Deterministic noise in (0, 1).
fn noise(i: u64) -> f64 {
    xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()) as f64 / u64::MAX as f64
}

/// About Gaussian noise of deviation 1.
fn gauss(i: u64) -> f64 {
    ((0..12).map(|k| noise(i * 12 + k)).sum::<f64>() - 6.0).clamp(-4.0, 4.0)
}

fn curve(steps: u64) -> Vec<CurvePoint> {
    let point = |step: u64| {
        let t = step as f64 / steps as f64;
        let base = 0.3685 + 0.056 * (-9.0 * t).exp() + 0.004 * (1.0 - t);
        let measured = step.is_multiple_of(steps / 20);
        CurvePoint {
            step,
            train: Some(base + 0.004 * gauss(step)),
            validation: measured.then_some(base + 0.0012 + 0.0006 * gauss(step + 1_000_000)),
            lr: Some(1e-3 * (step as f64 / 100.0).min(1.0) * (0.55 + 0.45 * (t * 3.1).cos())),
            grad_norm: Some((0.3 + 2.0 * (-20.0 * t).exp()) * (0.25 * gauss(step + 5)).exp()),
            tokens_per_second: Some(
                61_000.0 - if measured { 24_000.0 } else { 900.0 * noise(step) },
            ),
        }
    };
    (0..=steps).map(point).collect()
}

/// A disc of light and its blurred likeness, side by side.
fn png(seed: u64, sharpness: f64) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let (half, right) = (f64::from(x % 128), x >= 128);
        let (dx, dy) = ((half - 64.0) / 20.0, (f64::from(y) - 64.0) / 12.0);
        let r = (dx * dx + dy * dy + dx * dy * noise(seed)).sqrt();
        let blur = if right { 1.0 / sharpness } else { 1.0 };
        let light = (-r / blur).exp() / blur + 0.06 * noise(u64::from(x * 131 + y)) / blur;
        image::Rgb([1.0, 0.8, 0.65].map(|c| (255.0 * (light * c).clamp(0.0, 1.0)) as u8))
    };
    let image = image::RgbImage::from_fn(256, 128, pixel);
    let mut out = std::io::Cursor::new(vec![]);
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

fn probes() -> crate::probe::ProbeTable {
    let (n, width) = (1600u64, 16u64);
    let mut table = Embeddings::new(&[16], Description::new());
    let (mut random, mut pixels) = (vec![], vec![]);
    for i in 0..n {
        let x: Vec<f64> = (0..width).map(|j| gauss(i * width + j)).collect();
        let label = |k: usize, spread: f64, noise: f64| {
            Label::Number(
                spread * (x[k] + 0.6 * x[k + 1] + noise * gauss(1_000_000 + i * 8 + k as u64)),
            )
        };
        let mut labels = Labels::from([
            ("redshift".into(), label(0, 0.05, 0.5)),
            ("g - r".into(), label(1, 0.2, 0.2)),
            ("M_g".into(), label(2, 1.1, 0.35)),
            ("smooth?".into(), label(3, 0.3, 0.9)),
            ("edge on?".into(), label(9, 0.2, 1.8)),
            ("tight spiral?".into(), label(14, 0.2, 6.0)),
            ("class".into(), Label::Text("spiral".into())),
        ]);
        if i < 6 {
            labels.insert("black hole mass".into(), Label::Number(1e8));
        }
        let split = if i % 2 == 0 { "validation" } else { "test" };
        let vector: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        table.push(&i.to_string(), split, labels, &vector).unwrap();
        random.extend((0..8).map(|j| (x[j] + 0.8 * gauss(7_000_000 + i * 8 + j as u64)) as f32));
        pixels
            .extend((0..5).map(|j| (x[j + 1] + 1.4 * gauss(9_000_000 + i * 8 + j as u64)) as f32));
    }
    let sets = [
        ("embedding", Features::new(16, table.vectors.clone()).unwrap()),
        ("random-init", Features::new(8, random).unwrap()),
        ("raw pixels", Features::new(5, pixels).unwrap()),
    ];
    let sets = sets
        .each_ref()
        .map(|(name, features)| FeatureSet { name, members: std::slice::from_ref(features) });
    let mut settings = ProbeSettings::default();
    settings.valid.insert("redshift".into(), ValidRange::default());
    let split = Split::named(&table.splits, &["validation"], &["test"]);
    probe_table(&table, &sets, &[], &split, &settings).unwrap()
}

fn emergence() -> Emergence {
    let told = |at: u64| {
        let value = 0.1 + 0.002 * at as f64;
        let r2 = Interval { value, low: Some(value - 0.05), high: Some(value + 0.05) };
        Told {
            at,
            r2: [("redshift".to_owned(), r2), ("M_g".to_owned(), r2)].into(),
            ..Told::default()
        }
    };
    Emergence { checkpoints: [0, 100, 400].map(told).into(), layers: [0, 1].map(told).into() }
}

fn facts() -> RunFacts {
    RunFacts {
        program: "astropt 0.1.0".into(),
        command: "astropt run galaxy-grz --scale demo --data galaxies --out runs/demo".into(),
        backend: "cpu (flex)".into(),
        device: "Example CPU, 16 cores".into(),
        precision: "f32".into(),
        host: "Linux x86_64".into(),
        started: "2025-06-01 09:14:03 UTC".into(),
        finished: "2025-06-01 11:27:41 UTC".into(),
        seconds: 8018.0,
        steps: 2000,
        objects_train: 17_034,
        objects_validation: 352,
        objects_seen: 640_000,
        tokens: 161_280_000,
        parameters: 1_067_520,
        flops: 1.03e15,
        more: vec![("Data".into(), "galaxies, 17,736 files, blake3 4f1c…".into())],
    }
}

fn full() -> ReportInput {
    let units = [("M_g", "mag"), ("g - r", "mag")].map(|(a, b)| (a.into(), b.into()));
    let preview = |k: u64| Preview {
        step: k * 400,
        png: png(3, 0.25 + 0.14 * k as f64),
        caption: String::new(),
    };
    ReportInput {
        title: "galaxy-grz, demo".into(),
        subtitle: "grz stamps of the DESI Legacy Survey, patches in spiral order".into(),
        objects: "galaxies".into(),
        run: facts(),
        task: String::new(),
        loss_name: "Huber".into(),
        loss_meaning: "in units of each patch's own standard deviation".into(),
        zero_loss: Some(0.4246),
        curve: curve(2000),
        previews: (0..=5).map(preview).collect(),
        probes: Some(probes()),
        emergence: Some(emergence()),
        figures: vec![Figure {
            name: "drawn",
            title: "A drawn figure".into(),
            caption: "What it shows".into(),
            svg: "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 2 1\"/>".into(),
        }],
        units: units.into(),
        embeddings: [("layer", "4 of 4"), ("pooling", "mean"), ("tokens", "64 innermost")]
            .map(|(a, b)| (a.into(), b.into()))
            .into(),
        rejected: Rejected {
            count: 3,
            examples: vec![("stamp-<081>".into(), "the JPEG ends early".into())],
        },
        choices: vec![
            Choice {
                name: "D2 probe split".into(),
                choice: "as the program".into(),
                meaning: "validation and test objects together, halved".into(),
            },
            Choice {
                name: "D4 layer".into(),
                choice: "last block".into(),
                meaning: "its output before the final layer norm".into(),
            },
        ],
        recipe_written: "extends = \"galaxy-grz\"\n\n[train]\nsteps = 2000 # <short>\n".into(),
        recipe_resolved: "[model]\nwidth = 128\nlayers = 4\nheads = 8\n".into(),
    }
}

/// The page without its images, in whose base64 any word may stand.
fn without_images(page: &str) -> String {
    let mut parts = page.split("base64,");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('"').map_or("", |(_, rest)| rest))
}

#[test]
fn a_full_report_stands_alone() {
    let page = render(&full());
    assert!(page.matches("data:image/png").count() == 7);
    assert!(page.len() < 1_500_000, "{}", page.len());
    if let Ok(path) = std::env::var("ASTROPT_REPORT_SAMPLE") {
        std::fs::write(path, &page).unwrap();
    }
    let page = without_images(&page);
    for outside in ["http:", "https:", "<script", "<link", "url(h", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for text in ["NaN", "inf\"", "stamp-<081>", "# <short>"] {
        assert!(!page.contains(text), "{text}");
    }
    for text in
        ["How it learned", "1.07 million", "13.", "▲", "≈", "2 h 13 min", "D4 layer", "step 400"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("only 3 objects"), "reasons are shown");
}

#[test]
fn an_empty_report_is_a_page_without_sections() {
    let page = render(&ReportInput::default());
    assert!(page.contains("A run") && !page.contains("<h2>"));
}

#[test]
fn a_young_run_and_odd_numbers_are_drawn() {
    let mut input = full();
    for keep in [1, 2] {
        input.curve = curve(20)[..keep].to_vec();
        assert!(!without_images(&render(&input)).contains("NaN"));
    }
    input.curve = curve(100);
    input.curve[3].train = Some(f64::NAN);
    input.curve[4].grad_norm = Some(0.0);
    input.curve[5].validation = Some(f64::INFINITY);
    let page = without_images(&render(&input));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn long_runs_make_small_files() {
    let mut input = full();
    input.previews.clear();
    input.probes = None;
    input.curve = curve(30_000);
    let page = render(&input);
    assert!(page.len() < 400_000, "{}", page.len());
}
