//! A process killed at any instant loses nothing: the run that goes on ends in the bytes of one
//! that was never stopped, and its ledger proves what it was trained on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::program::{astropt, program, succeeds};

/// Processes killed in all, and at most in a row on one run.
const KILLS: usize = 50;
const IN_A_ROW: usize = 10;

/// The whole chain of a tiny model, with checkpoints that are pruned on the way.
const RUN: [&str; 30] = [
    "run",
    "galaxy-grz",
    "--quiet",
    "--scale",
    "demo-S",
    "--set",
    "source.objects=100",
    "--set",
    "source.size=32",
    "--set",
    "modality.images.size=32",
    "--set",
    "modality.images.patch=8",
    "--set",
    "train.steps=12",
    "--set",
    "train.warmup_steps=2",
    "--set",
    "train.batch=16",
    "--set",
    "train.micro_batch=8",
    "--set",
    "train.eval_every=4",
    "--set",
    "train.checkpoints={every=3, keep=2, keep_every=6}",
    "--set",
    "probe={labels=['redshift', 'disc'], nuisance=[]}",
    "--set",
    "train.previews=1",
    "--out",
];

/// What changes on disk and is waited for, as the beginning of a path in the run's folder, and
/// how often it changes at most before the kill: while the model trains.
const TRAINING: [(&str, u64); 7] = [
    ("metrics.jsonl", 4),
    ("checkpoints/.partial.", 2),
    ("checkpoints/.pruned.", 1),
    ("checkpoints/best", 1),
    ("previews", 1),
    (".partial.", 3),
    ("manifest.json", 1),
];
/// The same, once it is trained.
const AFTERWARDS: [(&str, u64); 7] = [
    (".partial.", 6),
    ("manifest.json", 2),
    ("embeddings", 4),
    ("checksums.json", 4),
    ("probes.json", 1),
    ("figures", 1),
    ("report.html", 1),
];

/// Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// When a process is killed.
#[derive(Debug)]
enum Instants {
    /// So long after its start.
    After(Duration),
    /// When what begins so has changed so often, and so long after that.
    Changed(&'static str, u64, Duration),
}

impl Instants {
    /// An instant of the run in `run`, all of which takes `whole`.
    fn draw(random: &mut Random, whole: Duration, run: &Path) -> Self {
        if random.below(2) == 0 {
            let most = whole.mul_f64(0.6).as_micros() as u64;
            return Self::After(Duration::from_micros(random.below(most)));
        }
        let trained = run.join("checkpoints/step-000012").exists();
        let moments = if trained { AFTERWARDS } else { TRAINING };
        let (what, most) = moments[random.below(moments.len() as u64) as usize];
        let after = Duration::from_micros(random.below(3_000));
        Self::Changed(what, 1 + random.below(most), after)
    }
}

/// Files and folders of a run, three levels deep at most, by path, with when they changed.
fn listing(run: &Path) -> BTreeMap<String, (SystemTime, u64)> {
    fn add(
        folder: &Path,
        prefix: &str,
        deep: usize,
        out: &mut BTreeMap<String, (SystemTime, u64)>,
    ) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let Ok(data) = entry.metadata() else { continue };
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            out.insert(name.clone(), (changed, data.len()));
            if data.is_dir() && deep > 0 {
                add(&entry.path(), &format!("{name}/"), deep - 1, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    add(run, "", 1, &mut out);
    out
}

fn start(folder: &Path, out: &str) -> Child {
    let begun = folder.join(out).join("manifest.json").exists();
    let first: Vec<&str> = RUN.iter().copied().chain([out]).collect();
    let resume = ["run", "--resume", "--quiet", "--out", out];
    Command::new(program())
        .args(if begun { &resume[..] } else { &first })
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Kills `child`, which writes the run in `run`, at `instant`; `false` when it ended before, as it
/// must: well.
fn kill(child: &mut Child, run: &Path, instant: &Instants) -> bool {
    let started = Instant::now();
    let (mut before, mut changes, mut due) = (listing(run), 0, None);
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
            }
            assert!(status.success(), "{instant:?}: {status}\n{said}");
            return false;
        }
        match instant {
            Instants::After(time) => due = Some(started + *time),
            Instants::Changed(what, times, after) if due.is_none() => {
                let now = listing(run);
                let changed = now.iter().any(|(name, mark)| {
                    name.starts_with(what) && before.get(name).is_none_or(|old| old != mark)
                });
                changes += u64::from(changed);
                due = (changes >= *times).then(|| Instant::now() + *after);
                before = now;
            }
            Instants::Changed(..) => {}
        }
        if due.is_some_and(|due| Instant::now() >= due) {
            child.kill().expect("kills");
            child.wait().expect("ends");
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What a run must end in: every file but those that tell times.
fn results(run: &Path) -> BTreeMap<String, Vec<u8>> {
    fn add(folder: &Path, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type().expect("a type").is_dir() {
                true => add(&entry.path(), &format!("{name}/"), out),
                false => {
                    out.insert(name, std::fs::read(entry.path()).expect("readable"));
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    add(run, "", &mut out);
    out.retain(|name, _| !name.starts_with("events.out.tfevents"));
    for timed in ["manifest.json", "timings.jsonl", "report.html", "checksums.json"] {
        assert!(out.get(timed).is_some_and(|bytes| !bytes.is_empty()), "{timed} is missing");
        out.insert(timed.into(), Vec::new());
    }
    out
}

fn same(whole: &BTreeMap<String, Vec<u8>>, run: &Path, seed: u64) {
    let found = results(run);
    let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(whole), names(&found), "seed {seed}: other files");
    for (name, bytes) in whole {
        assert!(found[name] == *bytes, "seed {seed}: {name} differs");
    }
    let report = std::fs::read_to_string(run.join("report.html")).expect("readable");
    assert!(report.trim_end().ends_with("</html>"), "seed {seed}: half a report");
}

/// What was killed proves what it was trained on, once it was trained.
fn audits(folder: &Path, run: &str, seed: u64) {
    let output = astropt(folder, &["audit", run, "-q"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let too_early = ["keeps no ledger", "holds no run"].iter().any(|words| said.contains(words));
    assert!(output.status.success() || too_early, "seed {seed}: {said}");
}

/// `ASTROPT_KILL_SEED` repeats the draws of a failure, as far as a machine repeats its timing.
fn seed() -> u64 {
    let stated = std::env::var("ASTROPT_KILL_SEED").ok().and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    stated.unwrap_or(now.as_micros() as u64)
}

#[test]
fn a_run_killed_at_any_instant_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = seed();
    let mut random = Random(seed);
    let started = Instant::now();
    let first: Vec<&str> = RUN.iter().copied().chain(["whole"]).collect();
    succeeds(folder.path(), &first);
    let took = started.elapsed();
    let whole = results(&folder.path().join("whole"));
    assert!(!whole.contains_key("checkpoints/step-000003/state.json"), "pruned");
    assert!(whole.contains_key("checkpoints/step-000006/state.json"), "kept for good");

    let (mut killed, mut runs, mut at) = (0, 0, Vec::<PathBuf>::new());
    while killed < KILLS || at.is_empty() {
        let name = format!("run-{runs}");
        let run = folder.path().join(&name);
        let mut in_a_row = 0;
        loop {
            let mut child = start(folder.path(), &name);
            let enough = killed >= KILLS && !at.is_empty();
            let instant = match enough || in_a_row == IN_A_ROW {
                true => Instants::After(Duration::from_secs(600)), // it ends by itself
                false => Instants::draw(&mut random, took, &run),
            };
            println!("seed {seed}, kill {killed}, run {runs}: {instant:?}");
            if !kill(&mut child, &run, &instant) {
                break;
            }
            (killed, in_a_row) = (killed + 1, in_a_row + 1);
            audits(folder.path(), &name, seed);
        }
        same(&whole, &run, seed);
        if in_a_row == IN_A_ROW {
            at.push(run);
        }
        runs += 1;
    }
    // A run killed ten times proves what it was trained on, as the one never stopped does.
    let proof = |run: &Path| {
        let output = astropt(folder.path(), &["audit", &run.to_string_lossy(), "--json", "-q"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json["run"] = "".into();
        json
    };
    let own = proof(&folder.path().join("whole"));
    assert_eq!((&own["steps"], &own["draws"]), (&12.into(), &192.into()), "{own}");
    at.iter().for_each(|run| assert_eq!(proof(run), own));
}

/// What interrupts save between the scheduled checkpoints is gone in the end.
#[test]
fn a_run_interrupted_again_and_again_ends_in_the_same_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(seed());
    let seed = random.0;
    let started = Instant::now();
    succeeds(folder.path(), &RUN.iter().copied().chain(["whole"]).collect::<Vec<_>>());
    let most = started.elapsed().as_micros() as u64;
    let whole = results(&folder.path().join("whole"));
    for stops in 0..8 {
        let child = start(folder.path(), "r");
        // Past the program's first moments, in which nobody listens yet.
        std::thread::sleep(Duration::from_micros(50_000 + random.below(most / 2)));
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        let _ = kill.expect("kill runs");
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        println!("seed {seed}, stop {stops}: {} {said}", output.status);
        if output.status.success() {
            break;
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    let status = start(folder.path(), "r").wait_with_output().expect("ends").status;
    assert!(status.success(), "seed {seed}");
    same(&whole, &folder.path().join("r"), seed);
}
