//! Decodes blocks that do not lie in the chunk as they are: those that span chunks, have several
//! lines of data, or are too large.

use core::mem;

use memchr::memchr;

use super::{BorrowedBlock, Decoder};
use crate::line_end::{self, Lines};
use crate::{DecodeBuffer, Event, EventTooLarge, Field, LineToken};

impl<B: DecodeBuffer> Decoder<B> {
    /// Decodes the next event if the decoder holds state of a block.
    #[inline(never)]
    pub(super) fn resume_block<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        if self.yielded {
            self.clear_yielded();
            if !self.held {
                return self.start_block(input, on_comment);
            }
        }
        // Most chunks of a long line contain nothing but data.
        if self.in_line && !self.skipping {
            if let Some((bytes, end)) = self.lexer.continue_data(input) {
                self.in_line = !end;
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
                    if self.has_data && !self.skipping && Field::Data.begins(input) {
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
        self.yielded = false;
        self.data.clear();
        self.fields.clear_type();
        self.has_data = false;
        self.held = self.data.is_large();
    }

    /// Stores the first part of a line of data that the end of the chunk cuts.
    pub(super) fn buffer_data_part(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
        self.has_data = true;
        self.in_line = true;
        self.held = true;
    }

    /// Ends the current block and returns whether it is an event.
    fn end_block(&mut self, block: &BorrowedBlock<'_>) -> bool {
        if mem::take(&mut self.skipping) {
            self.held = self.data.is_large();
            return false;
        }
        match block.id {
            Some(id) => {
                self.fields.set_last_event_id(id);
                self.id_updated = true;
            }
            None => self.id_updated |= self.fields.commit_id(),
        }
        self.yielded = block.data.is_some() || self.has_data;
        self.held = self.yielded || self.data.is_large();
        if !self.yielded {
            self.fields.clear_type();
        }
        self.yielded
    }

    /// Processes a value or a part of one.
    fn value<'i>(
        &mut self,
        block: &mut BorrowedBlock<'i>,
        field: Field,
        bytes: &'i [u8],
        end: bool,
    ) -> Result<(), EventTooLarge> {
        self.held = true;
        let first = !mem::replace(&mut self.in_line, !end);
        if first {
            self.ignore_line = false;
        }
        if !end {
            // The chunk ends here. Borrowed values are copied first: this part must be the last in
            // the buffer.
            self.copy_to_buffers(block);
        }
        match field {
            Field::Retry => self.retry_part(bytes, first, end),
            _ if self.skipping => {}
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
        let joins = first && (self.has_data || block.data.is_some());
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
        self.has_data = true;
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
        if self.ignore_line {
            return Ok(());
        }
        let is_id = field == Field::Id;
        let nul = if is_id { memchr(0, bytes) } else { None };
        let counts = nul.unwrap_or(bytes.len());
        if self.fields.len() + block.fields_len() + counts > self.fields.limit() {
            return Err(self.too_large(block, field));
        }
        if nul.is_some() {
            self.fields.clear_line();
            self.ignore_line = true;
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
    fn retry_part(&mut self, bytes: &[u8], first: bool, end: bool) {
        if first {
            self.retry_line = Some(0);
        }
        // A value needs at least one digit.
        if first && end && bytes.is_empty() {
            self.retry_line = None;
        }
        for byte in bytes {
            self.retry_line = match (self.retry_line, byte) {
                (Some(number), b'0'..=b'9') => {
                    Some(number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
                }
                _ => None,
            };
        }
        if end && self.retry_line.is_some() {
            self.retry = self.retry_line;
            self.retry_updated = true;
        }
    }

    #[cold]
    fn too_large(&mut self, block: &mut BorrowedBlock<'_>, field: Field) -> EventTooLarge {
        *block = BorrowedBlock::default();
        self.fields.clear_block();
        self.data.clear();
        self.has_data = false;
        self.skipping = true;
        self.held = true;
        let limit = if field == Field::Data { self.data.limit() } else { self.fields.limit() };
        EventTooLarge::new(field, limit)
    }

    /// Copies borrowed values into the buffers, before the chunk goes away.
    pub(super) fn copy_to_buffers(&mut self, block: &mut BorrowedBlock<'_>) {
        if let Some(id) = block.id.take() {
            self.held = true;
            self.fields.extend_line(id);
            self.fields.finish_id();
        }
        if !block.event_type.is_empty() {
            self.held = true;
            self.fields.extend_line(mem::take(&mut block.event_type));
            self.fields.finish_type();
        }
        self.copy_data(block);
    }

    #[inline]
    fn copy_data(&mut self, block: &mut BorrowedBlock<'_>) {
        if let Some(data) = block.data.take() {
            self.data.extend(data);
            self.has_data = true;
            self.held = true;
        }
    }
}
