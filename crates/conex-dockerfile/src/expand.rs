//! Variable expansion: `$NAME`, `${NAME}` and every modifier, quotes and escapes.
//!
//! What it promises: text without `$`, quotes, escapes and blanks comes out as it went in;
//! everything that an expansion read is reported by name, set or not, so that a linter can warn and
//! a cache can explain; no input makes it recurse or grow without bound.
//!
//! What it does not do: know where values come from. A [`Lookup`] is any function from a name to a
//! value. All words of one instruction must be expanded with the variables as they were before it
//! (`ENV a=1 b=$a` sees the old `a`); that is the caller's duty.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind};
use crate::limits::{EXPANSION_DEPTH_MAX, EXPANSION_SIZE_MAX};
use crate::pattern::Pattern;

/// Gives variables their values; `None` is unset, which is not the same as empty.
pub type Lookup<'v> = dyn Fn(&str) -> Option<String> + 'v;

/// Expands words with one set of variables.
#[derive(Clone, Copy)]
pub struct Expander<'v> {
    escape: char,
    lookup: &'v Lookup<'v>,
    raw: Raw,
    unset: Unset,
    quotes: Quotes,
}

/// What of the notation stays in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Raw {
    Nothing,
    Quotes,
    QuotesAndEscapes,
}

/// What an unset variable becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unset {
    Empty,
    Kept,
}

/// Whether quotes are notation or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Notation,
    Text,
}

/// The result of expanding to one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The variables read that were set.
    pub used: BTreeSet<String>,
    /// The variables read that were not.
    pub unset: BTreeSet<String>,
}

/// The result of expanding to several words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedWords {
    /// The words; none is empty.
    pub words: Vec<String>,
    /// The variables read that were set.
    pub used: BTreeSet<String>,
    /// The variables read that were not.
    pub unset: BTreeSet<String>,
}

impl<'v> Expander<'v> {
    /// Makes an expander. `escape` is the file's escape character ([`crate::Dockerfile::escape`]).
    pub fn new(escape: char, lookup: &'v Lookup<'v>) -> Self {
        Self { escape, lookup, raw: Raw::Nothing, unset: Unset::Empty, quotes: Quotes::Notation }
    }

    /// The same expander for texts that people read (progress, history of RUN): quotes stay, and
    /// what is unset stays as written.
    #[must_use]
    pub fn for_display(self) -> Self {
        Self { raw: Raw::Quotes, unset: Unset::Kept, ..self }
    }

    /// An expander that finds no variable and leaves them all as written.
    pub(crate) fn keeping_variables(escape: char, raw: Raw) -> Expander<'static> {
        Expander { escape, lookup: &nothing, raw, unset: Unset::Kept, quotes: Quotes::Notation }
    }

    /// Expands to one text: quotes removed, blanks kept.
    pub fn expand_word(&self, text: &str) -> Result<Expanded, Error> {
        let mut scan = Scan::new(self, text);
        let text = scan.until(None, None)?;
        Ok(Expanded { text, used: scan.used, unset: scan.not_set })
    }

    /// Expands and cuts at blanks, also those that come out of variables, except within quotes.
    pub fn expand_words(&self, text: &str) -> Result<ExpandedWords, Error> {
        let mut scan = Scan::new(self, text);
        let mut words = Words::default();
        scan.until(None, Some(&mut words))?;
        Ok(ExpandedWords { words: words.finish(), used: scan.used, unset: scan.not_set })
    }

    /// Expands the body of an unquoted heredoc: quotes are text, and the escape character is `\`
    /// whatever the file says.
    pub fn expand_heredoc(&self, text: &str) -> Result<Expanded, Error> {
        Self { escape: '\\', quotes: Quotes::Text, ..*self }.expand_word(text)
    }
}

fn nothing(_: &str) -> Option<String> {
    None
}

/// Collects words while their text is being made.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// Text in which blanks separate words.
    fn split(&mut self, text: &str) {
        for character in text.chars() {
            if character.is_whitespace() {
                self.end_word();
            } else {
                self.word.push(character);
            }
        }
    }

    /// Text that was quoted: blanks in it are part of the word.
    fn join(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end_word();
        self.done
    }
}

/// One pass over one text.
struct Scan<'a, 'v> {
    options: &'a Expander<'v>,
    rest: &'a str,
    raw_escapes: bool,
    depth: usize,
    used: BTreeSet<String>,
    not_set: BTreeSet<String>,
}

