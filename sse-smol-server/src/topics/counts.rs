//! Counts of topics and of their storage for metrics, updated as they change.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::storage::{Page, StorageError, StorageErrorKind};

/// Counts of all topics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: Counter,
    pub(crate) gaps: Counter,
    pub(crate) subscriptions: AtomicUsize,
}

/// The upper ends of the intervals in which times are counted, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Counts of a storage.
#[derive(Debug)]
pub(crate) struct StorageCounts {
    /// The times of appends in seconds, also of those that failed or were given up.
    pub(crate) appends: Histogram,
    pub(crate) errors: Family<OfError, Counter>,
    pub(crate) pages: Counter,
    pub(crate) bytes: Counter,
    pub(crate) resets: Counter,
    /// The highest position that the storage is known to have assigned.
    known: AtomicU64,
}

/// The labels of the counts of errors.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OfError {
    operation: &'static str,
    kind: &'static str,
}

impl StorageCounts {
    pub(crate) fn new() -> Self {
        Self {
            appends: Histogram::new(SECONDS),
            errors: Family::default(),
            pages: Counter::default(),
            bytes: Counter::default(),
            resets: Counter::default(),
            known: AtomicU64::new(0),
        }
    }

    /// Starts the time of an append, which ends when the result is dropped.
    pub(crate) fn start_append(&self) -> impl Drop {
        Append { counts: self, start: Instant::now() }
    }

    /// Counts an error of an operation.
    pub(crate) fn failed(&self, operation: &'static str, error: &StorageError) {
        let kind = match error.kind() {
            StorageErrorKind::Full => "full",
            StorageErrorKind::TooLarge => "too_large",
            StorageErrorKind::Unavailable => "unavailable",
            StorageErrorKind::Damaged => "damaged",
        };
        self.errors.get_or_create(&OfError { operation, kind }).inc();
    }

    pub(crate) fn read(&self, page: &Page) {
        self.pages.inc();
        let bytes: usize = page.events.iter().map(|event| event.fields.len()).sum();
        self.bytes.inc_by(bytes as u64);
    }

    /// Records that the storage has assigned a position.
    pub(crate) fn assigned(&self, position: u64) {
        self.known.fetch_max(position, Ordering::Relaxed);
    }

    /// Returns the number of positions that the storage is known to have assigned after this one.
    pub(crate) fn lag(&self, applied: u64) -> u64 {
        self.known.load(Ordering::Relaxed).saturating_sub(applied)
    }
}

/// The time of an append, which may be given up.
struct Append<'c> {
    counts: &'c StorageCounts,
    start: Instant,
}

impl Drop for Append<'_> {
    fn drop(&mut self) {
        self.counts.appends.observe(self.start.elapsed().as_secs_f64());
    }
}
