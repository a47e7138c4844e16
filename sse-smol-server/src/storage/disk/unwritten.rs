//! Events that are not in the file yet: those of the next transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::Record;
use crate::storage::{NewEvent, StoredEvent};

/// The number of bytes that count for an event in addition to its values.
const OVERHEAD: usize = 256;

/// Events that are not in the file yet, by position.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    events: BTreeMap<u64, Event>,
    bytes: usize,
}

/// An event, and the time in milliseconds since 1970 at which it was appended.
#[derive(Debug)]
struct Event {
    event: NewEvent,
    time: u64,
}

/// Returns the memory of an event in bytes.
fn size(event: &NewEvent) -> usize {
    let NewEvent { topic, fields, id, key } = event;
    let name = |name: &Option<Box<str>>| name.as_ref().map_or(0, |name| name.len());
    OVERHEAD + topic.len() + fields.len() + name(id) + name(key)
}

/// Returns an event as a record of the file.
pub(super) fn record(event: &NewEvent, time: u64) -> Record<'_> {
    let NewEvent { topic, fields, id, key } = event;
    Record { topic, id: id.as_deref(), key: key.as_deref(), time, fields }
}

impl Unwritten {
    /// Adds an event with a position higher than all others.
    pub(super) fn push(&mut self, position: u64, event: NewEvent, time: u64) {
        self.bytes += size(&event);
        self.events.insert(position, Event { event, time });
    }

    /// Removes all events up to a position.
    pub(super) fn remove_up_to(&mut self, position: u64) {
        self.events = self.events.split_off(&position.saturating_add(1));
        self.bytes = self.events.values().map(|one| size(&one.event)).sum();
    }

    /// Removes all events.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns the size of all events in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the position of the first event.
    pub(super) fn first(&self) -> Option<u64> {
        self.events.first_key_value().map(|(position, _)| *position)
    }

    /// Returns the position and the record of each event, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Record<'_>)> {
        self.events.iter().map(|(position, one)| (*position, record(&one.event, one.time)))
    }

    /// Returns the topic and the event at a position.
    pub(super) fn get(&self, position: u64) -> Option<(&Arc<str>, StoredEvent)> {
        let NewEvent { topic, fields, id, .. } = &self.events.get(&position)?.event;
        Some((topic, StoredEvent { position, fields: fields.clone(), id: id.clone() }))
    }
}
