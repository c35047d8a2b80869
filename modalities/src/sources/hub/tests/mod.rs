//! The source against a server that misbehaves.

mod going_on;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use astropt_core::Error;
use astropt_core::seam::Source;
use astropt_core::testkit;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::{Environment, HubConfig, Table};
use server::{COMMIT, Fault, REPO, Server, git, sha256};

const FIRST: &str = "data/train-00000-of-00002.parquet";
const SECOND: &str = "data/train-00001-of-00002.parquet";
/// Rows of the first shard, and of both.
const ROWS: (usize, usize) = (7, 11);
const SECRET: &str = "hf_secret";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/hf");
    fs::read(folder.join(name)).expect("readable")
}

/// A server of two training shards and one other, and an empty cache.
fn hub() -> (Server, TempDir) {
    let test = "data/test-00000-of-00001.parquet";
    let (first, second, third) = (fixture(FIRST), fixture(SECOND), fixture(test));
    let server = Server::start(&[(FIRST, &first), (SECOND, &second), (test, &third)]);
    (server, tempfile::tempdir().expect("a folder"))
}

fn environment(server: &Server, cache: &TempDir, more: &[(&str, &str)]) -> Environment {
    let home = cache.path().to_str().expect("a name").to_owned();
    let variable = |name: &str| match name {
        "HF_HOME" => Some(home.clone()),
        "HF_ENDPOINT" => Some(server.address.clone()),
        "HF_TOKEN" => Some(SECRET.to_owned()),
        other => more.iter().find(|(n, _)| *n == other).map(|(_, value)| (*value).to_owned()),
    };
    Environment::read(&variable).expect("sound")
}

fn config(table: &str) -> HubConfig {
    let table = format!("repo = '{REPO}'\nsplit = 'train'\n{table}");
    toml::from_str(&table).expect("a configuration")
}

fn open_with(server: &Server, cache: &TempDir, table: &str) -> astropt_core::Result<Table> {
    config(table).open_in(environment(server, cache, &[]), Duration::from_millis(1))
}

fn open(server: &Server, cache: &TempDir) -> astropt_core::Result<Table> {
    open_with(server, cache, "")
}

fn folder(cache: &TempDir) -> PathBuf {
    cache.path().join("hub/datasets--owner--stars")
}

fn is_here(cache: &TempDir, path: &str) -> bool {
    folder(cache).join("snapshots").join(COMMIT).join(path).is_file()
}

/// The rows of the files themselves.
fn check_rows(source: &Table) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let plugin = astropt_core::seam::find_source("parquet").expect("linked");
    let table = "path = 'hf'\nsplit = 'train'".parse().expect("TOML");
    let local = (plugin.parse)(table).expect("sound").open(&root).expect("opens");
    assert_eq!((source.len(), local.len()), (ROWS.1, ROWS.1));
    for i in 0..local.len() {
        let (found, expected) = (source.read(i).expect("readable"), local.read(i).expect("too"));
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
}

#[test]
fn a_dataset_is_read_as_its_files_are() {
    let (server, cache) = hub();
    let source = open(&server, &cache).expect("opens");
    check_rows(&source);
    testkit::source::check_source(&source).expect("conforms");
    let groups = source.groups().expect("groups");
    assert_eq!(groups.shards, [0, ROWS.0 as u32]);
    let refs = fs::read_to_string(folder(&cache).join("refs/main")).expect("a branch");
    assert_eq!(refs, COMMIT);
    let blob = folder(&cache).join("blobs").join(sha256(&fixture(FIRST)));
    let link = folder(&cache).join("snapshots").join(COMMIT).join(FIRST);
    assert_eq!(fs::canonicalize(link).expect("a link"), fs::canonicalize(blob).expect("a blob"));
    // What is here is not fetched again.
    check_rows(&open(&server, &cache).expect("opens again"));
    assert_eq!((server.fetches(FIRST), server.fetches(SECOND)), (1, 1));
}

