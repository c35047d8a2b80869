//! Training while shards of a dataset on the hub are still on their way.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::{program, workspace};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Shards of 120 images of 4 x 4 x 3 numbers each, and their SHA-256.
const SHARDS: [(&str, &str); 2] = [
    (
        "train-00000-of-00002.parquet",
        "e2d0e9aedb43632fad529fb040b02eb62bc79015564c73068be912ec48d70c18",
    ),
    (
        "train-00001-of-00002.parquet",
        "ad8d4b823facd71bdd6d96ed3b18c6c1a66869dc2e0951d17f139d4eb5a58a89",
    ),
];

/// A hub of these two shards that sends the second one, but for its footer, once it is released.
struct Hub {
    address: String,
    released: Arc<AtomicBool>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let released = Arc::new(AtomicBool::new(false));
        let seen = released.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let released = seen.clone();
                // Who has heard enough closes the connection.
                std::thread::spawn(move || serve(&stream, &released).unwrap_or_default());
            }
        });
        Self { address, released }
    }

    /// The program with `arguments`, which asks this hub.
    fn program(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(folder).stderr(Stdio::piped()).stdout(Stdio::null());
        command.env("HF_HOME", folder).env("HF_ENDPOINT", &self.address);
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN");
        command
    }

    /// Standard error of a call that must succeed.
    fn succeeds(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.program(folder, arguments).output().expect("the program runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        told
    }
}

fn bytes_of(shard: &str) -> Vec<u8> {
    let folder = workspace().join("modalities/tests/fixtures/parquet/two");
    std::fs::read(folder.join(shard)).expect("readable")
}

/// What is listed of the shards.
fn listing() -> Value {
    let entry = |(name, hash): (&str, &str)| {
        let size = bytes_of(name).len();
        json!({
            "type": "file", "path": format!("data/{name}"), "size": size, "oid": "0".repeat(40),
            "lfs": { "oid": hash, "size": size, "pointerSize": 130 },
        })
    };
    SHARDS.map(entry).to_vec().into()
}

fn serve(stream: &TcpStream, released: &AtomicBool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())))
        .collect();
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let (mut status, mut more) = (200, String::new());
    let shard = SHARDS.iter().find(|(name, _)| path.ends_with(name));
    let body = match shard {
        Some((name, _)) => {
            let whole = range.is_none_or(|range| range.ends_with('-'));
            while whole && *name == SHARDS[1].0 && !released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let all = bytes_of(name);
            let (from, to) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
            let from = from.parse().unwrap_or(0).min(all.len());
            let to = to.parse().map_or(all.len(), |last: usize| (last + 1).min(all.len()));
            if range.is_some() {
                status = 206;
                more = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, all.len());
            }
            more += &format!("ETag: \"{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
            all[from..to].to_vec()
        }
        None if path.contains("/revision/") => {
            json!({ "sha": COMMIT, "id": "owner/two" }).to_string().into_bytes()
        }
        None if path.contains("/tree/") => listing().to_string().into_bytes(),
        None => {
            status = 404;
            Vec::new()
        }
    };
    let length = body.len();
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 {status} so\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// A recipe of few steps, all of whose objects are in the first shard; the images that it is
/// evaluated on are in both.
fn recipe(folder: &Path) {
    let text = "name = \"two\"\nextends = \"galaxy-grz\"\ndefault_scale = \"tiny\"\n\
                [source]\nkind = \"hub\"\nrepo = \"owner/two\"\nsplit = \"train\"\n\
                buffer = \"16kB\"\n\
                [modality.images]\nsize = 4\npatch = 2\npositions = 4\n\
                [split]\nvalidation_fraction = 0.2\ntest_fraction = 0.1\n\
                [scale.tiny]\nmodel = { layers = 1, heads = 1, width = 8 }\n\
                [train]\nsteps = 6\nbatch = 4\nmicro_batch = 2\nwarmup_steps = 1\n\
                decay_steps = 6\neval_every = 6\neval_batches = 0\n";
    std::fs::write(folder.join("two.toml"), text).expect("written");
}

/// Steps that were taken and evaluations, as the run `out` has written them down.
fn events(out: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let event = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some((line["event"].as_str()?.to_owned(), line["step"].as_u64()?))
    };
    text.lines().filter_map(event).collect()
}

#[test]
fn steps_are_taken_while_a_shard_is_on_its_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    recipe(at);
    let hub = Hub::start();
    let mut training =
        hub.program(at, &["pretrain", "two.toml", "--out", "r"]).spawn().expect("the program runs");
    let steps: Vec<(String, u64)> = (1..=6).map(|step| ("train".to_owned(), step)).collect();
    let begun = Instant::now();
    while events(&at.join("r")) != steps && begun.elapsed() < Duration::from_secs(60) {
        if training.try_wait().expect("a process").is_some() {
            break; // what it said is looked at below
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let while_held = events(&at.join("r"));
    hub.released.store(true, Ordering::SeqCst);
    let output = training.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert_eq!(while_held, steps, "{told}");
    assert_eq!(told.matches("no validation before the first step").count(), 1, "{told}");
    let last = [&steps[..], &[("validation".to_owned(), 6)]].concat();
    assert_eq!(events(&at.join("r")), last);
    // With all shards here it is the same run, in one part or in two.
    hub.succeeds(at, &["pretrain", "two.toml", "--out", "again", "--set", "train.steps=3"]);
    let go_on = ["pretrain", "--resume", "--out", "again", "--set", "train.steps=6"];
    hub.succeeds(at, &go_on);
    let train = |out: &str| {
        let text = std::fs::read_to_string(at.join(out).join("metrics.jsonl")).expect("written");
        text.lines()
            .filter(|line| line.contains("\"train\""))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(train("again"), train("r"));
    for out in ["r", "again"] {
        hub.succeeds(at, &["audit", out]);
    }
}

/// The name of a dataset is no relative path, though it looks like one.
#[test]
fn a_dataset_that_is_not_here_is_no_missing_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    recipe(folder.path());
    let mut command = Command::new(program());
    command.args(["pretrain", "two.toml", "--out", "r"]).current_dir(folder.path());
    command.env("HF_HOME", folder.path()).env("HF_HUB_OFFLINE", "1").env_remove("HF_HUB_CACHE");
    let output = command.output().expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("owner/two") && told.contains("HF_HUB_OFFLINE"), "{told}");
    assert!(!told.contains("relative path"), "{told}");
}
