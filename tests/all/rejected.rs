//! Objects that could not be used, and were mended later.

use crate::bad_input::{on_pictures, pictures};
use crate::program::{astropt, succeeds};

#[test]
fn what_a_run_left_out_stays_out_of_it_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let data = pictures(at, 30);
    let sound = std::fs::read(data.join("g007.png")).expect("there");
    std::fs::write(data.join("g007.png"), "not a picture").expect("writable");
    let more = ["train.max_rejected=0.2", "train.steps=8", "embed.splits=[]"];
    let more = more.map(|set| ["--set", set]).concat();
    let mut arguments = on_pictures("data", &more);
    arguments[0] = "pretrain";
    succeeds(at, &arguments);
    let listed = || std::fs::read_to_string(at.join("r/rejected.csv")).expect("there");
    assert!(listed().contains("g007"), "{}", listed());
    std::fs::write(data.join("g007.png"), sound).expect("writable");
    // Embedding reads the mended object; the list of what training left out stays.
    succeeds(at, &["embed", "r", "-q"]);
    // What embedding cannot use is told of, and listed where its results go.
    let broken = data.join("g011.png");
    let other = std::fs::read(&broken).expect("there");
    std::fs::write(&broken, "not a picture").expect("writable");
    let embed = ["embed", "r", "-q", "--no-self-check", "--out", "elsewhere"];
    let told = astropt(at, &embed);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("1 of 30 objects could not be used") && told.contains("g011"), "{told}");
    let elsewhere = std::fs::read_to_string(at.join("elsewhere/rejected.csv")).expect("there");
    assert!(elsewhere.contains("g011") && !listed().contains("g011"), "{elsewhere}");
    std::fs::write(&broken, other).expect("mended");
    assert!(listed().contains("g007"), "{}", listed());
    succeeds(at, &["audit", "r", "-q"]);
    let more = ["--set", "train.steps=12"];
    let resumed = astropt(at, &[&["pretrain", "--resume", "--out", "r"][..], &more].concat());
    let told = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success(), "{told}");
    assert!(told.contains("1 object(s) that rejected.csv lists stay left out"), "{told}");
    assert!(told.contains("--overwrite, or another --out"), "{told}");
    succeeds(at, &["audit", "r", "-q"]);
    // A new run takes it in.
    arguments.push("--overwrite");
    succeeds(at, &arguments);
    assert!(!listed().contains("g007"), "{}", listed());
}
