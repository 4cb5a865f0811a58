//! The form in which the report on a layer is kept.
//!
//! A mark with the version, numbers of variable length (LEB128), the names as they are, and a
//! digest of all that at the end. Invariant: what is read back is the report that was written, or
//! an error; no bytes make the reader panic, go out of its tables or take more memory than some
//! hundred times their number.

use crate::error::{Error, Result};
use crate::layer::{Accounts, Content, Database, Kind, LayerReport, NONE, Node, ROOT, Release};
use crate::packages::{Distribution, Form, Manager, Package};

/// Changes with whatever changes the form or the meaning of a report.
const MARK: &[u8] = b"conex layer report 3\n";

pub(crate) const DIGEST_LEN: usize = 16;

impl LayerReport {
    /// Writes the report.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.names.len() + self.nodes.len() * 24 + 64);
        out.extend_from_slice(MARK);
        put(&mut out, self.entry_count);
        put(&mut out, self.tar_size);
        put_bytes(&mut out, &self.names);
        put(&mut out, self.contents.len() as u64);
        for content in &self.contents {
            put(&mut out, content.size);
            put(&mut out, u64::from(content.node));
            put(&mut out, u64::from(content.links));
            put(&mut out, u64::from(content.entry));
            put(&mut out, u64::from(content.is_whole));
            out.extend_from_slice(&content.digest);
        }
        put(&mut out, self.nodes.len() as u64);
        for node in &self.nodes {
            put_node(&mut out, node);
        }
        put(&mut out, self.databases.len() as u64);
        for database in &self.databases {
            put_database(&mut out, database);
        }
        put(&mut out, self.releases.len() as u64);
        for Release { content, distribution } in &self.releases {
            put(&mut out, u64::from(*content));
            for text in [&distribution.id, &distribution.version, &distribution.name] {
                put_bytes(&mut out, text.as_bytes());
            }
        }
        put(&mut out, self.accounts.len() as u64);
        for file in &self.accounts {
            put(&mut out, u64::from(file.node));
            put(&mut out, file.ids.len() as u64);
            for id in &file.ids {
                put(&mut out, u64::from(*id));
            }
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(&digest.as_bytes()[..DIGEST_LEN]);
        out
    }

    /// Reads a report.
    ///
    /// # Errors
    /// The bytes are none, of another version, or damaged ([`Stale`](crate::ErrorKind::Stale)).
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let end = bytes.len().checked_sub(DIGEST_LEN).ok_or_else(damaged)?;
        let (body, digest) = bytes.split_at(end);
        if !body.starts_with(MARK) {
            return Err(Error::stale("the kept report is of another version"));
        }
        if blake3::hash(body).as_bytes()[..DIGEST_LEN] != *digest {
            return Err(damaged());
        }
        Self::decode_body(body)
    }

    /// The same without the digest, which keeps a fuzzer from getting anywhere.
    fn decode_body(body: &[u8]) -> Result<Self> {
        let mut input = Input { rest: body.get(MARK.len()..).unwrap_or_default() };
        let entry_count = input.number()?;
        let tar_size = input.number()?;
        let names = input.bytes()?.to_vec();
        let count = input.count()?;
        let mut contents = Vec::with_capacity(count);
        for _ in 0..count {
            let (size, node, links) = (input.number()?, input.index()?, input.index()?);
            let (entry, is_whole) = (input.index()?, input.number()? != 0);
            let mut digest = [0; 16];
            digest.copy_from_slice(input.take(16)?);
            contents.push(Content { digest, size, node, links, is_whole, entry });
        }
        let count = input.count()?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(input.node()?);
        }
        let count = input.count()?;
        let mut databases = Vec::with_capacity(count);
        for _ in 0..count {
            databases.push(input.database()?);
        }
        let count = input.count()?;
        let mut releases = Vec::with_capacity(count);
        for _ in 0..count {
            let content = input.index()?;
            let (id, version, name) = (input.text()?, input.text()?, input.text()?);
            releases.push(Release { content, distribution: Distribution { id, version, name } });
        }
        let count = input.count()?;
        let mut accounts = Vec::with_capacity(count);
        for _ in 0..count {
            let node = input.index()?;
            let ids = (0..input.count()?).map(|_| input.index()).collect::<Result<Vec<u32>>>()?;
            accounts.push(Accounts { node, ids });
        }
        if !input.rest.is_empty() {
            return Err(damaged());
        }
        let report =
            Self { nodes, contents, names, databases, releases, accounts, entry_count, tar_size };
        report.check()?;
        Ok(report)
    }

    /// Every index is within its table, and parents come first.
    fn check(&self) -> Result<()> {
        let is_name = |at: u32, len: u16| at as usize + usize::from(len) <= self.names.len();
        let root = self.nodes.first().ok_or_else(damaged)?;
        let mut sound =
            root.parent == ROOT && root.kind.is_dir() && self.nodes.len() < NONE as usize;
        for (id, node) in self.nodes.iter().enumerate().skip(1) {
            sound &= (node.parent as usize) < id;
            sound &= node.name_len > 0;
        }
        for node in &self.nodes {
            sound &= is_name(node.name_at, node.name_len) && is_name(node.link_at, node.link_len);
            let has_content = (node.content as usize) < self.contents.len();
            sound &= has_content == (node.kind == Kind::File);
            sound &= has_content || node.content == NONE;
        }
        let is_node = |node: u32| (node as usize) < self.nodes.len();
        sound &= self.contents.iter().all(|content| is_node(content.node));
        let is_content = |content: u32| (content as usize) < self.contents.len();
        sound &= self.databases.iter().all(|database| is_content(database.content));
        sound &= self.releases.iter().all(|release| is_content(release.content));
        sound &= self.accounts.iter().all(|file| is_node(file.node));
        if sound { Ok(()) } else { Err(damaged()) }
    }

    /// Reads the body of a report without its digest, for whoever tries what bytes can do.
    #[doc(hidden)]
    pub fn decode_unsigned(body: &[u8]) -> Result<Self> {
        Self::decode_body(body)
    }
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    out.push(node.kind as u8);
    out.push(node.flags);
    put(out, u64::from(node.parent));
    put(out, u64::from(node.name_at));
    put(out, u64::from(node.name_len));
    put(out, u64::from(node.mode));
    put(out, u64::from(node.uid));
    put(out, u64::from(node.gid));
    // Zigzag: times before 1970 stay short.
    put(out, ((node.mtime << 1) ^ (node.mtime >> 63)).cast_unsigned());
    put(out, u64::from(node.content.wrapping_add(1)));
    put(out, u64::from(node.link_len));
    if node.link_len > 0 {
        put(out, u64::from(node.link_at));
    }
}

