//! Path patterns: Go's `filepath.Match`, and the same with `**` as ignore files have it.
//!
//! Patterns and paths are bytes; `?` and classes match one character, or one byte that is not
//! UTF-8. All alternatives are followed side by side, so matching costs at most pattern times path.

use crate::error::Error;

/// Longest pattern: the kernel's longest path.
pub(crate) const GLOB_SIZE_MAX: usize = 4096;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    probe: Probe,
    matcher: Matcher,
}

/// What a path must have to match at all: a length, a first and a last byte. Most paths match no
/// pattern, and most of them are told so without following a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probe {
    size_min: usize,
    ends: u16,
    /// Which of the bits in `ends` count.
    mask: u16,
}

/// What probes ask of a path, worked out once for all patterns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathKey {
    size: usize,
    ends: u16,
}

impl PathKey {
    pub(crate) fn of(path: &[u8]) -> Self {
        let ends = [path.first(), path.last()].map(|byte| byte.copied().unwrap_or(0));
        Self { size: path.len(), ends: u16::from_be_bytes(ends) }
    }
}

impl Probe {
    fn new(size_min: usize, first: &[u8], last: &[u8]) -> Self {
        let ends = [first.first(), last.last()];
        Self {
            size_min,
            ends: u16::from_be_bytes(ends.map(|byte| byte.copied().unwrap_or(0))),
            mask: u16::from_be_bytes(ends.map(|byte| byte.map_or(0, |_| 0xff))),
        }
    }

    fn admits(self, path: PathKey) -> bool {
        path.size >= self.size_min && (path.ends ^ self.ends) & self.mask == 0
    }
}

/// Patterns that a comparison decides, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Matcher {
    /// The path itself.
    Exact(Vec<u8>),
    /// Every path that begins so.
    Prefix(Vec<u8>),
    /// Every path that ends so.
    Suffix(Vec<u8>),
    /// Every path whose last components are these; kept with a slash before them.
    Components(Vec<u8>),
    /// Every path that holds these components before its last; kept with slashes around them.
    Below(Vec<u8>),
    /// What begins and ends with these bytes and matches a program.
    Program { literal: Vec<u8>, ending: Vec<u8>, tokens: Vec<Token> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(u32),
    /// `?`
    One,
    /// `*`: any number of characters, none of them a slash.
    Star,
    /// `**/`: nothing, or anything that ends in a slash.
    Folders,
    /// `**` at the end.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

/// Whether `**` means anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stars {
    Shallow,
    Deep,
}

const SLASH: u32 = b'/' as u32;

/// Go's `filepath.Match`: `*` and `?` do not cross slashes.
pub fn glob_match(pattern: &[u8], path: &[u8]) -> Result<bool, Error> {
    Glob::new(pattern).map(|glob| glob.matches(path))
}

/// The same, with `**` for any number of folders.
pub fn glob_match_deep(pattern: &[u8], path: &[u8]) -> Result<bool, Error> {
    Glob::deep(pattern).map(|glob| glob.matches(path))
}

/// Whether a source holds wildcards, so that matching nothing is no error.
pub fn has_wildcards(pattern: &[u8]) -> bool {
    let mut escaped = false;
    pattern.iter().any(|byte| {
        let wild = !escaped && matches!(byte, b'*' | b'?' | b'[');
        escaped = !escaped && *byte == b'\\';
        wild
    })
}

impl Glob {
    /// Compiles a pattern of Go's `filepath.Match`.
    pub fn new(pattern: &[u8]) -> Result<Self, Error> {
        let tokens = tokens(pattern, Stars::Shallow)?;
        Ok(Self::of(program(tokens)))
    }

    /// Compiles a pattern in which `**` matches any number of folders.
    pub fn deep(pattern: &[u8]) -> Result<Self, Error> {
        let tokens = tokens(pattern, Stars::Deep)?;
        // Two stars directly before plain text are a suffix: `**.c` is `x/y.c` and `.c` alike.
        if let Some(suffix) = pattern.strip_prefix(b"**") {
            let special = |byte: &u8| b"*?[]\\".contains(byte);
            if !suffix.is_empty() && !suffix.starts_with(b"/") && !suffix.iter().any(special) {
                return Ok(Self::of(Matcher::Suffix(suffix.to_vec())));
            }
        }
        Ok(Self::of(shortcut(&tokens).unwrap_or_else(|| program(tokens))))
    }

