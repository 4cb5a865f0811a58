//! Moments in time, as text.
//!
//! Reads and prints RFC 3339 with any offset and nanoseconds, and prints as Go's `time.Time` does.
//! Invariant: a [`Timestamp`] lies in the years 0000 to 9999, so it always has a text.
//! Never asks for the current time and knows no time zone but offsets; leap seconds are read as the
//! last second of their minute, as Go and PostgreSQL do.

use std::fmt;
use std::str::FromStr;

use crate::Error;

const DAY_SECONDS: i64 = 86_400;
/// 0000-01-01T00:00:00Z, the first moment that RFC 3339 can write.
const SECONDS_MIN: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z, the last.
const SECONDS_MAX: i64 = 253_402_300_799;

/// A moment: seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// A moment taken apart, in the proleptic Gregorian calendar and UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// 0 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp { seconds: 0, nanos: 0 };

    /// Makes a moment from seconds since the epoch; one outside the years 0000 to 9999 becomes the
    /// nearest moment inside.
    pub fn from_unix(seconds: i64) -> Self {
        Self { seconds: seconds.clamp(SECONDS_MIN, SECONDS_MAX), nanos: 0 }
    }

    /// Makes a moment from seconds and nanoseconds since the epoch, clamped likewise.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let billion = 1_000_000_000;
        let limits =
            i128::from(SECONDS_MIN) * billion..=i128::from(SECONDS_MAX) * billion + 999_999_999;
        let nanos = nanos.clamp(*limits.start(), *limits.end());
        Self {
            seconds: i64::try_from(nanos.div_euclid(billion)).unwrap_or(SECONDS_MAX),
            nanos: u32::try_from(nanos.rem_euclid(billion)).unwrap_or(0),
        }
    }

    /// Seconds since the epoch, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since the epoch.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// Nanoseconds into the second.
    pub fn subsecond_nanos(self) -> u32 {
        self.nanos
    }

    /// Seconds from another moment to this one; negative where this one is earlier.
    pub fn seconds_since(self, other: Timestamp) -> i64 {
        let nanos = self.unix_nanos() - other.unix_nanos();
        i64::try_from(nanos / 1_000_000_000).unwrap_or(0)
    }

    /// Takes the moment apart.
    pub fn civil(self) -> Civil {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(DAY_SECONDS));
        let second = self.seconds.rem_euclid(DAY_SECONDS);
        let small = |number: i64| u8::try_from(number).unwrap_or(0);
        Civil {
            year: u16::try_from(year).unwrap_or(0),
            month: small(month),
            day: small(day),
            hour: small(second / 3600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
            nanos: self.nanos,
        }
    }

    /// The text with whole seconds: `2024-05-01T12:30:00Z`.
    pub fn rfc3339_seconds(self) -> String {
        Timestamp { nanos: 0, ..self }.to_string()
    }

    /// The text that Go gives a `time.Time` by itself, as `docker images` shows in `CreatedAt`:
    /// `2024-05-01 12:30:00 +0000 UTC`.
    pub fn go_string(self) -> String {
        let civil = self.civil();
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{} +0000 UTC",
            civil.year,
            civil.month,
            civil.day,
            civil.hour,
            civil.minute,
            civil.second,
            Fraction(civil.nanos)
        )
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with as many digits of the second as are not zero, as Go's
    /// `RFC3339Nano`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = self.civil();
        write!(
            formatter,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z",
            civil.year,
            civil.month,
            civil.day,
            civil.hour,
            civil.minute,
            civil.second,
            Fraction(civil.nanos)
        )
    }
}

/// The digits behind the second, without the zeros at their end.
struct Fraction(u32);

impl fmt::Display for Fraction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        write!(formatter, ".{}", format!("{:09}", self.0).trim_end_matches('0'))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| Error::timestamp(text, why))
    }
}

fn parse(text: &str) -> Result<Timestamp, &'static str> {
    let mut rest = Digits(text.as_bytes());
    let year = rest.number(4)?;
    rest.byte(b"-")?;
    let month = rest.number(2)?;
    rest.byte(b"-")?;
    let day = rest.number(2)?;
    rest.byte(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.byte(b":")?;
    let minute = rest.number(2)?;
    rest.byte(b":")?;
    let second = rest.number(2)?;
    if !(1..=12).contains(&month) {
        return Err("there is no such month");
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return Err("there is no such day");
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err("there is no such time of day");
    }
    let nanos = rest.fraction()?;
    let offset = rest.offset()?;
    let days = days_from_civil(year, month, day);
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second.min(59) - offset;
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Err("it lies outside the years 0000 to 9999");
    }
    Ok(Timestamp { seconds, nanos })
}

struct Digits<'t>(&'t [u8]);

