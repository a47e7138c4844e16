//! Decodes blocks that do not lie in the chunk as they are: those that span chunks, have several
//! lines of data, or are too large.

use core::mem;

use memchr::memchr;

use super::{BlockState, BorrowedBlock, Decoder, LineState};
use crate::line_end::{self, Lines};
use crate::{DecodeBuffer, Event, EventTooLarge, Field, LineToken};

impl<B: DecodeBuffer> Decoder<B> {
    /// Decodes the next event if the buffers may hold something.
    #[inline(never)]
    pub(super) fn resume_block<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        if self.state == BlockState::Yielded {
            self.clear_yielded();
            if self.state == BlockState::Empty {
                return self.start_block(input, on_comment);
            }
        }
        // Most chunks of a long line contain nothing but data.
        if self.state == BlockState::Data && self.line == LineState::Part {
            if let Some((bytes, end)) = self.lexer.continue_data(input) {
                self.line = if end { LineState::Start } else { LineState::Part };
                if self.data.len() + bytes.len() > self.data.limit() {
                    return Err(self.too_large(&mut BorrowedBlock::default(), Field::Data));
                }
                self.data.extend(bytes);
                if !end {
                    return Ok(None);
                }
                if let Some(after) = line_end::strip_lf_or_crlf(input) {
                    *input = after;
                    self.end_block(&BorrowedBlock::default());
                    return Ok(Some(self.event(&BorrowedBlock::default())));
                }
            }
        }
        self.decode_buffered(BorrowedBlock::default(), None, input, on_comment)
    }

    /// Decodes the next event in the general case. `first` is a token that the lexer has returned
    /// already.
    #[inline(never)]
    pub(super) fn decode_buffered<'e, 'i: 'e>(
        &'e mut self,
        mut block: BorrowedBlock<'i>,
        mut first: Option<LineToken<'i>>,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        while let Some(token) = first.take().or_else(|| self.lexer.next_token(input)) {
            match token {
                LineToken::Value { field: Field::Comment, bytes, end } => {
                    if let Some(on_comment) = &mut on_comment {
                        on_comment(bytes, end);
                    }
                }
                LineToken::Value { field, bytes, end } => {
                    self.value(&mut block, field, bytes, end)?;
                    if !end {
                        return Ok(None);
                    }
                    if self.state == BlockState::Data && Field::Data.begins(input) {
                        self.join_lines(input);
                    }
                }
                LineToken::Dispatch => {
                    if self.end_block(&block) {
                        return Ok(Some(self.event(&block)));
                    }
                    block = BorrowedBlock::default();
                }
            }
        }
        self.copy_to_buffers(&mut block);
        Ok(None)
    }

    /// Returns the event of a block; values that are not in `block` are in the buffers.
    #[inline]
    fn event<'e, 'i: 'e>(&'e mut self, block: &BorrowedBlock<'i>) -> Event<'e> {
        Event::from_parts(
            if block.event_type.is_empty() { self.fields.event_type() } else { block.event_type },
            Some(block.data.unwrap_or_else(|| self.data.as_slice())),
            block.id.unwrap_or_else(|| self.fields.last_event_id()),
            mem::take(&mut self.id_updated),
            self.retry.filter(|_| mem::take(&mut self.retry_updated)),
        )
    }

    /// Clears the block that the last event borrowed.
    pub(super) fn clear_yielded(&mut self) {
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
    pub(super) fn cleared_state(&self) -> BlockState {
        if self.data.is_large() { BlockState::NoData } else { BlockState::Empty }
    }

    /// Returns whether the states agree with the buffers and the lexer, for assertions.
    pub(super) fn is_consistent(&self) -> bool {
        let no_fields = self.fields.len() == self.fields.last_event_id().len();
        let no_data = self.data.len() == 0;
        let buffers_agree = match self.state {
            BlockState::Empty => no_fields && no_data && !self.data.is_large(),
            BlockState::NoData => no_data,
            BlockState::TooLarge => no_fields && no_data,
            BlockState::Data | BlockState::Yielded => true,
        };
        let between_lines = self.line == LineState::Start;
        let lexer_agrees = between_lines || self.lexer.in_value();
        let is_between_blocks = matches!(self.state, BlockState::Empty | BlockState::Yielded);
        buffers_agree && lexer_agrees && (between_lines || !is_between_blocks)
    }

    /// Stores the first part of a line of data that the end of the chunk cuts.
    pub(super) fn buffer_data_part(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
        self.state = BlockState::Data;
        self.line = LineState::Part;
    }

    /// Ends the current block and returns whether it is an event.
    fn end_block(&mut self, block: &BorrowedBlock<'_>) -> bool {
        if self.state == BlockState::TooLarge {
            self.state = self.cleared_state();
            return false;
        }
        match block.id {
            Some(id) => {
                self.fields.set_last_event_id(id);
                self.id_updated = true;
            }
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

    /// Processes a value or a part of one.
    fn value<'i>(
        &mut self,
        block: &mut BorrowedBlock<'i>,
        field: Field,
        bytes: &'i [u8],
        end: bool,
    ) -> Result<(), EventTooLarge> {
        self.leave_empty();
        let line = self.line;
        self.line = match line {
            _ if end => LineState::Start,
            LineState::Start => LineState::Part,
            line => line,
        };
        let first = line == LineState::Start;
        if !end {
            // The chunk ends here. Borrowed values are copied first: this part must be the last in
            // the buffer.
            self.copy_to_buffers(block);
        }
        match field {
            Field::Retry => self.retry_part(line, bytes, end),
            _ if self.state == BlockState::TooLarge || line == LineState::Invalid => {}
            Field::Data => self.data_part(block, bytes, first, end)?,
            Field::EventType | Field::Id => self.field_part(block, field, bytes, first, end)?,
            Field::Comment => {}
        }
        Ok(())
    }

    /// Appends lines of data that follow other lines of data.
    #[inline(never)]
    fn join_lines(&mut self, input: &mut &[u8]) {
        let mut lines = Lines::new(input);
        while Field::Data.begins(lines.rest()) {
            let Some(value) = lines.next().and_then(|line| Field::Data.value_in(line)) else {
                return;
            };
            if self.data.len() + 1 + value.len() > self.data.limit() {
                return;
            }
            self.data.extend(b"\n");
            self.data.extend(value);
            *input = lines.rest();
        }
    }

    #[inline]
    fn data_part<'i>(
        &mut self,
        block: &mut BorrowedBlock<'i>,
        bytes: &'i [u8],
        first: bool,
        end: bool,
    ) -> Result<(), EventTooLarge> {
        let joins = first && (self.state == BlockState::Data || block.data.is_some());
        let have = block.data.map_or(self.data.as_slice().len(), <[u8]>::len);
        if have + usize::from(joins) + bytes.len() > self.data.limit() {
            return Err(self.too_large(block, Field::Data));
        }
        if first && end && !joins {
            block.data = Some(bytes);
            return Ok(());
        }
        self.copy_data(block);
        if joins {
            self.data.extend(b"\n");
        }
        self.data.extend(bytes);
        self.state = BlockState::Data;
        Ok(())
    }

    #[inline]
    fn field_part<'i>(
        &mut self,
        block: &mut BorrowedBlock<'i>,
        field: Field,
        bytes: &'i [u8],
        first: bool,
        end: bool,
    ) -> Result<(), EventTooLarge> {
        let is_id = field == Field::Id;
        let nul = if is_id { memchr(0, bytes) } else { None };
        let counts = nul.unwrap_or(bytes.len());
        if self.fields.len() + block.fields_len() + counts > self.fields.limit() {
            return Err(self.too_large(block, field));
        }
        if nul.is_some() {
            self.fields.clear_line();
            if !end {
                self.line = LineState::Invalid;
            }
        } else if first && end {
            // A replaced value is removed at once, so that the memory in use is what was counted.
            if is_id {
                self.fields.clear_new_id();
                block.id = Some(bytes);
            } else {
                self.fields.clear_type();
                block.event_type = bytes;
            }
        } else {
            self.fields.extend_line(bytes);
            match (end, is_id) {
                (false, _) => {}
                (true, true) => self.fields.finish_id(),
                (true, false) => self.fields.finish_type(),
            }
        }
        Ok(())
    }

    /// Processes a part of a `retry` line. A reconnection time takes effect with its line, not with
    /// the event (9.2.6). One that is out of range becomes `u64::MAX`.
    fn retry_part(&mut self, line: LineState, bytes: &[u8], end: bool) {
        let mut number = match line {
            LineState::Retry(number) => Some(number),
            LineState::Invalid => None,
            // A value needs at least one digit.
            LineState::Start | LineState::Part => (!bytes.is_empty()).then_some(0),
        };
        for byte in bytes {
            number = match (number, byte) {
                (Some(number), b'0'..=b'9') => {
                    Some(number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
                }
                _ => None,
            };
        }
        match number {
            _ if !end => self.line = number.map_or(LineState::Invalid, LineState::Retry),
            None => {}
            Some(_) => {
                self.retry = number;
                self.retry_updated = true;
            }
        }
    }

    #[cold]
    fn too_large(&mut self, block: &mut BorrowedBlock<'_>, field: Field) -> EventTooLarge {
        *block = BorrowedBlock::default();
        self.fields.clear_block();
        self.data.clear();
        self.state = BlockState::TooLarge;
        let limit = if field == Field::Data { self.data.limit() } else { self.fields.limit() };
        EventTooLarge::new(field, limit)
    }

    /// Copies borrowed values into the buffers, before the chunk goes away.
    pub(super) fn copy_to_buffers(&mut self, block: &mut BorrowedBlock<'_>) {
        if let Some(id) = block.id.take() {
            self.leave_empty();
            self.fields.extend_line(id);
            self.fields.finish_id();
        }
        if !block.event_type.is_empty() {
            self.leave_empty();
            self.fields.extend_line(mem::take(&mut block.event_type));
            self.fields.finish_type();
        }
        self.copy_data(block);
    }

    #[inline]
    fn copy_data(&mut self, block: &mut BorrowedBlock<'_>) {
        if let Some(data) = block.data.take() {
            self.data.extend(data);
            self.state = BlockState::Data;
        }
    }
}
