//! `FROM`.

use super::Reading;
use crate::ast::{From, Kind};
use crate::diag;
use crate::flags::{Known, Shape};
use crate::source::Part;
use crate::statement::{Statement, blank_separated};

pub(super) fn from(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let platform = reading.flags(&[Known("platform", Shape::Value)]).take("platform");
    let args = reading.arguments("an image")?;
    let words: Vec<_> =
        blank_separated(args).iter().map(super::super::source::Part::word).collect();
    let mut words = words.into_iter();
    let parts = (words.next(), words.next(), words.next(), words.next());
    let (base, as_keyword, name) = match parts {
        (Some(base), None, ..) => (base, None, None),
        (Some(base), Some(keyword), Some(name), None) if keyword.raw.eq_ignore_ascii_case("as") => {
            (base, Some(keyword), Some(name))
        }
        _ => {
            reading.error(diag::from_arguments(args.span()));
            return None;
        }
    };
    if let Some(name) = name.as_ref().filter(|name| !is_stage_name(&name.raw)) {
        reading.error(diag::bad_stage_name(name));
    }
    Some(Kind::From(From { base, platform, as_keyword, name }))
}

/// What can be made of a `FROM` with mistakes in it.
pub(crate) fn as_far_as_understood(statement: &Statement<'_>) -> From {
    let words: Vec<_> = blank_separated(statement.args).iter().map(Part::word).collect();
    let mut words = words.into_iter();
    let base = words.next().unwrap_or_else(|| statement.args.word());
    let as_keyword = words.next().filter(|word| word.raw.eq_ignore_ascii_case("as"));
    let name = as_keyword.as_ref().and_then(|_| words.next());
    From { base, platform: None, as_keyword, name }
}

/// A letter, then letters, digits, `-`, `_` and `.`; case does not matter.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
