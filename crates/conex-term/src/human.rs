//! Sizes, ages and lengths of time in the words that Docker's users know.
//!
//! Invariant: the texts are those of docker's `go-units` and of Go's `time.Duration`, letter for
//! letter, so that what scripts match keeps matching. The one departure: where Go slips into
//! scientific notation (`1e+03kB` for 999.6 kB in three digits), the next unit is taken (`1MB`).

use std::time::Duration;

use crate::Timestamp;

const DECIMAL_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY_UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A size in powers of 1000 with four digits: `1.234MB`.
pub fn human_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL_UNITS, 4)
}

/// A size in powers of 1000 with three digits, as the tables of images and histories have it:
/// `1.23MB`.
pub fn human_size_short(bytes: u64) -> String {
    scaled(bytes, 1000.0, &DECIMAL_UNITS, 3)
}

/// A size in powers of 1024 with four digits: `1.205MiB`.
pub fn bytes_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY_UNITS, 4)
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown; f64 has fifteen")]
fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    loop {
        let number = significant(size, digits);
        let fits = size < base && !number.is_empty();
        match units.next() {
            Some(next) if !fits => (size, unit) = (size / base, next),
            _ => return format!("{number}{unit}"),
        }
    }
}

/// Rounds to so many significant digits and drops the zeros at the end, as `%.4g` does; empty
/// where more digits than that stand before the point.
fn significant(number: f64, digits: usize) -> String {
    let scientific = format!("{number:.*e}", digits - 1);
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    let exponent: usize = exponent.unwrap_or(0);
    if exponent >= digits {
        return String::new();
    }
    let fixed = format!("{number:.*}", digits - 1 - exponent);
    if !fixed.contains('.') {
        return fixed;
    }
    fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A length of time in words: `Less than a second`, `About a minute`, `3 weeks`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded to the nearest, and everything longer counts these; years count whole ones.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, ..2) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long before `now` a moment was: `2 weeks ago`. A moment in the future, which a wrong clock
/// makes, was less than a second ago.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(now.seconds_since(then)).unwrap_or(0);
    format!("{} ago", human_duration(Duration::from_secs(seconds)))
}

/// A length of time as Go prints it: `1h2m3.5s`, `12.5ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", with_fraction(nanos, 3)),
        1_000_000..1_000_000_000 => return format!("{}ms", with_fraction(nanos, 6)),
        _ => {}
    }
    let minute = 60_000_000_000;
    let seconds = with_fraction(nanos % minute, 9);
    let minutes = nanos / minute;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Prints a number with its last `digits` digits behind the point, zeros at the end dropped.
fn with_fraction(number: u128, digits: usize) -> String {
    let padded = format!("{number:0>width$}", width = digits + 1);
    let (whole, fraction) = padded.split_at(padded.len() - digits);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// The time a step took, as progress shows it: `0.4s`, `12.3s`, `2m05s`, `1h02m`.
pub fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    let whole = tenths / 10;
    match whole {
        0..60 => format!("{whole}.{}s", tenths % 10),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ago, bytes_size, go_duration, human_duration, human_size, human_size_short, seconds,
    };
    use crate::Timestamp;
    use std::time::Duration;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, decimal, short, binary) in [
            (0, "0B", "0B", "0B"),
            (1, "1B", "1B", "1B"),
            (999, "999B", "999B", "999B"),
            (1000, "1kB", "1kB", "1000B"),
            (1023, "1.023kB", "1.02kB", "1023B"),
            (1024, "1.024kB", "1.02kB", "1KiB"),
            (1_234_567, "1.235MB", "1.23MB", "1.177MiB"),
            (7_378_000, "7.378MB", "7.38MB", "7.036MiB"),
            (187_400_000, "187.4MB", "187MB", "178.7MiB"),
            (1_000_000_000, "1GB", "1GB", "953.7MiB"),
            (u64::MAX, "18.45EB", "18.4EB", "16EiB"),
        ] {
            assert_eq!(human_size(bytes), decimal);
            assert_eq!(human_size_short(bytes), short);
            assert_eq!(bytes_size(bytes), binary);
        }
    }

    #[test]
    fn rounding_up_to_the_base_is_dockers_where_docker_is_readable() {
        assert_eq!(human_size(999_999), "1000kB");
        assert_eq!(bytes_size(1024 * 1024 - 1), "1024KiB");
        assert_eq!(human_size_short(999_600), "1MB", "go-units prints 1e+03kB");
        assert_eq!(human_size_short(999_400), "999kB");
    }

    #[test]
    fn ages_are_dockers() {
        let (hour, day) = (3600, 86_400);
        for (length, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (hour, "About an hour"),
            (hour + 1799, "About an hour"),
            (hour + 1800, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (59 * day, "8 weeks"),
            (60 * day, "2 months"),
            (729 * day, "24 months"),
            (730 * day, "2 years"),
            (3650 * day, "10 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(length)), words, "{length}");
        }
        let now = Timestamp::from_unix(1_700_000_000);
        assert_eq!(ago(Timestamp::from_unix(1_699_000_000), now), "11 days ago");
        assert_eq!(ago(Timestamp::from_unix(1_800_000_000), now), "Less than a second ago");
    }

    #[test]
    fn lengths_of_time_are_gos() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (5 * 60_000_000_000 + 1, "5m0.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_061_001_000_000, "25h1m1.001s"),
            (100_000_000, "100ms"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn steps_show_tenths_up_to_a_minute() {
        for (millis, text) in [
            (0, "0.0s"),
            (449, "0.4s"),
            (59_990, "59.9s"),
            (60_000, "1m00s"),
            (125_000, "2m05s"),
            (3_720_000, "1h02m"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }
}
