//! Subscriptions: cursors into the logs of topics.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use sse_proto::{Event, EventId, EventType};

use crate::topics::history::{BATCH_BYTES, BATCH_EVENTS, Entry};
use crate::topics::registry::{Topic, unsubscribe};
use crate::{Frame, Topics};

/// A cursor into the logs of one or more topics.
///
/// [`EventStream::follow`](crate::EventStream::follow) sends its events to a client.
// Boxed, so that a future that holds one stays small.
#[derive(Debug)]
pub struct Subscription(Box<Inner>);

#[derive(Debug)]
struct Inner {
    topics: Cursors,
    /// All events up to this position have been read.
    position: u64,
    all: Topics,
    /// The block to return before any event: the start marker or a gap event.
    first: Option<Frame>,
}

/// The cursors of a subscription. Most have one, which needs no allocation.
#[derive(Debug)]
enum Cursors {
    One(Cursor),
    Several(Vec<Cursor>),
}

#[derive(Debug)]
struct Cursor {
    topic: Arc<Topic>,
    /// Missing events up to this position do not count as a lag: they precede the start of the
    /// subscription, or a gap event has reported them.
    gap_end: u64,
}

/// The error of a subscription that has fallen behind: events were dropped before it read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

impl Subscription {
    /// Creates a subscription to topics that count it already.
    pub(crate) fn new(all: Topics, topics: Vec<Arc<Topic>>, position: u64) -> Self {
        let mut cursors: Vec<Cursor> =
            topics.into_iter().map(|topic| Cursor { topic, gap_end: 0 }).collect();
        let topics = match cursors.pop() {
            Some(only) if cursors.is_empty() => Cursors::One(only),
            last => {
                cursors.extend(last);
                Cursors::Several(cursors)
            }
        };
        all.counts().subscriptions.fetch_add(topics.len(), Ordering::Relaxed);
        Self(Box::new(Inner { topics, position, all, first: None }))
    }

    /// Waits for the next events and returns a batch of them, oldest first.
    ///
    /// No event is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Lagged`] if events were dropped before they were read, unless
    /// [`gap_on_lag`](crate::TopicsConfig::gap_on_lag) is set, which makes it a gap event.
    pub async fn next(&mut self) -> Result<Vec<Frame>, Lagged> {
        loop {
            let frames = self.read()?;
            if !frames.is_empty() {
                return Ok(frames);
            }
            self.news().await;
        }
    }

    /// Waits until there may be events to read.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + Send {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        News { subscription: &self.0, number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Returns the topic and the position in it, if the subscription has a single topic.
    pub(crate) fn only_topic(&self) -> Option<(&Arc<Topic>, u64)> {
        match &self.0.topics {
            Cursors::One(cursor) => Some((&cursor.topic, self.0.position.max(cursor.gap_end))),
            Cursors::Several(_) => None,
        }
    }

    /// Sets the position, after another task has delivered the events up to it.
    pub(crate) fn go_to(&mut self, position: u64) {
        self.0.position = position;
    }

    /// Returns the first batch of events that are ready, oldest first, for [`Request::open_with`].
    ///
    /// If events were dropped before they were read, the result has none, and
    /// [`next`](Self::next) returns the error.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request, Subscription};
    /// async fn resume(mut subscription: Subscription, request: Request) -> Result<(), End> {
    ///     let missed = subscription.ready();
    ///     request.open_with(missed).await?.follow(subscription).await
    /// }
    /// ```
    ///
    /// [`Request::open_with`]: crate::Request::open_with
    pub fn ready(&mut self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = self.0.first.take().into_iter().collect();
        frames.extend(self.read().unwrap_or_default());
        frames
    }

    /// Returns the next batch of events, which is empty if there are none.
    pub(crate) fn read(&mut self) -> Result<Vec<Frame>, Lagged> {
        if let Some(first) = self.0.first.take() {
            return Ok(vec![first]);
        }
        // Several logs are read under the registry's lock. Otherwise an event could be appended to
        // a log that was read already, and a later event of another log would pass it.
        let registry = (self.0.topics.len() > 1).then(|| self.0.all.registry());
        let mut found = Vec::new();
        // The lowest position at which a log's batch was cut off. Later events of all logs wait for
        // the next batch.
        let mut end = u64::MAX;
        let mut lags = false;
        for cursor in self.0.topics.iter() {
            let log = cursor.topic.log();
            let Ok(entries) = log.after(self.0.position.max(cursor.gap_end)) else {
                lags = true;
                break;
            };
            let mut bytes = 0;
            for (count, entry) in entries.take_while(|entry| entry.position <= end).enumerate() {
                found.push((entry.position, entry.frame.clone()));
                bytes += entry.frame.encoded().len();
                if count + 1 == BATCH_EVENTS || bytes >= BATCH_BYTES {
                    end = end.min(entry.position);
                    break;
                }
            }
        }
        drop(registry);
        if lags {
            if !self.0.all.config().gap_on_lag {
                return Err(Lagged);
            }
            self.queue_gap("lagged", None, self.0.position);
            return Ok(self.0.first.take().into_iter().collect());
        }
        if self.0.topics.len() > 1 {
            found.sort_unstable_by_key(|(position, _)| *position);
            found.retain(|(position, _)| *position <= end);
        }
        if let Some((position, _)) = found.last() {
            self.0.position = *position;
        }
        Ok(found.into_iter().map(|(_, frame)| frame).collect())
    }

