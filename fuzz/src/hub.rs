//! A hub that answers what it is told to, over the network of this machine: the source `hub` asks
//! it for a listing, for the ends of shards and for shards.
//!
//! The input is a script. A line `>>> KIND` begins an answer, status line and headers and all, to
//! a question of that kind: `revision`, `tree` (a page of the listing), `part` (a range of a file),
//! `file`, or `other` (what redirects lead to). Answers of a kind are given in turn, the last one
//! for ever; where there is none, nothing is found. `{HERE}` stands for the address of this server
//! and `{THERE}` for another name of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use astropt_core::Result;
use astropt_modalities::sources::hub::{HubConfig, Surroundings};

use crate::objects;
use crate::seeds::{Seed, repository};

const REPO: &str = "owner/stars";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SHARD: &str = "data/train-00000-of-00001.parquet";
const START: &[u8] = b">>> ";
const NOTHING: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n";
/// Longest question that is heard.
const QUESTION: usize = 64 << 10;
/// Time for what comes over a connection of this machine.
const SOON: Duration = Duration::from_secs(2);

/// What a hub answers.
pub fn hub(bytes: &[u8]) -> Result<()> {
    let server = Server::start(bytes);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let home = folder.path().display().to_string();
    let variable = |name: &str| match name {
        "HF_HOME" => Some(home.clone()),
        "HF_ENDPOINT" => Some(format!("http://{}", server.address)),
        "HF_TOKEN" => Some("hf_secret".to_owned()),
        _ => None,
    };
    let config: HubConfig = toml::from_str(&format!("repo = '{REPO}'")).expect("a sound table");
    let port = server.address.port();
    let hosts = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}")).into();
    let patience = Duration::ZERO;
    let source = config.open_within(Surroundings { variable: &variable, patience, hosts })?;
    objects(&*source)
}

/// Answers by the kind of question, the next one last.
type Script = BTreeMap<String, Vec<Vec<u8>>>;

struct Server {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(script: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let closed = Arc::new(AtomicBool::new(false));
        let (mut script, over) = (parse(script, address), closed.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // Who has heard enough closes the connection.
                let _ = answer(&stream, &mut script);
            }
        });
        Self { address, closed, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().expect("a sound server");
        }
    }
}

/// The answers of a script.
fn parse(script: &[u8], address: SocketAddr) -> Script {
    let names = [
        ("{HERE}", format!("http://{address}")),
        ("{THERE}", format!("http://localhost:{}", address.port())),
    ];
    let mut answers = Script::new();
    let mut rest = script.strip_prefix(START);
    while let Some(text) = rest {
        let end = text.windows(5).position(|w| w[0] == b'\n' && w.ends_with(START));
        let (one, next) = text.split_at(end.map_or(text.len(), |end| end + 1));
        let line = one.iter().position(|&byte| byte == b'\n').unwrap_or(one.len());
        let kind = String::from_utf8_lossy(&one[..line]).trim().to_owned();
        let mut answer = one.get(line + 1..).unwrap_or_default().to_vec();
        for (name, stands_for) in &names {
            let place = answer.windows(name.len()).position(|w| w == name.as_bytes());
            if let Some(at) = place {
                answer.splice(at..at + name.len(), stands_for.bytes());
            }
        }
        answers.entry(kind).or_default().insert(0, answer);
        rest = next.strip_prefix(START);
    }
    answers
}

/// Hears one question and answers it.
fn answer(mut stream: &TcpStream, script: &mut Script) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    let (mut question, mut part) = (Vec::new(), [0; 4096]);
    while !question.windows(4).any(|end| end == b"\r\n\r\n") && question.len() < QUESTION {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => question.extend_from_slice(&part[..read]),
        }
    }
    let question = String::from_utf8_lossy(&question).to_lowercase();
    let path = question.split(' ').nth(1).unwrap_or_default();
    let kind = if path.starts_with(&format!("/api/datasets/{REPO}/revision/")) {
        "revision"
    } else if path.starts_with(&format!("/api/datasets/{REPO}/tree/")) {
        "tree"
    } else if !path.starts_with(&format!("/datasets/{REPO}/resolve/")) {
        "other"
    } else if question.contains("\r\nrange: bytes=") {
        "part"
    } else {
        "file"
    };
    let answers = script.get_mut(kind).map_or(&mut [][..], Vec::as_mut_slice);
    match answers {
        [] => stream.write_all(NOTHING)?,
        [last] => stream.write_all(last)?,
        [.., next] => {
            stream.write_all(next)?;
            script.get_mut(kind).map(Vec::pop);
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// An answer of `kind`, closed by the end of the connection.
fn said(kind: &str, status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(">>> {kind}\nHTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body, b"\n"].concat()
}

/// Sound scripts: a listing in one page of a file that Git has, and one in two pages that leads to
/// another host, of a large file.
pub(crate) fn seeds() -> Vec<Seed> {
    let fixtures = repository().join("modalities/tests/fixtures/parquet/hf");
    let file = std::fs::read(fixtures.join("data/test-00000-of-00001.parquet"));
    let file = file.expect("a readable seed");
    let length = |len: usize| format!("Content-Length: {len}\r\n");
    let len = file.len();
    let revision = said("revision", "200 OK", "", format!(r#"{{"sha":"{COMMIT}"}}"#).as_bytes());
    let range = format!("{}Content-Range: bytes 0-{}/{len}\r\n", length(len), len - 1);
    let part = said("part", "206 Partial Content", &range, &file);
    let whole = said("file", "200 OK", &length(len), &file);
    let readme = r#"{"type":"file","path":"README.md","size":3,"oid":"11"}"#;
    let entry = |oid: &str, more: &str| {
        format!(r#"{{"type":"file","path":"{SHARD}","size":{len},"oid":"{oid}"{more}}}"#)
    };
    let small = entry(GIT, "");
    let tree = said("tree", "200 OK", "", format!("[{readme},{small}]").as_bytes());
    let plain = [&revision[..], &tree, &part, &whole].concat();

    let lfs = format!(r#","lfs":{{"oid":"{HASH}","size":{len},"pointerSize":129}}"#);
    let next =
        format!("Link: <{{HERE}}/api/datasets/{REPO}/tree/{COMMIT}?cursor=1>; rel=\"next\"\r\n");
    let first = said("tree", "200 OK", &next, format!("[{readme}]").as_bytes());
    let large = entry("", &lfs);
    let second = said("tree", "200 OK", "", format!("[{large}]").as_bytes());
    let there = said("file", "302 Found", "Location: {THERE}/cdn/x\r\n", b"");
    let busy = said("other", "503 Busy", "Retry-After: 7\r\n", b"");
    let other = said("other", "200 OK", &length(len), &file);
    let led = [revision, first, second, part, there, busy, other].concat();
    vec![Seed::new("plain", plain), Seed::new("led", led)]
}

/// The name that git gives the file.
const GIT: &str = "b24a0e611115ed8f52f6078fa59a3be69c78e772";
/// SHA-256 of the file.
const HASH: &str = "cccf825bfc37ef7eae126b5b6d5da37172a81fc3bd14cd877d3c268be9769d75";
