//! Words: literals, quotes, parameters, substitutions, arithmetic.

use crate::ast::{Parameter, Part, PartKind, Span, Word};
use crate::parser::{Parser, name_length};

/// Whether a byte ends an unquoted word.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
}

impl Parser<'_> {
    /// The word that begins here; without parts if none does.
    pub(crate) fn word(&mut self) -> Word {
        let start = self.at;
        let parts = self.nested(|parser| parser.parts_while(|byte, _| !ends_word(byte)));
        Word { parts, span: Span::new(start, self.at.max(start)) }
    }

    /// The pattern behind `=~`, in which `(`, `|` and `<` mean what they do in a pattern.
    pub(crate) fn regex_word(&mut self) -> Word {
        let start = self.at;
        let mut depth = 0_usize;
        let parts = self.nested(|parser| {
            parser.parts_while(|byte, _| {
                match byte {
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    b' ' | b'\t' | b'\n' if depth == 0 => return false,
                    _ => {}
                }
                true
            })
        });
        Word { parts, span: Span::new(start, self.at.max(start)) }
    }

    /// Parts of an unquoted text, as long as `goes_on` says so of the bytes outside of quotes and
    /// expansions.
    fn parts_while(&mut self, mut goes_on: impl FnMut(u8, &Self) -> bool) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut literal = self.at;
        while let Some(byte) = self.byte() {
            if matches!(byte, b'<' | b'>') && self.byte_at(1) == Some(b'(') && literal == self.at {
                let start = self.at;
                self.at += 1;
                let body = self.parenthesized();
                self.push(&mut parts, start, PartKind::Process(body));
                literal = self.at;
                continue;
            }
            if byte == b'\\' && matches!(self.byte_at(1), Some(b'\n')) {
                // Continued on the next line: nothing of it belongs to the word.
                self.push_literal(&mut parts, literal);
                self.at += 2;
                literal = self.at;
                continue;
            }
            let before = self.at;
            if let Some(kind) = self.unquoted_part() {
                let after = self.at;
                self.at = before;
                self.push_literal(&mut parts, literal);
                self.at = after;
                self.push(&mut parts, before, kind);
                literal = self.at;
                continue;
            }
            if self.has_failed() || !goes_on(byte, self) {
                break;
            }
            self.bump();
        }
        if !self.has_failed() {
            self.push_literal(&mut parts, literal);
        }
        parts
    }

    fn push(&self, parts: &mut Vec<Part>, start: usize, kind: PartKind) {
        parts.push(Part { kind, span: Span::new(start, self.at.max(start)) });
    }

    fn push_literal(&self, parts: &mut Vec<Part>, start: usize) {
        if self.at > start {
            self.push(parts, start, PartKind::Literal);
        }
    }

    /// The quote, escape, expansion or extended pattern that begins here.
    fn unquoted_part(&mut self) -> Option<PartKind> {
        match self.byte()? {
            b'\\' => {
                self.at += 1;
                self.bump();
                Some(PartKind::Escaped)
            }
            b'\'' => Some(self.single_quoted(1, PartKind::SingleQuoted)),
            b'"' => Some(self.double_quoted(1)),
            b'$' => match self.byte_at(1) {
                Some(b'\'') => Some(self.dollar_quoted()),
                Some(b'"') => Some(self.double_quoted(2)),
                _ => self.dollar(),
            },
            b'`' => Some(self.backquoted()),
            b'?' | b'*' | b'+' | b'@' | b'!' if self.byte_at(1) == Some(b'(') => {
                self.at += 1;
                self.balanced(b'(', b')').then_some(PartKind::ExtendedGlob)
            }
            _ => None,
        }
    }

    /// Steps over a balanced pair, quotes and escapes in it; whether it is closed.
    fn balanced(&mut self, open: u8, close: u8) -> bool {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            match byte {
                b'\\' => self.at += 1,
                b'\'' => {
                    self.single_quoted(1, PartKind::SingleQuoted);
                    continue;
                }
                _ if byte == open => depth += 1,
                _ if byte == close => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return true;
                    }
                }
                _ => {}
            }
            self.bump();
        }
        if !self.has_failed() {
            let shown = char::from(open);
            self.fail(Span::new(start, start + 1), format!("`{shown}` is not closed"));
        }
        false
    }

    fn single_quoted(&mut self, length: usize, kind: PartKind) -> PartKind {
        let start = self.at;
        let body = self.rest().get(length..).unwrap_or("");
        match body.find('\'') {
            Some(end) => self.at += length + end + 1,
            None => self.fail(Span::new(start, start + length), "quote `'` is not closed"),
        }
        kind
    }

    fn dollar_quoted(&mut self) -> PartKind {
        let start = self.at;
        self.at += 2;
        loop {
            match self.byte() {
                None => {
                    self.fail(Span::new(start, start + 2), "quote `$'` is not closed");
                    break;
                }
                Some(b'\'') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.bump();
                }
                Some(_) => self.bump(),
            }
        }
        PartKind::DollarQuoted
    }

    fn double_quoted(&mut self, length: usize) -> PartKind {
        let start = self.at;
        self.at += length;
        let parts = self.nested(|parser| parser.quoted_parts(Some(b'"')));
        if self.take("\"").is_none() && !self.has_failed() {
            self.fail(Span::new(start, start + length), "quote `\"` is not closed");
        }
        PartKind::DoubleQuoted(parts)
    }

    /// Parts of a text in double quotes, or of a heredoc, up to the closing byte.
    pub(crate) fn quoted_parts(&mut self, close: Option<u8>) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut literal = self.at;
        while let Some(byte) = self.byte() {
            if Some(byte) == close || self.has_failed() {
                break;
            }
            let before = self.at;
            let kind = match byte {
                b'\\' => {
                    self.at += 1;
                    self.bump();
                    Some(PartKind::Escaped)
                }
                b'$' => self.dollar(),
                b'`' => Some(self.backquoted()),
                _ => None,
            };
            match kind {
                Some(kind) => {
                    let after = self.at;
                    self.at = before;
                    self.push_literal(&mut parts, literal);
                    self.at = after;
                    self.push(&mut parts, before, kind);
                    literal = self.at;
                }
                None if self.has_failed() => break,
                None => self.bump(),
            }
        }
        if !self.has_failed() {
            self.push_literal(&mut parts, literal);
        }
        parts
    }

    /// The expansion that a `$` begins; `None` where it is a dollar sign.
    fn dollar(&mut self) -> Option<PartKind> {
        let start = self.at;
        if self.starts_with("$((") {
            if let Some(parts) = self.arithmetic() {
                return Some(PartKind::Arithmetic(parts));
            }
            if self.has_failed() {
                return None;
            }
            self.at = start;
        }
        match self.byte_at(1)? {
            b'(' => {
                self.at += 1;
                let body = self.parenthesized();
                Some(PartKind::Command { body, backquoted: false })
            }
            b'{' => Some(self.braced()),
            b'[' => {
                self.at += 1;
                self.balanced(b'[', b']').then(|| PartKind::Arithmetic(Vec::new()))
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = name_length(self.rest().get(1..).unwrap_or(""));
                Some(self.plain_parameter(length))
            }
            byte if byte.is_ascii_digit() || b"@*#?-$!".contains(&byte) => {
                Some(self.plain_parameter(1))
            }
            _ => None,
        }
    }

    fn plain_parameter(&mut self, length: usize) -> PartKind {
        let name = Span::new(self.at + 1, self.at + 1 + length);
        self.at = name.end;
        PartKind::Parameter(Parameter {
            name,
            braced: false,
            length: false,
            indirect: false,
            subscript: None,
            operator: None,
            argument: Vec::new(),
        })
    }

    /// `( LIST )` behind `$`, `<` or `>`.
    fn parenthesized(&mut self) -> crate::ast::List {
        let open = self.at;
        self.at += 1;
        let pending = std::mem::take(&mut self.pending);
        let body = self.list();
        self.skip_lines();
        if self.take(")").is_none() && !self.has_failed() {
            self.fail(Span::new(open, open + 1), "`(` without `)`");
        }
        self.pending.splice(0..0, pending);
        body
    }

    /// `$(( … ))`; `None` if it is a substitution that begins with a subshell.
    fn arithmetic(&mut self) -> Option<Vec<Part>> {
        self.at += 3;
        let before = self.mark();
        let parts = self.nested(Self::arithmetic_parts);
        if self.take("))").is_some() {
            return Some(parts);
        }
        self.go_back(before);
        None
    }

    /// Up to the `))` that closes, or to the `)` that shows it is no arithmetic.
    pub(crate) fn arithmetic_parts(&mut self) -> Vec<Part> {
        let mut depth = 0_usize;
        self.parts_while(|byte, _| {
            match byte {
                b'(' => depth += 1,
                b')' if depth == 0 => return false,
                b')' => depth -= 1,
                _ => {}
            }
            true
        })
    }

    /// `${ … }`
    fn braced(&mut self) -> PartKind {
        let start = self.at;
        self.at += 2;
        let length = self.byte() == Some(b'#') && self.byte_at(1) != Some(b'}');
        self.at += usize::from(length);
        let indirect = self.byte() == Some(b'!') && self.byte_at(1) != Some(b'}');
        self.at += usize::from(indirect);
        let rest = self.rest();
        let mut name_size = name_length(rest);
        if name_size == 0 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let special = rest.bytes().next().is_some_and(|byte| b"@*#?-$!".contains(&byte));
            name_size = if digits > 0 { digits } else { usize::from(special) };
        }
        let name = Span::new(self.at, self.at + name_size);
        self.at = name.end;
        if name_size == 0 {
            self.fail(Span::new(start, start + 2), "`${` without a name");
        }
        let mut subscript = None;
        if self.byte() == Some(b'[') {
            let open = self.at;
            if self.balanced(b'[', b']') {
                subscript = Some(Span::new(open, self.at));
            }
        }
        let operator = self.operator();
        let argument = self.nested(|parser| {
            let mut depth = 0_usize;
            parser.parts_while(|byte, _| {
                match byte {
                    b'{' => depth += 1,
                    b'}' if depth == 0 => return false,
                    b'}' => depth -= 1,
                    _ => {}
                }
                true
            })
        });
        if self.take("}").is_none() && !self.has_failed() {
            self.fail(Span::new(start, start + 2), "`${` without `}`");
        }
        PartKind::Parameter(Parameter {
            name,
            braced: true,
            length,
            indirect,
            subscript,
            operator,
            argument,
        })
    }

    fn operator(&mut self) -> Option<Span> {
        const OPERATORS: [&str; 19] = [
            ":-", ":=", ":?", ":+", "##", "%%", "//", "/#", "/%", "^^", ",,", "-", "=", "?", "+",
            "#", "%", "/", ":",
        ];
        const RARE: [&str; 3] = ["^", ",", "@"];
        OPERATORS.iter().chain(&RARE).find_map(|operator| self.take(operator))
    }

    /// `` `…` ``: read in place, as if nothing in it were escaped once more.
    fn backquoted(&mut self) -> PartKind {
        let start = self.at;
        let mut close = None;
        let mut escaped = false;
        let mut has_escapes = false;
        for (at, byte) in self.rest().bytes().enumerate().skip(1) {
            match byte {
                _ if escaped => {
                    has_escapes |= matches!(byte, b'`' | b'\\' | b'$');
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'`' => {
                    close = Some(self.at + at);
                    break;
                }
                _ => {}
            }
        }
        let Some(close) = close else {
            self.fail(Span::new(start, start + 1), "quote `` ` `` is not closed");
            return PartKind::Command { body: crate::ast::List::default(), backquoted: true };
        };
        let end = self.end;
        self.at += 1;
        self.end = close;
        let error = self.error.clone();
        let pending = std::mem::take(&mut self.pending);
        let body = self.list();
        if has_escapes && self.error != error {
            // What is escaped for the substitution alone cannot be judged in place.
            self.error = error;
        } else if !self.has_failed() && !self.is_at_end() {
            self.fail(Span::new(self.at, self.at), "unexpected text in `` `…` ``");
        }
        self.pending = pending;
        self.end = end;
        self.at = if self.has_failed() { end } else { close + 1 };
        PartKind::Command { body, backquoted: true }
    }
}