    fn of(matcher: Matcher) -> Self {
        let (size_min, first, last): (usize, &[u8], &[u8]) = match &matcher {
            Matcher::Exact(exact) => (exact.len(), exact, exact),
            Matcher::Prefix(prefix) => (prefix.len(), prefix, b""),
            Matcher::Suffix(suffix) => (suffix.len(), b"", suffix),
            Matcher::Components(last) => (last.len() - 1, b"", last.get(1..).unwrap_or_default()),
            // The slash before the first component may be missing, if it is the path's first.
            Matcher::Below(inner) => (inner.len() - 1, b"", b""),
            Matcher::Program { literal, ending, .. } => {
                (literal.len().max(ending.len()), literal, ending)
            }
        };
        let probe = Probe::new(size_min, first, last);
        Self { probe, matcher }
    }

    /// Whether a whole path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.matches_keyed(PathKey::of(path), path)
    }

    #[inline]
    pub(crate) fn matches_keyed(&self, key: PathKey, path: &[u8]) -> bool {
        self.probe.admits(key) && self.matches_admitted(path)
    }

    fn matches_admitted(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            Matcher::Suffix(suffix) => path.ends_with(suffix),
            Matcher::Components(last) => path.ends_with(last) || last.get(1..) == Some(path),
            Matcher::Below(inner) => {
                let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
                inner.get(1..).is_some_and(|first| path.starts_with(first))
                    || slashes
                        .into_iter()
                        .any(|(at, _)| path.get(at..).is_some_and(|rest| rest.starts_with(inner)))
            }
            Matcher::Program { literal, ending, tokens } => {
                path.starts_with(literal)
                    && path.ends_with(ending)
                    && run(tokens, characters(path), End::Accepting)
            }
        }
    }

    /// Whether some path below a folder may match. Never says no wrongly.
    pub fn may_match_below(&self, folder: &[u8]) -> bool {
        let below = [folder, b"/"].concat();
        match &self.matcher {
            Matcher::Exact(exact) => exact.starts_with(&below),
            Matcher::Prefix(prefix) => prefix.starts_with(&below) || below.starts_with(prefix),
            Matcher::Suffix(_) | Matcher::Components(_) | Matcher::Below(_) => true,
            Matcher::Program { literal, tokens, .. } => {
                (literal.starts_with(&below) || below.starts_with(literal))
                    && run(tokens, characters(&below), End::Alive)
            }
        }
    }
}

/// Decodes to characters; a byte that is not UTF-8 becomes a number beyond all of them.
fn characters(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|byte| 0x11_0000 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(invalid)
    })
}

fn bad_pattern(pattern: &[u8], why: &str) -> Error {
    let text = String::from_utf8_lossy(pattern);
    Error::syntax(format!("`{text}` is no path pattern: {why}"))
}

