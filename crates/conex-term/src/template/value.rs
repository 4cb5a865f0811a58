//! The values that templates work on: JSON, borrowed, and what functions make of it.

use std::rc::Rc;

use serde_json::Value as Json;

#[derive(Debug, Clone)]
pub(super) enum Value<'v> {
    /// What a missing key of a map gives.
    Missing,
    /// JSON's `null`.
    Nil,
    Bool(bool),
    Int(i64),
    /// Only numbers that are too large for [`Value::Int`].
    Uint(u64),
    Float(f64),
    Str(Text<'v>),
    List(List<'v>),
    Map(Object<'v>),
}

#[derive(Debug, Clone)]
pub(super) enum Text<'v> {
    Borrowed(&'v str),
    Made(Rc<str>),
}

#[derive(Debug, Clone)]
pub(super) enum List<'v> {
    Borrowed(&'v [Json]),
    Made(Rc<[Value<'v>]>),
}

/// An object, and whether its keys are free (labels) or its fields (a document).
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'v> {
    pub(super) entries: &'v serde_json::Map<String, Json>,
    pub(super) is_free: bool,
}

impl<'v> Value<'v> {
    pub(super) fn borrowed(json: &'v Json) -> Self {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::Uint(number),
                _ => Value::Float(number.as_f64().unwrap_or(0.0)),
            },
            Json::String(text) => Value::Str(Text::Borrowed(text)),
            Json::Array(items) => Value::List(List::Borrowed(items)),
            Json::Object(entries) => Value::Map(Object { entries, is_free: false }),
        }
    }

    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Value::Str(Text::Made(text.into()))
    }

    /// A length as a number; none is longer than memory.
    pub(super) fn length(length: usize) -> Self {
        Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
    }

    /// What `if` asks: zero and emptiness are false.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Missing | Value::Nil => false,
            Value::Bool(bool) => *bool,
            Value::Int(number) => *number != 0,
            Value::Uint(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) => !text.as_str().is_empty(),
            Value::List(list) => list.len() != 0,
            Value::Map(object) => !object.entries.is_empty(),
        }
    }

    /// The name of the type as Go says it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Missing | Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint64",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
        }
    }

    /// The name of the type for a person.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Missing | Value::Nil => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Uint(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
        }
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Value::Missing | Value::Nil => Json::Null,
            Value::Bool(bool) => Json::from(*bool),
            Value::Int(number) => Json::from(*number),
            Value::Uint(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Str(text) => Json::from(text.as_str()),
            Value::List(List::Borrowed(items)) => Json::from(items.to_vec()),
            Value::List(List::Made(items)) => items.iter().map(Value::to_json).collect(),
            Value::Map(object) => Json::Object(object.entries.clone()),
        }
    }
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }
}

impl<'v> List<'v> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Borrowed(items) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub(super) fn at(&self, index: usize) -> Option<Value<'v>> {
        match self {
            List::Borrowed(items) => items.get(index).map(Value::borrowed),
            List::Made(items) => items.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'v>> + '_ {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    pub(super) fn range(&self, start: usize, end: usize) -> Option<List<'v>> {
        match self {
            List::Borrowed(items) => items.get(start..end).map(List::Borrowed),
            List::Made(items) => items.get(start..end).map(|items| List::Made(items.into())),
        }
    }
}

impl<'v> Object<'v> {
    /// The entries by key, as Go ranges over and prints a map, whatever order the JSON had.
    pub(super) fn sorted(&self) -> Vec<(&'v str, Value<'v>)> {
        let mut entries: Vec<(&'v str, Value<'v>)> = self
            .entries
            .iter()
            .map(|(key, value)| (key.as_str(), Value::borrowed(value)))
            .collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }
}
