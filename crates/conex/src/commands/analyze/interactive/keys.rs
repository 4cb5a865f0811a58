//! Keys, as terminals send them.

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// With the letter that goes with it.
    Ctrl(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    Enter,
    Escape,
    Backspace,
}

/// Longest sequence waited for: what is longer is no key.
const SEQUENCE_LEN_MAX: usize = 16;

/// Puts keys together from bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Keys {
    rest: Vec<u8>,
}

impl Keys {
    /// Takes what was read; gives the keys that are whole.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while !self.rest.is_empty() {
            let Some((key, used)) = first(&self.rest) else { break };
            self.rest.drain(..used);
            keys.extend(key);
        }
        if self.rest.len() > SEQUENCE_LEN_MAX {
            self.rest.clear();
        }
        keys
    }

    /// Nothing more came: an escape that waits was the key itself.
    pub fn timed_out(&mut self) -> Vec<Key> {
        let was_escape = self.rest.first() == Some(&0x1b);
        self.rest.clear();
        if was_escape { vec![Key::Escape] } else { Vec::new() }
    }
}

/// The first key and its length; none if more has to come.
fn first(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let key = match bytes {
        [0x1b, b'[' | b'O', rest @ ..] => {
            let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            return Some((sequence(&rest[..=end]), 3 + end));
        }
        [0x1b] => return None,
        [0x1b, ..] => Key::Escape,
        [b'\t', ..] => Key::Tab,
        [b'\r' | b'\n', ..] => Key::Enter,
        [0x7f | 0x08, ..] => Key::Backspace,
        // Ctrl and the space bar.
        [0, ..] => Key::Ctrl(' '),
        [code @ 1..=26, ..] => Key::Ctrl(char::from(b'a' + code - 1)),
        // Ctrl and the slash, which is Ctrl and the underscore.
        [0x1f, ..] => Key::Ctrl('/'),
        [0x1c..=0x1e, ..] => return Some((None, 1)),
        [first, ..] => {
            let len = match first {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            let text = bytes.get(..len)?;
            let char = std::str::from_utf8(text).ok().and_then(|text| text.chars().next());
            return match char {
                Some(char) => Some((Some(Key::Char(char)), len)),
                None => Some((None, 1)),
            };
        }
        [] => return None,
    };
    Some((Some(key), 1))
}

fn sequence(rest: &[u8]) -> Option<Key> {
    match rest {
        [.., b'A'] => Some(Key::Up),
        [.., b'B'] => Some(Key::Down),
        [.., b'C'] => Some(Key::Right),
        [.., b'D'] => Some(Key::Left),
        [.., b'H'] | [b'1' | b'7', .., b'~'] => Some(Key::Home),
        [.., b'F'] | [b'4' | b'8', .., b'~'] => Some(Key::End),
        [b'5', .., b'~'] => Some(Key::PageUp),
        [b'6', .., b'~'] => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_together_from_pieces() {
        for (pieces, expected) in [
            (&[&b"q"[..]][..], &[Key::Char('q')][..]),
            (&[b"\x1b[A\x1bOB"], &[Key::Up, Key::Down]),
            (&[b"\x1b", b"[", b"5~"], &[Key::PageUp]),
            (&[b"\x1b[1;5C"], &[Key::Right]),
            (
                &[b"\x01\x06\x1f\x00"],
                &[Key::Ctrl('a'), Key::Ctrl('f'), Key::Ctrl('/'), Key::Ctrl(' ')],
            ),
            (&[b"\r\t\x7f"], &[Key::Enter, Key::Tab, Key::Backspace]),
            (&["ä".as_bytes()], &[Key::Char('ä')]),
            (&[b"\xff\xfe"], &[]),
            (&[b"\x1b[200~x"], &[Key::Char('x')]),
        ] {
            let mut keys = Keys::default();
            let found: Vec<Key> = pieces.iter().flat_map(|piece| keys.take(piece)).collect();
            assert_eq!(found, expected, "{pieces:?}");
        }
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"\x1b"), []);
        assert_eq!(keys.timed_out(), [Key::Escape]);
    }
}
