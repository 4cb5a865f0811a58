//! Keeps secret values out of logs.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Shortest value that is masked: a shorter one would hide ordinary words, and is no secret.
const VALUE_LEN_MIN: usize = 4;

/// Shortest line of a value with several lines that is masked on its own; a shorter one (`{`,
/// `end`) says nothing.
const LINE_LEN_MIN: usize = 8;

/// What stands in for a secret.
const MASK: &[u8] = b"*****";

/// Replaces values in a stream that comes piece by piece; a value cut in two by a border between
/// pieces is found as well. A program that shows a key rarely shows it as a whole (`sed`, a log
/// that puts a time before every line), so each line of a value counts too.
#[derive(Clone, Default)]
pub(crate) struct Masker {
    /// By first byte; longest first, so that a value that holds another one goes as a whole.
    values: Arc<BTreeMap<u8, Vec<Vec<u8>>>>,
    held: Vec<u8>,
}

impl Masker {
    pub(crate) fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut known: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        let mut add = |value: &[u8], len_min: usize| {
            let value = value.trim_ascii();
            if let Some(first) = value.first()
                && value.len() >= len_min
            {
                known.entry(*first).or_default().push(value.to_vec());
            }
        };
        for value in values {
            add(&value, VALUE_LEN_MIN);
            value.split(|byte| *byte == b'\n').for_each(|line| add(line, LINE_LEN_MIN));
        }
        for same_first in known.values_mut() {
            same_first.sort_by(|one, two| two.len().cmp(&one.len()).then_with(|| one.cmp(two)));
            same_first.dedup();
        }
        Self { values: Arc::new(known), held: Vec::new() }
    }

    /// Takes a piece and gives what is safe to show by now.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return piece.to_vec();
        }
        self.held.extend_from_slice(piece);
        self.show(Rest::MayFollow)
    }

    /// Gives what was held back, at the end of the stream.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.show(Rest::IsAll)
    }

    fn show(&mut self, rest_of_stream: Rest) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let values = self.values.get(&rest[0]).map(Vec::as_slice).unwrap_or_default();
            let is_begun = |value: &Vec<u8>| value.len() > rest.len() && value.starts_with(rest);
            if rest_of_stream == Rest::MayFollow && values.iter().any(is_begun) {
                // Perhaps the first half of a value, or of a longer one than is there already.
                break;
            }
            if let Some(value) = values.iter().find(|value| rest.starts_with(value)) {
                shown.extend_from_slice(MASK);
                at += value.len();
            } else {
                shown.push(rest[0]);
                at += 1;
            }
        }
        self.held.drain(..at);
        shown
    }
}

/// Whether more of a stream comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    MayFollow,
    IsAll,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_wherever_pieces_end() {
        let text = b"a hunter2 b hunter22 hunt hunter2";
        for cut in 0..text.len() {
            let mut masker =
                Masker::new([b"hunter2\n".to_vec(), b"abc".to_vec(), b"hunter22".to_vec()]);
            let mut shown = masker.push(&text[..cut]);
            shown.extend(masker.push(&text[cut..]));
            shown.extend(masker.finish());
            assert_eq!(shown, b"a ***** b ***** hunt *****", "{cut}");
        }
    }

    #[test]
    fn lines_of_a_value_are_masked_alone() {
        let key = b"-----BEGIN KEY-----\nc2VjcmV0IGxpbmU\nshort\n-----END KEY-----\n";
        let text = b"1: -----BEGIN KEY-----\n2: c2VjcmV0IGxpbmU\r\n3: short\n4: c2VjcmV0IGxpbm\n";
        for cut in 0..text.len() {
            let mut masker = Masker::new([key.to_vec()]);
            let mut shown = masker.push(&text[..cut]);
            shown.extend(masker.push(&text[cut..]));
            shown.extend(masker.finish());
            let shown = String::from_utf8(shown).unwrap();
            assert_eq!(shown, "1: *****\n2: *****\r\n3: short\n4: c2VjcmV0IGxpbm\n", "{cut}");
        }
        let mut masker = Masker::new([key.to_vec()]);
        assert_eq!([masker.push(key), masker.finish()].concat(), b"*****\n", "whole");
    }
}
