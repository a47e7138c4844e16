//! A topic's window: the latest events, bounded in number, bytes and age.
//!
//! Positions are numbers that increase over all topics of a server; a window holds some of them. A
//! reader at a position has seen every event up to and including it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::segment::{Segment, SegmentSize};
use crate::storage::History;
use crate::topics::index::Index;

/// The maximum number of events in one batch: those that a subscriber gets in one write, and those
/// that a storage gets or returns in one call.
pub(crate) const BATCH_EVENTS: usize = 512;

/// The size in bytes at which a batch is complete; its last event may exceed it.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// The size in bytes at which a batch of segments is complete. Segments are written without a copy
/// and without work for each event, so most of the cost is that of the writes.
pub(crate) const REPLAY_BYTES: usize = 256 << 10;

/// The maximum size of segments.
const SEGMENT: SegmentSize = SegmentSize { events: 256, bytes: 32 << 10 };

/// The part of a window that one segment may take, as a divisor: events of a segment are dropped one
/// by one, but their memory is released when all of them are.
const SEGMENT_PART: usize = 16;

/// The part of a segment that one event may take, as a divisor.
const LARGE_PART: usize = 8;

/// The minimum size of segments. Smaller ones would save no memory.
const SMALLEST: SegmentSize = SegmentSize { events: 8, bytes: 4 << 10 };

/// Returns the size of the segments of a window with these bounds, or `None` if it is too small for
/// segments.
fn segment_size(history: &History) -> Option<SegmentSize> {
    let part = |most: usize| most / SEGMENT_PART;
    let size = SegmentSize {
        events: part(history.events)
            .try_into()
            .map_or(SEGMENT.events, |n: u16| n.min(SEGMENT.events)),
        bytes: part(history.bytes).try_into().map_or(SEGMENT.bytes, |n: u32| n.min(SEGMENT.bytes)),
    };
    (size.events >= SMALLEST.events && size.bytes >= SMALLEST.bytes).then_some(size)
}

/// An event in the window, or the events of a segment that are left.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The position of the last event.
    pub(crate) position: u64,
    /// The event or the events, each of which has an ID.
    pub(crate) frame: Frame,
    /// The time of the event, or of the last one.
    pub(crate) at: CompactInstant,
}

impl Entry {
    /// Returns the event's ID.
    pub(crate) fn id(&self) -> String {
        String::from_utf8_lossy(self.frame.id().unwrap_or_default()).into_owned()
    }

    /// Returns the position and the time of the first event.
    fn start(&self) -> (u64, CompactInstant) {
        self.frame.run_start().unwrap_or((self.position, self.at))
    }

    /// Returns the memory that the entry takes in bytes. The window's buffer grows by doubling, and
    /// counts as if it had just grown.
    fn cost(&self) -> usize {
        2 * size_of::<Self>() + self.frame.memory()
    }
}

/// The error for a position after which events have been dropped from the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted;

/// A bounded window of events.
///
/// The newest events are frames of their own, which are delivered to subscribers that keep up. When
/// there are enough of them for a segment, they are copied into one, unless they are large.
#[derive(Debug)]
pub(crate) struct Window {
    /// The events before those of `newest`: segments, and large events.
    sealed: VecDeque<Entry>,
    /// The newest events, at least one unless the window is empty.
    newest: VecDeque<Entry>,
    /// The encoded length of the newest events in bytes.
    newest_bytes: usize,
    /// The number of events.
    len: usize,
    /// The memory that the entries take in bytes.
    bytes: usize,
    /// The memory that the topic takes besides its entries, in bytes.
    fixed: usize,
    /// The last position that was dropped. All later events of the topic are in the window.
    evicted: u64,
    /// The number of events that were appended.
    appended: u64,
    /// `None` while no event has a chosen ID or a key.
    index: Option<Box<Index>>,
}

/// Shrinks a buffer that is much larger than its content. Twice the length is kept, so that the next
/// entries do not make the buffer grow again.
fn shrink(entries: &mut VecDeque<Entry>) {
    if entries.is_empty() {
        *entries = VecDeque::new();
    } else if entries.capacity() > 4 * entries.len().max(4) {
        entries.shrink_to(2 * entries.len());
    }
}

