//! Topics: publishers append events to logs, and subscribers hold cursors into them.
//!
//! Positions order the events of all topics, so a cursor into any set of topics is one number.
//! Without a storage, a position is assigned and its event appended under one lock, that of the
//! registry. With one, the storage assigns positions, and the [feed](feed) appends the events.

mod backing;
mod config;
pub(crate) mod counts;
mod epoch;
pub(crate) mod error;
pub(crate) mod feed;
mod index;
pub(crate) mod listener;
mod pages;
mod publish;
pub(crate) mod registry;
mod start;
pub(crate) mod state;
mod streaming;
pub(crate) mod subscription;
mod timeouts;
pub(crate) mod window;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smol::channel;

use self::backing::Backing;
use self::config::check_config;
use self::counts::{Counts, StorageCounts};
use self::epoch::{Epoch, Epochs, check_name};
use self::registry::{Registry, Topic};
use self::state::State;
use self::window::Entry;
use crate::compact_instant::CompactInstant;
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageStatus, new_epoch};

pub use self::config::TopicsConfig;
pub use self::error::TopicError;
pub use self::feed::Feed;

pub use self::publish::{Publication, Published};
pub use self::start::Start;
pub use self::subscription::{Subscription, SubscriptionError};

/// All topics of a server.
///
/// ```
/// use sse_smol_server::sse_proto::{Event, event_type};
/// use sse_smol_server::{Error, Publication, Request, Start, Topics, TopicsConfig};
///
/// async fn news(topics: &Topics, request: Request) -> Result<(), Error> {
///     let id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
///     let start = id.map_or(Start::Latest, Start::After);
///     let subscription = topics.subscribe(&["news"], start).await.expect("a valid topic name");
///     request.open().await?.follow(subscription).await
/// }
///
/// smol::block_on(async {
///     let topics = Topics::new(TopicsConfig::default())?;
///     let event = Event::new("hello").with_type(event_type!("greeting"));
///     topics.publish("news", event).await?;
///     let once = Publication::from(event).with_key("once");
///     let published = topics.publish("news", once).await?;
///     let list = topics.list(None, 100).await?;
///     assert_eq!(list.topics[0].last_id, Some(published.id));
///     Ok(())
/// })
/// # .map_err(|error: sse_smol_server::TopicError| error)?;
/// # Ok::<(), sse_smol_server::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topics(Arc<State>);

/// One page of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPage {
    /// The topics, in the order of their names.
    pub topics: Vec<TopicInfo>,
    /// The name after which the next page starts, if there is a next page.
    pub next: Option<String>,
}

/// One row of the list of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// The name.
    pub name: String,
    /// The number of subscriptions.
    pub subscribers: usize,
    /// The number of events held.
    pub events: usize,
    /// The number of events that became visible in this process. It starts at 0 again for a topic
    /// that had neither events nor subscribers in memory for a time.
    pub published: u64,
    /// The memory that they take in bytes; with a storage, their size there.
    pub bytes: usize,
    /// The ID of the newest event, if one is held.
    pub last_id: Option<String>,
}

/// The totals of all topics in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicTotals {
    /// The number of topics that hold events or have subscribers.
    pub topics: usize,
    /// The number of subscriptions; one to several topics counts once for each topic.
    pub subscriptions: usize,
    /// The number of events held.
    pub events: usize,
    /// The memory that they take in bytes.
    pub bytes: usize,
}

impl Topics {
    /// The maximum number of topics on a page of the [list](Self::list).
    pub const MAX_PAGE: usize = 1000;

    /// Creates an empty set of topics, whose events are held in memory alone.
    ///
    /// # Errors
    ///
    /// [`TopicError::Config`] if [`gap_type`](TopicsConfig::gap_type) is empty, longer than 4096
    /// bytes or not an event type, or if [`max_topics`](TopicsConfig::max_topics) or
    /// [`History::age`](crate::History::age) is 0.
    pub fn new(config: TopicsConfig) -> Result<Self, TopicError> {
        check_config(&config)?;
        let epochs = Arc::new(Epochs::new(Epoch::first(new_epoch())));
        let registry = Registry::new(config.max_bytes);
        Ok(Self(Arc::new(State::new(config, epochs, registry, None))))
    }

