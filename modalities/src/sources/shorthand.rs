//! Configuration tables that may be written as their most important value alone:
//! `fields.time = "MJD"` for `fields.time = { column = "MJD" }`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// For `deserialize_with`: a map of such tables, if there is one.
pub(crate) fn map<'de, D, T>(deserializer: D) -> Result<Option<BTreeMap<String, T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<String>,
{
    let map = Option::<BTreeMap<String, Short<T>>>::deserialize(deserializer)?;
    Ok(map.map(|map| map.into_iter().map(|(key, short)| (key, short.0)).collect()))
}

/// `T`, from its own table or from a text.
struct Short<T>(T);

impl<'de, T: Deserialize<'de> + From<String>> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for ShortVisitor<T> {
            type Value = Short<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a table")
            }

            fn visit_str<E>(self, name: &str) -> Result<Short<T>, E> {
                Ok(Short(T::from(name.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short)
            }
        }
        deserializer.deserialize_any(ShortVisitor(PhantomData))
    }
}
