//! Content digests and the two identities that layers derive from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::Error;

/// A hash algorithm registered by the image specification (descriptor.md, "Registered
/// Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what everybody uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in a digest (`sha256`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some bytes: `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Computes the SHA-256 digest of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The first twelve digits, as `docker images` shows them.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, algorithm and digits.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why| Error::syntax("a digest", text, why);
        let (name, hex) =
            text.split_once(':').ok_or_else(|| wrong("it has no `:` after the algorithm"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(wrong("the algorithm is neither `sha256` nor `sha512`")),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(wrong("the number of digits is wrong"));
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("a digit is not one of `0-9a-f`"));
        }
        Ok(Self { algorithm, text: text.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Computes a [`Digest`] of bytes that come piece by piece.
#[derive(Clone)]
pub struct Hasher(Inner);

#[derive(Clone)]
enum Inner {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// Starts a digest of no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Inner::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Inner::Sha512(Box::new(sha2::Sha512::new())),
        })
    }

    /// Starts a SHA-256 digest.
    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Inner::Sha256(state) => state.update(bytes),
            Inner::Sha512(state) => state.update(bytes),
        }
    }

    /// Ends a SHA-256 digest as bytes, for those who keep many of them.
    ///
    /// # Panics
    /// The digest is of another algorithm.
    pub fn finish_bytes(self) -> [u8; 32] {
        match self.0 {
            Inner::Sha256(state) => state.finalize().into(),
            Inner::Sha512(_) => panic!("the digest is not of 32 bytes"),
        }
    }

    /// Ends the digest.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes): (_, Vec<u8>) = match self.0 {
            Inner::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            Inner::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        let mut text = String::with_capacity(algorithm.name().len() + 1 + algorithm.hex_len());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in bytes {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        Digest { algorithm, text }
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The digest itself.
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }
    };
}

digest_newtype! {
    /// The digest of a layer's uncompressed tar (image spec, config.md, "Layer `DiffID`").
    DiffId
}

digest_newtype! {
    /// The identity of a stack of layers (image spec, config.md, "Layer `ChainID`").
    ChainId
}

impl ChainId {
    /// The chain ID of one layer on top of `parent`: the diff ID itself for a bottom layer, else
    /// the digest of the two texts with a space between.
    pub fn extend(parent: Option<&Self>, layer: &DiffId) -> Self {
        match parent {
            None => Self(layer.0.clone()),
            Some(parent) => Self(Digest::of(format!("{parent} {layer}").as_bytes())),
        }
    }

    /// The chain IDs of a stack, bottom first: one for each layer.
    pub fn stack(layers: &[DiffId]) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(Self::extend(chain.last(), layer));
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap().short(), "e3b0c44298fc");
    }

    #[test]
    fn wrong_digests_are_refused() {
        let long = format!("sha256:{}", "0".repeat(65));
        let upper = format!("sha256:{}", "A".repeat(64));
        let path = format!("sha256:{}", "../".repeat(22));
        for text in ["", "sha256", "sha256:", "md5:00", &long, &upper, &path, "sha512:00"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn chain_id_of_a_bottom_layer_is_its_diff_id() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chain = ChainId::stack(&[a.clone(), b.clone()]);
        assert_eq!(chain[0].0, a.0);
        assert_eq!(chain[1].0, Digest::of(format!("{a} {b}").as_bytes()));
    }
}
