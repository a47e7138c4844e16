//! Who is connected, to be woken when time asks for it, or when the server drains.
//!
//! A connection always has a deadline, and hardly any of them comes: most are moved, or go with the
//! connection. A timer for each would wake the reactor whenever one is set, which takes half a dozen
//! system calls; here, setting a deadline that is not the next of all takes none, and a connection
//! is a number.

use std::collections::BTreeSet;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use slab::Slab;
use smol::Timer;
use smol::future::FutureExt as _;

use crate::Drain;
use crate::connection::Connection;
use crate::net::compact_instant::CompactInstant;
use crate::notifier::Notifier;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    roster: Mutex<Roster>,
    /// There is a deadline before all others, or the timers are gone.
    sooner: Notifier,
}

#[derive(Debug, Default)]
struct Roster {
    connections: Slab<Weak<Connection>>,
    deadlines: BTreeSet<(CompactInstant, usize)>,
}

impl Timers {
    /// Wakes those whose time has come, until the timers are gone; and once, when the server drains,
    /// everyone.
    pub(crate) async fn run(timers: Weak<Self>, drain: Drain) {
        let mut draining = false;
        while let Some(strong) = timers.upgrade() {
            // Listening first, so that nothing happens unseen between looking and waiting.
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

    /// Wakes those whose time has come, and tells when the next one's does.
    fn wake_due(&self) -> Option<CompactInstant> {
        let mut due: Vec<Arc<Connection>> = Vec::new();
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

    /// Gives a connection a number.
    pub(crate) fn enter(&self, connection: Weak<Connection>) -> usize {
        self.roster().connections.insert(connection)
    }

    /// Forgets a connection and the deadline that it has set.
    pub(crate) fn leave(&self, number: usize, deadline: Option<CompactInstant>) {
        let mut roster = self.roster();
        deadline.map(|at| roster.deadlines.remove(&(at, number)));
        roster.connections.try_remove(number);
    }

    /// Moves a connection's deadline.
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
        self.roster.lock().expect("nobody panics while holding this lock")
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.sooner.notify();
    }
}
