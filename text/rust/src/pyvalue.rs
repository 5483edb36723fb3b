//! What JSON, and the literals of a template, become inside a template: lists and dicts that print as
//! Python's do, wherever they are printed, and tuples, which only printing tells from lists.
//!
//! Each knows its size from the moment it is made, because a value may hold another many times over:
//! twenty lists of two can print as a million. Beyond DEPTH and NODES none is made, so that whatever
//! walks through one (printing, comparing, sorting, dropping) ends.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, Value};
use serde_json::Value as Json;

use crate::{bounds, pyfmt};

const DEPTH: usize = 200;
const NODES: usize = 16 << 20;
/// A namespace changes after it was put into a list: it counts as much as a large one.
const FOREIGN_NODES: usize = 1 << 16;

/// Of a value as it prints: with what it holds as often as it holds it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    depth: usize,
    nodes: usize, // one per value and per 64 bytes of text
    /// A namespace, macro or loop is somewhere in it.
    pub foreign: bool,
}

impl Size {
    fn add(&mut self, item: Size) {
        self.depth = self.depth.max(item.depth + 1);
        self.nodes = self.nodes.saturating_add(item.nodes);
        self.foreign |= item.foreign;
    }

    fn checked(self) -> Result<Self, Error> {
        if self.depth > DEPTH {
            return Err(bounds::exceeded(format!("nests lists and dicts more than {DEPTH} deep")));
        }
        if self.nodes > NODES {
            let what = format!("makes a list or dict of more than {NODES} values");
            return Err(bounds::exceeded(what));
        }
        Ok(self)
    }
}

#[derive(Debug)]
struct PyList(Vec<Value>, Size);

#[derive(Debug)]
pub struct PyTuple(Vec<Value>, Size);

pub type Fields = IndexMap<Value, Value>;

#[derive(Debug)]
struct PyDict(Fields, Size);

fn render<T: Object + 'static>(object: &Arc<T>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&pyfmt::repr(&Value::from_dyn_object(object.clone())))
}

macro_rules! sequence {
    ($name:ident) => {
        impl Object for $name {
            fn repr(self: &Arc<Self>) -> ObjectRepr {
                ObjectRepr::Seq
            }
            fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
                self.0.get(key.as_usize()?).cloned()
            }
            fn enumerate(self: &Arc<Self>) -> Enumerator {
                Enumerator::Seq(self.0.len())
            }
            fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                render(self, f)
            }
        }
    };
}
sequence!(PyList);
sequence!(PyTuple);

impl Object for PyDict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().cloned().collect())
    }
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(self, f)
    }
}

fn known(value: &Value) -> Option<Size> {
    let list = value.downcast_object_ref::<PyList>().map(|list| list.1);
    let tuple = || value.downcast_object_ref::<PyTuple>().map(|tuple| tuple.1);
    let dict = || value.downcast_object_ref::<PyDict>().map(|dict| dict.1);
    list.or_else(tuple).or_else(dict)
}

/// A map of values that does not change; minijinja's other maps are namespaces and loops.
fn is_plain_map(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    ["IndexMap<", "BTreeMap<", "HashMap<", "MergeDict"].iter().any(|kind| name.contains(kind))
}

pub fn size(value: &Value) -> Result<Size, Error> {
    size_below(value, 0)?.checked()
}

fn size_below(value: &Value, depth: usize) -> Result<Size, Error> {
    let leaf = |nodes, foreign| Ok(Size { depth: 0, nodes, foreign });
    if let Some(size) = known(value) {
        return Ok(size);
    }
    let pairs = match value.kind() {
        ValueKind::String => return leaf(1 + value.as_str().map_or(0, str::len) / 64, false),
        ValueKind::Seq | ValueKind::Iterable => false,
        ValueKind::Map if is_plain_map(value) => true,
        ValueKind::Map | ValueKind::Plain => return leaf(FOREIGN_NODES, true),
        _ => return leaf(1, false),
    };
    let mut size = Size { depth, nodes: 1, foreign: false };
    size.checked()?;
    size.depth = 0;
    for item in value.try_iter()? {
        if pairs {
            size.add(size_below(&value.get_item(&item)?, depth + 1)?);
        }
        size.add(size_below(&item, depth + 1)?);
        size.checked()?;
    }
    Ok(size)
}

fn list_size(items: &[Value]) -> Result<Size, Error> {
    let mut size = Size { depth: 0, nodes: 1, foreign: false };
    for item in items {
        size.add(size_below(item, 0)?);
    }
    size.checked()
}

fn dict_size(fields: &Fields) -> Result<Size, Error> {
    let mut size = Size { depth: 0, nodes: 1, foreign: false };
    for (key, value) in fields {
        size.add(size_below(key, 0)?);
        size.add(size_below(value, 0)?);
    }
    size.checked()
}

/// A list or a dict as one of ours; a namespace and its like stay what they are.
pub fn held(value: &Value) -> Result<Value, Error> {
    bounds::check()?;
    if known(value).is_some() || (value.kind() == ValueKind::Map && !is_plain_map(value)) {
        return Ok(value.clone());
    }
    if value.kind() == ValueKind::Map {
        return dict(fields(Some(value))?);
    }
    bounds::items(value.len().unwrap_or(0))?;
    let items: Vec<Value> = value.try_iter()?.take(bounds::ITEMS + 1).collect();
    bounds::items(items.len())?;
    let size = list_size(&items)?;
    Ok(Value::from_object(PyList(items, size)))
}

/// The keys and values of a dict; none for None.
pub fn fields(value: Option<&Value>) -> Result<Fields, Error> {
    let mut fields = Fields::new();
    if let Some(value) = value {
        for key in value.try_iter()? {
            let item = value.get_item(&key)?;
            fields.insert(key, item);
        }
    }
    Ok(fields)
}

pub fn dict(fields: Fields) -> Result<Value, Error> {
    let size = dict_size(&fields)?;
    Ok(Value::from_object(PyDict(fields, size)))
}

pub fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.into_iter().collect();
    let size = list_size(&items).unwrap_or(LARGE);
    Value::from_object(PyTuple(items, size))
}

/// JSON is a tree and its reader bounds its depth, so any is taken.
pub fn from_json(json: Json) -> Value {
    match json {
        Json::Array(items) => {
            let items: Vec<Value> = items.into_iter().map(from_json).collect();
            let size = list_size(&items).unwrap_or(LARGE);
            Value::from_object(PyList(items, size))
        }
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key.into(), from_json(value)));
            let fields: Fields = fields.collect();
            let size = dict_size(&fields).unwrap_or(LARGE);
            Value::from_object(PyDict(fields, size))
        }
        scalar => Value::from_serialize(&scalar),
    }
}

const LARGE: Size = Size { depth: DEPTH, nodes: NODES, foreign: false };
