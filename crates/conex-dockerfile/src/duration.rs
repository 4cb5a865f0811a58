//! Durations and sizes as Docker writes them.

pub use std::time::Duration;

use crate::error::Error;

/// Longest duration: what an image config can hold, nanoseconds in 64 bits, 292 years.
const NANOSECONDS_MAX: u128 = i64::MAX as u128;

/// Reads a duration in Go's syntax: `1m30s`, `1.5h`, `500ms`, `0`. Negative ones are errors.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let refused = || {
        Error::value(format!("`{text}` is no duration"))
            .with_hint(Some("write numbers with units, like `30s` or `1m30s`".to_owned()))
    };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(refused());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refused)?;
        let (number, behind) = rest.split_at(length);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(refused()),
        };
        total += scaled(number, scale).ok_or_else(refused)?;
        if total > NANOSECONDS_MAX {
            return Err(Error::limit(format!("duration `{text}` is longer than 292 years")));
        }
        rest = behind;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| refused())
}

/// Reads a size with an optional binary unit: `64m`, `1.5GiB`, `1024`.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let refused = || {
        Error::value(format!("`{text}` is no size"))
            .with_hint(Some("write a number with an optional unit, like `64m`".to_owned()))
    };
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = match unit.strip_suffix("ib") {
        Some("") => return Err(refused()),
        Some(prefix) => prefix,
        None => unit.strip_suffix('b').unwrap_or(&unit),
    };
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refused()),
    };
    let size = scaled(number, 1 << (10 * power)).ok_or_else(refused)?;
    u64::try_from(size)
        .ok()
        .filter(|size| i64::try_from(*size).is_ok())
        .ok_or_else(|| Error::limit(format!("size `{text}` is larger than 8 EiB")))
}

/// A decimal number times a scale, rounded down; exact, unlike floating point.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    /// More digits than this cannot change a result in range.
    const DIGITS_MAX: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..DIGITS_MAX).unwrap_or(fraction);
    let mut result = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let numerator: u128 = fraction.parse().ok()?;
        let digits = u32::try_from(fraction.len()).ok()?;
        result = result.checked_add(numerator.checked_mul(scale)? / 10_u128.pow(digits))?;
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_size};

    #[test]
    fn durations_in_go_syntax() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("+1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("10µs", 10_000),
            ("0.1ns", 0),
        ] {
            let found = parse_duration(text).unwrap().as_nanos();
            assert_eq!(found, nanoseconds, "{text}");
        }
        for text in ["", "1", "s", "-1s", "1x", "1.2.3s", ".s", "1 s", "99999999999h", "1s1"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024s() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("32 kb", 32 << 10),
            ("7b", 7),
            ("1p", 1 << 50),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "1mm", "1ib", "1e3", "1.2.3", "9999999p", "1  k"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
