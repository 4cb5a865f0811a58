//! `RUN --mount`: read in two steps, because its values expand.
//!
//! A [`MountFlag`] is what the parser sees: keys with unexpanded values. [`MountFlag::resolve`]
//! expands each value on its own, so that a comma in a variable does not start a new key, and makes
//! a [`Mount`]. The order of the keys does not matter, `type` included.
//!
//! A key that means nothing for the mount's type is an error, never ignored.

use std::fmt;

use conex_report::Span;

use crate::ast::Word;
use crate::chmod::MODE_MAX;
use crate::duration::parse_size;
use crate::error::{Error, suggestion};
use crate::path;

/// A `--mount` with unexpanded values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// Where the flag stands.
    pub span: Span,
    /// Its keys in order.
    pub fields: Vec<MountField>,
}

/// One `key=value` or `key` of a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key in lower case.
    pub key: String,
    /// The unexpanded value; `None` for a key alone.
    pub value: Option<Word>,
}

/// What a `RUN` finds mounted. Targets may be relative: to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Files of the context, a stage or an image.
    Bind(BindMount),
    /// A folder that lives on from build to build.
    Cache(CacheMount),
    /// Memory.
    Tmpfs(TmpfsMount),
    /// A secret, as a file, a variable, or both.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// `type=bind`, the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Where it is mounted; empty for the working directory itself.
    pub target: String,
    /// The path within `from`; empty for its root.
    pub source: String,
    /// A stage, an image or a named context; `None` is the build context.
    pub from: Option<String>,
    /// Whether the command may write; what it writes is thrown away.
    pub writable: bool,
}

/// `type=cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Which cache; by default named for its target.
    pub id: String,
    /// Where it is mounted.
    pub target: String,
    /// The path within `from` that a new cache starts with.
    pub source: String,
    /// What a new cache starts with; `None` is empty.
    pub from: Option<String>,
    /// Whether the command may not write.
    pub read_only: bool,
    /// What builds at the same time do.
    pub sharing: Sharing,
    /// The mode of a new cache's folder; by default 0755.
    pub mode: Option<u32>,
    /// The owner of a new cache's folder; by default 0.
    pub uid: Option<u32>,
    /// The group of a new cache's folder; by default 0.
    pub gid: Option<u32>,
}

/// What builds that use one cache at the same time do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// All use it together.
    #[default]
    Shared,
    /// Each gets its own.
    Private,
    /// One after the other.
    Locked,
}

/// `type=tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Where it is mounted.
    pub target: String,
    /// The most it may hold, in bytes.
    pub size: Option<u64>,
    /// Whether the command may not write.
    pub read_only: bool,
}

/// `type=secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// The file it appears as; `None` only with `env`.
    pub target: Option<String>,
    /// The variable it appears as.
    pub env: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// The file's mode; by default 0400.
    pub mode: u32,
    /// The file's owner.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
}

/// `type=ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// Which agent; by default `default`.
    pub id: String,
    /// The socket's path; `None` is `/run/buildkit/ssh_agent.N`, counting from 0.
    pub target: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// The socket's mode; by default 0600.
    pub mode: u32,
    /// The socket's owner.
    pub uid: u32,
    /// The socket's group.
    pub gid: u32,
}

/// The type word of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum MountType {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

/// Every key, its canonical name, and the types it means something for.
const KEYS: [(&str, &str, &[MountType]); 19] = {
    use MountType::{Bind, Cache, Secret, Ssh, Tmpfs};
    const ALL: &[MountType] = &[Bind, Cache, Tmpfs, Secret, Ssh];
    const OWNED: &[MountType] = &[Cache, Secret, Ssh];
    [
        ("type", "type", ALL),
        ("target", "target", ALL),
        ("dst", "target", ALL),
        ("destination", "target", ALL),
        ("source", "source", &[Bind, Cache, Secret]),
        ("src", "source", &[Bind, Cache, Secret]),
        ("from", "from", &[Bind, Cache]),
        ("readonly", "readonly", ALL),
        ("ro", "readonly", ALL),
        ("readwrite", "readwrite", ALL),
        ("rw", "readwrite", ALL),
        ("id", "id", OWNED),
        ("sharing", "sharing", &[Cache]),
        ("size", "size", &[Tmpfs]),
        ("required", "required", &[Secret, Ssh]),
        ("env", "env", &[Secret]),
        ("mode", "mode", OWNED),
        ("uid", "uid", OWNED),
        ("gid", "gid", OWNED),
    ]
};

