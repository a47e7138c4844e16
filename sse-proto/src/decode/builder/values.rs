//! Adds values to a block, within the limits. They are borrowed from the chunk where possible, and
//! otherwise copied into the buffers.

use core::mem;

use memchr::memchr;

use super::{BlockState, BorrowedBlock, EventBuilder, LineState};
use crate::line_end::Lines;
use crate::{DecodeBuffer, EventTooLarge, Field};

impl<B: DecodeBuffer> EventBuilder<B> {
    /// Stores the first part of a line of data that the end of the chunk cuts. It must not exceed
    /// the limit.
    pub(in crate::decode) fn begin_data(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
        self.state = BlockState::Data;
        self.line = LineState::Part;
    }

    /// Stores a further part of a line of data: see [`in_data`](Self::in_data).
    #[inline]
    pub(in crate::decode) fn continue_data(
        &mut self,
        bytes: &[u8],
        end: bool,
    ) -> Result<(), EventTooLarge> {
        if end {
            self.line = LineState::Start;
        }
        if self.data.len() + bytes.len() > self.data.limit() {
            return Err(self.too_large(Field::Data));
        }
        self.data.extend(bytes);
        Ok(())
    }

    /// Processes a value or a part of one.
    pub(in crate::decode) fn add_value<'i>(
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

    /// Appends lines of data that follow other lines of data, from the current position of `lines`.
    /// Returns what is left, or `None` if all of it is data and the end of the chunk cuts the last
    /// line.
    #[inline(never)]
    pub(in crate::decode) fn append_lines<'i>(&mut self, lines: Lines<'i>) -> Option<&'i [u8]> {
        // The compiler keeps a local copy in registers.
        let mut lines = lines;
        let mut rest = lines.rest();
        while Field::Data.begins(rest) {
            let Some(line) = lines.next() else {
                return if self.append_cut_line(rest) { None } else { Some(rest) };
            };
            let Some(value) = Field::Data.value_in(line) else { break };
            if self.data.len() + 1 + value.len() > self.data.limit() {
                break;
            }
            self.data.extend(b"\n");
            self.data.extend(value);
            rest = lines.rest();
        }
        Some(rest)
    }

    /// Appends a line of data that the end of the chunk cuts. Returns false if it must be lexed.
    #[inline]
    fn append_cut_line(&mut self, line: &[u8]) -> bool {
        // The lexer has states for a line that is cut behind its colon, or within CRLF.
        let Some(value @ [.., b'\0'..=b'\x0C' | b'\x0E'..]) = Field::Data.strip_name(line) else {
            return false;
        };
        let value = Field::Data.strip_space(value);
        if self.data.len() + 1 + value.len() > self.data.limit() {
            return false;
        }
        self.data.extend(b"\n");
        self.data.extend(value);
        self.line = LineState::Part;
        true
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
            block.clear();
            return Err(self.too_large(Field::Data));
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
            block.clear();
            return Err(self.too_large(field));
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
    fn too_large(&mut self, field: Field) -> EventTooLarge {
        self.fields.clear_block();
        self.data.clear();
        self.state = BlockState::TooLarge;
        let limit = if field == Field::Data { self.data.limit() } else { self.fields.limit() };
        EventTooLarge::new(field, limit)
    }

    /// Copies borrowed values into the buffers, before the chunk goes away.
    pub(in crate::decode) fn copy_to_buffers(&mut self, block: &mut BorrowedBlock<'_>) {
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
