//! Where the values of a short event lie in one piece of memory, in eight bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use crate::{Event, utf8};

/// The places of the values of an event in a piece of memory, and its flags. All offsets and lengths
/// are at most [`Layout::MAX`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout(u64);

/// The values of an event in memory.
pub(crate) struct Values<'m> {
    pub(crate) event_type: &'m [u8],
    pub(crate) data: Option<&'m [u8]>,
    pub(crate) last_event_id: &'m [u8],
}

impl Layout {
    /// The maximum length of the memory in bytes.
    pub(crate) const MAX: usize = (1 << Self::BITS) - 1;

    /// The number of bits of an offset or a length.
    const BITS: u32 = 10;

    // The first bit of each number.
    const DATA_START: u32 = 0;
    const DATA_LEN: u32 = Self::BITS;
    const TYPE_START: u32 = 2 * Self::BITS;
    const TYPE_LEN: u32 = 3 * Self::BITS;
    const ID_START: u32 = 4 * Self::BITS;
    const ID_LEN: u32 = 5 * Self::BITS;

    const HAS_DATA: u64 = 1 << (6 * Self::BITS);
    const SETS_ID: u64 = Self::HAS_DATA << 1;

    /// Returns the layout of memory that begins with this number of bytes of data, without other
    /// values. Returns `None` if there are more than [`MAX`](Self::MAX).
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[inline]
    pub(crate) fn of_data(len: usize) -> Option<Self> {
        Some(Self(Self::HAS_DATA | Self::number(len, Self::DATA_LEN)?))
    }

    /// Returns the layout of an event whose values lie in its context, for a copy of the range of
    /// the context from the first to the last of them.
    ///
    /// Returns `None` if a value lies elsewhere, if that range is longer than [`MAX`](Self::MAX), or
    /// if there is a reconnection time.
    #[inline]
    pub(crate) fn of(event: Event<'_>) -> Option<(Self, Range<usize>)> {
        let memory = event.context();
        if event.retry_millis().is_some() {
            return None;
        }
        let data = event.own_data().unwrap_or_default();
        let event_type = event.named_type().unwrap_or_default();
        let id = event.last_event_id().as_bytes();
        let (mut start, mut end) = (usize::MAX, 0);
        for value in [event_type, id, data] {
            // An empty value may lie anywhere.
            if !value.is_empty() {
                let at = offset(value, memory)?;
                start = start.min(at);
                end = end.max(at + value.len());
            }
        }
        start = start.min(end);
        if end - start > Self::MAX {
            return None;
        }
        let place = |value: &[u8], start_bit, len_bit| {
            let at = if value.is_empty() { start } else { offset(value, memory)? };
            Some(Self::number(at - start, start_bit)? | Self::number(value.len(), len_bit)?)
        };
        let bits = place(event_type, Self::TYPE_START, Self::TYPE_LEN)?
            | place(id, Self::ID_START, Self::ID_LEN)?
            | place(data, Self::DATA_START, Self::DATA_LEN)?
            | if event.has_data() { Self::HAS_DATA } else { 0 }
            | if event.id().is_some() { Self::SETS_ID } else { 0 };
        Some((Self(bits), start..end))
    }

    /// Returns the layout of the values of an event after one another: event type, ID, data. Returns
    /// `None` if they are longer than [`MAX`](Self::MAX), or if there is a reconnection time.
    #[inline]
    pub(crate) fn of_joined(event: Event<'_>) -> Option<Self> {
        if event.retry_millis().is_some() {
            return None;
        }
        let event_type = event.named_type().map_or(0, <[u8]>::len);
        let (id, data) = (event.last_event_id().len(), event.data().len());
        let bits = Self::number(event_type, Self::TYPE_LEN)?
            | Self::number(event_type, Self::ID_START)?
            | Self::number(id, Self::ID_LEN)?
            | Self::number(event_type + id, Self::DATA_START)?
            | Self::number(data, Self::DATA_LEN)?
            | if event.has_data() { Self::HAS_DATA } else { 0 }
            | if event.id().is_some() { Self::SETS_ID } else { 0 };
        (event_type + id + data <= Self::MAX).then_some(Self(bits))
    }

    /// Returns the bits of a number, if there are enough.
    #[inline]
    fn number(number: usize, first_bit: u32) -> Option<u64> {
        (number <= Self::MAX).then_some((number as u64) << first_bit)
    }

    #[inline]
    pub(crate) const fn has_data(self) -> bool {
        self.0 & Self::HAS_DATA != 0
    }

    #[inline]
    pub(crate) const fn sets_id(self) -> bool {
        self.0 & Self::SETS_ID != 0
    }

    /// Returns the values in memory of this layout.
    #[inline]
    pub(crate) fn values(self, memory: &[u8]) -> Values<'_> {
        let number = |first_bit: u32| {
            #[allow(clippy::cast_possible_truncation)] // the bits are masked
            let number = (self.0 >> first_bit) as usize;
            number & Self::MAX
        };
        let slice = |start_bit, len_bit| {
            let start = number(start_bit);
            // Nothing is missing, because memory and layout are created together.
            memory.get(start..start + number(len_bit)).unwrap_or_default()
        };
        Values {
            event_type: slice(Self::TYPE_START, Self::TYPE_LEN),
            data: self.has_data().then(|| slice(Self::DATA_START, Self::DATA_LEN)),
            last_event_id: slice(Self::ID_START, Self::ID_LEN),
        }
    }
}

/// Returns the offset of a value in memory, if it lies there.
#[inline]
pub(crate) fn offset(value: &[u8], memory: &[u8]) -> Option<usize> {
    let start = value.as_ptr().addr().wrapping_sub(memory.as_ptr().addr());
    let is_inside = start <= memory.len() && value.len() <= memory.len() - start;
    is_inside.then_some(start)
}

/// Copies the range of a layout out of a chunk, and adds bytes up to the end of a whole block of
/// UTF-8 validation: those that follow in the chunk, unless they end within a character.
#[inline]
pub(crate) fn copy(chunk: &[u8], range: Range<usize>) -> Box<[u8]> {
    let end = range.start + range.len().next_multiple_of(utf8::BLOCK);
    match (chunk.get(range.start..end), chunk.get(end)) {
        (Some(blocks), Some(next)) if !utf8::continues(*next) => blocks.into(),
        _ => padded(&[&chunk[range]]),
    }
}

/// Joins values, and adds zeros up to the end of a whole block of UTF-8 validation.
#[inline(never)]
pub(crate) fn padded(values: &[&[u8]]) -> Box<[u8]> {
    let len: usize = values.iter().map(|value| value.len()).sum();
    let mut all = Vec::with_capacity(len.next_multiple_of(utf8::BLOCK));
    for value in values {
        all.extend_from_slice(value);
    }
    all.resize(len.next_multiple_of(utf8::BLOCK), 0);
    all.into()
}
