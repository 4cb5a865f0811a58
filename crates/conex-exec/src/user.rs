//! Who a process is: the words of `USER` and `--user` against the image's user database.
//!
//! Invariant: a name that the database does not hold is an error, never silently root. The files
//! are hostile text: lines that are not well-formed are passed over.
//!
//! Does not read files: the caller passes their bytes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most bytes of `/etc/passwd` or `/etc/group` that are looked at; real ones are a few KiB.
pub const DATABASE_SIZE_MAX: usize = 16 << 20;
/// Most supplementary groups: what the kernel takes (`NGROUPS_MAX`).
const GROUP_COUNT_MAX: usize = 65_536;

/// A user as the kernel knows it, and where they are at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; the primary one is always among them (CVE-2023-25173).
    pub groups: Vec<u32>,
    /// The home folder from the database, else `/`.
    pub home: String,
}

impl ResolvedUser {
    /// Root without a database.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0], home: "/".to_owned() }
    }
}

struct Account<'t> {
    name: &'t str,
    uid: u32,
    gid: u32,
    home: &'t str,
}

struct Group<'t> {
    name: &'t str,
    gid: u32,
    members: &'t str,
}

/// Finds out who `spec` is: empty, `user`, `uid`, `user:group`, `uid:gid` and the mixtures.
///
/// A number needs no entry. A user alone brings the supplementary groups of the group database; a
/// user with a group does not.
pub fn resolve_user(
    spec: &str,
    passwd: Option<&[u8]>,
    group: Option<&[u8]>,
) -> Result<ResolvedUser> {
    let passwd = text(passwd.unwrap_or_default())?;
    let group = text(group.unwrap_or_default())?;
    let (user_word, group_word) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let (uid, account) = find_user(user_word, &passwd)?;
    let home = account.as_ref().map_or("", |account| account.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    if let Some(word) = group_word {
        let gid = find_group(word, &group)?;
        return Ok(ResolvedUser { uid, gid, groups: vec![gid], home });
    }
    let gid = account.as_ref().map_or(0, |account| account.gid);
    let mut groups = vec![gid];
    if let Some(account) = &account {
        let member_of = |group: &Group<'_>| {
            group.members.split(',').any(|member| member.trim() == account.name)
        };
        let others = parse_groups(&group).filter(member_of).map(|group| group.gid);
        groups.extend(others.take(GROUP_COUNT_MAX - 1));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(ResolvedUser { uid, gid, groups, home })
}

fn text(bytes: &[u8]) -> Result<std::borrow::Cow<'_, str>> {
    if bytes.len() > DATABASE_SIZE_MAX {
        let message = format!("the image's user database is larger than {DATABASE_SIZE_MAX} bytes");
        return Err(Error::invalid(message));
    }
    Ok(String::from_utf8_lossy(bytes))
}

fn find_user<'t>(word: &str, passwd: &'t str) -> Result<(u32, Option<Account<'t>>)> {
    let word = if word.is_empty() { "0" } else { word };
    // A name that looks like a number is tried as a name first, as runc and Docker do.
    if let Some(account) = parse_accounts(passwd).find(|account| account.name == word) {
        return Ok((account.uid, Some(account)));
    }
    let Some(uid) = number(word) else {
        let error = Error::unknown_user(format!("user `{word}` is not in the image's /etc/passwd"));
        let names = parse_accounts(passwd).map(|account| account.name);
        return Err(match conex_report::did_you_mean(word, names) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint(format!("add it first, for example with `useradd {word}`")),
        });
    };
    Ok((uid, parse_accounts(passwd).find(|account| account.uid == uid)))
}

fn find_group(word: &str, groups: &str) -> Result<u32> {
    if let Some(group) = parse_groups(groups).find(|group| group.name == word) {
        return Ok(group.gid);
    }
    number(word).ok_or_else(|| {
        let error = Error::unknown_user(format!("group `{word}` is not in the image's /etc/group"));
        let names = parse_groups(groups).map(|group| group.name);
        match conex_report::did_you_mean(word, names) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint(format!("add it first, for example with `groupadd {word}`")),
        }
    })
}

/// Reads an id; the highest two numbers mean "no id" to the kernel or do not fit an `i32`.
fn number(word: &str) -> Option<u32> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let id = if digits { word.parse::<u32>().ok() } else { None };
    id.filter(|id| *id <= i32::MAX.cast_unsigned())
}

fn parse_accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    // name:password:uid:gid:gecos:home:shell (passwd(5))
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name, uid, gid, home })
    })
}

fn parse_groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    // name:password:gid:members (group(5))
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = number(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(Group { name, gid, members })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        ann:x:1000:100:Ann:/home/ann:/bin/sh\n\
        # a comment\nbroken:x:y:z\n\
        nohome:x:7:8:::\n\
        1234:x:55:56::/strange:\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nwheel:x:10:ann,bob\nvideo:x:44:bob, ann\n\
        broken\nadm:x:4:root\n";

    fn resolved(spec: &str) -> String {
        match resolve_user(spec, Some(PASSWD), Some(GROUP)) {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.groups, user.home),
            Err(error) => format!("{error}; {}", error.hint().unwrap_or("no hint")),
        }
    }

    #[test]
    fn users_are_who_docker_says_they_are() {
        for (spec, expected) in [
            ("", "0:0 [0, 4] /root"),
            ("root", "0:0 [0, 4] /root"),
            ("ann", "1000:100 [10, 44, 100] /home/ann"),
            ("1000", "1000:100 [10, 44, 100] /home/ann"),
            ("ann:wheel", "1000:10 [10] /home/ann"),
            ("ann:", "1000:100 [10, 44, 100] /home/ann"),
            ("1000:2000", "1000:2000 [2000] /home/ann"),
            ("4242", "4242:0 [0] /"),
            ("1042:1043", "1042:1043 [1043] /"),
            ("nohome", "7:8 [8] /"),
            ("1234", "55:56 [56] /strange"),
            (":wheel", "0:10 [10] /root"),
            ("anm", "user `anm` is not in the image's /etc/passwd; did you mean `ann`?"),
            ("ann:weel", "group `weel` is not in the image's /etc/group; did you mean `wheel`?"),
            (
                "-1",
                "user `-1` is not in the image's /etc/passwd; add it first, for example with \
                 `useradd -1`",
            ),
            (
                "4294967295",
                "user `4294967295` is not in the image's /etc/passwd; add it first, for example \
                 with `useradd 4294967295`",
            ),
        ] {
            assert_eq!(resolved(spec), expected, "{spec}");
        }
    }

    #[test]
    fn numbers_need_no_database() {
        let user = resolve_user("12:34", None, None).unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (12, 34, "/"));
        assert_eq!(resolve_user("", None, None).unwrap(), ResolvedUser::root());
        assert_eq!(
            resolve_user("ann", None, None).unwrap_err().kind(),
            crate::ErrorKind::UnknownUser
        );
    }
}
