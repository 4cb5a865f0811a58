//! Finds a node by its parent and its name.
//!
//! Keeps four bytes a name: the names themselves are in the nodes. Hashing is keyed anew in every
//! process, so no image can make all names fall together.

use std::hash::{BuildHasher, RandomState};

const EMPTY: u32 = u32::MAX;

/// Slots at the start; a power of two, as always.
const SLOTS_MIN: usize = 64;

/// The indices of nodes by parent and name.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    slots: Vec<u32>,
    count: usize,
    hasher: RandomState,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { slots: vec![EMPTY; SLOTS_MIN], count: 0, hasher: RandomState::new() }
    }

    /// The node of a name. `name_of` gives parent and name of a node.
    pub(crate) fn find<'n>(
        &self,
        parent: u32,
        name: &[u8],
        name_of: impl Fn(u32) -> (u32, &'n [u8]),
    ) -> Option<u32> {
        self.probe(parent, name, name_of).ok()
    }

    /// Adds a node that [`Names::find`] does not find.
    pub(crate) fn add<'n>(
        &mut self,
        id: u32,
        parent: u32,
        name: &[u8],
        name_of: impl Fn(u32) -> (u32, &'n [u8]),
    ) {
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![EMPTY; old.len() * 2];
            for known in old.into_iter().filter(|slot| *slot != EMPTY) {
                let (parent, name) = name_of(known);
                self.put(known, parent, name);
            }
        }
        self.count += 1;
        self.put(id, parent, name);
    }

    fn put(&mut self, id: u32, parent: u32, name: &[u8]) {
        let mask = self.slots.len() - 1;
        let mut at = self.start(parent, name);
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = id;
    }

    fn probe<'n>(
        &self,
        parent: u32,
        name: &[u8],
        name_of: impl Fn(u32) -> (u32, &'n [u8]),
    ) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.start(parent, name);
        loop {
            match self.slots[at] {
                EMPTY => return Err(at),
                id if name_of(id) == (parent, name) => return Ok(id),
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // The lower bits are as good as any.
    fn start(&self, parent: u32, name: &[u8]) -> usize {
        self.hasher.hash_one((parent, name)) as usize & (self.slots.len() - 1)
    }
}
