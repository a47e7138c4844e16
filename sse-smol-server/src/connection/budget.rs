//! The limit on the memory that the request bodies of all connections occupy together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of bytes that all request bodies together may occupy.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    max: usize,
    reserved: AtomicUsize,
}

/// One body's part of a [`BodyBudget`]. Dropping it returns the bytes.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<BodyBudget>,
    bytes: usize,
}

impl BodyBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, reserved: AtomicUsize::new(0) })
    }
}

impl Reservation {
    /// Creates a reservation of no bytes.
    pub(crate) fn new(budget: &Arc<BodyBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Grows the reservation to `bytes`. Returns false, and does not change it, if that exceeds the
    /// budget.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let BodyBudget { max, reserved } = &*self.budget;
        let more = bytes.saturating_sub(self.bytes);
        let fits = |reserved: usize| reserved.checked_add(more).filter(|sum| sum <= max);
        let granted = reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if granted {
            self.bytes += more;
        }
        granted
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
