//! What a configuration's struct says of itself through its `Deserialize`: the keys it asks
//! for and the words that a key chooses from. Derived code asks a deserialiser for them by
//! name, so a deserialiser that only listens learns them without a second list to keep.

use serde::Deserializer;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// The struct that a plugin's table is read into.
#[derive(Clone, Copy, Debug)]
pub struct ConfigType {
    /// Its path, such as `astropt_modalities::scalar::config::ScalarConfig`.
    pub path: fn() -> &'static str,
    /// The keys that the table can have, in the order they are declared.
    pub keys: fn() -> &'static [&'static str],
    /// What a key chooses from, where that is an enum.
    pub choices: fn(&'static str) -> Vec<KeyChoice>,
}

/// One of the words that a key chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyChoice {
    /// The word, as a recipe writes it.
    pub word: &'static str,
    /// Whether more belongs to it: `{ word = … }` in place of `"word"`.
    pub holds_more: bool,
}

impl ConfigType {
    /// That of `T`, a struct that derives `Deserialize`.
    pub const fn of<T: DeserializeOwned>() -> Self {
        Self { path: std::any::type_name::<T>, keys: keys::<T>, choices: choices::<T> }
    }
}

/// The keys that `T` asks a deserialiser for.
fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut heard = Heard::default();
    T::deserialize(Listener { heard: &mut heard, ask: Ask::Keys }).err();
    heard.words
}

/// What the key `key` of `T` chooses from; nothing where it is no enum.
fn choices<T: DeserializeOwned>(key: &'static str) -> Vec<KeyChoice> {
    let listen = |word: Option<&'static str>| {
        let mut heard = Heard::default();
        T::deserialize(Listener { heard: &mut heard, ask: Ask::Value { key, word } }).err();
        heard
    };
    let words = listen(None).words;
    words
        .iter()
        .map(|&word| KeyChoice { word, holds_more: listen(Some(word)).holds_more })
        .collect()
}

/// What derived code said.
#[derive(Default)]
struct Heard {
    words: &'static [&'static str],
    holds_more: bool,
}

/// What is wanted of it.
#[derive(Clone, Copy)]
enum Ask {
    /// The keys of a table.
    Keys,
    /// The words of the value of `key`, or what comes with the one given.
    Value { key: &'static str, word: Option<&'static str> },
    /// The same, within that value.
    Words { word: Option<&'static str> },
}

struct Listener<'a> {
    heard: &'a mut Heard,
    ask: Ask,
}

/// Every answer ends the reading: there is nothing to read.
fn enough<T>() -> Result<T, Error> {
    Err(serde::de::Error::custom("there is nothing to read"))
}

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.ask {
            Ask::Keys => self.heard.words = fields,
            Ask::Value { key, word } => {
                let value = Listener { heard: self.heard, ask: Ask::Words { word } };
                return visitor.visit_map(OneKey { key: Some(key), value: Some(value) });
            }
            Ask::Words { .. } => {}
        }
        enough()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.ask {
            Ask::Words { word: Some(word) } => {
                visitor.visit_enum(OneWord { word, heard: self.heard })
            }
            Ask::Words { word: None } => {
                self.heard.words = words;
                enough()
            }
            _ => enough(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(OneElement(self))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        enough()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// A table of one key.
struct OneKey<'a> {
    key: Option<&'static str>,
    value: Option<Listener<'a>>,
}

impl<'de> MapAccess<'de> for OneKey<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let key = self.key.take().map(|key| seed.deserialize(text(key)));
        key.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.value.take().map_or_else(enough, |value| seed.deserialize(value))
    }
}

/// A list of one element.
struct OneElement<'a>(Listener<'a>);

impl<'de> SeqAccess<'de> for OneElement<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        seed.deserialize(Listener { heard: self.0.heard, ask: self.0.ask }).map(Some)
    }
}

/// A word, to be asked what comes with it.
struct OneWord<'a> {
    word: &'static str,
    heard: &'a mut Heard,
}

impl<'de, 'a> EnumAccess<'de> for OneWord<'a> {
    type Error = Error;
    type Variant = After<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        Ok((seed.deserialize(text(self.word))?, After(self.heard)))
    }
}

/// What comes with a word.
struct After<'a>(&'a mut Heard);

impl<'de> VariantAccess<'de> for After<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        enough()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        self.0.holds_more = true;
        enough()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        self.0.holds_more = true;
        enough()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.holds_more = true;
        enough()
    }
}

fn text(word: &'static str) -> StrDeserializer<'static, Error> {
    word.into_deserializer()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    #[allow(dead_code)]
    enum Way {
        AsIs,
        #[serde(rename = "by")]
        Scaled(f64),
        Within {
            low: f64,
        },
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        size: usize,
        way: Way,
        other: Option<Way>,
        #[serde(default)]
        many: Vec<Way>,
    }

    #[test]
    fn structs_and_enums_say_what_they_take() {
        let of = ConfigType::of::<Config>();
        assert!((of.path)().ends_with("::config_type::tests::Config"));
        assert_eq!((of.keys)(), ["size", "way", "other", "many"]);
        let more = |word, holds_more| KeyChoice { word, holds_more };
        let ways = vec![more("as-is", false), more("by", true), more("within", true)];
        for key in ["way", "other", "many"] {
            assert_eq!((of.choices)(key), ways, "{key}");
        }
        assert!((of.choices)("size").is_empty());
        assert!((ConfigType::of::<f64>().keys)().is_empty());
    }
}
