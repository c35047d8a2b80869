//! Pickles, written: what [`read_pickle`](super::pickle::read_pickle) reads, as protocol 2,
//! the one `torch.save` writes.
//!
//! Nothing is shared inside what is written: a value that stands in two places is written
//! twice. Classes are names; a reader looks them up.

use super::graph::MAX_DEPTH;
use super::value::{Object, Value};

/// Most bytes a pickle may take: those of large models take some hundred thousand.
const MAX_PICKLE: usize = 32 << 20;

/// The pickle of `root`.
///
/// An object that has a state and no arguments is made without calling its class, as the
/// instances of a dataclass are; any other is made by calling its class with its arguments.
///
/// # Errors
/// Says what a pickle of protocol 2 cannot hold: bytes, sets, named arguments, a class
/// whose name has no module, texts of 4 GiB, or values nested too deeply.
pub fn write_pickle(root: &Value) -> Result<Vec<u8>, String> {
    let mut writer = Writer { bytes: b"\x80\x02".to_vec() };
    writer.value(root, 0)?;
    writer.bytes.push(b'.');
    Ok(writer.bytes)
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("values nested more than {MAX_DEPTH} deep"));
        }
        if self.bytes.len() > MAX_PICKLE {
            return Err(format!("a description of more than {MAX_PICKLE} bytes"));
        }
        match value {
            Value::None => self.bytes.push(b'N'),
            Value::Bool(true) => self.bytes.push(0x88),
            Value::Bool(false) => self.bytes.push(0x89),
            Value::Int(x) => self.int(*x),
            Value::BigInt(bytes) => self.long(bytes)?,
            Value::Float(x) => {
                self.bytes.push(b'G');
                self.bytes.extend(x.to_be_bytes());
            }
            Value::Str(text) => self.text(text)?,
            Value::List(elements) => {
                self.bytes.push(b']');
                self.marked(elements, b'e', depth)?;
            }
            Value::Tuple(elements) => self.tuple(elements, depth)?,
            Value::Dict(entries) => {
                self.bytes.push(b'}');
                self.entries(entries, depth)?;
            }
            Value::Class(name) => self.class(name)?,
            Value::Object(object) => self.object(object, depth)?,
            Value::Persistent(id) => {
                self.value(id, depth + 1)?;
                self.bytes.push(b'Q');
            }
            Value::Bytes(_) => return Err("bytes, which protocol 2 has not".into()),
            Value::Set(_) => return Err("a set, which protocol 2 has not".into()),
        }
        Ok(())
    }

    fn int(&mut self, x: i64) {
        match i32::try_from(x) {
            Ok(x) => {
                self.bytes.push(b'J');
                self.bytes.extend(x.to_le_bytes());
            }
            Err(_) => {
                self.bytes.extend([0x8a, 8]);
                self.bytes.extend(x.to_le_bytes());
            }
        }
    }

    fn long(&mut self, bytes: &[u8]) -> Result<(), String> {
        let length = u32::try_from(bytes.len()).map_err(|_| "an integer of 4 GiB".to_owned())?;
        self.bytes.push(0x8b);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(bytes);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        let length = u32::try_from(text.len()).map_err(|_| "a text of 4 GiB".to_owned())?;
        self.bytes.push(b'X');
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(text.as_bytes());
        Ok(())
    }

    fn tuple(&mut self, elements: &[Value], depth: usize) -> Result<(), String> {
        // Up to three elements need no mark.
        let code = match elements.len() {
            0 => b')',
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => {
                self.bytes.push(b'(');
                b't'
            }
        };
        elements.iter().try_for_each(|element| self.value(element, depth + 1))?;
        self.bytes.push(code);
        Ok(())
    }

    /// `elements` after a mark, closed by `code`; nothing when there are none.
    fn marked(&mut self, elements: &[Value], code: u8, depth: usize) -> Result<(), String> {
        if elements.is_empty() {
            return Ok(());
        }
        self.bytes.push(b'(');
        elements.iter().try_for_each(|element| self.value(element, depth + 1))?;
        self.bytes.push(code);
        Ok(())
    }

    fn entries(&mut self, entries: &[(Value, Value)], depth: usize) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        self.bytes.push(b'(');
        for (key, value) in entries {
            self.value(key, depth + 1)?;
            self.value(value, depth + 1)?;
        }
        self.bytes.push(b'u');
        Ok(())
    }

    fn class(&mut self, name: &str) -> Result<(), String> {
        let (module, name) = name
            .rsplit_once('.')
            .filter(|_| !name.contains('\n'))
            .ok_or_else(|| format!("the class {name:?}, which names no module"))?;
        self.bytes.push(b'c');
        self.bytes.extend(format!("{module}\n{name}\n").as_bytes());
        Ok(())
    }

    fn object(&mut self, object: &Object, depth: usize) -> Result<(), String> {
        if object.named.is_some() {
            return Err("a call with named arguments, which protocol 2 has not".into());
        }
        self.value(&object.class, depth + 1)?;
        self.value(&object.args, depth + 1)?;
        let uncalled = object.state.is_some() && object.args.elements().is_empty();
        self.bytes.push(if uncalled { 0x81 } else { b'R' });
        self.marked(&object.elements, b'e', depth)?;
        self.entries(&object.entries, depth)?;
        if let Some(state) = &object.state {
            self.value(state, depth + 1)?;
            self.bytes.push(b'b');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::pickle::read_pickle;

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            prop_oneof![-2000i64..2000].prop_map(Value::Int),
            prop::collection::vec(any::<u8>(), 9..40).prop_map(|b| Value::BigInt(b.into())),
            any::<f64>().prop_filter("comparable", |x| !x.is_nan()).prop_map(Value::Float),
            ".{0,12}".prop_map(|text| Value::Str(text.into())),
            "[a-z]{1,5}(\\.[a-zA-Z_]{1,9}){1,3}".prop_map(|name| Value::Class(name.into())),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(5, 60, 5, |inner| {
            let many = prop::collection::vec(inner.clone(), 0..5);
            let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..4);
            let class = "[a-z]{1,5}\\.[A-Z]{1,5}".prop_map(|name| Value::Class(name.into()));
            prop_oneof![
                many.clone().prop_map(|v| Value::List(v.into())),
                many.clone().prop_map(|v| Value::Tuple(v.into())),
                pairs.clone().prop_map(|v| Value::Dict(v.into())),
                inner.clone().prop_map(|v| Value::Persistent(Arc::new(v))),
                (class, many.clone(), prop::option::of(inner), pairs, many).prop_map(
                    |(class, args, state, entries, elements)| {
                        let args = Value::Tuple(args.into());
                        let named = None;
                        let object = Object { class, args, named, state, entries, elements };
                        Value::Object(Arc::new(object))
                    }
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in value()) {
            let bytes = write_pickle(&value).expect("written");
            prop_assert_eq!(read_pickle(&bytes).expect("read"), value);
        }

        #[test]
        fn every_truncation_is_refused(value in value(), part in 0.0f64..1.0) {
            let bytes = write_pickle(&value).expect("written");
            let cut = (bytes.len() as f64 * part) as usize;
            prop_assert!(read_pickle(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        }
    }

    #[test]
    fn what_protocol_2_cannot_hold_is_said() {
        let refuse = |value: Value, words: &str| {
            let error = write_pickle(&value).expect_err("cannot be written");
            assert!(error.contains(words), "{error}");
        };
        refuse(Value::Bytes(Arc::from(*b"x")), "bytes");
        refuse(Value::Class("nowhere".into()), "module");
        refuse(Value::Class("os.system\nls".into()), "module");
        let deep = (0..200).fold(Value::None, |inner, _| Value::List(Arc::from([inner])));
        refuse(deep, "deep");
    }

    /// As Python's pickletools.dis would show it.
    #[test]
    fn a_dataclass_is_not_called() {
        let state = Value::Dict(Arc::from([(Value::Str("a".into()), Value::Int(1))]));
        let object = Object {
            class: Value::Class("m.C".into()),
            args: Value::Tuple(Arc::from([])),
            named: None,
            state: Some(state),
            entries: Vec::new(),
            elements: Vec::new(),
        };
        let bytes = write_pickle(&Value::Object(Arc::new(object))).expect("written");
        assert_eq!(bytes, b"\x80\x02cm\nC\n)\x81}(X\x01\0\0\0aJ\x01\0\0\0ub.");
    }
}