fn tokens(pattern: &[u8], stars: Stars) -> Result<Vec<Token>, Error> {
    if pattern.len() > GLOB_SIZE_MAX {
        return Err(Error::limit(format!("path pattern is longer than {GLOB_SIZE_MAX} bytes")));
    }
    let mut tokens = Vec::new();
    let mut rest = characters(pattern).peekable();
    let is = |character: u32, byte: u8| character == u32::from(byte);
    while let Some(character) = rest.next() {
        let token = if is(character, b'*') {
            if stars == Stars::Deep && rest.next_if(|next| is(*next, b'*')).is_some() {
                rest.next_if(|next| is(*next, b'/'));
                if rest.peek().is_none() { Token::Rest } else { Token::Folders }
            } else {
                Token::Star
            }
        } else if is(character, b'?') {
            Token::One
        } else if is(character, b'\\') {
            let escaped = rest.next();
            Token::Literal(escaped.ok_or_else(|| bad_pattern(pattern, "it ends in `\\`"))?)
        } else if is(character, b'[') {
            class(&mut rest).map_err(|why| bad_pattern(pattern, why))?
        } else {
            Token::Literal(character)
        };
        let repeated = matches!(token, Token::Star | Token::Folders | Token::Rest)
            && tokens.last() == Some(&token);
        if !repeated {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// Reads a class behind its `[`.
fn class(rest: &mut impl Iterator<Item = u32>) -> Result<Token, &'static str> {
    const OPEN: &str = "a `[` is not closed";
    let mut next = rest.next().ok_or(OPEN)?;
    let negated = next == u32::from(b'^');
    if negated {
        next = rest.next().ok_or(OPEN)?;
    }
    let mut ranges = Vec::new();
    loop {
        if next == u32::from(b']') {
            return match ranges.is_empty() {
                true => Err("a `[]` holds nothing"),
                false => Ok(Token::Class { negated, ranges }),
            };
        }
        let first = class_character(next, rest)?;
        next = rest.next().ok_or(OPEN)?;
        let mut last = first;
        if next == u32::from(b'-') {
            let character = rest.next().ok_or(OPEN)?;
            last = class_character(character, rest)?;
            next = rest.next().ok_or(OPEN)?;
        }
        ranges.push((first, last));
    }
}

fn class_character(
    character: u32,
    rest: &mut impl Iterator<Item = u32>,
) -> Result<u32, &'static str> {
    match u8::try_from(character) {
        Ok(b'\\') => rest.next().ok_or("it ends in `\\`"),
        Ok(b'-' | b']') => Err("a `[` holds a stray `-` or `]`"),
        _ => Ok(character),
    }
}

/// The comparison that a pattern of `**` and literals comes down to.
fn shortcut(tokens: &[Token]) -> Option<Matcher> {
    let (first, last) = (tokens.first()?, tokens.last()?);
    let without_ends = |from: usize, to: usize| literals(tokens.get(from..tokens.len() - to)?);
    let slash = |bytes: Vec<u8>| [b"/", bytes.as_slice()].concat();
    match (first, last) {
        (Token::Rest, _) => Some(Matcher::Prefix(Vec::new())),
        (Token::Folders, Token::Rest) => {
            let inner = without_ends(1, 1)?;
            let whole = inner.ends_with(b"/");
            whole.then(|| Matcher::Below(slash(inner)))
        }
        (Token::Folders, _) => match tokens.get(1)? {
            // The name's beginning is free, so the folder before it is too.
            Token::Star => {
                let name = without_ends(2, 0)?;
                (!name.contains(&b'/')).then_some(Matcher::Suffix(name))
            }
            _ => Some(Matcher::Components(slash(without_ends(1, 0)?))),
        },
        (_, Token::Rest) => without_ends(0, 1).map(Matcher::Prefix),
        _ => literals(tokens).map(Matcher::Exact),
    }
}

fn literals(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for token in tokens {
        let Token::Literal(character) = token else { return None };
        push_character(&mut bytes, *character);
    }
    Some(bytes)
}

fn push_character(bytes: &mut Vec<u8>, character: u32) {
    match char::from_u32(character) {
        Some(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        // Only bytes that were not UTF-8 are numbered beyond the characters.
        None => bytes.extend(u8::try_from(character - 0x11_0000)),
    }
}

fn program(tokens: Vec<Token>) -> Matcher {
    if let Some(exact) = literals(&tokens) {
        return Matcher::Exact(exact);
    }
    let fixed = tokens.iter().take_while(|token| matches!(token, Token::Literal(_))).count();
    let literal = tokens.get(..fixed).and_then(literals).unwrap_or_default();
    let ending = tokens.rsplit(|token| !matches!(token, Token::Literal(_))).next();
    let ending = ending.and_then(literals).unwrap_or_default();
    Matcher::Program { literal, ending, tokens }
}

/// What a run asks of the program at the end of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// That the text matches.
    Accepting,
    /// That some longer text may match.
    Alive,
}

fn run(tokens: &[Token], text: impl Iterator<Item = u32>, end: End) -> bool {
    const WORD: usize = 64;
    if tokens.len() < WORD {
        return run_in(tokens, text, end, &mut [0], &mut [0]);
    }
    let words = tokens.len() / WORD + 1;
    run_in(tokens, text, end, &mut vec![0; words], &mut vec![0; words])
}

/// Follows all places of the pattern at once; the sets are one bit a place.
fn run_in(
    tokens: &[Token],
    text: impl Iterator<Item = u32>,
    end: End,
    live: &mut [u64],
    next: &mut [u64],
) -> bool {
    reach(tokens, live, 0);
    for character in text {
        next.fill(0);
        for place in places(live) {
            let Some(token) = tokens.get(place) else { continue };
            match token {
                Token::Literal(literal) if *literal == character => reach(tokens, next, place + 1),
                Token::One if character != SLASH => reach(tokens, next, place + 1),
                Token::Star if character != SLASH => reach(tokens, next, place),
                Token::Rest => reach(tokens, next, place),
                Token::Folders => {
                    set(next, place);
                    if character == SLASH {
                        reach(tokens, next, place + 1);
                    }
                }
                Token::Class { negated, ranges } => {
                    let inside =
                        ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                    if inside != *negated {
                        reach(tokens, next, place + 1);
                    }
                }
                _ => {}
            }
        }
        if next.iter().all(|word| *word == 0) {
            return false;
        }
        live.copy_from_slice(next);
    }
    match end {
        End::Accepting => places(live).any(|place| place == tokens.len()),
        End::Alive => true,
    }
}

fn places(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(index, word)| {
        let mut word = *word;
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.wrapping_sub(1);
            (bit < 64).then_some(index * 64 + bit)
        })
    })
}

