//! Storage: keeps the events of topics beyond the window in memory.
//!
//! Each topic keeps its newest events in memory, encoded once for all subscribers: its window.
//! Without a storage, the window is all there is. With one, [`Topics::open`] returns topics whose
//! events are appended to the storage first, and become visible when [`follow`](Storage::follow)
//! yields them, in the order of their positions. A subscriber whose position precedes the window
//! gets pages from the storage until it has caught up.
//!
//! An implementation may be a file, a database or a distributed log with many servers on it. It has
//! separate limits on events, topics and bytes. The bounds in [`TopicsConfig`](crate::TopicsConfig)
//! apply to the windows.
//!
//! ```
//! # mod log {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/storage/log.rs"));
//! # }
//! # mod memory {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/storage/memory.rs"));
//! # }
//! use std::sync::Arc;
//!
//! use smol::Executor;
//! use sse_smol_server::storage::Storage;
//! use sse_smol_server::{Publication, Start, Topics, TopicsConfig};
//! # use memory::MemoryStorage;
//!
//! # fn main() -> Result<(), sse_smol_server::TopicError> {
//! let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1000));
//! let executor = Executor::new();
//! smol::block_on(executor.run(async {
//!     let (topics, feed) = Topics::open(TopicsConfig::default(), Arc::clone(&storage)).await?;
//!     executor.spawn(feed).detach();
//!     let new = Publication::new("kept");
//!     let id = topics.publish("news", new).await?.id;
//!     drop(topics);
//!
//!     // After a restart, the windows are empty, and subscribers get the events from the storage.
//!     let (topics, feed) = Topics::open(TopicsConfig::default(), storage).await?;
//!     executor.spawn(feed).detach();
//!     let mut subscription = topics.subscribe(&["news"], Start::Earliest).await?;
//!     let mut frames = subscription.next_batch().await.unwrap(); // an id to resume from
//!     frames.extend(subscription.next_batch().await.unwrap());
//!     assert_eq!(frames.last().unwrap().id(), Some(id.as_bytes()));
//!     Ok::<(), sse_smol_server::TopicError>(())
//! }))?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Topics::open`]: crate::Topics::open

#[cfg(feature = "disk")]
pub mod disk;
mod error;
mod history;
#[cfg(feature = "nats")]
pub mod nats;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smol::stream::Stream;

pub use self::error::{StorageError, StorageErrorKind};
pub use self::history::History;

/// The future that operations of a [`Storage`] return.
pub type StorageFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// The stream that [`Storage::follow`] returns.
pub type StorageStream = Pin<Box<dyn Stream<Item = Result<Change, StorageError>> + Send>>;

