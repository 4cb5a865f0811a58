//! Makes one deflate stream of several.
//!
//! A compressor that works on whole buffers ends each with a final block. For the next buffer's
//! blocks to follow, the mark of the final block is cleared and an empty stored block is added,
//! which fills up to a whole byte (what zlib calls a sync flush). The mark is a single bit at the
//! start of the last block, and only reading through all blocks tells where that is: Huffman codes
//! are decoded for their length alone, which costs a few percent of what compressing does.

/// Bits decoded by one look into the table; longer codes are rare and decoded bit by bit.
const TABLE_BITS: u32 = 11;

/// Longest code (RFC 1951, 3.2.7).
const CODE_LEN_MAX: usize = 15;

/// The order in which the lengths of the code-length codes come (RFC 1951, 3.2.7).
const LENGTH_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Turns a complete deflate stream into one that ends on a byte and goes on. None if it is not a
/// complete stream.
pub(crate) fn leave_open(stream: &mut Vec<u8>) -> Option<()> {
    let (mark, end) = Bits::new(stream).last_block()?;
    let byte = stream.get_mut(mark / 8)?;
    *byte &= !(1 << (mark % 8));
    // Three zero bits begin a stored block that is not the last.
    let len = (end + 3).div_ceil(8);
    stream.truncate(end.div_ceil(8));
    if end % 8 != 0 {
        let last = stream.last_mut()?;
        *last &= (1_u8 << (end % 8)) - 1;
    }
    stream.resize(len, 0);
    stream.extend_from_slice(&[0, 0, 0xff, 0xff]);
    Some(())
}

/// Reads a deflate stream's bits, the lowest of each byte first.
struct Bits<'s> {
    bytes: &'s [u8],
    /// The next byte to be taken into `buffer`.
    next: usize,
    buffer: u64,
    count: u32,
}

impl<'s> Bits<'s> {
    fn new(bytes: &'s [u8]) -> Self {
        Self { bytes, next: 0, buffer: 0, count: 0 }
    }

    fn position(&self) -> usize {
        self.next * 8 - self.count as usize
    }

    /// Fills up to at least 56 bits, or all that is there.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.bytes.get(self.next..self.next + 8)
            && let Ok(word) = <[u8; 8]>::try_from(word)
        {
            self.buffer |= u64::from_le_bytes(word) << self.count;
            let taken = (63 - self.count) / 8;
            self.next += taken as usize;
            self.count += taken * 8;
            return;
        }
        while self.count <= 56 {
            let Some(byte) = self.bytes.get(self.next) else { return };
            self.buffer |= u64::from(*byte) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    #[inline]
    fn skip(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
        self.buffer >>= count;
        Some(())
    }

    fn take(&mut self, count: u32) -> Option<usize> {
        if self.count < count {
            self.refill();
        }
        let value = self.buffer & ((1 << count) - 1);
        self.skip(count)?;
        usize::try_from(value).ok()
    }

    /// Where the last block's mark is and where the block ends, in bits.
    fn last_block(mut self) -> Option<(usize, usize)> {
        loop {
            let mark = self.position();
            let is_last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.stored()?,
                1 => {
                    let (literals, distances) = fixed_codes();
                    self.symbols(&literals, &distances)?;
                }
                2 => {
                    let (literals, distances) = self.dynamic_codes()?;
                    self.symbols(&literals, &distances)?;
                }
                _ => return None,
            }
            if is_last {
                return Some((mark, self.position()));
            }
        }
    }

    fn stored(&mut self) -> Option<()> {
        let start = self.position().div_ceil(8);
        let len = self.bytes.get(start..start + 2)?;
        let len = usize::from(*len.first()?) | usize::from(*len.get(1)?) << 8;
        self.next = start + 4 + len;
        (self.buffer, self.count) = (0, 0);
        (self.next <= self.bytes.len()).then_some(())
    }

