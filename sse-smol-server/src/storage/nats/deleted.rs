//! The topics that were deleted and have had no event since.
//!
//! The deletion of a topic is a message, which remains in the stream until a limit drops it. Such a
//! topic has a subject, but holds no events, and does not count towards the maximum number of
//! topics. The feed notes the deletions of all servers. Those from before its start are read when
//! that makes a difference.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

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
    /// The sequence of the last event of each topic that has had one since the oldest reader began,
    /// by hash. Empty without a reader.
    used: HashMap<u64, u64>,
    readers: Arc<()>,
    hasher: RandomState,
}

/// An operation that reads which topics were deleted. Until it is dropped, later events of topics
/// are recorded, so that a deletion from before them has no effect when it is noted.
#[derive(Debug)]
pub(super) struct Reader {
    _count: Arc<()>,
}

impl Deleted {
    /// Begins an operation that may note deletions after the feed has applied later events.
    pub(super) fn reader(&self) -> Reader {
        Reader { _count: Arc::clone(&self.readers) }
    }

    /// Notes the deletion of a topic, unless a later event of it was noted since a reader began.
    pub(super) fn insert(&mut self, topic: &str, sequence: u64) {
        let hash = self.hasher.hash_one(topic);
        // If not all later events could be noted, the topic counts as holding events.
        if self.used.len() >= MAX || self.used.get(&hash).is_some_and(|event| *event > sequence) {
            return;
        }
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
        let has_readers = Arc::strong_count(&self.readers) > 1;
        if !has_readers && !self.used.is_empty() {
            self.used = HashMap::new();
        }
        if self.topics.is_empty() && !has_readers {
            return;
        }
        let hash = self.hasher.hash_one(topic);
        if has_readers && self.used.len() < MAX {
            let event = self.used.entry(hash).or_default();
            *event = sequence.max(*event);
        }
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
        self.used.clear();
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

    #[test]
    fn a_deletion_that_is_noted_after_a_later_event_of_the_topic_has_no_effect() {
        let mut deleted = Deleted::default();
        let reader = deleted.reader();
        deleted.remove("a", 5);
        for (topic, sequence, counts) in [("a", 4, false), ("b", 4, true), ("a", 6, true)] {
            deleted.insert(topic, sequence);
            assert_eq!(deleted.contains(topic), counts, "{topic} {sequence}");
        }
        deleted.remove("a", 7);
        drop(reader);
        // In order.
        deleted.remove("c", 8);
        assert!(deleted.used.is_empty());
        deleted.insert("a", 9);
        assert!(deleted.contains("a"));
    }
}
