//! Publishing: checks an event, encodes it, and appends it to the log of its topic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_proto::{Event, EventId, EventType, Limits};

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::storage::{Appended, EventRef, NewEvent};
use crate::topics::backing::Backing;
use crate::topics::config::TopicsConfig;
use crate::topics::error::{MAX_ID, MAX_TYPE, TopicError, check_name};
use crate::topics::state::State;
use crate::topics::window::Entry;

/// An event to publish.
///
/// A decoder with the default [`Limits`] accepts every event that can be published, including the
/// last event ID that it keeps from the event before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publication<'a> {
    /// The event type, if any: at most 4096 bytes without line ends.
    pub event_type: Option<&'a str>,
    /// The data: at most 16 MiB, the default of [`Limits::data`].
    pub data: &'a str,
    /// The ID, if the publisher chooses it: 1 to 256 bytes. Otherwise the server assigns one.
    pub id: Option<&'a str>,
    /// The reconnection time in milliseconds, if the event sets one.
    pub retry: Option<u64>,
    /// The idempotency key. A publication that repeats the key and the content of an event in the
    /// log is reported as a duplicate, and not published again.
    pub key: Option<&'a str>,
}

/// The result of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The event's ID.
    pub id: String,
    /// Whether the event was already in the log, with the same key.
    pub duplicate: bool,
}

impl State {
    /// Publishes an event: see [`Topics::publish`](crate::Topics::publish).
    pub(crate) async fn publish(
        &self,
        name: &str,
        new: Publication<'_>,
    ) -> Result<Published, TopicError> {
        check_name(name)?;
        let event = self.check(new)?;
        match &self.backing {
            None => self.append(name, new, event),
            Some(backing) => self.store(backing, name, new, event).await,
        }
    }

    /// Appends an event to the log in memory.
    fn append(
        &self,
        name: &str,
        new: Publication<'_>,
        event: Event<'_>,
    ) -> Result<Published, TopicError> {
        let TopicsConfig { history, max_topics, max_bytes, .. } = &self.config;
        // Encoded before anything is locked, with room for the ID of the position that it gets.
        let encode = |id: &str| {
            let id = EventId::new(id).map_err(TopicError::Id)?;
            Ok::<_, TopicError>(Frame::from(event.with_id(id)))
        };
        let mut id = self.id_at(0, new.id);
        let mut frame = encode(&id)?;
        let key = new.key.map(Arc::from);
        let mut registry = self.registry();
        // Read under the lock, so that positions are in the order of time.
        let now = CompactInstant::now();
        // All expired events are dropped before a publication is refused, since that may make room.
        let is_full = loop {
            let has_more = registry.expire(history.age, now);
            let is_full = registry.holding() >= *max_topics;
            if !(has_more && is_full) {
                break is_full;
            }
        };
        let topic = match registry.get(name) {
            Some(topic) => Arc::clone(topic),
            None if is_full => return Err(TopicError::TooManyTopics(*max_topics)),
            None => registry.create(name),
        };
        let published = registry.change(&topic, |window, last_position| {
            let needs_place = window.len() == 0;
            window.expire(history.age, now, usize::MAX);
            let repeated = new.key.and_then(|key| window.published(key));
            let position = repeated.map_or(*last_position + 1, |entry| entry.position);
            if new.id.is_none() {
                id.clear();
                self.push_assigned_id(&mut id, position);
                // The length differs beyond the twelve digits that IDs are padded to.
                if !frame.replace_id(&id) {
                    frame = encode(&id)?;
                }
            }
            if let Some(entry) = repeated {
                if frame.encoded() != entry.frame.encoded() {
                    return Err(TopicError::KeyInUse { id: entry.id() });
                }
                return Ok(Published { id, duplicate: true });
            }
            if let Some(id) = new.id.filter(|id| window.position_of(id).is_some()) {
                return Err(TopicError::IdInUse(id.to_owned()));
            }
            if needs_place && is_full {
                return Err(TopicError::TooManyTopics(*max_topics));
            }
            window.append(Entry { position, frame, at: now, key }, new.id.is_some(), history);
            *last_position = position;
            Ok(Published { id, duplicate: false })
        })?;
        if !published.duplicate {
            registry.evict(*max_bytes);
            self.counts.published.inc();
            drop(registry);
            topic.notify();
        }
        Ok(published)
    }

    /// Appends an event to the storage, and waits until it is in the window of its topic.
    async fn store(
        &self,
        backing: &Backing,
        name: &str,
        new: Publication<'_>,
        event: Event<'_>,
    ) -> Result<Published, TopicError> {
        backing.check()?;
        let mut fields = Vec::with_capacity(event.encoded_len());
        event.encode_to_vec(&mut fields);
        let appended = backing.storage.append(NewEvent {
            topic: name.into(),
            fields: Bytes::from(fields),
            id: new.id.map(Into::into),
            key: new.key.map(Into::into),
        });
        match appended.await? {
            Appended::New(position) => {
                self.counts.published.inc();
                backing.applied(position).await?;
                Ok(Published { id: self.id_at(position, new.id), duplicate: false })
            }
            Appended::Duplicate(position) => {
                backing.applied(position).await?;
                Ok(Published { id: self.id_at(position, new.id), duplicate: true })
            }
            Appended::KeyInUse(EventRef { position, id }) => {
                Err(TopicError::KeyInUse { id: self.id_at(position, id.as_deref()) })
            }
            Appended::TooManyTopics(most) => Err(TopicError::TooManyTopics(most)),
            Appended::IdInUse => Err(TopicError::IdInUse(new.id.unwrap_or_default().to_owned())),
        }
    }

    /// Returns a publication as an event without its ID, if all its values are valid.
    fn check<'a>(&self, new: Publication<'a>) -> Result<Event<'a>, TopicError> {
        if new.data.len() > Limits::DEFAULT.data {
            return Err(TopicError::DataTooLarge(new.data.len()));
        }
        let mut event = Event::new(new.data);
        if let Some(event_type) = new.event_type {
            if event_type.len() > MAX_TYPE {
                return Err(TopicError::TypeTooLong(event_type.len()));
            }
            event = event.with_type(EventType::new(event_type).map_err(TopicError::Type)?);
        }
        if let Some(retry) = new.retry {
            event = event.with_retry(Duration::from_millis(retry));
        }
        if let Some(id) = new.id {
            self.check_own_id(id)?;
        }
        Ok(event)
    }

    fn check_own_id(&self, id: &str) -> Result<(), TopicError> {
        EventId::new(id).map_err(TopicError::Id)?;
        let fits = (1..=MAX_ID).contains(&id.len());
        // A header value loses spaces at its ends, and control characters in one may be rejected.
        let visible =
            id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte >= 0x80);
        let reserved = matches!(id, "earliest" | "latest") || self.is_reserved(id);
        if !fits || !visible || reserved || id.trim() != id {
            return Err(TopicError::ReservedId(id.to_owned()));
        }
        Ok(())
    }
}
