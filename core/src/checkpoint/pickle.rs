//! Python pickles, protocols 2 to 5, read as data: a small stack machine that builds
//! records. Names of classes stay names, calls stay records of what would have been
//! called; nothing is ever looked up or run.
//!
//! Memory is bounded by the pickle's length and by [`MAX_VALUES`]; nesting by
//! [`MAX_DEPTH`].

use std::collections::HashMap;

use super::graph::{Graph, Id, Node, Record, Step};
pub use super::graph::{MAX_DEPTH, MAX_VALUES};
pub use super::value::{Object, Value};

/// Longest name of a class, in bytes.
const MAX_NAME: usize = 1000;

/// Why a pickle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of its pickle: {message}")]
pub struct PickleError {
    /// Where the offending instruction starts.
    pub offset: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Reads the pickle at the start of `bytes`.
///
/// # Errors
/// When it is cut short, contradicts itself, refers to itself, is nested too deeply or
/// too large, or uses an instruction that neither `torch.save` nor a dataclass emits.
pub fn read_pickle(bytes: &[u8]) -> Result<Value, PickleError> {
    let mut machine = Machine { bytes, ..Machine::default() };
    loop {
        let offset = machine.at;
        let error = |message| PickleError { offset, message };
        if let Some(root) = machine.instruction().map_err(error)? {
            return machine.graph.value(root).map_err(error);
        }
    }
}

#[derive(Debug, Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    graph: Graph,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!("{n} bytes wanted but {} left; it is cut short", self.bytes.len() - self.at)
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| "cut short".to_owned())
    }

    fn u8(&mut self) -> Step<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Step<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length8(&mut self) -> Step<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|e| e.to_string())
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a name without end")?;
        self.at += end + 1;
        text(&rest[..end])
    }

    fn push(&mut self, node: Node) -> Step<()> {
        let id = self.graph.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    fn leaf(&mut self, value: Value) -> Step<()> {
        self.push(Node::Leaf(value))
    }

    fn string(&mut self, n: usize) -> Step<()> {
        let text = text(self.take(n)?)?;
        self.leaf(Value::Str(text.into()))
    }

    fn blob(&mut self, n: usize) -> Step<()> {
        let bytes = self.take(n)?;
        self.leaf(Value::Bytes(bytes.into()))
    }

    fn long(&mut self, n: usize) -> Step<()> {
        let value = integer(self.take(n)?);
        self.leaf(value)
    }

    /// The top of the stack, which stays; never below the last mark.
    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err("an instruction finds no value to work on".into()),
        }
    }

    fn pop(&mut self) -> Step<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// Everything above the last mark, which is closed.
    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let floor = self.marks.pop().ok_or("an instruction finds no mark")?;
        Ok(self.stack.split_off(floor))
    }

    fn pop_pairs(&mut self) -> Step<Vec<(Id, Id)>> {
        let flat = self.pop_mark()?;
        let (pairs, []) = flat.as_chunks::<2>() else {
            return Err("a key without a value".into());
        };
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut elements = (0..n).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        elements.reverse();
        self.push(Node::Tuple(elements))
    }

    fn remember(&mut self, key: u32) -> Step<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("nothing is remembered as {key}"))?;
        self.stack.push(id);
        Ok(())
    }

    /// Carries out one instruction; the root's number when it was the last.
    fn instruction(&mut self) -> Step<Option<Id>> {
        let code = self.u8().map_err(|_| "it ends without a stop instruction".to_owned())?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => match self.u8()? {
                0..=5 => {}
                other => return Err(format!("protocol {other} is not known; 2 to 5 are")),
            },
            0x95 => {
                let length = self.length8()?;
                if length > self.bytes.len() - self.at {
                    return Err("a frame is cut short".into());
                }
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let id = self.top()?;
                self.stack.push(id);
            }
            b'q' => {
                let key = u32::from(self.u8()?);
                self.remember(key)?;
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).map_err(|e| e.to_string())?;
                self.remember(key)?;
            }
            b'h' => {
                let key = u32::from(self.u8()?);
                self.recall(key)?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            _ => return self.constant(code).map(|()| None),
        }
        Ok(None)
    }

    fn constant(&mut self, code: u8) -> Step<()> {
        match code {
            b'N' => self.leaf(Value::None),
            0x88 => self.leaf(Value::Bool(true)),
            0x89 => self.leaf(Value::Bool(false)),
            b'J' => {
                let x = i32::from_le_bytes(self.array()?);
                self.leaf(Value::Int(x.into()))
            }
            b'K' => {
                let x = self.u8()?;
                self.leaf(Value::Int(x.into()))
            }
            b'M' => {
                let x = self.u16()?;
                self.leaf(Value::Int(x.into()))
            }
            0x8a => {
                let n = self.u8()? as usize;
                self.long(n)
            }
            0x8b => {
                let n = self.u32()? as usize;
                self.long(n)
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.leaf(Value::Float(x))
            }
            b'X' | b'T' => {
                let n = self.u32()? as usize;
                self.string(n)
            }
            0x8c | b'U' => {
                let n = self.u8()? as usize;
                self.string(n)
            }
            0x8d => {
                let n = self.length8()?;
                self.string(n)
            }
            b'B' => {
                let n = self.u32()? as usize;
                self.blob(n)
            }
            b'C' => {
                let n = self.u8()? as usize;
                self.blob(n)
            }
            0x8e | 0x96 => {
                let n = self.length8()?;
                self.blob(n)
            }
            _ => self.container(code),
        }
    }

    fn container(&mut self, code: u8) -> Step<()> {
        match code {
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            0x8f => self.push(Node::Set(Vec::new())),
            b'l' => {
                let elements = self.pop_mark()?;
                self.push(Node::List(elements))
            }
            b't' => {
                let elements = self.pop_mark()?;
                self.push(Node::Tuple(elements))
            }
            0x85..=0x87 => self.tuple(usize::from(code - 0x84)),
            0x91 => {
                let elements = self.pop_mark()?;
                self.push(Node::Set(elements))
            }
            b'd' => {
                let entries = self.pop_pairs()?;
                self.push(Node::Dict(entries))
            }
            b'a' => {
                let element = self.pop()?;
                self.extend(vec![element])
            }
            b'e' | 0x90 => {
                let elements = self.pop_mark()?;
                self.extend(elements)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_entries(vec![(key, value)])
            }
            b'u' => {
                let entries = self.pop_pairs()?;
                self.set_entries(entries)
            }
            _ => self.object(code),
        }
    }

    fn extend(&mut self, new: Vec<Id>) -> Step<()> {
        let target = self.top()?;
        match &mut self.graph.nodes[target] {
            Node::List(elements) | Node::Set(elements) => elements.extend(new),
            Node::Object(record) => record.elements.extend(new),
            _ => return Err("elements are added to a value that is no list".into()),
        }
        Ok(())
    }

    fn set_entries(&mut self, new: Vec<(Id, Id)>) -> Step<()> {
        let target = self.top()?;
        match &mut self.graph.nodes[target] {
            Node::Dict(entries) => entries.extend(new),
            Node::Object(record) => record.entries.extend(new),
            _ => return Err("entries are set on a value that is no dictionary".into()),
        }
        Ok(())
    }

    fn object(&mut self, code: u8) -> Step<()> {
        match code {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match &self.graph.nodes[id] {
                    Node::Leaf(Value::Str(text)) => Ok(text.clone()),
                    _ => Err("a class whose name is no text".to_owned()),
                };
                let (module, name) = (text(module)?, text(name)?);
                self.class(&module, &name)
            }
            b'R' | 0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.record(class, args, None)
            }
            0x92 => {
                let (named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.record(class, args, Some(named))
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                let Node::Object(record) = &mut self.graph.nodes[target] else {
                    return Err("a state is given to a value that is no object".into());
                };
                record.state = Some(state);
                Ok(())
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            other => Err(format!(
                "instruction {other:#04x} is none that torch.save emits; save the file again \
                 with torch.save"
            )),
        }
    }

    fn class(&mut self, module: &str, name: &str) -> Step<()> {
        // Remembered texts can be joined any number of times, so they must be short.
        if module.len() + name.len() > MAX_NAME {
            return Err(format!("a class name of more than {MAX_NAME} bytes"));
        }
        self.leaf(Value::Class(format!("{module}.{name}").into()))
    }

    fn record(&mut self, class: Id, args: Id, named: Option<Id>) -> Step<()> {
        let (entries, elements) = (Vec::new(), Vec::new());
        let record = Record { class, args, named, state: None, entries, elements };
        self.push(Node::Object(Box::new(record)))
    }
}