fn set(places: &mut [u64], place: usize) {
    if let Some(word) = places.get_mut(place / 64) {
        *word |= 1 << (place % 64);
    }
}

/// Enters a place, and those behind it that need no character.
fn reach(tokens: &[Token], places: &mut [u64], mut place: usize) {
    set(places, place);
    while let Some(Token::Star | Token::Folders | Token::Rest) = tokens.get(place) {
        place += 1;
        set(places, place);
    }
}

#[cfg(test)]
mod tests {
    use super::{Glob, glob_match, glob_match_deep, has_wildcards};

    #[test]
    fn shallow_patterns_match_as_go_does() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("**", "a/b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            let found = glob_match(pattern.as_bytes(), path.as_bytes()).unwrap();
            assert_eq!(found, expected, "{pattern} on {path}");
        }
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]"] {
            assert!(glob_match(pattern.as_bytes(), b"a").is_err(), "{pattern}");
        }
    }

    #[test]
    fn two_stars_cross_folders() {
        for (pattern, path, expected) in [
            ("**", "a/b", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a", true),
            ("**/a", "xa", false),
            ("**a", "xa", true),
            ("**a", "x/ya", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a**", "a", true),
            ("a**", "abc/d", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("a**b", "ab", true),
            ("a**b", "ax/b", true),
            ("a**b", "axb", false),
            ("**/*.c", "x/y.c", true),
            ("**/*.c", "y.c", true),
            ("**/*.c", "y.c/z", false),
            ("**/a/**", "a/x", true),
            ("**/a/**", "x/a/y", true),
            ("**/a/**", "x/a", false),
            ("**/a/**", "xa/y", false),
            ("**/a*", "x/ab", true),
            ("**/[ab]/c", "x/a/c", true),
            ("**/**", "x", true),
            ("**/**/a", "a", true),
        ] {
            let found = glob_match_deep(pattern.as_bytes(), path.as_bytes()).unwrap();
            assert_eq!(found, expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_match_themselves() {
        assert!(glob_match(b"a\xff", b"a\xff").unwrap());
        assert!(!glob_match(b"a\xff", b"a\xfe").unwrap());
        assert!(glob_match(b"a?", b"a\xff").unwrap());
        assert!(glob_match_deep(b"**/\xff", b"x/\xff").unwrap());
    }

    #[test]
    fn a_folder_is_entered_only_if_something_below_may_match() {
        for (pattern, folder, expected) in [
            ("a/b", "a", true),
            ("a/b", "a/b", false),
            ("a/b", "c", false),
            ("a/*/c", "a/x", true),
            ("a/*/c", "b/x", false),
            ("a/*/c", "a/x/y", false),
            ("**/c", "x", true),
            ("a/**", "a/x", true),
            ("a*/c", "ab", true),
            ("a*/c", "bb", false),
        ] {
            let glob = Glob::deep(pattern.as_bytes()).unwrap();
            let found = glob.may_match_below(folder.as_bytes());
            assert_eq!(found, expected, "{pattern} below {folder}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length_times_the_path() {
        let pattern = "*a".repeat(1000);
        let path = "a".repeat(4000) + "b";
        assert!(!glob_match(pattern.as_bytes(), path.as_bytes()).unwrap());
    }

    #[test]
    fn wildcards_are_seen_unless_escaped() {
        for (pattern, expected) in
            [("a", false), ("a*", true), ("a\\*", false), ("a\\\\*", true), ("[a]", true)]
        {
            assert_eq!(has_wildcards(pattern.as_bytes()), expected, "{pattern}");
        }
    }
}
