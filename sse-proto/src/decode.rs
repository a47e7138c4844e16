//! Decodes fields into events (HTML Standard, 9.2.6).
//!
//! The decoder chooses one of three `paths`, each of which falls back to the next, more general one;
//! `builder` holds the state of the current block.

mod builder;
mod field_buffer;
mod paths;

use core::time::Duration;

use self::builder::EventBuilder;
#[cfg(feature = "alloc")]
use crate::Limits;
use crate::{
    BorrowedBuffer, DecodeBuffer, Event, EventId, EventTooLarge, GrowableBuffer,
    InvalidLastEventId, Lexer, Text,
};
#[cfg(any(feature = "futures-core", feature = "tokio-util"))]
use crate::{Field, line_end};

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

    /// Consumes the start of a chunk as far as it only continues the data of earlier chunks, or the
    /// whole chunk if it is short and contains only comments. This completes no event.
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
