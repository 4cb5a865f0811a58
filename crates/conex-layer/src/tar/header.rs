//! The 512-byte header block (POSIX.1-1988 ustar, with what GNU put into it).

/// Everything in a tar comes in blocks of this size.
pub(crate) const BLOCK_SIZE: usize = 512;

/// One header block.
#[derive(Clone)]
pub(crate) struct Block(pub(crate) [u8; BLOCK_SIZE]);

/// A field: where it starts and how long it is.
type Field = (usize, usize);

const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const UID: Field = (108, 8);
const GID: Field = (116, 8);
const SIZE: Field = (124, 12);
const MTIME: Field = (136, 12);
const CHECKSUM: Field = (148, 8);
const TYPE: usize = 156;
const LINK: Field = (157, 100);
const MAGIC: Field = (257, 8);
const DEVICE_MAJOR: Field = (329, 8);
const DEVICE_MINOR: Field = (337, 8);
const PREFIX: Field = (345, 155);
const GNU_SPARSE: usize = 386;
const GNU_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Field = (483, 12);

/// Which program's header it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Before POSIX: no magic, no prefix, no devices.
    V7,
    /// POSIX.
    Ustar,
    /// GNU tar's own.
    Gnu,
}

impl Block {
    pub(crate) fn zeroed() -> Self {
        Self([0; BLOCK_SIZE])
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    fn field(&self, (start, len): Field) -> &[u8] {
        self.0.get(start..start + len).unwrap_or_default()
    }

    fn field_mut(&mut self, (start, len): Field) -> &mut [u8] {
        self.0.get_mut(start..start + len).unwrap_or_default()
    }

    /// A text field: up to its first zero byte.
    fn text(&self, field: Field) -> &[u8] {
        let bytes = self.field(field);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.get(..end).unwrap_or_default()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.field(MAGIC) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// The name, with its prefix where the dialect has one.
    pub(crate) fn name(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(NAME), self.text(PREFIX));
        if self.dialect() != Dialect::Ustar || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(crate) fn link(&self) -> &[u8] {
        self.text(LINK)
    }

    pub(crate) fn mode(&self) -> Option<u64> {
        number(self.field(MODE)).and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        number(self.field(UID)).and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        number(self.field(GID)).and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn size(&self) -> Option<u64> {
        number(self.field(SIZE)).and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(self.field(MTIME))
    }

    pub(crate) fn device(&self) -> Option<(u32, u32)> {
        if self.dialect() == Dialect::V7 {
            return Some((0, 0));
        }
        let part = |field| number(self.field(field)).and_then(|number| u32::try_from(number).ok());
        Some((part(DEVICE_MAJOR)?, part(DEVICE_MINOR)?))
    }

    /// GNU's old sparse header: four pieces, and whether more blocks of pieces follow.
    pub(crate) fn gnu_sparse(&self) -> (Vec<(u64, u64)>, bool) {
        (sparse_pieces(&self.0, GNU_SPARSE, 4), self.0[GNU_EXTENDED] != 0)
    }

    /// A block of 21 more pieces.
    pub(crate) fn gnu_sparse_more(&self) -> (Vec<(u64, u64)>, bool) {
        (sparse_pieces(&self.0, 0, 21), self.0[504] != 0)
    }

    pub(crate) fn gnu_real_size(&self) -> Option<u64> {
        number(self.field(GNU_REAL_SIZE)).and_then(|number| u64::try_from(number).ok())
    }

    /// Whether the checksum is right: the sum of all bytes with the field itself as spaces. Some
    /// old programs summed signed bytes.
    pub(crate) fn checksum_matches(&self) -> bool {
        let Some(stored) = number(self.field(CHECKSUM)) else { return false };
        let (unsigned, signed) = self.sums();
        stored == unsigned || stored == signed
    }

    fn sums(&self) -> (i64, i64) {
        let mut sums = (0, 0);
        for (at, byte) in self.0.iter().enumerate() {
            let inside = (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at);
            let byte = if inside { b' ' } else { *byte };
            sums.0 += i64::from(byte);
            sums.1 += i64::from(byte.cast_signed());
        }
        sums
    }

    pub(crate) fn set_name(&mut self, name: &[u8], prefix: &[u8]) {
        copy_into(self.field_mut(NAME), name);
        copy_into(self.field_mut(PREFIX), prefix);
    }

    pub(crate) fn set_link(&mut self, link: &[u8]) {
        copy_into(self.field_mut(LINK), link);
    }

    pub(crate) fn set_kind(&mut self, kind: u8) {
        self.0[TYPE] = kind;
    }

    /// Sets the numbers; each must fit, which [`fits_octal`] says.
    pub(crate) fn set_numbers(&mut self, numbers: &Numbers) {
        set_octal(self.field_mut(MODE), numbers.mode.into());
        set_octal(self.field_mut(UID), numbers.uid);
        set_octal(self.field_mut(GID), numbers.gid);
        set_octal(self.field_mut(SIZE), numbers.size);
        set_octal(self.field_mut(MTIME), numbers.mtime);
        set_octal(self.field_mut(DEVICE_MAJOR), numbers.device.0.into());
        set_octal(self.field_mut(DEVICE_MINOR), numbers.device.1.into());
    }

    /// Ends the header: magic, version, checksum.
    pub(crate) fn finish(&mut self) {
        self.field_mut(MAGIC).copy_from_slice(b"ustar\x0000");
        let (sum, _) = self.sums();
        let text = format!("{sum:06o}\0 ");
        copy_into(self.field_mut(CHECKSUM), text.as_bytes());
    }
}

/// The numbers of a header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Numbers {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
}

/// Largest number in a field of 8 bytes: seven octal digits.
pub(crate) const OCTAL_8_MAX: u64 = 0o7_777_777;

/// Largest number in a field of 12 bytes: eleven octal digits, 8 GiB − 1.
pub(crate) const OCTAL_12_MAX: u64 = 0o77_777_777_777;

/// Splits a path that is too long for the name field so that its front goes into the prefix.
pub(crate) fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME.1 {
        return Some((&[], path));
    }
    // The slash between is not stored; the one that ends a directory's name is.
    let at_most = PREFIX.1.min(path.len().checked_sub(2)?);
    let slash = path.get(..=at_most)?.iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (path.get(..slash)?, path.get(slash + 1..)?);
    (name.len() <= NAME.1 && !prefix.is_empty()).then_some((prefix, name))
}

/// Longest link target in the header.
pub(crate) const LINK_LEN_MAX: usize = LINK.1;

/// Whether a block could be the first of a tar: its checksum is right and it is not all zeros.
pub(crate) fn looks_like_tar(block: &[u8]) -> bool {
    let Ok(bytes) = <[u8; BLOCK_SIZE]>::try_from(block) else { return false };
    let block = Block(bytes);
    !block.is_zero() && block.checksum_matches()
}

fn sparse_pieces(block: &[u8], start: usize, count: usize) -> Vec<(u64, u64)> {
    let mut pieces = Vec::new();
    for at in 0..count {
        let at = start + at * 24;
        let part = |from: usize| {
            let field = block.get(from..from + 12)?;
            // An unused place is empty, not zero.
            (field.first() != Some(&0)).then(|| number(field))?
        };
        let (Some(offset), Some(len)) = (part(at), part(at + 12)) else { break };
        let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else { break };
        pieces.push((offset, len));
    }
    pieces
}

/// Reads a number: octal digits, or GNU's base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return base_256(field);
    }
    let text = field.iter().copied().skip_while(|byte| matches!(byte, b' ' | 0));
    let mut value: i64 = 0;
    for byte in text {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?,
            b' ' | 0 => break,
            _ => return None,
        }
    }
    Some(value)
}

