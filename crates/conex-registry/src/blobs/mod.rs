//! Where the bytes of blobs lie, behind one trait: objects that are written once and never again
//! under the same name, and uploads that become objects.
//!
//! The methods may wait for a disk or a network: they are called on threads that may.

mod files;
mod hash;

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use conex_oci::{Algorithm, Digest};

use crate::error::Result;
use crate::name::Name;
use crate::time::Moment;

pub(crate) use files::FileBlobs;

/// Parts that all objects are looked through in.
pub(crate) const PART_COUNT: usize = 512;

/// The name of the bytes of a blob. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Object(String);

impl Object {
    /// The name as a row has it.
    pub(crate) fn from_row(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a path below the folder of blobs; none if a damaged row would lead elsewhere.
    fn path(&self) -> Option<&Path> {
        let is_plain = self.0.split('/').count() == 3
            && self.0.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        is_plain.then(|| Path::new(&self.0))
    }
}

/// The name of an upload: random, so that nobody can guess another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UploadId(String);

impl UploadId {
    /// Draws one.
    pub(crate) fn draw() -> Result<Self> {
        let bytes = random::<16>()?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )))
    }

    /// Reads one; none if it was never drawn here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        is_valid.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    let failed = |source: rustix::io::Errno| {
        crate::error::Error::system("draw a random number", source.into())
    };
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(failed)?;
    if count == COUNT { Ok(bytes) } else { Err(failed(rustix::io::Errno::AGAIN)) }
}

/// What became of an upload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Its bytes are durable in an object of this size.
    Object(Object, u64),
    /// Its bytes have another digest. They are gone.
    Mismatch(Digest),
}

/// An upload that is being written to, by one request at a time.
pub(crate) trait Upload: Send + Sync {
    /// How many bytes are there.
    fn size(&self) -> u64;

    /// Adds bytes: all of them or, when it fails, none.
    fn append(&mut self, pieces: &[Bytes]) -> Result<()>;

    /// Notes how far it is, so that another process can go on.
    fn suspend(&mut self);

    /// Makes it an object, durable, if its bytes have the digest.
    fn finish(self: Box<Self>, digest: &Digest) -> Result<Finished>;

    /// Removes it.
    fn discard(self: Box<Self>) -> Result<()>;
}

/// Where the bytes of blobs lie.
pub(crate) trait Blobs: Send + Sync {
    /// Begins an upload to a repository.
    fn begin(&self, of: &Name, id: &UploadId, algorithm: Algorithm) -> Result<()>;

    /// How many bytes of an upload are there; none if there is no such upload.
    fn uploaded(&self, of: &Name, id: &UploadId) -> Result<Option<u64>>;

    /// Goes on with an upload, of this process or an earlier one.
    fn resume(&self, of: &Name, id: &UploadId) -> Result<Option<Box<dyn Upload>>>;

    /// Removes uploads that nobody wrote to since a moment. Gives how many.
    fn expire(&self, since: Moment) -> Result<usize>;

    /// Opens an object; none if it is gone or has another size.
    fn open(&self, object: &Object, size: u64) -> Result<Option<File>>;

    /// Objects of one part of all, that have been there since before a moment.
    fn old_objects(&self, part: usize, since: Moment) -> Result<Vec<Object>>;

    /// Whether an earlier process did not end well: there may be objects that it never settled.
    fn is_interrupted(&self) -> bool;

    /// Notes that those are gone.
    fn mended(&self);

    /// Whether an object was made and not settled yet. One that is not, and that was there before,
    /// has its row or will never have one.
    fn is_pending(&self, object: &Object) -> bool;

    /// Notes that it is decided whether a row names an object.
    fn settle(&self, object: &Object);

    /// Removes an object. One that is gone already is as good.
    fn remove(&self, object: &Object) -> Result<()>;
}
