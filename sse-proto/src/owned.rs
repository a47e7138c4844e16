//! Events that outlive the chunk they came in.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::{Event, Text};

/// An event with memory of its own, reference counted: to be sent to another task, put into a
/// queue, kept.
///
/// There are two ways to one, and the difference is what it holds on to:
///
/// - [`Event::into_owned`] copies type, data and id; the chunk is free to go.
/// - [`Event::slice_ref`] copies nothing that lies in a [`Bytes`] chunk; the whole chunk stays in
///   memory for as long as one event of it does. That is right for events that are soon used up, and
///   wrong for a small one that is kept for long: [`detach`](Self::detach) that one.
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
/// To send data that is `Bytes` already, `Event::new(&data).slice_ref(&data)` makes an event of it
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
    /// An event with the same flags as `event`, and these parts of it.
    fn new(event: Event<'_>, event_type: Bytes, data: Option<Bytes>, last_event_id: Bytes) -> Self {
        let (sets_id, retry) = (event.id().is_some(), event.retry());
        Self { event_type, data, last_event_id, sets_id, retry }
    }

    /// The same event, to be looked at or encoded.
    pub fn as_event(&self) -> Event<'_> {
        Event::from_parts(
            &self.event_type,
            self.data.as_deref(),
            &self.last_event_id,
            self.sets_id,
            self.retry,
        )
    }

    /// The event type: see [`Event::event_type`].
    pub fn event_type(&self) -> Text<'_> {
        self.as_event().event_type()
    }

    /// The data: see [`Event::data`].
    pub fn data(&self) -> Text<'_> {
        self.as_event().data()
    }

    /// The last event ID as of this event: see [`Event::last_event_id`].
    pub fn last_event_id(&self) -> Text<'_> {
        self.as_event().last_event_id()
    }

    /// The data, without a copy.
    pub fn into_data(self) -> Bytes {
        self.data.unwrap_or_default()
    }

    /// The same event in memory of its own, which shares no chunk with anyone.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.as_event().into_owned()
    }

    /// The data, read as JSON: see [`Event::json`].
    ///
    /// # Errors
    ///
    /// As [`Event::json`].
    #[cfg(feature = "serde_json")]
    pub fn json<'e, T: serde::Deserialize<'e>>(&'e self) -> serde_json::Result<T> {
        self.as_event().json()
    }
}

/// A part of an event: a slice of the chunk, if it lies there, or a copy.
fn part(chunk: &Bytes, bytes: &[u8]) -> Bytes {
    let (memory, own) = (chunk.as_ptr_range(), bytes.as_ptr_range());
    if memory.start <= own.start && own.end <= memory.end {
        chunk.slice_ref(bytes)
    } else {
        Bytes::copy_from_slice(bytes)
    }
}

impl Event<'_> {
    /// The same event with memory of its own, by copying, all into one piece of memory.
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

    /// The same event with memory of its own: what lies in `chunk` is shared with it, all else (an
    /// event that two chunks brought, data of several lines, an id from earlier) is copied.
    ///
    /// What that means for the chunk: see [`OwnedEvent`].
    pub fn slice_ref(self, chunk: &Bytes) -> OwnedEvent {
        self.slice_ref_with_id(chunk, part(chunk, &self.last_event_id()))
    }

    /// The same, with a last event ID that is there already.
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

/// What can be sent as an event: an [`Event`], an [`OwnedEvent`], or a type of your own.
///
/// A box, a reference or an [`Arc`] of one is one, too; the latter lets many streams send the same
/// event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "map it to `sse_proto::Event` or `OwnedEvent`, or implement `sse_proto::AsEvent` for it"
)]
pub trait AsEvent {
    /// The event to be sent.
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

macro_rules! as_what_it_points_to {
    ($($pointer:ty),*) => {$(
        impl<T: AsEvent + ?Sized> AsEvent for $pointer {
            fn as_event(&self) -> Event<'_> {
                (**self).as_event()
            }
        }
    )*};
}

as_what_it_points_to!(&T, Box<T>, Arc<T>);
