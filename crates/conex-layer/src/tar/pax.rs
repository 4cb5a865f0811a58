//! PAX records (POSIX.1-2001): `length key=value\n`.

use crate::error::{Error, Result};

/// What comes before the name of an extended attribute.
pub(crate) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Adds one record.
pub(crate) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts itself, so its own digits may make it one digit longer.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + digits(rest);
    if digits(len) != digits(rest) {
        len = rest + digits(len);
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Splits records into keys and values.
pub(crate) fn parse(mut records: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let wrong = || Error::malformed("a PAX header in the tar is not valid");
    let mut found = Vec::new();
    while !records.is_empty() {
        // Some writers fill up with zeros.
        if records.iter().all(|byte| *byte == 0) {
            break;
        }
        let space = records.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let len = records.get(..space).and_then(|len| std::str::from_utf8(len).ok());
        let len: usize = len.and_then(|len| len.parse().ok()).ok_or_else(wrong)?;
        let record = records.get(space + 1..len).ok_or_else(wrong)?;
        let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let (key, value) = (record.get(..equals), record.get(equals + 1..));
        let (Some(key), Some(value)) = (key, value) else { return Err(wrong()) };
        found.push((key, value));
        records = records.get(len..).ok_or_else(wrong)?;
    }
    Ok(found)
}

/// Reads a whole number.
pub(crate) fn whole(value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::malformed("a number in a PAX header of the tar is not valid"))
}

/// Reads a time: seconds with an optional fraction, perhaps negative.
pub(crate) fn time(value: &[u8]) -> Result<(i64, u32)> {
    let wrong = || Error::malformed("a time in a PAX header of the tar is not valid");
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let mut nanos = 0;
    for at in 0..9 {
        let digit = fraction.as_bytes().get(at).map_or(0, |byte| u32::from(byte - b'0'));
        nanos = nanos * 10 + digit;
    }
    if whole.starts_with('-') && nanos > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(wrong)?, 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written_at_every_length() {
        for len in (0..300).chain([985, 986, 987, 988, 989, 990, 991, 9_980, 9_990, 70_000]) {
            let mut records = Vec::new();
            push(&mut records, b"path", &vec![b'='; len]);
            push(&mut records, b"b", b"line\nline");
            let parsed = parse(&records).unwrap();
            assert_eq!(parsed[0], (&b"path"[..], &vec![b'='; len][..]));
            assert_eq!(parsed[1], (&b"b"[..], &b"line\nline"[..]));
        }
    }

    #[test]
    fn wrong_records_are_refused() {
        for wrong in ["x", "5 a=b", "99 a=b\n", "3 a", "6 abcd\n", "0 a=b\n", "1 ", "-6 a=b\n"] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(parse(b"6 a=b\n\0\0").unwrap().len(), 1);
    }

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, wanted) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("1.0000000019", Some((1, 1))),
            ("", None),
            ("1.x", None),
            ("1e3", None),
        ] {
            assert_eq!(time(text.as_bytes()).ok(), wanted, "{text}");
        }
    }
}
