//! `WWW-Authenticate` (RFC 9110, section 11.6.1): what a registry wants to see.
//!
//! Pure, and written for hostile text: limits on length and count, and what cannot be understood
//! is left out.

use crate::limits::{CHALLENGE_LEN_MAX, CHALLENGE_PARAMETERS_MAX};

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server.
        realm: String,
        /// The name of the registry there.
        service: Option<String>,
        /// What the refused request needed (`repository:a/b:pull`).
        scope: Option<String>,
        /// Why a token that was sent did not do (`insufficient_scope`, `invalid_token`).
        error: Option<String>,
    },
}

/// Reads all challenges of one header, in order. Schemes that registries do not use are left out.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    if header.len() > CHALLENGE_LEN_MAX {
        return Vec::new();
    }
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while let Some((scheme, after)) = token(rest) {
        let (parameters, next) = parameters(after.trim_start_matches([' ', '\t']));
        if let Some(challenge) = challenge(scheme, parameters) {
            found.push(challenge);
        }
        rest = next.trim_start_matches([' ', '\t', ',']);
        if found.len() >= CHALLENGE_PARAMETERS_MAX {
            break;
        }
    }
    found
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut values = [const { None }; 4];
    for (name, value) in parameters {
        let known = ["realm", "service", "scope", "error"];
        let at = known.iter().position(|known| name.eq_ignore_ascii_case(known));
        // The first of several wins: a later one may come from a sloppy proxy.
        if let Some(slot) = at.and_then(|at| values.get_mut(at)) {
            slot.get_or_insert(value);
        }
    }
    let [realm, service, scope, error] = values;
    Some(Challenge::Bearer { realm: realm?, service, scope, error })
}

/// Reads `name=value` pairs up to the next scheme, which is a word without `=` behind it.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    while found.len() < CHALLENGE_PARAMETERS_MAX {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(start) else { return (found, start) };
        let Some(after) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            return (found, start);
        };
        let after = after.trim_start_matches([' ', '\t']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => match unquoted(quoted) {
                Some(parsed) => parsed,
                None => return (found, ""),
            },
            // A token68 (`Negotiate abc==`) ends here too; its tail is skipped as rubbish.
            None => {
                let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
                let (value, next) = after.split_at(end);
                (value.to_owned(), next)
            }
        };
        found.push((name.to_owned(), value));
        rest = next;
    }
    (found, "")
}

/// Splits the token at the start of a text from what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Reads a quoted string after its opening quote; gives its value and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(header: &str) -> String {
        let challenges = parse_challenges(header);
        let shown = challenges.iter().map(|challenge| match challenge {
            Challenge::Basic => "Basic".to_owned(),
            Challenge::Bearer { realm, service, scope, error } => format!(
                "Bearer {realm} {} {} {}",
                service.as_deref().unwrap_or("-"),
                scope.as_deref().unwrap_or("-"),
                error.as_deref().unwrap_or("-")
            ),
        });
        shown.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn challenges_are_read() {
        for (header, wanted) in [
            (
                r#"Bearer realm="https://t.io/x",service="r.io",scope="repository:a/b:pull""#,
                "Bearer https://t.io/x r.io repository:a/b:pull -",
            ),
            (r#"bearer realm="r" , error="insufficient_scope""#, "Bearer r - - insufficient_scope"),
            (r#"Basic realm="x", Bearer realm="r",service=s"#, "Basic | Bearer r s - -"),
            (r#"Bearer realm=r,scope="a:b:pull,push c:d:*""#, "Bearer r - a:b:pull,push c:d:* -"),
            (r#"Basic"#, "Basic"),
            (r#"Negotiate abc==, Basic realm="x""#, "Basic"),
            (r#"Bearer realm="a\"b""#, "Bearer a\"b - - -"),
            (r#"Bearer realm="one", realm="two""#, "Bearer one - - -"),
            (r#"Bearer realm="unclosed"#, ""),
            (r#"Bearer service="s""#, ""),
            ("", ""),
            (",,,", ""),
        ] {
            assert_eq!(parsed(header), wanted, "{header}");
        }
    }

    #[test]
    fn an_endless_header_is_left_out() {
        assert!(parse_challenges(&format!("Basic {}", "x".repeat(CHALLENGE_LEN_MAX))).is_empty());
        let many = format!("Bearer {} realm=\"late\"", "a=b,".repeat(100));
        assert!(parse_challenges(&many).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_ends_without_panic(text in "[ \",=\\\\a-z]{0,200}") {
            prop_assert!(parse_challenges(&text).len() <= CHALLENGE_PARAMETERS_MAX);
        }
    }
}
