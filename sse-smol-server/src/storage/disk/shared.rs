//! What readers of a file and its writer share.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::file::File;
use super::index::Index;
use crate::storage::{Change, Page, PageLimit, StorageError};

/// An item of the stream of a follower.
pub(super) type Followed = Result<Change, StorageError>;

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Locked for reading by each operation on the file, and for writing to open it again.
    pub(super) file: RwLock<File>,
    /// Events in the file, and not yet removed ones apart. Locked for a moment only, and never
    /// together with the file.
    pub(super) index: Mutex<Index>,
    /// The epoch, which changes if events are lost. Locked for a moment only, and alone.
    epoch: Mutex<String>,
    /// The error after which the file has to be opened again. Locked like the epoch.
    failure: Mutex<Option<StorageError>>,
}

impl Shared {
    pub(super) const fn new(file: File, index: Index, epoch: String) -> Self {
        Self {
            file: RwLock::new(file),
            index: Mutex::new(index),
            epoch: Mutex::new(epoch),
            failure: Mutex::new(None),
        }
    }

    /// Returns an error if events cannot be written at the moment.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.failure().clone().map_or(Ok(()), Err)
    }

    pub(super) fn failure(&self) -> MutexGuard<'_, Option<StorageError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epoch(&self) -> MutexGuard<'_, String> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a page, on a thread that may block.
    pub(super) fn read(
        &self,
        topic: &str,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        loop {
            let (positions, is_last, dropped) = self.index().page(topic, after, limit);
            let mut events = Vec::with_capacity(positions.len());
            let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
            file.read(&positions, |position, record| events.push(record.to_stored(position)))?;
            drop(file);
            // Events that were dropped meanwhile are missing. The index then has another page.
            if events.len() == positions.len() {
                return Ok(Page { events, is_last, dropped });
            }
        }
    }
}
