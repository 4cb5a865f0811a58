//! Keeps secret values out of logs.

/// Shortest value that is masked: a shorter one would hide ordinary words, and is no secret.
const VALUE_LEN_MIN: usize = 4;

/// What stands in for a secret.
const MASK: &[u8] = b"*****";

/// Replaces values in a stream that comes piece by piece; a value cut in two by a border between
/// pieces is found as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masker {
    /// Longest first, so that a value that holds another one goes as a whole.
    values: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Masker {
    pub(crate) fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut values: Vec<Vec<u8>> = values
            .into_iter()
            .map(|value| value.trim_ascii().to_vec())
            .filter(|value| value.len() >= VALUE_LEN_MIN)
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values, held: Vec::new() }
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
            let is_begun = |value: &Vec<u8>| value.len() > rest.len() && value.starts_with(rest);
            if rest_of_stream == Rest::MayFollow && self.values.iter().any(is_begun) {
                // Perhaps the first half of a value, or of a longer one than is there already.
                break;
            }
            if let Some(value) = self.values.iter().find(|value| rest.starts_with(value)) {
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
}