    /// Opens the topics of a storage. The newest events are also held in memory, in windows with
    /// the bounds in `config`, where subscribers read them. A subscriber whose position precedes
    /// its window reads from the storage.
    ///
    /// The [`Feed`] has to be polled as long as the topics are in use. See
    /// [`storage`](crate::storage) for an example.
    ///
    /// # Errors
    ///
    /// The errors of [`new`](Self::new), and [`TopicError::Storage`].
    pub async fn open(
        config: TopicsConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Feed), TopicError> {
        check_config(&config)?;
        let epoch = storage.epoch();
        check_name(&epoch)?;
        let position = storage.last_position().await?;
        let changes = storage.follow(position);
        if storage.epoch() != epoch {
            let why = "its log was replaced while it was opened";
            return Err(StorageError::new(StorageErrorKind::Unavailable, why).into());
        }
        let epochs = Arc::new(Epochs::new(Epoch::first(epoch)));
        let (in_use, dropped) = channel::bounded(1);
        let backing =
            Backing::new(storage, Arc::clone(&epochs), position, config.publish_timeout, in_use);
        let state = State::new(config, epochs, Registry::backed(position), Some(backing));
        let state = Arc::new(state);
        let feed = Feed::new(&state, changes, dropped);
        Ok((Self(state), feed))
    }

