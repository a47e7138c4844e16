//! Builds an event from the values of a block. They are borrowed from the chunk, and copied into
//! buffers when the chunk ends or data have several lines.

mod values;

use core::mem;

use super::field_buffer::FieldBuffer;
use crate::{DecodeBuffer, Event, Field, Lexer};

/// The values of the current block that had to be copied, and the state that outlives blocks: the
/// last event ID and the reconnection time.
#[derive(Clone, Debug)]
pub(super) struct EventBuilder<B> {
    fields: FieldBuffer<B>,
    data: B,
    state: BlockState,
    line: LineState,
    /// Whether the last event ID was set since the last event.
    id_updated: bool,
    /// Whether `retry` was set since the last event.
    retry_updated: bool,
    retry: Option<u64>,
}

/// What the buffers hold of the current block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockState {
    /// Nothing, so a block that lies in the chunk need not touch them.
    Empty,
    /// No data; perhaps a type or an ID. The memory of earlier data may have to be released when
    /// the block ends.
    NoData,
    /// Data, even if it is one empty line.
    Data,
    /// Nothing: the block exceeded a limit. Until it ends, only `retry` lines take effect.
    TooLarge,
    /// The event that was returned last. It is cleared on the next call, because the event borrows
    /// it.
    Yielded,
}

/// What earlier chunks contained of the current line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// Nothing.
    Start,
    /// A part of a value, which is the last in its buffer unless the block is too large.
    Part,
    /// The first digits of a reconnection time.
    Retry(u64),
    /// A part of an invalid value: an ID with NUL, or a reconnection time that is not a number.
    Invalid,
}

/// The values of a block that are borrowed from the chunk.
#[derive(Default)]
pub(super) struct BorrowedBlock<'i> {
    /// The part of the chunk in which the values lie.
    pub(super) chunk: &'i [u8],
    /// Empty if there is none: an empty type has the same meaning as no type.
    pub(super) event_type: &'i [u8],
    pub(super) id: Option<&'i [u8]>,
    pub(super) data: Option<&'i [u8]>,
}

impl<'i> BorrowedBlock<'i> {
    /// Creates a block without values.
    #[inline]
    pub(super) fn new(chunk: &'i [u8]) -> Self {
        Self { chunk, ..Self::default() }
    }

    /// Drops the values.
    #[inline]
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.chunk);
    }

    /// Returns the number of bytes that these values take in `fields`.
    #[inline]
    fn fields_len(&self) -> usize {
        self.event_type.len() + self.id.map_or(0, <[u8]>::len)
    }
}

impl<B> EventBuilder<B> {
    pub(super) const fn new(fields: B, data: B) -> Self {
        Self {
            fields: FieldBuffer::new(fields),
            data,
            state: BlockState::Empty,
            line: LineState::Start,
            id_updated: false,
            retry_updated: false,
            retry: None,
        }
    }
}

#[cfg(any(feature = "futures-core", feature = "tokio-util"))]
impl EventBuilder<crate::GrowableBuffer> {
    /// Takes the data of the event that was returned last, which must be in the buffer.
    pub(super) fn take_data(&mut self, len: usize) -> alloc::vec::Vec<u8> {
        debug_assert!(self.is_yielded(), "{:?}", self.state);
        self.data.take(len)
    }
}

