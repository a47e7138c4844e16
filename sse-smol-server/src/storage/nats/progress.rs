//! The progress of the stream and of the feed, and the number of interruptions of the feed.

use std::sync::atomic::{AtomicU64, Ordering};

/// The last sequences of the stream and of the feed that this server has seen, and the number of
/// interruptions.
#[derive(Debug)]
pub(super) struct Progress {
    /// The last sequence that is known to be assigned.
    newest: AtomicU64,
    /// The last sequence that the feed has seen. A new message has a higher one, unless the stream
    /// was replaced or has lost its end.
    seen: AtomicU64,
    /// The number of times that the feed has continued after an interruption.
    resumes: AtomicU64,
}

impl Progress {
    pub(super) const fn new(newest: u64) -> Self {
        Self { newest: AtomicU64::new(newest), seen: AtomicU64::new(0), resumes: AtomicU64::new(0) }
    }

    /// Records that a sequence was assigned.
    pub(super) fn assigned(&self, sequence: u64) {
        self.newest.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Records the last sequence of the stream, which may have lost its end since.
    pub(super) fn set(&self, newest: u64) {
        self.newest.store(newest, Ordering::Relaxed);
    }

    /// Records that the feed has seen a sequence.
    pub(super) fn saw(&self, sequence: u64) {
        self.seen.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Forgets what the feed has seen, which is not in the stream any more.
    pub(super) fn forget(&self) {
        self.seen.store(0, Ordering::Release);
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Returns the number of sequences that are assigned after this one.
    pub(super) fn after(&self, sequence: u64) -> u64 {
        self.newest.load(Ordering::Relaxed).saturating_sub(sequence)
    }

    pub(super) fn resumed(&self) {
        self.resumes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Relaxed)
    }
}
