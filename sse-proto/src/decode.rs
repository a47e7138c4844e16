//! Decodes fields into events (HTML Standard, 9.2.6).
//!
//! The decoder chooses one of three paths, each of which falls back to the next, more general one;
//! `builder` holds the state of the current block.

mod builder;
mod field_buffer;

use core::time::Duration;

use self::builder::{BorrowedBlock, EventBuilder};
#[cfg(feature = "alloc")]
use crate::Limits;
use crate::line_end::{self, Lines};
use crate::{
    BorrowedBuffer, DecodeBuffer, Event, EventId, EventTooLarge, Field, GrowableBuffer,
    InvalidLastEventId, Lexer, LineToken, Text, comments,
};

/// An incremental decoder of an event stream: chunks in, events out.
///
/// It implements the standard's algorithm for any bytes: no stream is malformed. The events do not
/// depend on how the stream is cut into chunks, and each is returned as soon as the last byte of
/// its blank line has arrived.
///
/// An event that lies in one chunk borrows from it; only its ID is copied, without an allocation up
/// to 40 bytes. Values that span chunks, and data of several lines, are joined in the decoder's
/// memory. That memory grows on demand up to [`Limits`](crate::Limits) or, with
/// [`with_buffers`](Decoder::with_buffers), is borrowed from the caller.
///
/// ```
/// use std::time::Duration;
///
/// use sse_proto::Decoder;
///
/// let mut decoder = Decoder::new();
/// let mut seen = Vec::new();
/// for mut chunk in [&b"id: 1\nda"[..], b"ta: a\n\nevent: b\ndata\n", b"\n: c\nretry: 500\n"] {
///     while let Some(event) = decoder.next_event(&mut chunk)? {
///         seen.push(format!("{} {:?} {}", event.event_type(), event.data(), event.last_event_id()));
///     }
/// }
/// assert_eq!(seen, [r#"message "a" 1"#, r#"b "" 1"#]);
/// assert_eq!(decoder.retry(), Some(Duration::from_millis(500)));
/// # Ok::<(), sse_proto::EventTooLarge>(())
/// ```
///
/// An event borrows from the decoder and from the chunk, so neither can change while it is in use:
///
/// ```compile_fail,E0499
/// # let mut decoder = sse_proto::Decoder::new();
/// # let mut chunk: &[u8] = b"data: a\n\ndata: b\n\n";
/// let first = decoder.next_event(&mut chunk);
/// let second = decoder.next_event(&mut chunk);
/// drop(first);
/// ```
///
/// ```compile_fail,E0506
/// # let mut decoder = sse_proto::Decoder::new();
/// let mut buffer = *b"data: a\n\n";
/// let event = decoder.next_event(&mut &buffer[..]);
/// buffer[0] = 0;
/// drop(event);
/// ```
#[derive(Clone, Debug)]
pub struct Decoder<B = GrowableBuffer> {
    lexer: Lexer,
    builder: EventBuilder<B>,
}

#[cfg(feature = "alloc")]
impl Decoder {
    /// Creates a decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// Creates a decoder with these limits. Memory is allocated only when needed, so high limits
    /// cost nothing by themselves.
    pub const fn with_limits(limits: Limits) -> Self {
        Self::with_storage(GrowableBuffer::new(limits.fields), GrowableBuffer::new(limits.data))
    }
}

#[cfg(any(feature = "futures-core", feature = "tokio-util"))]
impl Decoder {
    /// Takes the data of the last event, of `len` bytes, out of the decoder, which must have joined
    /// them.
    pub(crate) fn take_data(&mut self, len: usize) -> alloc::vec::Vec<u8> {
        self.builder.take_data(len)
    }
}

#[cfg(feature = "alloc")]
impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl<'b> Decoder<BorrowedBuffer<'b>> {
    /// Creates a decoder that works in these buffers and never allocates. Their lengths are the
    /// [`Limits`](crate::Limits).
    ///
    /// ```
    /// use sse_proto::Decoder;
    ///
    /// let (mut fields, mut data) = ([0; 32], [0; 128]);
    /// let mut decoder = Decoder::with_buffers(&mut fields, &mut data);
    /// let event = decoder.next_event(&mut &b"data: 21.5\n\n"[..])?.unwrap();
    /// assert_eq!(event.data().to_str(), Ok("21.5"));
    /// # Ok::<(), sse_proto::EventTooLarge>(())
    /// ```
    pub const fn with_buffers(fields: &'b mut [u8], data: &'b mut [u8]) -> Self {
        Self::with_storage(BorrowedBuffer::new(fields), BorrowedBuffer::new(data))
    }
}

impl<B> Decoder<B> {
    const fn with_storage(fields: B, data: B) -> Self {
        Self { lexer: Lexer::new(), builder: EventBuilder::new(fields, data) }
    }
}

