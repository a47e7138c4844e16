//! What readers of a file and its writer share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::file::File;
use super::index::Index;
use super::unwritten::Unwritten;
use crate::storage::{Change, Page, PageLimit, StorageError, StorageErrorKind, StoredEvent};

/// A message to a follower: consecutive changes, or the error that ends its stream.
pub(super) type Followed = Result<Vec<Change>, StorageError>;

/// The number of attempts to read a page whose events are dropped meanwhile.
const ATTEMPTS: usize = 100;

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Locked for reading by each operation on the file, and for writing to open it again.
    pub(super) file: RwLock<File>,
    /// Events that are not in the file yet. Only the writer changes them: it adds an event before
    /// it adds it to the index, and removes it after it has written it to the file.
    pub(super) unwritten: RwLock<Unwritten>,
    /// The index of all events that can be read. Locked briefly, and never together with the file.
    pub(super) index: Mutex<Index>,
    /// The epoch, which changes if events are lost. Locked for a moment only, and alone.
    epoch: Mutex<String>,
    /// The error after which the file has to be opened again. Locked like the epoch.
    failure: Mutex<Option<StorageError>>,
}

impl Shared {
    pub(super) fn new(file: File, index: Index, epoch: String) -> Self {
        Self {
            file: RwLock::new(file),
            unwritten: RwLock::default(),
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

    pub(super) fn file(&self) -> RwLockReadGuard<'_, File> {
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unwritten(&self) -> RwLockReadGuard<'_, Unwritten> {
        self.unwritten.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change_unwritten(&self) -> RwLockWriteGuard<'_, Unwritten> {
        self.unwritten.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the topics and the events at these positions to `each`, in order. Events that have
    /// been dropped are left out.
    pub(super) fn events(
        &self,
        positions: &[u64],
        mut each: impl FnMut(&str, StoredEvent),
    ) -> Result<(), StorageError> {
        // Read before the file, so that an event that is written meanwhile is found in one of them.
        let unwritten = self.unwritten();
        let newer: Vec<_> = positions
            .iter()
            .filter_map(|position| unwritten.get(*position))
            .map(|(topic, event)| (Arc::clone(topic), event))
            .collect();
        drop(unwritten);
        // Events are written in the order of their positions.
        let in_file = newer.first().map_or(positions.len(), |(_, first)| {
            positions.partition_point(|position| *position < first.position)
        });
        if in_file > 0 {
            self.file().read(&positions[..in_file], |position, record| {
                each(record.topic, record.to_stored(position));
            })?;
        }
        for (topic, event) in newer {
            each(&topic, event);
        }
        Ok(())
    }

    /// Reads a page, on a thread that may block.
    pub(super) fn read(
        &self,
        topic: &str,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        for _ in 0..ATTEMPTS {
            let (positions, is_last, dropped) = self.index().page(topic, after, limit);
            let mut events = Vec::with_capacity(positions.len());
            self.events(&positions, |_, event| events.push(event))?;
            // Events that were dropped meanwhile are missing. The index then has another page.
            if events.len() == positions.len() {
                return Ok(Page { events, is_last, dropped });
            }
        }
        let why = "events of the page are missing, such as while the file is opened again";
        Err(StorageError::new(StorageErrorKind::Unavailable, why))
    }
}