#[test]
fn what_breaks_off_is_resumed() {
    let (server, cache) = hub();
    let second = Server::place(SECOND);
    server.fail(&second, &[Fault::Cut(1000), Fault::Cut(500), Fault::Cut(0)]);
    check_rows(&open(&server, &cache).expect("opens"));
    let requests = server.requests();
    let open_ended = |r: &&server::Request| {
        r.path == second && r.range.as_ref().is_none_or(|r| r.ends_with('-'))
    };
    let ranges: Vec<_> = requests.iter().filter(open_ended).map(|r| r.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-"), Some("bytes=1500-"), Some("bytes=1500-")]);
}

#[test]
fn what_another_run_left_behind_is_resumed() {
    let (server, cache) = hub();
    let whole = fixture(FIRST);
    let blobs = folder(&cache).join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let partial = blobs.join(format!("{}.incomplete", sha256(&whole)));
    fs::write(&partial, &whole[..3000]).expect("written");
    check_rows(&open(&server, &cache).expect("opens"));
    let resumed = |r: &server::Request| r.range.as_deref() == Some("bytes=3000-");
    assert!(server.requests().iter().any(resumed));
    assert!(!partial.exists());
}

#[test]
fn a_busy_hub_is_asked_again_after_the_time_it_names() {
    let (server, cache) = hub();
    let api = format!("/api/datasets/{REPO}/revision/main");
    server.fail(&api, &[Fault::Status(503, None), Fault::Cut(5)]);
    let faults = [Fault::Status(429, Some(1)), Fault::Status(500, None), Fault::Status(502, None)];
    server.fail(&Server::place(FIRST), &faults);
    let started = Instant::now();
    check_rows(&open(&server, &cache).expect("opens"));
    assert!(started.elapsed() >= Duration::from_secs(1), "Retry-After is passed over");
}

#[test]
fn a_hub_that_stays_away_is_an_error_after_some_attempts() {
    let (server, cache) = hub();
    server.always_fail(&Server::place(FIRST), Fault::Status(500, None));
    let source = open(&server, &cache).expect("opens");
    let error = source.read(0).expect_err("not there");
    assert!(matches!(error, Error::Failed(_)), "no object's fault: {error}");
    let text = error.to_string();
    assert!(text.contains(FIRST) && text.contains("attempts"), "{text}");
    assert!(source.read(ROWS.0).is_ok(), "the other shard is there");
    server.always_fail(&Server::place(SECOND), Fault::Cut(0));
    let other = tempfile::tempdir().expect("a folder");
    let error = open(&server, &other).expect("opens").read(ROWS.0).expect_err("nothing arrives");
    assert!(error.to_string().contains("nothing arrives"), "{error}");
}

#[test]
fn what_arrives_damaged_is_never_used() {
    for fault in [Fault::Flip(777), Fault::Longer] {
        let (server, cache) = hub();
        server.always_fail(&Server::place(FIRST), fault.clone());
        let error = open(&server, &cache).expect("opens").read(0).expect_err("damaged");
        let text = error.to_string();
        assert!(text.contains("another hash") || text.contains("bytes that are listed"), "{text}");
        assert!(!is_here(&cache, FIRST));
        assert!(!folder(&cache).join("blobs").join(sha256(&fixture(FIRST))).exists());
        // Once is an accident.
        let (server, cache) = hub();
        server.fail(&Server::place(FIRST), &[fault, Fault::WholeFile]);
        check_rows(&open(&server, &cache).expect("opens"));
    }
}

#[test]
fn a_listing_that_lies_about_sizes_and_hashes_is_found_out() {
    let whole = fixture(FIRST);
    let (size, hash) = (whole.len(), sha256(&whole));
    for (size, hash, words) in [
        (size + 1, hash.clone(), ""),
        (size - 1, hash.clone(), ""),
        (size, "0".repeat(64), "another hash"),
        (size, "../../../evil".into(), "the hash"),
        (usize::MAX, hash, ""),
    ] {
        let (server, cache) = hub();
        let entry = json!({ "type": "file", "path": FIRST, "size": size,
                            "lfs": { "oid": hash, "size": size } });
        server.list(FIRST, entry);
        let read = open(&server, &cache).and_then(|source| source.read(0));
        let error = read.expect_err("a lie").to_string();
        assert!(error.contains(words), "{error}");
        assert!(!is_here(&cache, FIRST), "{error}");
    }
}

#[test]
fn a_small_file_is_checked_by_the_hash_of_git() {
    let whole = fixture(FIRST);
    let oid = git(&whole);
    assert_eq!(git(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a", "as git has it");
    let list = |server: &Server, oid: &str| {
        let entry = json!({ "type": "file", "path": FIRST, "size": whole.len(), "oid": oid });
        server.list(FIRST, entry);
    };
    let (server, cache) = hub();
    list(&server, &oid);
    server.fail(&Server::place(FIRST), &[Fault::Cut(1000), Fault::Flip(777)]);
    check_rows(&open(&server, &cache).expect("opens"));
    assert!(is_here(&cache, FIRST) && folder(&cache).join("blobs").join(&oid).exists());
    for (fault, oid) in [(Some(Fault::Flip(777)), oid), (None, "0".repeat(40))] {
        let (server, cache) = hub();
        list(&server, &oid);
        if let Some(fault) = fault {
            server.always_fail(&Server::place(FIRST), fault);
        }
        let error = open(&server, &cache).expect("opens").read(0).expect_err("damaged");
        assert!(error.to_string().contains("another hash"), "{error}");
        assert!(!is_here(&cache, FIRST));
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for path in ["../../evil.parquet", "/tmp/evil.parquet", "a/../../b.parquet", "a\\b.parquet"] {
        let (server, cache) = hub();
        let lfs = json!({ "oid": "0".repeat(64), "size": 9 });
        server.list("zz", json!({ "type": "file", "path": path, "size": 9, "lfs": lfs }));
        let error = open(&server, &cache).map(drop).expect_err(path).to_string();
        assert!(error.contains("or lies elsewhere"), "{error}");
        assert!(!folder(&cache).exists());
    }
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let (server, cache) = hub();
    let other = Server::start(&[(FIRST, &fixture(FIRST)), (SECOND, &fixture(SECOND))]);
    for path in [FIRST, SECOND] {
        let to = format!("{}/cdn/{path}", other.address);
        server.always_fail(&Server::place(path), Fault::Redirect(to));
    }
    check_rows(&open(&server, &cache).expect("opens"));
    let header = format!("Bearer {SECRET}");
    let here = server.requests();
    assert!(!here.is_empty() && here.iter().all(|r| r.token.as_deref() == Some(&header)));
    let there = other.requests();
    assert!(there.len() >= 2 && there.iter().all(|r| r.token.is_none()), "{there:?}");
}

#[test]
fn a_loop_or_another_scheme_is_not_followed() {
    for (to, words) in [
        (Server::place(FIRST), "redirects"),
        ("file:///etc/passwd".to_owned(), "cannot be followed"),
    ] {
        let (server, cache) = hub();
        server.always_fail(&Server::place(FIRST), Fault::Redirect(to));
        let error = open(&server, &cache).expect("opens").read(0).expect_err("no way").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_the_hub_refuses_is_said_without_the_token() {
    for (status, words) in [(401, "has no right"), (403, "has no right"), (404, "check its name")] {
        let (server, cache) = hub();
        server.always_fail(
            &format!("/api/datasets/{REPO}/revision/main"),
            Fault::Status(status, None),
        );
        let error = open(&server, &cache).map(drop).expect_err("refused").to_string();
        assert!(error.contains(words) && error.contains(REPO), "{error}");
        assert!(!error.contains(SECRET));
        assert_eq!(server.requests().len(), 1, "asking again does not help");
    }
    let (server, cache) = hub();
    let mut elsewhere = config("");
    elsewhere.repo = "../etc".into();
    let refused = elsewhere.open_in(environment(&server, &cache, &[]), Duration::ZERO);
    assert!(matches!(refused.map(drop), Err(Error::Misuse(_))));
    let mut missing = config("");
    missing.split = Some("validation".into());
    let environment = environment(&server, &cache, &[]);
    let error = missing.open_in(environment, Duration::ZERO).map(drop).expect_err("no split");
    assert!(error.to_string().contains("data/test-00000"), "{error}");
}

#[test]
fn training_runs_while_later_shards_are_on_their_way() {
    let (server, cache) = hub();
    server.always_fail(&Server::place(SECOND), Fault::Held);
    let source = open(&server, &cache).expect("opens, with the rows of both");
    assert_eq!(source.len(), ROWS.1);
    for i in 0..ROWS.0 {
        source.read(i).expect("the first shard is here");
    }
    assert!(!is_here(&cache, SECOND));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| source.read(ROWS.0));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        server.release();
        waiting.join().expect("no panic").expect("arrives");
    });
}

#[test]
fn dropping_the_source_ends_the_fetching() {
    let (server, cache) = hub();
    server.always_fail(&Server::place(FIRST), Fault::Held);
    let source = open(&server, &cache).expect("opens");
    drop(source);
    server.release();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!is_here(&cache, FIRST));
}

#[test]
fn shards_beyond_the_budget_are_deleted_and_fetched_again() {
    let (server, cache) = hub();
    let size = fixture(FIRST).len();
    let budget = format!("disk_budget = '{}'", size + 100); // one shard fits, or the other
    {
        let source = open_with(&server, &cache, &budget).expect("opens");
        for round in 1..3 {
            source.read(0).expect("readable");
            assert!(is_here(&cache, FIRST));
            source.read(ROWS.0).expect("readable");
            assert!(is_here(&cache, SECOND), "round {round}");
        }
        // Both are open in this very process: neither may go.
        assert!(is_here(&cache, FIRST));
    }
    let source = open_with(&server, &cache, &budget).expect("opens");
    source.expect(&[0]);
    source.read(0).expect("readable");
    // What another program has fetched stays.
    let (server, other) = hub();
    let path = folder(&other).join("snapshots").join(COMMIT).join(FIRST);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(&path, fixture(FIRST)).expect("written");
    let source = open_with(&server, &other, "disk_budget = '1kB'").expect("opens");
    check_rows(&source);
    assert!(is_here(&other, FIRST));
    assert_eq!(server.fetches(FIRST), 0);
}

#[test]
fn two_readers_share_a_cache() {
    let (server, cache) = hub();
    server.fail(&Server::place(FIRST), &[Fault::Cut(2000)]);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| check_rows(&open(&server, &cache).expect("opens"))))
            .collect();
        for reader in readers {
            reader.join().expect("the same rows");
        }
    });
    assert_eq!((server.fetches(FIRST), server.fetches(SECOND)), (2, 1), "fetched once by all");
}

