//! A digest in the making whose state can be written down, so that an upload goes on in another
//! process without being read again.

use conex_oci::{Algorithm, Digest};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// How much of a check goes with a written state: a torn one must not pass for a state.
const CHECK_LEN: usize = 8;

/// A digest in the making.
#[derive(Clone)]
pub(super) enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        let (name, bytes) = match self {
            Self::Sha256(state) => ("sha256", state.finalize().to_vec()),
            Self::Sha512(state) => ("sha512", state.finalize().to_vec()),
        };
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{hex}").parse().expect("a digest was just written as one")
    }

    /// The state after so many bytes, for as long as the machine stays up: after a power cut the
    /// bytes that it stands for may be others.
    pub(super) fn save(&self, size: u64, boot: &str) -> Vec<u8> {
        let mut bytes = size.to_le_bytes().to_vec();
        match self {
            Self::Sha256(state) => bytes.extend_from_slice(&state.serialize()),
            Self::Sha512(state) => bytes.extend_from_slice(&state.serialize()),
        }
        let check = check(&bytes, boot);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// A state that was saved and after how many bytes; none if it is not one of this algorithm and
    /// this start of the machine.
    pub(super) fn restore(algorithm: Algorithm, saved: &[u8], boot: &str) -> Option<(Self, u64)> {
        let (bytes, said) = saved.split_at_checked(saved.len().checked_sub(CHECK_LEN)?)?;
        if check(bytes, boot) != *said {
            return None;
        }
        let (size, state) = bytes.split_first_chunk::<8>()?;
        let hash = match algorithm {
            Algorithm::Sha256 => Self::Sha256(read(state)?),
            Algorithm::Sha512 => Self::Sha512(read(state)?),
        };
        Some((hash, u64::from_le_bytes(*size)))
    }
}

fn check(bytes: &[u8], boot: &str) -> [u8; CHECK_LEN] {
    let digest = Sha256::new_with_prefix(bytes).chain_update(boot).finalize();
    std::array::from_fn(|at| digest[at])
}

fn read<S: SerializableState>(bytes: &[u8]) -> Option<S> {
    let state: &SerializedState<S> = bytes.try_into().ok()?;
    S::deserialize(state).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_state_goes_on_where_it_was() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hash = Hash::new(algorithm);
            hash.update(b"hello ");
            let saved = hash.save(6, "one");
            let (mut again, size) = Hash::restore(algorithm, &saved, "one").unwrap();
            again.update(b"world");
            hash.update(b"world");
            assert_eq!((again.finish(), size), (hash.finish(), 6));
        }
    }

    #[test]
    fn a_state_that_is_torn_or_older_than_the_machine_s_start_is_none() {
        let saved = Hash::new(Algorithm::Sha256).save(0, "one");
        assert!(Hash::restore(Algorithm::Sha256, &saved, "one").is_some());
        assert!(Hash::restore(Algorithm::Sha256, &saved, "two").is_none());
        assert!(Hash::restore(Algorithm::Sha512, &saved, "one").is_none());
        assert!(Hash::restore(Algorithm::Sha256, &saved[1..], "one").is_none());
        assert!(Hash::restore(Algorithm::Sha256, &[], "one").is_none());
        let mut flipped = saved;
        flipped[9] ^= 1;
        assert!(Hash::restore(Algorithm::Sha256, &flipped, "one").is_none());
    }
}