impl<'a, 'v> Scan<'a, 'v> {
    fn new(options: &'a Expander<'v>, text: &'a str) -> Self {
        Self {
            options,
            rest: text,
            raw_escapes: options.raw == Raw::QuotesAndEscapes,
            depth: 0,
            used: BTreeSet::new(),
            not_set: BTreeSet::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    /// Reads up to the end, or up to and including `stop`.
    fn until(
        &mut self,
        stop: Option<char>,
        mut words: Option<&mut Words>,
    ) -> Result<String, Error> {
        let quotes = self.options.quotes == Quotes::Notation;
        let mut result = String::new();
        while let Some(character) = self.peek() {
            if stop == Some(character) {
                self.next();
                return Ok(result);
            }
            let start = result.len();
            let mut splits = false;
            match character {
                '$' => {
                    splits = true;
                    self.variable(&mut result)?;
                }
                '<' => self.angle_brackets(&mut result),
                '\'' if quotes => self.single_quoted(&mut result)?,
                '"' if quotes => self.double_quoted(&mut result)?,
                _ if character == self.options.escape => self.escaped(&mut result),
                _ => {
                    splits = true;
                    result.push(character);
                    self.next();
                }
            }
            if let Some(words) = words.as_deref_mut() {
                let added = result.get(start..).unwrap_or("");
                if splits { words.split(added) } else { words.join(added) }
            }
        }
        match stop {
            None => Ok(result),
            Some('}') => Err(Error::syntax("`${` is not closed by `}`")),
            Some(_) => Err(Error::syntax("pattern in `${…/…/…}` is not closed by `/`")),
        }
    }

    /// `\x` is `x`; at the very end it is nothing.
    fn escaped(&mut self, result: &mut String) {
        let escape = self.next();
        if self.raw_escapes {
            result.extend(escape);
        }
        result.extend(self.next());
    }

    /// Keeps `<<` and the blanks behind it in one word, so that `<< EOF` is one.
    fn angle_brackets(&mut self, result: &mut String) {
        result.extend(self.next());
        if self.take_if('<') {
            result.push('<');
            while let Some(blank @ ('\t' | '\r' | ' ')) = self.peek() {
                result.push(blank);
                self.next();
            }
        }
    }

    fn single_quoted(&mut self, result: &mut String) -> Result<(), Error> {
        self.next();
        let Some(length) = self.rest.find('\'') else {
            return Err(Error::syntax("quote `'` is not closed"));
        };
        let (text, behind) = self.rest.split_at(length);
        let raw = self.options.raw != Raw::Nothing;
        if raw {
            result.push('\'');
        }
        result.push_str(text);
        if raw {
            result.push('\'');
        }
        self.rest = behind;
        self.next();
        Ok(())
    }

    fn double_quoted(&mut self, result: &mut String) -> Result<(), Error> {
        self.next();
        let raw = self.options.raw != Raw::Nothing;
        if raw {
            result.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(Error::syntax("quote `\"` is not closed")),
                Some('"') => {
                    self.next();
                    if raw {
                        result.push('"');
                    }
                    return Ok(());
                }
                Some('$') => self.variable(result)?,
                Some(character) if character == self.options.escape => {
                    self.next();
                    self.escaped_in_quotes(character, result);
                }
                Some(character) => {
                    self.next();
                    result.push(character);
                }
            }
        }
    }

    /// Within double quotes only the quote, `$` and the escape character can be escaped; before
    /// anything else the escape character is text.
    fn escaped_in_quotes(&mut self, escape: char, result: &mut String) {
        if self.raw_escapes {
            result.push(escape);
        }
        match self.peek() {
            None => {}
            Some(character) if matches!(character, '"' | '$') || character == escape => {
                self.next();
                result.push(character);
            }
            Some(_) => result.push(escape),
        }
    }

    fn variable(&mut self, result: &mut String) -> Result<(), Error> {
        self.next();
        if self.take_if('{') {
            self.depth += 1;
            if self.depth > EXPANSION_DEPTH_MAX {
                return Err(Error::limit(format!(
                    "variables are nested more than {EXPANSION_DEPTH_MAX} deep"
                )));
            }
            let value = self.braced()?;
            self.depth -= 1;
            return append(result, &value);
        }
        let name = self.name();
        if name.is_empty() {
            result.push('$');
            return Ok(());
        }
        match self.value(&name) {
            Some(value) => append(result, &value),
            None if self.options.unset == Unset::Kept => append(result, &format!("${name}")),
            None => Ok(()),
        }
    }

    /// What stands behind `${`.
    fn braced(&mut self) -> Result<String, Error> {
        match self.peek() {
            None => return Err(Error::syntax("`${` is not closed by `}`")),
            Some('{' | '}' | ':') => return Err(Error::syntax("`${` is not followed by a name")),
            Some(_) => {}
        }
        let name = self.name();
        if name.is_empty() {
            return Err(Error::syntax("`${` is not followed by a name"));
        }
        match self.next() {
            None => Err(Error::syntax("`${` is not closed by `}`")),
            Some('}') => Ok(match self.value(&name) {
                Some(value) => value,
                None if self.options.unset == Unset::Kept => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.fallback(&name, operator, Empty::Unset),
                other => Err(unknown_modifier(&format!(":{}", text_of(other)))),
            },
            Some(operator @ ('-' | '+' | '?')) => self.fallback(&name, operator, Empty::Set),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            Some(other) => Err(unknown_modifier(&text_of(Some(other)))),
        }
    }

    /// `-`, `+`, `?`, with or without a colon.
    fn fallback(&mut self, name: &str, operator: char, empty: Empty) -> Result<String, Error> {
        let word = self.nested('}', RawEscapes::Read)?;
        let value = self.value(name);
        if value.is_none() && self.options.unset == Unset::Kept {
            let colon = if empty == Empty::Unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let unset = value.is_none();
        let value = value.filter(|value| empty == Empty::Set || !value.is_empty());
        match (operator, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) => {
                let state = if unset { "unset" } else { "empty" };
                let reason = if word.is_empty() { format!("must not be {state}") } else { word };
                Err(Error::new(ErrorKind::Unset, format!("variable `{name}`: {reason}")))
            }
        }
    }

    /// `#`, `##`, `%`, `%%`: the value without what the pattern matches at one end.
    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, Error> {
        let word = self.nested('}', RawEscapes::Kept)?;
        let value = self.value(name);
        if value.is_none() && self.options.unset == Unset::Kept {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        let value = value.unwrap_or_default();
        let (pattern, longest) = match word.strip_prefix(operator) {
            Some(pattern) => (pattern, true),
            None => (word.as_str(), false),
        };
        let pattern = Pattern::new(pattern)?;
        Ok(match operator {
            '#' => pattern.without_prefix(&value, longest).to_owned(),
            _ => pattern.without_suffix(&value, longest).to_owned(),
        })
    }

    /// `/pattern/replacement` (the first match) and `//pattern/replacement` (every match).
    fn replaced(&mut self, name: &str) -> Result<String, Error> {
        let every = self.take_if('/');
        let pattern = self.nested('/', RawEscapes::Kept)?;
        let replacement = self.nested('}', RawEscapes::Kept)?;
        let value = self.value(name);
        if value.is_none() && self.options.unset == Unset::Kept {
            let slash = if every { "//" } else { "/" };
            return Ok(format!("${{{name}{slash}{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        Pattern::new(&pattern)?.replace(&value, &replacement, every)
    }

    fn nested(&mut self, stop: char, escapes: RawEscapes) -> Result<String, Error> {
        let outer = self.raw_escapes;
        self.raw_escapes = escapes == RawEscapes::Kept;
        let word = self.until(Some(stop), None);
        self.raw_escapes = outer;
        word
    }

    /// A name: letters, digits and `_`; or digits alone (`$12`); or one special character (`$@`).
    fn name(&mut self) -> String {
        let first = self.peek();
        if first.is_some_and(|c| matches!(c, '@' | '*' | '#' | '?' | '-' | '$' | '!')) {
            return text_of(self.next());
        }
        let digits = first.is_some_and(|c| c.is_ascii_digit());
        let length = self
            .rest
            .find(
                |c: char| {
                    if digits { !c.is_ascii_digit() } else { !c.is_alphanumeric() && c != '_' }
                },
            )
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name.to_owned()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.options.lookup)(name);
        let set = if value.is_some() { &mut self.used } else { &mut self.not_set };
        set.insert(name.to_owned());
        value
    }
}

/// Whether an empty value counts as set: without a colon it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Set,
    Unset,
}

/// Patterns keep their escapes, to be read by the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RawEscapes {
    Kept,
    Read,
}

fn text_of(character: Option<char>) -> String {
    character.map(String::from).unwrap_or_default()
}

fn append(result: &mut String, text: &str) -> Result<(), Error> {
    if result.len() + text.len() > EXPANSION_SIZE_MAX {
        return Err(too_large());
    }
    result.push_str(text);
    Ok(())
}

pub(crate) fn too_large() -> Error {
    Error::limit(format!("expansion is larger than {EXPANSION_SIZE_MAX} bytes"))
}

fn unknown_modifier(modifier: &str) -> Error {
    Error::syntax(format!("`${{…}}` has no modifier `{modifier}`")).with_hint(Some(
        "the modifiers are `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`".to_owned(),
    ))
}
