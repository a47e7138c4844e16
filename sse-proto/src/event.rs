//! Types shared by the decoder and the encoder.

mod values;

use core::fmt;
use core::hash::{Hash, Hasher};
use core::time::Duration;

pub use self::values::{EventId, EventType, InvalidValue};
use crate::Text;

/// The event type of an event without an `event` field (9.2.6).
const MESSAGE: &[u8] = b"message";

/// A borrowed event, as returned by [`Decoder::next_event`](crate::Decoder::next_event) and
/// accepted by the encoder.
///
/// One type serves both directions: every decoded event can be encoded again, and an event cannot
/// hold a value that would break the stream. [`EventType`] and [`EventId`] are checked; data may
/// contain any bytes, since the encoder splits it into lines.
///
/// An `Event` borrows all of its values. [`OwnedEvent`](crate::OwnedEvent) owns them: it is created
/// from a `String`, `Vec<u8>` or `Bytes`, or from a value that is serialized as JSON.
///
/// ```
/// use sse_proto::{Event, event_type};
///
/// let id = 7.to_string();
/// let event = Event::new("first line\nsecond line")
///     .with_type(event_type!("note")) // a literal, checked at compile time
///     .with_id(id.as_str().try_into()?); // any other text
/// assert_eq!(event.data(), "first line\nsecond line");
/// assert_eq!(event.event_type(), "note");
/// assert_eq!(event.last_event_id(), "7");
///
/// let mut wire = Vec::new();
/// event.encode_to_vec(&mut wire);
/// assert_eq!(wire, b"event: note\nid: 7\ndata: first line\ndata: second line\n\n");
/// # Ok::<(), sse_proto::InvalidValue>(())
/// ```
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// Empty for an event without a type; never `message`.
    event_type: &'a [u8],
    data: Option<&'a [u8]>,
    last_event_id: &'a [u8],
    /// Memory in which values may lie: see [`Text`].
    context: &'a [u8],
    /// Whether the event sets the last event ID, instead of inheriting it.
    sets_id: bool,
    retry: Option<u64>,
}

impl<'a> Event<'a> {
    /// Creates an event with this data, which may contain any bytes and any line ends.
    ///
    /// Empty data counts as data: the receiver dispatches an event. Data is borrowed: `"literal"`,
    /// `&string`, `&vec`, `&bytes`, or `&*cow` for a `Cow<str>`.
    pub fn new(data: impl Into<Text<'a>>) -> Self {
        let data = data.into();
        let (data, context) = (Some(data.as_bytes()), data.context());
        Self { data, context, ..Self::without_data() }
    }

    /// Creates a block without data. It can set the last event ID and the reconnection time; the
    /// receiver dispatches no event.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use sse_proto::{Event, event_id};
    ///
    /// let half_a_second = Duration::from_millis(500);
    /// let block = Event::without_data().with_id(event_id!("9")).with_retry(half_a_second);
    /// let mut wire = Vec::new();
    /// block.encode_to_vec(&mut wire);
    /// assert_eq!(wire, b"id: 9\nretry: 500\n\n");
    /// ```
    pub const fn without_data() -> Self {
        let (event_type, last_event_id, context) = (&[], &[], &[]);
        Self { event_type, data: None, last_event_id, context, sets_id: false, retry: None }
    }

    /// Returns the event with this type.
    #[must_use]
    pub fn with_type(self, event_type: EventType<'a>) -> Self {
        Self { event_type: unless_default(event_type.0.as_bytes()), ..self }
    }

    /// Returns the event with this ID.
    #[must_use]
    pub const fn with_id(self, id: EventId<'a>) -> Self {
        Self { last_event_id: id.0.as_bytes(), sets_id: true, ..self }
    }

    /// Returns the event with a reconnection time: the time that the receiver waits before it
    /// reconnects, from this event on.
    ///
    /// The stream carries whole milliseconds. A fraction is rounded up, so that a short time does not
    /// become zero; a time of more than `u64::MAX` milliseconds becomes that.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use sse_proto::Event;
    ///
    /// let event = Event::new("x").with_retry(Duration::from_micros(1200));
    /// assert_eq!(event.retry(), Some(Duration::from_millis(2)));
    /// ```
    #[must_use]
    pub const fn with_retry(self, time: Duration) -> Self {
        let fraction = time.subsec_nanos().div_ceil(1_000_000) as u64;
        let milliseconds = time.as_secs().saturating_mul(1000).saturating_add(fraction);
        Self { retry: Some(milliseconds), ..self }
    }

    /// Creates an event from values that are already valid: `event_type` and `last_event_id` come
    /// from single lines or from another event, and `last_event_id` contains no NUL.
    #[inline]
    pub(crate) fn from_parts(
        event_type: &'a [u8],
        data: Option<&'a [u8]>,
        last_event_id: &'a [u8],
        context: &'a [u8],
        sets_id: bool,
        retry: Option<u64>,
    ) -> Self {
        let event_type = unless_default(event_type);
        Self { event_type, data, last_event_id, context, sets_id, retry }
    }

