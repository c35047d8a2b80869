//! What the surroundings say of the hub: the variables that Python's `huggingface_hub` reads
//! (<https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>).

use std::fmt;
use std::path::{Path, PathBuf};

use astropt_core::{Error, Result};

/// Where the hub is where no `HF_ENDPOINT` is set.
const ENDPOINT: &str = "https://huggingface.co";

/// Longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 4096;

/// Where the hub and its cache are, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// Without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// The folder that holds `datasets--owner--name` folders.
    pub(super) cache: PathBuf,
    /// Nothing may be asked of the hub.
    pub(super) offline: bool,
}

/// A secret, which never shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    /// The header that carries it.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// When one of them cannot be.
    pub(super) fn of_process() -> Result<Self> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads what `variable` answers.
    ///
    /// # Errors
    /// When a variable has a value that cannot be, or there is no place for a cache.
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| {
            variable(name).map(|v| v.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let on = |name: &str| {
            set(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&&*v.to_uppercase()))
        };
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
            let own =
                || Some(Path::new(&set("HOME").or_else(|| set("USERPROFILE"))?).join(".cache"));
            Some(caches.or_else(own)?.join("huggingface"))
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| {
            Error::Misuse("no place for files from the hub: set HF_HOME to a folder".into())
        })?;
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::Misuse(format!(
                "HF_ENDPOINT is {endpoint:?}; it starts with https://"
            )));
        }
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(|| {
            let file = set("HF_TOKEN_PATH").map(PathBuf::from);
            token_file(&file.or_else(|| Some(home.as_ref()?.join("token")))?)
        });
        let token = token.filter(|_| !on("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            let message = "the hub's token (HF_TOKEN) holds characters that no token has";
            return Err(Error::Misuse(message.into()));
        }
        Ok(Self { endpoint, token: token.map(Token), cache, offline: on("HF_HUB_OFFLINE") })
    }
}

fn token_file(path: &Path) -> Option<String> {
    let length = std::fs::metadata(path).ok()?.len();
    let text = (length <= MAX_TOKEN).then(|| std::fs::read_to_string(path).ok())??;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment> {
        let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|v| v.1.to_owned());
        Environment::read(&of)
    }

    #[test]
    fn the_variables_of_the_python_library_are_honoured() {
        let found = read(&[("HOME", "/home/me")]).expect("usual");
        assert_eq!(found.cache, Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!((found.endpoint.as_str(), found.offline), (ENDPOINT, false));
        assert_eq!(found.token, None);
        let home = tempfile::tempdir().expect("a folder");
        std::fs::write(home.path().join("token"), "hf_file\n").expect("written");
        let hf_home = home.path().to_str().expect("a name");
        let found = read(&[("HF_HOME", hf_home), ("HF_HUB_OFFLINE", "true")]).expect("sound");
        assert_eq!((found.cache, found.offline), (home.path().join("hub"), true));
        assert_eq!(found.token.expect("a token").header(), "Bearer hf_file");
        let other = [
            ("HF_HOME", hf_home),
            ("HF_HUB_CACHE", "/big"),
            ("HF_TOKEN", "hf_own"),
            ("HF_ENDPOINT", "http://mirror:8080/"),
        ];
        let found = read(&other).expect("sound");
        assert_eq!((found.cache, found.endpoint), ("/big".into(), "http://mirror:8080".into()));
        assert_eq!(found.token.as_ref().expect("a token").header(), "Bearer hf_own");
        assert!(!format!("{:?}", found.token).contains("own"), "a secret shows");
    }

    #[test]
    fn values_that_cannot_be_are_misuse() {
        assert!(read(&[]).is_err());
        assert!(read(&[("HOME", "/x"), ("HF_ENDPOINT", "ftp://x")]).is_err());
        let error = read(&[("HOME", "/x"), ("HF_TOKEN", "a\nb")]).expect_err("no token");
        assert!(!error.to_string().contains("a\nb"));
    }
}
