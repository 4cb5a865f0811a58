//! `--filter` as all commands have it, and the sizes and moments that other options take.

use conex_dockerfile::{parse_duration, parse_size};
use conex_store::{LabelFilter, Timestamp};

use crate::error::{CliError, Result, USAGE};
use crate::session::Session;

/// Seconds of a day, for `7d`, which Go's durations lack.
const DAY_SECONDS: u64 = 86_400;

/// The conditions that a person gave.
#[derive(Debug, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads `NAME=VALUE` texts. Names that the command does not know are refused.
    pub fn parse(given: &[String], known: &[&str]) -> Result<Self> {
        let mut filters = Self::default();
        for text in given {
            let Some((name, value)) = text.split_once('=') else {
                let message = format!("`--filter {text}` is not of the form `NAME=VALUE`");
                return Err(CliError::usage(message));
            };
            let name = name.trim().to_ascii_lowercase();
            if !known.contains(&name.as_str()) {
                let names = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
                return Err(CliError::usage(format!("there is no filter `{name}` here"))
                    .with_hint(format!("filters are {}", names.join(", "))));
            }
            filters.0.push((name, value.trim().to_owned()));
        }
        Ok(filters)
    }

    /// Adds a condition.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions as they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a condition.
    pub fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f str> {
        self.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The last value of a condition.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// A condition that is true or false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.last(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Ok(Some(true)),
            "false" | "0" | "f" => Ok(Some(false)),
            _ => Err(CliError::usage(format!("`{name}={value}` is neither true nor false"))),
        }
    }

    /// The conditions `label=…` and `label!=…`.
    pub fn labels(&self) -> Vec<LabelFilter> {
        let label = |(name, text): (&str, &str)| {
            let is_negated = match name {
                "label" => false,
                "label!" => true,
                _ => return None,
            };
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            Some(LabelFilter { name: name.to_owned(), value, is_negated })
        };
        self.iter().filter_map(label).collect()
    }

    /// The latest moment that a condition such as `until` names.
    pub fn moment(&self, session: &Session, name: &str) -> Result<Option<Timestamp>> {
        self.last(name).map(|text| moment(text, session.now())).transpose()
    }
}

/// Reads a moment as Docker's `until` takes it: a length of time before now, a date, a date with a
/// time, or seconds since 1970. Without a zone the time is UTC.
fn moment(text: &str, now: conex_term::Timestamp) -> Result<Timestamp> {
    let store_time = |time: conex_term::Timestamp| {
        let nanos = time.unix_nanos().clamp(i64::MIN.into(), i64::MAX.into());
        Timestamp(i64::try_from(nanos).unwrap_or_default())
    };
    if let Ok(duration) = duration(text) {
        return Ok(store_time(now).minus_secs(duration.as_secs()));
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(store_time(conex_term::Timestamp::from_unix(seconds)));
    }
    let candidates =
        [text.to_owned(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    let parsed = candidates.iter().find_map(|text| text.parse().ok());
    parsed.map(store_time).ok_or_else(|| {
        CliError::usage(format!("`{text}` is neither a length of time nor a moment"))
            .with_hint("write `24h`, `7d`, `2026-01-31` or `2026-01-31T12:00:00Z`")
    })
}

/// Reads a length of time: Go's words, and days.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    if let Some(seconds) = days.and_then(|days| days.checked_mul(DAY_SECONDS)) {
        return Ok(std::time::Duration::from_secs(seconds));
    }
    parse_duration(text).map_err(|error| {
        CliError::because(format!("`{text}` is no length of time"), error).with_code(USAGE)
    })
}

/// Reads a number of bytes (`10GB`, `512m`), in powers of 1024 as Docker does.
pub fn bytes(text: &str) -> std::result::Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        let now = conex_term::Timestamp::from_unix(1_000_000);
        moment(text, now).ok().map(Timestamp::unix_secs)
    }

    #[test]
    fn moments_are_read_as_docker_reads_them() {
        for (text, seconds) in [
            ("10s", Some(999_990)),
            ("1h30m", Some(994_600)),
            ("2d", Some(827_200)),
            ("86400", Some(86_400)),
            ("1970-01-02", Some(86_400)),
            ("1970-01-02T00:00:01", Some(86_401)),
            ("1970-01-02T00:01", Some(86_460)),
            ("1970-01-02T00:00:00Z", Some(86_400)),
            ("1970-01-02T01:00:00+01:00", Some(86_400)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(at(text), seconds, "{text}");
        }
    }

    #[test]
    fn labels_have_names_values_and_negations() {
        let given = ["label=a", "label=b=c=d", "LABEL!=e"].map(str::to_owned);
        let filters = Filters::parse(&given, &["label", "label!"]).unwrap();
        let shown: Vec<_> = filters
            .labels()
            .into_iter()
            .map(|label| (label.name, label.value, label.is_negated))
            .collect();
        assert_eq!(
            shown,
            [
                ("a".to_owned(), None, false),
                ("b".to_owned(), Some("c=d".to_owned()), false),
                ("e".to_owned(), None, true),
            ]
        );
    }

    #[test]
    fn unknown_filters_and_bare_words_are_refused() {
        for wrong in ["size=1", "label"] {
            let error = Filters::parse(&[wrong.to_owned()], &["label"]).unwrap_err();
            assert_eq!(error.code, USAGE, "{wrong}");
        }
        let filters = Filters::parse(&["dangling=maybe".to_owned()], &["dangling"]).unwrap();
        assert!(filters.flag("dangling").is_err());
    }
}
