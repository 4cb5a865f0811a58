//! The header values that registries use, as pure functions over hostile text. What cannot be
//! understood is `None`: the caller then does what it would do without the header.

use std::time::{Duration, SystemTime};

use crate::clock::{Civil, unix_seconds};

/// The target of the `rel="next"` link in a `Link` header (RFC 8288).
pub fn link_next(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some(open) = rest.find('<') {
        let after = rest.get(open + 1..)?;
        let close = after.find('>')?;
        let target = after.get(..close)?;
        let parameters = after.get(close + 1..)?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let own = parameters.get(..end)?;
        let is_next = own.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.trim());
        }
        rest = parameters.get(end..)?;
    }
    None
}

/// How long `Retry-After` asks to wait: seconds or a date (RFC 9110, section 10.2.3).
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(value)?;
    Some(Duration::from_secs(at.saturating_sub(unix_seconds(now))))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`; seconds since 1970.
pub(crate) fn http_date(value: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = value.split_once(", ")?;
    let mut parts = rest.split(' ');
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|known| *known == name)?;
    let year = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.split(':').map(str::parse::<u32>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    if parts.next() != Some("GMT") || time.next().is_some() {
        return None;
    }
    let month = u32::try_from(month + 1).ok()?;
    Civil { year, month, day, hour, minute, second }.to_unix()
}

/// Reads `bytes 0-99/1000` (or `/*`): first and last byte, and the whole size where it is told.
pub fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, whole) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let whole = match whole.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    let sound = first <= last && whole.is_none_or(|whole| last < whole);
    sound.then_some((first, last, whole))
}

/// Reads the `Range: 0-99` of an upload's answer (distribution spec, "Pushing a blob in chunks"):
/// how many bytes the registry has. `0-0` is what registries answer for nothing as well as for one
/// byte; it is read as nothing, which at worst sends one byte again.
pub fn upload_range(value: &str) -> Option<u64> {
    let value = value.trim();
    let value = value.strip_prefix("bytes=").unwrap_or(value);
    let (first, last) = value.split_once('-')?;
    if first.trim() != "0" {
        return None;
    }
    match last.trim().parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

/// A request limit as Docker Hub tells it: `100;w=21600` is a hundred in six hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests.
    pub count: u64,
    /// In how many seconds.
    pub window_seconds: Option<u64>,
}

/// Reads `ratelimit-limit` or `ratelimit-remaining`.
pub fn rate_limit(value: &str) -> Option<RateLimit> {
    let mut parts = value.split(';');
    let count = parts.next()?.trim().parse().ok()?;
    let window = parts.find_map(|part| part.trim().strip_prefix("w="));
    Some(RateLimit { count, window_seconds: window.and_then(|text| text.trim().parse().ok()) })
}

/// The text of a `Warning: 299 - "text"` header (distribution spec, "Warnings"). Other codes say
/// nothing to a client of a registry.
pub(crate) fn warning(value: &str) -> Option<String> {
    let rest = value.trim().strip_prefix("299 ")?;
    let (_, rest) = rest.split_once(' ')?;
    let mut text = String::new();
    let mut characters = rest.trim_start().strip_prefix('"')?.chars();
    loop {
        match characters.next()? {
            '"' => return Some(crate::error::shown(&text, 4096)),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

/// Says a number of seconds in words.
pub(crate) fn spelled(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn next_links_are_found() {
        for (value, wanted) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            ("</p>; rel=next", Some("/p")),
            (r#"</x>; rel="prev", </y>; rel="next""#, Some("/y")),
            (r#"</x>; title="a"; rel="last next""#, Some("/x")),
            (r#"</x>; rel="prev""#, None),
            ("</x", None),
            ("", None),
        ] {
            assert_eq!(link_next(value), wanted, "{value}");
        }
    }

    #[test]
    fn waits_are_understood_as_seconds_and_as_dates() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("30"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for wrong in ["-1", "soon", "Sun, 99 Foo 1994", ""] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(content_range("bytes 0-9/10"), Some((0, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for wrong in ["bytes 9-5/10", "bytes 0-10/10", "0-9/10", "bytes */10", "bytes 0-9"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
        assert_eq!(upload_range("0-99"), Some(100));
        assert_eq!(upload_range("bytes=0-99"), Some(100));
        assert_eq!(upload_range("0-0"), Some(0));
        assert_eq!(upload_range("1-99"), None);
        assert_eq!(upload_range(&format!("0-{}", u64::MAX)), None);
    }

    #[test]
    fn docker_hubs_limits_are_read() {
        let limit = rate_limit("100;w=21600").unwrap();
        assert_eq!((limit.count, limit.window_seconds), (100, Some(21600)));
        assert_eq!(rate_limit("7").unwrap().window_seconds, None);
        assert_eq!(rate_limit("many"), None);
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(warning(r#"299 - "old \"v1\" API""#).as_deref(), Some(r#"old "v1" API"#));
        assert_eq!(warning(r#"199 - "x""#), None);
        assert_eq!(warning(r#"299 - "x"#), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "\\PC{0,80}") {
            let _ = (link_next(&value), content_range(&value), upload_range(&value));
            let _ = (rate_limit(&value), warning(&value), retry_after(&value, UNIX_EPOCH));
        }
    }
}
