//! Applies a parsed template to a value.
//!
//! Invariant: every loop turn, node and command costs a step, and every byte made counts, so that
//! the limits of the parent module hold whatever the template says.

use serde_json::Value as Json;

use super::functions::{Call, Function};
use super::parse::{Base, Binding, Command, Node, Operand, Pipeline};
use super::print::print;
use super::value::{Object, Value};
use super::{Fault, Missing, OUTPUT_SIZE_MAX, STEPS_MAX, TemplateOptions};

pub(super) fn run(
    nodes: &[Node],
    root: &Json,
    options: &TemplateOptions<'_>,
) -> Result<String, Fault> {
    let root = Value::borrowed(root);
    let mut run = Run {
        options,
        out: String::new(),
        steps: 0,
        made: 0,
        variables: vec![(String::new(), root.clone())],
    };
    run.nodes(nodes, &root)?;
    Ok(run.out)
}

struct Run<'o, 'v> {
    options: &'o TemplateOptions<'o>,
    out: String,
    steps: u64,
    /// Bytes of strings that functions made.
    made: usize,
    variables: Vec<(String, Value<'v>)>,
}

/// How a list of nodes was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'v> Run<'_, 'v> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value<'v>) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value<'v>) -> Result<Flow, Fault> {
        self.step(0)?;
        match node {
            Node::Text(text) => {
                self.out.push_str(text);
                self.check_output(0)?;
                Ok(Flow::Next)
            }
            Node::Action(pipe) => {
                let value = self.pipeline(pipe, dot)?;
                if pipe.binding == Binding::None {
                    match value {
                        Value::Nil | Value::Missing => self.out.push_str("<no value>"),
                        value => print(&value, &mut self.out),
                    }
                    self.check_output(pipe.at)?;
                }
                Ok(Flow::Next)
            }
            Node::If { pipe, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipeline(pipe, dot)?;
                let branch = if value.is_true() { then } else { otherwise };
                let flow = self.nodes(branch, dot)?;
                self.variables.truncate(scope);
                Ok(flow)
            }
            Node::With { pipe, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipeline(pipe, dot)?;
                let flow = if value.is_true() {
                    self.nodes(then, &value)?
                } else {
                    self.nodes(otherwise, dot)?
                };
                self.variables.truncate(scope);
                Ok(flow)
            }
            Node::Range { at, pipe, body, otherwise } => {
                let scope = self.variables.len();
                let flow = self.range(*at, pipe, body, otherwise, dot)?;
                self.variables.truncate(scope);
                Ok(flow)
            }
            Node::Break => Ok(Flow::Break),
            Node::Continue => Ok(Flow::Continue),
        }
    }

    fn range(
        &mut self,
        at: usize,
        pipe: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value<'v>,
    ) -> Result<Flow, Fault> {
        let value = self.pipeline(pipe, dot)?;
        let items: Box<dyn Iterator<Item = (Value<'v>, Value<'v>)>> = match value {
            Value::Missing | Value::Nil => Box::new(std::iter::empty()),
            Value::List(list) => {
                let items = (0..list.len()).map_while(move |index| Some((index, list.at(index)?)));
                Box::new(items.map(|(index, item)| (Value::length(index), item)))
            }
            Value::Map(object) => {
                let entries = object.sorted().into_iter();
                Box::new(entries.map(|(key, value)| (Value::text(key), value)))
            }
            Value::Int(_) if pipe.variables.len() > 1 => {
                return Err(Fault::new(at, "`range` over a number has one variable"));
            }
            Value::Int(count) => {
                Box::new((0..count).map(|index| (Value::Int(index), Value::Int(index))))
            }
            other => {
                return Err(Fault::new(at, format!("`range` cannot go over {}", other.kind())));
            }
        };
        let mut turned = false;
        let scope = self.variables.len();
        for (key, item) in items {
            turned = true;
            self.step(at)?;
            self.bind_turn(pipe, key, &item);
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if turned { Ok(Flow::Next) } else { self.nodes(otherwise, dot) }
    }

    /// Gives a loop's variables their values for one turn: one variable is the item, two are key
    /// and item.
    fn bind_turn(&mut self, pipe: &Pipeline, key: Value<'v>, item: &Value<'v>) {
        let values = match pipe.variables.len() {
            0 => return,
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (name, value) in pipe.variables.iter().zip(values) {
            self.bind(pipe.binding, name, value);
        }
    }

    fn bind(&mut self, binding: Binding, name: &str, value: Value<'v>) {
        match binding {
            Binding::None => {}
            Binding::Declare => self.variables.push((name.to_owned(), value)),
            Binding::Assign => {
                if let Some(slot) = self.variables.iter_mut().rev().find(|(known, _)| known == name)
                {
                    slot.1 = value;
                }
            }
        }
    }

    fn pipeline(&mut self, pipe: &Pipeline, dot: &Value<'v>) -> Result<Value<'v>, Fault> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        let value = piped.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            self.bind(pipe.binding, name, value.clone());
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        piped: Option<Value<'v>>,
        dot: &Value<'v>,
    ) -> Result<Value<'v>, Fault> {
        self.step(command.head.at)?;
        let head = &command.head;
        if let Base::Function(function) = head.base {
            return self.call(head.at, function, &command.arguments, piped, dot);
        }
        if command.arguments.is_empty() && piped.is_none() {
            return self.operand(head, dot);
        }
        // A field with arguments is a method; Docker's listings have one, `.Label "key"`.
        let Some(((at, method), path)) = head.fields.split_last() else {
            return Err(Fault::new(head.at, "only a function takes a piped value"));
        };
        let receiver = self.base(head, dot)?;
        let receiver = self.walk(receiver, path)?;
        let mut arguments = self.arguments(&command.arguments, dot)?;
        arguments.extend(piped);
        if method == "Label"
            && let (Value::Map(object), [Value::Str(key)]) = (&receiver, arguments.as_slice())
        {
            return Ok(label(object, key.as_str()));
        }
        Err(Fault::new(*at, format!("`.{method}` is a field and takes no arguments")))
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        dot: &Value<'v>,
    ) -> Result<Vec<Value<'v>>, Fault> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    fn call(
        &mut self,
        at: usize,
        function: Function,
        operands: &[Operand],
        piped: Option<Value<'v>>,
        dot: &Value<'v>,
    ) -> Result<Value<'v>, Fault> {
        if let Some(stops_at) = function.stops_at() {
            return self.until(at, function, stops_at, operands, piped, dot);
        }
        let mut arguments = self.arguments(operands, dot)?;
        arguments.extend(piped);
        let room = OUTPUT_SIZE_MAX.saturating_sub(self.made);
        let value = Call { at, function, arguments: &arguments, room }.run()?;
        if let Value::Str(text) = &value {
            self.made = self.made.saturating_add(text.as_str().len());
        }
        if let Value::List(list) = &value {
            self.made = self.made.saturating_add(list.len());
        }
        if self.made > OUTPUT_SIZE_MAX {
            return Err(too_much(at));
        }
        Ok(value)
    }

    /// `and` and `or`: the first argument that decides, the others are not looked at.
    fn until(
        &mut self,
        at: usize,
        function: Function,
        stops_at: bool,
        operands: &[Operand],
        piped: Option<Value<'v>>,
        dot: &Value<'v>,
    ) -> Result<Value<'v>, Fault> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() == stops_at {
                return Ok(value);
            }
            last = Some(value);
        }
        piped
            .or(last)
            .ok_or_else(|| Fault::new(at, format!("`{}` wants an argument", function.name())))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value<'v>) -> Result<Value<'v>, Fault> {
        self.step(operand.at)?;
        let value = self.base(operand, dot)?;
        self.walk(value, &operand.fields)
    }

    fn base(&mut self, operand: &Operand, dot: &Value<'v>) -> Result<Value<'v>, Fault> {
        Ok(match &operand.base {
            Base::Dot => dot.clone(),
            Base::Nil => Value::Nil,
            Base::Bool(bool) => Value::Bool(*bool),
            Base::Int(number) => Value::Int(*number),
            Base::Float(number) => Value::Float(*number),
            Base::Str(text) => Value::text(text.as_str()),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Value::Missing, |(_, value)| value.clone())
            }
            Base::Function(function) => self.call(operand.at, *function, &[], None, dot)?,
            Base::Pipeline(pipe) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipe, dot)?;
                self.variables.truncate(scope);
                value
            }
        })
    }

    fn walk(&self, mut value: Value<'v>, fields: &[(usize, String)]) -> Result<Value<'v>, Fault> {
        // Go writes an empty map as `null`; its keys are still free.
        let mut is_map = false;
        for (at, name) in fields {
            value = match value {
                Value::Nil if is_map => Value::Missing,
                value => self.field(*at, &value, name)?,
            };
            is_map = self.options.maps.contains(&name.as_str());
        }
        Ok(value)
    }

    fn field(&self, at: usize, value: &Value<'v>, name: &str) -> Result<Value<'v>, Fault> {
        let lenient = self.options.missing == Missing::NoValue;
        let object = match value {
            Value::Map(object) => object,
            Value::Missing => return Ok(Value::Missing),
            Value::Nil if lenient => return Ok(Value::Missing),
            other => {
                let why = format!("`.{name}` of {}: only an object has fields", other.kind());
                return Err(Fault::new(at, why));
            }
        };
        if let Some(found) = object.entries.get(name) {
            let found = Value::borrowed(found);
            return Ok(match found {
                Value::Map(Object { entries, .. }) => {
                    Value::Map(Object { entries, is_free: self.options.maps.contains(&name) })
                }
                other => other,
            });
        }
        if lenient || object.is_free || self.options.optional.contains(&name) {
            return Ok(Value::Missing);
        }
        let known = object.entries.keys().map(String::as_str);
        let meant = conex_report::did_you_mean(name, known).map(|name| format!(".{name}"));
        Err(Fault::new(at, format!("there is no field `.{name}`")).meant(meant.as_deref()))
    }

    fn step(&mut self, at: usize) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Fault::limit(at, format!("more than {STEPS_MAX} steps")));
        }
        Ok(())
    }

    fn check_output(&self, at: usize) -> Result<(), Fault> {
        if self.out.len() > OUTPUT_SIZE_MAX { Err(too_much(at)) } else { Ok(()) }
    }
}

pub(super) fn too_much(at: usize) -> Fault {
    Fault::limit(at, format!("more than {} MiB of text", OUTPUT_SIZE_MAX >> 20))
}

/// The value of a label, from an object `Labels` or from its text `key=value,key=value`.
fn label<'v>(object: &Object<'v>, key: &str) -> Value<'v> {
    match object.entries.get("Labels") {
        Some(Json::Object(labels)) => {
            labels.get(key).map_or_else(|| Value::text(""), Value::borrowed)
        }
        Some(Json::String(labels)) => {
            let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
            let found = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next();
            Value::text(found.unwrap_or_default())
        }
        _ => Value::text(""),
    }
}
