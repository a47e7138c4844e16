//! Events that outlive the chunk they came in.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::{Event, Text};

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
/// To send data that is `Bytes` already, `Event::new(&data).slice_ref(&data)` creates an event
/// without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEvent {
    event_type: Bytes,
    data: Option<Bytes>,
    last_event_id: Bytes,
    sets_id: bool,
    retry: Option<u64>,
}

impl OwnedEvent {
    /// Creates an event with the flags of `event` and these values.
    fn new(event: Event<'_>, event_type: Bytes, data: Option<Bytes>, last_event_id: Bytes) -> Self {
        let (sets_id, retry) = (event.id().is_some(), event.retry());
        Self { event_type, data, last_event_id, sets_id, retry }
    }

    /// Returns the event in borrowed form, to read or encode it.
    pub fn as_event(&self) -> Event<'_> {
        Event::from_parts(
            &self.event_type,
            self.data.as_deref(),
            &self.last_event_id,
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
        OwnedEvent::new(self, event_type, self.has_data().then_some(all), id)
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
        OwnedEvent::new(self, event_type, data, last_event_id)
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
