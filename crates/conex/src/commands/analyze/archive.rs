//! An image archive that is an uncompressed file: read in place, so that what is not needed is not
//! read at all.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use conex_layer::{EntryKind, Format, TarLimits, TarReader, sniff};
use conex_oci::{Digest, MANIFEST_SIZE_MAX};

use crate::error::{CliError, Result};

/// Most entries: a layout of a thousand images has some ten thousand.
const ENTRY_COUNT_MAX: usize = 1_000_000;

/// Longest path in an archive of images.
const PATH_LEN_MAX: usize = 4096;

/// Largest document read from one: configs have a limit of 8 MiB.
const DOCUMENT_SIZE_MAX: u64 = 8 << 20;

const BLOCK_SIZE: u64 = 512;

/// A file that was changed this long ago does not change again within the same moment, as coarse as
/// moments of a file system may be.
const SETTLED_SECONDS: i64 = 2;

/// A part of a file, as a reader.
#[derive(Debug, Clone)]
pub struct Slice {
    file: Arc<File>,
    at: u64,
    pub size: u64,
}

/// Reads a slice from its beginning.
pub struct SliceReader {
    slice: Slice,
}

impl Slice {
    /// All of a file.
    pub fn whole(file: File) -> Result<Self> {
        let size = file.metadata().map_err(|error| CliError::because("cannot read a layer", error));
        Ok(Self { size: size?.len(), file: Arc::new(file), at: 0 })
    }

    /// A part of a file that may have others.
    pub fn part(file: Arc<File>, at: u64, size: u64) -> Self {
        Self { file, at, size }
    }

    /// Whether it begins as compressed streams do.
    pub fn is_compressed(&self) -> bool {
        let mut head = [0; 6];
        let count = self.file.read_at(&mut head, self.at).unwrap_or(0);
        sniff(head.get(..count).unwrap_or_default()) != Format::Plain
    }

    pub fn reader(&self) -> SliceReader {
        SliceReader { slice: self.clone() }
    }

    /// A text that stands for these bytes as long as nobody has written to the file, if that was
    /// not just now: who changes a file cannot keep its time of change.
    pub fn identity(&self, now: i64) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let about = self.file.metadata().ok()?;
        let is_settled = about.ctime() < now - SETTLED_SECONDS;
        is_settled.then(|| {
            format!(
                "{} {} {} {}.{} {}.{} {} {}",
                about.dev(),
                about.ino(),
                about.size(),
                about.mtime(),
                about.mtime_nsec(),
                about.ctime(),
                about.ctime_nsec(),
                self.at,
                self.size
            )
        })
    }

    /// The opened file and the place where it begins: what has the same is the same.
    pub fn place(&self) -> (usize, u64) {
        (Arc::as_ptr(&self.file).addr(), self.at)
    }
}

impl conex_elf::ReadAt for Slice {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let left = self.size.saturating_sub(at);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..room).unwrap_or_default();
        conex_elf::ReadAt::read_at(self.file.as_ref(), room, self.at + at)
    }
}

impl Read for SliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.slice.size).unwrap_or(usize::MAX).min(buffer.len());
        let count =
            self.slice.file.read_at(buffer.get_mut(..room).unwrap_or_default(), self.slice.at)?;
        if count == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.slice.at += count as u64;
        self.slice.size -= count as u64;
        Ok(count)
    }
}

/// The files of an archive, and where they lie.
#[derive(Debug)]
pub struct Archive {
    files: HashMap<String, Slice>,
    /// Old archives link equal layers.
    links: HashMap<String, String>,
}

impl Archive {
    /// Lists what is in a file; none if it is compressed, or cannot be read at will.
    pub fn open(file: File) -> Result<Option<Self>> {
        let fail = |error: io::Error| CliError::because("cannot read the archive", error);
        let size = file.metadata().map_err(fail)?.len();
        let mut head = [0; 6];
        if !file.metadata().map_err(fail)?.is_file()
            || file.read_at(&mut head, 0).map_err(fail)? < head.len()
            || sniff(&head) != Format::Plain
        {
            return Ok(None);
        }
        let whole = Slice { file: Arc::new(file), at: 0, size };
        let mut archive = Self { files: HashMap::new(), links: HashMap::new() };
        archive.list(&whole)?;
        Ok(Some(archive))
    }