impl<B: DecodeBuffer> EventBuilder<B> {
    /// Returns whether the buffers are empty, except for the last event ID.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.state == BlockState::Empty
    }

    /// Returns whether the next event has nothing but what its own block contains.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        let is_updated = self.id_updated | self.retry_updated;
        self.is_empty() && !is_updated && self.fields.len() == 0
    }

    /// Returns whether the last event borrows the buffers.
    #[inline]
    pub(super) fn is_yielded(&self) -> bool {
        self.state == BlockState::Yielded
    }

    /// Returns whether the buffers hold data of the current block.
    #[inline]
    pub(super) fn has_data(&self) -> bool {
        self.state == BlockState::Data
    }

    /// Returns whether the data buffer ends with a part of the current line, provided that it is a
    /// line of data.
    #[inline]
    pub(super) fn in_data(&self) -> bool {
        self.state == BlockState::Data && self.line == LineState::Part
    }

    #[inline]
    pub(super) fn data_limit(&self) -> usize {
        self.data.limit()
    }

    /// Returns the number of bytes that the type and the ID of a block may have together, provided
    /// that the buffers are empty.
    #[inline]
    pub(super) fn fields_room(&self) -> usize {
        self.fields.limit() - self.fields.len()
    }

    #[inline]
    pub(super) fn last_event_id(&self) -> &[u8] {
        self.fields.last_event_id()
    }

    pub(super) fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Sets the last event ID to that of a block.
    #[inline]
    pub(super) fn set_last_event_id(&mut self, id: &[u8]) {
        self.fields.set_last_event_id(id);
        self.id_updated = true;
    }

    /// Sets the last event ID, which counts as updated if it changes.
    ///
    /// # Errors
    ///
    /// The limit, if the ID exceeds it together with the current block.
    pub(super) fn replace_last_event_id(&mut self, id: &[u8]) -> Result<(), usize> {
        let limit = self.fields.limit();
        if self.fields.len() - self.last_event_id().len() + id.len() > limit {
            return Err(limit);
        }
        self.id_updated |= self.last_event_id() != id;
        self.fields.set_last_event_id(id);
        Ok(())
    }

    /// Drops the current block.
    pub(super) fn reset(&mut self) {
        self.fields.clear_block();
        self.data.clear();
        self.line = LineState::Start;
        self.state = self.cleared_state();
    }

    /// Returns the event of a block that lies in the chunk, with nothing in the buffers.
    #[allow(clippy::inline_always)] // part of the fast path
    #[inline(always)]
    pub(super) fn borrowed_event<'e, 'i: 'e>(
        &'e mut self,
        chunk: &'i [u8],
        event_type: &'i [u8],
        data: &'i [u8],
        id: Option<&'i [u8]>,
    ) -> Event<'e> {
        Event::from_parts(
            event_type,
            Some(data),
            id.unwrap_or_else(|| self.fields.last_event_id()),
            chunk,
            mem::take(&mut self.id_updated),
            self.retry.filter(|_| mem::take(&mut self.retry_updated)),
        )
    }

    /// Borrows a value for `block` if it can stay in the chunk. Returns false if the general path
    /// must handle it.
    #[inline]
    pub(super) fn borrow_value<'i>(
        &self,
        block: &mut BorrowedBlock<'i>,
        field: Field,
        bytes: &'i [u8],
    ) -> bool {
        let room = self.fields_room() - block.fields_len();
        match field {
            Field::Data if block.data.is_none() && bytes.len() <= self.data.limit() => {
                block.data = Some(bytes);
            }
            Field::EventType if block.event_type.is_empty() && bytes.len() <= room => {
                block.event_type = bytes;
            }
            Field::Id if block.id.is_none() && bytes.len() <= room && !bytes.contains(&0) => {
                block.id = Some(bytes);
            }
            _ => return false,
        }
        true
    }

    /// Returns the event of a block; values that are not in `block` are in the buffers.
    #[inline]
    pub(super) fn event<'e, 'i: 'e>(&'e mut self, block: &BorrowedBlock<'i>) -> Event<'e> {
        let (data, memory) = if let Some(data) = block.data {
            (data, block.chunk)
        } else {
            let len = self.data.len();
            self.data.pad();
            let memory = self.data.as_slice();
            (&memory[..len], memory)
        };
        Event::from_parts(
            if block.event_type.is_empty() { self.fields.event_type() } else { block.event_type },
            Some(data),
            block.id.unwrap_or_else(|| self.fields.last_event_id()),
            memory,
            mem::take(&mut self.id_updated),
            self.retry.filter(|_| mem::take(&mut self.retry_updated)),
        )
    }

    /// Clears the block that the last event borrowed.
    pub(super) fn clear_yielded(&mut self) {
        debug_assert!(self.is_yielded(), "{:?}", self.state);
        self.data.clear();
        self.fields.clear_type();
        self.state = self.cleared_state();
    }

    /// Records that the buffers may hold a type or an ID.
    #[inline]
    fn leave_empty(&mut self) {
        if self.state == BlockState::Empty {
            self.state = BlockState::NoData;
        }
    }

    /// Returns the state after a block has been cleared. As long as the data buffer is large, the
    /// next block must end with `clear`, which releases memory that is no longer needed.
    fn cleared_state(&self) -> BlockState {
        if self.data.is_large() { BlockState::NoData } else { BlockState::Empty }
    }

    /// Asserts in debug builds that the states agree with the buffers and the lexer.
    #[inline]
    pub(super) fn assert_consistent(&self, lexer: &Lexer) {
        let (state, line) = (self.state, self.line);
        debug_assert!(self.agrees_with_buffers(), "{state:?}");
        debug_assert!(line == LineState::Start || lexer.in_value(), "{line:?}, {lexer:?}");
    }

    /// Returns whether the states are those that the buffers imply.
    fn agrees_with_buffers(&self) -> bool {
        let no_fields = self.fields.len() == self.last_event_id().len();
        let no_data = self.data.len() == 0;
        let line_start = self.line == LineState::Start;
        match self.state {
            BlockState::Empty => no_fields && no_data && line_start && !self.data.is_large(),
            BlockState::NoData => no_data,
            BlockState::TooLarge => no_fields && no_data,
            BlockState::Yielded => line_start,
            BlockState::Data => true,
        }
    }

    /// Ends the current block and returns whether it is an event.
    pub(super) fn end_block(&mut self, block: &BorrowedBlock<'_>) -> bool {
        if self.state == BlockState::TooLarge {
            self.state = self.cleared_state();
            return false;
        }
        match block.id {
            Some(id) => self.set_last_event_id(id),
            None => self.id_updated |= self.fields.commit_id(),
        }
        let is_event = block.data.is_some() || self.state == BlockState::Data;
        if is_event {
            self.state = BlockState::Yielded;
        } else {
            self.fields.clear_type();
            self.state = self.cleared_state();
        }
        is_event
    }
}
