//! Decodes fields into events (HTML Standard, 9.2.6).
//!
//! This file handles blocks that lie in one chunk; `join` handles all others.

mod field_buffer;
mod join;

use core::mem;

use self::field_buffer::FieldBuffer;
#[cfg(feature = "alloc")]
use crate::Limits;
use crate::line_end::{self, Lines};
use crate::{
    BorrowedBuffer, DecodeBuffer, Event, EventId, EventTooLarge, Field, GrowableBuffer,
    InvalidLastEventId, Lexer, LineToken, Text,
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
/// assert_eq!(decoder.retry(), Some(500));
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
struct BorrowedBlock<'i> {
    /// Empty if there is none, which means the same.
    event_type: &'i [u8],
    id: Option<&'i [u8]>,
    data: Option<&'i [u8]>,
}

impl BorrowedBlock<'_> {
    /// Returns the number of bytes that these values take in `fields`.
    #[inline]
    fn fields_len(&self) -> usize {
        self.event_type.len() + self.id.map_or(0, <[u8]>::len)
    }
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
        Self {
            lexer: Lexer::new(),
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
        self.decode(input, None::<fn(&'i [u8], bool)>)
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
        self.decode(input, Some(on_comment))
    }

    /// Implements both. Without `on_comment`, comments are skipped without finding where each one
    /// ends.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn decode<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        debug_assert!(self.is_consistent(), "{:?}, {:?}", self.state, self.line);
        if self.state == BlockState::Empty {
            self.start_block(input, on_comment)
        } else {
            self.resume_block(input, on_comment)
        }
    }

    /// Decodes the next event if the buffers are empty.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn start_block<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        let Some(after_name) = Field::Data.strip_name(input) else {
            if input.is_empty() {
                return Ok(None);
            }
            if self.lexer.at_comment(input) {
                *input = self.skip_comments(input, &mut on_comment);
                if input.is_empty() {
                    return Ok(None);
                }
            }
            return self.decode_borrowed(None, input, on_comment);
        };
        // Fast path for what most streams consist of: a line of data and a blank line.
        let mut rest = *input;
        match self.lexer.next_data(&mut rest, after_name) {
            Some(LineToken::Value { field: Field::Data, bytes, end: true })
                if bytes.len() <= self.data.limit() =>
            {
                if let Some(after) = line_end::strip_lf_or_crlf(rest) {
                    *input = after;
                    return Ok(Some(self.borrowed_event(b"", bytes, None)));
                }
                *input = rest;
                self.decode_borrowed(Some(bytes), input, on_comment)
            }
            Some(LineToken::Value { field: Field::Data, bytes, end: false })
                if bytes.len() <= self.data.limit() =>
            {
                *input = rest;
                self.buffer_data_part(bytes);
                Ok(None)
            }
            token => {
                *input = rest;
                self.decode_buffered(BorrowedBlock::default(), token, input, on_comment)
            }
        }
    }

    /// Decodes the next event as long as its block consists of single lines that lie in the chunk.
    /// The block's state stays in registers, and the buffers are not touched except for the ID.
    #[inline(never)]
    fn decode_borrowed<'e, 'i: 'e>(
        &'e mut self,
        data: Option<&'i [u8]>,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        let mut rest = *input;
        let mut block = BorrowedBlock { data, ..BorrowedBlock::default() };
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
                    if !(end && self.borrow_value(&mut block, field, bytes)) {
                        *input = rest;
                        let token = LineToken::Value { field, bytes, end };
                        return self.decode_buffered(block, Some(token), input, on_comment);
                    }
                }
                LineToken::Dispatch => {
                    if let Some(id) = block.id {
                        self.fields.set_last_event_id(id);
                        self.id_updated = true;
                    }
                    if let Some(data) = block.data {
                        *input = rest;
                        return Ok(Some(self.borrowed_event(block.event_type, data, block.id)));
                    }
                    block = BorrowedBlock::default();
                    if self.lexer.at_comment(rest) {
                        rest = self.skip_comments(rest, &mut on_comment);
                    }
                }
            }
        }
        *input = rest;
        self.copy_to_buffers(&mut block);
        Ok(None)
    }

    /// Returns the event of a block that lies in the chunk, with nothing in the buffers.
    #[allow(clippy::inline_always)] // part of `start_block`
    #[inline(always)]
    fn borrowed_event<'e, 'i: 'e>(
        &'e mut self,
        event_type: &'i [u8],
        data: &'i [u8],
        id: Option<&'i [u8]>,
    ) -> Event<'e> {
        Event::from_parts(
            event_type,
            Some(data),
            id.unwrap_or_else(|| self.fields.last_event_id()),
            mem::take(&mut self.id_updated),
            self.retry.filter(|_| mem::take(&mut self.retry_updated)),
        )
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
                    None => &input[line_end::comments_len(input)..],
                    Some(on_comment) => report_comments(input, on_comment),
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

    /// Borrows a value for `block` if it can stay in the chunk. Returns false if the general path
    /// must handle it.
    #[inline]
    fn borrow_value<'i>(
        &self,
        block: &mut BorrowedBlock<'i>,
        field: Field,
        bytes: &'i [u8],
    ) -> bool {
        let room = self.fields.limit() - self.fields.len() - block.fields_len();
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

    /// Returns the last event ID string (9.2.2), as of the last block that ended, with or without
    /// data. Empty if none has been set.
    pub fn last_event_id(&self) -> Text<'_> {
        Text::from_bytes(self.fields.last_event_id())
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
        if self.state == BlockState::Yielded {
            self.clear_yielded();
        }
        let id = id.as_ref();
        EventId::new(id).map_err(InvalidLastEventId::Value)?;
        let limit = self.fields.limit();
        if self.fields.len() - self.fields.last_event_id().len() + id.len() > limit {
            return Err(InvalidLastEventId::TooLong { limit });
        }
        self.id_updated |= self.last_event_id() != id;
        self.fields.set_last_event_id(id);
        Ok(())
    }

    /// Returns the reconnection time in milliseconds, if the stream has set one. It takes effect at
    /// the end of its line. `u64::MAX` also stands for any larger value.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Prepares the decoder for the next connection.
    ///
    /// An incomplete event is dropped, with its type and ID. The last event ID and the reconnection
    /// time are kept.
    pub fn reset(&mut self) {
        self.lexer = Lexer::new();
        self.fields.clear_block();
        self.data.clear();
        self.line = LineState::Start;
        self.state = self.cleared_state();
    }
}

/// Passes the comments that end in the chunk to `on_comment`. Returns the rest, from the first line
/// that is neither a comment nor blank, or that is incomplete.
#[inline]
fn report_comments<'i>(chunk: &'i [u8], on_comment: &mut impl FnMut(&'i [u8], bool)) -> &'i [u8] {
    let mut lines = Lines::new(chunk);
    while line_end::is_comment_or_blank(lines.rest()) {
        let Some(line) = lines.next() else { break };
        // Comparing the colon again would take 5 % more instructions for a silent stream.
        if let [_colon, comment @ ..] = line {
            on_comment(comment, true);
        }
    }
    lines.rest()
}