impl Window {
    /// Creates an empty window from which events up to and including the position `evicted` count
    /// as dropped. The topic takes `fixed` bytes of memory besides its events.
    pub(crate) fn new(evicted: u64, fixed: usize) -> Self {
        Self {
            sealed: VecDeque::new(),
            newest: VecDeque::new(),
            newest_bytes: 0,
            len: 0,
            bytes: 0,
            fixed,
            evicted,
            appended: 0,
            index: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of events that were appended, including those that were dropped since.
    pub(crate) const fn appended(&self) -> u64 {
        self.appended
    }

    /// Returns the memory that the window takes in bytes, or 0 if it holds no events.
    pub(crate) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.bytes());
        if self.len == 0 { 0 } else { self.fixed + self.bytes + index }
    }

    /// Returns the last position that was dropped.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn front(&self) -> Option<&Entry> {
        self.sealed.front().or_else(|| self.newest.front())
    }

    /// Returns the position and the time of the oldest event.
    pub(crate) fn start(&self) -> Option<(u64, CompactInstant)> {
        self.front().map(Entry::start)
    }

    pub(crate) fn first(&self) -> Option<Entry> {
        self.event_at(self.start()?.0)
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.newest.back()
    }

    /// Returns the position of the newest event, including dropped ones.
    pub(crate) fn last_position(&self) -> u64 {
        self.last().map_or(self.evicted, |last| last.position)
    }

    /// Returns the position of the event with this publisher-chosen ID.
    pub(crate) fn position_of(&self, own_id: &str) -> Option<u64> {
        self.index.as_ref()?.position_of(own_id)
    }

    /// Returns the event that was published with this key.
    pub(crate) fn published(&self, key: &str) -> Option<Entry> {
        self.event_at(self.index.as_ref()?.published(key)?)
    }

    /// Returns the event at a position.
    fn event_at(&self, position: u64) -> Option<Entry> {
        let entry = self.entries_from(position).next()?;
        let mut events = entry.frame.clone().single_events(entry.position);
        let (position, frame) = events.find(|(at, _)| *at == position)?;
        let at = frame.run_start().map_or(entry.at, |(_, at)| at);
        Some(Entry { position, frame, at })
    }

    /// Returns the entries whose last event is not before a position, oldest first.
    fn entries_from(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let is_before = |entry: &Entry| entry.position < position;
        // No search for a subscriber that keeps up.
        let from = |entries: &VecDeque<Entry>| match entries.back() {
            Some(last) if !is_before(last) => entries.partition_point(is_before),
            _ => entries.len(),
        };
        self.sealed.range(from(&self.sealed)..).chain(self.newest.range(from(&self.newest)..))
    }

    /// Appends an event, whose position must be higher than all others, and drops the oldest events
    /// that exceed the bounds. The newest event stays even if it exceeds them alone.
    pub(crate) fn append(
        &mut self,
        entry: Entry,
        has_own_id: bool,
        key: Option<&Arc<str>>,
        history: &History,
    ) {
        debug_assert!(self.last().is_none_or(|last| last.position < entry.position));
        self.bytes += entry.cost();
        self.newest_bytes += entry.frame.encoded().len();
        self.len += 1;
        self.appended += 1;
        if has_own_id || key.is_some() {
            let index = self.index.get_or_insert_default();
            if has_own_id {
                index.add_id(entry.frame.id().unwrap_or_default(), entry.position);
            }
            if let Some(key) = key {
                index.add_key(key, entry.position);
            }
        }
        self.newest.push_back(entry);
        while self.len > 1 && self.len > history.events {
            self.evict();
        }
        while self.len > 1 && self.bytes() > history.bytes {
            self.release();
        }
        if let Some(size) = segment_size(history) {
            self.seal(size);
        }
    }

    /// Copies the first of the newest events into segments, while there are enough of them for a
    /// segment and a quarter.
    fn seal(&mut self, size: SegmentSize) {
        let is_complete = |events: usize, bytes: usize| {
            4 * events >= 5 * usize::from(size.events) || 4 * bytes >= 5 * size.bytes as usize
        };
        while self.newest.len() > 1 && is_complete(self.newest.len(), self.newest_bytes) {
            // The newest event stays.
            let older = self.newest.range(..self.newest.len() - 1);
            // A large event takes little more memory than in a segment, and its copy takes time.
            let events = older
                .map(|entry| (entry.position, entry.at, entry.frame.encoded()))
                .take_while(|(.., encoded)| encoded.len() < size.bytes as usize / LARGE_PART);
            let segment = Segment::copy_of(events, size);
            let count = segment.len();
            let sealed = if count > 1 { Frame::of_segment(segment) } else { None };
            let mut removed = self.newest.drain(..usize::from(count).max(1));
            let Some(mut entry) = removed.next_back() else { return };
            let mut len = entry.frame.encoded().len();
            self.bytes -= entry.cost();
            for other in removed {
                len += other.frame.encoded().len();
                self.bytes -= other.cost();
            }
            self.newest_bytes -= len;
            entry.frame = sealed.unwrap_or(entry.frame);
            self.bytes += entry.cost();
            self.sealed.push_back(entry);
            // The capacity that `Entry::cost` counts.
            self.newest.shrink_to(2 * self.newest.len());
        }
    }

    /// Drops all events.
    pub(crate) fn clear(&mut self) {
        self.reset(self.last_position());
    }

    /// Drops all events, and starts after a position, as if events up to it had been dropped.
    pub(crate) fn reset(&mut self, after: u64) {
        *self = Self { appended: self.appended, ..Self::new(after, self.fixed) };
    }

    /// Drops all events, and makes every later read an error.
    pub(crate) fn close(&mut self) {
        *self = Self::new(u64::MAX, self.fixed);
    }

    /// Drops at most `limit` events that are older than `age`, and returns the number dropped.
    pub(crate) fn expire(&mut self, age: Duration, now: CompactInstant, limit: usize) -> usize {
        let mut count = 0;
        while count < limit && self.start().is_some_and(|(_, at)| at + age < now) {
            self.evict();
            count += 1;
        }
        count
    }

    /// Drops the oldest event.
    pub(crate) fn evict(&mut self) {
        let front = self.sealed.front_mut().or_else(|| self.newest.front_mut());
        let Some(front) = front else { return };
        let (position, _) = front.start();
        if let Some(index) = &mut self.index {
            index.remove(position, front.frame.first_id().unwrap_or_default());
            if index.is_empty() {
                self.index = None;
            }
        }
        if front.frame.skip_first() {
            self.evicted = position;
            self.len -= 1;
        } else {
            self.drop_front();
        }
    }

    /// Drops the oldest events whose memory can be released: one, or all of a segment.
    pub(crate) fn release(&mut self) {
        let count = self.front().map_or(0, |front| front.frame.events());
        if self.index.is_some() {
            (0..count).for_each(|_| self.evict());
        } else {
            self.drop_front();
        }
    }

    /// Drops the first entry, whose events are not in the index.
    fn drop_front(&mut self) {
        let dropped = self.sealed.pop_front().or_else(|| {
            let newest = self.newest.pop_front()?;
            self.newest_bytes -= newest.frame.encoded().len();
            Some(newest)
        });
        if let Some(entry) = dropped {
            self.evicted = entry.position;
            self.len -= entry.frame.events();
            self.bytes -= entry.cost();
        }
        shrink(&mut self.sealed);
        shrink(&mut self.newest);
    }

    /// Returns the events after a position, oldest first. Those of a segment are one entry.
    ///
    /// # Errors
    ///
    /// [`Evicted`] if events after the position have been dropped.
    pub(crate) fn after(&self, position: u64) -> Result<impl Iterator<Item = Entry>, Evicted> {
        if position < self.evicted {
            return Err(Evicted);
        }
        Ok(self.entries_from(position.saturating_add(1)).map(move |entry| {
            let frame = entry.frame.run_after(position).unwrap_or_else(|| entry.frame.clone());
            Entry { frame, ..*entry }
        }))
    }

    /// Returns the events after a position one by one, oldest first, with their positions.
    ///
    /// # Errors
    ///
    /// [`Evicted`] if events after the position have been dropped.
    pub(crate) fn events_after(
        &self,
        position: u64,
    ) -> Result<impl Iterator<Item = (u64, Frame)>, Evicted> {
        let entries = self.after(position)?;
        Ok(entries.flat_map(|entry| entry.frame.single_events(entry.position)))
    }
}
