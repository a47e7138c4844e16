//! Events that outlive the chunk they came in.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::{Event, EventId, EventType, Text};

/// An event that owns its memory, by reference counting, for use beyond the next call: in queues,
/// in other tasks.
///
/// There are two ways to create one. They differ in the memory that they keep alive:
///
/// - [`Event::into_owned`] copies type, data and ID; the chunk can be freed.
/// - [`Event::slice_ref`] copies nothing that lies in a [`Bytes`] chunk; the whole chunk stays in
///   memory as long as one of its events does. Use it for events that are consumed soon, and
///   [`detach`](Self::detach) a small event that is kept for long.
///
/// ```
/// use bytes::Bytes;
/// use sse_proto::{Decoder, OwnedEvent};
///
/// let chunk = Bytes::from(b"event: tick\ndata: 1\n\ndata: 2\n\n".to_vec());
/// let mut decoder = Decoder::new();
/// let mut input = &chunk[..];
/// let mut events: Vec<OwnedEvent> = Vec::new();
/// while let Some(event) = decoder.next_event(&mut input)? {
///     events.push(event.slice_ref(&chunk));
/// }
/// assert_eq!(events[0].event_type(), "tick");
/// assert_eq!(events[1].data(), "2");
/// assert_eq!(events[1].data().as_ptr(), chunk[27..].as_ptr(), "nothing was copied");
///
/// let kept = events.pop().unwrap().detach();
/// drop(events);
/// assert!(chunk.is_unique() && kept.data() == "2");
/// # Ok::<(), sse_proto::EventTooLarge>(())
/// ```
///
/// [`new`](Self::new) creates an event to send from data that is owned already:
///
/// ```
/// use sse_proto::{OwnedEvent, event_type};
///
/// let event = OwnedEvent::new(format!("{} left", 3))
///     .with_type(event_type!("count"))
///     .with_id("7".try_into()?);
/// let mut wire = Vec::new();
/// event.as_event().encode_to_vec(&mut wire);
/// assert_eq!(wire, b"event: count\nid: 7\ndata: 3 left\n\n");
/// # Ok::<(), sse_proto::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnedEvent {
    event_type: Bytes,
    data: Option<Bytes>,
    last_event_id: Bytes,
    sets_id: bool,
    retry: Option<u64>,
}

impl OwnedEvent {
    /// Creates an event with this data, which may contain any bytes and any line ends. A `String`,
    /// `Vec<u8>`, `Bytes` or `&'static str` is not copied; of a `Cow<str>`, pass `into_owned()`.
    ///
    /// Empty data counts as data: the receiver dispatches an event.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()), ..Self::without_data() }
    }

    /// Creates a block without data: see [`Event::without_data`].
    pub const fn without_data() -> Self {
        let empty = Bytes::new();
        let last_event_id = Bytes::new();
        Self { event_type: empty, data: None, last_event_id, sets_id: false, retry: None }
    }

    /// Creates an event whose data is a value, serialized as JSON.
    ///
    /// ```
    /// #[derive(serde::Serialize)]
    /// struct Delta<'a> {
    ///     text: &'a str,
    /// }
    ///
    /// let event = sse_proto::OwnedEvent::from_json(&Delta { text: "two\nlines" })?;
    /// assert_eq!(event.data(), r#"{"text":"two\nlines"}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if the value cannot be JSON: its `Serialize` fails, or a map has keys
    /// that are not strings.
    #[cfg(feature = "serde_json")]
    pub fn from_json<T: serde::Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        serde_json::to_vec(value).map(Self::new)
    }

    /// Returns the event with a copy of this type.
    #[must_use]
    pub fn with_type(self, event_type: EventType<'_>) -> Self {
        let named = Event::without_data().with_type(event_type);
        let event_type = Bytes::copy_from_slice(named.named_type().unwrap_or_default());
        Self { event_type, ..self }
    }

    /// Returns the event with a copy of this ID.
    #[must_use]
    pub fn with_id(self, id: EventId<'_>) -> Self {
        let last_event_id = Bytes::copy_from_slice(id.as_ref());
        Self { last_event_id, sets_id: true, ..self }
    }

    /// Returns the event with a reconnection time: see [`Event::with_retry`].
    #[must_use]
    pub fn with_retry(self, time: Duration) -> Self {
        let retry = Event::without_data().with_retry(time).retry_millis();
        Self { retry, ..self }
    }

    /// Creates an event with the flags of `event` and these values.
    fn with_values(
        event: Event<'_>,
        event_type: Bytes,
        data: Option<Bytes>,
        last_event_id: Bytes,
    ) -> Self {
        let (sets_id, retry) = (event.id().is_some(), event.retry_millis());
        Self { event_type, data, last_event_id, sets_id, retry }
    }

    /// Returns the event in borrowed form, to read or encode it.
    pub fn as_event(&self) -> Event<'_> {
        Event::from_parts(
            &self.event_type,
            self.data.as_deref(),
            &self.last_event_id,
            &[],
            self.sets_id,
            self.retry,
        )
    }

    /// Returns the event type: see [`Event::event_type`].
    pub fn event_type(&self) -> Text<'_> {
        self.as_event().event_type()
    }

    /// Returns the data: see [`Event::data`].
    pub fn data(&self) -> Text<'_> {
        self.as_event().data()
    }

    /// Returns the last event ID as of this event: see [`Event::last_event_id`].
    pub fn last_event_id(&self) -> Text<'_> {
        self.as_event().last_event_id()
    }

    /// Returns whether the event has data: see [`Event::has_data`].
    pub const fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// Returns the ID that the event sets, if any: see [`Event::id`].
    pub fn id(&self) -> Option<EventId<'_>> {
        self.as_event().id()
    }

    /// Returns the reconnection time that the event sets, if any: see [`Event::retry`].
    pub fn retry(&self) -> Option<Duration> {
        self.as_event().retry()
    }

    /// Returns the data without a copy; empty for a block without data.
    pub fn into_data(self) -> Bytes {
        self.data.unwrap_or_default()
    }

    /// Returns a copy of the event that shares no memory with a chunk or another event.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.as_event().into_owned()
    }

    /// Deserializes the data as JSON: see [`Event::json`].
    ///
    /// # Errors
    ///
    /// As [`Event::json`].
    #[cfg(feature = "serde_json")]
    pub fn json<'e, T: serde::Deserialize<'e>>(&'e self) -> serde_json::Result<T> {
        self.as_event().json()
    }
}

