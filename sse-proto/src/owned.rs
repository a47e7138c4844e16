//! Events that outlive the chunk they came in.

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEvent {
    event_type: Bytes,
    data: Option<Bytes>,
    last_event_id: Bytes,
    sets_id: bool,
    retry: Option<u64>,
}

impl OwnedEvent {
    fn new<'a>(event: Event<'a>, own: impl Fn(&'a [u8]) -> Bytes) -> Self {
        Self {
            event_type: event.named_type().map(&own).unwrap_or_default(),
            data: event.own_data().map(&own),
            last_event_id: own(event.last_event_id().as_bytes()),
            sets_id: event.id().is_some(),
            retry: event.retry(),
        }
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

impl Event<'_> {
    /// The same event with memory of its own, by copying.
    pub fn into_owned(self) -> OwnedEvent {
        OwnedEvent::new(self, Bytes::copy_from_slice)
    }

    /// The same event with memory of its own: what lies in `chunk` is shared with it, all else (an
    /// event that two chunks brought, data of several lines, an id from earlier) is copied.
    ///
    /// What that means for the chunk: see [`OwnedEvent`].
    pub fn slice_ref(self, chunk: &Bytes) -> OwnedEvent {
        let memory = chunk.as_ptr_range();
        OwnedEvent::new(self, |bytes| {
            let own = bytes.as_ptr_range();
            if memory.start <= own.start && own.end <= memory.end {
                chunk.slice_ref(bytes)
            } else {
                Bytes::copy_from_slice(bytes)
            }
        })
    }
}

impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        event.into_owned()
    }
}

impl<'e> From<&'e OwnedEvent> for Event<'e> {
    fn from(event: &'e OwnedEvent) -> Self {
        event.as_event()
    }
}