impl Digits<'_> {
    fn number(&mut self, digits: usize) -> Result<i64, &'static str> {
        let wrong = "it should look like `2006-01-02T15:04:05Z`";
        let (head, tail) = self.0.split_at_checked(digits).ok_or(wrong)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return Err(wrong);
        }
        self.0 = tail;
        Ok(head.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    fn byte(&mut self, any_of: &[u8]) -> Result<u8, &'static str> {
        match self.0.split_first() {
            Some((first, rest)) if any_of.contains(first) => {
                self.0 = rest;
                Ok(*first)
            }
            _ => Err("it should look like `2006-01-02T15:04:05Z`"),
        }
    }

    /// Reads the digits behind the second; those past the ninth are dropped, as Go does.
    fn fraction(&mut self) -> Result<u32, &'static str> {
        if self.byte(b".,").is_err() {
            return Ok(0);
        }
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        if digits.is_empty() {
            return Err("digits should follow the point");
        }
        self.0 = rest;
        let kept = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        Ok(kept.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')))
    }

    /// Reads the offset from UTC, in seconds, up to the end of the text.
    fn offset(&mut self) -> Result<i64, &'static str> {
        let sign = match self.byte(b"Zz+-").map_err(|_| "it should end with `Z` or an offset")? {
            b'+' => 1,
            b'-' => -1,
            _ => 0,
        };
        let mut offset = 0;
        if sign != 0 {
            let hours = self.number(2)?;
            self.byte(b":")?;
            let minutes = self.number(2)?;
            if hours > 23 || minutes > 59 {
                return Err("there is no such offset");
            }
            offset = sign * (hours * 3600 + minutes * 60);
        }
        if self.0.is_empty() { Ok(offset) } else { Err("something follows the time") }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Counting years from March puts the leap day at their end.
const EPOCH_FROM_MARCH_0: i64 = 719_468;

/// Days from 1970-01-01 to a date. The months from March on have 31, 30, 31, 30, 31 days and again,
/// which `(153 * month + 2) / 5` sums up.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    era * ERA_DAYS + year * 365 + year / 4 - year / 100 + day_of_year - EPOCH_FROM_MARCH_0
}

/// The date that lies so many days after 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_FROM_MARCH_0;
    let era = days.div_euclid(ERA_DAYS);
    let day = days.rem_euclid(ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::Timestamp;
    use proptest::prelude::*;

    fn reread(text: &str) -> String {
        match text.parse::<Timestamp>() {
            Ok(time) => format!("{} {time}", time.unix_seconds()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn times_are_read_with_any_offset_and_printed_in_utc() {
        for (text, read) in [
            ("1970-01-01T00:00:00Z", "0 1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59.5Z", "1709251199 2024-02-29T23:59:59.5Z"),
            ("2024-05-01T12:30:00+02:00", "1714559400 2024-05-01T10:30:00Z"),
            ("2024-05-01t12:30:00.123456789-07:30", "1714593600 2024-05-01T20:00:00.123456789Z"),
            ("2000-03-01T00:00:00.1234567891234Z", "951868800 2000-03-01T00:00:00.123456789Z"),
            ("0001-01-01T00:00:00Z", "-62135596800 0001-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "-62167219200 0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "253402300799 9999-12-31T23:59:59.999999999Z"),
            ("1969-12-31T23:59:59.25Z", "-1 1969-12-31T23:59:59.25Z"),
            ("2016-12-31T23:59:60Z", "1483228799 2016-12-31T23:59:59Z"),
        ] {
            assert_eq!(reread(text), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, why) in [
            ("", "it should look like `2006-01-02T15:04:05Z`"),
            ("2024-5-01T12:30:00Z", "it should look like `2006-01-02T15:04:05Z`"),
            ("2023-02-29T00:00:00Z", "there is no such day"),
            ("2023-13-01T00:00:00Z", "there is no such month"),
            ("2023-12-01T24:00:00Z", "there is no such time of day"),
            ("2023-12-01T00:00:00", "it should end with `Z` or an offset"),
            ("2023-12-01T00:00:00.Z", "digits should follow the point"),
            ("2023-12-01T00:00:00+25:00", "there is no such offset"),
            ("2023-12-01T00:00:00Zulu", "something follows the time"),
            ("0000-01-01T00:00:00+01:00", "it lies outside the years 0000 to 9999"),
        ] {
            let wanted = format!("`{text}` is not an RFC 3339 time: {why}");
            assert_eq!(reread(text), wanted, "{text}");
        }
    }

    #[test]
    fn go_prints_a_space_and_the_zone() {
        let time = Timestamp::from_unix_nanos(1_714_559_400_250_000_000);
        assert_eq!(time.go_string(), "2024-05-01 10:30:00.25 +0000 UTC");
        assert_eq!(time.rfc3339_seconds(), "2024-05-01T10:30:00Z");
    }

    #[test]
    fn a_moment_out_of_range_becomes_the_nearest_inside() {
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_unix(i64::MIN).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_unix_nanos(i128::MIN).to_string(), "0000-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn every_moment_is_read_back(
            nanos in -62_167_219_200_000_000_000i128..=253_402_300_799_999_999_999
        ) {
            let time = Timestamp::from_unix_nanos(nanos);
            prop_assert_eq!(time.unix_nanos(), nanos);
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }

        #[test]
        fn consecutive_days_are_consecutive_dates(day in -700_000i64..2_900_000) {
            let (today, tomorrow) = (super::civil_from_days(day), super::civil_from_days(day + 1));
            prop_assert!(today < tomorrow);
            prop_assert_eq!(super::days_from_civil(today.0, today.1, today.2), day);
        }

        #[test]
        fn no_text_breaks_the_reader(text in any::<String>()) {
            let _ = text.parse::<Timestamp>();
        }
    }
}