    /// Publishes an event: text, an [`Event`](sse_proto::Event),
    /// `&`[`OwnedEvent`](sse_proto::OwnedEvent), or [`Publication`], which may have a key. When
    /// this returns, the event is in the log and subscribers have been woken. Without a storage,
    /// this waits for nothing.
    ///
    /// If the future is dropped, the event may have been published.
    ///
    /// # Errors
    ///
    /// A [`TopicError`] that names the value and the problem.
    pub fn publish<'a>(
        &self,
        name: &str,
        new: impl Into<Publication<'a>>,
    ) -> impl Future<Output = Result<Published, TopicError>> + Send {
        // Converted here, so that the future does not hold the value twice.
        self.0.publish(name, new.into())
    }

    /// Publishes events to a topic, in this order, as [`publish`](Self::publish) does with each,
    /// and returns the results in the same order. Subscribers are woken once. A storage gets at
    /// most 512 events in one call, and each call has the timeout of one publication.
    ///
    /// An event that is not published does not prevent the others from being published, unless the
    /// storage is full or unavailable. Then no later event is published, so a caller that repeats
    /// the rest keeps the order. If the future is dropped, any of the events may have been published.
    ///
    /// ```
    /// use sse_smol_server::{Topics, TopicsConfig};
    ///
    /// # smol::block_on(async {
    /// let topics = Topics::new(TopicsConfig::default())?;
    /// let results = topics.publish_all("news", ["one", "two"]).await;
    /// assert!(results.iter().all(Result::is_ok));
    /// assert_eq!(topics.totals().events, 2);
    /// # Ok::<(), sse_smol_server::TopicError>(())
    /// # }).unwrap();
    /// ```
    pub async fn publish_all<'a>(
        &self,
        name: &str,
        new: impl IntoIterator<Item = impl Into<Publication<'a>>>,
    ) -> Vec<Result<Published, TopicError>> {
        self.0.publish_all(name, new.into_iter().map(Into::into).collect()).await
    }

    /// Deletes all events of a topic, and returns whether it held any. When this returns,
    /// subscribers can see the deletion.
    ///
    /// A subscriber that has read all events misses nothing, and gets new ones as before. Any other
    /// one, connected or resuming, gets a gap event. IDs that publishers chose, and keys, can be
    /// used again.
    ///
    /// If the future is dropped, the events may have been deleted.
    ///
    /// ```
    /// use sse_smol_server::{Publication, Topics, TopicsConfig};
    ///
    /// # smol::block_on(async {
    /// let topics = Topics::new(TopicsConfig::default())?;
    /// topics.publish("news", Publication::new("hello").with_id("1")).await?;
    /// assert!(topics.delete("news").await?);
    /// assert!(!topics.delete("news").await?);
    /// assert_eq!(topics.totals().events, 0);
    /// # Ok::<(), sse_smol_server::TopicError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`TopicError::Name`] if the name is invalid, or [`TopicError::Storage`].
    pub async fn delete(&self, name: &str) -> Result<bool, TopicError> {
        self.0.delete(name).await
    }

    /// Checks that events can be published and delivered. Without a storage, they always can.
    ///
    /// With one, this waits until the feed has reached the storage's last position, for at most
    /// [`publish_timeout`](TopicsConfig::publish_timeout).
    ///
    /// # Errors
    ///
    /// [`TopicError::Storage`] if the feed has ended or is behind, or if the storage cannot be
    /// written.
    pub async fn check(&self) -> Result<(), TopicError> {
        self.0.check_storage().await
    }

    /// Subscribes to topics. The subscription yields the events missed since `start` and then new
    /// ones, in order, without gaps or duplicates. A topic without events does not count towards
    /// [`max_topics`](TopicsConfig::max_topics), and is removed with its last subscription.
    ///
    /// A subscription from [`Start::Latest`] or [`Start::Earliest`] begins with an ID without data,
    /// to resume from. One from [`Start::After`] begins with a gap event if events after the ID
    /// have been dropped, or if the ID is unknown; in that case all events that are held follow,
    /// which may be more than were missed. Without a storage, this completes without waiting.
    ///
    /// # Errors
    ///
    /// [`TopicError::Name`] if a name is invalid, or [`TopicError::Storage`].
    pub async fn subscribe(
        &self,
        names: &[&str],
        start: Start<'_>,
    ) -> Result<Subscription, TopicError> {
        start::subscribe(&self.0, names, start).await
    }

    /// Returns at most `limit` of the topics that hold events or have subscribers, in the order of
    /// their names, starting after the name `after`.
    ///
    /// The limit is clamped to between 1 and 1000. [`TopicPage::next`] is the `after` of the next
    /// page.
    ///
    /// # Errors
    ///
    /// [`TopicError::Storage`] if the storage cannot be read.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<TopicPage, TopicError> {
        let limit = limit.clamp(1, Self::MAX_PAGE);
        let stored = match &self.0.backing {
            Some(backing) => backing.topics(after, limit + 1).await?,
            None => Vec::new(),
        };
        let mut registry = self.0.registry();
        registry.expire(self.0.config.history.age, CompactInstant::now());
        // With a storage, only that decides which topics hold events.
        let is_row = |topic: &Topic| self.0.backing.is_none() || topic.subscribers() > 0;
        let mut held = registry.page(after, limit + 1, is_row);
        // Their numbers of subscribers and of events that became visible are here.
        held.extend(stored.iter().filter_map(|topic| registry.get(&topic.name).map(Arc::clone)));
        drop(registry);
        let mut rows: BTreeMap<Arc<str>, TopicInfo> = BTreeMap::new();
        for topic in held {
            rows.insert(Arc::clone(&topic.name), self.row(&topic));
        }
        for topic in stored {
            let row = rows.entry(Arc::clone(&topic.name)).or_default();
            row.name = topic.name.to_string();
            row.events = topic.events;
            row.bytes = topic.bytes;
            row.last_id = topic.last.map(|last| self.0.id_at(last.position, last.id.as_deref()));
        }
        let is_last = rows.len() <= limit;
        let topics: Vec<TopicInfo> = rows.into_values().take(limit).collect();
        let next = topics.last().filter(|_| !is_last).map(|topic| topic.name.clone());
        Ok(TopicPage { topics, next })
    }

    /// Returns the row of a topic. With a storage, the events in memory are not all of them.
    fn row(&self, topic: &Topic) -> TopicInfo {
        let (name, subscribers) = (topic.name.to_string(), topic.subscribers());
        let window = topic.window();
        let published = window.appended();
        if self.0.backing.is_some() {
            return TopicInfo { name, subscribers, published, ..TopicInfo::default() };
        }
        let last_id = window.last().map(Entry::id);
        let (events, bytes) = (window.len(), window.bytes());
        TopicInfo { name, subscribers, events, published, bytes, last_id }
    }

    /// Returns the totals of all topics. The time that this takes does not depend on their number.
    pub fn totals(&self) -> TopicTotals {
        let mut registry = self.0.registry();
        registry.expire(self.0.config.history.age, CompactInstant::now());
        TopicTotals {
            topics: registry.len(),
            subscriptions: self.0.counts.subscriptions.load(Ordering::Relaxed),
            events: registry.events(),
            bytes: registry.bytes(),
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Returns the counts of the storage, and its state.
    pub(crate) fn storage_counts(&self) -> Option<(&StorageCounts, StorageStatus)> {
        self.0.backing.as_ref().map(|backing| (&backing.counts, backing.status()))
    }
}
