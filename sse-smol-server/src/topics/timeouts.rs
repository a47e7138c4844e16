//! The timeout of operations of the storage, with one timer for all of them.
//!
//! A timer that is set wakes the thread of the reactor, which takes half a dozen system calls, and
//! hardly any operation takes as long as its timeout. All operations have the same timeout, so the
//! timer is set for the oldest one, and stays set when that is complete. So it is set at most once
//! in the time of a timeout, and not at all while there are no operations.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::or;

/// The timeout of any number of operations.
#[derive(Debug)]
pub(crate) struct Timeouts {
    timeout: Duration,
    shared: Arc<SharedTimer>,
}

/// The timer, and the operations that wait for it.
#[derive(Debug, Default)]
struct SharedTimer {
    waiting: Mutex<Waiting>,
    /// Set under this lock. A thread takes it only if it has found `is_set` to be false, or if it
    /// runs the waker of the timer.
    timer: Mutex<Option<Timer>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The wakers of the operations by deadline and number.
    wakers: BTreeMap<(Instant, u64), Waker>,
    /// The number of the next operation.
    next: u64,
    /// Whether the timer is set or about to be.
    is_set: bool,
}

impl Timeouts {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, shared: Arc::default() }
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs an operation. Returns `None` if it is not complete in time.
    pub(crate) async fn limit<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        // A deadline that is too far in the future to be expressed is none.
        let Some(deadline) = Instant::now().checked_add(self.timeout) else {
            return Some(operation.await);
        };
        let late = Late { shared: &self.shared, deadline, number: None };
        or(async { Some(operation.await) }, async {
            late.await;
            None
        })
        .await
    }
}

impl Drop for Timeouts {
    fn drop(&mut self) {
        // The inner timer holds a waker, which holds the shared timer: a reference cycle.
        let timer = self.shared.timer().take();
        drop(timer);
    }
}

impl SharedTimer {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic while this lock is held")
    }

    fn timer(&self) -> MutexGuard<'_, Option<Timer>> {
        self.timer.lock().expect("no panic while this lock is held")
    }

    /// Wakes the operations that are late, and sets the timer for the next one.
    fn set(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        loop {
            let mut due = Vec::new();
            let mut waiting = self.waiting();
            let now = Instant::now();
            while let Some(first) = waiting.wakers.first_entry().filter(|one| one.key().0 <= now) {
                due.push(first.remove());
            }
            let next = waiting.wakers.first_key_value().map(|((deadline, _), _)| *deadline);
            waiting.is_set = next.is_some();
            drop(waiting);
            due.into_iter().for_each(Waker::wake);
            let Some(next) = next else {
                return;
            };
            let mut timer = self.timer();
            let polled =
                Pin::new(timer.insert(Timer::at(next))).poll(&mut Context::from_waker(&waker));
            drop(timer);
            if polled.is_pending() {
                return;
            }
        }
    }
}

impl Wake for SharedTimer {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

/// A wait for the deadline of an operation.
struct Late<'a> {
    shared: &'a Arc<SharedTimer>,
    deadline: Instant,
    /// The number of the operation, once it has waited.
    number: Option<u64>,
}

impl Future for Late<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared;
        let waker = cx.waker().clone();
        let mut waiting = shared.waiting();
        if let Some(number) = self.number {
            let Some(known) = waiting.wakers.get_mut(&(self.deadline, number)) else {
                return Poll::Ready(());
            };
            let replaced = std::mem::replace(known, waker);
            drop(waiting);
            drop(replaced);
            return Poll::Pending;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.wakers.insert((self.deadline, number), waker);
        let was_set = std::mem::replace(&mut waiting.is_set, true);
        drop(waiting);
        self.number = Some(number);
        if !was_set {
            shared.set();
        }
        Poll::Pending
    }
}

impl Drop for Late<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.shared.waiting().wakers.remove(&(self.deadline, number));
            // Not under the lock: dropping a waker may drop a task.
            drop(waker);
        }
    }
}
