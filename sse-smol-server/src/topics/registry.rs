//! The registry of topics: topics by name and by the age of their oldest event, and the bounds over
//! all windows.
//!
//! # Locks
//!
//! The locks of the library are:
//!
//! - in `topics`: the registry, the window and the followers of each topic (all in this file), the
//!   start marker (`state.rs`), the epoch (`epoch.rs`), the publications that wait for the feed
//!   (`backing.rs`), and the operations that have a timeout and their timer (`timeouts.rs`);
//! - in `connection`: the state of each connection (`mod.rs`), and the streams of each subscriber
//!   group (`delivery.rs`);
//! - in `net`: the timers, the counts of the admission, and the sockets of the reactor, the readiness
//!   of each of them, and its connection to the kernel (`reactor.rs`);
//! - the calls of helping threads (`threads.rs`);
//! - in `storage/disk`: the file, its index, its unwritten events, its epoch, and its failure
//!   (`shared.rs`), and its followers (`mod.rs`);
//! - the tasks that wait for a notification (`notifier.rs`), and the state of each polled source
//!   (`polled.rs`).
//!
//! Their order:
//!
//! - The registry is locked before a window. Positions are assigned and events appended under both.
//! - A group's streams (`connection/delivery.rs`) are locked before the topic's window.
//! - In the reactor, the connection to the kernel is locked before the sockets, and these before the
//!   readiness of one of them.
//! - The state of a connection is locked before the readiness of its socket.
//! - The thread that writes the file of `storage/disk` locks the unwritten events before the file, both
//!   for reading.
//! - No other two locks of the library are held at once, and none across an await.
//!
//! The async lock in `polled.rs` is an exception to these rules and to those below. Its holder
//! polls the source, locks the state of the source and a notifier, and wakes tasks. It is never
//! taken while another lock is held, and tasks that wait for it do not block their threads.
//!
//! No system call is made under a lock that more than one connection uses. A connection's own lock
//! is held during its writes, which do not block. A delivery worker may wait for it, and holds no
//! other lock while it does. The file of `storage/disk` is read and written under its lock, on
//! threads that may block. The timer of timeouts is set under its lock, by one thread at a time.
//!
//! While a lock is held, no waker is woken or dropped, no hook is called, and no other value that
//! belongs to the library's user is dropped. Each of these may run code that takes any of the
//! locks. A waker, for example, may drop its task at once, and with it a parked stream or a
//! subscription.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::compact_instant::CompactInstant;
use crate::segment::allocated;
use crate::topics::listener::Followers;
use crate::topics::window::Window;

/// The maximum number of expired events that one call of [`Registry::expire`] drops, so that a
/// publication, subscription or listing does not work through a long backlog. The topic of a
/// publication or subscription expires completely, and so do all topics before a publication is
/// refused for lack of room.
const EXPIRED_AT_ONCE: usize = 1000;

/// The topics of a server, and totals over them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// The topics that hold events or have subscribers.
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The topics that hold events, by the position of their oldest event, with its time. Positions
    /// are in the order of time, so expiry and eviction start with the first topic here.
    oldest: BTreeMap<u64, (CompactInstant, Arc<Topic>)>,
    /// The last position that was assigned.
    pub(crate) last_position: u64,
    /// The memory that all windows take in bytes.
    bytes: usize,
    /// The number of events in all windows.
    events: usize,
    removed: Removed,
    /// Whether a storage holds the events that the windows here do not.
    is_backed: bool,
}

/// The last dropped positions of removed topics. The window of a topic that is created again starts
/// after its last dropped position, so a subscriber that has missed no event gets no gap event.
#[derive(Debug, Default)]
struct Removed {
    /// The maximum number of topics.
    max: usize,
    /// Positions by topic name.
    positions: HashMap<Arc<str>, u64>,
    /// The same entries, lowest position first.
    order: BTreeSet<(u64, Arc<str>)>,
    /// The highest position that was discarded from `positions`. A topic without an entry may be
    /// the topic of that position.
    forgotten: u64,
}

/// The maximum number of removed topics whose position is kept: about 1 MiB with the longest names.
const REMEMBERED: usize = 4096;

/// The part of the memory for topics that removed topics may take, as a divisor, and what one of
/// them takes with the longest name.
const REMEMBERED_PART: usize = 64;
const REMEMBERED_COST: usize = 300;

impl Removed {
    fn new(max_bytes: usize) -> Self {
        let max = (max_bytes / REMEMBERED_PART / REMEMBERED_COST).min(REMEMBERED);
        Self { max, ..Self::default() }
    }

    fn insert(&mut self, name: &Arc<str>, position: u64) {
        self.positions.insert(Arc::clone(name), position);
        self.order.insert((position, Arc::clone(name)));
        if self.order.len() > self.max
            && let Some((position, name)) = self.order.pop_first()
        {
            self.positions.remove(&name);
            self.forgotten = position.max(self.forgotten);
        }
    }

    /// Returns the position after which the window of a new topic starts.
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

/// A topic: its window and its subscribers.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    window: Mutex<Window>,
    followers: Mutex<Followers>,
    /// The number of subscriptions. It increases only under the registry's lock, so a topic without
    /// subscriptions stays so while that lock is held.
    subscribers: AtomicUsize,
}

impl Topic {
    /// The memory in bytes of two map rows in the registry, and of the entries that even the
    /// smallest window has room for.
    const ROWS: usize = 144;

    /// Creates an empty topic whose window starts after a position.
    fn new(name: &str, after: u64) -> Arc<Self> {
        let fixed = allocated(size_of::<Self>() + 16) + allocated(name.len() + 16) + Self::ROWS;
        Arc::new(Self {
            name: name.into(),
            window: Mutex::new(Window::new(after, fixed)),
            followers: Mutex::default(),
            subscribers: AtomicUsize::new(0),
        })
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().expect("no panic while this lock is held")
    }

