//! Segments: many events of a topic in one piece of memory.
//!
//! A frame with a single event takes two allocations, and a client that reads the log of a topic
//! would read them one by one. In a segment, an event takes its encoded form and 16 bytes, and any
//! number of consecutive events is one slice.

use crate::compact_instant::CompactInstant;

/// Consecutive events of a topic, encoded one after another.
pub(crate) struct Segment {
    bytes: Box<[u8]>,
    rows: Box<[Row]>,
    /// The position of the first event.
    start: u64,
}

/// An event of a segment.
struct Row {
    at: CompactInstant,
    /// The event's position, after that of the first event.
    position: u32,
    /// The end of the event in the bytes of the segment.
    end: u32,
}

/// The size at which a segment is complete. Its last event may exceed the number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSize {
    pub(crate) events: u16,
    pub(crate) bytes: u32,
}

/// Returns the size of an allocation of `len` bytes, as common allocators round it.
pub(crate) const fn allocated(len: usize) -> usize {
    let rounded = (len + 8).next_multiple_of(16);
    if rounded < 32 { 32 } else { rounded }
}

impl Segment {
    /// Copies the first of these events, with their positions and times, until the segment has this
    /// size. Returns a segment without events if there is none.
    pub(crate) fn copy_of<'e>(
        events: impl Iterator<Item = (u64, CompactInstant, &'e [u8])> + Clone,
        size: SegmentSize,
    ) -> Self {
        let start = events.clone().next().map_or(0, |(position, ..)| position);
        let mut rows = Vec::with_capacity(size.events.into());
        let mut end = 0_u32;
        for (position, at, encoded) in events.clone().take(size.events.into()) {
            let position = u32::try_from(position - start);
            let next = u32::try_from(encoded.len()).map(|len| end.checked_add(len));
            let (Ok(position), Ok(Some(next))) = (position, next) else {
                break;
            };
            end = next;
            rows.push(Row { at, position, end });
            if end >= size.bytes {
                break;
            }
        }
        // The exact capacity, so that the conversion to a box copies nothing.
        let mut bytes = Vec::with_capacity(end as usize);
        for (.., encoded) in events.take(rows.len()) {
            bytes.extend_from_slice(encoded);
        }
        Self { bytes: bytes.into(), rows: rows.into(), start }
    }

    /// Returns the number of events.
    pub(crate) fn len(&self) -> u16 {
        u16::try_from(self.rows.len()).expect("a segment has at most `SegmentSize::events`")
    }

    /// Returns the number of bytes of memory that the segment takes.
    pub(crate) fn memory(&self) -> usize {
        allocated(self.bytes.len())
            + allocated(size_of_val(&*self.rows))
            + allocated(size_of::<Self>() + 16)
    }

    /// Returns the offset at which an event begins: for the index after the last event, the end of
    /// the bytes.
    fn start_of(&self, index: u16) -> usize {
        let index = usize::from(index);
        match index.checked_sub(1) {
            None => 0,
            // The rows are not read for a whole segment: they may not be in the processor's cache.
            Some(_) if index == self.rows.len() => self.bytes.len(),
            Some(before) => self.rows[before].end as usize,
        }
    }

    /// Returns the encoded events from the index `first` to before the index `end`.
    pub(crate) fn encoded(&self, first: u16, end: u16) -> &[u8] {
        &self.bytes[self.start_of(first)..self.start_of(end)]
    }

    /// Returns the position of an event.
    pub(crate) fn position(&self, index: u16) -> u64 {
        self.start + u64::from(self.rows[usize::from(index)].position)
    }

    /// Returns the time of an event.
    pub(crate) fn at(&self, index: u16) -> CompactInstant {
        self.rows[usize::from(index)].at
    }

    /// Returns the index of the first event after a position.
    pub(crate) fn after(&self, position: u64) -> u16 {
        self.count_rows(|row| self.start + u64::from(row.position) <= position)
    }

    /// Returns the index of the first event that is not whole in the first `len` bytes of the
    /// events from the index `first` on.
    pub(crate) fn within(&self, first: u16, len: usize) -> u16 {
        let limit = self.start_of(first) + len;
        self.count_rows(|row| row.end as usize <= limit)
    }

    /// Returns the number of rows at the start for which a condition holds.
    fn count_rows(&self, holds: impl Fn(&Row) -> bool) -> u16 {
        let count = self.rows.partition_point(holds);
        u16::try_from(count).expect("a segment has at most `SegmentSize::events`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_of(events: &[(u64, &str)], size: SegmentSize) -> Segment {
        let at = CompactInstant::now();
        Segment::copy_of(events.iter().map(|(n, text)| (*n, at, text.as_bytes())), size)
    }

    #[test]
    fn a_segment_ends_where_it_is_large_enough() {
        let events = [(3, "one"), (5, "two"), (9, "three")];
        let len = |events: &[_], size| copy_of(events, size).len();
        let size = SegmentSize { events: 10, bytes: 100 };
        assert_eq!(len(&events, size), 3);
        assert_eq!(len(&events, SegmentSize { events: 2, ..size }), 2);
        assert_eq!(len(&events, SegmentSize { bytes: 6, ..size }), 2);
        assert_eq!(len(&events, SegmentSize { bytes: 7, ..size }), 3);
        assert_eq!(len(&[], size), 0);
        // The distance of positions is limited.
        let far = 3 + u64::from(u32::MAX);
        assert_eq!(len(&[(3, "one"), (far, "two")], size), 2);
        assert_eq!(len(&[(3, "one"), (far + 1, "two")], size), 1);
    }

    #[test]
    fn events_are_found_by_position_and_by_length() {
        let events = [(3, "one"), (5, "two"), (9, "three")];
        let segment = copy_of(&events, SegmentSize { events: 10, bytes: 100 });
        for (index, (position, text)) in (0..).zip(events) {
            assert_eq!(segment.position(index), position);
            assert_eq!(segment.encoded(index, index + 1), text.as_bytes());
        }
        assert_eq!(segment.encoded(0, 3), b"onetwothree");
        assert_eq!(segment.encoded(1, 1), b"");
        let after = |position| segment.after(position);
        assert_eq!([0, 2, 3, 4, 5, 8, 9, 10].map(after), [0, 0, 1, 1, 2, 2, 3, 3]);
        let within = |len| segment.within(1, len);
        assert_eq!([0, 2, 3, 7, 8, 99].map(within), [1, 1, 2, 2, 3, 3]);
    }
}
