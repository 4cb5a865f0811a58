//! What the files of a context were when they were last hashed, so that a file that has not
//! changed since is not read again.
//!
//! A file counts as unchanged when inode, size, mtime and ctime are the same and its ctime lies
//! clearly before the moment of hashing: one changed right after could carry the same time stamp
//! (the kernel's clock ticks every few milliseconds), which git calls "racily clean".
//!
//! The cache is a guess about speed only: a damaged or foreign file is treated as empty.

use std::io::{self, Write};
use std::path::Path;

use conex_sys::stat::{Stat, Time};

use super::entry::{Entry, walk_order};

const MAGIC: &[u8; 8] = b"cnxstat3";

/// How long before the moment of hashing a change must lie to be seen for certain. Coarse kernel
/// time stamps tick at 100 Hz at the slowest.
const RACY_NS: i128 = 20_000_000;

/// Largest cache file read: more than a million files with paths of a hundred bytes each.
const CACHE_SIZE_MAX: u64 = 256 << 20;

/// Inode, size, mtime, ctime, content.
const RECORD_LEN: usize = 8 + 8 + 16 + 16 + 32;

/// The cache of one context folder: records sorted in walk order.
#[derive(Debug, Default)]
pub(crate) struct StatCache {
    hashed_at: i128,
    bytes: Vec<u8>,
    /// Where each path begins in `bytes`, how long it is; the record follows it.
    records: Vec<(u32, u32)>,
}

impl StatCache {
    /// Reads the cache; anything wrong gives an empty one.
    pub(crate) fn load(path: &Path) -> Self {
        let small = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= CACHE_SIZE_MAX);
        if !small {
            return Self::default();
        }
        std::fs::read(path).ok().and_then(Self::parse).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC.as_slice())?;
        let hashed_at = i128::from_le_bytes(rest.get(..16)?.try_into().ok()?);
        let mut at = MAGIC.len() + 16;
        let mut records = Vec::with_capacity(bytes.len() / 128);
        while at < bytes.len() {
            let len = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
            at += 4;
            let end = at.checked_add(len as usize)?.checked_add(RECORD_LEN)?;
            if end > bytes.len() {
                return None;
            }
            records.push((u32::try_from(at).ok()?, len));
            at = end;
        }
        Some(Self { hashed_at, bytes, records })
    }

    fn path(&self, record: usize) -> &[u8] {
        let (at, len) = self.records[record];
        &self.bytes[at as usize..at as usize + len as usize]
    }

    fn fields(&self, record: usize) -> &[u8] {
        let (at, len) = self.records[record];
        let start = at as usize + len as usize;
        &self.bytes[start..start + RECORD_LEN]
    }

    /// Finds a path. `hint` is where the last find ended: a walk in order finds its next path right
    /// there.
    fn find(&self, path: &[u8], hint: &mut usize) -> Option<usize> {
        if *hint < self.records.len() && self.path(*hint) == path {
            *hint += 1;
            return Some(*hint - 1);
        }
        let found = self.records.binary_search_by(|(at, len)| {
            walk_order(&self.bytes[*at as usize..*at as usize + *len as usize], path)
        });
        *hint = found.map_or_else(|next| next, |at| at + 1);
        found.ok()
    }

    /// The content of a file that has not changed since it was hashed. `hint` is kept between the
    /// finds of one walk, to make those in order cheap.
    pub(crate) fn content(&self, path: &[u8], stat: &Stat, hint: &mut usize) -> Option<[u8; 32]> {
        let known = self.fields(self.find(path, hint)?);
        let unchanged = known[..48] == fields(stat);
        let settled = nanoseconds(stat.ctime) + RACY_NS < self.hashed_at;
        if unchanged && settled { known[48..].try_into().ok() } else { None }
    }

    /// Writes a new cache: the given walks, and of the old records those that lie in none of them.
    /// `now` is a time before the first file of the walks was hashed, in nanoseconds since 1970.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(
        &self,
        file: &Path,
        walks: &[(Vec<u8>, Vec<Entry>)],
        now: i128,
    ) -> io::Result<()> {
        let mut records: Vec<(Vec<u8>, [u8; RECORD_LEN])> = Vec::new();
        for record in 0..self.records.len() {
            let path = self.path(record);
            // An old record that was not trusted then must not become trusted by a later time.
            let ctime = i128::from_le_bytes(field(&self.fields(record)[32..48]));
            let walked = walks.iter().any(|(prefix, _)| is_below(prefix, path));
            if !walked && ctime + RACY_NS < self.hashed_at {
                records.push((path.to_vec(), field(self.fields(record))));
            }
        }
        for (prefix, entries) in walks {
            for entry in entries {
                let Some(content) = entry.content else { continue };
                let mut path = Vec::new();
                join(prefix, &entry.path, &mut path);
                let mut record = [0; RECORD_LEN];
                record[..48].copy_from_slice(&fields(&entry.stat));
                record[48..].copy_from_slice(&content);
                records.push((path, record));
            }
        }
        records.sort_by(|left, right| walk_order(&left.0, &right.0));
        records.dedup_by(|left, right| left.0 == right.0);
        let mut out = Vec::with_capacity(records.len() * 128);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&now.to_le_bytes());
        for (path, record) in &records {
            out.extend_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(path);
            out.extend_from_slice(record);
        }
        // Another build of the same context may write at the same moment: last one wins, whole.
        let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
        let mut to = std::fs::File::create(&temporary)?;
        to.write_all(&out)?;
        drop(to);
        std::fs::rename(&temporary, file)
    }
}

