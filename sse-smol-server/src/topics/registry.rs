//! The registry of topics: logs by name, which of them holds the oldest event, and the bounds over
//! all of them.
//!
//! # Locks
//!
//! - The registry comes before any log: positions are given out and events appended under both.
//! - A group's streams (`connection/delivery.rs`) come before the topic's log and before a connection's state
//!   (`connection/mod.rs`).
//! - No other two locks of the crate are held at once, and none across a wait.
//!
//! No waker is woken or dropped, no hook called, and no other value of the library's user dropped
//! while a lock is held. Each may run code that takes any of the locks: a waker, for instance, may
//! drop its task at once, and with it a stream at rest or a subscription.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use crate::connection::delivery::SubscriberGroup;
use crate::frame::allocated;
use crate::net::compact_instant::CompactInstant;
use crate::topics::history::Log;

/// The maximum number of expired events of other topics that a publication, subscription or listing
/// drops, so that it does not wait for a long backlog. The topic that it is for is expired completely,
/// as are all topics before a publication is refused for want of a place.
const EXPIRED_AT_ONCE: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// The topics that hold events or have subscribers.
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The topics that hold events, by the position of the oldest one, and the time of that one.
    /// Positions are in the order of time, so expiry and eviction start with the first topic here.
    oldest: BTreeMap<u64, (CompactInstant, Arc<Topic>)>,
    pub(crate) last_position: u64,
    /// The bytes in all logs.
    bytes: usize,
    /// The events in all logs.
    events: usize,
    removed: Removed,
}

/// The last positions that were dropped from topics that were removed. A topic that comes back starts
/// after its own, so a subscriber that has missed nothing of it gets no gap event.
#[derive(Debug, Default)]
struct Removed {
    /// By name, at most [`REMEMBERED`].
    positions: HashMap<Arc<str>, u64>,
    /// The same, lowest position first.
    order: BTreeSet<(u64, Arc<str>)>,
    /// The last position of a topic that is not among them any more. A topic without a position of
    /// its own may be that one.
    forgotten: u64,
}

/// The maximum number of removed topics whose last position is kept: about 1 MiB with the longest
/// names.
const REMEMBERED: usize = 4096;

impl Removed {
    fn insert(&mut self, name: &Arc<str>, position: u64) {
        self.positions.insert(Arc::clone(name), position);
        self.order.insert((position, Arc::clone(name)));
        if self.order.len() > REMEMBERED {
            if let Some((position, name)) = self.order.pop_first() {
                self.positions.remove(&name);
                self.forgotten = position.max(self.forgotten);
            }
        }
    }

    /// Returns the position after which the log of a new topic starts.
    fn take(&mut self, name: &str) -> u64 {
        match self.positions.remove_entry(name) {
            Some((name, position)) => {
                self.order.remove(&(position, name));
                position
            }
            None => self.forgotten,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    log: Mutex<Log>,
    followers: Mutex<Followers>,
    /// The number of subscriptions. It grows under the registry's lock alone, so a topic that is
    /// found unused under that lock is unused.
    subscribers: AtomicUsize,
}

/// The parties to notify of new events.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// The streams that follow this topic alone and have sent all events. Copied on write, so a
    /// publisher can call them without the lock and without a copy.
    pub(crate) groups: Arc<[Arc<SubscriberGroup>]>,
    /// The wakers of subscriptions that wait for events, by the number of the wait.
    pub(crate) waiting: BTreeMap<u64, Waker>,
}

impl Topic {
    /// The memory of two map rows in the registry, and of the entries that even the smallest log
    /// has room for.
    const ROWS: usize = 144;

    /// Creates an empty topic whose log starts after a position.
    fn new(name: &str, after: u64) -> Arc<Self> {
        let fixed = allocated(size_of::<Self>() + 16) + allocated(name.len() + 16) + Self::ROWS;
        Arc::new(Self {
            name: name.into(),
            log: Mutex::new(Log::new(after, fixed)),
            followers: Mutex::default(),
            subscribers: AtomicUsize::new(0),
        })
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while this lock is held")
    }

    pub(crate) fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().expect("no panic while this lock is held")
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Whether the log has, or had, something after a position.
    pub(crate) fn has_more(&self, position: u64) -> bool {
        self.log().last_position() > position
    }

