//! Everybody's deadlines, behind one timer.
//!
//! A connection always has a deadline, and hardly any of them comes: most are moved or dropped long
//! before. A timer for each would wake the reactor whenever one is set, which takes half a dozen
//! system calls; here, setting a deadline that is not the next of all takes none.

use std::collections::BTreeMap;
use std::future;
use std::sync::{Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use event_listener::Event;
use smol::Timer;
use smol::future::FutureExt as _;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    deadlines: Mutex<Deadlines>,
    /// There is a deadline before all others, or the clock is gone.
    sooner: Event,
}

#[derive(Debug, Default)]
struct Deadlines {
    wakers: BTreeMap<(Instant, u64), Waker>,
    /// Sets those apart that come at the same time.
    last_number: u64,
}

impl Clock {
    /// Wakes those whose time has come, until the clock is gone.
    pub(crate) async fn run(clock: Weak<Self>) {
        while let Some(strong) = clock.upgrade() {
            // Listening first, so that no deadline is set unseen between looking and waiting.
            let sooner = strong.sooner.listen();
            let next = strong.wake_due();
            drop(strong);
            let its_time = async {
                match next {
                    Some(at) => drop(Timer::at(at).await),
                    None => future::pending().await,
                }
            };
            sooner.or(its_time).await;
        }
    }

    /// Waits until then.
    pub(crate) async fn until(&self, at: Instant) {
        let mut alarm = Alarm::new(self);
        future::poll_fn(|cx| alarm.poll(at, cx)).await;
    }

    /// Wakes those whose time has come, and tells when the next one's does.
    fn wake_due(&self) -> Option<Instant> {
        let mut due = Vec::new();
        let mut deadlines = self.deadlines();
        let now = Instant::now();
        let next = loop {
            match deadlines.wakers.first_entry() {
                Some(first) if first.key().0 <= now => due.push(first.remove()),
                first => break first.map(|first| first.key().0),
            }
        };
        drop(deadlines);
        due.into_iter().for_each(Waker::wake);
        next
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().expect("nobody panics while holding this lock")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.sooner.notify(usize::MAX);
    }
}

/// Wakes a task at a time that may change.
#[derive(Debug)]
pub(crate) struct Alarm<'c> {
    clock: &'c Clock,
    /// What is set, and for whom.
    set: Option<((Instant, u64), Waker)>,
}

impl<'c> Alarm<'c> {
    pub(crate) const fn new(clock: &'c Clock) -> Self {
        Self { clock, set: None }
    }

    /// Ready when it is time. An alarm that is set for a time before that stays, and is set anew
    /// when it has gone off: so a deadline that each event moves is not set with each event.
    pub(crate) fn poll(&mut self, at: Instant, cx: &Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= at {
            return Poll::Ready(());
        }
        let stays = self.set.as_ref().is_some_and(|((set, _), waker)| {
            now < *set && *set <= at && waker.will_wake(cx.waker())
        });
        if !stays {
            self.set(at, cx.waker());
        }
        Poll::Pending
    }

    fn set(&mut self, at: Instant, waker: &Waker) {
        let mut deadlines = self.clock.deadlines();
        if let Some((old, _)) = self.set.take() {
            deadlines.wakers.remove(&old);
        }
        deadlines.last_number += 1;
        let key = (at, deadlines.last_number);
        let sooner = deadlines.wakers.keys().next().is_none_or(|first| key < *first);
        deadlines.wakers.insert(key, waker.clone());
        drop(deadlines);
        self.set = Some((key, waker.clone()));
        if sooner {
            self.clock.sooner.notify(usize::MAX);
        }
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some((key, _)) = self.set.take() {
            self.clock.deadlines().wakers.remove(&key);
        }
    }
}
