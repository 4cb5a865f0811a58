//! The functions of templates: Go's own and those that Docker adds.

use super::Fault;
use super::compare::{Order, compare, equal};
use super::eval::too_much;
use super::print::{print_spaced, to_display};
use super::printf::printf;
use super::value::{List, Value};

/// Most spaces that `pad` adds on one side.
const PAD_MAX: i64 = 10_000;

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal..=$most:expr,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function { $($variant,)* }

        impl Function {
            const ALL: &'static [Function] = &[$(Function::$variant,)*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Function::$variant => $name,)* }
            }

            /// How many arguments it takes, least and most.
            fn arity(self) -> (usize, usize) {
                match self { $(Function::$variant => ($least, $most),)* }
            }
        }
    };
}

functions! {
    And "and" 1..=usize::MAX,
    Or "or" 1..=usize::MAX,
    Not "not" 1..=1,
    Eq "eq" 2..=usize::MAX,
    Ne "ne" 2..=2,
    Lt "lt" 2..=2,
    Le "le" 2..=2,
    Gt "gt" 2..=2,
    Ge "ge" 2..=2,
    Len "len" 1..=1,
    Index "index" 1..=usize::MAX,
    Slice "slice" 1..=4,
    Print "print" 0..=usize::MAX,
    Printf "printf" 1..=usize::MAX,
    Println "println" 0..=usize::MAX,
    Html "html" 0..=usize::MAX,
    Urlquery "urlquery" 0..=usize::MAX,
    Json "json" 1..=1,
    Js "js" 0..=usize::MAX,
    Split "split" 2..=2,
    Join "join" 2..=2,
    Title "title" 1..=1,
    Lower "lower" 1..=1,
    Upper "upper" 1..=1,
    Pad "pad" 3..=3,
    Truncate "truncate" 2..=2,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.name() == name)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|function| function.name())
    }

    /// For `and` and `or`: the truth at which they stop.
    pub(super) fn stops_at(self) -> Option<bool> {
        match self {
            Function::And => Some(false),
            Function::Or => Some(true),
            _ => None,
        }
    }
}

/// One call with its arguments.
pub(super) struct Call<'a, 'v> {
    pub(super) at: usize,
    pub(super) function: Function,
    pub(super) arguments: &'a [Value<'v>],
    /// Bytes of text that may still be made.
    pub(super) room: usize,
}

