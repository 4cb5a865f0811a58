//! `Range` of downloads and `Content-Range` of uploads.

/// What a `Range` header asks for, of a body of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Everything: there is no range, or one that may be ignored (RFC 9110, 14.2).
    Whole,
    /// From one offset up to, but not with, another.
    Part(u64, u64),
    /// Nothing that is there.
    Unsatisfiable,
}

/// Reads a `Range` header. Several ranges are answered with the whole body, as RFC 9110 allows.
pub fn asked(header: Option<&str>, size: u64) -> Asked {
    let Some(ranges) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let Some((first, last)) = ranges.split_once('-') else { return Asked::Whole };
    match (number(first.trim()), number(last.trim())) {
        _ if ranges.contains(',') => Asked::Whole,
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), _) if first >= size => Asked::Unsatisfiable,
        (Some(first), Some(last)) => Asked::Part(first, last.saturating_add(1).min(size)),
        (Some(first), None) if last.trim().is_empty() => Asked::Part(first, size),
        // The last so many bytes.
        (None, Some(0)) if first.trim().is_empty() => Asked::Unsatisfiable,
        (None, Some(_)) if first.trim().is_empty() && size == 0 => Asked::Unsatisfiable,
        (None, Some(count)) if first.trim().is_empty() => {
            Asked::Part(size.saturating_sub(count), size)
        }
        _ => Asked::Whole,
    }
}

/// Reads the `Content-Range` of a chunk (`0-1023`, both ends counted). As some clients do, it may
/// be written as RFC 9110 has it (`bytes 0-1023/*`). Gives the first byte and the one behind the
/// last.
pub fn of_chunk(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1)?;
    (first < end).then_some((first, end))
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (header, wanted) in [
            ("bytes=0-", Asked::Part(0, 10)),
            ("bytes=0-0", Asked::Part(0, 1)),
            ("bytes=2-4", Asked::Part(2, 5)),
            ("bytes=2-99", Asked::Part(2, 10)),
            ("bytes=-3", Asked::Part(7, 10)),
            ("bytes=-99", Asked::Part(0, 10)),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=99-100", Asked::Unsatisfiable),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes=0-18446744073709551615", Asked::Part(0, 10)),
            ("bytes=0-18446744073709551616", Asked::Whole),
        ] {
            assert_eq!(asked(Some(header), 10), wanted, "{header}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
        assert_eq!(asked(Some("bytes=-5"), 0), Asked::Unsatisfiable);
    }

    #[test]
    fn chunks_are_read_in_both_spellings() {
        for (text, wanted) in [
            ("0-9", Some((0, 10))),
            ("bytes 0-9/*", Some((0, 10))),
            ("bytes=5-5", Some((5, 6))),
            ("9-0", None),
            ("-1-3", None),
            ("0-", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(of_chunk(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_body(header in "(bytes=)?[0-9,-]{0,25}", size in any::<u64>()) {
            if let Asked::Part(from, to) = asked(Some(&header), size) {
                prop_assert!(from < to && to <= size);
            }
            let _ = of_chunk(&header);
        }
    }
}