    fn dynamic_codes(&mut self) -> Option<(Table, Table)> {
        let literal_count = self.take(5)? + 257;
        let distance_count = self.take(5)? + 1;
        let length_count = self.take(4)? + 4;
        let mut lengths = [0_u8; 19];
        for place in LENGTH_ORDER.iter().take(length_count) {
            *lengths.get_mut(*place)? = u8::try_from(self.take(3)?).ok()?;
        }
        let codes = Table::new(&lengths, |_| Some(0))?;
        let mut all = [0_u8; 320];
        let mut at = 0;
        while at < literal_count + distance_count {
            self.refill();
            let (value, count) = match codes.symbol(self)? {
                16 => (*all.get(at.checked_sub(1)?)?, self.take(2)? + 3),
                17 => (0, self.take(3)? + 3),
                18 => (0, self.take(7)? + 11),
                length => (u8::try_from(length).ok()?, 1),
            };
            all.get_mut(at..at + count)?.fill(value);
            at += count;
        }
        if at != literal_count + distance_count {
            return None;
        }
        let literals = Table::new(all.get(..literal_count)?, literal_bits)?;
        let distances =
            Table::new(all.get(literal_count..literal_count + distance_count)?, distance_bits)?;
        Some((literals, distances))
    }

    /// Reads symbols up to the one that ends the block.
    fn symbols(&mut self, literals: &Table, distances: &Table) -> Option<()> {
        loop {
            self.symbols_quick(literals, distances);
            // One symbol with every step checked: a long code, the end of the block, or what is
            // near the end of the stream.
            self.refill();
            match literals.look_up(self)?.kind() {
                Kind::Literal => {}
                Kind::End => return Some(()),
                Kind::Length => {
                    self.refill();
                    distances.look_up(self)?;
                }
            }
        }
    }

    /// Reads symbols as long as their codes are in the tables, and stops before one that is not,
    /// before the end of the block and near the end of the stream. Holds its state apart, because
    /// a processor's registers are what makes this quick.
    fn symbols_quick(&mut self, literals: &Table, distances: &Table) {
        let (literals, distances) = (&literals.quick, &distances.quick);
        let (mut buffer, mut count, mut next) = (self.buffer, self.count, self.next);
        let mask = (1_u64 << TABLE_BITS) - 1;
        while let Some(word) = self.bytes.get(next..next + 8)
            && let Ok(word) = <[u8; 8]>::try_from(word)
        {
            buffer |= u64::from_le_bytes(word) << count;
            next += ((63 - count) >> 3) as usize;
            count |= 56;
            // 56 bits are enough for three literals, or one and a length with its distance: the
            // codes of the tables have at most 11 bits, and 5 and 13 may follow them.
            let mut entry = literals[(buffer & mask) as usize];
            if entry.is_literal() {
                buffer >>= entry.len();
                count -= entry.len();
                entry = literals[(buffer & mask) as usize];
                if entry.is_literal() {
                    buffer >>= entry.len();
                    count -= entry.len();
                    entry = literals[(buffer & mask) as usize];
                    if entry.is_literal() {
                        buffer >>= entry.len();
                        count -= entry.len();
                    }
                    continue;
                }
            }
            if entry.is_special() {
                break;
            }
            let after = buffer >> entry.len();
            let distance = distances[(after & mask) as usize];
            if distance.is_special() {
                break;
            }
            buffer = after >> distance.len();
            count -= entry.len() + distance.len();
        }
        (self.buffer, self.count, self.next) = (buffer, count, next);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Literal,
    Length,
    End,
}

/// What a code means: in the low bits how many bits it has with those that follow it, and above
/// what it is. Nothing else matters to who only wants to know where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meaning(u32);

impl Meaning {
    const LEN: u32 = 0x3f;
    const LITERAL: u32 = 1 << 8;
    const END: u32 = 1 << 9;
    /// The code is longer than the table's, or none at all.
    const LONG: Self = Self(1 << 10);