/// Returns a slice of the chunk if `bytes` lies in it, and a copy otherwise.
fn part(chunk: &Bytes, bytes: &[u8]) -> Bytes {
    let (memory, own) = (chunk.as_ptr_range(), bytes.as_ptr_range());
    if memory.start <= own.start && own.end <= memory.end {
        chunk.slice_ref(bytes)
    } else {
        Bytes::copy_from_slice(bytes)
    }
}

impl Event<'_> {
    /// Copies the event into memory of its own, with a single allocation.
    pub fn into_owned(self) -> OwnedEvent {
        let (event_type, id) = (self.named_type().unwrap_or_default(), self.last_event_id());
        let mut all = Vec::with_capacity(event_type.len() + id.len() + self.data().len());
        all.extend_from_slice(event_type);
        all.extend_from_slice(&id);
        all.extend_from_slice(&self.data());
        let mut all = Bytes::from(all);
        let (event_type, id) = (all.split_to(event_type.len()), all.split_to(id.len()));
        OwnedEvent::with_values(self, event_type, self.has_data().then_some(all), id)
    }

    /// Returns an event that shares the values that lie in `chunk`, and copies all others: values
    /// that span chunks, data of several lines, an ID of an earlier event.
    ///
    /// [`OwnedEvent`] describes how long that keeps the chunk in memory.
    pub fn slice_ref(self, chunk: &Bytes) -> OwnedEvent {
        self.slice_ref_with_id(chunk, part(chunk, &self.last_event_id()))
    }

    /// Like `slice_ref`, with a last event ID that is owned already.
    pub(crate) fn slice_ref_with_id(self, chunk: &Bytes, last_event_id: Bytes) -> OwnedEvent {
        let event_type = part(chunk, self.named_type().unwrap_or_default());
        let data = self.own_data().map(|data| part(chunk, data));
        OwnedEvent::with_values(self, event_type, data, last_event_id)
    }
}

impl<'a> From<&'a OwnedEvent> for Event<'a> {
    fn from(event: &'a OwnedEvent) -> Self {
        event.as_event()
    }
}

impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        event.into_owned()
    }
}

/// A value that can be sent as an event: an [`Event`], an [`OwnedEvent`], or a type of your own.
///
/// Boxes, references and [`Arc`]s of such values implement it too; with an `Arc`, many streams can
/// send the same event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "map it to `sse_proto::Event` or `OwnedEvent`, or implement `sse_proto::AsEvent` for it"
)]
pub trait AsEvent {
    /// Returns the event to send.
    fn as_event(&self) -> Event<'_>;
}

impl AsEvent for Event<'_> {
    fn as_event(&self) -> Event<'_> {
        *self
    }
}

impl AsEvent for OwnedEvent {
    fn as_event(&self) -> Event<'_> {
        self.as_event()
    }
}

macro_rules! delegate_as_event {
    ($($pointer:ty),*) => {$(
        impl<T: AsEvent + ?Sized> AsEvent for $pointer {
            fn as_event(&self) -> Event<'_> {
                (**self).as_event()
            }
        }
    )*};
}

delegate_as_event!(&T, Box<T>, Arc<T>);