    /// Returns memory in which the values may lie: see [`Text`].
    #[cfg(feature = "bytes")]
    #[inline]
    pub(crate) const fn context(&self) -> &'a [u8] {
        self.context
    }

    /// Returns the event type; `message` if the event has none.
    #[inline]
    pub fn event_type(&self) -> Text<'a> {
        if self.event_type.is_empty() {
            Text::from_bytes(MESSAGE)
        } else {
            Text::with_context(self.event_type, self.context)
        }
    }

    /// Returns whether the event has data, so that the receiver dispatches it.
    pub const fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// Returns the data; empty for a block without data.
    ///
    /// A [`Text`] is not a `&str`, since a stream may contain bytes that are not UTF-8. Its methods
    /// convert it, and JSON is deserialized by `Event::json` (feature `serde_json`) or from the
    /// bytes:
    ///
    /// ```
    /// let event = sse_proto::Event::new(r#"{"price":4}"#);
    /// let text: &str = event.data().to_str()?;
    /// assert_eq!(text, r#"{"price":4}"#);
    /// let json: serde_json::Value = serde_json::from_slice(&event.data())?;
    /// assert_eq!(json["price"], 4);
    /// # #[cfg(feature = "serde_json")]
    /// assert_eq!(event.json::<serde_json::Value>()?, json);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn data(&self) -> Text<'a> {
        Text::with_context(self.data.unwrap_or_default(), self.context)
    }

    /// Returns the last event ID as of this event: its own ID or, for a decoded event without one,
    /// that of an earlier event.
    #[inline]
    pub fn last_event_id(&self) -> Text<'a> {
        Text::with_context(self.last_event_id, self.context)
    }

    /// Returns the ID that the event sets, if any.
    ///
    /// For a decoded event, this is the last event ID if it was set since the previous event,
    /// including by a block without data.
    pub fn id(&self) -> Option<EventId<'a>> {
        self.sets_id.then(|| EventId(self.last_event_id()))
    }

    /// Deserializes the data as JSON, directly from its bytes; strings can be borrowed from it.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct Delta<'a> {
    ///     text: &'a str,
    /// }
    ///
    /// let event = sse_proto::Event::new(r#"{"text":"Hello"}"#);
    /// assert_eq!(event.json::<Delta>()?.text, "Hello");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the data is not valid JSON for `T`, or if a string in it is not
    /// UTF-8, which [`Text::to_str_lossy`] would replace by U+FFFD.
    #[cfg(feature = "serde_json")]
    pub fn json<T: serde::Deserialize<'a>>(&self) -> serde_json::Result<T> {
        match self.data().to_str() {
            Ok(data) => serde_json::from_str(data),
            Err(_) => serde_json::from_slice(self.data().as_bytes()),
        }
    }

    /// Returns the reconnection time that the event sets, if any.
    ///
    /// For a decoded event, this is the reconnection time if it was set since the previous event.
    pub fn retry(&self) -> Option<Duration> {
        self.retry.map(Duration::from_millis)
    }

    /// Returns the same as [`retry`](Self::retry), in milliseconds, as the stream carries it.
    #[inline]
    pub(crate) const fn retry_millis(&self) -> Option<u64> {
        self.retry
    }

    /// Returns the type to write, if any.
    pub(crate) fn named_type(&self) -> Option<&'a [u8]> {
        (!self.event_type.is_empty()).then_some(self.event_type)
    }

    /// Returns the data to write, if any.
    pub(crate) fn own_data(&self) -> Option<&'a [u8]> {
        self.data
    }

    /// Returns all that two equal events have in common.
    #[allow(clippy::type_complexity)]
    fn values(&self) -> (&'a [u8], Option<&'a [u8]>, &'a [u8], bool, Option<u64>) {
        (self.event_type, self.data, self.last_event_id, self.sets_id, self.retry)
    }
}

impl PartialEq for Event<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.values() == other.values()
    }
}

impl Eq for Event<'_> {}

impl Hash for Event<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values().hash(state);
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_type", &Text::from_bytes(self.event_type))
            .field("data", &self.data.map(Text::from_bytes))
            .field("last_event_id", &self.last_event_id())
            .field("sets_id", &self.sets_id)
            .field("retry", &self.retry)
            .finish()
    }
}

/// Replaces `message` by no type, so that both compare and encode alike.
#[inline]
fn unless_default(event_type: &[u8]) -> &[u8] {
    if event_type == MESSAGE { b"" } else { event_type }
}

/// A comment between events, which receivers ignore.
///
/// Every line gets its own colon, so no text can become a field. The comment ends with a blank
/// line, for readers that split the stream at blank lines and would otherwise take it for a part of
/// the next event.
///
/// ```
/// use sse_proto::Comment;
///
/// let mut wire = Vec::new();
/// Comment::new(" hello\ndata: no event").encode_to_vec(&mut wire);
/// assert_eq!(wire, b": hello\n:data: no event\n\n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Comment<'a>(Text<'a>);

impl<'a> Comment<'a> {
    /// Creates a comment with this text. It is written directly after the colon: include a space
    /// for the customary form `: text`.
    pub fn new(text: impl Into<Text<'a>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn text(self) -> &'a [u8] {
        self.0.as_bytes()
    }
}
