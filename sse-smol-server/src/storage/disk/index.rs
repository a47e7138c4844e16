//! The index of the file, in memory: the events of each topic, and the bounds that drop the oldest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::record::Record;
use crate::storage::{Bounds, EventRef, History, PageLimit, TopicSummary};

/// The memory and the file space of an event beside its record, in bytes, as it counts towards the
/// bounds.
const OVERHEAD: usize = 64;

/// The topics of a file.
#[derive(Debug, Default)]
pub(super) struct Index {
    topics: BTreeMap<Arc<str>, Topic>,
    /// The topics that have events, by the position of their oldest one.
    oldest: BTreeMap<u64, Arc<str>>,
    /// The size of all events in bytes.
    bytes: usize,
    /// The topics that have no events left, by the position of their last one.
    empty: BTreeSet<(u64, Arc<str>)>,
    /// The highest position of a topic that was removed from here. Any topic that is not here may
    /// be that one.
    forgotten: u64,
    pub(super) last_position: u64,
    /// The last position that may have been assigned before the file was opened.
    reserved: u64,
}

/// The maximum number of events in a transaction.
pub(super) const BATCH_EVENTS: usize = 1024;

/// The maximum number of topics without events whose last position is kept.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
struct Topic {
    events: VecDeque<Slot>,
    bytes: usize,
    ids: HashMap<Box<str>, u64>,
    keys: HashMap<Box<str>, u64>,
    /// The position of the last event that was dropped, or 0.
    dropped: u64,
}

/// An event of a topic.
#[derive(Debug)]
struct Slot {
    position: u64,
    /// In milliseconds since 1970.
    time: u64,
    /// The size in bytes, as it counts towards the bounds.
    size: usize,
    /// Boxed, since most events have neither.
    names: Option<Box<Names>>,
}

#[derive(Debug)]
struct Names {
    id: Option<Box<str>>,
    key: Option<Box<str>>,
}

/// What is no longer in the index, and still has to be removed from the file.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// The events, by position, with their topics.
    pub(super) events: Vec<(u64, Arc<str>)>,
    /// Topics that have been forgotten.
    pub(super) topics: Vec<Arc<str>>,
    /// The position up to which topics have been forgotten.
    pub(super) forgotten: u64,
}

impl Removals {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.topics.is_empty()
    }
}

impl Slot {
    fn id(&self) -> Option<&str> {
        self.names.as_ref()?.id.as_deref()
    }

    fn reference(&self) -> EventRef {
        EventRef { position: self.position, id: self.id().map(Into::into) }
    }
}

/// Removes the ID or key of an event, unless a newer event has it.
fn remove(positions: &mut HashMap<Box<str>, u64>, name: Option<&str>, position: u64) {
    if let Some(name) = name
        && positions.get(name) == Some(&position)
    {
        positions.remove(name);
    }
}

impl Topic {
    fn push(&mut self, slot: Slot) {
        if let Some(names) = &slot.names {
            if let Some(id) = &names.id {
                self.ids.insert(id.clone(), slot.position);
            }
            if let Some(key) = &names.key {
                self.keys.insert(key.clone(), slot.position);
            }
        }
        self.bytes += slot.size;
        self.events.push_back(slot);
    }

    fn pop(&mut self) -> Option<Slot> {
        let slot = self.events.pop_front()?;
        if let Some(names) = &slot.names {
            remove(&mut self.ids, names.id.as_deref(), slot.position);
            remove(&mut self.keys, names.key.as_deref(), slot.position);
        }
        self.bytes -= slot.size;
        self.dropped = slot.position;
        if self.events.capacity() > 4 * self.events.len().max(4) {
            self.events.shrink_to(2 * self.events.len());
        }
        Some(slot)
    }
}

impl Index {
    /// Creates an index without events. Events up to `forgotten` of topics that it does not know
    /// count as dropped.
    pub(super) fn new(forgotten: u64) -> Self {
        Self { forgotten, ..Self::default() }
    }

