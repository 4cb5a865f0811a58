//! Template text cut into literal text and the tokens of actions.

use super::{Fault, TEMPLATE_SIZE_MAX};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A bare word: a keyword, a function, `true`, `nil`.
    Word(String),
    /// `.Name`
    Field(String),
    /// `$name`, or `$` alone; the name without the dollar.
    Variable(String),
    Dot,
    Str(String),
    Int(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// A token, where it begins, and whether a space stands before it: `.A.B` is a field of a field,
/// `.A .B` are two arguments.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) at: usize,
    pub(super) is_spaced: bool,
    pub(super) token: Token,
}

#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    /// The tokens between `{{` and `}}`, never none but for `{{}}`.
    Action {
        at: usize,
        tokens: Vec<Spot>,
    },
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

pub(super) fn lex(source: &str) -> Result<Vec<Piece>, Fault> {
    if source.len() > TEMPLATE_SIZE_MAX {
        let why = format!("the template is larger than {} KiB", TEMPLATE_SIZE_MAX >> 10);
        return Err(Fault::limit(0, why));
    }
    let mut pieces = Vec::new();
    let mut lexer = Lexer { source, at: 0 };
    let mut trims_next = false;
    loop {
        let (text, has_action) = match lexer.rest().find(OPEN) {
            Some(size) => (lexer.take(size), true),
            None => (lexer.take(lexer.rest().len()), false),
        };
        let mut text = if trims_next { text.trim_start_matches(is_space) } else { text };
        let at = lexer.at;
        lexer.skip(if has_action { OPEN } else { "" });
        if has_action && lexer.trims_before() {
            lexer.skip("-");
            text = text.trim_end_matches(is_space);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        if !has_action {
            return Ok(pieces);
        }
        match lexer.comment(at)? {
            Some(trims) => trims_next = trims,
            None => {
                let (tokens, trims) = lexer.action(at)?;
                trims_next = trims;
                pieces.push(Piece::Action { at, tokens });
            }
        }
    }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn take(&mut self, size: usize) -> &'s str {
        let (taken, _) = self.rest().split_at_checked(size).unwrap_or((self.rest(), ""));
        self.at += taken.len();
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        self.take(rest.find(|char| !wanted(char)).unwrap_or(rest.len()))
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    /// `{{- ` trims the text before it; `{{-3}}` is a number.
    fn trims_before(&self) -> bool {
        self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space))
    }

    /// Skips ` -}}` or `}}`, if one stands here, and tells whether it trims the text behind.
    fn close(&mut self) -> Option<bool> {
        if self.skip(CLOSE) {
            return Some(false);
        }
        let rest = self.rest();
        let spaces = rest.len() - rest.trim_start_matches(is_space).len();
        if spaces > 0 && rest.get(spaces..).is_some_and(|rest| rest.starts_with("-}}")) {
            self.at += spaces + 3;
            return Some(true);
        }
        None
    }

    fn comment(&mut self, open: usize) -> Result<Option<bool>, Fault> {
        let before = self.at;
        self.take_while(is_space);
        if !self.skip("/*") {
            self.at = before;
            return Ok(None);
        }
        let end =
            self.rest().find("*/").ok_or_else(|| Fault::new(open, "the comment is not ended"))?;
        self.take(end + 2);
        let trims = self.close();
        trims.map(Some).ok_or_else(|| Fault::new(open, "`}}` should follow the comment's end"))
    }

    fn action(&mut self, open: usize) -> Result<(Vec<Spot>, bool), Fault> {
        let mut tokens = Vec::new();
        let mut is_spaced = true;
        loop {
            if let Some(trims) = self.close() {
                return Ok((tokens, trims));
            }
            if !self.take_while(is_space).is_empty() {
                is_spaced = true;
                continue;
            }
            if self.rest().is_empty() {
                return Err(Fault::new(open, "the action is not ended by `}}`"));
            }
            let at = self.at;
            let token = self.token()?;
            tokens.push(Spot { at, is_spaced, token });
            is_spaced = false;
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let mut chars = self.rest().chars();
        let first = chars.next().unwrap_or(' ');
        let second = chars.next().unwrap_or(' ');
        match first {
            '|' => Ok(self.single(Token::Pipe)),
            '(' => Ok(self.single(Token::Open)),
            ')' => Ok(self.single(Token::Close)),
            ',' => Ok(self.single(Token::Comma)),
            '=' => Ok(self.single(Token::Assign)),
            ':' if self.skip(":=") => Ok(Token::Declare),
            '"' => self.quoted('"').map(Token::Str),
            '`' => self.raw_string(),
            '\'' => self.character(),
            '.' if is_word(second) && !second.is_ascii_digit() => {
                self.take(1);
                Ok(Token::Field(self.take_while(is_word).to_owned()))
            }
            '.' if !second.is_ascii_digit() => Ok(self.single(Token::Dot)),
            '$' => {
                self.take(1);
                Ok(Token::Variable(self.take_while(is_word).to_owned()))
            }
            '0'..='9' | '.' | '+' | '-' => self.number(),
            _ if is_word(first) => Ok(Token::Word(self.take_while(is_word).to_owned())),
            _ => Err(Fault::new(at, format!("`{}` means nothing here", first.escape_debug()))),
        }
    }

    fn single(&mut self, token: Token) -> Token {
        self.take(1);
        token
    }

    fn raw_string(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        self.take(1);
        let end = self.rest().find('`').ok_or_else(|| Fault::new(at, "the string is not ended"))?;
        let text = self.take(end).to_owned();
        self.take(1);
        Ok(Token::Str(text))
    }

    fn character(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let text = self.quoted('\'')?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(char), None) => Ok(Token::Int(i64::from(u32::from(char)))),
            _ => Err(Fault::new(at, "one character should stand between the quotes")),
        }
    }

    /// Reads a literal with Go's escapes.
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let at = self.at;
        let unended = || Fault::new(at, "the string is not ended");
        self.take(1);
        let mut text: Vec<u8> = Vec::new();
        loop {
            let char_at = self.at;
            let char = self.rest().chars().next().ok_or_else(unended)?;
            self.take(char.len_utf8());
            match char {
                '\n' => return Err(unended()),
                '\\' => self.escape(quote, char_at, &mut text)?,
                _ if char == quote => break,
                _ => text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // `"\xff"` is a byte that is no text; Go would print it, here it is replaced.
        Ok(String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn escape(&mut self, quote: char, at: usize, text: &mut Vec<u8>) -> Result<(), Fault> {
        let char = self.rest().chars().next().unwrap_or('\n');
        self.take(char.len_utf8());
        let (digits, radix, is_byte) = match char {
            'a' => return push_byte(text, 0x07),
            'b' => return push_byte(text, 0x08),
            'f' => return push_byte(text, 0x0c),
            'n' => return push_byte(text, b'\n'),
            'r' => return push_byte(text, b'\r'),
            't' => return push_byte(text, b'\t'),
            'v' => return push_byte(text, 0x0b),
            '\\' => return push_byte(text, b'\\'),
            '\'' | '"' if char == quote => {
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            'x' => (2, 16, true),
            'u' => (4, 16, false),
            'U' => (8, 16, false),
            '0'..='7' => {
                self.at -= 1;
                (3, 8, true)
            }
            _ => return Err(Fault::new(at, "there is no such escape")),
        };
        let wrong = || Fault::new(at, "the escape is not complete");
        let number = self.take(digits);
        if number.len() != digits || !number.chars().all(|char| char.is_digit(radix)) {
            return Err(wrong());
        }
        let number = u32::from_str_radix(number, radix).map_err(|_| wrong())?;
        if is_byte {
            return push_byte(text, u8::try_from(number).map_err(|_| wrong())?);
        }
        let char = char::from_u32(number).ok_or_else(wrong)?;
        text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let at = self.at;
        let sign = if self.skip("-") { "-" } else { "" };
        if sign.is_empty() {
            self.skip("+");
        }
        let mut digits = String::new();
        loop {
            digits.push_str(self.take_while(|char| is_word(char) || char == '.'));
            let is_hex = digits.starts_with("0x") || digits.starts_with("0X");
            // The sign of an exponent belongs to the number.
            let in_exponent = !is_hex && digits.ends_with(['e', 'E']);
            if !(in_exponent && self.rest().starts_with(['+', '-'])) {
                break;
            }
            digits.push_str(self.take(1));
        }
        parse_number(sign, &digits)
            .ok_or_else(|| Fault::new(at, format!("`{sign}{digits}` is not a number")))
    }
}

fn push_byte(text: &mut Vec<u8>, byte: u8) -> Result<(), Fault> {
    text.push(byte);
    Ok(())
}

fn parse_number(sign: &str, written: &str) -> Option<Token> {
    let badly_grouped =
        written.starts_with('_') || written.ends_with('_') || written.contains("__");
    if badly_grouped || written.is_empty() {
        return None;
    }
    let digits = written.replace('_', "").to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return integer(sign, digits, radix);
        }
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_octal = digits.len() > 1 && digits.starts_with('0');
        return integer(sign, &digits, if is_octal { 8 } else { 10 });
    }
    // Rust also reads `inf` and `nan`; Go does not.
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte)) {
        return None;
    }
    let number: f64 = format!("{sign}{digits}").parse().ok()?;
    number.is_finite().then_some(Token::Float(number))
}

fn integer(sign: &str, digits: &str, radix: u32) -> Option<Token> {
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Token::Int)
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n')
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}