impl MountFlag {
    /// Reads the value of a `--mount`, quotes of the flag already removed.
    pub(crate) fn read(text: &str, span: Span) -> Result<Self, Error> {
        let fields = comma_separated(text)?;
        let fields = fields
            .into_iter()
            .map(|field| {
                let (key, value) = match field.split_once('=') {
                    Some((key, value)) => (key, Some(Word { raw: value.to_owned(), span })),
                    None => (field.as_str(), None),
                };
                MountField { key: key.to_ascii_lowercase(), value }
            })
            .collect();
        Ok(Self { span, fields })
    }

    /// The values that expand.
    pub fn values(&self) -> impl Iterator<Item = &Word> {
        self.fields.iter().filter_map(|field| field.value.as_ref())
    }

    /// The unexpanded `from`, which never holds a variable.
    pub fn from(&self) -> Option<&Word> {
        let mut fields = self.fields.iter().rev();
        fields.find(|field| field.key == "from").and_then(|field| field.value.as_ref())
    }

    /// Whether a value holds a variable, so that the mount's meaning is open until the build.
    pub fn has_variables(&self) -> bool {
        self.values().any(|value| value.raw.contains('$'))
    }

    /// Makes the mount, with a function that expands one value.
    pub fn resolve(
        &self,
        mut expand: impl FnMut(&Word) -> Result<String, Error>,
    ) -> Result<Mount, Error> {
        let mut draft = Draft::default();
        for field in &self.fields {
            let value = field.value.as_ref().map(&mut expand).transpose()?;
            draft.set(&field.key, value)?;
        }
        draft.finish()
    }
}

impl Mount {
    /// Reads a whole `--mount` value that needs no more expansion.
    pub fn parse(expanded: &str) -> Result<Self, Error> {
        let nowhere = Span::new((1, 1), (1, 1));
        MountFlag::read(expanded, nowhere)?.resolve(|value| Ok(value.raw.clone()))
    }
}