/// A log of the events of all topics.
///
/// # Contract
///
/// - Events and deletions of topics have positions in one total order over all topics, which start
///   at 1 and are less than 2⁵⁶. Within an [epoch](Self::epoch), no position is assigned twice, not
///   even after a crash.
/// - An event that [`append`](Self::append) has returned a position for is in each later
///   [`read`](Self::read) that covers its position, until retention drops it or its topic is
///   deleted.
/// - [`follow`](Self::follow) yields every change, in the order of positions, and only when it can
///   be read.
/// - A future that is dropped may or may not have had its effect, and leaves the storage usable.
/// - Operations wait for a bounded time, and then return an error.
///
/// Errors of a kind that passes, such as a lost connection, should be retried by the implementation
/// within that time: an error of `read` ends the subscriber's stream, and an error of `follow` ends
/// all of them.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Returns the identity of the log, which is the first part of every assigned event ID: 1 to 64
    /// characters from `A-Z a-z 0-9 . _`.
    ///
    /// A storage whose last events were lost, or whose log was replaced, has a new epoch, so that
    /// event IDs that clients hold from before are not taken for others. If that happens while the
    /// storage is open, this returns the new epoch before any other operation reads or writes the
    /// new log, and [`follow`](Self::follow) yields [`Change::Reset`] soon after. A log that has lost
    /// its end may keep its epoch if [`is_assigned`](Self::is_assigned) recognizes lost positions.
    fn epoch(&self) -> String;

    /// Returns the last position that was assigned, to an event or to a deletion, or 0.
    ///
    /// [`Topics::check`](crate::Topics::check) calls this. So it should return an error while events
    /// cannot be appended, for example after a failed write or without a connection.
    fn last_position(&self) -> StorageFuture<'_, u64>;

    /// Returns whether a position that an event ID of this epoch contains was assigned by the log
    /// as it is now. A subscriber that resumes from any other position gets a gap event.
    ///
    /// That is the case up to the last position, unless the log can lose its end and continue in
    /// the same epoch. A log that can does not return true for a position that it has lost.
    fn is_assigned(&self, position: u64) -> StorageFuture<'_, bool> {
        Box::pin(async move { Ok(position <= self.last_position().await?) })
    }

    /// Appends an event, and returns when it is as durable as configured.
    ///
    /// # Errors
    ///
    /// Returns an error if the event was not stored, or, if the kind is
    /// [`Unavailable`](StorageErrorKind::Unavailable), possibly was. A publisher that repeats a
    /// publication with the same key gets [`Appended::Duplicate`] in the latter case.
    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended>;

    /// Appends events in this order, and returns the result of each. One that is not appended does
    /// not prevent the others, unless the storage is [`Full`](StorageErrorKind::Full) or
    /// [`Unavailable`](StorageErrorKind::Unavailable): no event after such an error is appended.
    ///
    /// By default, each event is appended when the one before is durable. A storage that can keep
    /// the order without waiting for each event should implement this.
    ///
    /// # Errors
    ///
    /// Returns an error in place of the results if it applies to all events.
    fn append_all(
        &self,
        events: Vec<NewEvent>,
    ) -> StorageFuture<'_, Vec<Result<Appended, StorageError>>> {
        Box::pin(async move { Ok(append_each(events, |event| self.append(event)).await) })
    }

    /// Returns the events of a topic after a position, oldest first: as many as `limit` allows, but
    /// at least one if there is one. A topic that does not exist has no events.
    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page>;

    /// Returns the bounds of a topic's events. A topic that does not exist has none.
    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds>;

    /// Returns the position of a topic's event with this publisher-chosen ID.
    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>>;

    /// Returns at most `limit` of the topics that hold events, in the order of their names,
    /// starting after the name `after`.
    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>>;

    /// Deletes all events of a topic. Returns the position of the deletion, or `None` if the topic
    /// holds no events.
    ///
    /// The keys and IDs of the events are forgotten. The position of the last of them is
    /// remembered as if retention had dropped them: see [`Page::dropped`] and [`Bounds::dropped`].
    /// It returns when the deletion is as durable as an event would be.
    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>>;

    /// Returns the changes of all topics after a position: first those that are stored, then each
    /// new one. After an error the stream is dropped.
    ///
    /// What is stored may lack events that have been dropped or deleted since, and deletions. But
    /// if the last position is after `after`, a change with that position is among them: a
    /// publication may wait for it. If the last event has been dropped, that is a
    /// [`Change::Deleted`] or a [`Change::Skipped`].
    ///
    /// `after` is a position of the epoch at the time of the call.
    fn follow(&self, after: u64) -> StorageStream;

    /// Returns the state of the storage for metrics, as far as it is known without waiting.
    /// `position` is the last one that [`follow`](Self::follow) has yielded and that was applied.
    fn status(&self, position: u64) -> StorageStatus {
        let _ = position;
        StorageStatus::default()
    }
}

/// The state of a storage for metrics: see [`Storage::status`]. What a storage does not count is
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageStatus {
    /// The number of changes after the position. If it is `None`, the metric is computed from the
    /// positions that publications of this server were assigned.
    pub lag: Option<u64>,
    /// The number of times that a lost connection to the engine was established again.
    pub reconnects: Option<u64>,
    /// The number of times that the stream of changes has continued after an interruption.
    pub resumes: Option<u64>,
}

/// A change of a log: see [`Storage::follow`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// An event was appended.
    Appended {
        /// The name of its topic.
        topic: Arc<str>,
        /// The event.
        event: StoredEvent,
    },
    /// All events of a topic up to a position are gone.
    Deleted {
        /// The name of the topic.
        topic: Arc<str>,
        /// The position of the deletion.
        position: u64,
    },
    /// Retention may have dropped events of a topic before they could be yielded. Subscribers that
    /// have not read up to this position read pages.
    Dropped {
        /// The name of the topic.
        topic: Arc<str>,
        /// A position after all of them, and before the next event of the topic.
        position: u64,
    },
    /// Like [`Dropped`](Self::Dropped), for all topics.
    AllDropped {
        /// A position after all of the dropped events.
        position: u64,
    },
    /// The log contains nothing else up to a position: neither events nor deletions.
    Skipped {
        /// The position.
        position: u64,
    },
    /// The log was replaced or has lost its end. All event IDs from before are void. Topics accept
    /// at most 255 replacements; the next one closes them with an error.
    Reset {
        /// The new [epoch](Storage::epoch).
        epoch: String,
        /// The last position of the log as it is now.
        position: u64,
    },
}

