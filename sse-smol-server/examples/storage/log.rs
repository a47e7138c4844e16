// The events of all topics in one list, which every operation searches from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol::channel::Sender;
use sse_smol_server::storage::{Appended, Change, NewEvent, StorageError, StoredEvent};

/// The newest events of each topic, in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The maximum number of events of each topic.
    most: usize,
    pub(crate) last_position: u64,
    events: Vec<Held>,
    /// For each topic, the position of the last event that was dropped.
    dropped: BTreeMap<Arc<str>, u64>,
    /// Where new changes go. Unbounded, since the feed takes each one at once.
    followers: Vec<Sender<Result<Change, StorageError>>>,
}

/// The topic of an event, its key, and the event.
#[derive(Debug)]
struct Held(Arc<str>, Option<Box<str>>, StoredEvent);

impl Log {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Returns the events of a topic.
    pub(crate) fn of(&self, topic: &str) -> impl DoubleEndedIterator<Item = &StoredEvent> {
        self.events.iter().filter(move |held| *held.0 == *topic).map(|held| &held.2)
    }

    /// Returns the names of the topics that hold events.
    pub(crate) fn topics(&self) -> BTreeSet<&Arc<str>> {
        self.events.iter().map(|held| &held.0).collect()
    }

    /// Returns the position of the last event of a topic that was dropped, or 0.
    pub(crate) fn dropped(&self, topic: &str) -> u64 {
        self.dropped.get(topic).copied().unwrap_or(0)
    }

    /// Appends an event, unless the topic has one with its key or its ID.
    pub(crate) fn append(&mut self, new: NewEvent) -> Appended {
        let NewEvent { topic, fields, id, key, .. } = new;
        let has_key = |held: &&Held| held.0 == topic && key.is_some() && held.1 == key;
        if let Some(Held(.., known)) = self.events.iter().find(has_key) {
            if known.fields == fields && known.id == id {
                return Appended::Duplicate(known.position);
            }
            return Appended::KeyInUse(known.into());
        }
        if self.of(&topic).any(|known| id.is_some() && known.id == id) {
            return Appended::IdInUse;
        }
        let event = StoredEvent { position: self.last_position + 1, fields, id };
        self.events.push(Held(Arc::clone(&topic), key, event.clone()));
        let excess = self.of(&topic).rev().nth(self.most).map(|event| event.position);
        if let Some(position) = excess {
            self.drop_up_to(&topic, position);
        }
        Appended::New(self.advance(&Change::Appended { topic, event }))
    }

    /// Drops all events of a topic. Returns the position of the deletion, if there were any.
    pub(crate) fn delete(&mut self, topic: &str) -> Option<u64> {
        let last = self.of(topic).next_back()?.position;
        let (topic, position) = (Arc::from(topic), self.last_position + 1);
        self.drop_up_to(&topic, last);
        Some(self.advance(&Change::Deleted { topic, position }))
    }

    /// Sends the changes after a position, and from then on each new one.
    pub(crate) fn follow(&mut self, after: u64, follower: Sender<Result<Change, StorageError>>) {
        let stored = self.events.iter().filter(|held| held.2.position > after);
        let reached = stored.clone().last().map_or(after, |held| held.2.position);
        let stored = stored.map(|Held(topic, _, event)| Change::Appended {
            topic: Arc::clone(topic),
            event: event.clone(),
        });
        // What came after the last event is a deletion, which is no longer of interest.
        let position = self.last_position;
        let rest = (reached < position).then_some(Change::Skipped { position });
        for change in stored.chain(rest) {
            follower.try_send(Ok(change)).expect("the receiver is here");
        }
        self.followers.push(follower);
    }

    fn drop_up_to(&mut self, topic: &Arc<str>, position: u64) {
        self.events.retain(|held| held.0 != *topic || held.2.position > position);
        self.dropped.insert(Arc::clone(topic), position);
    }

    /// Sends a change at the next position, and returns the position.
    fn advance(&mut self, change: &Change) -> u64 {
        self.followers.retain(|follower| follower.try_send(Ok(change.clone())).is_ok());
        self.last_position += 1;
        self.last_position
    }
}