#[test]
fn without_the_hub_what_is_here_is_read() {
    let (server, cache) = hub();
    let offline = || environment(&server, &cache, &[("HF_HUB_OFFLINE", "1")]);
    let error = config("").open_in(offline(), Duration::ZERO).map(drop).expect_err("nothing");
    assert!(error.to_string().contains("never fetched"), "{error}");
    open(&server, &cache).expect("opens").read(ROWS.0).expect("fetched");
    let asked = server.requests().len();
    let wait = Instant::now();
    while !is_here(&cache, FIRST) && wait.elapsed() < Duration::from_secs(20) {
        open(&server, &cache).expect("opens").read(0).expect("fetched");
    }
    let before = server.requests().len();
    assert!(before >= asked);
    check_rows(&config("").open_in(offline(), Duration::ZERO).expect("opens"));
    assert_eq!(server.requests().len(), before, "the hub was asked");
    fs::remove_file(folder(&cache).join("snapshots").join(COMMIT).join(SECOND)).expect("removed");
    let error = config("").open_in(offline(), Duration::ZERO).map(drop).expect_err("one of two");
    assert!(error.to_string().contains("1 of 2 shards"), "{error}");
}

/// Where Python's library says the file is, after it has fetched it if it may.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
fn python(server: &Server, cache: &TempDir, offline: &str) -> Option<PathBuf> {
    let script = format!(
        "from huggingface_hub import hf_hub_download as get\n\
         print(get('{REPO}', '{FIRST}', repo_type='dataset'))"
    );
    let started = Command::new("python3")
        .args(["-c", &script])
        .env("HF_HOME", cache.path())
        .env("HF_ENDPOINT", &server.address)
        .env("HF_HUB_OFFLINE", offline)
        .env("HF_HUB_DISABLE_XET", "1")
        .output();
    let Ok(answer) = started else {
        eprintln!("skipped: there is no python3");
        return None;
    };
    let error = String::from_utf8_lossy(&answer.stderr);
    if error.contains("No module named 'huggingface_hub'") {
        eprintln!("skipped: python3 has no huggingface_hub");
        return None;
    }
    assert!(answer.status.success(), "{error}");
    Some(String::from_utf8_lossy(&answer.stdout).trim().into())
}

