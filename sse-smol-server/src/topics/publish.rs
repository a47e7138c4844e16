//! Publishing: checks an event, encodes it, and appends it to the log of its topic. Deleting the
//! events of a topic.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_proto::{Event, EventId, EventType, Limits, OwnedEvent, Text};

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::storage::{Appended, EventRef, NewEvent, StorageError, StorageErrorKind, not_published};
use crate::topics::backing::Backing;
use crate::topics::config::TopicsConfig;
use crate::topics::error::{MAX_ID, MAX_TYPE, TopicError, check_name};
use crate::topics::registry::Topic;
use crate::topics::state::State;
use crate::topics::window::{BATCH_EVENTS, Entry};

/// An event to publish, and the key of its publication. An [`Event`] converts to one.
///
/// The values are checked when it is published.
///
/// ```
/// use std::time::Duration;
///
/// use sse_smol_server::Publication;
/// use sse_smol_server::sse_proto::{Event, event_type};
///
/// let greeting = Publication::new("hello").with_type("greeting").with_key("once");
/// let event = Event::new("hello").with_type(event_type!("greeting"));
/// assert_eq!(greeting, Publication::from(event).with_key("once"));
/// assert_eq!(Publication::new("hello"), Publication::from("hello"));
/// ```
///
/// A decoder with the default [`Limits`] accepts every event that can be published, including the
/// last event ID that it keeps from the event before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication<'a> {
    /// The event type, if any: at most 4096 bytes without line ends.
    pub event_type: Option<Text<'a>>,
    /// The data: at most 16 MiB, the default of [`Limits::data`]. An [`Event`] without data leads
    /// to `None`, which is refused, since receivers dispatch no such event.
    pub data: Option<Text<'a>>,
    /// The id, if the publisher chooses it: 1 to 256 bytes of UTF-8. Otherwise the server assigns
    /// one.
    pub id: Option<Text<'a>>,
    /// The reconnection time, if the event sets one: see [`Event::with_retry`].
    pub retry: Option<Duration>,
    /// The idempotency key. A publication that repeats the key and the content of an event in the
    /// log is reported as a duplicate, and not published again.
    pub key: Option<&'a str>,
}

impl<'a> Publication<'a> {
    /// Creates a publication of this data, without a type, and with an id that the server assigns.
    pub fn new(data: impl Into<Text<'a>>) -> Self {
        Self { event_type: None, data: Some(data.into()), id: None, retry: None, key: None }
    }

    /// Returns the publication with this [`event_type`](Self::event_type).
    #[must_use]
    pub fn with_type(self, event_type: impl Into<Text<'a>>) -> Self {
        Self { event_type: Some(event_type.into()), ..self }
    }

    /// Returns the publication with this [`id`](Self::id).
    #[must_use]
    pub fn with_id(self, id: impl Into<Text<'a>>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Returns the publication with this [`retry`](Self::retry).
    #[must_use]
    pub const fn with_retry(self, retry: Duration) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Returns the publication with this [`key`](Self::key).
    #[must_use]
    pub const fn with_key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// Keeps all that the event sets. The id of an event before it, which a decoded event without one
/// has as its last event ID, is not kept.
impl<'a> From<Event<'a>> for Publication<'a> {
    fn from(event: Event<'a>) -> Self {
        let event_type = event.event_type();
        Self {
            event_type: (event_type != "message").then_some(event_type),
            data: event.has_data().then(|| event.data()),
            id: event.id().map(EventId::as_text),
            retry: event.retry(),
            key: None,
        }
    }
}

/// Publishes this text as data.
impl<'a> From<&'a str> for Publication<'a> {
    fn from(data: &'a str) -> Self {
        Self::new(data)
    }
}

impl<'a> From<&'a OwnedEvent> for Publication<'a> {
    fn from(event: &'a OwnedEvent) -> Self {
        event.as_event().into()
    }
}

/// A publication whose values have been checked.
struct Checked<'a> {
    /// The event without its id.
    event: Event<'a>,
    id: Option<&'a str>,
    key: Option<&'a str>,
}

/// The result of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's ID.
    pub id: String,
    /// Whether the event was already in the log, with the same key.
    pub duplicate: bool,
}

impl Checked<'_> {
    /// Returns the event as a storage appends it to a topic.
    fn to_append(&self, topic: &str) -> NewEvent {
        let mut fields = Vec::with_capacity(self.event.encoded_len());
        self.event.encode_to_vec(&mut fields);
        NewEvent {
            topic: topic.into(),
            fields: Bytes::from(fields),
            id: self.id.map(Into::into),
            key: self.key.map(Into::into),
        }
    }
}

/// Counts the result of an operation if it is an error of the storage, and returns it.
fn count<T>(
    backing: &Backing,
    operation: &'static str,
    result: Result<T, TopicError>,
) -> Result<T, TopicError> {
    if let Err(TopicError::Storage(error)) = &result {
        backing.counts.failed(operation, error);
    }
    result
}

