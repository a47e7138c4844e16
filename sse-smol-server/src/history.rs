//! A topic's log: the last events, bounded in number, bytes and age.
//!
//! Positions are numbers that only grow, over all topics of a server; a log holds some of them. To
//! have read up to a position is to have seen every event up to and with it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::Frame;

/// How much a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Events. Default: 1000.
    pub events: usize,
    /// Bytes, with what an event costs beside its text. Default: 1 MiB.
    pub bytes: usize,
    /// Age. Default: an hour.
    pub age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { events: 1000, bytes: 1 << 20, age: Duration::from_secs(3600) }
    }
}

/// So many events, or about so many bytes, are read at once.
pub(crate) const BATCH_EVENTS: usize = 512;
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// An event in the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) frame: Frame,
    pub(crate) at: Instant,
    /// An id that the publisher chose, which has to be looked up.
    pub(crate) own_id: Option<Box<str>>,
    /// What tells that an event is published again.
    pub(crate) key: Option<Box<str>>,
}

impl Entry {
    /// What an entry costs beside its text: itself, the frame's parts, rows of the indexes.
    const OVERHEAD: usize = 256;

    pub(crate) fn cost(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| 2 * text.len());
        self.frame.encoded().len() + text(&self.own_id) + text(&self.key) + Self::OVERHEAD
    }
}

/// The reader's position is not in the log any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted;

/// A bounded log of events.
#[derive(Debug)]
pub(crate) struct Log {
    history: History,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last position that was dropped. Everything after it that ever was is there.
    evicted: u64,
    own_ids: HashMap<Box<str>, u64>,
    keys: HashMap<Box<str>, u64>,
}

impl Log {
    /// An empty log, which knows nothing of what was at or before a position.
    pub(crate) fn new(history: History, evicted: u64) -> Self {
        Self {
            history,
            entries: VecDeque::new(),
            bytes: 0,
            evicted,
            own_ids: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// The position of the last event that it has, or had.
    pub(crate) fn last_position(&self) -> u64 {
        self.last().map_or(self.evicted, |last| last.position)
    }

    /// Where an event with this id, chosen by its publisher, stands.
    pub(crate) fn position_of(&self, own_id: &str) -> Option<u64> {
        self.own_ids.get(own_id).copied()
    }

    /// The event that was published with this key.
    pub(crate) fn published(&self, key: &str) -> Option<&Entry> {
        let position = *self.keys.get(key)?;
        let index = self.entries.partition_point(|entry| entry.position < position);
        self.entries.get(index)
    }

    /// Appends an event whose position is above all others, and drops what is too much. The newest
    /// event stays, however large it is.
    pub(crate) fn append(&mut self, entry: Entry) {
        debug_assert!(self.entries.back().is_none_or(|last| last.position < entry.position));
        let now = entry.at;
        if let Some(id) = &entry.own_id {
            self.own_ids.insert(id.clone(), entry.position);
        }
        if let Some(key) = &entry.key {
            self.keys.insert(key.clone(), entry.position);
        }
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > self.history.events || self.bytes > self.history.bytes)
        {
            self.evict();
        }
        self.expire(now);
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        let age = self.history.age;
        let too_old = |entry: &Entry| now.saturating_duration_since(entry.at) > age;
        while self.entries.front().is_some_and(too_old) {
            self.evict();
        }
    }

    /// Drops the oldest event.
    pub(crate) fn evict(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        self.bytes -= entry.cost();
        self.evicted = entry.position;
        if let Some(id) = &entry.own_id {
            self.own_ids.remove(id);
        }
        if let Some(key) = &entry.key {
            self.keys.remove(key);
        }
    }

    /// What comes after a position, oldest first.
    pub(crate) fn after(&self, position: u64) -> Result<impl Iterator<Item = &Entry>, Evicted> {
        if position < self.evicted {
            return Err(Evicted);
        }
        let start = self.entries.partition_point(|entry| entry.position <= position);
        Ok(self.entries.range(start..))
    }
}
