//! Broken files, each with the error it must give: `cases/TARGET.toml` lists them as changes of
//! sound ones. `UPDATE_CORPUS=1` writes down the errors that are given, to be read before they
//! are kept.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use astropt_fuzz::{TARGETS, Target, seeds};
use serde::{Deserialize, Serialize};

/// Fewer cases than this, and some were lost.
const CASES: usize = 300;

#[derive(Deserialize, Serialize)]
struct Corpus {
    case: Vec<Case>,
}

/// A file and what must be said of it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is broken.
    what: String,
    /// The sound file it was; none where `text` is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    edit: Vec<Edit>,
    /// The error, where FOLDER stands for the file's folder.
    #[serde(default)]
    error: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Edit {
    /// Only so many bytes are left; as many fewer than all where negative.
    Cut(i64),
    /// The first of these bytes replaced by those.
    Replace(String, String),
    /// Bytes, as hexadecimal digits, from this place on; from the end where negative.
    Put(i64, String),
    /// More text at the end.
    Append(String),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// A place in `len` bytes, counted from the end where negative.
fn place(at: i64, len: usize) -> usize {
    usize::try_from(if at < 0 { at + len as i64 } else { at }).expect("a place in the seed")
}

/// Text as bytes, where each character is one: `\u0000` is a byte too.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte a character")).collect()
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    let pair = |k: usize| u8::from_str_radix(&digits[k..k + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Cut(at) => bytes.truncate(place(*at, bytes.len())),
            Self::Append(text) => bytes.extend(text.as_bytes()),
            Self::Put(at, digits) => {
                let (new, at) = (hexadecimal(digits), place(*at, bytes.len()));
                bytes[at..at + new.len()].copy_from_slice(&new);
            }
            Self::Replace(old, new) => {
                let (old, new) = (latin(old), latin(new));
                let at = bytes.windows(old.len()).position(|window| window == old);
                let at = at.unwrap_or_else(|| panic!("{self:?}: not in the seed"));
                bytes.splice(at..at + old.len(), new);
            }
        }
    }
}

impl Case {
    fn bytes(&self, target: &str) -> Vec<u8> {
        let mut bytes = match (&self.seed, &self.text) {
            (Some(name), None) => {
                let seed = seeds::of(target).into_iter().find(|seed| seed.name == *name);
                seed.unwrap_or_else(|| panic!("{target} has no seed {name}")).bytes
            }
            (None, Some(text)) => text.clone().into_bytes(),
            _ => panic!("{target}: {}: either a seed or a text", self.what),
        };
        self.edit.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    }

    /// What the reader says of the file.
    fn answer(&self, name: &str, target: Target) -> String {
        match catch_unwind(|| target(&self.bytes(name))) {
            Ok(Err(error)) => settled(&error.to_string()),
            Ok(Ok(())) => "no error".to_owned(),
            Err(_) => "a panic".to_owned(),
        }
    }
}

/// `text` without what is never the same: the names of folders for temporary files, the port of a
/// server, and how much of an answer had come when it was found too big.
fn settled(text: &str) -> String {
    let number = |text: String, (after, name): (&str, &str)| {
        let Some((before, rest)) = text.split_once(after) else { return text };
        format!("{before}{after}{name}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    let numbers = [("127.0.0.1:", "PORT"), ("localhost:", "PORT"), ("header is too big: ", "SIZE")];
    let text = numbers.into_iter().fold(text.to_owned(), number);
    let temporary = std::env::temp_dir().join(".tmp").display().to_string();
    let mut parts = text.split(&temporary);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let name = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        text + "FOLDER" + &part[name..]
    })
}

#[test]
fn every_broken_file_gives_its_error() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for (name, target) in TARGETS {
        let path = folder().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut corpus: Corpus = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for case in &mut corpus.case {
            cases += 1;
            let answer = case.answer(name, target);
            if answer != case.error || ["no error", "a panic"].contains(&&*answer) {
                wrong.push(format!(
                    "{name}: {}\n  it says {answer}\n  and not {}",
                    case.what, case.error
                ));
                case.error = answer;
            }
        }
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            // A file that is read all the same is not broken.
            corpus.case.retain(|case| case.error != "no error");
            let text = toml::to_string(&corpus).expect("TOML");
            std::fs::write(&path, text).expect("a writable corpus");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= CASES, "{cases} cases of {CASES}");
}
