//! The state of one event stream, which is the answer of an exchange.

use super::batch::GroupNumber;
use crate::compact_instant::CompactInstant;
use crate::framing::Framing;

/// The state of an event stream.
pub(super) struct StreamState {
    pub(super) framing: Framing,
    /// The time of the last output, if the stream has keep-alives.
    pub(super) last_sent: Option<CompactInstant>,
    /// Set while a delivery worker sends the events of the stream's topic.
    pub(super) parked: Option<ParkedAt>,
    /// Whether the worker has returned the stream to the connection's task.
    pub(super) unparked: bool,
    /// Whether the last frame has been queued.
    pub(super) finished: bool,
    /// The number of bytes that arrived from the peer, and were ignored.
    pub(super) ignored: u32,
}

/// The group and the position of a parked stream.
pub(super) struct ParkedAt {
    /// Compared on delivery: a worker may hold a batch for a stream that has since been parked with
    /// another group.
    pub(super) group: GroupNumber,
    /// All events up to this position have been sent or are queued.
    pub(super) position: u64,
}

impl StreamState {
    /// Creates the state of an open stream. `now` is the current time if it has keep-alives.
    pub(super) const fn new(framing: Framing, now: Option<CompactInstant>) -> Self {
        Self { framing, last_sent: now, parked: None, unparked: false, finished: false, ignored: 0 }
    }
}
