//! Counts how often something was seen.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::Hash;

/// How often each thing was seen.
#[derive(Debug, Clone)]
pub struct Tally<T> {
    counts: HashMap<T, u64>,
}

impl<T: Eq + Hash + Ord> Tally<T> {
    /// Counts one more.
    pub fn add(&mut self, thing: T) {
        *self.counts.entry(thing).or_default() += 1;
    }

    /// Lists what was seen, most frequent first; ties in the order of the things.
    pub fn ranking(&self) -> Vec<(&T, u64)> {
        let mut ranking: Vec<_> =
            self.counts.iter().map(|(thing, count)| (thing, *count)).collect();
        ranking.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
        ranking
    }
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self { counts: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn most_frequent_comes_first() {
        let mut tally = Tally::default();
        for word in ["b", "a", "c", "c"] {
            tally.add(word);
        }
        assert_eq!(tally.ranking(), [(&"c", 2), (&"a", 1), (&"b", 1)]);
    }
}
