//! Makes the files that are built, copied and packed. The same call makes the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::shell::Result;

/// A Dockerfile of two stages, as real ones are: something is made, something is copied, something
/// is run. "Workload A" in SPECIFICATION.md.
pub(crate) const TWO_STAGES: &str = "\
ARG BASE=bench-base
FROM ${BASE} AS make
RUN mkdir /out && i=0 && while [ $i -lt 2000 ]; do echo $i > /out/$i; i=$((i+1)); done \
 && head -c 104857600 /dev/urandom > /out/random
FROM ${BASE}
COPY --from=make /out /out
COPY files /src
ENV MODE=production LEVEL=3
WORKDIR /src
RUN ls | wc -l > /count
USER nobody
CMD [\"sh\"]
";

/// Numbers that look random and are the same each time (xorshift64*).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Fills bytes so that deflate makes them about 2.5 times smaller, as it does programs: runs
    /// of random bytes between runs of text.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        const TEXT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz the quick brown fox jumps over";
        for chunk in bytes.chunks_mut(64) {
            let number = self.next();
            if number.is_multiple_of(3) {
                for part in chunk.chunks_mut(8) {
                    let random = self.next().to_le_bytes();
                    part.copy_from_slice(random.get(..part.len()).unwrap_or_default());
                }
            } else {
                let shift = (number >> 32) as usize % TEXT.len();
                for (index, byte) in chunk.iter_mut().enumerate() {
                    *byte = TEXT.get((index + shift) % TEXT.len()).copied().unwrap_or(b' ');
                }
            }
        }
    }
}

/// Makes `folder_count` folders with `file_count` files in all, of `file_size` bytes each. Does
/// nothing if it did so before.
pub(crate) fn tree(
    at: &Path,
    folder_count: usize,
    file_count: usize,
    file_size: usize,
) -> Result<()> {
    once(at, |at| {
        let mut numbers = Numbers::new(file_count as u64);
        let mut bytes = vec![0; file_size];
        for index in 0..file_count {
            let folder = at.join(format!("folder-{:03}", index % folder_count));
            if index < folder_count {
                fs::create_dir_all(&folder)?;
            }
            numbers.fill(&mut bytes);
            fs::write(folder.join(format!("file-{index:05}.txt")), &bytes)?;
        }
        Ok(())
    })
}

/// Makes one large file.
pub(crate) fn large_file(at: &Path, size: u64) -> Result<()> {
    once(at, |at| {
        let mut numbers = Numbers::new(size);
        let mut bytes = vec![0; 1 << 20];
        let mut file = BufWriter::new(File::create(at)?);
        for _ in 0..size / (1 << 20) {
            numbers.fill(&mut bytes);
            file.write_all(&bytes)?;
        }
        file.flush()
    })
}

/// Writes a Dockerfile.
pub(crate) fn dockerfile(context: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(context)
        .and_then(|()| fs::write(context.join("Dockerfile"), text))
        .map_err(|error| format!("{}: {error}", context.display()))
}

/// Makes something under another name and renames it, so that what exists is whole.
pub(crate) fn once(at: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    if at.exists() {
        return Ok(());
    }
    let unfinished = at.with_extension("unfinished");
    let made = || -> std::io::Result<()> {
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        if unfinished.is_dir() {
            fs::remove_dir_all(&unfinished)?;
        }
        make(&unfinished)?;
        fs::rename(&unfinished, at)
    };
    made().map_err(|error| format!("cannot make `{}`: {error}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn same_seed_makes_the_same_bytes() {
        let bytes = |seed| {
            let mut bytes = vec![0; 10_000];
            Numbers::new(seed).fill(&mut bytes);
            bytes
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
