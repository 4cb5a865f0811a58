//! Lists, pipelines and simple commands.
//!
//! A mistake ends the parse: [`Parser::fail`] keeps the first one and moves to the end of the text,
//! so that every loop ends by itself.

use crate::DEPTH_MAX;
use crate::ast::{
    AndOr, Assignment, Command, CommandKind, Connector, Error, Heredoc, Item, List, Pipe, Pipeline,
    Redirect, Script, Simple, Span, Terminator, Word,
};

/// Reads a script.
pub fn parse(text: &str) -> Script {
    let mut parser = Parser::new(text);
    let body = parser.list();
    if !parser.is_at_end() {
        let at = parser.at;
        let word = parser.peek_plain_word();
        let shown = if word.is_empty() { parser.rest().get(..1).unwrap_or("") } else { word };
        let end = at + shown.len();
        let message = format!("unexpected `{shown}`");
        parser.fail(Span::new(at, end), message);
    }
    parser.take_heredoc_bodies();
    if let Some(index) = parser.pending.first().copied()
        && let Some(heredoc) = parser.heredocs.get(index)
    {
        let message = format!("heredoc `{}` has no body", heredoc.delimiter);
        parser.fail(Span::new(text.len(), text.len()), message);
    }
    let Parser { heredocs, comments, error, .. } = parser;
    Script { body, heredocs, comments, error }
}

/// The place in the text, and what has been found besides commands.
pub(crate) struct Parser<'t> {
    pub(crate) text: &'t str,
    pub(crate) at: usize,
    /// Where this parse ends: the end of the text, or of a backquoted piece.
    pub(crate) end: usize,
    pub(crate) depth: usize,
    pub(crate) heredocs: Vec<Heredoc>,
    /// Heredocs whose bodies begin behind the next line end.
    pub(crate) pending: Vec<usize>,
    pub(crate) comments: Vec<Span>,
    pub(crate) error: Option<Error>,
    /// How often a text was read in another way.
    retries: usize,
}

/// Most texts read a second time, in another way. Nested ones would be read twice on each level,
/// and so for ever; nobody writes more than a few.
const RETRY_COUNT_MAX: usize = 100;

/// A state to go back to.
pub(crate) struct Mark {
    end: usize,
    comments: usize,
    heredocs: usize,
    pending: Vec<usize>,
    error: Option<Error>,
}

/// Words that mean something where a command may begin.
const RESERVED: [&str; 16] = [
    "!", "{", "}", "if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done",
    "case", "esac", "time",
];

/// Reserved words that end a list.
const CLOSING: [&str; 8] = ["}", "then", "elif", "else", "fi", "do", "done", "esac"];

/// Builtins whose arguments may be assignments of arrays.
const DECLARING: [&str; 5] = ["declare", "typeset", "local", "export", "readonly"];