fn field<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the record has a fixed length")
}

fn fields(stat: &Stat) -> [u8; 48] {
    let mut fields = [0; 48];
    fields[..8].copy_from_slice(&stat.inode.to_le_bytes());
    fields[8..16].copy_from_slice(&stat.size.to_le_bytes());
    fields[16..32].copy_from_slice(&nanoseconds(stat.mtime).to_le_bytes());
    fields[32..48].copy_from_slice(&nanoseconds(stat.ctime).to_le_bytes());
    fields
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

/// Joins two relative paths, either of which may be empty.
pub(crate) fn join(prefix: &[u8], path: &[u8], joined: &mut Vec<u8>) {
    joined.clear();
    joined.extend_from_slice(prefix);
    if !prefix.is_empty() && !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(path);
}

fn is_below(prefix: &[u8], path: &[u8]) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::super::entry::plain_stat;
    use super::*;

    fn entry(path: &str, ctime: i64, content: Option<u8>) -> Entry {
        let stat = Stat { ctime: Time { seconds: ctime, nanos: 0 }, ..plain_stat() };
        let content = content.map(|byte| [byte; 32]);
        Entry { path: path.into(), stat, content }
    }

    fn known(cache: &StatCache, entries: &[Entry]) -> Vec<Option<u8>> {
        let mut hint = 0;
        let content = |entry: &Entry| cache.content(&entry.path, &entry.stat, &mut hint);
        entries.iter().map(content).map(|content| content.map(|bytes| bytes[0])).collect()
    }

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn unchanged_files_are_known_and_racy_or_changed_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        let walk = vec![entry("a", 1, Some(1)), entry("b/c", 2, Some(2))];
        StatCache::default().save(&file, &[(Vec::new(), walk)], 2 * SECOND + 1).unwrap();
        let cache = StatCache::load(&file);
        let again = [entry("a", 1, None), entry("b/c", 2, None), entry("d", 1, None)];
        // `b/c` changed within the clock's tick of the hashing.
        assert_eq!(known(&cache, &again), [Some(1), None, None]);
        assert_eq!(known(&cache, &[entry("a", 0, None)]), [None]);
        assert_eq!(known(&cache, &[entry("d", 1, None), entry("a", 1, None)]), [None, Some(1)]);
    }

    #[test]
    fn records_outside_the_walk_are_kept_and_vanished_ones_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        let walk = vec![entry("a/x", 1, Some(1)), entry("a/y", 1, Some(1)), entry("b", 1, Some(2))];
        StatCache::default().save(&file, &[(Vec::new(), walk)], 9 * SECOND).unwrap();
        let cache = StatCache::load(&file);
        let walk = vec![entry("x", 1, Some(3))];
        cache.save(&file, &[(b"a".to_vec(), walk)], 9 * SECOND).unwrap();
        let again = [entry("a/x", 1, None), entry("a/y", 1, None), entry("b", 1, None)];
        assert_eq!(known(&StatCache::load(&file), &again), [Some(3), None, Some(2)]);
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        for damage in
            [b"".as_slice(), b"other", b"cnxstat3", &[MAGIC.as_slice(), &[255; 40]].concat()]
        {
            std::fs::write(&file, damage).unwrap();
            assert!(StatCache::load(&file).records.is_empty());
        }
        assert!(StatCache::load(&folder.path().join("none")).records.is_empty());
    }
}
