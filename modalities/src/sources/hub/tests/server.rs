//! A server that speaks the hub's API, and misbehaves where it is told to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(super) const REPO: &str = "owner/stars";
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Entries on a page of a listing.
const PAGE: usize = 2;

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// A status and the seconds of `Retry-After`.
    Status(u16, Option<u32>),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// A byte of the body is another.
    Flip(usize),
    /// All of the file is sent, whatever was asked.
    WholeFile,
    /// Another part than was asked for, announced or not.
    OtherPart,
    /// Leads to this address.
    Redirect(String),
    /// Bytes follow that do not belong there.
    Longer,
    /// Waits until [`Server::release`] is called.
    Held,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) range: Option<String>,
    /// Asks for the headers alone, as Python does first.
    head: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Entries of the listing that are not as the files have it.
    listed: BTreeMap<String, serde_json::Value>,
    /// Faults of the next answers by path; of `None`, of every answer from then on.
    faults: HashMap<String, VecDeque<Option<Fault>>>,
    requests: Vec<Request>,
    released: bool,
    /// Where the branch `main` is, if not at [`COMMIT`].
    main: Option<String>,
}

#[derive(Clone)]
pub(super) struct Server {
    state: Arc<Mutex<State>>,
    pub(super) address: String,
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that git gives a file of these bytes.
pub(super) fn git(bytes: &[u8]) -> String {
    let digest = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    /// A server of these files.
    pub(super) fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        let state = State { files: files.collect(), ..State::default() };
        let server = Self { state: Arc::new(Mutex::new(state)), address };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a sound server")
    }

    /// The path that a file is fetched from.
    pub(super) fn place(path: &str) -> String {
        format!("/datasets/{REPO}/resolve/{COMMIT}/{path}")
    }