impl<'t> Parser<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            end: text.len(),
            depth: 0,
            heredocs: Vec::new(),
            pending: Vec::new(),
            comments: Vec::new(),
            error: None,
            retries: 0,
        }
    }

    /// Keeps the first mistake, and ends the parse.
    pub(crate) fn fail(&mut self, span: Span, message: impl Into<String>) {
        if self.error.is_none() {
            self.error = Some(Error { span, message: message.into() });
        }
        self.end = self.end.max(self.at);
        self.at = self.end;
        self.pending.clear();
    }

    /// Remembers everything but the place, to read a text in another way if this one fails.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            end: self.end,
            comments: self.comments.len(),
            heredocs: self.heredocs.len(),
            pending: self.pending.clone(),
            error: self.error.clone(),
        }
    }

    /// Forgets what was found since; the caller sets the place.
    pub(crate) fn go_back(&mut self, mark: Mark) {
        self.retries += 1;
        if self.retries > RETRY_COUNT_MAX {
            let here = Span::new(self.at, self.at);
            self.fail(here, "`((` cannot be told from a subshell in a subshell");
            return;
        }
        self.end = mark.end;
        self.comments.truncate(mark.comments);
        self.heredocs.truncate(mark.heredocs);
        self.pending = mark.pending;
        self.error = mark.error;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Runs a nested parse, unless it is nested too deep.
    pub(crate) fn nested<T: Default>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> T {
        if self.depth >= DEPTH_MAX {
            let here = Span::new(self.at, self.at);
            self.fail(here, format!("commands are nested deeper than {DEPTH_MAX}"));
            return T::default();
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..self.end).unwrap_or("")
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    pub(crate) fn byte(&self) -> Option<u8> {
        self.byte_at(0)
    }

    /// The byte some places on.
    pub(crate) fn byte_at(&self, offset: usize) -> Option<u8> {
        let at = self.at + offset;
        if at >= self.end { None } else { self.text.as_bytes().get(at).copied() }
    }

    pub(crate) fn starts_with(&self, prefix: &str) -> bool {
        self.rest().starts_with(prefix)
    }

    /// Steps over a text if it stands here.
    pub(crate) fn take(&mut self, text: &str) -> Option<Span> {
        if !self.starts_with(text) {
            return None;
        }
        let span = Span::new(self.at, self.at + text.len());
        self.at = span.end;
        Some(span)
    }

    /// Steps over one character, whatever it is.
    pub(crate) fn bump(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    /// Steps over blanks, continued lines and a comment.
    pub(crate) fn skip_blanks(&mut self) {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'\\') if self.byte_at(1) == Some(b'\n') => self.at += 2,
                Some(b'\\') if self.starts_with("\\\r\n") => self.at += 3,
                Some(b'#') if self.is_word_start() => {
                    let length = self.rest().find('\n').unwrap_or(self.rest().len());
                    self.comments.push(Span::new(self.at, self.at + length));
                    self.at += length;
                }
                _ => return,
            }
        }
    }

    /// Whether a word may begin here, so that `#` begins a comment.
    fn is_word_start(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.text.as_bytes().get(at));
        before.is_none_or(|byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'`')
        })
    }

    /// Steps over blanks, line ends and comments.
    pub(crate) fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            if self.byte() != Some(b'\n') {
                return;
            }
            self.take_line_end();
        }
    }

    fn take_line_end(&mut self) {
        self.at += 1;
        self.take_heredoc_bodies();
    }

    /// The unquoted word that stands here, if it is made of nothing but plain characters.
    pub(crate) fn peek_plain_word(&self) -> &'t str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| {
                c.is_ascii_whitespace()
                    || matches!(
                        c,
                        ';' | '&' | '|' | '(' | ')' | '<' | '>' | '\'' | '"' | '`' | '$' | '\\'
                    )
            })
            .unwrap_or(rest.len());
        let followed = rest.as_bytes().get(end);
        if followed.is_some_and(|byte| matches!(byte, b'\'' | b'"' | b'`' | b'$' | b'\\'))
            && !rest.get(end..).unwrap_or("").starts_with("\\\n")
        {
            return "";
        }
        rest.get(..end).unwrap_or("")
    }

    /// The reserved word that stands here.
    pub(crate) fn reserved(&self) -> Option<&'t str> {
        let word = self.peek_plain_word();
        RESERVED.contains(&word).then_some(word)
    }

    /// Steps over a reserved word that must stand here.
    pub(crate) fn expect_word(&mut self, word: &str, of: &str) {
        self.skip_lines();
        if self.peek_plain_word() == word {
            self.at += word.len();
        } else if !self.has_failed() {
            self.fail(Span::new(self.at, self.at), format!("`{of}` without `{word}`"));
        }
    }

    /// Commands up to the end, a closing word, `)` or `;;`.
    pub(crate) fn list(&mut self) -> List {
        self.nested(Self::list_inner)
    }

    fn list_inner(&mut self) -> List {
        let mut list = List::default();
        self.skip_lines();
        list.span = Span::new(self.at, self.at);
        while !self.is_list_end() {
            let Some(and_or) = self.and_or() else { break };
            list.span.end = and_or.span().end;
            self.skip_blanks();
            let at = self.at;
            let terminator = match self.byte() {
                Some(b';') if !self.starts_with(";;") && !self.starts_with(";&") => {
                    self.at += 1;
                    Some(Terminator::Semicolon)
                }
                Some(b'&') if !self.starts_with("&&") => {
                    self.at += 1;
                    Some(Terminator::Background)
                }
                Some(b'\n') => {
                    self.take_line_end();
                    Some(Terminator::Newline)
                }
                _ => None,
            };
            let is_last = terminator.is_none();
            let terminator = terminator.map(|kind| (kind, Span::new(at, at + 1)));
            list.items.push(Item { and_or, terminator });
            if is_last {
                break;
            }
            self.skip_lines();
        }
        list
    }

    fn is_list_end(&self) -> bool {
        if self.is_at_end() || self.byte() == Some(b')') {
            return true;
        }
        if self.starts_with(";;") || self.starts_with(";&") {
            return true;
        }
        self.reserved().is_some_and(|word| CLOSING.contains(&word))
    }

    fn and_or(&mut self) -> Option<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.skip_blanks();
            let (connector, operator) = if let Some(span) = self.take("&&") {
                (Connector::And, span)
            } else if let Some(span) = self.take("||") {
                (Connector::Or, span)
            } else {
                return Some(AndOr { first, rest });
            };
            self.skip_lines();
            match self.pipeline() {
                Some(pipeline) => rest.push((connector, operator, pipeline)),
                None => {
                    let shown = operator.of(self.text).to_owned();
                    self.fail(operator, format!("no command stands behind `{shown}`"));
                    return Some(AndOr { first, rest });
                }
            }
        }
    }

    fn pipeline(&mut self) -> Option<Pipeline> {
        self.skip_blanks();
        let start = self.at;
        let (mut bang, mut time) = (None, None);
        loop {
            match self.reserved() {
                Some("!") => bang = self.take("!"),
                Some("time") if time.is_none() && bang.is_none() => time = self.take("time"),
                _ => break,
            }
            self.skip_blanks();
        }
        let mut commands = Vec::new();
        let mut pipes = Vec::new();
        loop {
            let before = self.at;
            match self.command() {
                Some(command) => commands.push(command),
                None if commands.is_empty() && (bang.is_some() || time.is_some()) => break,
                None if commands.is_empty() => {
                    self.unexpected();
                    return None;
                }
                None => {
                    self.fail(Span::new(before, before), "no command stands behind `|`");
                    break;
                }
            }
            self.skip_blanks();
            if self.starts_with("||") {
                break;
            }
            let pipe = if let Some(span) = self.take("|&") {
                (Pipe::OutputAndError, span)
            } else if let Some(span) = self.take("|") {
                (Pipe::Output, span)
            } else {
                break;
            };
            pipes.push(pipe);
            self.skip_lines();
        }
        let end = commands.last().map_or(self.at, |last: &Command| last.span.end);
        Some(Pipeline { bang, time, commands, pipes, span: Span::new(start, end) })
    }

    /// Says that no command can begin here.
    fn unexpected(&mut self) {
        if self.has_failed() || self.is_at_end() {
            return;
        }
        let shown: String = self.rest().chars().take(1).collect();
        let shown = if shown == "\n" { "line end".to_owned() } else { format!("`{shown}`") };
        self.fail(Span::new(self.at, self.at + 1), format!("unexpected {shown}"));
    }

    /// One command; `None` if none begins here.
    pub(crate) fn command(&mut self) -> Option<Command> {
        self.skip_blanks();
        let start = self.at;
        let kind = match self.compound() {
            Some(kind) => kind,
            None => return self.simple(),
        };
        let mut redirects = Vec::new();
        loop {
            let before = self.at;
            self.skip_blanks();
            match self.redirect() {
                Some(redirect) => redirects.push(redirect),
                None => {
                    self.at = if self.has_failed() { self.at } else { before };
                    break;
                }
            }
        }
        let end = redirects.last().map_or(self.at, |last: &Redirect| last.span.end);
        Some(Command { kind, redirects, span: Span::new(start, end) })
    }

    fn simple(&mut self) -> Option<Command> {
        let start = self.at;
        let mut simple = Simple::default();
        let mut redirects = Vec::new();
        let mut end = start;
        loop {
            self.skip_blanks();
            if let Some(redirect) = self.redirect() {
                end = redirect.span.end;
                redirects.push(redirect);
                continue;
            }
            match self.byte() {
                None | Some(b'\n' | b';' | b'&' | b'|' | b')') => break,
                Some(b'(') => match self.function_body(&simple, start) {
                    Some(function) => return Some(function),
                    None => {
                        self.fail(Span::new(self.at, self.at + 1), "unexpected `(`");
                        break;
                    }
                },
                Some(_) => {}
            }
            if simple.words.is_empty()
                && let Some(assignment) = self.assignment()
            {
                end = assignment.span.end;
                simple.assignments.push(assignment);
                continue;
            }
            let declares = simple
                .words
                .first()
                .is_some_and(|word| DECLARING.contains(&word.span.of(self.text)));
            if declares && let Some(word) = self.array_argument() {
                end = word.span.end;
                simple.words.push(word);
                continue;
            }
            let word = self.word();
            if word.parts.is_empty() {
                break;
            }
            end = word.span.end;
            simple.words.push(word);
        }
        let is_nothing =
            simple.words.is_empty() && simple.assignments.is_empty() && redirects.is_empty();
        if is_nothing {
            return None;
        }
        let span = Span::new(start, end);
        Some(Command { kind: CommandKind::Simple(simple), redirects, span })
    }

    /// `NAME() COMMAND`, the name being read already.
    fn function_body(&mut self, simple: &Simple, start: usize) -> Option<Command> {
        let [name] = simple.words.as_slice() else { return None };
        if !simple.assignments.is_empty() || !self.starts_with("(") {
            return None;
        }
        let close = self.rest().get(1..)?.find(|c: char| c != ' ' && c != '\t')? + 1;
        if self.byte_at(close) != Some(b')') {
            return None;
        }
        self.at += close + 1;
        self.function(name.span, start, false)
    }

    /// `NAME=value`, `NAME+=value`, `NAME[i]=value`, `NAME=(…)`.
    pub(crate) fn assignment(&mut self) -> Option<Assignment> {
        let rest = self.rest();
        let length = name_length(rest);
        if length == 0 {
            return None;
        }
        let start = self.at;
        let mut after = length;
        if rest.as_bytes().get(after) == Some(&b'[') {
            after += rest.get(after..)?.find(']')? + 1;
        }
        let append = rest.get(after..)?.starts_with("+=");
        after += usize::from(append);
        if rest.as_bytes().get(after) != Some(&b'=') {
            return None;
        }
        self.at += after + 1;
        let name = Span::new(start, start + length);
        if self.byte() == Some(b'(') {
            let open = self.at;
            let elements = self.array();
            let value = Word { parts: Vec::new(), span: Span::new(open, self.at) };
            let span = Span::new(start, self.at);
            return Some(Assignment { name, append, value, array: Some(elements), span });
        }
        let value = self.word();
        let span = Span::new(start, value.span.end.max(start + after + 1));
        Some(Assignment { name, append, value, array: None, span })
    }

    /// `NAME=(…)` behind `declare`: one word as far as the command is concerned.
    fn array_argument(&mut self) -> Option<Word> {
        let rest = self.rest();
        let length = name_length(rest);
        if length == 0 || !rest.get(length..)?.starts_with("=(") {
            return None;
        }
        let start = self.at;
        self.at += length + 1;
        self.array();
        let span = Span::new(start, self.at);
        let part = crate::ast::Part { kind: crate::ast::PartKind::ExtendedGlob, span };
        Some(Word { parts: vec![part], span })
    }

    /// `( WORD… )`
    fn array(&mut self) -> Vec<Word> {
        let open = self.at;
        self.at += 1;
        let mut words = Vec::new();
        loop {
            self.skip_lines();
            if self.take(")").is_some() || self.has_failed() {
                return words;
            }
            let word = self.word();
            if word.parts.is_empty() {
                self.fail(Span::new(open, open + 1), "array without `)`");
                return words;
            }
            words.push(word);
        }
    }
}

/// How long the name at the start of a text is; 0 if none stands there.
pub(crate) fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
        return 0;
    }
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}
