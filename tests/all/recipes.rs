//! The recipes of several modalities: on made-up data in the layout each expects, and on the
//! real data where they are at hand.

use std::f32::consts::TAU;
use std::path::Path;

use crate::program::{shared, succeeds};

/// Runs `recipe` on `data` for two steps.
fn two_steps(recipe: &str, at: &Path, data: &Path, more: &[&str]) {
    let data = data.to_str().expect("UTF-8");
    let mut arguments = vec!["pretrain", recipe, "--quiet", "--data", data, "--out", recipe];
    for set in ["steps=2", "warmup_steps=1", "decay_steps=2", "batch=4", "micro_batch=4"] {
        arguments.extend(["--set", ["train.", set].concat().leak()]);
    }
    arguments.extend(more);
    let text = succeeds(at, &arguments);
    assert!(text.contains("2 steps"), "{text}");
}

fn write(at: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = at.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes the folder");
    std::fs::write(path, bytes).expect("writes");
}

/// An array as NumPy writes it.
pub(crate) fn npy(kind: &str, shape: &str, numbers: impl Iterator<Item = [u8; 4]>) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape},), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(numbers.flatten());
    out
}

fn floats(shape: &str, numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    npy("<f4", shape, numbers.map(f32::to_le_bytes))
}

fn integers(shape: &str, numbers: impl Iterator<Item = i32>) -> Vec<u8> {
    npy("<i4", shape, numbers.map(i32::to_le_bytes))
}

/// A number of order 1 that varies with the object and the place.
fn wave(object: i32, place: i32) -> f32 {
    (TAU * (place as f32 / 97.0 + object as f32 / 7.0)).sin()
}

#[test]
fn stars() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let grid = (0..4300).map(|k| 3540.5 + 0.9 * k as f32);
    write(at, "library/arrays/wavelength.npy", floats("4300", grid));
    let flux = (0..12).flat_map(|star| (0..4300).map(move |k| 1.0 + 0.3 * wave(star, k)));
    write(at, "library/arrays/flux.npy", floats("12, 4300", flux));
    write(at, "library/arrays/id.npy", integers("12", 0..12));
    let star = |k: i32| format!("{k},{},{},-0.{k}\n", 4000 + 100 * k, 1.0 + 0.1 * f64::from(k));
    // The last star's parameters are not known.
    let labels: String = (0..11).map(star).collect();
    write(at, "library/labels.csv", format!("id,teff,logg,feh\n{labels}11,,,\n"));
    two_steps("stars", at, &at.join("library/arrays"), &[]);
    let generated = ["generate", "stars", "--given", "spectrum", "--make", "parameters", "--json"];
    let text = succeeds(at, &generated);
    let line: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let table =
        std::fs::read_to_string(at.join(line["table"].as_str().expect("a table"))).expect("there");
    assert!(table.starts_with("feh,logg,teff [K]\n"), "{table}");
}

#[test]
fn transients() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let pixel = |alert: i32, k: i32| if k % 63 < 3 { f32::NAN } else { 200.0 + wave(alert, k) };
    let pixels = (0..10).flat_map(|alert| (0..3 * 63 * 63).map(move |k| pixel(alert, k)));
    write(at, "alerts/cutouts/cutouts.npy", floats("10, 3, 63, 63", pixels));
    write(at, "alerts/cutouts/candid.npy", integers("10", 1000..1010));
    let alert = |k: i32| format!("{k},{},ZTF{},0.{k},{k}.5,17\n", 1000 + k, k / 2);
    let alerts: String = (0..10).map(alert).collect();
    let heading = "index,candid,objectId,sgscore1,distpsnr1,magnr\n";
    write(at, "alerts/alerts.csv", format!("{heading}{alerts}"));
    // Of each alert an upper limit and as many detections as its number says: none of the first.
    let sample = |k: i32, i: i32| format!("{k},{},{},18.{i},0.1\n", 59_000 + i, 1 + i % 2);
    let curve = |k: i32| {
        let detections: String = (1..=k).map(|i| sample(k, i)).collect();
        format!("{k},59000,1,,\n{detections}")
    };
    let curves: String = (0..10).map(curve).collect();
    let heading = "alert_index,jd,fid,magpsf,sigmapsf\n";
    write(at, "alerts/lightcurves.csv", format!("{heading}{curves}"));
    let places = [
        "--set",
        "source.parts.cutouts.path=cutouts",
        "--set",
        "source.parts.curves.path=lightcurves.csv",
    ];
    two_steps("transients", at, &at.join("alerts"), &places);
}

