//! The lock of a connection's state, and the wakers that are woken when it is released.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::task::{Context, Waker};

use super::state::State;

/// The locked state of a connection.
///
/// Wakers are woken and dropped after the lock is released: a waker may run or drop its task at
/// once, which takes the same lock.
pub(super) struct Locked<'w> {
    // Fields are dropped in this order: the lock first.
    state: MutexGuard<'w, State>,
    wakers: Wakers,
}

#[derive(Default)]
struct Wakers {
    driver: Option<Waker>,
    waiting: Vec<Waker>,
    /// A replaced waker, to be dropped without being woken.
    replaced: Option<Waker>,
}

impl Drop for Wakers {
    // The lock is taken dozens of times for a request, and nearly always there is no waker.
    #[inline]
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
        if !self.waiting.is_empty() {
            mem::take(&mut self.waiting).into_iter().for_each(Waker::wake);
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl<'w> Locked<'w> {
    /// Holds the lock until it is dropped.
    pub(super) fn new(state: MutexGuard<'w, State>) -> Self {
        Self { state, wakers: Wakers::default() }
    }
}

impl Locked<'_> {
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        if !self.is_driver(cx) {
            self.wakers.replaced = self.state.driver.replace(cx.waker().clone());
        }
    }

    /// Wakes the driver, unless it is polling the handler and checks the state afterwards.
    pub(super) fn wake_driver(&mut self) {
        if !self.exchange.driving {
            self.wakers.driver.clone_from(&self.state.driver);
        }
    }

    /// Wakes the tasks that wait for the queue to be empty or the stream to be unparked.
    pub(super) fn wake_waiting(&mut self) {
        if let Some(cold) = self.state.exchange.cold_mut() {
            // In the common case the vector is moved without a copy.
            let waiting = mem::take(&mut cold.waiting);
            if self.wakers.waiting.is_empty() {
                self.wakers.waiting = waiting;
            } else {
                self.wakers.waiting.extend(waiting);
            }
            self.state.exchange.tidy();
        }
    }

    /// Returns a parked stream to its own task.
    pub(super) fn unpark(&mut self) {
        let stream = self.state.exchange.stream.as_mut();
        if let Some(stream) = stream.filter(|stream| stream.parked.is_some()) {
            stream.unparked = true;
            self.wakers.driver.clone_from(&self.state.driver);
            self.wake_waiting();
        }
    }
}
