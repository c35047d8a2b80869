//! Python values as plain records.

use std::sync::Arc;

/// A value of a pickle. Containers are shared, so copying one is cheap.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A longer integer: two's complement, little-endian.
    BigInt(Arc<[u8]>),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<[Value]>),
    /// A tuple.
    Tuple(Arc<[Value]>),
    /// A set or frozen set.
    Set(Arc<[Value]>),
    /// A dictionary, in its order.
    Dict(Arc<[(Value, Value)]>),
    /// The full name of a class or function, which is never looked up.
    Class(Arc<str>),
    /// What a class would have been called with; nothing was called.
    Object(Arc<Object>),
    /// A reference to something outside the pickle, such as a tensor's numbers.
    Persistent(Arc<Value>),
}

/// A record of an object that a pickle describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Full name of the class, such as `collections.OrderedDict`.
    pub class: Value,
    /// Tuple of the arguments it would have been made from.
    pub args: Value,
    /// Dictionary of its named arguments, if any.
    pub named: Option<Value>,
    /// State it would have been given; for most classes a dictionary of its fields.
    pub state: Option<Value>,
    /// Entries it would have been given, as a dictionary is.
    pub entries: Vec<(Value, Value)>,
    /// Elements it would have been given, as a list is.
    pub elements: Vec<Value>,
}

impl Value {
    /// The value under `key`: of a dictionary, of an object's entries, or its field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let find = |entries: &'_ [(Value, Value)]| {
            entries.iter().rposition(|(name, _)| name.as_str() == Some(key))
        };
        match self {
            Self::Dict(entries) => find(entries).map(|k| &entries[k].1),
            Self::Object(object) => match find(&object.entries) {
                Some(k) => Some(&object.entries[k].1),
                None => object.state.as_ref().and_then(|state| state.get(key)),
            },
            // The state of a class with slots: a dictionary (or none) and its slots.
            Self::Tuple(parts) if parts.len() == 2 => parts
                .iter()
                .find_map(|part| matches!(part, Self::Dict(_)).then(|| part.get(key))?),
            _ => None,
        }
    }

    /// The value at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    /// Entries of a dictionary or of an object filled like one; empty otherwise.
    pub fn entries(&self) -> &[(Value, Value)] {
        match self {
            Self::Dict(entries) => entries,
            Self::Object(object) => &object.entries,
            _ => &[],
        }
    }

    /// Elements of a list, tuple or set, or of an object filled like one; empty otherwise.
    pub fn elements(&self) -> &[Value] {
        match self {
            Self::List(elements) | Self::Tuple(elements) | Self::Set(elements) => elements,
            Self::Object(object) => &object.elements,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(x) => Some(*x),
            _ => None,
        }
    }

    /// The integer as a length or index, if it is one.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_int().and_then(|x| usize::try_from(x).ok())
    }

    /// The number, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(x) => Some(*x as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The class's name: of a class itself or of an object.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Class(name) => Some(name),
            Self::Object(object) => object.class.class(),
            _ => None,
        }
    }

    /// As JSON: an object becomes its fields, what JSON cannot hold becomes null. `None`
    /// when more than `limit` values would be written; shared values count each time, and
    /// 64 bytes of text as a value.
    pub fn to_json(&self, limit: usize) -> Option<serde_json::Value> {
        let mut left = limit;
        self.json(&mut left)
    }

    fn json(&self, left: &mut usize) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        *left = left.checked_sub(1)?;
        Some(match self {
            Self::None | Self::BigInt(_) | Self::Bytes(_) | Self::Persistent(_) => Json::Null,
            Self::Bool(x) => Json::from(*x),
            Self::Int(x) => Json::from(*x),
            Self::Float(x) => Json::from(*x),
            Self::Str(text) | Self::Class(text) => {
                *left = left.checked_sub(text.len() / 64)?;
                Json::from(&**text)
            }
            Self::List(elements) | Self::Tuple(elements) | Self::Set(elements) => {
                let all = elements.iter().map(|element| element.json(left));
                Json::Array(all.collect::<Option<_>>()?)
            }
            Self::Dict(entries) => entries_json(entries, left)?,
            Self::Object(object) => match &object.state {
                Some(state) if object.entries.is_empty() => state.json(left)?,
                _ => entries_json(&object.entries, left)?,
            },
        })
    }
}

fn entries_json(entries: &[(Value, Value)], left: &mut usize) -> Option<serde_json::Value> {
    let mut map = serde_json::Map::new();
    for (key, value) in entries {
        let key = match key {
            Value::Str(text) => text.to_string(),
            Value::Int(x) => x.to_string(),
            _ => continue,
        };
        map.insert(key, value.json(left)?);
    }
    Some(serde_json::Value::Object(map))
}
