//! The memory of pages that were read from a storage and are not sent yet.
//!
//! Events in windows are shared by all subscriptions. Those of a page belong to one, which holds
//! them until its client has taken them: a client that stalls, for as long as its connection lasts.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::storage::PageLimit;
use crate::topics::window::{BATCH_BYTES, BATCH_EVENTS};

/// The memory of all pages together in bytes, beyond which pages are small. No reader waits for
/// memory: it would wait for clients that stall.
const MOST: usize = 64 << 20;

/// The size in bytes at which a small page is complete; its last event may exceed it.
const SMALL: usize = 8 << 10;

/// The memory of the pages that subscriptions hold.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    bytes: AtomicUsize,
}

impl Pages {
    /// Returns the maximum size of the next page.
    pub(crate) fn limit(&self) -> PageLimit {
        let is_small = self.bytes.load(Ordering::Relaxed) >= MOST;
        PageLimit { events: BATCH_EVENTS, bytes: if is_small { SMALL } else { BATCH_BYTES } }
    }

    /// Changes what a subscription holds, in bytes.
    pub(crate) fn hold(&self, held: &mut usize, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(*held, Ordering::Relaxed);
        *held = bytes;
    }
}
