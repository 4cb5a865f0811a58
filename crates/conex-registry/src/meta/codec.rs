//! Values as rows hold them.

use conex_oci::{Algorithm, Digest};
use rusqlite::Row;
use rusqlite::types::Type;

/// A digest as bytes: the algorithm, then the digest.
pub(crate) fn raw(digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + digest.hex().len() / 2);
    bytes.push(match digest.algorithm() {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    });
    let digits = digest.hex().as_bytes();
    for pair in digits.chunks_exact(2) {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => byte - b'0',
            _ => byte - b'a' + 10,
        };
        bytes.push(digit(pair[0]) << 4 | digit(pair[1]));
    }
    bytes
}

/// The digest of bytes as [`raw`] makes them.
pub(crate) fn digest_of(bytes: &[u8]) -> Option<Digest> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (algorithm, digest) = bytes.split_first()?;
    let mut text = match algorithm {
        1 => "sha256:".to_owned(),
        2 => "sha512:".to_owned(),
        _ => return None,
    };
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.parse().ok()
}

/// A digest in a row.
pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    optional_digest(row, column)?.ok_or_else(|| damaged(column))
}

/// A digest or nothing in a row.
pub(crate) fn optional_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    match row.get_ref(column)?.as_blob_or_null()? {
        None => Ok(None),
        Some(bytes) => digest_of(bytes).map(Some).ok_or_else(|| damaged(column)),
    }
}

/// A size in a row.
pub(crate) fn size(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column))
}

/// A size for a row.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn damaged(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, "the value is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_their_rows() {
        let mut hasher = conex_oci::Hasher::new(Algorithm::Sha512);
        hasher.update(b"x");
        for digest in [Digest::of(b""), Digest::of(b"x"), hasher.finish()] {
            assert_eq!(digest_of(&raw(&digest)), Some(digest));
        }
        assert_eq!(digest_of(b""), None);
        assert_eq!(digest_of(b"\x01short"), None);
    }
}
