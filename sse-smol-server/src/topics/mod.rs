//! Topics: publishers append events to logs, and subscribers hold cursors into them.
//!
//! A position is assigned and its event appended under one lock, that of the registry. So positions
//! order the events of all topics, and a cursor into any set of topics is one number.

pub(crate) mod error;
pub(crate) mod history;
pub(crate) mod registry;
pub(crate) mod subscription;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use sse_proto::{Event, EventId, EventType, Limits};

use self::error::{MAX_ID, MAX_TYPE};
use self::history::Entry;
use self::registry::{Registry, Topic};
use crate::Frame;
use crate::net::compact_instant::CompactInstant;

pub use self::error::TopicError;
pub use self::history::History;
pub use self::subscription::{Lagged, Subscription};

/// The configuration of topics.
#[derive(Clone, Debug)]
pub struct TopicsConfig {
    /// The bounds of each topic's log.
    pub history: History,
    /// The maximum number of topics that hold events, at least 1. Topics that have subscribers but
    /// no events do not count. Default: 1000.
    pub max_topics: usize,
    /// The maximum memory that all topics take together, in bytes. Beyond it, the oldest events are
    /// dropped, except for the newest one. Default: 256 MiB.
    pub max_bytes: usize,
    /// The type of the event that reports a gap to a subscriber: 1 to 4096 bytes without line ends.
    /// Default: `gap`.
    pub gap_type: String,
    /// Whether a subscriber that falls behind the log while it is connected gets a gap event and
    /// continues. By default, its stream ends, so that it reconnects and resumes.
    pub gap_on_lag: bool,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            history: History::default(),
            max_topics: 1000,
            max_bytes: 256 << 20,
            gap_type: "gap".to_owned(),
            gap_on_lag: false,
        }
    }
}

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
    /// The id, if the publisher chooses it: 1 to 256 bytes. Otherwise the server assigns one.
    pub id: Option<&'a str>,
    /// The reconnection time in milliseconds, if the event sets one.
    pub retry: Option<u64>,
    /// The idempotency key. A publication that repeats the key and the content of an event in the
    /// log is not published again.
    pub key: Option<&'a str>,
}

/// The result of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Whether the event was already in the log, with the same key.
    pub duplicate: bool,
}

/// The place where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// With the next event that is published.
    Latest,
    /// With the oldest event that is held.
    Earliest,
    /// After the event with this id.
    After(&'a str),
}

/// All topics of a server.
///
/// ```
/// use sse_smol_server::{End, Publication, Request, Start, Topics, TopicsConfig};
///
/// async fn news(topics: &Topics, request: Request) -> Result<(), End> {
///     let id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
///     let start = id.map_or(Start::Latest, Start::After);
///     let subscription = topics.subscribe(&["news"], start).expect("a valid topic name");
///     request.open().await?.follow(subscription).await
/// }
///
/// let topics = Topics::new(TopicsConfig::default())?;
/// let new = Publication { data: "hello", event_type: Some("greeting"), ..Publication::default() };
/// let published = topics.publish("news", new)?;
/// assert_eq!(topics.list(None, 100).topics[0].last_id, Some(published.id));
/// # Ok::<(), sse_smol_server::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: TopicsConfig,
    /// The prefix of assigned ids, unique to this run, so that ids of other runs are recognized.
    run: String,
    registry: Mutex<Registry>,
    counts: Counts,
    /// The most recent start marker and its position. Cached, since many subscriptions start at the
    /// same position.
    start: Mutex<Option<(u64, Frame)>>,
}

/// Counts for metrics, updated as they change.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: Counter,
    pub(crate) gaps: Counter,
    pub(crate) subscriptions: AtomicUsize,
}

/// One page of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPage {
    /// The topics, in the order of their names.
    pub topics: Vec<TopicInfo>,
    /// The name after which the next page starts, if there is a next page.
    pub next: Option<String>,
}

/// One row of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The name.
    pub name: String,
    /// The number of subscriptions.
    pub subscribers: usize,
    /// The number of events held.
    pub events: usize,
    /// The memory that they take in bytes.
    pub bytes: usize,
    /// The id of the newest event, if one is held.
    pub last_id: Option<String>,
}

