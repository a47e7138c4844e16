//! From lines and fields to events (HTML Standard, 9.2.6).
//!
//! Here is what happens to a block that lies in the chunk; all others are left to `join`.

mod join;

use core::mem;

#[cfg(feature = "alloc")]
use crate::Limits;
use crate::fields::Fields;
use crate::line_end::{self, Lines};
use crate::{
    BorrowedBuffer, DecodeBuffer, Event, EventId, EventTooLarge, Field, GrowableBuffer,
    InvalidLastEventId, Lexer, LineToken, Text,
};

/// An incremental decoder: chunks of an event stream in, events out.
///
/// It does what the standard does, for any bytes: no stream is an error. Any way to cut a stream
/// into chunks gives the same events, and each of them as soon as the last byte of its blank line
/// is there.
///
/// An event that lies in one chunk is lent from it; of its id alone a copy is kept, in the decoder
/// itself up to 40 bytes. What spans chunks, and data of several lines, is joined in the decoder's
/// memory, which grows on demand up to [`Limits`](crate::Limits) or, with [`with_buffers`](Decoder::with_buffers),
/// was lent by the caller.
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
/// An event borrows from the decoder and from the chunk, so it is used before either changes:
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
    fields: Fields<B>,
    data: B,
    /// The block at hand has data in `data`, be it one empty line.
    has_data: bool,
    /// A part of the line at hand has been seen.
    in_line: bool,
    /// The line at hand has no meaning after all: an id with a NUL.
    ignore_line: bool,
    /// The block at hand is too large; nothing but `retry` counts until it ends.
    skipping: bool,
    /// There is something of the block at hand here, or memory to be given back.
    held: bool,
    /// The block in the buffers was yielded. It is cleared on the next call, not before, because
    /// the event borrows it.
    yielded: bool,
    /// The last event ID was set since the last event.
    id_is_news: bool,
    /// `retry` was set since the last event.
    retry_is_news: bool,
    retry: Option<u64>,
    /// The `retry` line at hand; `None` if it holds anything but digits.
    retry_line: Option<u64>,
}

/// The part of a block that is still where it came from.
#[derive(Default)]
struct Borrowed<'i> {
    /// Empty if there is none: that means the same.
    event_type: &'i [u8],
    id: Option<&'i [u8]>,
    data: Option<&'i [u8]>,
}

impl Borrowed<'_> {
    /// What `fields` is to have room for.
    #[inline]
    fn fields_len(&self) -> usize {
        self.event_type.len() + self.id.map_or(0, <[u8]>::len)
    }
}

#[cfg(feature = "alloc")]
impl Decoder {
    /// A decoder with the default [`Limits`].
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// A decoder with limits of your own. They cost nothing until they are used.
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
    /// A decoder that works in the memory it is given and never allocates: the lengths are the
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
            fields: Fields::new(fields),
            data,
            has_data: false,
            in_line: false,
            ignore_line: false,
            skipping: false,
            held: false,
            yielded: false,
            id_is_news: false,
            retry_is_news: false,
            retry: None,
            retry_line: None,
        }
    }
}

impl<B: DecodeBuffer> Decoder<B> {
    /// Takes bytes off the front of `input` up to the end of the next event, and gives the event.
    ///
    /// `Ok(None)` means that all of `input` is used up: call again with the next chunk. At the end
    /// of the stream nothing is left to be done: an event that is not complete by then is to be
    /// dropped (9.2.6), which [`reset`](Self::reset) does.
    ///
    /// # Errors
    ///
    /// [`EventTooLarge`], once for each event beyond the limits. The next call goes on after it.
    #[allow(clippy::inline_always)] // a call for each event takes as long as a short one
    #[inline(always)]
    pub fn next_event<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.next_block(input, None::<fn(&'i [u8], bool)>)
    }

    /// The same, and comments on the way to the event, as they come: `on_comment` is given what
    /// stands after the colon, and whether that is the end of it. A comment that the end of a chunk
    /// cuts comes in parts, for it is not kept.
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
        self.next_block(input, Some(on_comment))
    }

