//! Topics: publish to a log, subscribe with a cursor into it.
//!
//! Positions are given out under the registry's lock, in which the event is appended, too; so the
//! order of positions is the order of logs, also over several topics, and a cursor is one number
//! whatever it is subscribed to.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use sse_proto::{Event, EventId, EventType, InvalidValue};

use crate::history::{Entry, History};
use crate::registry::{Registry, Topic};
use crate::{Frame, Subscription};

/// How topics are kept.
#[derive(Clone, Debug)]
pub struct TopicsConfig {
    /// What each topic holds.
    pub history: History,
    /// So many topics there may be. Default: 1000.
    pub max_topics: usize,
    /// So many bytes all topics together hold; beyond, the oldest events of all are dropped.
    /// Default: 256 MiB.
    pub max_bytes: usize,
    /// The type of the event that tells a subscriber of a gap. Default: `gap`.
    pub gap_type: String,
    /// Whether a subscriber that falls behind the log while connected is told so by a gap event and
    /// goes on. By default its stream ends, so that it resumes.
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

/// What is published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publication<'a> {
    /// The event type, if any.
    pub event_type: Option<&'a str>,
    /// The data.
    pub data: &'a str,
    /// An id of the publisher's own; without one the server assigns an id.
    pub id: Option<&'a str>,
    /// The reconnection time in milliseconds, if it is to be set.
    pub retry: Option<u64>,
    /// A second publication with the same key, while the first is in the log, is none.
    pub key: Option<&'a str>,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// The event had been published before, with the same key.
    pub duplicate: bool,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// With what comes next.
    Latest,
    /// With the oldest event that is held.
    Earliest,
    /// Behind the event with this id.
    After(&'a str),
}

/// Why topics cannot be used as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name has a character that names do not have, or none, or too many.
    Name(String),
    /// The event type would break the stream.
    Type(InvalidValue),
    /// The id would break the stream.
    Id(InvalidValue),
    /// The id could not come back in a `Last-Event-ID` header, or has a meaning of its own.
    ReservedId(String),
    /// An event with this id is in the log already.
    IdInUse(String),
    /// There are as many topics as there may be.
    TooManyTopics(usize),
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "topic {name:?}: names are 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"
            ),
            Self::Type(error) | Self::Id(error) => error.fmt(f),
            Self::ReservedId(id) => write!(
                f,
                "id {id:?}: ids are 1 to 256 visible characters, and neither earliest, latest nor \
                 of the form that the server assigns"
            ),
            Self::IdInUse(id) => write!(f, "id {id:?}: an event with this id is in the log"),
            Self::TooManyTopics(most) => write!(f, "there are {most} topics, and no more may be"),
        }
    }
}

impl std::error::Error for TopicError {}

/// All topics of a server.
///
/// ```
/// use sse_smol_server::{End, Publication, Request, Start, Topics, TopicsConfig};
///
/// async fn news(topics: &Topics, request: Request) -> Result<(), End> {
///     let id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
///     let start = id.map_or(Start::Latest, Start::After);
///     let subscription = topics.subscribe(&["news"], start).expect("a name that is fine");
///     request.open().await?.follow(subscription).await
/// }
///
/// let topics = Topics::new(TopicsConfig::default());
/// let new = Publication { data: "hello", event_type: Some("greeting"), ..Publication::default() };
/// let published = topics.publish("news", new)?;
/// assert_eq!(topics.list()[0].last_id, Some(published.id));
/// # Ok::<(), sse_smol_server::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: TopicsConfig,
    /// Sets ids of this run apart from those of all others, so that an old cursor is known as such.
    run: String,
    registry: Mutex<Registry>,
    counts: Counts,
    /// What was told last of where a subscription begins. Many begin where another one did.
    start: Mutex<Option<(u64, Frame)>>,
}

/// What topics count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: Counter,
    pub(crate) gaps: Counter,
}

/// One row of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The name.
    pub name: String,
    /// Subscriptions.
    pub subscribers: usize,
    /// Events held.
    pub events: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// The id of the last event, if one is held.
    pub last_id: Option<String>,
}

impl Topics {
    /// No topics yet.
    pub fn new(config: TopicsConfig) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The time orders the ids of one run after those of the run before; the random part is for
        // a clock that was set back.
        let run = format!("{:x}{:05x}", since_1970.as_millis(), fastrand::u32(..1 << 20));
        Self(Arc::new(Shared {
            config,
            run,
            registry: Mutex::default(),
            counts: Counts::default(),
            start: Mutex::default(),
        }))
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn assigned_id(&self, position: u64) -> String {
        // Of one length, so that ids are in order as texts, too.
        format!("{}-{position:012}", self.0.run)
    }

    /// An id without data, for subscribers to come back with.
    pub(crate) fn start(&self, position: u64) -> Frame {
        let mut start = self.0.start.lock().expect("nobody panics while holding this lock");
        match &*start {
            Some((known, frame)) if *known == position => frame.clone(),
            _ => {
                let id = self.assigned_id(position);
                let id = EventId::new(&id).expect("assigned ids are without line ends");
                let frame = Frame::from(Event::without_data().with_id(id));
                *start = Some((position, frame.clone()));
                frame
            }
        }
    }

    /// The position that an assigned id names.
    fn assigned_position(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&self.0.run)?.strip_prefix('-')?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    /// The id of an entry.
    pub(crate) fn id_of(&self, entry: &Entry) -> String {
        entry.own_id.as_ref().map_or_else(|| self.assigned_id(entry.position), ToString::to_string)
    }

