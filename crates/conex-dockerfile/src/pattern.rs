//! The shell patterns of `${v#…}`, `${v%…}` and `${v/…/…}`: `*` is any text, `?` any character, and
//! both stop at the end of a line; `\` takes the next character as it is. No bracket expressions.
//!
//! Matching walks all alternatives side by side, so its cost is pattern times value, whatever the
//! pattern.

use crate::error::Error;
use crate::expand::too_large;
use crate::limits::{EXPANSION_SIZE_MAX, PATTERN_SIZE_MAX};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Text,
    One,
    Literal(char),
}

impl Token {
    fn takes(self, character: char) -> bool {
        match self {
            Token::Text | Token::One => character != '\n',
            Token::Literal(literal) => literal == character,
        }
    }
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Text,
                '?' => Token::One,
                '\\' => match characters.next() {
                    // `}` and `/` are escaped for the sake of `${…}` around the pattern.
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => {
                        let escaped = other.map(String::from).unwrap_or_default();
                        return Err(Error::syntax(format!(
                            "pattern `{text}` has the unknown escape `\\{escaped}`"
                        )));
                    }
                },
                literal => Token::Literal(literal),
            });
        }
        tokens.dedup_by(|next, before| *next == Token::Text && *before == Token::Text);
        if tokens.len() > PATTERN_SIZE_MAX {
            return Err(Error::limit(format!(
                "pattern is longer than {PATTERN_SIZE_MAX} characters"
            )));
        }
        Ok(Self { tokens })
    }

    pub(crate) fn without_prefix<'v>(&self, value: &'v str, longest: bool) -> &'v str {
        let end = anchored(&self.tokens, value.char_indices().map(at_end), longest);
        end.and_then(|end| value.get(end..)).unwrap_or(value)
    }

    pub(crate) fn without_suffix<'v>(&self, value: &'v str, longest: bool) -> &'v str {
        let reversed: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let characters = value.char_indices().rev();
        let taken = anchored(
            &reversed,
            characters.map(|(at, character)| (value.len() - at, character)),
            longest,
        );
        taken.and_then(|taken| value.get(..value.len() - taken)).unwrap_or(value)
    }

    pub(crate) fn replace(
        &self,
        value: &str,
        replacement: &str,
        every: bool,
    ) -> Result<String, Error> {
        let mut result = String::new();
        let mut copied = 0;
        let mut from = 0;
        let mut last_end = None;
        while let Some((start, end)) = self.find(value, from) {
            let empty = start == end;
            // An empty match right behind a match is part of it.
            if !(empty && last_end == Some(start)) {
                result.push_str(value.get(copied..start).unwrap_or(""));
                result.push_str(replacement);
                copied = end;
                last_end = Some(end);
                if result.len() > EXPANSION_SIZE_MAX {
                    return Err(too_large());
                }
                if !every {
                    break;
                }
            }
            from = end;
            if empty {
                match value.get(end..).and_then(|rest| rest.chars().next()) {
                    Some(character) => from += character.len_utf8(),
                    None => break,
                }
            }
        }
        result.push_str(value.get(copied..).unwrap_or(""));
        Ok(result)
    }

    /// The leftmost match that begins at or behind `from`, as long as it can be.
    fn find(&self, value: &str, from: usize) -> Option<(usize, usize)> {
        let accept = self.tokens.len();
        // For each place in the pattern, the leftmost start that has reached it.
        let mut live: Vec<Option<usize>> = vec![None; accept + 1];
        let mut next = live.clone();
        let mut best: Option<(usize, usize)> = None;
        let tail = value.get(from..)?;
        let characters = tail.char_indices().map(|(at, c)| (from + at, Some(c)));
        for (at, character) in characters.chain([(value.len(), None)]) {
            if best.is_none() {
                reach(&self.tokens, &mut live, 0, at);
            }
            if let Some(start) = live[accept]
                && best.is_none_or(|(first, _)| start <= first)
            {
                best = Some((start, at));
            }
            let Some(character) = character else { break };
            next.fill(None);
            let mut alive = false;
            for (place, token) in self.tokens.iter().enumerate() {
                let Some(start) = live[place] else { continue };
                if best.is_some_and(|(first, _)| start > first) || !token.takes(character) {
                    continue;
                }
                alive = true;
                let target = if *token == Token::Text { place } else { place + 1 };
                reach(&self.tokens, &mut next, target, start);
            }
            std::mem::swap(&mut live, &mut next);
            if best.is_some() && !alive {
                break;
            }
        }
        best
    }
}

