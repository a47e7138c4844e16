//! Which events of a batch are new, and the outcome for the others.

use std::collections::HashSet;
use std::sync::Arc;

use smol::channel::Sender;

use super::file::too_long;
use super::shared::Shared;
use super::unwritten::record;
use crate::storage::{Appended, EventRef, NewEvent, StorageError, StorageErrorKind};

/// A sender for the answer to a publication.
pub(super) type Reply = Sender<Result<Appended, StorageError>>;

/// An event of a batch.
pub(super) struct Pending {
    pub(super) event: NewEvent,
    pub(super) position: u64,
    pub(super) reply: Reply,
}

/// The parts of a batch.
pub(super) struct Placed {
    /// The events that are new, with their positions.
    pub(super) pending: Vec<Pending>,
    /// Events that are not new.
    pub(super) repeated: Vec<(NewEvent, Reply)>,
    /// The rest, which begins with an event that repeats one of `pending`. Whether it is new then is
    /// known when those are appended: they may have been dropped.
    pub(super) rest: Vec<(NewEvent, Reply)>,
}

/// Assigns positions to events that are new.
pub(super) fn place(shared: &Shared, max_topics: usize, batch: Vec<(NewEvent, Reply)>) -> Placed {
    let index = shared.index();
    let mut next = index.next_position();
    // What the events of the batch itself will use.
    let mut keys = HashSet::new();
    let mut ids = HashSet::new();
    let mut topics = HashSet::new();
    let (mut pending, mut repeated, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut batch = batch.into_iter();
    while let Some((event, reply)) = batch.next() {
        if !record(&event, 0).fits() {
            let _ = reply.try_send(Err(too_long()));
            continue;
        }
        let topic = &event.topic;
        let of_topic = |text: &str| (Arc::clone(topic), text.to_owned());
        let (key, id) = (event.key.as_deref(), event.id.as_deref());
        if key.is_some_and(|key| keys.contains(&of_topic(key)))
            || id.is_some_and(|id| ids.contains(&of_topic(id)))
        {
            rest.push((event, reply));
            rest.extend(batch);
            break;
        }
        let is_repeated = key.is_some_and(|key| index.by_key(topic, key).is_some())
            || id.is_some_and(|id| index.by_id(topic, id).is_some());
        let (holding, is_held) = index.holding(topic);
        let is_full = !is_held && !topics.contains(topic) && holding + topics.len() >= max_topics;
        if is_repeated || is_full {
            repeated.push((event, reply));
            continue;
        }
        if !is_held {
            topics.insert(Arc::clone(topic));
        }
        keys.extend(key.map(of_topic));
        ids.extend(id.map(of_topic));
        pending.push(Pending { event, position: next, reply });
        next += 1;
    }
    Placed { pending, repeated, rest }
}

/// Returns the outcome for an event that is not new, or `None` if it is new by now, since the event
/// that it repeated has been dropped.
pub(super) fn outcome(
    shared: &Shared,
    max_topics: usize,
    event: &NewEvent,
) -> Option<Result<Appended, StorageError>> {
    let NewEvent { topic, fields, id, key } = event;
    let index = shared.index();
    let known = key.as_deref().and_then(|key| index.by_key(topic, key));
    let has_id = id.as_deref().is_some_and(|id| index.by_id(topic, id).is_some());
    let (holding, is_held) = index.holding(topic);
    drop(index);
    if let Some(position) = known {
        let mut stored = None;
        let read = shared.events(&[position], |_, event| stored = Some(event));
        let compared = read.and_then(|()| {
            let why = "the event with the same key cannot be read";
            let stored =
                stored.ok_or_else(|| StorageError::new(StorageErrorKind::Unavailable, why))?;
            let is_same = stored.fields == *fields && stored.id == *id;
            Ok(if is_same {
                Appended::Duplicate(position)
            } else {
                Appended::KeyInUse(EventRef { position, id: stored.id })
            })
        });
        return Some(compared);
    }
    if has_id {
        return Some(Ok(Appended::IdInUse));
    }
    (!is_held && holding >= max_topics).then_some(Ok(Appended::TooManyTopics(max_topics)))
}
