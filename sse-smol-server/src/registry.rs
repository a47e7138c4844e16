//! The registry of topics: logs by name, the order of their events, and the bounds over all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use event_listener::Event as Wake;

use crate::courier::Round;
use crate::history::{History, Log};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) topics: BTreeMap<String, Arc<Topic>>,
    pub(crate) last_position: u64,
    /// In all logs.
    bytes: usize,
    events: usize,
    /// Every event in any log, oldest first, and some that are gone by now.
    order: VecDeque<(u64, Arc<Topic>)>,
    /// The last position that was dropped from a topic that is gone.
    pub(crate) forgotten: u64,
}

#[derive(Debug)]
pub(crate) struct Topic {
    log: Mutex<Log>,
    pub(crate) wake: Wake,
    /// The streams that follow this topic alone, and have sent all there is.
    rounds: Mutex<Vec<Arc<Round>>>,
    pub(crate) subscribers: AtomicUsize,
}

impl Topic {
    /// Creates an empty topic, whose log starts after a position.
    pub(crate) fn new(history: History, forgotten: u64) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::new(Log::new(history, forgotten)),
            wake: Wake::new(),
            rounds: Mutex::default(),
            subscribers: AtomicUsize::new(0),
        })
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn rounds(&self) -> MutexGuard<'_, Vec<Arc<Round>>> {
        self.rounds.lock().expect("nobody panics while holding this lock")
    }

    /// Whether the log has, or had, something after a position.
    pub(crate) fn has_more(&self, position: u64) -> bool {
        self.log().last_position() > position
    }

    /// Tells everyone that something was published.
    pub(crate) fn tell(self: &Arc<Self>) {
        self.wake.notify(usize::MAX);
        self.rounds().iter().for_each(|round| round.call(self));
    }
}

impl Registry {
    /// Changes a log, and keeps account of it.
    pub(crate) fn change<R>(
        &mut self,
        topic: &Topic,
        change: impl FnOnce(&mut Log, &mut u64) -> R,
    ) -> R {
        let mut log = topic.log();
        let (bytes, events) = (log.bytes(), log.len());
        let result = change(&mut log, &mut self.last_position);
        self.bytes = self.bytes - bytes + log.bytes();
        self.events = self.events - events + log.len();
        result
    }

    /// An event was appended: drops the oldest ones of all while there are too many bytes.
    pub(crate) fn appended(&mut self, topic: &Arc<Topic>, max_bytes: usize) {
        self.order.push_back((self.last_position, Arc::clone(topic)));
        // The newest event stays, as in a log.
        while self.bytes > max_bytes && self.order.len() > 1 {
            let Some((position, topic)) = self.order.pop_front() else {
                return;
            };
            self.change(&topic, |log, _| {
                if log.evicted() < position {
                    log.evict();
                }
            });
        }
        // Topics drop events of their own, whose places here are taken back now and then.
        if self.order.len() > 2 * self.events + 1000 {
            self.order.retain(|(position, topic)| topic.log().evicted() < *position);
        }
    }

    /// Drops what is too old, in all logs.
    pub(crate) fn expire(&mut self, now: Instant) {
        let topics: Vec<Arc<Topic>> = self.topics.values().map(Arc::clone).collect();
        for topic in topics {
            self.change(&topic, |log, _| log.expire(now));
        }
    }

    /// Forgets topics that hold nothing and that nobody listens to. What they once held is
    /// remembered as far as it matters: a cursor from then has a gap.
    pub(crate) fn forget_unused(&mut self) {
        let forgotten = &mut self.forgotten;
        self.topics.retain(|_, topic| {
            let log = topic.log();
            let used = log.len() > 0 || topic.subscribers.load(Ordering::Relaxed) > 0;
            if !used {
                *forgotten = log.evicted().max(*forgotten);
            }
            used
        });
    }
}
