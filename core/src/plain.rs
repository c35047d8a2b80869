//! What libraries say of a broken file, in words for the person whose file it is: without the
//! names of types, and with the way out.

use serde_json::Value;

/// What to do with a file that is not whole.
pub const WAY_OUT: &str = "it is damaged or cut short: fetch or write it again";

/// What is wrong with a file of JSON.
pub fn json(error: &serde_json::Error) -> String {
    let place = match error.line() {
        0 => String::new(), // it was JSON, of another structure
        line => format!("line {line}: "),
    };
    place + &json_value(error)
}

/// What is wrong with a value that is written as JSON.
pub fn json_value(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Eof => format!("it ends here, in the middle; {WAY_OUT}"),
        Category::Syntax | Category::Io => {
            format!("column {} is no JSON; {WAY_OUT}", error.column())
        }
        Category::Data => {
            structure(error.to_string().split(" at line ").next().unwrap_or_default())
        }
    }
}

/// What is wrong with a Parquet file.
pub fn parquet(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let prefixes = [
        "Parquet argument error: ",
        "Parquet error: ",
        "EOF: ",
        "External: ",
        "Invalid Parquet file. ",
        "Arrow: ",
    ];
    let cause = prefixes.iter().fold(text.as_str(), |text, prefix| text.trim_start_matches(prefix));
    cause.trim_end_matches('.').to_owned()
}

/// What is wrong with a zip archive.
pub fn zip(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let cause = text.strip_prefix("invalid Zip archive: ").unwrap_or(&text);
    // The library names its own type there.
    let cause = cause.split(" of zip::").next().unwrap_or(cause);
    match cause {
        "Could not find EOCD" => "it has no directory at its end".to_owned(),
        other => other.to_owned(),
    }
}

/// What serde finds wrong with the structure of a file: "invalid type: sequence, expected usize"
/// becomes "a whole number of 0 or more is wanted here, not a list".
pub fn structure(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{} is missing", field.replace('`', "\""));
    }
    if let Some(rest) = message.strip_prefix("invalid length ") {
        let (found, wanted) = rest.split_once(", expected ").unwrap_or((rest, "another"));
        return format!("{} is wanted here, not a list of {found}", kind(wanted));
    }
    let found = ["invalid type: ", "invalid value: "].iter().find_map(|p| message.strip_prefix(p));
    let Some((found, wanted)) = found.and_then(|rest| rest.split_once(", expected ")) else {
        return message.to_owned();
    };
    format!("{} is wanted here, not {}", kind(wanted), thing(found))
}

/// What serde calls the kind of value it wants.
fn kind(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "str" | "string only" => "a text",
        "a map" => "a table",
        "a sequence" => "a list",
        "any valid TOML value" => "a number below 2^63",
        "variant identifier" => "a name",
        _ if wanted.starts_with("a tuple of size ")
            || wanted.starts_with("an array of length ") =>
        {
            "a list of as many as the format has"
        }
        _ if wanted.starts_with("struct ") || wanted.starts_with("internally tagged") => "a table",
        other => other,
    }
}

/// What serde calls the value it found.
fn thing(found: &str) -> &str {
    match found {
        "sequence" => "a list",
        "map" => "a table",
        "null" | "unit" => "nothing",
        // What is written where one of several words is wanted.
        "unit variant" => "another kind of value",
        // "integer `-16`", "floating point `1e+30`", "integer `1` as i128", "string \"big\"", "integer"
        _ => match (found.split('`').nth(1), found.find('"')) {
            (Some(value), _) => value,
            (None, Some(at)) => &found[at..],
            (None, None) => found,
        },
    }
}

/// Every key of `ours` and `theirs` whose value differs, as a sentence that says where each was
/// found, in the words of `places`; keys start with `at`.
pub(crate) fn differences(
    at: &str,
    ours: &Value,
    theirs: &Value,
    places: [&str; 2],
) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (ours, theirs) else {
        if ours == theirs {
            return Vec::new();
        }
        let [here, there] = places;
        return vec![format!("{at} is {} {here} and {} {there}", said(ours), said(theirs))];
    };
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let of = |map: &serde_json::Map<String, Value>, key: &str| {
        map.get(key).cloned().unwrap_or(Value::Null)
    };
    let within = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    keys.iter()
        .flat_map(|key| differences(&within(key), &of(a, key), &of(b, key), places))
        .collect()
}

/// A value as a person says it.
fn said(value: &Value) -> String {
    match value {
        Value::Null => "not set".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let a = serde_json::json!({"size": 512, "order": "spiral", "crop": {"x": 1}});
        let b = serde_json::json!({"size": 256, "order": "spiral", "crop": {"x": 1}, "bands": 3});
        let places = ["in the data", "now"];
        assert_eq!(
            differences("m", &a, &b, places),
            ["m.bands is not set in the data and 3 now", "m.size is 512 in the data and 256 now"]
        );
        assert!(differences("", &a, &a, places).is_empty());
    }

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "only read by serde")]
    struct Record {
        size: usize,
    }

    #[test]
    fn errors_of_json_name_no_types() {
        for (text, expected) in [
            ("", "line 1: it ends here"),
            ("{\"size\": 1", "line 1: it ends here"),
            ("size: 1", "line 1: column 1 is no JSON"),
            ("[[1]]", "line 1: a whole number of 0 or more is wanted here, not a list"),
            ("{}", "line 1: \"size\" is missing"),
            ("{\"size\": -1}", "line 1: a whole number of 0 or more is wanted here, not -1"),
            (
                "{\"size\": \"big\"}",
                "line 1: a whole number of 0 or more is wanted here, not \"big\"",
            ),
            ("{\"size\": null}", "line 1: a whole number of 0 or more is wanted here, not nothing"),
            ("null", "line 1: a table is wanted here, not nothing"),
        ] {
            let error = serde_json::from_str::<Record>(text).expect_err("broken");
            assert!(json(&error).starts_with(expected), "{text}: {}", json(&error));
        }
    }
}
