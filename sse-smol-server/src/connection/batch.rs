//! Events that a delivery worker sends to many streams, joined and framed once for all of them.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Frame;
use crate::topics::window::{BATCH_BYTES, BATCH_EVENTS};

/// The identity of a group, unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupNumber(NonZeroU64);

impl GroupNumber {
    /// Returns a number that no other group has.
    pub(super) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Self(NonZeroU64::new(number).expect("fewer groups are created than 2^64"))
    }
}

/// Events that are delivered to all streams of a group.
#[derive(Debug)]
pub(super) struct Batch {
    /// The group whose streams get it.
    pub(super) group: GroupNumber,
    /// The position before the first of the events.
    after: u64,
    /// The events with their positions and their offsets in `bytes`.
    events: Vec<(u64, usize, Frame)>,
    /// All events, framed as chunks.
    bytes: Vec<u8>,
    /// Whether the window has more events.
    pub(super) is_cut_short: bool,
}

/// The part of a batch that a stream has not been sent yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining<'b> {
    pub(super) bytes: &'b [u8],
    events: &'b [(u64, usize, Frame)],
}

impl Batch {
    /// Creates an empty batch for a group whose streams have been sent all events up to a position.
    pub(super) const fn new(group: GroupNumber, after: u64) -> Self {
        Self { group, after, events: Vec::new(), bytes: Vec::new(), is_cut_short: false }
    }

    /// Returns whether the batch has the size at which it is delivered.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() == BATCH_EVENTS || self.bytes.len() >= BATCH_BYTES
    }

    /// Appends the next event.
    pub(super) fn push(&mut self, position: u64, frame: Frame) {
        let start = self.bytes.len();
        frame.append_chunk(&mut self.bytes);
        self.events.push((position, start, frame));
    }

    /// Returns the position of the last event.
    pub(super) fn last_position(&self) -> Option<u64> {
        self.events.last().map(|(position, ..)| *position)
    }

    /// Returns the part after a position, or `None` if events between that and the batch are
    /// missing.
    pub(super) fn after(&self, position: u64) -> Option<Remaining<'_>> {
        let first = self.events.partition_point(|(at, ..)| *at <= position);
        let events = &self.events[first..];
        let start = events.first().map_or(self.bytes.len(), |(_, start, _)| *start);
        (position >= self.after).then_some(Remaining { bytes: &self.bytes[start..], events })
    }
}

impl<'b> Remaining<'b> {
    pub(super) fn frames(self) -> impl Iterator<Item = &'b Frame> {
        self.events.iter().map(|(.., frame)| frame)
    }

    /// Returns the position of the last event.
    pub(super) fn position(self) -> Option<u64> {
        self.events.last().map(|(position, ..)| *position)
    }
}
