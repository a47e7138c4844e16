//! A topic's window: the latest events, bounded in number, bytes and age.
//!
//! Positions are numbers that increase over all topics of a server; a window holds some of them. A
//! reader at a position has seen every event up to and including it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::storage::History;
use crate::topics::index::Index;

/// The maximum number of events in one batch.
pub(crate) const BATCH_EVENTS: usize = 512;

/// The size in bytes at which a batch is complete; its last event may exceed it.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// An event in the window. Its frame always has an ID.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) frame: Frame,
    pub(crate) at: CompactInstant,
}

impl Entry {
    /// Returns the event's ID.
    pub(crate) fn id(&self) -> String {
        String::from_utf8_lossy(self.frame.id().unwrap_or_default()).into_owned()
    }

    /// Returns the memory that the entry takes in bytes. The window's buffer grows by doubling, and
    /// counts as if it had just grown.
    fn cost(&self) -> usize {
        2 * size_of::<Self>() + self.frame.memory()
    }
}

/// The error for a position after which events have been dropped from the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted;

/// A bounded window of events.
#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    /// The memory that the entries take in bytes.
    bytes: usize,
    /// The memory that the topic takes besides its entries, in bytes.
    fixed: usize,
    /// The last position that was dropped. All later events of the topic are in the window.
    evicted: u64,
    /// The number of events that were appended.
    appended: u64,
    /// `None` while no event has a chosen ID or a key.
    index: Option<Box<Index>>,
}

impl Window {
    /// Creates an empty window from which events up to and including the position `evicted` count
    /// as dropped. The topic takes `fixed` bytes of memory besides its events.
    pub(crate) fn new(evicted: u64, fixed: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, fixed, evicted, appended: 0, index: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of events that were appended, including those that were dropped since.
    pub(crate) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Returns the memory that the window takes in bytes, or 0 if it holds no events.
    pub(crate) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.bytes());
        if self.entries.is_empty() { 0 } else { self.fixed + self.bytes + index }
    }

    /// Returns the last position that was dropped.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// Returns the position of the newest event, including dropped ones.
    pub(crate) fn last_position(&self) -> u64 {
        self.last().map_or(self.evicted, |last| last.position)
    }

    /// Returns the position of the event with this publisher-chosen ID.
    pub(crate) fn position_of(&self, own_id: &str) -> Option<u64> {
        self.index.as_ref()?.position_of(own_id)
    }

    /// Returns the event that was published with this key.
    pub(crate) fn published(&self, key: &str) -> Option<&Entry> {
        let position = self.index.as_ref()?.published(key)?;
        let index = self.entries.partition_point(|entry| entry.position < position);
        self.entries.get(index)
    }

    /// Appends an event, whose position must be higher than all others, and drops the oldest events
    /// that exceed the bounds. The newest event stays even if it exceeds them alone.
    pub(crate) fn append(
        &mut self,
        entry: Entry,
        has_own_id: bool,
        key: Option<&Arc<str>>,
        history: &History,
    ) {
        debug_assert!(self.entries.back().is_none_or(|last| last.position < entry.position));
        self.bytes += entry.cost();
        self.appended += 1;
        if has_own_id || key.is_some() {
            let index = self.index.get_or_insert_default();
            if has_own_id {
                index.add_id(entry.frame.id().unwrap_or_default(), entry.position);
            }
            if let Some(key) = key {
                index.add_key(key, entry.position);
            }
        }
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > history.events || self.bytes() > history.bytes)
        {
            self.evict();
        }
    }

    /// Drops all events.
    pub(crate) fn clear(&mut self) {
        self.reset(self.last_position());
    }

    /// Drops all events, and starts after a position, as if events up to it had been dropped.
    pub(crate) fn reset(&mut self, after: u64) {
        *self = Self { appended: self.appended, ..Self::new(after, self.fixed) };
    }

    /// Drops all events, and makes every later read an error.
    pub(crate) fn close(&mut self) {
        *self = Self::new(u64::MAX, self.fixed);
    }

    /// Drops at most `limit` events that are older than `age`, and returns the number dropped.
    pub(crate) fn expire(&mut self, age: Duration, now: CompactInstant, limit: usize) -> usize {
        let mut count = 0;
        while count < limit && self.first().is_some_and(|entry| entry.at + age < now) {
            self.evict();
            count += 1;
        }
        count
    }

    /// Drops the oldest event.
    pub(crate) fn evict(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        self.evicted = entry.position;
        if let Some(index) = &mut self.index {
            index.remove(entry.position, entry.frame.id().unwrap_or_default());
            if index.is_empty() {
                self.index = None;
            }
        }
        self.bytes -= entry.cost();
        // Twice the length is kept, so that the next events do not make the buffer grow again.
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        } else if self.entries.capacity() > 4 * self.entries.len().max(4) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Returns the events after a position, oldest first.
    ///
    /// # Errors
    ///
    /// [`Evicted`] if events after the position have been dropped.
    pub(crate) fn after(&self, position: u64) -> Result<impl Iterator<Item = &Entry>, Evicted> {
        if position < self.evicted {
            return Err(Evicted);
        }
        let start = self.entries.partition_point(|entry| entry.position <= position);
        Ok(self.entries.range(start..))
    }
}