    fn new(len: u8, extra: u32) -> Self {
        let len = u32::from(len);
        match extra {
            END_MARK => Self(len | Self::END),
            LITERAL_MARK => Self(len | Self::LITERAL),
            extra => Self(len + extra),
        }
    }

    #[inline]
    fn len(self) -> u32 {
        self.0 & Self::LEN
    }

    #[inline]
    fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    #[inline]
    fn is_long(self) -> bool {
        self == Self::LONG
    }

    /// Neither a literal nor a length or distance whose code is in the table.
    #[inline]
    fn is_special(self) -> bool {
        self.0 >= Self::LITERAL
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.0 & (Self::LITERAL | Self::END) {
            0 => Kind::Length,
            Self::LITERAL => Kind::Literal,
            _ => Kind::End,
        }
    }
}

/// Codes by their first bits.
struct Table {
    quick: Box<[Meaning; 1 << TABLE_BITS]>,
    /// How many codes have each length.
    counts: [u16; CODE_LEN_MAX + 1],
    /// What the codes mean, in the order of the codes, with their own symbols.
    symbols: Vec<(u8, u16, Meaning)>,
}

impl Table {
    /// Makes the canonical codes of these lengths (RFC 1951, 3.2.2). `extra` gives the number of
    /// bits after each symbol, or says what else it is.
    fn new(lengths: &[u8], extra: impl Fn(usize) -> Option<u32>) -> Option<Self> {
        let mut counts = [0_u16; CODE_LEN_MAX + 1];
        for len in lengths {
            *counts.get_mut(usize::from(*len))? += 1;
        }
        counts[0] = 0;
        let mut codes = [0_u32; CODE_LEN_MAX + 2];
        for len in 1..=CODE_LEN_MAX {
            codes[len + 1] = (codes[len] + u32::from(counts[len])) << 1;
        }
        let mut quick = Box::new([Meaning::LONG; 1 << TABLE_BITS]);
        let mut symbols = Vec::with_capacity(lengths.len());
        for (symbol, len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
            let code = codes.get_mut(usize::from(*len))?;
            let reversed = code.reverse_bits() >> (32 - u32::from(*len));
            *code += 1;
            let meaning = Meaning::new(*len, extra(symbol)?);
            symbols.push((*len, u16::try_from(symbol).ok()?, meaning));
            if u32::from(*len) <= TABLE_BITS {
                let mut at = reversed as usize;
                while let Some(place) = quick.get_mut(at) {
                    *place = meaning;
                    at += 1 << len;
                }
            }
        }
        // In the order of the lengths, and within one in that of the symbols, as codes are given.
        symbols.sort_by_key(|(len, ..)| *len);
        Some(Self { quick, counts, symbols })
    }

    #[inline]
    fn quick(&self, bits: &Bits<'_>) -> Meaning {
        self.quick[(bits.buffer & ((1 << TABLE_BITS) - 1)) as usize]
    }

    /// Reads a code and the bits that follow it.
    fn look_up(&self, bits: &mut Bits<'_>) -> Option<Meaning> {
        let meaning = self.quick(bits);
        if meaning.is_long() {
            return self.look_up_long(bits);
        }
        bits.skip(meaning.len())?;
        Some(meaning)
    }

    #[cold]
    fn look_up_long(&self, bits: &mut Bits<'_>) -> Option<Meaning> {
        let (_, _, meaning) = self.code(bits)?;
        bits.skip(meaning.len())?;
        Some(meaning)
    }

    /// Reads a code without what follows it; gives its symbol.
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (len, symbol, _) = self.code(bits)?;
        bits.skip(len.into())?;
        Some(symbol)
    }

