//! The topics that were deleted and have had no event since.
//!
//! The deletion of a topic is a message, which remains in the stream until a limit drops it. Such a
//! topic has a subject, but holds no events, and does not count towards the maximum number of
//! topics. The feed notes the deletions of all servers. Those from before its start are read when
//! that makes a difference.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

/// The maximum number of topics that are noted, which take about 16 MiB. Beyond it, those that were
/// deleted first count as holding events.
const MAX: usize = 1 << 18;

/// Deleted topics.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    /// The sequences of deletions, by the hash of the topic's name, which takes less memory than
    /// the name. If two hashes are equal, the number of topics is wrong by one.
    topics: HashMap<u64, u64>,
    /// The hashes, by sequence.
    sequences: BTreeMap<u64, u64>,
    hasher: RandomState,
}

impl Deleted {
    /// Notes the deletion of a topic.
    pub(super) fn insert(&mut self, topic: &str, sequence: u64) {
        let hash = self.hasher.hash_one(topic);
        let known = self.topics.entry(hash).or_default();
        if *known < sequence {
            self.sequences.remove(known);
            *known = sequence;
            self.sequences.insert(sequence, hash);
        }
        while self.sequences.len() > MAX {
            self.remove_first();
        }
    }

    /// Notes an event of a topic.
    pub(super) fn remove(&mut self, topic: &str, sequence: u64) {
        if self.topics.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(topic);
        if let Some(deletion) = self.topics.get(&hash).copied().filter(|known| *known < sequence) {
            self.topics.remove(&hash);
            self.sequences.remove(&deletion);
        }
    }

    fn remove_first(&mut self) {
        if let Some((_, hash)) = self.sequences.pop_first() {
            self.topics.remove(&hash);
        }
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        !self.topics.is_empty() && self.topics.contains_key(&self.hasher.hash_one(topic))
    }

    /// Returns the number of topics whose deletion is still in a stream with this first sequence.
    pub(super) fn count(&mut self, first: u64) -> usize {
        while self.sequences.first_key_value().is_some_and(|(sequence, _)| *sequence < first) {
            self.remove_first();
        }
        self.sequences.len()
    }

    pub(super) fn clear(&mut self) {
        self.topics.clear();
        self.sequences.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_count_from_their_deletion_to_their_next_event_or_the_end_of_the_deletion() {
        let mut deleted = Deleted::default();
        for (topic, sequence) in [("a", 1), ("b", 5), ("c", 7), ("b", 3)] {
            deleted.insert(topic, sequence);
        }
        assert_eq!(
            (deleted.count(1), deleted.contains("b"), deleted.contains("d")),
            (3, true, false)
        );
        // From before the deletion.
        deleted.remove("b", 4);
        assert!(deleted.contains("b"));
        deleted.remove("b", 6);
        assert!(!deleted.contains("b"));
        assert_eq!((deleted.count(2), deleted.contains("a")), (1, false));
        for sequence in 10..10 + MAX as u64 + 5 {
            deleted.insert(&sequence.to_string(), sequence);
        }
        assert_eq!(
            (deleted.count(1), deleted.contains("c"), deleted.contains("20")),
            (MAX, false, true)
        );
        deleted.clear();
        assert_eq!((deleted.count(1), deleted.contains("20")), (0, false));
    }
}