    /// The same; where comments are not asked for, they need not be told one from another.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn next_block<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        if self.held {
            self.held_block(input, on_comment)
        } else {
            self.new_block(input, on_comment)
        }
    }

    /// The next event, where there is nothing in the buffers.
    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn new_block<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        if !input.starts_with(b"data:") {
            if input.is_empty() {
                return Ok(None);
            }
            if self.lexer.at_comment(input) {
                *input = self.pass_comments(input, &mut on_comment);
                if input.is_empty() {
                    return Ok(None);
                }
            }
            return self.lent_block(None, input, on_comment);
        }
        // What most streams consist of, a line of data and a blank one, needs none of the rest.
        let mut rest = *input;
        match self.lexer.next_data(&mut rest) {
            Some(LineToken::Value { field: Field::Data, bytes, end: true })
                if bytes.len() <= self.data.limit() =>
            {
                if let [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] = rest {
                    *input = after;
                    return Ok(Some(self.lent_event(b"", bytes, None)));
                }
                *input = rest;
                self.lent_block(Some(bytes), input, on_comment)
            }
            Some(LineToken::Value { field: Field::Data, bytes, end: false })
                if bytes.len() <= self.data.limit() =>
            {
                *input = rest;
                self.begin_data(bytes);
                Ok(None)
            }
            token => {
                *input = rest;
                self.joined_block(Borrowed::default(), token, input, on_comment)
            }
        }
    }

    /// The next event, as long as its block consists of single lines that lie in the chunk. All of
    /// that is kept in registers, and nothing of the decoder is touched but the id.
    #[inline(never)]
    fn lent_block<'e, 'i: 'e>(
        &'e mut self,
        data: Option<&'i [u8]>,
        input: &mut &'i [u8],
        mut on_comment: Option<impl FnMut(&'i [u8], bool)>,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        let mut rest = *input;
        let mut block = Borrowed { data, ..Borrowed::default() };
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
                    if !(end && self.lend(&mut block, field, bytes)) {
                        *input = rest;
                        let token = LineToken::Value { field, bytes, end };
                        return self.joined_block(block, Some(token), input, on_comment);
                    }
                }
                LineToken::Dispatch => {
                    if let Some(id) = block.id {
                        self.fields.set_last_event_id(id);
                        self.id_is_news = true;
                    }
                    if let Some(data) = block.data {
                        *input = rest;
                        return Ok(Some(self.lent_event(block.event_type, data, block.id)));
                    }
                    block = Borrowed::default();
                    if self.lexer.at_comment(rest) {
                        rest = self.pass_comments(rest, &mut on_comment);
                    }
                }
            }
        }
        *input = rest;
        self.keep(&mut block);
        Ok(None)
    }

    /// The event of a block that lies in the chunk: nothing of it is in the buffers.
    #[allow(clippy::inline_always)] // part of `new_block`
    #[inline(always)]
    fn lent_event<'e, 'i: 'e>(
        &'e mut self,
        event_type: &'i [u8],
        data: &'i [u8],
        id: Option<&'i [u8]>,
    ) -> Event<'e> {
        Event::from_parts(
            event_type,
            Some(data),
            id.unwrap_or_else(|| self.fields.last_event_id()),
            mem::take(&mut self.id_is_news),
            self.retry.filter(|_| mem::take(&mut self.retry_is_news)),
        )
    }

    /// Comments between events, and blank lines among them: what there is when a stream is silent. The
    /// input goes in and out as a value, so that the caller's stays in registers.
    #[inline(never)]
    fn pass_comments<'i>(
        &mut self,
        mut input: &'i [u8],
        on_comment: &mut Option<impl FnMut(&'i [u8], bool)>,
    ) -> &'i [u8] {
        loop {
            if self.lexer.at_line() {
                input = match on_comment {
                    None => &input[line_end::comments(input)..],
                    Some(on_comment) => each_comment(input, on_comment),
                };
            }
            // One that the search has left, or that the end of a chunk cuts.
            let Some((bytes, end)) = self.lexer.next_comment(&mut input) else { return input };
            if let Some(on_comment) = on_comment {
                if end || !bytes.is_empty() {
                    on_comment(bytes, end);
                }
            }
        }
    }

    /// A line that lies in the chunk stays there, if there is nothing to be said against it.
    #[inline]
    fn lend<'i>(&self, block: &mut Borrowed<'i>, field: Field, bytes: &'i [u8]) -> bool {
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

    /// The last event ID string (9.2.2): that of the last block that ended, with data or without.
    /// Empty if there is none.
    pub fn last_event_id(&self) -> Text<'_> {
        Text::from_bytes(self.fields.last_event_id())
    }

    /// Sets the last event ID, as if an earlier connection had received it. If that changes it,
    /// the next event has it as its [`id`](Event::id), too.
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
    /// [`InvalidLastEventId`] if no stream can have set this id, or it is too long for the limits.
    /// The one in force stays.
    pub fn set_last_event_id(&mut self, id: impl AsRef<[u8]>) -> Result<(), InvalidLastEventId> {
        if self.yielded {
            self.clear_yielded();
        }
        let id = id.as_ref();
        EventId::new(id).map_err(InvalidLastEventId::Value)?;
        let limit = self.fields.limit();
        if self.fields.len() - self.fields.last_event_id().len() + id.len() > limit {
            return Err(InvalidLastEventId::TooLong { limit });
        }
        self.id_is_news |= self.last_event_id() != id;
        self.fields.set_last_event_id(id);
        Ok(())
    }

    /// The reconnection time in milliseconds that the stream has set, if it has. In force from the
    /// end of its line on; `u64::MAX` stands for anything larger, too.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Makes the decoder ready for the next connection.
    ///
    /// What was incomplete is dropped, with its type and id. The last event ID and the reconnection
    /// time stay.
    pub fn reset(&mut self) {
        self.lexer = Lexer::new();
        self.fields.clear_block();
        self.data.clear();
        self.has_data = false;
        self.in_line = false;
        self.skipping = false;
        self.yielded = false;
        self.held = self.data.is_large();
    }
}

/// Gives comments that end in the chunk, up to a line that is none and not blank.
#[inline]
fn each_comment<'i>(chunk: &'i [u8], on_comment: &mut impl FnMut(&'i [u8], bool)) -> &'i [u8] {
    let mut lines = Lines::new(chunk);
    while let [b':' | b'\r' | b'\n', ..] = lines.rest() {
        match lines.next() {
            None => break,
            Some([]) => {}
            Some(comment) => on_comment(&comment[1..], true),
        }
    }
    lines.rest()
}