/// Runs an operation of the storage for at most the time that publications have.
async fn in_time<T>(
    backing: &Backing,
    operation: impl Future<Output = Result<T, TopicError>>,
) -> Result<T, TopicError> {
    backing.timeouts.limit(operation).await.unwrap_or_else(|| {
        let timeout = backing.timeouts.timeout();
        let why = format!("it did not answer within {timeout:?}; a change may be made later");
        Err(StorageError::new(StorageErrorKind::Unavailable, why).into())
    })
}

impl State {
    /// Publishes an event: see [`Topics::publish`](crate::Topics::publish).
    pub(crate) async fn publish(
        &self,
        name: &str,
        new: Publication<'_>,
    ) -> Result<Published, TopicError> {
        check_name(name)?;
        let new = self.check(new)?;
        match &self.backing {
            None => {
                let (published, topic) = self.append(name, &new)?;
                if let Some(topic) = topic {
                    topic.notify();
                }
                Ok(published)
            }
            Some(backing) => {
                let stored = in_time(backing, self.store(backing, name, &new)).await;
                count(backing, "append", stored)
            }
        }
    }

    /// Publishes events: see [`Topics::publish_all`](crate::Topics::publish_all).
    pub(crate) async fn publish_all(
        &self,
        name: &str,
        new: Vec<Publication<'_>>,
    ) -> Vec<Result<Published, TopicError>> {
        if let Some(backing) = &self.backing {
            let mut results = Vec::with_capacity(new.len());
            let mut new = new.into_iter();
            while new.len() > 0 {
                let part = new.by_ref().take(BATCH_EVENTS);
                results.extend(self.store_all(backing, name, part).await);
                // A publisher that repeats the events that were not stored keeps the order.
                let ends_batch = |result: &Result<_, TopicError>| match result {
                    Err(TopicError::Storage(error)) => error.kind().is_temporary(),
                    _ => false,
                };
                if results.iter().any(ends_batch) {
                    let failure = TopicError::Storage(not_published());
                    results.extend(new.by_ref().map(|_| Err(failure.clone())));
                }
            }
            return results;
        }
        let mut changed: Option<Arc<Topic>> = None;
        let append = |new| {
            check_name(name)?;
            let (published, topic) = self.append(name, &self.check(new)?)?;
            changed = topic.or_else(|| changed.take());
            Ok(published)
        };
        let results = new.into_iter().map(append).collect();
        if let Some(topic) = changed {
            topic.notify();
        }
        results
    }

