//! `printf` as Go's `fmt.Sprintf` prints JSON's kinds of values.
//!
//! Invariant: a wrong verb, a missing or an extra argument is told in the text (`%!d(string=x)`),
//! as Go does, and never ends the run.

use super::print::{digits, float, scientific, to_display};
use super::value::Value;

/// Largest width and precision, as in Go.
const NUMBER_MAX: usize = 1_000_000;

#[derive(Debug, Clone, Copy, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats; `None` when the text would be larger than `size_max`.
pub(super) fn printf(format: &str, values: &[Value<'_>], size_max: usize) -> Option<String> {
    let mut formatter =
        Formatter { chars: format.chars().peekable(), values, next: 0, reordered: false };
    let mut out = String::new();
    while let Some(char) = formatter.chars.next() {
        if char == '%' {
            formatter.verb(&mut out);
        } else {
            out.push(char);
        }
        if out.len() > size_max {
            return None;
        }
    }
    let extra = values.get(formatter.next..).unwrap_or(&[]);
    if !formatter.reordered && !extra.is_empty() {
        let extra: Vec<String> = extra.iter().map(typed).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Some(out)
}

struct Formatter<'f, 'v> {
    chars: std::iter::Peekable<std::str::Chars<'f>>,
    values: &'f [Value<'v>],
    next: usize,
    reordered: bool,
}

impl Formatter<'_, '_> {
    fn verb(&mut self, out: &mut String) {
        let mut spec = Spec::default();
        while let Some(flag) = self.chars.next_if(|char| "-+# 0".contains(*char)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut good = self.argument_index();
        if self.chars.next_if_eq(&'*').is_some() {
            match self.star() {
                Some(width) => {
                    spec.minus |= width < 0;
                    spec.width = Some(usize::try_from(width.unsigned_abs()).unwrap_or(0));
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
        } else {
            spec.width = self.number();
        }
        if self.chars.next_if_eq(&'.').is_some() {
            good &= self.argument_index();
            if self.chars.next_if_eq(&'*').is_some() {
                spec.precision = self.star().and_then(|number| usize::try_from(number).ok());
                if spec.precision.is_none() {
                    out.push_str("%!(BADPREC)");
                }
            } else {
                spec.precision = Some(self.number().unwrap_or(0));
            }
        }
        good &= self.argument_index();
        let Some(verb) = self.chars.next() else {
            out.push_str("%!(NOVERB)");
            return;
        };
        if verb == '%' {
            out.push('%');
            return;
        }
        if !good {
            out.push_str(&format!("%!{verb}(BADINDEX)"));
            return;
        }
        let Some(value) = self.values.get(self.next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            return;
        };
        self.next += 1;
        // With `v` the plus asks for field names, which JSON's kinds have anyway.
        let spec = Spec { plus: spec.plus && verb != 'v', ..spec };
        spec.format(verb, value, out);
    }

    /// Reads `[2]`, which names the next argument; tells whether there is such an argument.
    fn argument_index(&mut self) -> bool {
        if self.chars.next_if_eq(&'[').is_none() {
            return true;
        }
        self.reordered = true;
        if !self.chars.clone().any(|char| char == ']') {
            return false;
        }
        let index: String = self.chars.by_ref().take_while(|char| *char != ']').collect();
        match index.parse::<usize>() {
            Ok(index) if (1..=self.values.len()).contains(&index) => {
                self.next = index - 1;
                true
            }
            _ => false,
        }
    }

    fn star(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        let limit = i64::try_from(NUMBER_MAX).unwrap_or(i64::MAX);
        match value {
            Value::Int(number) if (-limit..=limit).contains(number) => Some(*number),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            let digit = digit.to_digit(10).unwrap_or(0) as usize;
            number = Some((number.unwrap_or(0) * 10 + digit).min(NUMBER_MAX));
        }
        number
    }
}

impl Spec {
    fn format(&self, verb: char, value: &Value<'_>, out: &mut String) {
        match (verb, value) {
            ('v' | 'T', Value::Missing | Value::Nil) => self.pad("<nil>", out),
            ('T', _) => self.pad(&self.truncated(value.type_name()), out),
            (_, Value::Missing | Value::Nil) => out.push_str(&format!("%!{verb}(<nil>)")),
            ('v', _) if self.sharp => {
                let spec = Spec { sharp: false, ..*self };
                match value {
                    Value::Str(_) => spec.format_known('q', value, out),
                    Value::List(_) | Value::Map(_) => out.push_str(&source_form(value)),
                    _ => spec.format_known('v', value, out),
                }
            }
            _ => self.format_known(verb, value, out),
        }
    }

    fn format_known(&self, verb: char, value: &Value<'_>, out: &mut String) {
        match (verb, value) {
            (_, Value::List(list)) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    self.format_inner(verb, &item, out);
                }
                out.push(']');
            }
            (_, Value::Map(object)) => {
                out.push_str("map[");
                for (index, (key, item)) in object.sorted().into_iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    self.format_known(verb, &Value::text(key), out);
                    out.push(':');
                    self.format_inner(verb, &item, out);
                }
                out.push(']');
            }
            ('t' | 'v', Value::Bool(bool)) => self.pad(&bool.to_string(), out),
            ('v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Int(number)) => {
                self.whole(verb, i128::from(*number), out);
            }
            ('v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Uint(number)) => {
                self.whole(verb, i128::from(*number), out);
            }
            ('v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(number)) => {
                self.fraction(verb, *number, out);
            }
            ('v' | 's', Value::Str(text)) => self.pad(&self.truncated(text.as_str()), out),
            ('q', Value::Str(text)) => {
                let text = self.truncated(text.as_str());
                let quoted = match self.sharp && can_be_raw(&text) {
                    true => format!("`{text}`"),
                    false => quoted(&text, self.plus),
                };
                self.pad(&quoted, out);
            }
            ('x' | 'X', Value::Str(text)) => self.hex(verb, text.as_str(), out),
            _ => {
                // Go keeps the flags for the value that it shows in the complaint.
                out.push_str(&format!("%!{verb}({}=", value.type_name()));
                if verb != 'v' {
                    self.format_known('v', value, out);
                }
                out.push(')');
            }
        }
    }

    /// Formats an item of a list or object; there, nothing is `<nil>` whatever the verb.
    fn format_inner(&self, verb: char, value: &Value<'_>, out: &mut String) {
        match value {
            Value::Missing | Value::Nil => out.push_str("<nil>"),
            value => self.format_known(verb, value, out),
        }
    }

    fn truncated(&self, text: &str) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        }
    }

    fn pad(&self, text: &str, out: &mut String) {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        // Go fills whatever it prints with zeros when asked to.
        let fill = if self.zero && !self.minus { '0' } else { ' ' };
        let fill = std::iter::repeat_n(fill, missing);
        if self.minus {
            out.push_str(text);
            out.extend(fill);
        } else {
            out.extend(fill);
            out.push_str(text);
        }
    }

    /// Pads a number: zeros go between its sign and its digits.
    fn pad_number(&self, sign: &str, digits: &str, out: &mut String) {
        let used = sign.len() + digits.chars().count();
        if self.zero && !self.minus {
            let zeros = "0".repeat(self.width.unwrap_or(0).saturating_sub(used));
            out.push_str(&format!("{sign}{zeros}{digits}"));
        } else {
            self.pad(&format!("{sign}{digits}"), out);
        }
    }

    fn sign(&self, is_negative: bool) -> &'static str {
        match (is_negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn whole(&self, verb: char, number: i128, out: &mut String) {
        let size = number.unsigned_abs();
        let char = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
        let (prefix, digits) = match verb {
            'c' => return self.pad(&char.to_string(), out),
            'q' => return self.pad(&quoted_char(char, self.plus), out),
            'U' => return self.unicode(number, out),
            'b' => (if self.sharp { "0b" } else { "" }, format!("{size:b}")),
            'o' => ("", format!("{size:o}")),
            'O' => ("0o", format!("{size:o}")),
            'x' => (if self.sharp { "0x" } else { "" }, format!("{size:x}")),
            'X' => (if self.sharp { "0X" } else { "" }, format!("{size:X}")),
            _ => ("", size.to_string()),
        };
        let sign = self.sign(number < 0);
        let digits_min = match (self.precision, self.width) {
            (Some(0), _) if number == 0 => return Spec { zero: false, ..*self }.pad("", out),
            (Some(precision), _) => precision,
            // Zeros fill the width, of which Go takes off a sign, but no prefix.
            (None, Some(width)) if self.zero && !self.minus => width.saturating_sub(sign.len()),
            (None, _) => 0,
        };
        let digits = format!("{digits:0>digits_min$}");
        let is_octal = self.sharp && matches!(verb, 'o' | 'O') && !digits.starts_with('0');
        let octal = if is_octal { "0" } else { "" };
        Spec { zero: false, ..*self }.pad(&format!("{sign}{prefix}{octal}{digits}"), out);
    }

    fn unicode(&self, number: i128, out: &mut String) {
        let digits = self.precision.unwrap_or(4).max(4);
        let mut text = format!("U+{:0>digits$X}", number & i128::from(u64::MAX));
        let char = u32::try_from(number).ok().and_then(char::from_u32);
        if let Some(char) = char.filter(|char| self.sharp && is_printable(*char)) {
            text.push_str(&format!(" '{char}'"));
        }
        Spec { zero: false, ..*self }.pad(&text, out);
    }

    fn fraction(&self, verb: char, number: f64, out: &mut String) {
        let text = match (verb, self.precision) {
            ('f' | 'F', precision) => format!("{:.*}", precision.unwrap_or(6), number.abs()),
            ('e' | 'E', precision) => {
                let (digits, exponent) = digits(number, Some(precision.unwrap_or(6)));
                scientific(&digits, exponent, verb)
            }
            ('v', None) => float(number.abs()),
            (_, precision) => general(number, precision, if verb == 'G' { 'E' } else { 'e' }),
        };
        let text = if self.sharp { self.with_point(verb, &text) } else { text };
        self.pad_number(self.sign(number.is_sign_negative()), &text, out);
    }

    /// What `#` asks of a fraction: a point, and for `%g` the zeros at its end.
    fn with_point(&self, verb: char, text: &str) -> String {
        let (mantissa, exponent) = text.split_at(text.find(['e', 'E']).unwrap_or(text.len()));
        let wanted = match verb {
            'e' | 'E' | 'f' | 'F' => 0,
            _ => self.precision.unwrap_or(6),
        };
        let digits = mantissa.trim_start_matches(['0', '.']).replace('.', "").len();
        // A lone zero counts as a digit.
        let digits = if mantissa == "0" { 1 } else { digits };
        let point = if mantissa.contains('.') { "" } else { "." };
        let zeros = "0".repeat(wanted.saturating_sub(digits));
        format!("{mantissa}{point}{zeros}{exponent}")
    }

    fn hex(&self, verb: char, text: &str, out: &mut String) {
        let mut bytes: Vec<String> = Vec::new();
        for byte in text.bytes().take(self.precision.unwrap_or(usize::MAX)) {
            bytes.push(if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") });
        }
        let prefix = match (self.sharp, verb) {
            (true, 'x') => "0x",
            (true, _) => "0X",
            _ => "",
        };
        let text = if self.space {
            bytes.iter().map(|byte| format!("{prefix}{byte}")).collect::<Vec<_>>().join(" ")
        } else if bytes.is_empty() {
            String::new()
        } else {
            format!("{prefix}{}", bytes.concat())
        };
        self.pad(&text, out);
    }
}

/// `%g`: the shortest digits, or so many, without zeros at the end.
fn general(number: f64, precision: Option<usize>, letter: char) -> String {
    let wanted = precision.map(|precision| precision.max(1));
    let (digits, exponent) = digits(number, wanted.map(|wanted| wanted - 1));
    let trimmed = digits.trim_end_matches('0');
    let trimmed = if trimmed.is_empty() { "0" } else { trimmed };
    let whole_digits = usize::try_from(exponent + 1).unwrap_or(0);
    let limit = match wanted {
        // Go: when fewer digits than wanted are enough, they decide.
        Some(wanted) if wanted > trimmed.len() && trimmed.len() >= whole_digits => trimmed.len(),
        Some(wanted) => wanted,
        None => 6,
    };
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        return scientific(trimmed, exponent, letter);
    }
    match usize::try_from(exponent) {
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("0.{}{trimmed}", "0".repeat(zeros))
        }
        Ok(_) => {
            let padded = format!("{trimmed:0<whole_digits$}");
            let (whole, rest) = padded.split_at_checked(whole_digits).unwrap_or((&padded, ""));
            if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") }
        }
    }
}