fn at_end((at, character): (usize, char)) -> (usize, char) {
    (at + character.len_utf8(), character)
}

/// Enters a place of the pattern, and those behind it that need no character.
fn reach(tokens: &[Token], places: &mut [Option<usize>], mut place: usize, start: usize) {
    loop {
        match &mut places[place] {
            Some(known) if *known <= start => return,
            entry => *entry = Some(start),
        }
        if tokens.get(place) != Some(&Token::Text) {
            return;
        }
        place += 1;
    }
}

/// How far a match that begins at the first character reaches: shortest or longest. Each character
/// comes with the length of the text up to and including it.
fn anchored(
    tokens: &[Token],
    characters: impl Iterator<Item = (usize, char)>,
    longest: bool,
) -> Option<usize> {
    let mut live = vec![None; tokens.len() + 1];
    let mut next = live.clone();
    reach(tokens, &mut live, 0, 0);
    let mut best = live[tokens.len()].map(|_| 0);
    for (length, character) in characters {
        if best.is_some() && !longest {
            break;
        }
        next.fill(None);
        let mut alive = false;
        for (place, token) in tokens.iter().enumerate() {
            if live[place].is_some() && token.takes(character) {
                alive = true;
                let target = if *token == Token::Text { place } else { place + 1 };
                reach(tokens, &mut next, target, 0);
            }
        }
        std::mem::swap(&mut live, &mut next);
        if live[tokens.len()].is_some() {
            best = Some(length);
        }
        if !alive {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn ends_are_cut_at_the_shortest_or_longest_match() {
        for (value, pattern, prefix, prefix_long, suffix, suffix_long) in [
            ("a.b.c", "*.", "b.c", "c", "a.b.c", "a.b.c"),
            ("a.b.c", ".*", "a.b.c", "a.b.c", "a.b", "a"),
            ("a/b/c", "*/", "b/c", "c", "a/b/c", "a/b/c"),
            ("abc", "*", "abc", "", "abc", ""),
            ("abc", "?", "bc", "bc", "ab", "ab"),
            ("abc", "", "abc", "abc", "abc", "abc"),
            ("a*c", "a\\*", "c", "c", "a*c", "a*c"),
            ("üöä", "?ö", "ä", "ä", "üöä", "üöä"),
            ("a\nb", "*b", "a\nb", "a\nb", "a\n", "a\n"),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert_eq!(compiled.without_prefix(value, false), prefix, "# {value} {pattern}");
            assert_eq!(compiled.without_prefix(value, true), prefix_long, "## {value} {pattern}");
            assert_eq!(compiled.without_suffix(value, false), suffix, "% {value} {pattern}");
            assert_eq!(compiled.without_suffix(value, true), suffix_long, "%% {value} {pattern}");
        }
    }

    #[test]
    fn the_first_or_every_match_is_replaced() {
        for (value, pattern, with, first, every) in [
            ("aba", "a", "x", "xba", "xbx"),
            ("aba", "*", "x", "x", "x"),
            ("abcabc", "a*b", "x", "xc", "xc"),
            ("abc", "", "-", "-abc", "-a-b-c-"),
            ("aaa", "aa", "b", "ba", "ba"),
            ("abc", "z*", "-", "abc", "abc"),
            ("a/b/c", "\\/", ":", "a:b/c", "a:b:c"),
            ("ab\nab", "a*", "x", "x\nab", "x\nx"),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert_eq!(compiled.replace(value, with, false).unwrap(), first, "{value} {pattern}");
            assert_eq!(compiled.replace(value, with, true).unwrap(), every, "{value} {pattern}");
        }
    }

    #[test]
    fn unknown_escapes_and_huge_patterns_are_errors() {
        assert!(Pattern::new("\\a").is_err());
        assert!(Pattern::new("\\").is_err());
        assert!(Pattern::new(&"?".repeat(2000)).is_err());
        assert!(Pattern::new(&"*".repeat(2000)).is_ok());
    }
}
