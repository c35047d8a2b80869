//! Values under construction, which may refer to each other in any way until they are
//! finished.

use std::sync::Arc;

use super::value::{Object, Value};

/// Most values one pickle may build.
pub const MAX_VALUES: usize = 1_000_000;
/// Deepest nesting of values.
pub const MAX_DEPTH: usize = 100;

pub(super) type Id = usize;
pub(super) type Step<T> = std::result::Result<T, String>;

/// A value under construction. Containers refer to others by number, because a pickle
/// fills a container after handing out references to it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Value),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Object(Box<Record>),
    Persistent(Id),
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) class: Id,
    pub(super) args: Id,
    pub(super) named: Option<Id>,
    pub(super) state: Option<Id>,
    pub(super) entries: Vec<(Id, Id)>,
    pub(super) elements: Vec<Id>,
}

/// A node's finished value and how deeply it nests, or that it is being finished.
#[derive(Clone, Debug)]
enum Finished {
    Not,
    Begun,
    Done(Value, usize),
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    pub(super) fn add(&mut self, node: Node) -> Step<Id> {
        if self.nodes.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// The value of `root`.
    pub(super) fn value(&self, root: Id) -> Step<Value> {
        let mut finished = vec![Finished::Not; self.nodes.len()];
        Ok(self.finish(root, 0, &mut finished)?.0)
    }

    /// The value of node `id` and its height. Shared nodes are finished once, so the work
    /// is linear however often they are referred to; heights keep sharing from building
    /// nests that are deeper than any one path from the root.
    fn finish(&self, id: Id, depth: usize, all: &mut [Finished]) -> Step<(Value, usize)> {
        match &all[id] {
            Finished::Done(value, height) => return Ok((value.clone(), *height)),
            Finished::Begun => return Err("a value that contains itself".into()),
            Finished::Not if depth > MAX_DEPTH => return Err(too_deep()),
            Finished::Not => all[id] = Finished::Begun,
        }
        let mut height = 0;
        let mut one = |id: Id| -> Step<Value> {
            let (value, below) = self.finish(id, depth + 1, all)?;
            height = height.max(below + 1);
            Ok(value)
        };
        let value = match &self.nodes[id] {
            Node::Leaf(value) => value.clone(),
            Node::List(ids) => Value::List(many(ids, &mut one)?.into()),
            Node::Tuple(ids) => Value::Tuple(many(ids, &mut one)?.into()),
            Node::Set(ids) => Value::Set(many(ids, &mut one)?.into()),
            Node::Dict(entries) => Value::Dict(pairs(entries, &mut one)?.into()),
            Node::Persistent(id) => Value::Persistent(Arc::new(one(*id)?)),
            Node::Object(record) => Value::Object(Arc::new(Object {
                class: one(record.class)?,
                args: one(record.args)?,
                named: record.named.map(&mut one).transpose()?,
                state: record.state.map(&mut one).transpose()?,
                entries: pairs(&record.entries, &mut one)?,
                elements: many(&record.elements, &mut one)?,
            })),
        };
        if height > MAX_DEPTH {
            return Err(too_deep());
        }
        all[id] = Finished::Done(value.clone(), height);
        Ok((value, height))
    }
}

fn too_deep() -> String {
    format!("values nested more than {MAX_DEPTH} deep")
}

fn many(ids: &[Id], one: &mut impl FnMut(Id) -> Step<Value>) -> Step<Vec<Value>> {
    ids.iter().map(|&id| one(id)).collect()
}

fn pairs(
    entries: &[(Id, Id)],
    one: &mut impl FnMut(Id) -> Step<Value>,
) -> Step<Vec<(Value, Value)>> {
    entries.iter().map(|&(key, value)| Ok((one(key)?, one(value)?))).collect()
}