fn put_database(out: &mut Vec<u8>, database: &Database) {
    put(out, u64::from(database.content));
    out.push(database.form as u8);
    put_bytes(out, database.problem.as_bytes());
    put(out, database.packages.len() as u64);
    for package in &database.packages {
        out.push(package.manager as u8);
        for text in [
            &package.name,
            &package.version,
            &package.architecture,
            &package.source,
            &package.source_version,
            &package.license,
            &package.inside,
        ] {
            put_bytes(out, text.as_bytes());
        }
        put(out, package.size);
    }
}

pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) struct Input<'b> {
    pub(crate) rest: &'b [u8],
}

impl<'b> Input<'b> {
    pub(crate) fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or_else(damaged)?;
            self.rest = rest;
            let digit = u64::from(first & 0x7f);
            if shift == 63 && digit > 1 {
                break;
            }
            number |= digit << shift;
            if first & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    pub(crate) fn index(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| damaged())
    }

    fn short(&mut self) -> Result<u16> {
        u16::try_from(self.number()?).map_err(|_| damaged())
    }

    /// How many of something follow: each takes a byte at least.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let count = usize::try_from(self.number()?).map_err(|_| damaged())?;
        if count > self.rest.len() { Err(damaged()) } else { Ok(count) }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Result<&'b [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| damaged())
    }

    fn node(&mut self) -> Result<Node> {
        let kind = usize::from(self.take(1)?[0]);
        let kind = *Kind::ALL.get(kind).ok_or_else(damaged)?;
        let flags = self.take(1)?[0];
        let parent = self.index()?;
        let mut node = Node::new(parent, self.index()?, self.short()?);
        (node.kind, node.flags) = (kind, flags);
        node.mode = self.short()?;
        (node.uid, node.gid) = (self.index()?, self.index()?);
        let mtime = self.number()?;
        node.mtime = (mtime >> 1).cast_signed() ^ -((mtime & 1).cast_signed());
        node.content = self.index()?.wrapping_sub(1);
        node.link_len = self.short()?;
        if node.link_len > 0 {
            node.link_at = self.index()?;
        }
        Ok(node)
    }

    fn database(&mut self) -> Result<Database> {
        let content = self.index()?;
        let form = *Form::ALL.get(usize::from(self.take(1)?[0])).ok_or_else(damaged)?;
        let problem = self.text()?;
        let mut packages = Vec::new();
        for _ in 0..self.count()? {
            let manager = usize::from(self.take(1)?[0]);
            packages.push(Package {
                manager: *Manager::ALL.get(manager).ok_or_else(damaged)?,
                name: self.text()?,
                version: self.text()?,
                architecture: self.text()?,
                source: self.text()?,
                source_version: self.text()?,
                license: self.text()?,
                inside: self.text()?,
                size: self.number()?,
            });
        }
        Ok(Database { content, form, packages, problem })
    }
}

pub(crate) fn damaged() -> Error {
    Error::stale("the kept report is damaged")
}