    /// Returns the position of the event with this publisher-chosen id. If several topics have one,
    /// returns the lowest position: the subscriber may get events twice, but misses none.
    pub(crate) fn position_of(&self, own_id: &str) -> Option<u64> {
        self.0.topics.iter().filter_map(|cursor| cursor.topic.log().position_of(own_id)).min()
    }

    /// Continues after the event with this id and position. Queues a gap event if later events have
    /// been dropped.
    pub(crate) fn resume(&mut self, id: &str, position: u64) {
        self.0.position = position;
        if self.0.topics.iter().any(|cursor| cursor.topic.log().evicted() > position) {
            self.queue_gap("evicted", Some(id), position);
        }
    }

    /// Queues the start marker, an id without data. A subscriber without an id whose connection
    /// breaks before the first event would otherwise reconnect without one, and miss events.
    pub(crate) fn queue_start(&mut self) {
        self.0.first = Some(self.0.all.start(self.0.position));
    }

    /// Moves to a position, or to the oldest events that are left if the logs begin after it.
    pub(crate) fn rewind(&mut self, position: u64) {
        for cursor in self.0.topics.iter_mut() {
            cursor.gap_end = cursor.topic.log().evicted();
        }
        let oldest = self.0.topics.iter().map(|cursor| cursor.gap_end).min().unwrap_or(0);
        self.0.position = position.max(oldest);
    }

    /// Moves to the oldest events after a position that are left, and queues a gap event, whose id
    /// leads a subscriber that resumes to the same place.
    pub(crate) fn queue_gap(&mut self, reason: &str, requested: Option<&str>, position: u64) {
        self.rewind(position);
        let (mut earliest, mut latest) = (None, None);
        for cursor in self.0.topics.iter() {
            let log = cursor.topic.log();
            let id = |entry: &Entry| (entry.position, entry.id());
            earliest = earliest.into_iter().chain(log.first().map(id)).min();
            latest = latest.into_iter().chain(log.last().map(id)).max();
        }
        let data = serde_json::json!({
            "reason": reason,
            "requested": requested,
            "earliest": earliest.map(|(_, id)| id),
            "latest": latest.map(|(_, id)| id),
        });
        let (data, id) = (data.to_string(), self.0.all.assigned_id(self.0.position));
        let mut event = Event::new(&data);
        if let Ok(event_type) = EventType::new(&self.0.all.config().gap_type) {
            event = event.with_type(event_type);
        }
        if let Ok(id) = EventId::new(&id) {
            event = event.with_id(id);
        }
        self.0.first = Some(event.into());
        self.0.all.counts().gaps.inc();
    }
}

/// A wait for events of any of the topics.
#[derive(Debug)]
struct News<'s> {
    subscription: &'s Inner,
    /// The key of the waker in the topics' maps.
    number: u64,
}

impl Future for News<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Inner { topics, position, .. } = self.subscription;
        for cursor in topics.iter() {
            let waker = cx.waker().clone();
            let replaced = cursor.topic.followers().waiting.insert(self.number, waker);
            // Dropping a waker may drop a task, so the lock is released first.
            drop(replaced);
        }
        // Checked after the wakers are registered, so that no event in between goes unnoticed.
        let has_more = |cursor: &Cursor| cursor.topic.has_more((*position).max(cursor.gap_end));
        if topics.iter().any(has_more) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for News<'_> {
    fn drop(&mut self) {
        for cursor in self.subscription.topics.iter() {
            let waker = cursor.topic.followers().waiting.remove(&self.number);
            drop(waker);
        }
    }
}

impl Deref for Cursors {
    type Target = [Cursor];

    fn deref(&self) -> &[Cursor] {
        match self {
            Self::One(cursor) => slice::from_ref(cursor),
            Self::Several(cursors) => cursors,
        }
    }
}

impl DerefMut for Cursors {
    fn deref_mut(&mut self) -> &mut [Cursor] {
        match self {
            Self::One(cursor) => slice::from_mut(cursor),
            Self::Several(cursors) => cursors,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for cursor in self.0.topics.iter() {
            unsubscribe(&cursor.topic, || self.0.all.registry());
        }
        self.0.all.counts().subscriptions.fetch_sub(self.0.topics.len(), Ordering::Relaxed);
    }
}
