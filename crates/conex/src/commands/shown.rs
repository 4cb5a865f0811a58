//! How identities, moments and labels stand in listings.

use std::collections::BTreeMap;

use conex_oci::Digest;
use conex_store::Timestamp;

use crate::session::Session;

/// Whether long values are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// To what fits a table.
    Short,
    /// Not at all.
    Full,
}

impl Length {
    /// What `--no-trunc` says.
    pub fn no_trunc(flag: bool) -> Self {
        if flag { Self::Full } else { Self::Short }
    }

    /// A digest: twelve digits, or all of it.
    pub fn id(self, id: &Digest) -> String {
        match self {
            Self::Short => id.short().to_owned(),
            Self::Full => id.to_string(),
        }
    }

    /// A text in one line: so many characters, or all of it.
    pub fn text(self, text: &str, chars: usize) -> String {
        match self {
            Self::Short => conex_term::ellipsis(text, chars),
            Self::Full => text.to_owned(),
        }
    }
}

/// A moment of the store in the words of the terminal.
pub fn moment(time: Timestamp) -> conex_term::Timestamp {
    conex_term::Timestamp::from_unix_nanos(time.0.into())
}

/// `2 weeks ago`.
pub fn ago(session: &Session, time: Timestamp) -> String {
    conex_term::ago(moment(time), session.now())
}

/// `a=1,b=2`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// `1.2GB (50%)`; the share is left out where there is nothing.
pub fn share(part: u64, whole: u64) -> String {
    let size = conex_term::human_size(part);
    if whole == 0 {
        return size;
    }
    let percent = u128::from(part) * 100 / u128::from(whole);
    format!("{size} ({percent}%)")
}