impl<'v> Call<'_, 'v> {
    pub(super) fn run(&self) -> Result<Value<'v>, Fault> {
        self.check_arity()?;
        let all = self.arguments;
        match self.function {
            // Their arguments are not looked at all at once, so the evaluator runs them.
            Function::And | Function::Or => Ok(Value::Nil),
            Function::Not => Ok(Value::Bool(!self.argument(0).is_true())),
            Function::Eq => self.is_equal_to_any(),
            Function::Ne => Ok(Value::Bool(!self.equal(1)?)),
            Function::Lt => self.ordered(&[Order::Less]),
            Function::Le => self.ordered(&[Order::Less, Order::Equal]),
            Function::Gt => self.ordered(&[Order::More]),
            Function::Ge => self.ordered(&[Order::More, Order::Equal]),
            Function::Len => self.length(),
            Function::Index => self.index(),
            Function::Slice => self.slice(),
            Function::Print => Ok(Value::text(print_spaced(all))),
            Function::Println => {
                let words: Vec<String> = all.iter().map(to_display).collect();
                Ok(Value::text(words.join(" ") + "\n"))
            }
            Function::Printf => {
                let text = printf(self.text(0)?, all.get(1..).unwrap_or(&[]), self.room);
                text.map(Value::text).ok_or_else(|| too_much(self.at))
            }
            Function::Html => self.escaped(html),
            Function::Js => self.escaped(js),
            Function::Urlquery => self.escaped(urlquery),
            Function::Json => Ok(Value::text(json(self.argument(0)))),
            Function::Split => self.split(),
            Function::Join => self.join(),
            Function::Title => Ok(Value::text(title(self.text(0)?))),
            Function::Lower => Ok(Value::text(self.text(0)?.to_lowercase())),
            Function::Upper => Ok(Value::text(self.text(0)?.to_uppercase())),
            Function::Pad => self.pad(),
            Function::Truncate => self.truncate(),
        }
    }

    fn check_arity(&self) -> Result<(), Fault> {
        let (least, most) = self.function.arity();
        let given = self.arguments.len();
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let wanted = match most {
            usize::MAX => format!("at least {least}"),
            _ if least == most => least.to_string(),
            _ => format!("{least} to {most}"),
        };
        Err(self.fault(&format!("wants {wanted} arguments, not {given}")))
    }

    fn argument(&self, index: usize) -> &Value<'v> {
        self.arguments.get(index).unwrap_or(&Value::Missing)
    }

    fn text(&self, index: usize) -> Result<&str, Fault> {
        match self.argument(index) {
            Value::Str(text) => Ok(text.as_str()),
            other => Err(self.fault(&format!("wants a string, not {}", other.kind()))),
        }
    }

    fn int(&self, index: usize) -> Result<i64, Fault> {
        match self.argument(index) {
            Value::Int(number) => Ok(*number),
            other => Err(self.fault(&format!("wants a whole number, not {}", other.kind()))),
        }
    }

    fn fault(&self, why: &str) -> Fault {
        Fault::new(self.at, format!("`{}` {why}", self.function.name()))
    }

    fn equal(&self, index: usize) -> Result<bool, Fault> {
        equal(self.argument(0), self.argument(index)).map_err(|why| self.fault(&why))
    }

    fn is_equal_to_any(&self) -> Result<Value<'v>, Fault> {
        for index in 1..self.arguments.len() {
            if self.equal(index)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn ordered(&self, wanted: &[Order]) -> Result<Value<'v>, Fault> {
        let order = compare(self.argument(0), self.argument(1)).map_err(|why| self.fault(&why))?;
        Ok(Value::Bool(order.is_some_and(|order| wanted.contains(&order))))
    }

    fn length(&self) -> Result<Value<'v>, Fault> {
        Ok(Value::length(match self.argument(0) {
            Value::Str(text) => text.as_str().len(),
            Value::List(list) => list.len(),
            Value::Map(object) => object.entries.len(),
            // JSON's `null` is what an empty Go list or map became.
            Value::Nil | Value::Missing => 0,
            other => return Err(self.fault(&format!("of {} has no meaning", other.kind()))),
        }))
    }

    fn index(&self) -> Result<Value<'v>, Fault> {
        let mut value = self.argument(0).clone();
        for place in 1..self.arguments.len() {
            value = match (&value, self.argument(place)) {
                (Value::Map(object), Value::Str(key)) => {
                    let found = object.entries.get(key.as_str()).map(Value::borrowed);
                    // A map of texts, as labels are, gives an empty one for a key that it lacks.
                    let lacking = || if object.is_free { Value::text("") } else { Value::Missing };
                    found.unwrap_or_else(lacking)
                }
                (Value::Nil, Value::Str(_)) => Value::text(""),
                (Value::Map(_), other) => {
                    return Err(self.fault(&format!("wants a string as key, not {}", other.kind())));
                }
                (Value::List(list), _) => {
                    let index = self.place(place, list.len().saturating_sub(1), list.len())?;
                    list.at(index).unwrap_or(Value::Missing)
                }
                (Value::Str(text), _) => {
                    let bytes = text.as_str().as_bytes();
                    let index = self.place(place, bytes.len().saturating_sub(1), bytes.len())?;
                    bytes.get(index).map_or(Value::Missing, |byte| Value::Int(i64::from(*byte)))
                }
                (Value::Nil | Value::Missing, _) => Value::Missing,
                (other, _) => {
                    return Err(self.fault(&format!("cannot look into {}", other.kind())));
                }
            };
        }
        Ok(value)
    }

    /// Reads an argument as a place in something with `length` places, of which `last` is the last
    /// that is allowed.
    fn place(&self, index: usize, last: usize, length: usize) -> Result<usize, Fault> {
        let number = self.int(index)?;
        usize::try_from(number)
            .ok()
            .filter(|place| *place <= last && (length > 0 || *place < length + 1))
            .filter(|place| *place < length || last == length)
            .ok_or_else(|| self.fault(&format!("{number} is out of range, there are {length}")))
    }

    fn slice(&self) -> Result<Value<'v>, Fault> {
        let length = match self.argument(0) {
            Value::Str(_) if self.arguments.len() == 4 => {
                return Err(self.fault("takes no third place of a string"));
            }
            Value::Str(text) => text.as_str().len(),
            Value::List(list) => list.len(),
            Value::Nil | Value::Missing => 0,
            other => return Err(self.fault(&format!("cannot cut {}", other.kind()))),
        };
        let mut places = [0, length, length];
        for index in 1..self.arguments.len() {
            let place = self.place(index, length, length)?;
            if let Some(slot) = places.get_mut(index - 1) {
                *slot = place;
            }
        }
        let [start, end, most] = places;
        if start > end || end > most {
            return Err(self.fault(&format!("cannot cut from {start} to {end}")));
        }
        match self.argument(0) {
            Value::Str(text) => text
                .as_str()
                .get(start..end)
                .map(Value::text)
                .ok_or_else(|| self.fault("would cut a character apart")),
            Value::List(list) => Ok(list.range(start, end).map_or(Value::Missing, Value::List)),
            _ => Ok(Value::Missing),
        }
    }

    fn escaped(&self, escape: fn(char, &mut String)) -> Result<Value<'v>, Fault> {
        let mut escaped = String::new();
        for char in print_spaced(self.arguments).chars() {
            escape(char, &mut escaped);
        }
        Ok(Value::text(escaped))
    }

    fn split(&self) -> Result<Value<'v>, Fault> {
        let (text, separator) = (self.text(0)?, self.text(1)?);
        // An empty separator splits into characters, without the empty ends that Rust adds.
        let pieces: Vec<Value<'v>> = if separator.is_empty() {
            text.chars().map(|char| Value::text(char.to_string())).collect()
        } else {
            text.split(separator).map(Value::text).collect()
        };
        Ok(Value::List(List::Made(pieces.into())))
    }

    fn join(&self) -> Result<Value<'v>, Fault> {
        let separator = self.text(1)?;
        let items = match self.argument(0) {
            Value::List(list) => list.clone(),
            Value::Nil | Value::Missing => List::Borrowed(&[]),
            other => return Err(self.fault(&format!("wants a list, not {}", other.kind()))),
        };
        let mut joined = String::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                joined.push_str(separator);
            }
            joined.push_str(&to_display(&item));
            if joined.len() > self.room {
                return Err(too_much(self.at));
            }
        }
        Ok(Value::text(joined))
    }

    fn pad(&self) -> Result<Value<'v>, Fault> {
        let (text, before, after) = (self.text(0)?, self.int(1)?, self.int(2)?);
        if text.is_empty() {
            return Ok(Value::text(""));
        }
        let spaces = |count: i64| {
            let count = usize::try_from(count).ok().filter(|_| count <= PAD_MAX);
            count
                .map(|count| " ".repeat(count))
                .ok_or_else(|| self.fault(&format!("wants 0 to {PAD_MAX} spaces")))
        };
        Ok(Value::text(format!("{}{text}{}", spaces(before)?, spaces(after)?)))
    }

    /// Cuts to so many bytes, as Docker does, but never a character apart.
    fn truncate(&self) -> Result<Value<'v>, Fault> {
        let (text, length) = (self.text(0)?, self.int(1)?);
        let length = usize::try_from(length).map_err(|_| self.fault("wants a length from 0"))?;
        let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
        let kept = ends.take_while(|end| *end <= length).last().unwrap_or(0);
        Ok(Value::text(text.get(..kept).unwrap_or(text)))
    }
}

fn json(value: &Value<'_>) -> String {
    // Go escapes these two, which JavaScript once took for line ends.
    value.to_json().to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Makes each word's first letter large.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut before = ' ';
    for char in text.chars() {
        if is_separator(before) {
            titled.extend(char.to_uppercase());
        } else {
            titled.push(char);
        }
        before = char;
    }
    titled
}

fn is_separator(char: char) -> bool {
    if char.is_ascii() {
        return !(char.is_ascii_alphanumeric() || char == '_');
    }
    !char.is_alphanumeric() && char.is_whitespace()
}

fn html(char: char, out: &mut String) {
    match char {
        '\0' => out.push('\u{fffd}'),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(char),
    }
}

fn js(char: char, out: &mut String) {
    match char {
        '\\' | '\'' | '"' => out.extend(['\\', char]),
        '<' => out.push_str("\\u003C"),
        '>' => out.push_str("\\u003E"),
        '&' => out.push_str("\\u0026"),
        '=' => out.push_str("\\u003D"),
        _ if char < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(char))),
        _ => out.push(char),
    }
}

fn urlquery(char: char, out: &mut String) {
    match char {
        ' ' => out.push('+'),
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~' => out.push(char),
        _ => {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}