impl<B: DecodeBuffer> Decoder<B> {
    /// Consumes bytes from the front of `input` up to the end of the next event, and returns the
    /// event.
    ///
    /// `Ok(None)` means that all of `input` has been consumed: call again with the next chunk. At
    /// the end of the stream, no further call is needed: an event that is incomplete by then must
    /// be dropped (9.2.6), which [`reset`](Self::reset) does.
    ///
    /// # Errors
    ///
    /// [`EventTooLarge`], once for each event that exceeds the limits. The next call continues
    /// after it.
    #[allow(clippy::inline_always)] // a call costs as much as decoding a short event
    #[inline(always)]
    pub fn next_event<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.next_event_as(input, |event| event)
    }

    /// Like [`next_event`](Self::next_event), and returns what `convert` makes of the event. It is
    /// called where the event is created, so that the event need not be moved.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub(crate) fn next_event_as<'e, 'i: 'e, T>(
        &'e mut self,
        input: &mut &'i [u8],
        convert: impl FnOnce(Event<'e>) -> T,
    ) -> Result<Option<T>, EventTooLarge> {
        self.decode(input, None::<fn(&'i [u8], bool)>, convert)
    }

    /// Like [`next_event`](Self::next_event), and passes the comments before the event to
    /// `on_comment`: the bytes after the colon, and whether the comment ends with them. A comment
    /// that is cut by the end of a chunk is passed in parts, since the decoder does not store it.
    ///
    /// ```
    /// # use sse_proto::Decoder;
    /// let mut comments = Vec::new();
    /// let mut decoder = Decoder::new();
    /// let mut input: &[u8] = b": hi\n:\ndata: a\n\n: not yet";
    /// let event = decoder.next_event_with_comments(&mut input, |part, end| comments.push((part, end)));
    /// assert_eq!(event?.unwrap().data(), "a");
    /// assert_eq!(comments, [(&b" hi"[..], true), (b"", true)]);
    /// # Ok::<(), sse_proto::EventTooLarge>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event).
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub fn next_event_with_comments<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: impl FnMut(&'i [u8], bool),
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.decode(input, Some(on_comment), |event| event)
    }

    /// Implements `next_event` and `next_event_with_comments`. Without `on_comment`, comments are
    /// skipped without finding where each one ends.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn decode<'e, 'i: 'e, T>(
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
            // A CR at the end of the chunk.
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

    /// Consumes the start of a chunk if it is data that continue those of earlier chunks, or if the
    /// chunk is short and nothing but comments. It completes no event.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[inline]
    pub(crate) fn skip_to_event(&mut self, input: &mut &[u8]) -> Result<(), EventTooLarge> {
        if self.builder.is_empty() {
            if self.lexer.at_comment(input) && self.lexer.skip_chunk_of_comments(input) {
                *input = &[];
            }
        } else if self.builder.in_data() && self.lexer.in_data() {
            return self.resume_data_by_call(input);
        }
        Ok(())
    }

    /// Implements `resume_data` as a function of its own.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[inline(never)]
    fn resume_data_by_call(&mut self, input: &mut &[u8]) -> Result<(), EventTooLarge> {
        self.resume_data(input)
    }

    /// Consumes the next event if it is one line of data that lies in the chunk, and if nothing else
    /// is known of it: no ID, no reconnection time. Returns its data. Otherwise it changes nothing.
    #[cfg(any(feature = "futures-core", feature = "tokio-util"))]
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    pub(crate) fn next_plain_event<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if !(self.lexer.at_line_start() && self.builder.is_plain()) {
            return None;
        }
        let line = Field::Data.strip_name(input)?;
        let at = line_end::find::<false>(line)?;
        let data = Field::Data.strip_space(&line[..at]);
        if data.len() > self.builder.data_limit() {
            return None;
        }
        let len = line_end::len(line, at)?;
        *input = line_end::strip_lf_or_crlf(&line[at + len..])?;
        Some(data)
    }

    /// Decodes the next event if the buffers are empty.
    #[allow(clippy::inline_always)] // as above
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

    /// Decodes the next event if its block is a type and an ID, each at most once, and then a line of
    /// data, as most blocks with other fields are. The block's state stays in registers.
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

    /// Returns the last event ID string (9.2.2), as of the last block that ended, with or without
    /// data. Empty if none has been set.
    pub fn last_event_id(&self) -> Text<'_> {
        Text::from_bytes(self.builder.last_event_id())
    }

    /// Sets the last event ID, as if an earlier connection had received it. If this changes it, the
    /// next event also reports it as its [`id`](Event::id).
    ///
    /// ```
    /// # use sse_proto::Decoder;
    /// let mut decoder = Decoder::new();
    /// decoder.set_last_event_id("41")?;
    /// let event = decoder.next_event(&mut &b"data: no id of its own\n\n"[..]).unwrap().unwrap();
    /// assert_eq!(event.last_event_id(), "41");
    /// # Ok::<(), sse_proto::InvalidLastEventId>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidLastEventId`] if no stream can set this ID, or if it is too long for the limits.
    /// The current ID is then kept.
    pub fn set_last_event_id(&mut self, id: impl AsRef<[u8]>) -> Result<(), InvalidLastEventId> {
        if self.builder.is_yielded() {
            self.builder.clear_yielded();
        }
        let id = id.as_ref();
        EventId::new(id).map_err(InvalidLastEventId::Value)?;
        self.builder
            .replace_last_event_id(id)
            .map_err(|limit| InvalidLastEventId::TooLong { limit })
    }

    /// Returns the reconnection time, if the stream has set one. It takes effect at the end of its
    /// line. `u64::MAX` milliseconds also stand for any longer time.
    pub fn retry(&self) -> Option<Duration> {
        self.builder.retry().map(Duration::from_millis)
    }

    /// Prepares the decoder for the next connection.
    ///
    /// An incomplete event is dropped, with its type and ID. The last event ID and the reconnection
    /// time are kept.
    pub fn reset(&mut self) {
        self.lexer = Lexer::new();
        self.builder.reset();
    }
}
