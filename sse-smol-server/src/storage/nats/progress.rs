//! How far the stream is, and how often the feed was interrupted, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// The end of the stream as far as this server has seen it, and a count of interruptions.
#[derive(Debug)]
pub(super) struct Progress {
    /// The last sequence that is known to be assigned.
    newest: AtomicU64,
    /// The number of times that the feed has continued after an interruption.
    heals: AtomicU64,
}

impl Progress {
    pub(super) const fn new(newest: u64) -> Self {
        Self { newest: AtomicU64::new(newest), heals: AtomicU64::new(0) }
    }

    /// Records that a sequence was assigned.
    pub(super) fn assigned(&self, sequence: u64) {
        self.newest.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Records the last sequence of the stream, which may have lost its end since.
    pub(super) fn set(&self, newest: u64) {
        self.newest.store(newest, Ordering::Relaxed);
    }

    /// Returns the number of sequences that are assigned after this one.
    pub(super) fn after(&self, sequence: u64) -> u64 {
        self.newest.load(Ordering::Relaxed).saturating_sub(sequence)
    }

    pub(super) fn healed(&self) {
        self.heals.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn heals(&self) -> u64 {
        self.heals.load(Ordering::Relaxed)
    }
}
