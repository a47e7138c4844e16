//! The paths of the decoder through a chunk, each of which falls back to the next, more general
//! one.

use super::Decoder;
use super::builder::BorrowedBlock;
use crate::line_end::Lines;
use crate::{DecodeBuffer, Event, EventTooLarge, Field, LineToken, comments, line_end};

impl<B: DecodeBuffer> Decoder<B> {
    /// Implements `next_event` and `next_event_with_comments`. Without `on_comment`, comments are
    /// skipped without finding where each one ends.
    #[allow(clippy::inline_always)] // a call costs as much as decoding a short event
    #[inline(always)]
    pub(super) fn decode<'e, 'i: 'e, T>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        self.builder.assert_consistent(&self.lexer);
        if self.builder.is_empty() {
            return self.start_block(input, on_comment, convert);
        }
        self.resume_block(input, on_comment, convert)
    }

    /// Consumes the rest of a line of data and the lines of data after it, up to the first other line.
    #[allow(clippy::inline_always)] // a call costs as much as the middle of a line
    #[inline(always)]
    fn resume_data(&mut self, input: &mut &[u8]) -> Result<(), EventTooLarge> {
        let chunk = *input;
        let Some(mut lines) = Lines::far(chunk) else {
            *input = &[];
            return self.builder.continue_data(chunk, false);
        };
        let Some(line) = lines.next() else {
            // The only line end is a CR at the end of the chunk.
            *input = &[];
            self.lexer.end_chunk_with_cr();
            return self.builder.continue_data(&chunk[..chunk.len() - 1], true);
        };
        *input = lines.rest();
        self.lexer.end_line_of_data();
        self.builder.continue_data(line, true)?;
        if Field::Data.begins(input) {
            *input = if let Some(rest) = self.builder.append_lines(lines) {
                rest
            } else {
                self.lexer.begin_data();
                &[]
            };
        }
        Ok(())
    }

    /// Like `resume_data`, and not compiled into the caller.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[inline(never)]
    pub(super) fn resume_data_by_call(&mut self, input: &mut &[u8]) -> Result<(), EventTooLarge> {
        self.resume_data(input)
    }

    /// Decodes the next event if the buffers are empty.
    #[allow(clippy::inline_always)] // as `decode`
    #[inline(always)]
    fn start_block<'e, 'i: 'e, T>(
        &'e mut self,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        let Some(after_name) = Field::Data.strip_name(input) else {
            if input.is_empty() {
                return Ok(None);
            }
            if self.lexer.at_comment(input) {
                if on_comment.is_none() && self.lexer.skip_chunk_of_comments(input) {
                    *input = &[];
                    return Ok(None);
                }
                *input = self.skip_comments(input, &mut on_comment);
                if input.is_empty() {
                    return Ok(None);
                }
            }
            return self.decode_fields(input, on_comment, convert);
        };
        // Fast path for what most streams consist of: a line of data and a blank line.
        let chunk = *input;
        let mut rest = chunk;
        match self.lexer.next_data(&mut rest, after_name) {
            Some(LineToken::Value { field: Field::Data, bytes, end: true })
                if bytes.len() <= self.builder.data_limit() =>
            {
                if let Some(after) = line_end::strip_lf_or_crlf(rest) {
                    *input = after;
                    let event = self.builder.borrowed_event(chunk, b"", bytes, None);
                    return Ok(Some(convert(event)));
                }
                *input = rest;
                let block = BorrowedBlock { data: Some(bytes), ..BorrowedBlock::new(chunk) };
                self.decode_borrowed(block, input, on_comment, convert)
            }
            Some(LineToken::Value { field: Field::Data, bytes, end: false })
                if bytes.len() <= self.builder.data_limit() =>
            {
                *input = rest;
                self.builder.begin_data(bytes);
                Ok(None)
            }
            token => {
                *input = rest;
                self.decode_buffered(BorrowedBlock::new(chunk), token, input, on_comment, convert)
            }
        }
    }

    /// Decodes the next event if its block is a type and an ID, each at most once and in any order,
    /// and then a line of data. Most blocks with other fields than data are like this. The block's
    /// state stays in registers.
    #[inline(never)]
    fn decode_fields<'e, 'i: 'e, T>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        let chunk = *input;
        let mut rest = chunk;
        let (mut event_type, mut id, mut data) = (&b""[..], None, None);
        let mut room = self.builder.fields_room();
        while self.lexer.at_line_start() && data.is_none() {
            let token = if let Some(after_name) = Field::Data.strip_name(rest) {
                self.lexer.next_data(&mut rest, after_name)
            } else if let Some(after_name) = Field::EventType.strip_name(rest) {
                rest = after_name;
                self.lexer.value::<true>(Field::EventType, &mut rest)
            } else if let Some(after_name) = Field::Id.strip_name(rest) {
                rest = after_name;
                self.lexer.value::<true>(Field::Id, &mut rest)
            } else {
                break;
            };
            match token {
                Some(LineToken::Value { field: Field::Data, bytes, end: true })
                    if bytes.len() <= self.builder.data_limit() =>
                {
                    if let Some(after) = line_end::strip_lf_or_crlf(rest) {
                        *input = after;
                        if let Some(id) = id {
                            self.builder.set_last_event_id(id);
                        }
                        let event = self.builder.borrowed_event(chunk, event_type, bytes, id);
                        return Ok(Some(convert(event)));
                    }
                    data = Some(bytes);
                }
                Some(LineToken::Value { field: Field::EventType, bytes, end: true })
                    if event_type.is_empty() && bytes.len() <= room =>
                {
                    room -= bytes.len();
                    event_type = bytes;
                }
                Some(LineToken::Value { field: Field::Id, bytes, end: true })
                    if id.is_none() && bytes.len() <= room && !bytes.contains(&0) =>
                {
                    room -= bytes.len();
                    id = Some(bytes);
                }
                token => {
                    *input = rest;
                    let block = BorrowedBlock { chunk, event_type, id, data };
                    return self.decode_buffered(block, token, input, on_comment, convert);
                }
            }
        }
        *input = rest;
        let block = BorrowedBlock { chunk, event_type, id, data };
        self.decode_borrowed(block, input, on_comment, convert)
    }

    /// Decodes the next event as long as its block consists of single lines that lie in the chunk.
    /// The buffers are not touched except for the ID. `block` has the values of lines that have been
    /// decoded already; its chunk contains them and the input.
    #[inline(never)]
    fn decode_borrowed<'e, 'i: 'e, T>(
        &'e mut self,
        mut block: BorrowedBlock<'i>,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        let mut rest = *input;
        while let Some(token) = self.lexer.next_token(&mut rest) {
            match token {
                LineToken::Value { field: Field::Comment, bytes, end } => {
                    if let Some(on_comment) = &mut on_comment {
                        on_comment(bytes, end);
                    }
                    if !end {
                        break;
                    }
                }
                LineToken::Value { field, bytes, end } => {
                    if !(end && self.builder.borrow_value(&mut block, field, bytes)) {
                        *input = rest;
                        let token = LineToken::Value { field, bytes, end };
                        return self.decode_buffered(
                            block,
                            Some(token),
                            input,
                            on_comment,
                            convert,
                        );
                    }
                }
                LineToken::Dispatch => {
                    if let Some(id) = block.id {
                        self.builder.set_last_event_id(id);
                    }
                    if let Some(data) = block.data {
                        *input = rest;
                        let BorrowedBlock { chunk, event_type, id, .. } = block;
                        let event = self.builder.borrowed_event(chunk, event_type, data, id);
                        return Ok(Some(convert(event)));
                    }
                    block.clear();
                    if self.lexer.at_comment(rest) {
                        rest = self.skip_comments(rest, &mut on_comment);
                    }
                }
            }
        }
        *input = rest;
        self.builder.copy_to_buffers(&mut block);
        Ok(None)
    }

    /// Decodes the next event if the buffers may hold something.
    #[inline(never)]
    fn resume_block<'e, 'i: 'e, T>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        if self.builder.is_yielded() {
            self.builder.clear_yielded();
            if self.builder.is_empty() {
                return self.start_block(input, on_comment, convert);
            }
        } else {
            if self.builder.in_data() && self.lexer.in_data() {
                self.resume_data(input)?;
                if input.is_empty() {
                    return Ok(None);
                }
            }
            if self.builder.has_data() && self.lexer.at_line_start() {
                if let Some(rest) = line_end::strip_lf_or_crlf(input) {
                    *input = rest;
                    let block = BorrowedBlock::new(&[]);
                    self.builder.end_block(&block);
                    return Ok(Some(convert(self.builder.event(&block))));
                }
            }
        }
        self.decode_buffered(BorrowedBlock::new(input), None, input, on_comment, convert)
    }

    /// Decodes the next event in the general case. `first` is a token that the lexer has returned
    /// already.
    #[inline(never)]
    fn decode_buffered<'e, 'i: 'e, T>(
        &'e mut self,
        mut block: BorrowedBlock<'i>,
        mut first: Option<LineToken<'i>>,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        while let Some(token) = first.take().or_else(|| self.lexer.next_token(input)) {
            match token {
                LineToken::Value { field: Field::Comment, bytes, end } => {
                    if let Some(on_comment) = &mut on_comment {
                        on_comment(bytes, end);
                    }
                }
                LineToken::Value { field, bytes, end } => {
                    self.builder.add_value(&mut block, field, bytes, end)?;
                    if !end {
                        return Ok(None);
                    }
                    if self.builder.has_data() && Field::Data.begins(input) {
                        let Some(rest) = self.builder.append_lines(Lines::new(input)) else {
                            *input = &[];
                            self.lexer.begin_data();
                            break;
                        };
                        *input = rest;
                    }
                }
                LineToken::Dispatch => {
                    if self.builder.end_block(&block) {
                        return Ok(Some(convert(self.builder.event(&block))));
                    }
                    block.clear();
                }
            }
        }
        self.builder.copy_to_buffers(&mut block);
        Ok(None)
    }

    /// Skips comments and blank lines between events, which is all that a silent stream sends, and
    /// returns the rest of the input. The input is passed by value, so that the caller's copy stays
    /// in registers.
    #[inline(never)]
    fn skip_comments<'i>(
        &mut self,
        mut input: &'i [u8],
        on_comment: &mut Option<impl FnMut(&'i [u8], bool)>,
    ) -> &'i [u8] {
        loop {
            if self.lexer.at_line_start() {
                input = match on_comment {
                    None => &input[comments::len(input)..],
                    Some(on_comment) => comments::report(input, on_comment),
                };
            }
            // A comment that the search left over, or that the end of the chunk cuts.
            let Some((bytes, end)) = self.lexer.next_comment(&mut input) else { return input };
            if let Some(on_comment) = on_comment {
                if end || !bytes.is_empty() {
                    on_comment(bytes, end);
                }
            }
        }
    }
}
