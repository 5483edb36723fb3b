//! What JSON becomes inside a template: lists and dicts that print as Python's do, wherever they are
//! printed, and tuples, which only printing tells from lists.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::Value;
use serde_json::Value as Json;

use crate::pyfmt;

#[derive(Debug)]
struct PyList(Vec<Value>);

#[derive(Debug)]
pub struct PyTuple(Vec<Value>);

#[derive(Debug)]
struct PyDict(IndexMap<String, Value>);

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
        self.0.get(key.as_str()?).cloned()
    }
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(Value::from).collect())
    }
    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(self, f)
    }
}

pub fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
    Value::from_object(PyTuple(items.into_iter().collect()))
}

pub fn from_json(json: Json) -> Value {
    match json {
        Json::Array(items) => {
            Value::from_object(PyList(items.into_iter().map(from_json).collect()))
        }
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, from_json(value)));
            Value::from_object(PyDict(fields.collect()))
        }
        scalar => Value::from_serialize(&scalar),
    }
}
