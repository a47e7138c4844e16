//! The index of a topic's events: their positions by ID and by key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::segment::allocated;

/// The positions of events by ID and by key. It holds copies of both, so that it keeps no frame in
/// memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// IDs that publishers chose. Assigned IDs contain their position and need no index.
    own_ids: HashMap<Box<[u8]>, u64>,
    /// Idempotency keys, by which a repeated publication is recognized.
    keys: HashMap<Arc<str>, u64>,
    /// The same keys, lowest position first.
    keys_in_order: VecDeque<(u64, Arc<str>)>,
    /// The memory that the rows take in bytes.
    bytes: usize,
}

/// Returns the memory of a table's row in bytes. Tables grow by doubling, and count as if they had
/// just grown: they are 7/16 full then.
const fn row<K>() -> usize {
    (size_of::<(K, u64)>() + 1) * 16 / 7
}

/// Returns the memory that the row of an ID takes in bytes.
const fn id_cost(id: &[u8]) -> usize {
    row::<Box<[u8]>>() + allocated(id.len())
}

/// Returns the memory that the rows of a key take in bytes.
const fn key_cost(key: &str) -> usize {
    row::<Arc<str>>() + 2 * size_of::<(u64, Arc<str>)>() + allocated(key.len() + 16)
}

impl Index {
    /// The memory of an index with its smallest tables, in bytes.
    const FIXED: usize = 256;

    /// Returns the memory that the index takes in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        Self::FIXED + self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own_ids.is_empty() && self.keys.is_empty()
    }

    /// Adds an ID that a publisher chose.
    pub(crate) fn add_id(&mut self, id: &[u8], position: u64) {
        self.bytes += id_cost(id);
        self.own_ids.insert(id.into(), position);
    }

    /// Adds a key, whose position must be higher than those of all others.
    pub(crate) fn add_key(&mut self, key: &Arc<str>, position: u64) {
        self.bytes += key_cost(key);
        self.keys.insert(Arc::clone(key), position);
        self.keys_in_order.push_back((position, Arc::clone(key)));
    }

    /// Returns the position of the event with this publisher-chosen ID.
    pub(crate) fn position_of(&self, own_id: &str) -> Option<u64> {
        self.own_ids.get(own_id.as_bytes()).copied()
    }

    /// Returns the position of the event that was published with this key.
    pub(crate) fn published(&self, key: &str) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// Removes the oldest event of the topic.
    pub(crate) fn remove(&mut self, position: u64, id: &[u8]) {
        // Assigned IDs are not in the index.
        if self.own_ids.remove(id).is_some() {
            self.bytes -= id_cost(id);
        }
        let has_key = self.keys_in_order.front().is_some_and(|(first, _)| *first == position);
        if has_key && let Some((_, key)) = self.keys_in_order.pop_front() {
            self.keys.remove(&key);
            self.bytes -= key_cost(&key);
        }
        self.shrink();
    }

    /// Shrinks tables that are much larger than their content.
    fn shrink(&mut self) {
        let (ids, keys) = (self.own_ids.len(), self.keys.len());
        if self.own_ids.capacity() > 4 * ids.max(4) {
            self.own_ids.shrink_to(2 * ids);
        }
        if self.keys.capacity() > 4 * keys.max(4) {
            self.keys.shrink_to(2 * keys);
        }
        if self.keys_in_order.capacity() > 4 * keys.max(4) {
            self.keys_in_order.shrink_to(2 * keys);
        }
    }
}
