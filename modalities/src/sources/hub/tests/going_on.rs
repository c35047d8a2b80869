//! What lets a run go on: outages of minutes, branches that move, and configs that are not mixed.

use super::super::{Hash, Listing, RemoteFile, tight};
use super::*;

const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

#[test]
fn an_outage_of_minutes_is_waited_for() {
    let (server, cache) = hub();
    let source = open(&server, &cache).expect("opens");
    // More often than a question is asked where nothing has begun.
    server.fail(&Server::place(FIRST), &vec![Fault::Status(503, None); 12]);
    server.fail(&Server::place(SECOND), &vec![Fault::Cut(0); 12]);
    check_rows(&source);
    // At the beginning someone may wait who has mistyped an address.
    let (server, cache) = hub();
    server
        .fail(&format!("/api/datasets/{REPO}/revision/main"), &vec![Fault::Status(503, None); 12]);
    let error = open(&server, &cache).map(drop).expect_err("not there").to_string();
    assert!(error.contains("6 attempts"), "{error}");
}

#[test]
fn a_branch_that_moves_is_read_where_it_was() {
    let (server, cache) = hub();
    let source = open(&server, &cache).expect("opens");
    let pins = [(vec!["pinned".to_owned()], format!("{REPO}@main:{COMMIT}"))];
    assert_eq!(source.pins(), pins);
    server.move_main(OTHER);
    let error = open(&server, &cache).map(drop).expect_err("nothing is known of it").to_string();
    assert!(error.contains("main") && error.contains("404"), "{error}");
    let table = format!("pinned = {:?}", pins[0].1);
    let before = server.requests().len();
    let pinned = open_with(&server, &cache, &table).expect("opens");
    check_rows(&pinned);
    assert_eq!(pinned.pins(), pins);
    let asked = |path: &str| server.requests()[before..].iter().any(|r| r.path.ends_with(path));
    assert!(asked("revision/main") && asked(&format!("revision/{COMMIT}")), "whether it has moved");
    // Of another dataset or branch it says nothing; a commit needs none.
    let other = format!("pinned = 'owner/other@main:{COMMIT}'");
    assert!(open_with(&server, &cache, &other).is_err());
    let commit = format!("revision = '{COMMIT}'\npinned = '{REPO}@main:{OTHER}'");
    let source = open_with(&server, &cache, &commit).expect("opens");
    check_rows(&source);
    assert!(source.pins().is_empty());
    let wrong = open_with(&server, &cache, "pinned = 'main'").map(drop).expect_err("no commit");
    assert!(matches!(wrong, Error::Misuse(_)) && wrong.to_string().contains("`pinned`"), "{wrong}");
}

#[test]
fn a_budget_below_what_is_needed_at_once_is_told() {
    let file =
        |size| RemoteFile { path: format!("{size}.parquet"), size, hash: Hash::Git(String::new()) };
    let listing = |sizes: &[u64]| Listing {
        repo: REPO.to_owned(),
        revision: "main".to_owned(),
        asked: "main".to_owned(),
        commit: COMMIT.to_owned(),
        files: sizes.iter().copied().map(file).collect(),
    };
    let many = listing(&[5_000_000, 1_000_000, 3_000_000, 2_000_000, 4_000_000]);
    assert_eq!(tight(14_000_000, &many), None, "the four largest");
    let told = tight(13_999_999, &many).expect("too little");
    assert!(told.contains("0.014 GB") && told.contains(REPO), "{told}");
    // Of one shard no more can be needed.
    assert_eq!(tight(1_000, &listing(&[1_000])), None);
    assert!(tight(999, &listing(&[1_000])).is_some());
}

#[test]
fn configs_are_not_mixed() {
    let (first, second) = (fixture(FIRST), fixture(SECOND));
    let (one, two) = ("a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet");
    let server = Server::start(&[(one, &first), (two, &second)]);
    let cache = tempfile::tempdir().expect("a folder");
    let error = open(&server, &cache).map(drop).expect_err("which").to_string();
    assert!(error.contains("several configs: a, b") && error.contains("`config`"), "{error}");
    let rows = |server: &Server, table: &str| open_with(server, &cache, table).expect(table).len();
    assert_eq!(rows(&server, "config = 'a'"), ROWS.0);
    assert_eq!(rows(&server, "config = 'b'"), ROWS.1 - ROWS.0);
    assert_eq!(rows(&server, "config = '*'"), ROWS.1);
    // As the hub has it where it has converted a dataset.
    let (one, two) = ("default/train/0000.parquet", "old/train/0000.parquet");
    let server = Server::start(&[(one, &first), (two, &second)]);
    let cache = tempfile::tempdir().expect("a folder");
    assert_eq!(open(&server, &cache).expect("the default").len(), ROWS.0);
    let (one, two) = ("train/0000.parquet", "test/0000.parquet");
    let server = Server::start(&[(one, &first), (two, &second)]);
    let cache = tempfile::tempdir().expect("a folder");
    assert_eq!(open(&server, &cache).expect("splits are none").len(), ROWS.0);
}