fn text(bytes: &[u8]) -> Step<&str> {
    std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

/// A two's complement integer, little-endian.
fn integer(bytes: &[u8]) -> Value {
    let negative = bytes.last().is_some_and(|&b| b & 0x80 != 0);
    if bytes.len() > 8 {
        return Value::BigInt(bytes.into());
    }
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Value {
        read_pickle(bytes).expect("a valid pickle")
    }

    fn refuse(bytes: &[u8], words: &str) {
        let error = read_pickle(bytes).expect_err("not a valid pickle").to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn plain_values_of_protocol_4() {
        // pickle.dumps({"a": [1, -1, 2.5, None, True], "b": (b"x", 2**40)}, 4)
        let value = read(
            b"\x80\x04\x95\x2e\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01J\xff\xff\xff\xffG@\x04\0\
              \0\0\0\0\0N\x88e\x8c\x01b\x94C\x01x\x94\x8a\x06\0\0\0\0\0\x01\x86\x94u.",
        );
        let a: Vec<_> = value.get("a").expect("a").elements().to_vec();
        let expected =
            [Value::Int(1), Value::Int(-1), Value::Float(2.5), Value::None, Value::Bool(true)];
        assert_eq!(a, expected);
        assert_eq!(value.at(&["b"]).expect("b").elements()[1], Value::Int(1 << 40));
    }

    #[test]
    fn calls_stay_records() {
        let value = read(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R}X\x01\0\0\0kK\x07sb.");
        assert_eq!(value.class(), Some("os.system"));
        let Value::Object(object) = &value else { panic!("an object") };
        assert_eq!(object.args.elements(), [Value::Str("ls".into())]);
        assert_eq!(value.get("k"), Some(&Value::Int(7)));
        assert_eq!(read(b"\x80\x04\x8c\x01m\x8c\x01C\x93.").class(), Some("m.C"));
    }

    #[test]
    fn containers_filled_after_they_were_remembered_are_shared() {
        // a = [1]; (a, a)
        let value = read(b"\x80\x02]q\x00h\x00\x86q\x01h\x00K\x01a0h\x01.");
        assert_eq!(value.elements().len(), 2);
    }

    #[test]
    fn what_refers_to_itself_or_nests_too_deeply_is_refused() {
        refuse(b"\x80\x02]q\0h\0a.", "contains itself");
        let mut deep = vec![b']'; 200];
        deep.extend([b'a'; 199]);
        deep.push(b'.');
        refuse(&deep, "deep");
    }

    /// Nests built from shared parts, each path to a new part short.
    #[test]
    fn sharing_builds_neither_deep_nests_nor_much_work() {
        let mut bytes = b"(".to_vec();
        bytes.extend(b"]r\0\0\0\0");
        for k in 1..5000u32 {
            bytes.extend(b"]j");
            bytes.extend((k - 1).to_le_bytes());
            bytes.extend(b"aj");
            bytes.extend((k - 1).to_le_bytes());
            bytes.extend(b"ar");
            bytes.extend(k.to_le_bytes());
        }
        bytes.extend(b"t.");
        refuse(&bytes, "deep");
    }

    #[test]
    fn broken_pickles_are_refused_with_the_offset() {
        refuse(b"", "at byte 0");
        refuse(b"\x80\x02}", "without a stop");
        refuse(b"\x80\x09N.", "protocol 9");
        refuse(b"\x80\x02X\xff\xff\xff\x7fa", "cut short");
        refuse(b"\x80\x02i.", "0x69");
        refuse(b"\x80\x02u.", "no mark");
        refuse(b"\x80\x02a.", "no value");
        refuse(b"\x80\x02N(0.", "no value");
        refuse(b"\x80\x02h\x07.", "remembered as 7");
        refuse(b"\x80\x02X\x01\0\0\0\xff.", "UTF-8");
        refuse(b"\x80\x02}(Nu.", "without a value");
    }
}