#[test]
fn crts() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let sample = |k: i32, i: i32| format!("T{k},{},18.{},0.1\n", 53_000 + 10 * i, (k + i) % 10);
    let curve = |k: i32| (0..5 + k).map(|i| sample(k, i)).collect::<String>();
    // A transient seen once is left out, and counted.
    let curves: String = (0..19).map(curve).chain([sample(19, 0)]).collect();
    write(at, "survey/lightcurves.csv", format!("ID,MJD,Mag,Magerr\n{curves}"));
    let class = |k: i32| format!("T{k},{}\n", ["SN", "CV"][k as usize % 2]);
    let classes: String = (0..20).map(class).collect();
    write(at, "survey/labels.csv", format!("ID,Classification\n{classes}"));
    two_steps("crts", at, &at.join("survey/lightcurves.csv"), &["--set", "train.batch=16"]);
}

/// A FITS file with an SDSS spectrum: a binary table in its second HDU.
fn spectrum(object: i32) -> Vec<u8> {
    let header = |cards: &[String]| {
        let mut text: String = cards.iter().map(|card| format!("{card:<80}")).collect();
        text.push_str(&format!("{:<80}", "END"));
        text.push_str(&" ".repeat(text.len().next_multiple_of(2880) - text.len()));
        text.into_bytes()
    };
    let number = |key: &str, value: &str| format!("{key:<8}= {value:>20}");
    let text = |key: &str, value: &str| format!("{key:<8}= '{value:<8}'");
    let rows = 3800;
    let mut out = header(&[number("SIMPLE", "T"), number("BITPIX", "8"), number("NAXIS", "0")]);
    let mut cards = vec![text("XTENSION", "BINTABLE"), number("BITPIX", "8")];
    let sizes = [("NAXIS", 2), ("NAXIS1", 12), ("NAXIS2", rows), ("PCOUNT", 0), ("GCOUNT", 1)];
    cards.extend(sizes.map(|(key, value)| number(key, &value.to_string())));
    cards.push(number("TFIELDS", "3"));
    for (k, name) in ["flux", "loglam", "ivar"].iter().enumerate() {
        cards.push(text(&format!("TTYPE{}", k + 1), name));
        cards.push(text(&format!("TFORM{}", k + 1), "E"));
    }
    out.extend(header(&cards));
    for k in 0..rows {
        let ivar = if k % 500 == 0 { 0.0 } else { 1.0 };
        let row = [5.0 + wave(object, k), 3.58 + 1e-4 * k as f32, ivar];
        out.extend(row.into_iter().flat_map(f32::to_be_bytes));
    }
    out.resize(out.len().next_multiple_of(2880), 0);
    out
}

#[test]
fn galaxy_spectrum() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut labels = "objid,image,spectrum,z,vdisp\n".to_owned();
    for k in 0..8 {
        let pixels = image::RgbImage::from_fn(256, 256, |x, y| {
            let light = |dim: f32| (128.0 + 100.0 * wave(k, (x + y) as i32) / dim) as u8;
            image::Rgb([1.0, 1.5, 2.0].map(light))
        });
        let path = at.join(format!("pairs/images/{k}.png"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes the folder");
        pixels.save(path).expect("writes");
        write(at, &format!("pairs/spectra/spec-{k}.fits"), spectrum(k));
        labels.push_str(&format!("{k},images/{k}.png,spectra/spec-{k}.fits,0.{k},100\n"));
    }
    write(at, "pairs/labels.csv", labels);
    two_steps("galaxy-spectrum", at, &at.join("pairs"), &[]);
    for (given, made, file) in
        [("galaxy-image", "spectrum", "table"), ("spectrum", "galaxy-image", "picture")]
    {
        let call =
            ["generate", "galaxy-spectrum", "--given", given, "--make", made, "--objects", "1"];
        let text = succeeds(at, &[&call[..], &["--json", "--out", made]].concat());
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
        let path = at.join(line[file].as_str().expect("a file"));
        assert!(path.exists(), "{}", path.display());
        if file == "table" {
            let table = std::fs::read_to_string(path).expect("readable");
            let heading = table.lines().next().expect("a heading");
            let expected = "flux [1e-17 erg/(s cm2 Angstrom)],wavelength [Angstrom]";
            assert_eq!(heading, expected, "what is generated is in its own units");
        }
    }
}

#[test]
fn recipes_read_the_real_surveys_they_are_for() {
    for (recipe, data) in [
        ("stars", "data/spectra/miles_stars_dev/spectra.npz"),
        ("transients", "data/multimodal/fink_ztf_alerts_dev"),
        ("crts", "data/lightcurves/crts_transients_astronomaly/lightcurves.parquet"),
        ("galaxy-spectrum", "data/multimodal/sdss_legacy_image_spectrum_pairs_10"),
    ] {
        let Some(data) = shared(data) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        two_steps(recipe, folder.path(), &data, &[]);
    }
}
