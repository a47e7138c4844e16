//! The storage behind the windows of topics, and how far its feed has come.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

use crate::storage::{Storage, StorageError};

/// A storage, and how far its feed has come.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) storage: Arc<dyn Storage>,
    /// All events up to this position are in the windows in memory, or have been.
    applied: AtomicU64,
    /// The reason why the feed has ended.
    failure: OnceLock<StorageError>,
    /// The wakers of publications, by the position that they wait for and the number of the wait.
    /// With one notification for all of them, many publications would be woken for each event.
    waiting: Mutex<BTreeMap<(u64, u64), Waker>>,
}

impl Backing {
    /// Creates a backing for windows that start after a position.
    pub(crate) fn new(storage: Arc<dyn Storage>, position: u64) -> Self {
        Self {
            storage,
            applied: AtomicU64::new(position),
            failure: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    /// Returns an error if the feed has ended.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Waits until the event at a position is visible to subscribers.
    pub(crate) fn applied(&self, position: u64) -> impl Future<Output = Result<(), StorageError>> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Applied { backing: self, key: (position, number) }
    }

    /// Records that all events up to a position are visible to subscribers.
    pub(crate) fn set_applied(&self, position: u64) {
        self.applied.store(position, Ordering::Release);
        self.wake(position);
    }

    /// Records the reason why the feed has ended. Returns false if there is one already.
    pub(crate) fn fail(&self, failure: StorageError) -> bool {
        let is_first = self.failure.set(failure).is_ok();
        self.wake(u64::MAX);
        is_first
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Waker>> {
        self.waiting.lock().expect("no panic while this lock is held")
    }

    /// Wakes the publications that wait for positions up to this one.
    fn wake(&self, position: u64) {
        let mut due = Vec::new();
        let mut waiting = self.waiting();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= position) {
            due.push(first.remove());
        }
        drop(waiting);
        due.into_iter().for_each(Waker::wake);
    }
}

/// A wait for a position.
#[derive(Debug)]
struct Applied<'b> {
    backing: &'b Backing,
    /// The key of the waker.
    key: (u64, u64),
}

impl Future for Applied<'_> {
    type Output = Result<(), StorageError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { backing, key } = *self;
        let waker = cx.waker().clone();
        let replaced = backing.waiting().insert(key, waker);
        // Not under the lock: dropping a waker may drop a task.
        drop(replaced);
        // Checked after the waker is registered, so that no progress in between is missed.
        if backing.applied.load(Ordering::Acquire) >= key.0 {
            return Poll::Ready(Ok(()));
        }
        backing.check().map_or_else(|failure| Poll::Ready(Err(failure)), |()| Poll::Pending)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        let waker = self.backing.waiting().remove(&self.key);
        drop(waker);
    }
}