/// The keys as they come, before the type has its say.
#[derive(Default)]
struct Draft {
    seen: Vec<&'static str>,
    kind: Option<MountType>,
    target: String,
    source: String,
    from: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    size: Option<u64>,
    required: bool,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Draft {
    fn set(&mut self, key: &str, value: Option<String>) -> Result<(), Error> {
        let Some((_, name, _)) = KEYS.iter().find(|(known, _, _)| *known == key) else {
            let hint = suggestion(key, KEYS.iter().map(|(known, _, _)| *known));
            return Err(Error::syntax(format!("mount has no key `{key}`")).with_hint(hint));
        };
        self.seen.push(name);
        let Some(value) = value else {
            match *name {
                "readonly" => self.read_only = Some(true),
                "readwrite" => self.read_only = Some(false),
                "required" => self.required = true,
                _ => return Err(Error::syntax(format!("mount key `{key}` needs a value"))),
            }
            return Ok(());
        };
        match *name {
            "type" => self.kind = Some(mount_type(&value)?),
            "target" => self.target = value,
            "source" => self.source = value,
            "from" => self.from = Some(value).filter(|from| !from.is_empty()),
            "readonly" => self.read_only = Some(boolean(key, &value)?),
            "readwrite" => self.read_only = Some(!boolean(key, &value)?),
            "required" => self.required = boolean(key, &value)?,
            "id" => self.id = Some(value).filter(|id| !id.is_empty()),
            "sharing" => self.sharing = Some(sharing(&value)?),
            "size" => self.size = Some(parse_size(&value)?),
            "env" => self.env = Some(value),
            "mode" => self.mode = Some(mode(&value)?),
            "uid" => self.uid = Some(number(key, &value)?),
            // The table of keys names nothing else.
            _ => self.gid = Some(number(key, &value)?),
        }
        Ok(())
    }

    fn finish(self) -> Result<Mount, Error> {
        let kind = self.kind.unwrap_or(MountType::Bind);
        for name in &self.seen {
            let known = KEYS.iter().find(|(_, canonical, _)| canonical == name);
            if known.is_some_and(|(_, _, types)| !types.contains(&kind)) {
                return Err(Error::syntax(format!("mount of type `{kind}` has no key `{name}`")));
            }
        }
        if self.target.is_empty() && matches!(kind, MountType::Cache | MountType::Tmpfs) {
            return Err(Error::syntax(format!("mount of type `{kind}` needs a `target`")));
        }
        if !self.target.is_empty() && path::clean_text(&self.target) == "/" {
            return Err(Error::value("mount cannot have the target `/`"));
        }
        Ok(match kind {
            MountType::Bind => Mount::Bind(BindMount {
                target: self.target,
                source: self.source,
                from: self.from,
                writable: self.read_only == Some(false),
            }),
            MountType::Cache => Mount::Cache(CacheMount {
                id: self.id.unwrap_or_else(|| path::clean_text(&self.target)),
                target: self.target,
                source: self.source,
                from: self.from,
                read_only: self.read_only == Some(true),
                sharing: self.sharing.unwrap_or_default(),
                mode: self.mode,
                uid: self.uid,
                gid: self.gid,
            }),
            MountType::Tmpfs => Mount::Tmpfs(TmpfsMount {
                target: self.target,
                size: self.size.filter(|size| *size > 0),
                read_only: self.read_only == Some(true),
            }),
            MountType::Secret => Mount::Secret(self.secret()?),
            MountType::Ssh => Mount::Ssh(SshMount {
                id: self.id.unwrap_or_else(|| "default".to_owned()),
                target: Some(self.target).filter(|target| !target.is_empty()),
                required: self.required,
                mode: self.mode.unwrap_or(0o600),
                uid: self.uid.unwrap_or(0),
                gid: self.gid.unwrap_or(0),
            }),
        })
    }

    fn secret(self) -> Result<SecretMount, Error> {
        let source = Some(self.source).filter(|source| !source.is_empty());
        let target = Some(self.target).filter(|target| !target.is_empty());
        if source.is_some() && self.id.is_some() {
            return Err(Error::syntax("secret mount has both `id` and `source`"));
        }
        let named = source.or(self.id);
        let id = match (named, &target) {
            (Some(id), _) => id,
            (None, Some(target)) => path::base(target).to_owned(),
            (None, None) => return Err(Error::syntax("secret mount needs an `id`")),
        };
        let env = self.env.map(|name| if name.is_empty() { id.clone() } else { name });
        let target = match target {
            None if env.is_none() => Some(format!("/run/secrets/{}", path::base(&id))),
            target => target,
        };
        Ok(SecretMount {
            id,
            target,
            env,
            required: self.required,
            mode: self.mode.unwrap_or(0o400),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        })
    }
}

impl fmt::Display for MountType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TYPES.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| *name);
        formatter.write_str(name)
    }
}

fn mount_type(value: &str) -> Result<MountType, Error> {
    let lower = value.to_ascii_lowercase();
    let found = TYPES.iter().find(|(name, _)| *name == lower);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        Error::value(format!("`{value}` is no mount type"))
            .with_hint(suggestion(value, TYPES.iter().map(|(name, _)| *name)))
    })
}

fn sharing(value: &str) -> Result<Sharing, Error> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(Error::value(format!("`{value}` is no way to share a cache"))
            .with_hint(Some("`sharing` is `shared`, `private` or `locked`".to_owned()))),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::value(format!("mount key `{key}` is `true` or `false`, not `{value}`"))),
    }
}

fn mode(value: &str) -> Result<u32, Error> {
    let octal = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let mode = if octal { u32::from_str_radix(value, 8).ok() } else { None };
    mode.filter(|mode| *mode <= MODE_MAX)
        .ok_or_else(|| Error::value(format!("mount key `mode` is an octal mode, not `{value}`")))
}

fn number(key: &str, value: &str) -> Result<u32, Error> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse::<u32>().ok() } else { None };
    number.ok_or_else(|| Error::value(format!("mount key `{key}` is a number, not `{value}`")))
}

/// Cuts at commas. A field may stand in double quotes, and then holds commas, and quotes doubled.
fn comma_separated(text: &str) -> Result<Vec<String>, Error> {
    let stray = || Error::syntax("mount has a `\"` that is not around a whole field");
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, behind) = quoted_field(quoted)
                    .ok_or_else(|| Error::syntax("mount has a `\"` that is not closed"))?;
                rest = behind;
                field
            }
            None => {
                let (field, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err(stray());
                }
                rest = behind;
                field.to_owned()
            }
        };
        if field.is_empty() {
            return Err(Error::syntax("mount has an empty key"));
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(stray()),
        }
    }
}

/// Reads up to the closing quote; two quotes in a row are one in the text.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, behind)),
        }
    }
}