    /// Publishes an event: when this returns, it is in the log, and subscribers are woken.
    ///
    /// # Errors
    ///
    /// [`TopicError`] says which value is wrong and why.
    pub fn publish(&self, name: &str, new: Publication<'_>) -> Result<Published, TopicError> {
        let mut event = Event::new(new.data);
        if let Some(event_type) = new.event_type {
            event = event.with_type(EventType::new(event_type).map_err(TopicError::Type)?);
        }
        if let Some(retry) = new.retry {
            event = event.with_retry(retry);
        }
        if let Some(id) = new.id {
            self.check_own_id(id)?;
        }

        let now = Instant::now();
        let mut registry = self.registry();
        let topic = self.topic(&mut registry, name, now)?;
        let id = registry.change(&topic, |log, last_position| {
            log.expire(now);
            if let Some(entry) = new.key.and_then(|key| log.published(key)) {
                return Ok(Published { id: self.id_of(entry), duplicate: true });
            }
            if let Some(id) = new.id.filter(|id| log.position_of(id).is_some()) {
                return Err(TopicError::IdInUse(id.to_owned()));
            }
            let position = *last_position + 1;
            let id = new.id.map_or_else(|| self.assigned_id(position), str::to_owned);
            let frame = event.with_id(EventId::new(&id).map_err(TopicError::Id)?).into();
            let (own_id, key) = (new.id.map(Into::into), new.key.map(Into::into));
            log.append(Entry { position, frame, at: now, own_id, key });
            *last_position = position;
            Ok(Published { id, duplicate: false })
        })?;
        if !id.duplicate {
            registry.appended(&topic, self.0.config.max_bytes);
            self.0.counts.published.inc();
            drop(registry);
            topic.tell();
        }
        Ok(id)
    }

    fn check_own_id(&self, id: &str) -> Result<(), TopicError> {
        EventId::new(id).map_err(TopicError::Id)?;
        let fits = (1..=256).contains(&id.len());
        // As a header value it would lose spaces at its ends, and other characters may be refused.
        let visible =
            id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte >= 0x80);
        let reserved = matches!(id, "earliest" | "latest")
            || id.strip_prefix(&self.0.run).is_some_and(|rest| rest.starts_with('-'));
        if !fits || !visible || reserved || id.trim() != id {
            return Err(TopicError::ReservedId(id.to_owned()));
        }
        Ok(())
    }

    /// The topic of this name, which is made if there is none.
    fn topic(
        &self,
        registry: &mut Registry,
        name: &str,
        now: Instant,
    ) -> Result<Arc<Topic>, TopicError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if !(1..=128).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(TopicError::Name(name.to_owned()));
        }
        if let Some(topic) = registry.topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        let most = self.0.config.max_topics;
        if registry.topics.len() >= most {
            registry.expire(now);
            registry.forget_unused();
        }
        if registry.topics.len() >= most {
            return Err(TopicError::TooManyTopics(most));
        }
        let topic = Topic::new(self.0.config.history, registry.forgotten);
        registry.topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Subscribes to topics: what is missed since `start` first, then what comes, with no gap, no
    /// duplicate, in order.
    ///
    /// A subscription that does not begin behind an id is first given one, by a block without data.
    /// One that cannot begin behind its id is first told so by an event, and then given all that is
    /// held: of several topics, that may be more than it missed.
    ///
    /// # Errors
    ///
    /// [`TopicError`] says which value is wrong and why.
    pub fn subscribe(&self, names: &[&str], start: Start<'_>) -> Result<Subscription, TopicError> {
        let now = Instant::now();
        let mut registry = self.registry();
        let mut topics: Vec<Arc<Topic>> = Vec::new();
        for name in names {
            match self.topic(&mut registry, name, now) {
                Ok(topic) if topics.iter().any(|other| Arc::ptr_eq(other, &topic)) => {}
                Ok(topic) => {
                    // Now, or the next name may take its place among the topics there may be.
                    topic.subscribers.fetch_add(1, Ordering::Relaxed);
                    topics.push(topic);
                }
                Err(error) => {
                    for topic in topics {
                        topic.subscribers.fetch_sub(1, Ordering::Relaxed);
                    }
                    return Err(error);
                }
            }
        }
        let last_position = registry.last_position;
        for topic in &topics {
            registry.change(topic, |log, _| log.expire(now));
        }
        let mut subscription = Subscription::new(self.clone(), topics, last_position);
        // What is published from here on comes after `last_position`.
        drop(registry);
        match start {
            Start::Latest => subscription.tell_start(),
            Start::Earliest => {
                subscription.rewind(0);
                subscription.tell_start();
            }
            Start::After(id) => {
                let assigned = self.assigned_position(id).filter(|at| *at <= last_position);
                match assigned.or_else(|| subscription.position_of(id)) {
                    Some(position) => subscription.resume(id, position),
                    None => subscription.tell_gap("unknown", Some(id), 0),
                }
            }
        }
        Ok(subscription)
    }

    /// The topics there are, in the order of their names.
    pub fn list(&self) -> Vec<TopicInfo> {
        let mut registry = self.registry();
        registry.expire(Instant::now());
        let rows = registry.topics.iter().map(|(name, topic)| {
            let log = topic.log();
            TopicInfo {
                name: name.clone(),
                subscribers: topic.subscribers.load(Ordering::Relaxed),
                events: log.len(),
                bytes: log.bytes(),
                last_id: log.last().map(|entry| self.id_of(entry)),
            }
        });
        rows.collect()
    }

    pub(crate) fn config(&self) -> &TopicsConfig {
        &self.0.config
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }
}