/// The totals of all topics.
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

    /// Creates an empty set of topics.
    ///
    /// # Errors
    ///
    /// [`TopicError::Config`] if [`gap_type`](TopicsConfig::gap_type) is empty, longer than 4096
    /// bytes or not an event type, or if [`max_topics`](TopicsConfig::max_topics) or
    /// [`History::age`] is 0.
    pub fn new(config: TopicsConfig) -> Result<Self, TopicError> {
        check_config(&config)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The time orders the ids of a run after those of earlier runs. The random part keeps runs
        // distinct if the clock was set back.
        let run = format!("{:x}{:05x}", since_1970.as_millis(), fastrand::u32(..1 << 20));
        Ok(Self(Arc::new(Shared {
            registry: Mutex::new(Registry::new(config.max_bytes)),
            config,
            run,
            counts: Counts::default(),
            start: Mutex::default(),
        })))
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().expect("no panic while this lock is held")
    }

    pub(crate) fn assigned_id(&self, position: u64) -> String {
        // Zero-padded, so that ids sort as text in the order of positions.
        format!("{}-{position:012}", self.0.run)
    }

    /// Returns a start marker: an id without data, from which a subscriber resumes at a position.
    pub(crate) fn start(&self, position: u64) -> Frame {
        let mut start = self.0.start.lock().expect("no panic while this lock is held");
        match &*start {
            Some((known, frame)) if *known == position => frame.clone(),
            _ => {
                let id = self.assigned_id(position);
                let id = EventId::new(&id).expect("assigned ids have no line end or NUL");
                let frame = Frame::from(Event::without_data().with_id(id));
                *start = Some((position, frame.clone()));
                frame
            }
        }
    }

    /// Returns the position in an id that this run assigned, or `None` for any other id.
    fn assigned_position(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&self.0.run)?.strip_prefix('-')?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    /// Publishes an event. When this returns, the event is in the log and subscribers have been
    /// woken.
    ///
    /// # Errors
    ///
    /// A [`TopicError`] that names the value and the problem.
    pub fn publish(&self, name: &str, new: Publication<'_>) -> Result<Published, TopicError> {
        check_name(name)?;
        let event = self.event(new)?;
        let TopicsConfig { history, max_topics, max_bytes, .. } = &self.0.config;
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
        let published = registry.change(&topic, |log, last_position| {
            let needs_place = log.len() == 0;
            log.expire(history.age, now, usize::MAX);
            if let Some(entry) = new.key.and_then(|key| log.published(key)) {
                return self.repeated(entry, event, new.id);
            }
            if let Some(id) = new.id.filter(|id| log.position_of(id).is_some()) {
                return Err(TopicError::IdInUse(id.to_owned()));
            }
            if needs_place && is_full {
                return Err(TopicError::TooManyTopics(*max_topics));
            }
            let position = *last_position + 1;
            let id = new.id.map_or_else(|| self.assigned_id(position), str::to_owned);
            let frame = event.with_id(EventId::new(&id).map_err(TopicError::Id)?).into();
            let entry = Entry { position, frame, at: now, key: new.key.map(Into::into) };
            log.append(entry, new.id.is_some(), history);
            *last_position = position;
            Ok(Published { id, duplicate: false })
        })?;
        if !published.duplicate {
            registry.evict(*max_bytes);
            self.0.counts.published.inc();
            drop(registry);
            topic.notify();
        }
        Ok(published)
    }

    /// Returns a publication as an event without its id, if all its values are valid.
    fn event<'a>(&self, new: Publication<'a>) -> Result<Event<'a>, TopicError> {
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
            event = event.with_retry(retry);
        }
        if let Some(id) = new.id {
            self.check_own_id(id)?;
        }
        Ok(event)
    }

    /// Returns the result of a publication whose key belongs to this entry of the log: a duplicate
    /// if the event is the same, or else an error.
    fn repeated(
        &self,
        entry: &Entry,
        event: Event<'_>,
        own_id: Option<&str>,
    ) -> Result<Published, TopicError> {
        let id = own_id.map_or_else(|| self.assigned_id(entry.position), str::to_owned);
        let again = Frame::from(event.with_id(EventId::new(&id).map_err(TopicError::Id)?));
        if again.encoded() != entry.frame.encoded() {
            return Err(TopicError::KeyInUse { id: entry.id() });
        }
        Ok(Published { id, duplicate: true })
    }

    fn check_own_id(&self, id: &str) -> Result<(), TopicError> {
        EventId::new(id).map_err(TopicError::Id)?;
        let fits = (1..=MAX_ID).contains(&id.len());
        // A header value loses spaces at its ends, and control characters in one may be rejected.
        let visible =
            id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte >= 0x80);
        let reserved = matches!(id, "earliest" | "latest")
            || id.strip_prefix(&self.0.run).is_some_and(|rest| rest.starts_with('-'));
        if !fits || !visible || reserved || id.trim() != id {
            return Err(TopicError::ReservedId(id.to_owned()));
        }
        Ok(())
    }

    /// Subscribes to topics. The subscription yields the events missed since `start` and then new
    /// ones, in order, without gaps or duplicates. A topic without events does not count towards
    /// [`max_topics`](TopicsConfig::max_topics), and is removed with its last subscription.
    ///
    /// A subscription from [`Start::Latest`] or [`Start::Earliest`] begins with an id without data,
    /// to resume from. One from [`Start::After`] begins with a gap event if events after the id
    /// have been dropped, or if the id is unknown; in that case all events that are held follow,
    /// which may be more than were missed.
    ///
    /// # Errors
    ///
    /// [`TopicError::Name`] if a name is invalid.
    pub fn subscribe(&self, names: &[&str], start: Start<'_>) -> Result<Subscription, TopicError> {
        names.iter().try_for_each(|name| check_name(name))?;
        let age = self.0.config.history.age;
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        let mut registry = self.registry();
        let now = CompactInstant::now();
        // Before the expiry below, since a topic with a subscriber stays when its last event
        // expires.
        let topics: Vec<Arc<Topic>> = names.iter().map(|name| registry.subscribe(name)).collect();
        registry.expire(age, now);
        for topic in &topics {
            registry.change(topic, |log, _| log.expire(age, now, usize::MAX));
        }
        let last_position = registry.last_position;
        let mut subscription = Subscription::new(self.clone(), topics, last_position);
        // From here on, events after `last_position` may be published.
        drop(registry);
        match start {
            Start::Latest => subscription.queue_start(),
            Start::Earliest => {
                subscription.rewind(0);
                subscription.queue_start();
            }
            Start::After(id) => {
                let assigned = self.assigned_position(id).filter(|at| *at <= last_position);
                match assigned.or_else(|| subscription.position_of(id)) {
                    Some(position) => subscription.resume(id, position),
                    None => subscription.queue_gap("unknown", Some(id), 0),
                }
            }
        }
        Ok(subscription)
    }

    /// Returns at most `limit` of the topics that hold events or have subscribers, in the order of
    /// their names, starting after the name `after`.
    ///
    /// The limit is clamped to between 1 and 1000. [`TopicPage::next`] is the `after` of the next
    /// page.
    pub fn list(&self, after: Option<&str>, limit: usize) -> TopicPage {
        let limit = limit.clamp(1, Self::MAX_PAGE);
        let mut registry = self.registry();
        registry.expire(self.0.config.history.age, CompactInstant::now());
        let mut topics = registry.page(after, limit + 1);
        drop(registry);
        let is_last = topics.len() <= limit;
        topics.truncate(limit);
        let row = |topic: &Arc<Topic>| {
            let log = topic.log();
            TopicInfo {
                name: topic.name.to_string(),
                subscribers: topic.subscribers(),
                events: log.len(),
                bytes: log.bytes(),
                last_id: log.last().map(Entry::id),
            }
        };
        TopicPage {
            topics: topics.iter().map(row).collect(),
            next: topics.last().filter(|_| !is_last).map(|topic| topic.name.to_string()),
        }
    }

    /// Returns the totals of all topics. The time that this takes does not depend on their number.
    pub fn totals(&self) -> TopicTotals {
        let mut registry = self.registry();
        registry.expire(self.0.config.history.age, CompactInstant::now());
        TopicTotals {
            topics: registry.len(),
            subscriptions: self.0.counts.subscriptions.load(Ordering::Relaxed),
            events: registry.events(),
            bytes: registry.bytes(),
        }
    }

    pub(crate) fn config(&self) -> &TopicsConfig {
        &self.0.config
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }
}

fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(TopicError::Name(name.to_owned()));
    }
    Ok(())
}

fn check_config(config: &TopicsConfig) -> Result<(), TopicError> {
    let error = |field, problem: String| Err(TopicError::Config { field, problem });
    let gap_type = &config.gap_type;
    if let Err(problem) = EventType::new(gap_type) {
        return error("gap_type", problem.to_string());
    }
    if !(1..=MAX_TYPE).contains(&gap_type.len()) {
        let len = gap_type.len();
        return error("gap_type", format!("must have 1 to {MAX_TYPE} bytes, not {len}"));
    }
    if config.max_topics == 0 {
        return error(
            "max_topics",
            "must be at least 1: with 0, every publication would be rejected".into(),
        );
    }
    if config.history.age.is_zero() {
        let problem = "must be more than 0, or events would be dropped before they are sent";
        return error("history.age", problem.into());
    }
    Ok(())
}