    /// Wakes the subscribers after an event was published.
    pub(crate) fn notify(self: &Arc<Self>) {
        let mut followers = self.followers();
        let groups = Arc::clone(&followers.groups);
        let waiting = mem::take(&mut followers.waiting);
        drop(followers);
        waiting.into_values().for_each(Waker::wake);
        groups.iter().for_each(|group| group.call(self));
    }
}

impl Registry {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// Creates a topic whose name is not in use.
    pub(crate) fn create(&mut self, name: &str) -> Arc<Topic> {
        let topic = Topic::new(name, self.removed.take(name));
        self.topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        topic
    }

    /// Returns the topic with this name, which exists for as long as it is subscribed to.
    pub(crate) fn subscribe(&mut self, name: &str) -> Arc<Topic> {
        let topic = match self.topics.get(name) {
            Some(topic) => Arc::clone(topic),
            None => self.create(name),
        };
        topic.subscribers.fetch_add(1, Ordering::Relaxed);
        topic
    }

    /// Returns the topics after a name, in the order of names.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Topic>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.topics.range::<str, _>((start, Bound::Unbounded));
        range.take(limit).map(|(_, topic)| Arc::clone(topic)).collect()
    }

    /// Returns the number of topics that hold events or have subscribers.
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of topics that hold events.
    pub(crate) fn holding(&self) -> usize {
        self.oldest.len()
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes a log and updates the totals, the order, and whether the topic exists.
    pub(crate) fn change<R>(
        &mut self,
        topic: &Arc<Topic>,
        change: impl FnOnce(&mut Log, &mut u64) -> R,
    ) -> R {
        let mut log = topic.log();
        let first = |log: &Log| log.first().map(|entry| (entry.position, entry.at));
        let (bytes, events, old) = (log.bytes(), log.len(), first(&log));
        let result = change(&mut log, &mut self.last_position);
        self.bytes = self.bytes - bytes + log.bytes();
        self.events = self.events - events + log.len();
        let new = first(&log);
        drop(log);
        if old != new {
            let known = old.and_then(|(position, _)| self.oldest.remove(&position));
            match new {
                Some((position, at)) => {
                    let topic = known.map_or_else(|| Arc::clone(topic), |(_, topic)| topic);
                    self.oldest.insert(position, (at, topic));
                }
                None => self.remove_unused(topic),
            }
        }
        result
    }

    /// Removes a topic that holds no event and has no subscriber.
    fn remove_unused(&mut self, topic: &Arc<Topic>) {
        let log = topic.log();
        // Another topic may have got the name since.
        let is_known = self.topics.get(&topic.name).is_some_and(|known| Arc::ptr_eq(known, topic));
        if is_known && log.len() == 0 && topic.subscribers() == 0 {
            self.removed.insert(&topic.name, log.evicted());
            self.topics.remove(&topic.name);
        }
    }

    /// Drops the oldest events of all topics while they take more than `max_bytes`. The newest
    /// event stays, as in a log.
    pub(crate) fn evict(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes && self.events > 1 {
            let Some((_, topic)) = self.oldest.values().next() else {
                return;
            };
            let topic = Arc::clone(topic);
            self.change(&topic, |log, _| log.evict());
        }
    }

    /// Drops events that are too old, of the topics with the oldest ones first and at most
    /// [`EXPIRED_AT_ONCE`] in all. Returns whether it reached that number, so that more may be left.
    pub(crate) fn expire(&mut self, age: Duration, now: CompactInstant) -> bool {
        let mut left = EXPIRED_AT_ONCE;
        while left > 0 {
            let topic = match self.oldest.values().next() {
                Some((at, topic)) if *at + age < now => Arc::clone(topic),
                _ => return false,
            };
            left -= self.change(&topic, |log, _| log.expire(age, now, left));
        }
        true
    }
}

/// Ends a subscription to a topic.
pub(crate) fn unsubscribe<'r>(
    topic: &Arc<Topic>,
    registry: impl FnOnce() -> MutexGuard<'r, Registry>,
) {
    if topic.subscribers.fetch_sub(1, Ordering::Relaxed) == 1 {
        registry().remove_unused(topic);
    }
}
