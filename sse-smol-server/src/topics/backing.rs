//! The storage behind the windows of topics, and how far its feed has come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::notifier::Notifier;
use crate::storage::{Storage, StorageError};

/// A storage, and how far its feed has come.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) storage: Arc<dyn Storage>,
    /// All events up to this position are in the windows in memory, or have been.
    applied: AtomicU64,
    /// The reason why the feed has ended.
    failure: OnceLock<StorageError>,
    /// Notified when `applied` or `failure` has changed.
    progress: Notifier,
}

impl Backing {
    /// Creates a backing for windows that start after a position.
    pub(crate) fn new(storage: Arc<dyn Storage>, position: u64) -> Self {
        Self {
            storage,
            applied: AtomicU64::new(position),
            failure: OnceLock::new(),
            progress: Notifier::default(),
        }
    }

    /// Returns an error if the feed has ended.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Waits until the event at a position is visible to subscribers.
    pub(crate) async fn applied(&self, position: u64) -> Result<(), StorageError> {
        loop {
            // Created before the checks, so no change in between is missed.
            let progress = self.progress.listen();
            if self.applied.load(Ordering::Acquire) >= position {
                return Ok(());
            }
            self.check()?;
            progress.await;
        }
    }

    /// Records that all events up to a position are visible to subscribers.
    pub(crate) fn set_applied(&self, position: u64) {
        self.applied.store(position, Ordering::Release);
        self.progress.notify();
    }

    /// Records the reason why the feed has ended. Returns false if there is one already.
    pub(crate) fn fail(&self, failure: StorageError) -> bool {
        let is_first = self.failure.set(failure).is_ok();
        self.progress.notify();
        is_first
    }
}
