//! `astropt generate` on a small run.

use crate::program::{fails, succeeds};
use astropt_core::seam::find_source;

use crate::run::small;

#[test]
fn spans_are_generated_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    succeeds(at, &small("pretrain", "r", &[]));
    let text = succeeds(at, &["generate", "r", "--objects", "3", "--prompt", "5", "--json"]);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(line["prompt"], 5);
        assert!(line["error"].as_f64().expect("a number") > 0.0);
        let picture = line["picture"].as_str().expect("a picture");
        let size = image::image_dimensions(at.join(picture)).expect("a PNG");
        assert!(size.0 > size.1, "the generated and its own side by side: {size:?}");
    }
    let array = std::fs::read(at.join("r/generated/images.npy")).expect("arrays");
    assert!(String::from_utf8_lossy(&array[..128]).contains("'shape': (3, "));
    let ids = std::fs::read_to_string(at.join("r/generated/images.ids.txt")).expect("ids");
    let listed: Vec<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(ids.lines().collect::<Vec<_>>(), listed);

    // The same again, and for one of the objects alone.
    let again = succeeds(at, &["generate", "r", "--object", listed[1], "--prompt", "5", "--json"]);
    let again: serde_json::Value = serde_json::from_str(again.trim()).expect("JSON");
    // Products of rows read together are added up in another order.
    let [alone, together] =
        [&again, &lines[1]].map(|line| line["error"].as_f64().expect("a number"));
    assert!((alone - together).abs() <= 1e-5 * together, "{alone} {together}");

    let noisy = ["generate", "r", "--objects", "1", "--noise", "0.5", "--seed", "1", "--json"];
    let first: serde_json::Value = serde_json::from_str(succeeds(at, &noisy).trim()).expect("JSON");
    assert!(first["error"] != lines[0]["error"]);

    std::fs::write(at.join("data-are-no-folder"), "").expect("writable");
    for (arguments, code, said) in [
        (&["--prompt", "0"][..], 1, "nothing is given"),
        (&["--prompt", "100000"], 2, "nothing is left"),
        (&["--make", "spectra"], 2, "no modality \"spectra\""),
        (&["--object", "nobody"], 2, "no object of the data has this id"),
        (&["--noise=-1"], 2, "must be 0 or more"),
        (&["--objects", "0"], 2, "must be 1 or more"),
        (&["--prompt", "5", "--out", "data-are-no-folder"], 2, "is a file"),
    ] {
        let mut command = vec!["generate", "r"];
        command.extend(arguments);
        let error = fails(at, &command, code);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

/// What is written as FITS, this program's own source reads.
#[test]
fn spans_are_written_as_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let more = ["modality.images.unit=nanomaggy", "modality.images.standardise=none"];
    let set = more.map(|key| ["--set", key]).concat();
    succeeds(at, &small("pretrain", "r", &set));
    let call = ["generate", "r", "--objects", "2", "--prompt", "5", "--json"];
    succeeds(at, &call);
    let array = std::fs::read(at.join("r/generated/images.npy")).expect("arrays");
    let header = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
    let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let numbers: Vec<f32> = array[header..].chunks_exact(4).map(number).collect();

    let text = succeeds(at, &[&call[..], &["--format", "fits", "--out", "fits"]].concat());
    assert_eq!(text.lines().count(), 2);
    for (k, line) in text.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(line["table"].is_null() && line["array"].is_null(), "{line}");
        let path = line["fits"].as_str().expect("a file");
        let table = format!("path = {path:?}\nfields.image = {{ hdu = 0 }}");
        let config = (find_source("fits").expect("linked").parse)(table.parse().expect("TOML"));
        let object = config.expect("a table").open(at).expect("opens").read(0).expect("readable");
        let field = &object.fields["image"];
        assert_eq!(field.unit.as_deref(), Some("nanomaggy"));
        let own = numbers.len() / 2;
        assert_eq!(&*field.array.data.to_f32(), &numbers[k * own..(k + 1) * own]);
    }
}