/// An event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEvent {
    /// The name of the topic: 1 to 128 characters from `A-Z a-z 0-9 . _ ~ -`.
    pub topic: Arc<str>,
    /// The event in the format of event streams, without its ID, up to and including the blank
    /// line.
    pub fields: Bytes,
    /// The ID, if the publisher chose it. Otherwise, it is made from epoch and position.
    pub id: Option<Box<str>>,
    /// The idempotency key, by which a repeated publication is recognized. It counts for the
    /// events of the topic.
    pub key: Option<Box<str>>,
}

impl NewEvent {
    /// Creates an event without an ID and a key, such as for a test of a storage.
    ///
    /// ```
    /// use sse_smol_server::storage::NewEvent;
    ///
    /// let mut event = NewEvent::new("news", "data: hello\n\n");
    /// event.key = Some("once".into());
    /// assert_eq!((&*event.topic, event.id), ("news", None));
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, fields: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), fields: fields.into(), id: None, key: None }
    }
}

/// The outcome of [`Storage::append`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Appended {
    /// The event was appended at this position.
    New(u64),
    /// The event of the topic with the same key, fields and ID is in the log already, at this
    /// position.
    Duplicate(u64),
    /// The key belongs to this event of the topic, which is different. Nothing was appended.
    KeyInUse(EventRef),
    /// An event of the topic has the same publisher-chosen ID. Nothing was appended.
    IdInUse,
    /// This many topics hold events, which is the maximum. Nothing was appended.
    TooManyTopics(usize),
}

/// An event in a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The position.
    pub position: u64,
    /// The event as in [`NewEvent::fields`].
    pub fields: Bytes,
    /// The ID, if the publisher chose it.
    pub id: Option<Box<str>>,
}

/// The maximum size of a [`Page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// The maximum number of events.
    pub events: usize,
    /// The size of all [`fields`](StoredEvent::fields) in bytes at which a page is complete. The
    /// last event may exceed it.
    pub bytes: usize,
}

/// Consecutive events of a topic: see [`Storage::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// Whether there were no further events when the page was read.
    pub is_last: bool,
    /// The position of the last event of the topic that retention or a deletion has dropped, or 0.
    /// If it is greater than the `after` of the read, events in between are missing, and the page
    /// starts after it.
    pub dropped: u64,
}

/// The bounds of a topic's events: see [`Storage::bounds`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The position of the last event that retention or a deletion has dropped, or 0.
    pub dropped: u64,
    /// The first event.
    pub first: Option<EventRef>,
    /// The last event.
    pub last: Option<EventRef>,
}

/// An event without its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRef {
    /// The position.
    pub position: u64,
    /// The ID, if the publisher chose it.
    pub id: Option<Box<str>>,
}

impl From<&StoredEvent> for EventRef {
    fn from(event: &StoredEvent) -> Self {
        Self { position: event.position, id: event.id.clone() }
    }
}

/// A row of [`Storage::topics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSummary {
    /// The name.
    pub name: Arc<str>,
    /// The number of events.
    pub events: usize,
    /// The size of the events in the storage in bytes, or 0 if it is not known.
    pub bytes: usize,
    /// The last event.
    pub last: Option<EventRef>,
}

/// Implements [`Storage::append_all`] with a function that appends one event.
async fn append_each<F>(
    events: Vec<NewEvent>,
    append: impl Fn(NewEvent) -> F,
) -> Vec<Result<Appended, StorageError>>
where
    F: Future<Output = Result<Appended, StorageError>>,
{
    let mut results = Vec::with_capacity(events.len());
    for event in events {
        let has_ended = results.last().is_some_and(ends_batch);
        let result = if has_ended { Err(not_published()) } else { append(event).await };
        results.push(result);
    }
    results
}

/// Returns whether no later event of a batch may be appended after one with this result.
fn ends_batch(result: &Result<Appended, StorageError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind().is_temporary())
}

/// Returns the error of an event that is not appended because its batch has ended with an error.
pub(crate) fn not_published() -> StorageError {
    let why = "not published: an earlier event of the batch failed";
    StorageError::new(StorageErrorKind::Unavailable, why)
}

/// Returns an identity for a log that no other log has.
pub(crate) fn new_epoch() -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The time orders the IDs of an epoch after those of earlier ones. The random part keeps epochs
    // distinct if the clock was set back.
    format!("{:x}{:05x}", since_1970.as_millis(), fastrand::u32(..1 << 20))
}
