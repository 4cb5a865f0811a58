//! Values as Go's `fmt` prints them by themselves.

use super::value::Value;

/// From which power of ten on Go writes a fraction with an exponent, unless told a precision.
pub(super) const FLOAT_EXPONENT_MIN: i32 = 6;

/// Writes a value as `%v` does.
pub(super) fn print(value: &Value<'_>, out: &mut String) {
    match value {
        Value::Missing | Value::Nil => out.push_str("<nil>"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Uint(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) => out.push_str(text.as_str()),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                print(&item, out);
            }
            out.push(']');
        }
        Value::Map(object) => {
            out.push_str("map[");
            for (index, (key, item)) in object.sorted().into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                print(&item, out);
            }
            out.push(']');
        }
    }
}

pub(super) fn to_display(value: &Value<'_>) -> String {
    let mut text = String::new();
    print(value, &mut text);
    text
}

/// Prints several values as `fmt.Sprint`: a space between two that are no strings.
pub(super) fn print_spaced(values: &[Value<'_>]) -> String {
    let mut text = String::new();
    let mut before: Option<&Value<'_>> = None;
    for value in values {
        let is_text = |value: &Value<'_>| matches!(value, Value::Str(_));
        if before.is_some_and(|before| !is_text(before) && !is_text(value)) {
            text.push(' ');
        }
        print(value, &mut text);
        before = Some(value);
    }
    text
}

/// The shortest digits that mean this number, with an exponent below -4 and from 6 up.
pub(super) fn float(number: f64) -> String {
    let (digits, exponent) = digits(number, None);
    let sign = if number.is_sign_negative() { "-" } else { "" };
    if (-4..FLOAT_EXPONENT_MIN).contains(&exponent) {
        return format!("{number}");
    }
    format!("{sign}{}", scientific(&digits, exponent, 'e'))
}

/// The significant digits of a number, without point and sign, and the power of ten of the first.
pub(super) fn digits(number: f64, precision: Option<usize>) -> (String, i32) {
    let number = number.abs();
    let text = match precision {
        Some(precision) => format!("{number:.precision$e}"),
        None => format!("{number:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// `1.5e+06`: Go writes the exponent's sign and at least two digits of it.
pub(super) fn scientific(digits: &str, exponent: i32, letter: char) -> String {
    let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}{letter}{sign}{:02}", exponent.abs())
}
