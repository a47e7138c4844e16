//! Errors of storages.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The error of an operation of a [`Storage`](crate::storage::Storage).
#[derive(Clone, Debug)]
pub struct StorageError {
    kind: StorageErrorKind,
    source: Arc<dyn Error + Send + Sync>,
}

/// The kind of a [`StorageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The storage has no room for the event, which was not stored.
    Full,
    /// The event is too large for the storage, and was not stored. The source names the limit.
    TooLarge,
    /// The storage cannot be read or written at the moment. The event may have been stored.
    Unavailable,
    /// The storage is damaged.
    Damaged,
}

impl StorageErrorKind {
    /// Returns whether the same event may be stored later. A batch ends at such an error: if it
    /// continued, the order would change when the publisher repeats the event.
    pub(crate) const fn is_temporary(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}

impl StorageError {
    /// Creates an error.
    pub fn new(kind: StorageErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into().into() }
    }

    /// Returns the kind.
    pub const fn kind(&self) -> StorageErrorKind {
        self.kind
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StorageErrorKind::Full => "the storage is full",
            StorageErrorKind::TooLarge => "the event is too large for the storage",
            StorageErrorKind::Unavailable => "the storage is unavailable",
            StorageErrorKind::Damaged => "the storage is damaged",
        };
        write!(f, "{what}: {}", self.source)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl PartialEq for StorageError {
    /// Compares kind and text.
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.source.to_string() == other.source.to_string()
    }
}

impl Eq for StorageError {}
