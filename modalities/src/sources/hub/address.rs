//! Addresses: where they lead, and what of them may become a file name.

use ureq::http::Uri;

/// Characters of a path that stand for themselves (RFC 3986, unreserved).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A path as part of an address; with `keep_slashes`, its slashes part it.
pub(super) fn encode(path: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if is_plain(byte) || (keep_slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Scheme, host and port: who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(String, String, u16);

impl Origin {
    pub(super) fn of(address: &str) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let scheme = uri.scheme_str()?.to_lowercase();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(usual);
        Some(Self(scheme, uri.host()?.to_lowercase(), port))
    }

    /// `host:port`.
    pub(super) fn host(&self) -> String {
        format!("{}:{}", self.1, self.2)
    }

    /// Whether what travels there can be read on the way.
    pub(super) fn is_open(&self) -> bool {
        self.0 == "http"
    }
}

/// Where `location`, which the answer of `from` names, leads.
pub(super) fn follow(from: &str, location: &str) -> Option<String> {
    if location.contains("://") {
        Origin::of(location)?;
        return Some(location.to_owned());
    }
    let uri: Uri = from.parse().ok()?;
    let start = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", uri.scheme_str()?));
    }
    let folder = match location.starts_with('/') {
        true => "",
        false => uri.path().rsplit_once('/').map_or("/", |(folder, _)| folder),
    };
    let slash = if location.starts_with('/') || folder.ends_with('/') { "" } else { "/" };
    Some(format!("{start}{folder}{slash}{location}"))
}

/// The address of the next page, as a `Link` header names it (RFC 8288).
pub(super) fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (address, relation) = part.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = relation
            .split(';')
            .any(|p| matches!(p.trim().to_lowercase().as_str(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(address)
    })
}

/// Whether a path that a server names stays inside the folder it is put in, on any system.
pub(super) fn is_safe(path: &str) -> bool {
    const LONGEST: usize = 1024;
    let sound =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.ends_with(['.', ' ']);
    path.len() <= LONGEST
        && path.split('/').all(sound)
        && !path.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c))
}

/// Whether `owner/name` can be a dataset's name: what `huggingface.co` allows.
pub(super) fn is_repo(name: &str) -> bool {
    let sound = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    let parts: Vec<_> = name.split('/').collect();
    parts.len() <= 2 && parts.into_iter().all(sound)
}

/// Whether this is a hash of `digits` hexadecimal digits.
pub(super) fn is_hash(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_followed_as_a_browser_does() {
        let from = "https://hub.example/datasets/a/resolve/x.parquet?y=1";
        for (location, expected) in [
            ("https://cdn.example/z", Some("https://cdn.example/z")),
            ("/api/z?q=1", Some("https://hub.example/api/z?q=1")),
            ("z", Some("https://hub.example/datasets/a/resolve/z")),
            ("//cdn.example/z", Some("https://cdn.example/z")),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(follow(from, location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a, b| Origin::of(a) == Origin::of(b);
        assert!(same("https://hub.example/a", "https://HUB.example:443/b"));
        assert!(!same("https://hub.example/a", "http://hub.example/a"));
        assert!(!same("http://hub.example/a", "http://hub.example:81/a"));
        assert!(!same("http://hub.example/a", "http://hub.example.evil/a"));
        assert!(!same("http://hub.example/", "http://hub.example@evil/"));
        assert_eq!(Origin::of("file:///x"), None);
    }

    #[test]
    fn pages_and_names() {
        let link = "<https://a/?c=1>; rel=\"prev\", <https://a/?c=2>; rel=\"next\"";
        assert_eq!(next_page(link), Some("https://a/?c=2"));
        assert_eq!(next_page("<https://a/>; rel=\"last\""), None);
        for (path, safe) in [
            ("data/train-00000-of-00001.parquet", true),
            ("a b/ü.parquet", true),
            ("../x.parquet", false),
            ("data/../../x.parquet", false),
            ("/etc/x.parquet", false),
            ("data//x.parquet", false),
            ("c:\\x.parquet", false),
            ("a\0b.parquet", false),
            ("", false),
        ] {
            assert_eq!(is_safe(path), safe, "{path:?}");
        }
        for (name, sound) in [
            ("Smith42/galaxies", true),
            ("squad", true),
            ("a/b/c", false),
            ("../x", false),
            ("a/--b", false),
            ("a//b", false),
            ("a/b?x", false),
        ] {
            assert_eq!(is_repo(name), sound, "{name}");
        }
        assert_eq!(encode("refs/convert/parquet", false), "refs%2Fconvert%2Fparquet");
        assert_eq!(encode("a b/ü", true), "a%20b/%C3%BC");
    }

    proptest! {
        #[test]
        fn a_safe_path_stays_in_its_folder(path in "[a./\\\\:]{0,12}") {
            if is_safe(&path) {
                let parts = std::path::Path::new(&path).components();
                let normal = |c| matches!(c, std::path::Component::Normal(_));
                prop_assert!(parts.into_iter().all(normal));
            }
        }

        #[test]
        fn no_header_confuses_the_readers(text in ".{0,60}") {
            let _ = next_page(&text);
            let _ = follow("https://a/b", &text);
        }
    }
}