    /// Decodes bit by bit: the codes of each length are consecutive numbers.
    fn code(&self, bits: &Bits<'_>) -> Option<(u8, u16, Meaning)> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_usize);
        for len in 1..=CODE_LEN_MAX {
            code |= u32::try_from(bits.buffer >> (len - 1) & 1).ok()?;
            let count = u32::from(*self.counts.get(len)?);
            if let Some(offset) = code.checked_sub(first)
                && offset < count
            {
                return self.symbols.get(index + offset as usize).copied();
            }
            index += count as usize;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

const END_MARK: u32 = u32::MAX;
const LITERAL_MARK: u32 = u32::MAX - 1;

/// Bits after a literal or length symbol (RFC 1951, 3.2.5).
fn literal_bits(symbol: usize) -> Option<u32> {
    match symbol {
        0..=255 => Some(LITERAL_MARK),
        256 => Some(END_MARK),
        257..=264 | 285 => Some(0),
        265..=284 => u32::try_from((symbol - 261) / 4).ok(),
        // The last two have codes in the fixed set and never occur.
        286 | 287 => Some(0),
        _ => None,
    }
}

/// Bits after a distance symbol (RFC 1951, 3.2.5).
fn distance_bits(symbol: usize) -> Option<u32> {
    match symbol {
        0..=3 => Some(0),
        4..=29 => u32::try_from(symbol / 2 - 1).ok(),
        30 | 31 => Some(0),
        _ => None,
    }
}

fn fixed_codes() -> (Table, Table) {
    let mut lengths = [8_u8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    let literals = Table::new(&lengths, literal_bits);
    let distances = Table::new(&[5; 32], distance_bits);
    let (Some(literals), Some(distances)) = (literals, distances) else {
        unreachable!("the fixed codes of the standard are valid")
    };
    (literals, distances)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn deflated(bytes: &[u8], level: i32) -> Vec<u8> {
        let level = libdeflater::CompressionLvl::new(level).unwrap();
        let mut compressor = libdeflater::Compressor::new(level);
        let mut out = vec![0; compressor.deflate_compress_bound(bytes.len())];
        let len = compressor.deflate_compress(bytes, &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Text-like, random, constant and mixed bytes.
    fn samples() -> Vec<Vec<u8>> {
        let mut state = 0x9e37_79b9_u32;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let mut samples = vec![Vec::new(), vec![7], vec![0; 300_000]];
        samples.push((0..200_000).map(|_| random() as u8).collect());
        samples.push((0..200_000).map(|_| b"etaoin shrdlu"[random() as usize % 13]).collect());
        let words: Vec<String> = (0..500).map(|_| format!("w{} ", random() % 977)).collect();
        let text: String = (0..60_000).map(|_| words[random() as usize % 500].as_str()).collect();
        samples.push(text.into_bytes());
        // Skewed so that some codes are longer than the table.
        samples.push(
            (0..400_000).map(|_| random().leading_zeros() as u8 ^ (random() >> 31) as u8).collect(),
        );
        let mut mixed = samples[3][..50_000].to_vec();
        mixed.extend_from_slice(&samples[5][..100_000]);
        mixed.extend_from_slice(&samples[3][..50_000]);
        samples.push(mixed);
        samples
    }

    #[test]
    fn streams_left_open_join_to_one() {
        for level in [1, 4, 6, 9, 12] {
            let mut joined = Vec::new();
            let mut plain = Vec::new();
            for sample in samples() {
                let mut stream = deflated(&sample, level);
                leave_open(&mut stream).unwrap();
                joined.extend_from_slice(&stream);
                plain.extend_from_slice(&sample);
            }
            joined.extend_from_slice(&[3, 0]);
            let mut read = Vec::new();
            flate2::read::DeflateDecoder::new(joined.as_slice()).read_to_end(&mut read).unwrap();
            assert!(read == plain, "level {level}");
        }
    }

    #[test]
    fn streams_that_are_cut_off_are_refused() {
        let stream = deflated(&samples()[5], 6);
        for len in [0, 1, 2, 10, stream.len() / 2, stream.len() - 1] {
            assert!(leave_open(&mut stream[..len].to_vec()).is_none(), "{len}");
        }
    }
}
