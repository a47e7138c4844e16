//! The bounds of the events that are held.

use std::time::Duration;

use crate::setters::setters;

/// The bounds of a topic's log. The newest event is always held, even if `events` or `bytes` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// The maximum number of events. Default: 1000.
    pub events: usize,
    /// The maximum memory taken by the topic's events in bytes, including their IDs, keys and
    /// indexes. In memory, older events are kept in segments of at most 1/16 of this; beyond the
    /// limit, the oldest segment is dropped as a whole. Default: 1 MiB.
    pub bytes: usize,
    /// The maximum age of an event; must be more than 0. Default: one hour.
    pub age: Duration,
}

setters!(History {
    with_events => events: usize,
    with_bytes => bytes: usize,
    with_age => age: Duration,
});

impl Default for History {
    fn default() -> Self {
        Self { events: 1000, bytes: 1 << 20, age: Duration::from_secs(3600) }
    }
}
