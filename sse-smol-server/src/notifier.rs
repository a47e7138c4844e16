//! Notifications that any number of tasks can wait for.

use std::collections::BTreeMap;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Wakes the tasks that listen.
///
/// No waker is called or dropped while the lock is held, unlike with `event-listener`: a waker may
/// drop its task at once, and with it a listener that takes the same lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of notifications so far.
    notified: u64,
    /// The key of the next listener.
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

/// A wait for the next notification after this was created.
#[derive(Debug)]
pub(crate) struct Notified {
    notifier: Notifier,
    key: u64,
    /// The number of notifications before this was created.
    notified: u64,
}

impl Notifier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a future that is ready after the next [`notify`](Self::notify). It must be created
    /// before the condition is checked, or a notification in between is missed.
    pub(crate) fn listen(&self) -> Notified {
        let mut state = self.state();
        let key = state.next;
        state.next += 1;
        Notified { notifier: self.clone(), key, notified: state.notified }
    }

    /// Wakes all listeners.
    pub(crate) fn notify(&self) {
        let mut state = self.state();
        state.notified += 1;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Future for Notified {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut state = self.notifier.state();
        if state.notified != self.notified {
            drop(state);
            return Poll::Ready(());
        }
        let replaced = state.waiting.insert(self.key, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        let waker = self.notifier.state().waiting.remove(&self.key);
        drop(waker);
    }
}

/// A condition that becomes true once. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flag(Arc<FlagInner>);

#[derive(Debug, Default)]
struct FlagInner {
    set: AtomicBool,
    notifier: Notifier,
}

impl Flag {
    /// Sets the flag, and wakes the tasks that wait for it.
    pub(crate) fn set(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        self.0.notifier.notify();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Returns a future that is ready when the flag is set after this call.
    pub(crate) fn listen(&self) -> Notified {
        self.0.notifier.listen()
    }

    /// Waits until the flag is set.
    pub(crate) async fn wait(&self) {
        let listener = self.listen();
        if !self.is_set() {
            listener.await;
        }
    }
}