    /// The next answers for `path` have these faults.
    pub(super) fn fail(&self, path: &str, faults: &[Fault]) {
        let faults = faults.iter().cloned().map(Some);
        self.state().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// So has every answer.
    pub(super) fn always_fail(&self, path: &str, fault: Fault) {
        self.state().faults.insert(path.to_owned(), [None, Some(fault)].into());
    }

    /// Lists `path` in other words.
    pub(super) fn list(&self, path: &str, entry: serde_json::Value) {
        self.state().listed.insert(path.to_owned(), entry);
    }

    /// The branch `main` moves to this commit, of which nothing is known.
    pub(super) fn move_main(&self, commit: &str) {
        self.state().main = Some(commit.to_owned());
    }

    pub(super) fn release(&self) {
        self.state().released = true;
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How often the file was asked for from some byte to its end.
    pub(super) fn fetches(&self, path: &str) -> usize {
        let to_the_end = |range: &Option<String>| range.as_ref().is_none_or(|r| r.ends_with('-'));
        let place = Self::place(path);
        let asked = |r: &&Request| r.path == place && to_the_end(&r.range) && !r.head;
        self.requests().iter().filter(asked).count()
    }

    fn serve(&self, stream: TcpStream) {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let head = first.starts_with("HEAD");
        let (mut token, mut range) = (None, None);
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_lowercase().as_str() {
                "authorization" => token = Some(value.trim().to_owned()),
                "range" => range = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let request = Request { path, token, range, head };
        // A footer is a part of the file; it is the files that faults are about.
        let part = request.range.as_ref().is_some_and(|range| !range.ends_with('-'));
        let fault = {
            let mut state = self.state();
            state.requests.push(request.clone());
            let faults = state.faults.get_mut(&request.path).filter(|_| !part);
            faults.and_then(|faults| match faults.front() {
                Some(None) => faults.get(1).cloned().flatten(),
                _ => faults.pop_front().flatten(),
            })
        };
        if matches!(fault, Some(Fault::Held)) {
            while !self.state().released {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Who has heard enough closes the connection.
        let _ = self.answer(&stream, &request, fault);
    }

    fn answer(
        &self,
        mut stream: &TcpStream,
        request: &Request,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let (mut status, mut headers, mut body) = (200, Vec::new(), Vec::new());
        let file = self.file(&request.path);
        match (&file, self.api(&request.path)) {
            (Some(file), _) => {
                body = file.clone();
                headers.push(format!("ETag: \"{}\"", sha256(file)));
                headers.push(format!("X-Repo-Commit: {COMMIT}"));
            }
            (None, Some((json, next))) => {
                body = json.to_string().into_bytes();
                headers.extend(next.map(|next| format!("Link: <{next}>; rel=\"next\"")));
            }
            (None, None) => status = 404,
        }
        let whole = matches!(fault, Some(Fault::WholeFile));
        if let (Some(file), Some(range), false) = (&file, &request.range, whole) {
            let (from, to) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
            let from: usize = from.parse().expect("a number");
            let to = to.parse().map_or(file.len(), |last: usize| last + 1).min(file.len());
            let from = from.saturating_sub(usize::from(matches!(fault, Some(Fault::OtherPart))));
            body = file[from.min(to)..to].to_vec();
            status = 206;
            let last = to.saturating_sub(1);
            headers.push(format!("Content-Range: bytes {from}-{last}/{}", file.len()));
        }
        let mut answer = Answer { status, headers, body };
        let sent = answer.spoil(fault, request.head);
        let Answer { status, headers, body } = answer;
        let head = format!(
            "HTTP/1.1 {status} so\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            headers.iter().map(|header| format!("{header}\r\n")).collect::<String>()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body[..sent])
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        // Another host has the files under their names alone.
        let main = format!("/datasets/{REPO}/resolve/main/");
        let starts = [Self::place(""), main, "/cdn/".to_owned()];
        let name = starts.iter().find_map(|start| path.strip_prefix(start))?;
        self.state().files.get(name).cloned()
    }

    /// An answer of the API, and the address of the next page.
    fn api(&self, path: &str) -> Option<(serde_json::Value, Option<String>)> {
        let rest = path.strip_prefix(&format!("/api/datasets/{REPO}/"))?;
        if rest == "revision/main" || rest == format!("revision/{COMMIT}") {
            let main = self.state().main.clone().filter(|_| rest == "revision/main");
            let sha = main.unwrap_or_else(|| COMMIT.to_owned());
            return Some((serde_json::json!({ "sha": sha, "id": REPO }), None));
        }
        let query = rest.strip_prefix(&format!("tree/{COMMIT}?recursive=1"))?;
        let page: usize = query.strip_prefix("&cursor=").map_or(Some(0), |p| p.parse().ok())?;
        let entries = self.entries();
        let (from, to) = (page * PAGE, entries.len().min((page + 1) * PAGE));
        let next = format!("{}/api/datasets/{REPO}/tree/{COMMIT}", self.address);
        let next = format!("{next}?recursive=1&cursor={}", page + 1);
        Some((entries.get(from..to)?.into(), (to < entries.len()).then_some(next)))
    }

    fn entries(&self) -> Vec<serde_json::Value> {
        let state = self.state();
        let entry = |(path, bytes): (&String, &Vec<u8>)| {
            serde_json::json!({
                "type": "file", "path": path, "size": bytes.len(), "oid": "0".repeat(40),
                "lfs": { "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 130 },
            })
        };
        let mut entries: BTreeMap<String, serde_json::Value> =
            state.files.iter().map(|file| (file.0.clone(), entry(file))).collect();
        entries.extend(state.listed.clone());
        let readme = serde_json::json!({
            "type": "file", "path": "README.md", "size": 3, "oid": "1".repeat(40)
        });
        let folder = serde_json::json!({ "type": "directory", "path": "data", "oid": "" });
        [readme, folder].into_iter().chain(entries.into_values()).collect()
    }
}

/// What is sent.
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    /// Makes it go wrong; hands back how many bytes of the body are sent.
    fn spoil(&mut self, fault: Option<Fault>, head: bool) -> usize {
        let mut sent = if head { 0 } else { self.body.len() };
        match fault {
            Some(Fault::Status(code, after)) => {
                (self.status, self.body) = (code, b"no".to_vec());
                sent = 2;
                self.headers.extend(after.map(|seconds| format!("Retry-After: {seconds}")));
            }
            Some(Fault::Cut(after)) => sent = after.min(sent),
            Some(Fault::Flip(place)) if !self.body.is_empty() => {
                let place = place % self.body.len();
                self.body[place] ^= 4;
            }
            Some(Fault::Redirect(to)) => {
                self.status = 302;
                self.headers.push(format!("Location: {to}"));
            }
            Some(Fault::Longer) => {
                self.body.extend_from_slice(b"more");
                sent = self.body.len();
            }
            _ => {}
        }
        sent
    }
}