    pub(crate) fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().expect("no panic while this lock is held")
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Returns whether an event was published after a position, even if it was dropped since.
    pub(crate) fn has_more(&self, position: u64) -> bool {
        self.window().last_position() > position
    }

    /// Wakes the subscribers after an event was published. Called without a lock held.
    pub(crate) fn notify(&self) {
        Followers::notify(self.followers());
    }
}

impl Registry {
    /// Creates a registry for topics that take at most `max_bytes` of memory.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { removed: Removed::new(max_bytes), ..Self::default() }
    }

    /// Creates a registry for topics in front of a storage, whose last position this is.
    pub(crate) fn backed(last_position: u64) -> Self {
        Self { last_position, is_backed: true, ..Self::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// Creates a topic whose name is not in use.
    pub(crate) fn create(&mut self, name: &str) -> Arc<Topic> {
        // Earlier events are in the storage, if there are any.
        let after = if self.is_backed { self.last_position } else { self.removed.take(name) };
        let topic = Topic::new(name, after);
        self.topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        topic
    }

    /// Returns the topic with this name, creating it if necessary, and counts a subscription, which
    /// keeps the topic in the registry.
    pub(crate) fn subscribe(&mut self, name: &str) -> Arc<Topic> {
        let topic = match self.topics.get(name) {
            Some(topic) => Arc::clone(topic),
            None => self.create(name),
        };
        topic.subscribers.fetch_add(1, Ordering::Relaxed);
        topic
    }

    /// Returns at most `limit` topics after a name that match, in the order of names.
    pub(crate) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        matches: impl Fn(&Topic) -> bool,
    ) -> Vec<Arc<Topic>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.topics.range::<str, _>((start, Bound::Unbounded));
        let matching = range.filter(|(_, topic)| matches(topic));
        matching.take(limit).map(|(_, topic)| Arc::clone(topic)).collect()
    }

    /// Returns the number of topics that hold events or have subscribers.
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of topics that hold events.
    pub(crate) fn holding(&self) -> usize {
        self.oldest.len()
    }

    /// Returns the number of events in all windows.
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// Returns the memory that all windows take in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes a window, updates the totals and the order by age, and removes the topic if it is
    /// unused.
    pub(crate) fn change<R>(
        &mut self,
        topic: &Arc<Topic>,
        change: impl FnOnce(&mut Window, &mut u64) -> R,
    ) -> R {
        let mut window = topic.window();
        let (bytes, events, old) = (window.bytes(), window.len(), window.start());
        let result = change(&mut window, &mut self.last_position);
        self.bytes = self.bytes - bytes + window.bytes();
        self.events = self.events - events + window.len();
        let new = window.start();
        drop(window);
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
        let window = topic.window();
        // Another topic may have been created with this name.
        let is_known = self.topics.get(&topic.name).is_some_and(|known| Arc::ptr_eq(known, topic));
        if is_known && window.len() == 0 && topic.subscribers() == 0 {
            if !self.is_backed {
                self.removed.insert(&topic.name, window.evicted());
            }
            self.topics.remove(&topic.name);
        }
    }

    /// Drops the oldest events of all topics while the windows take more than `max_bytes`. The
    /// newest event of all stays.
    pub(crate) fn evict(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes && self.events > 1 {
            let Some((_, topic)) = self.oldest.values().next() else {
                return;
            };
            let topic = Arc::clone(topic);
            self.change(&topic, |window, _| window.release());
        }
    }

    /// Drops the events of topics, those with the oldest first, while more than `max_topics` topics
    /// hold events.
    pub(crate) fn evict_topics(&mut self, max_topics: usize) {
        while self.holding() > max_topics {
            let Some((_, topic)) = self.oldest.values().next() else {
                return;
            };
            let topic = Arc::clone(topic);
            self.change(&topic, |window, _| window.clear());
        }
    }

    /// Closes all windows, and returns their topics, to be notified.
    pub(crate) fn close(&mut self) -> Vec<Arc<Topic>> {
        let topics: Vec<_> = self.topics.values().map(Arc::clone).collect();
        for topic in &topics {
            self.change(topic, |window, _| window.close());
        }
        topics
    }

    /// Drops all events, sets the last position, and lets all windows start after it. Returns their
    /// topics, to be notified.
    pub(crate) fn reset(&mut self, last_position: u64) -> Vec<Arc<Topic>> {
        self.last_position = last_position;
        let topics: Vec<_> = self.topics.values().map(Arc::clone).collect();
        for topic in &topics {
            self.change(topic, |window, _| window.reset(last_position));
        }
        topics
    }

    /// Drops at most [`EXPIRED_AT_ONCE`] events that are older than `age`, from the topics with the
    /// oldest events first. Returns whether it dropped that many, so that more may be left.
    pub(crate) fn expire(&mut self, age: Duration, now: CompactInstant) -> bool {
        let mut left = EXPIRED_AT_ONCE;
        while left > 0 {
            let topic = match self.oldest.values().next() {
                Some((at, topic)) if *at + age < now => Arc::clone(topic),
                _ => return false,
            };
            left -= self.change(&topic, |window, _| window.expire(age, now, left));
        }
        true
    }
}

/// Ends a subscription to a topic. Locks the registry only if it was the last one.
pub(crate) fn unsubscribe<'r>(
    topic: &Arc<Topic>,
    registry: impl FnOnce() -> MutexGuard<'r, Registry>,
) {
    if topic.subscribers.fetch_sub(1, Ordering::Relaxed) == 1 {
        registry().remove_unused(topic);
    }
}