fn base_256(field: &[u8]) -> Option<i64> {
    // Two's complement, the first bit a mark, the second the sign.
    let negative = field.first()? & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = match (at, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        if !(i64::MIN >> 8..=i64::MAX >> 8).contains(&value) {
            return None;
        }
        value = (value << 8) | i64::from(byte);
    }
    Some(value)
}

fn set_octal(field: &mut [u8], value: u64) {
    let width = field.len().saturating_sub(1);
    copy_into(field, format!("{value:0width$o}").as_bytes());
}

fn copy_into(field: &mut [u8], bytes: &[u8]) {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_all_their_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\0\x01\x00", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"12x4567\0", None),
            (b"-000001\0", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn long_names_are_split_at_a_slash_or_not_at_all() {
        let long = |text: &str, count: usize| text.repeat(count).into_bytes();
        assert_eq!(split_name(b"a/b"), Some((&b""[..], &b"a/b"[..])));
        let path = [long("a", 60), long("b", 60)].join(&b'/');
        assert_eq!(split_name(&path), Some((&path[..60], &path[61..])));
        assert_eq!(split_name(&long("a", 101)), None);
        assert_eq!(split_name(&[long("a", 101), b"/".to_vec()].concat()), None);
        assert_eq!(split_name(&[long("a", 200), b"b".to_vec()].join(&b'/')), None);
        let dir = [long("a", 60), long("b", 60), Vec::new()].join(&b'/');
        assert_eq!(split_name(&dir), Some((&dir[..60], &dir[61..])));
    }
}