    /// Appends an event to the log in memory. Returns its topic for the caller to notify, unless the
    /// event is a duplicate.
    fn append(
        &self,
        name: &str,
        new: &Checked<'_>,
    ) -> Result<(Published, Option<Arc<Topic>>), TopicError> {
        let TopicsConfig { history, max_topics, max_bytes, .. } = &self.config;
        // Encoded before anything is locked, with room for the ID of the position that it gets.
        let encode = |id: &str| {
            let id = EventId::new(id).map_err(TopicError::Id)?;
            Ok::<_, TopicError>(Frame::from(new.event.with_id(id)))
        };
        let epoch = self.epoch();
        let mut id = epoch.id_at(0, new.id);
        let mut frame = encode(&id)?;
        let key: Option<Arc<str>> = new.key.map(Arc::from);
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
            let position = repeated.as_ref().map_or(*last_position + 1, |entry| entry.position);
            if new.id.is_none() {
                id.clear();
                epoch.push_id(&mut id, position);
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
            let entry = Entry { position, frame, at: now };
            window.append(entry, new.id.is_some(), key.as_ref(), history);
            *last_position = position;
            Ok(Published { id, duplicate: false })
        })?;
        if published.duplicate {
            return Ok((published, None));
        }
        registry.evict(*max_bytes);
        self.counts.published.inc();
        Ok((published, Some(topic)))
    }

    /// Appends an event to the storage, and waits until it is in the window of its topic.
    async fn store(
        &self,
        backing: &Backing,
        name: &str,
        new: &Checked<'_>,
    ) -> Result<Published, TopicError> {
        backing.check()?;
        let appended = backing.append(new.to_append(name)).await?;
        if let Appended::New(position) | Appended::Duplicate(position) = appended {
            backing.applied(position).await?;
        }
        self.published(new, appended)
    }

    /// Appends events to the storage, and waits until they are in the window of their topic.
    async fn store_all<'a>(
        &self,
        backing: &Backing,
        name: &str,
        new: impl Iterator<Item = Publication<'a>>,
    ) -> Vec<Result<Published, TopicError>> {
        let check = |new| check_name(name).and_then(|()| self.check(new));
        let new: Vec<Result<Checked<'_>, TopicError>> = new.map(check).collect();
        let events: Vec<_> = new.iter().flatten().map(|new| new.to_append(name)).collect();
        let count_of_events = events.len();
        let stored = in_time(backing, async {
            backing.check()?;
            let results = backing.append_all(events).await?;
            let last = results.iter().flatten().filter_map(|appended| match appended {
                Appended::New(position) | Appended::Duplicate(position) => Some(*position),
                _ => None,
            });
            if let Some(last) = last.max() {
                backing.applied(last).await?;
            }
            Ok(results.into_iter().map(|result| result.map_err(TopicError::from)).collect())
        });
        let all_failed = |failure| vec![Err(failure); count_of_events];
        let mut results = stored.await.unwrap_or_else(all_failed).into_iter();
        let published = |new: Result<_, _>| {
            let new = new?;
            let appended = results.next().expect("a result for each event");
            count(backing, "append", appended.and_then(|appended| self.published(&new, appended)))
        };
        new.into_iter().map(published).collect()
    }

    /// Returns the result of a publication that the storage has appended, or has not.
    fn published(&self, new: &Checked<'_>, appended: Appended) -> Result<Published, TopicError> {
        match appended {
            Appended::New(position) => {
                self.counts.published.inc();
                Ok(Published { id: self.id_at(position, new.id), duplicate: false })
            }
            Appended::Duplicate(position) => {
                Ok(Published { id: self.id_at(position, new.id), duplicate: true })
            }
            Appended::KeyInUse(EventRef { position, id }) => {
                Err(TopicError::KeyInUse { id: self.id_at(position, id.as_deref()) })
            }
            Appended::TooManyTopics(most) => Err(TopicError::TooManyTopics(most)),
            Appended::IdInUse => Err(TopicError::IdInUse(new.id.unwrap_or_default().to_owned())),
        }
    }

    /// Deletes the events of a topic: see [`Topics::delete`](crate::Topics::delete).
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, TopicError> {
        check_name(name)?;
        let Some(backing) = &self.backing else {
            return Ok(self.delete_held(name));
        };
        let deleted = in_time(backing, async {
            backing.check()?;
            let Some(position) = backing.delete(name).await? else {
                return Ok(false);
            };
            backing.applied(position).await?;
            Ok(true)
        });
        count(backing, "delete", deleted.await)
    }

    /// Checks the storage: see [`Topics::check`](crate::Topics::check).
    pub(crate) async fn check_storage(&self) -> Result<(), TopicError> {
        let Some(backing) = &self.backing else {
            return Ok(());
        };
        in_time(backing, async {
            backing.check()?;
            let position = backing.last_position().await?;
            Ok(backing.applied(position).await?)
        })
        .await
    }

    /// Deletes the events of a topic in memory.
    fn delete_held(&self, name: &str) -> bool {
        let age = self.config.history.age;
        let mut registry = self.registry();
        let Some(topic) = registry.get(name).map(Arc::clone) else {
            return false;
        };
        let now = CompactInstant::now();
        registry.change(&topic, |window, last_position| {
            window.expire(age, now, usize::MAX);
            let holds_events = window.len() > 0;
            if holds_events {
                // A position of its own, as in a storage.
                *last_position += 1;
                window.clear();
            }
            holds_events
        })
        // Subscribers need no notification: those that have not read all events have one already.
    }

    /// Returns a publication whose values are all valid.
    fn check<'a>(&self, new: Publication<'a>) -> Result<Checked<'a>, TopicError> {
        let data = new.data.ok_or(TopicError::WithoutData)?;
        if data.len() > Limits::DEFAULT.data {
            return Err(TopicError::DataTooLarge(data.len()));
        }
        let mut event = Event::new(data.as_bytes());
        if let Some(event_type) = new.event_type {
            if event_type.len() > MAX_TYPE {
                return Err(TopicError::TypeTooLong(event_type.len()));
            }
            event = event.with_type(EventType::new(event_type).map_err(TopicError::Type)?);
        }
        if let Some(retry) = new.retry {
            event = event.with_retry(retry);
        }
        let id = new.id.map(|id| self.check_own_id(id)).transpose()?;
        Ok(Checked { event, id, key: new.key })
    }

    fn check_own_id<'a>(&self, id: Text<'a>) -> Result<&'a str, TopicError> {
        EventId::new(id).map_err(TopicError::Id)?;
        let id = id.to_str().map_err(|_| TopicError::ReservedId(id.to_string()))?;
        let fits = (1..=MAX_ID).contains(&id.len());
        // A header value loses spaces at its ends, and control characters in one may be rejected.
        let visible =
            id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte >= 0x80);
        let reserved = matches!(id, "earliest" | "latest") || self.epoch().is_reserved(id);
        if !fits || !visible || reserved || id.trim() != id {
            return Err(TopicError::ReservedId(id.to_owned()));
        }
        Ok(id)
    }
}
