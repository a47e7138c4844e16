//! The IDs that publishers chose, and keys, as far as this server has read them.

use std::collections::HashMap;
use std::sync::Arc;

use super::message::{Kind, Stored};
use super::position::Place;

/// The maximum number of IDs and keys of all topics. With long ones they take about 30 MiB.
pub(super) const MAX_IDS: usize = 50_000;

/// The maximum number of topics whose IDs are kept.
const MAX_TOPICS: usize = 1000;

/// The IDs of topics.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The stream that they are in.
    pub(super) epoch: String,
    topics: HashMap<Arc<str>, TopicIds>,
    /// The number of IDs and keys of all topics.
    pub(super) count: usize,
}

/// The IDs of a topic's events up to a sequence.
#[derive(Debug, Default)]
struct TopicIds {
    up_to: u64,
    /// Positions by ID, and by the identity of messages with a key.
    ids: HashMap<Box<str>, u64>,
}

/// Returns an ID as it is in the map. It differs from all identities of messages.
pub(super) fn of_id(id: &str) -> Box<str> {
    format!("i.{id}").into()
}

/// Returns the part of a message's identity that stands for its key, if it has one. What may follow
/// makes it differ from an earlier message.
pub(super) fn of_key(message_id: &str) -> Option<&str> {
    let end = message_id.match_indices('/').nth(1).map_or(message_id.len(), |(index, _)| index);
    message_id.starts_with("k.").then(|| &message_id[..end])
}

impl Ids {
    /// Returns the sequence up to which the IDs of a topic are known.
    pub(super) fn up_to(&self, topic: &str) -> u64 {
        self.topics.get(topic).map_or(0, |topic| topic.up_to)
    }

    pub(super) fn get(&self, topic: &str, id: &str) -> Option<u64> {
        self.topics.get(topic)?.ids.get(id).copied()
    }

    /// Adds the messages of a topic that follow those that are known.
    pub(super) fn extend(&mut self, topic: &Arc<str>, messages: &[Stored]) {
        for message in messages {
            match message.kind() {
                Kind::Deletion(_) => self.forget(topic),
                Kind::Event | Kind::Foreign => {}
            }
            let is_event = message.kind() == Kind::Event;
            let id = message.id().filter(|_| is_event).map(|id| of_id(&id));
            let key = message.message_id().filter(|_| is_event).and_then(of_key).map(Into::into);
            self.push(topic, message.position(), id.into_iter().chain(key));
        }
    }

    /// Adds the message of a topic that follows those that are known.
    pub(super) fn push(
        &mut self,
        topic: &Arc<str>,
        position: u64,
        new: impl Iterator<Item = Box<str>>,
    ) {
        let known = self.topics.entry(Arc::clone(topic)).or_default();
        known.up_to = Place::of(position).sequence;
        for id in new {
            if known.ids.insert(id, position).is_none() {
                self.count += 1;
            }
        }
    }

    /// Forgets the other topics if there are too many IDs. They are read again when they are needed.
    pub(super) fn make_room(&mut self, topic: &str) {
        if self.count > MAX_IDS || self.topics.len() > MAX_TOPICS {
            self.topics.retain(|name, _| **name == *topic);
            self.count = self.topics.values().map(|topic| topic.ids.len()).sum();
        }
    }

    /// Removes the IDs of events before a position.
    pub(super) fn prune(&mut self, topic: &str, before: u64) {
        if let Some(known) = self.topics.get_mut(topic) {
            self.count -= known.ids.len();
            known.ids.retain(|_, position| *position >= before);
            self.count += known.ids.len();
        }
    }

    /// Removes an ID whose event is gone.
    pub(super) fn remove(&mut self, topic: &str, id: &str) {
        if let Some(known) = self.topics.get_mut(topic)
            && known.ids.remove(id).is_some()
        {
            self.count -= 1;
        }
    }

    pub(super) fn forget(&mut self, topic: &str) {
        if let Some(known) = self.topics.remove(topic) {
            self.count -= known.ids.len();
        }
    }
}