#[test]
fn the_cache_is_shared_with_python() {
    let (server, cache) = hub();
    open(&server, &cache).expect("opens").read(0).expect("fetched");
    let asked = server.requests().len();
    let Some(path) = python(&server, &cache, "1") else { return };
    assert_eq!(fs::read(path).expect("readable"), fixture(FIRST));
    assert!(server.requests()[asked..].iter().all(|r| !r.path.contains(FIRST)), "asked again");
    let (server, cache) = hub();
    python(&server, &cache, "0").expect("fetched");
    assert_eq!(server.fetches(FIRST), 0, "Python asks for the branch");
    let source = open(&server, &cache).expect("opens");
    source.read(0).expect("readable");
    assert_eq!(server.fetches(FIRST), 0, "what Python has fetched is found");
}

#[test]
fn ids_from_a_column_are_read_of_all_shards() {
    let (server, cache) = hub();
    let source = open_with(&server, &cache, "id = 'dr8_id'\nlabels = []").expect("opens");
    assert_eq!(source.id(ROWS.0), ((1u64 << 62) + ROWS.0 as u64).to_string());
    assert_eq!(source.labelled(), 0);
}

/// What goes wrong, at random.
fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0usize..9000).prop_map(Fault::Cut),
        (0usize..9000).prop_map(Fault::Flip),
        Just(Fault::Status(500, None)),
        Just(Fault::Status(429, Some(0))),
        Just(Fault::WholeFile),
        Just(Fault::OtherPart),
        Just(Fault::Longer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_goes_wrong_the_rows_are_right_or_there_are_none(
        faults in proptest::collection::vec(fault(), 0..9),
    ) {
        let (server, cache) = hub();
        server.fail(&Server::place(FIRST), &faults);
        let source = open(&server, &cache).expect("opens");
        match source.read(0) {
            Ok(_) => check_rows(&source),
            Err(error) => prop_assert!(matches!(error, Error::Failed(_)), "{}", error),
        }
        if is_here(&cache, FIRST) {
            let path = folder(&cache).join("snapshots").join(COMMIT).join(FIRST);
            prop_assert_eq!(fs::read(path).expect("readable"), fixture(FIRST));
        }
    }
}
