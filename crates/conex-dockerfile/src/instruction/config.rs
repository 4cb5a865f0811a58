//! Instructions that set the image's config: ARG, ENV, LABEL, EXPOSE, VOLUME, USER, WORKDIR,
//! STOPSIGNAL, MAINTAINER.

use super::Reading;
use crate::ast::{Arg, ArgDefinition, Kind, Pair, Pairs, Word};
use crate::diag;
use crate::port::PortSpec;
use crate::signal::parse_signal;
use crate::statement::{blank_separated, is_blank, quoted_words};

pub(super) fn arg(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    reading.flags(&[]);
    let args = reading.arguments("a name")?;
    let mut definitions = Vec::new();
    for quoted in quoted_words(args, reading.escape) {
        let definition = match quoted.key_value() {
            Some((name, default)) => ArgDefinition { name, default: Some(default) },
            None => ArgDefinition { name: quoted.word(), default: None },
        };
        if definition.name.raw.is_empty() {
            reading.error(diag::blank_name(quoted.word().span, "ARG"));
        }
        definitions.push(definition);
    }
    Some(Kind::Arg(Arg { args: definitions }))
}

/// ENV and LABEL: `KEY=VALUE…`, or the old `KEY VALUE`, told apart by the first word.
pub(super) fn pairs(reading: &mut Reading<'_, '_>) -> Option<Pairs> {
    reading.flags(&[]);
    let args = reading.arguments("a name and a value")?;
    let words = quoted_words(args, reading.escape);
    if words.first().is_some_and(|word| !word.text().contains('=')) {
        return legacy_pair(reading).map(|pair| Pairs { pairs: vec![pair] });
    }
    let mut pairs = Vec::new();
    for quoted in words {
        match quoted.key_value() {
            None => {
                let name = reading.name.clone();
                reading.error(diag::pair_without_value(&quoted.word(), &name));
            }
            Some((key, _)) if key.raw.is_empty() => {
                let name = reading.name.clone();
                reading.error(diag::blank_name(quoted.word().span, &name));
            }
            Some((key, value)) => pairs.push(Pair { key, value, legacy: false }),
        }
    }
    Some(Pairs { pairs })
}

fn legacy_pair(reading: &mut Reading<'_, '_>) -> Option<Pair> {
    let args = reading.statement.args;
    let text = args.text();
    let Some(end) = text.find(is_blank) else {
        let name = reading.name.clone();
        reading.error(diag::legacy_without_value(args.span(), &name));
        return None;
    };
    let value = args.from(end).trim();
    Some(Pair { key: args.sub(0..end).word(), value: value.word(), legacy: true })
}

pub(super) fn expose(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    reading.flags(&[]);
    let args = reading.arguments("a port")?;
    let words: Vec<Word> =
        blank_separated(args).iter().map(super::super::source::Part::word).collect();
    for word in words.iter().filter(|word| is_plain(word)) {
        if let Err(error) = PortSpec::parse(&word.raw) {
            reading.error(error.at(word.span));
        }
    }
    Some(Kind::Expose(words))
}

pub(super) fn volume(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    reading.flags(&[]);
    let args = reading.arguments("a path")?;
    let (mut words, _) = reading.words(args).ok()?;
    if words.is_empty() {
        reading.error(diag::needs_arguments(args.span(), "VOLUME", "a path"));
    }
    for word in &mut words {
        word.raw = word.raw.trim().to_owned();
        if word.raw.is_empty() {
            reading.error(diag::empty_volume(word.span));
        }
    }
    Some(Kind::Volume(words))
}

/// Instructions whose argument is the rest of the line.
pub(super) fn single(reading: &mut Reading<'_, '_>, expected: &str) -> Option<Word> {
    reading.flags(&[]);
    reading.arguments(expected).map(|args| args.word())
}

pub(super) fn stopsignal(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let word = single(reading, "a signal")?;
    if is_plain(&word)
        && let Err(error) = parse_signal(&word.raw)
    {
        reading.error(error.at(word.span));
    }
    Some(Kind::Stopsignal(word))
}

/// Whether a word is what it says: no variables, quotes or escapes, so that its value can be
/// checked now.
fn is_plain(word: &Word) -> bool {
    !word.raw.contains(['$', '\'', '"', '\\', '`'])
}
