//! What differs between two JSON values.

use serde_json::Value;

/// Every key of `data` and `recipe` whose value differs, as a sentence; keys start with
/// `at`.
pub(super) fn differences(at: &str, data: &Value, recipe: &Value) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (data, recipe) else {
        if data == recipe {
            return Vec::new();
        }
        return vec![format!("{at} is {} in the data and {} now", said(data), said(recipe))];
    };
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let of = |map: &serde_json::Map<String, Value>, key: &str| {
        map.get(key).cloned().unwrap_or(Value::Null)
    };
    let within = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    keys.iter().flat_map(|key| differences(&within(key), &of(a, key), &of(b, key))).collect()
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
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let a = json!({"size": 512, "order": "spiral", "crop": {"x": 1}});
        let b = json!({"size": 256, "order": "spiral", "crop": {"x": 1}, "bands": 3});
        assert_eq!(
            differences("m", &a, &b),
            ["m.bands is not set in the data and 3 now", "m.size is 512 in the data and 256 now"]
        );
        assert!(differences("", &a, &a).is_empty());
    }
}
