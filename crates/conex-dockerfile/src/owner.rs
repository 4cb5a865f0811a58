//! `--chown` and `USER`: `user[:group]`, each a name or a number.

use crate::error::Error;

/// A user with an optional group. Names are looked up by whoever has the image's `passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub user: Account,
    /// The group. Without one, `--chown` takes the group of the same number, or the named user's
    /// primary group.
    pub group: Option<Account>,
}

/// One side of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Account {
    /// A number.
    Id(u32),
    /// A name.
    Name(String),
}

impl Owner {
    /// Reads `1000`, `app`, `app:staff`, `1000:staff`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let group = group.map(|group| Account::parse(group, text)).transpose()?;
        Ok(Self { user: Account::parse(user, text)?, group })
    }
}

impl Account {
    fn parse(part: &str, whole: &str) -> Result<Self, Error> {
        let refused = |why| Err(Error::value(format!("`{whole}` is no `user[:group]`: {why}")));
        if part.is_empty() {
            return refused("a side is empty");
        }
        if part.contains([':', '/', '\0', '\n']) {
            return refused("a name has no `:`, `/` or line end");
        }
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            // The highest number means "no one" to the kernel.
            return match part.parse::<u32>() {
                Ok(id) if id != u32::MAX => Ok(Account::Id(id)),
                _ => refused("the number is too large"),
            };
        }
        Ok(Account::Name(part.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Owner};

    #[test]
    fn names_and_numbers_on_both_sides() {
        let name = |text: &str| Account::Name(text.to_owned());
        for (text, user, group) in [
            ("app", name("app"), None),
            ("1000", Account::Id(1000), None),
            ("0:0", Account::Id(0), Some(Account::Id(0))),
            ("1001:testgroup", Account::Id(1001), Some(name("testgroup"))),
            ("app:100", name("app"), Some(Account::Id(100))),
            ("a.b-c_d", name("a.b-c_d"), None),
        ] {
            assert_eq!(Owner::parse(text).unwrap(), Owner { user, group }, "{text}");
        }
        for text in ["", ":", "a:", ":b", "a:b:c", "4294967295", "99999999999", "a/b"] {
            assert!(Owner::parse(text).is_err(), "{text}");
        }
    }
}