    /// Sets the position of the last event of a topic that was dropped. Called before the topic's
    /// events are added.
    pub(super) fn set_dropped(&mut self, topic: &str, position: u64) {
        let name: Arc<str> = topic.into();
        self.topics.entry(Arc::clone(&name)).or_default().dropped = position;
        self.empty.insert((position, name));
    }

    /// Adds an event with a position higher than all others.
    pub(super) fn push(&mut self, position: u64, record: &Record<'_>) -> Arc<str> {
        let name = match self.topics.get_key_value(record.topic) {
            Some((name, _)) => Arc::clone(name),
            None => record.topic.into(),
        };
        let forgotten = self.forgotten;
        let new = || Topic { dropped: forgotten, ..Topic::default() };
        let topic = self.topics.entry(Arc::clone(&name)).or_insert_with(new);
        let names = (record.id.is_some() || record.key.is_some()).then(|| {
            Box::new(Names { id: record.id.map(Into::into), key: record.key.map(Into::into) })
        });
        let size = OVERHEAD
            + record.fields.len()
            + record.topic.len()
            + 2 * (record.id.map_or(0, str::len) + record.key.map_or(0, str::len));
        if topic.events.is_empty() {
            self.oldest.insert(position, Arc::clone(&name));
            self.empty.remove(&(topic.dropped, Arc::clone(&name)));
        }
        topic.push(Slot { position, time: record.time, size, names });
        self.bytes += size;
        self.last_position = position;
        name
    }