    /// Reads header by header; contents are jumped over.
    fn list(&mut self, whole: &Slice) -> Result<()> {
        let limits =
            TarLimits { path_len_max: PATH_LEN_MAX, header_size_max: 1 << 20, entry_count_max: 1 };
        let mut at = 0;
        while at < whole.size {
            let rest = Slice { at, size: whole.size - at, ..whole.clone() };
            let mut tar = TarReader::new(rest.reader(), limits);
            let Some(entry) = tar.next_entry()? else { return Ok(()) };
            let start = tar.into_inner().slice.at;
            if self.files.len() + self.links.len() >= ENTRY_COUNT_MAX {
                return Err(CliError::new("the archive has more than a million entries"));
            }
            let path = clean(&entry.path);
            let has_content = entry.kind == EntryKind::File;
            let size = if has_content { entry.size } else { 0 };
            let end = start.checked_add(size).filter(|end| *end <= whole.size);
            let Some(end) = end else { return Err(CliError::new("the archive is cut off")) };
            match entry.kind {
                EntryKind::File => {
                    let slice = Slice { file: whole.file.clone(), at: start, size };
                    self.files.insert(path, slice);
                }
                EntryKind::Symlink => {
                    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = format!("{dir}/{}", String::from_utf8_lossy(&entry.link));
                    let target = resolved(&target);
                    self.links.insert(path, target);
                }
                EntryKind::HardLink => {
                    let target = clean(&entry.link);
                    self.links.insert(path, target);
                }
                _ => {}
            }
            at = end.next_multiple_of(BLOCK_SIZE);
        }
        Ok(())
    }

    /// A file by its path.
    pub fn file(&self, path: &str) -> Option<Slice> {
        let mut path = clean(path.as_bytes());
        for _ in 0..8 {
            if let Some(slice) = self.files.get(&path) {
                return Some(slice.clone());
            }
            path = self.links.get(&path)?.clone();
        }
        None
    }

    /// A blob of a layout.
    pub fn blob(&self, digest: &Digest) -> Option<Slice> {
        self.file(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }

    /// A small file; none where there is none.
    pub fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(slice) = self.file(path) else { return Ok(None) };
        if slice.size > DOCUMENT_SIZE_MAX.max(MANIFEST_SIZE_MAX) {
            return Err(CliError::new(format!("`{path}` of the archive has more than 8 MiB")));
        }
        let mut bytes = Vec::new();
        let act = |error| CliError::because(format!("cannot read `{path}` of the archive"), error);
        slice.reader().read_to_end(&mut bytes).map_err(act)?;
        Ok(Some(bytes))
    }
}

fn clean(path: &[u8]) -> String {
    resolved(&String::from_utf8_lossy(path))
}

/// A path without `.` and `..`; what would lead out stays at the top, where nothing has that name.
fn resolved(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use conex_layer::{EntryHeader, TarWriter};

    #[test]
    fn files_links_and_long_names_are_found_in_place() {
        let mut tar = TarWriter::new(Vec::new());
        let long = format!("{}/layer.tar", "d".repeat(150));
        for (path, content) in [("manifest.json", "[]"), (long.as_str(), "layer"), ("empty", "")] {
            let header = EntryHeader::file(path, content.len() as u64);
            tar.append(&header, content.as_bytes()).unwrap();
        }
        let mut link = EntryHeader::file("other/layer.tar", 0);
        (link.kind, link.link) = (b'2', format!("../{long}").into_bytes());
        tar.append(&link, b"").unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &tar.finish().unwrap()).unwrap();
        let archive = Archive::open(file).unwrap().unwrap();
        for (path, content) in [
            ("manifest.json", Some("[]")),
            ("./manifest.json", Some("[]")),
            (long.as_str(), Some("layer")),
            ("other/layer.tar", Some("layer")),
            ("empty", Some("")),
            ("missing", None),
        ] {
            let found = archive.document(path).unwrap();
            assert_eq!(found.as_deref(), content.map(str::as_bytes), "{path}");
        }
    }
}
