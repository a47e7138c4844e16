//! The deadlines of all connections behind one timer. Connections are also woken when the server
//! drains.
//!
//! A connection always has a deadline, and few deadlines are reached: most are moved, or the
//! connection is closed first. With a timer for each connection, setting one would wake the
//! reactor, which takes half a dozen system calls. Here, setting a deadline takes none unless it is
//! the earliest of all.

use std::collections::BTreeSet;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use slab::Slab;
use smol::Timer;
use smol::future::FutureExt as _;

use crate::Drain;
use crate::compact_instant::CompactInstant;
use crate::notifier::Notifier;

/// An owner of a deadline.
pub(crate) trait Timed: Send + Sync {
    /// Wakes the task that waits for the deadline. Called without a lock held.
    fn wake(&self);
}

/// The deadlines of a server's connections.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    roster: Mutex<Roster>,
    /// Notified when the earliest deadline has changed, and when the timers are dropped.
    sooner: Notifier,
}

#[derive(Debug, Default)]
struct Roster {
    connections: Slab<Weak<dyn Timed>>,
    /// The deadlines with the keys of their connections, earliest first.
    deadlines: BTreeSet<(CompactInstant, usize)>,
}

impl Timers {
    /// Wakes connections at their deadlines, and all of them once when the server drains. Returns
    /// when the timers have been dropped.
    pub(crate) async fn run(timers: Weak<Self>, drain: Drain) {
        let mut draining = false;
        while let Some(strong) = timers.upgrade() {
            // Listeners come before the checks, so no change in between is missed.
            let sooner = strong.sooner.listen();
            let drained = drain.listen();
            if drain.has_begun() && !draining {
                draining = true;
                let all: Vec<_> = strong
                    .roster()
                    .connections
                    .iter()
                    .map(|(_, connection)| connection.clone())
                    .collect();
                for connection in all.iter().filter_map(Weak::upgrade) {
                    connection.wake();
                }
            }
            let next = strong.wake_due();
            drop(strong);
            let its_time = async {
                match next {
                    Some(at) => drop(Timer::at(at.to_instant()).await),
                    None => future::pending().await,
                }
            };
            sooner.or(drained).or(its_time).await;
        }
    }

    /// Wakes the connections whose deadline has passed, and returns the next deadline.
    fn wake_due(&self) -> Option<CompactInstant> {
        let mut due: Vec<Arc<dyn Timed>> = Vec::new();
        let mut roster = self.roster();
        let now = CompactInstant::now();
        let next = loop {
            match roster.deadlines.first() {
                Some((at, _)) if *at <= now => {}
                first => break first.map(|(at, _)| *at),
            }
            if let Some((_, number)) = roster.deadlines.pop_first() {
                due.extend(roster.connections.get(number).and_then(Weak::upgrade));
            }
        };
        drop(roster);
        for connection in due {
            connection.wake();
        }
        next
    }

    /// Adds a connection, and returns its key.
    pub(crate) fn enter(&self, connection: Weak<dyn Timed>) -> usize {
        self.roster().connections.insert(connection)
    }

    /// Removes a connection and its deadline.
    pub(crate) fn leave(&self, number: usize, deadline: Option<CompactInstant>) {
        let mut roster = self.roster();
        deadline.map(|at| roster.deadlines.remove(&(at, number)));
        roster.connections.try_remove(number);
    }

    /// Sets a connection's deadline in place of its old one.
    pub(crate) fn set(&self, number: usize, old: Option<CompactInstant>, new: CompactInstant) {
        let mut roster = self.roster();
        old.map(|at| roster.deadlines.remove(&(at, number)));
        let sooner = roster.deadlines.first().is_none_or(|(first, _)| new < *first);
        roster.deadlines.insert((new, number));
        drop(roster);
        if sooner {
            self.sooner.notify();
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().expect("no panic while this lock is held")
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.sooner.notify();
    }
}