    /// Drops the oldest event of a topic.
    fn pop(&mut self, name: &Arc<str>, out: &mut Removals) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let Some(slot) = topic.pop() else {
            return;
        };
        self.bytes -= slot.size;
        self.oldest.remove(&slot.position);
        out.events.push((slot.position, Arc::clone(name)));
        match topic.events.front() {
            Some(next) => drop(self.oldest.insert(next.position, Arc::clone(name))),
            None => drop(self.empty.insert((slot.position, Arc::clone(name)))),
        }
        if self.empty.len() > REMEMBERED
            && let Some((position, name)) = self.empty.pop_first()
        {
            self.topics.remove(&name);
            self.forgotten = self.forgotten.max(position);
            out.topics.push(name);
            out.forgotten = self.forgotten;
        }
    }

    /// Reserves the positions that the last transaction before this start may have assigned. If it
    /// was damaged, the file has been opened without it, as if it had been interrupted. Its
    /// positions are not assigned to other events. `before` is the last position that the start
    /// before has reserved. Returns that of this one, which the file has to keep.
    pub(super) fn reserve(&mut self, before: u64) -> u64 {
        self.reserved = self.last_position.max(before) + BATCH_EVENTS as u64;
        self.reserved
    }

    /// Returns the position of the next event.
    pub(super) fn next_position(&self) -> u64 {
        self.last_position.max(self.reserved) + 1
    }

    /// Adds the events of a topic to those that are removed from the file.
    pub(super) fn list_events(&self, name: &Arc<str>, out: &mut Removals) {
        let events = self.topics.get(name).into_iter().flat_map(|topic| &topic.events);
        out.events.extend(events.map(|slot| (slot.position, Arc::clone(name))));
    }

    /// Drops all events of a topic, which have been removed from the file at a position. `out` gets
    /// the topics that this makes the index forget.
    pub(super) fn delete(&mut self, name: &Arc<str>, position: u64, out: &mut Removals) {
        let mut removed = Removals::default();
        while self.topics.get(name).is_some_and(|topic| !topic.events.is_empty()) {
            self.pop(name, &mut removed);
        }
        out.topics.append(&mut removed.topics);
        out.forgotten = out.forgotten.max(removed.forgotten);
        self.last_position = position;
    }

    /// Drops the events of a topic that exceed its bounds. The newest event stays.
    pub(super) fn trim(&mut self, name: &Arc<str>, history: &History, out: &mut Removals) {
        while self.topics.get(name).is_some_and(|topic| {
            topic.events.len() > 1
                && (topic.events.len() > history.events || topic.bytes > history.bytes)
        }) {
            self.pop(name, out);
        }
    }

    /// Drops the oldest events of all topics while they exceed `max_bytes`. The newest of all
    /// stays.
    pub(super) fn evict(&mut self, max_bytes: usize, out: &mut Removals) {
        while self.bytes > max_bytes {
            let name = match self.oldest.first_key_value() {
                Some((position, name)) if *position < self.last_position => Arc::clone(name),
                _ => return,
            };
            self.pop(&name, out);
        }
    }

    /// Drops the events from before a time in milliseconds since 1970.
    pub(super) fn expire(&mut self, before: u64, out: &mut Removals) {
        // Positions are nearly in the order of time: a clock that is set back delays the expiry.
        loop {
            let Some((_, name)) = self.oldest.first_key_value() else {
                return;
            };
            let name = Arc::clone(name);
            let first = self.topics.get(&name).and_then(|topic| topic.events.front());
            if first.is_none_or(|slot| slot.time >= before) {
                return;
            }
            self.pop(&name, out);
        }
    }

    /// Returns the number of topics that have events, and whether this topic is one of them.
    pub(super) fn holding(&self, topic: &str) -> (usize, bool) {
        (self.oldest.len(), self.topics.get(topic).is_some_and(|topic| !topic.events.is_empty()))
    }

    /// Returns the position of the event with this idempotency key.
    pub(super) fn by_key(&self, topic: &str, key: &str) -> Option<u64> {
        self.topics.get(topic)?.keys.get(key).copied()
    }

    /// Returns the position of the event with this publisher-chosen ID.
    pub(super) fn by_id(&self, topic: &str, id: &str) -> Option<u64> {
        self.topics.get(topic)?.ids.get(id).copied()
    }

    pub(super) fn bounds(&self, topic: &str) -> Bounds {
        let Some(topic) = self.topics.get(topic) else {
            return Bounds { dropped: self.forgotten, ..Bounds::default() };
        };
        Bounds {
            dropped: topic.dropped,
            first: topic.events.front().map(Slot::reference),
            last: topic.events.back().map(Slot::reference),
        }
    }

    /// Returns the positions of a page of events, whether it is the last, and the position of the
    /// last event that was dropped.
    pub(super) fn page(&self, topic: &str, after: u64, limit: PageLimit) -> (Vec<u64>, bool, u64) {
        let Some(topic) = self.topics.get(topic) else {
            return (Vec::new(), true, self.forgotten);
        };
        let start = topic.events.partition_point(|slot| slot.position <= after);
        let mut positions = Vec::new();
        let mut bytes = 0;
        for slot in topic.events.range(start..) {
            if !positions.is_empty() && (positions.len() >= limit.events || bytes >= limit.bytes) {
                break;
            }
            bytes += slot.size;
            positions.push(slot.position);
        }
        let is_last = start + positions.len() == topic.events.len();
        (positions, is_last, topic.dropped)
    }

    /// Returns a page of the topics that have events.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<TopicSummary> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.topics.range::<str, _>((start, Bound::Unbounded));
        let rows = topics.filter(|(_, topic)| !topic.events.is_empty()).take(limit);
        rows.map(|(name, topic)| TopicSummary {
            name: Arc::clone(name),
            events: topic.events.len(),
            bytes: topic.bytes,
            last: topic.events.back().map(Slot::reference),
        })
        .collect()
    }

    /// Returns the number of events.
    pub(super) fn len(&self) -> usize {
        self.topics.values().map(|topic| topic.events.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a write at an interval has failed, an event that was dropped is pushed again.
    #[test]
    fn the_key_and_the_id_of_a_newer_event_stay_when_an_older_one_is_dropped() {
        let mut index = Index::new(0);
        let record =
            Record { topic: "a", id: Some("i"), key: Some("k"), time: 1, fields: b"data: x\n\n" };
        let name = index.push(1, &record);
        index.push(2, &record);
        let history = History::default().with_events(1);
        index.trim(&name, &history, &mut Removals::default());
        assert_eq!((index.by_key("a", "k"), index.by_id("a", "i")), (Some(2), Some(2)));
        index.push(3, &Record { id: None, key: None, ..record });
        index.trim(&name, &history, &mut Removals::default());
        assert_eq!((index.by_key("a", "k"), index.by_id("a", "i")), (None, None));
    }
}