fn typed(value: &Value<'_>) -> String {
    match value {
        Value::Missing | Value::Nil => "<nil>".to_owned(),
        other => format!("{}={}", other.type_name(), to_display(other)),
    }
}

/// `%#v`: a value as Go source.
fn source_form(value: &Value<'_>) -> String {
    match value {
        Value::Missing | Value::Nil => "interface {}(nil)".to_owned(),
        Value::Str(text) => quoted(text.as_str(), false),
        Value::Uint(number) => format!("{number:#x}"),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| source_form(&item)).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Map(object) => {
            let entries: Vec<String> = object
                .sorted()
                .into_iter()
                .map(|(key, item)| format!("{}:{}", quoted(key, false), source_form(&item)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        other => to_display(other),
    }
}

/// Tells whether a string can stand between backquotes as it is.
fn can_be_raw(text: &str) -> bool {
    !text.chars().any(|char| (char.is_control() && char != '\t') || "`\u{feff}".contains(char))
}

/// A string as Go source, in double quotes, on request in ASCII only.
fn quoted(text: &str, is_ascii: bool) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        push_quoted(char, '"', is_ascii, &mut quoted);
    }
    quoted.push('"');
    quoted
}

fn quoted_char(char: char, is_ascii: bool) -> String {
    let mut quoted = String::from('\'');
    push_quoted(char, '\'', is_ascii, &mut quoted);
    quoted.push('\'');
    quoted
}

fn push_quoted(char: char, quote: char, is_ascii: bool, out: &mut String) {
    match char {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if char == quote => out.extend(['\\', char]),
        _ if is_printable(char) && (char.is_ascii() || !is_ascii) => out.push(char),
        _ => {
            let number = u32::from(char);
            out.push_str(&match number {
                0..0x80 => format!("\\x{number:02x}"),
                0x80..0x1_0000 => format!("\\u{number:04x}"),
                _ => format!("\\U{number:08x}"),
            });
        }
    }
}

/// Near to Go's `unicode.IsPrint`: what Rust's own escapes leave as it is, and the combining marks,
/// which Rust escapes and Go prints; they are told from invisible formatting by their names'
/// ranges.
fn is_printable(char: char) -> bool {
    let is_kept = char.escape_debug().len() == 1 || matches!(char, '\'' | '"' | '\\');
    let is_format = crate::text::is_harmful(char)
        || matches!(char, '\u{ad}' | '\u{180e}')
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}');
    is_kept || (!is_format && unicode_width::UnicodeWidthChar::width(char) == Some(0))
}
