//! Events that outlive the chunk they came in.

mod layout;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use core::{fmt, mem};

use bytes::Bytes;

pub(crate) use self::layout::{Layout, copy, offset};
use self::layout::{Values, padded};
use crate::{Event, EventId, EventType, Text};

/// An event that owns its memory, for use beyond the next call: in queues, in other tasks.
///
/// There are two ways to create one. They differ in the memory that they keep alive:
///
/// - [`Event::into_owned`] copies type, data and ID; the chunk can be freed.
/// - [`Event::slice_ref`] copies a short event, of less than a kibibyte, which takes less time than
///   counting references. Of a longer one, it copies nothing that lies in a [`Bytes`] chunk; the
///   whole chunk stays in memory as long as one of these events does. Use it for events that are
///   consumed soon, and [`detach`](Self::detach) an event that is kept for long.
///
/// ```
/// use bytes::Bytes;
/// use sse_proto::{Decoder, OwnedEvent};
///
/// let stream = format!("event: tick\ndata: 1\n\ndata: {}\n\n", "2".repeat(2000));
/// let chunk = Bytes::from(stream.into_bytes());
/// let mut decoder = Decoder::new();
/// let mut input = &chunk[..];
/// let mut events: Vec<OwnedEvent> = Vec::new();
/// while let Some(event) = decoder.next_event(&mut input)? {
///     events.push(event.slice_ref(&chunk));
/// }
/// assert_eq!(events[0].event_type(), "tick");
/// assert_eq!(events[1].data().as_ptr(), chunk[27..].as_ptr(), "nothing was copied");
///
/// let kept = events.pop().unwrap().detach();
/// assert!(chunk.is_unique() && kept.data() == "2".repeat(2000));
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
#[derive(Clone)]
pub struct OwnedEvent(Repr);

/// The representations of an owned event. Events are moved through several layers of results, so
/// they are small, and are created from values in registers.
#[derive(Clone)]
enum Repr {
    /// All values lie in one piece of memory. Copying that much takes no longer than counting
    /// references to a chunk, where each change of the count is an atomic operation.
    Short { memory: Box<[u8]>, layout: Layout },
    /// Each value has memory of its own, which may be shared.
    Parts(Arc<Parts>),
}

#[derive(Clone, Default)]
struct Parts {
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
        Self::from_parts(Parts { data: Some(data.into()), ..Parts::default() })
    }

    /// Creates a block without data: see [`Event::without_data`].
    pub fn without_data() -> Self {
        Self::from_parts(Parts::default())
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
    pub fn with_type(mut self, event_type: EventType<'_>) -> Self {
        let named = Event::without_data().with_type(event_type);
        let event_type = Bytes::copy_from_slice(named.named_type().unwrap_or_default());
        self.parts_mut().event_type = event_type;
        self
    }

    /// Returns the event with a copy of this ID.
    #[must_use]
    pub fn with_id(mut self, id: EventId<'_>) -> Self {
        let parts = self.parts_mut();
        parts.last_event_id = Bytes::copy_from_slice(id.as_ref());
        parts.sets_id = true;
        self
    }

    /// Returns the event with a reconnection time: see [`Event::with_retry`].
    #[must_use]
    pub fn with_retry(mut self, time: Duration) -> Self {
        self.parts_mut().retry = Event::without_data().with_retry(time).retry_millis();
        self
    }

    /// Creates an event from the memory of a layout.
    #[inline]
    pub(crate) const fn short(memory: Box<[u8]>, layout: Layout) -> Self {
        Self(Repr::Short { memory, layout })
    }

    fn from_parts(parts: Parts) -> Self {
        Self(Repr::Parts(Arc::new(parts)))
    }

    /// Sets the data.
    pub(crate) fn set_data(&mut self, data: Bytes) {
        self.parts_mut().data = Some(data);
    }

    /// Gives each value memory of its own, if it has none, and returns them.
    fn parts_mut(&mut self) -> &mut Parts {
        if let Repr::Short { memory, layout } = &mut self.0 {
            *self = Self::from_parts(Parts::of_short(mem::take(memory), *layout));
        }
        match &mut self.0 {
            Repr::Parts(parts) => Arc::make_mut(parts),
            Repr::Short { .. } => unreachable!("it has just been replaced"),
        }
    }

    /// Returns the event in borrowed form, to read or encode it.
    #[inline]
    pub fn as_event(&self) -> Event<'_> {
        match &self.0 {
            Repr::Short { memory, layout } => {
                let Values { event_type, data, last_event_id } = layout.values(memory);
                Event::from_parts(event_type, data, last_event_id, memory, layout.sets_id(), None)
            }
            Repr::Parts(parts) => Event::from_parts(
                &parts.event_type,
                parts.data.as_deref(),
                &parts.last_event_id,
                &[],
                parts.sets_id,
                parts.retry,
            ),
        }
    }

    /// Returns the event type: see [`Event::event_type`].
    #[inline]
    pub fn event_type(&self) -> Text<'_> {
        self.as_event().event_type()
    }

    /// Returns the data: see [`Event::data`].
    #[inline]
    pub fn data(&self) -> Text<'_> {
        self.as_event().data()
    }

    /// Returns the last event ID as of this event: see [`Event::last_event_id`].
    #[inline]
    pub fn last_event_id(&self) -> Text<'_> {
        self.as_event().last_event_id()
    }

    /// Returns whether the event has data: see [`Event::has_data`].
    pub fn has_data(&self) -> bool {
        match &self.0 {
            Repr::Short { layout, .. } => layout.has_data(),
            Repr::Parts(parts) => parts.data.is_some(),
        }
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
        let parts = match self.0 {
            Repr::Short { memory, layout } => Parts::of_short(memory, layout),
            Repr::Parts(parts) => Arc::unwrap_or_clone(parts),
        };
        parts.data.unwrap_or_default()
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

impl PartialEq for OwnedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.as_event() == other.as_event()
    }
}

impl Eq for OwnedEvent {}

impl Hash for OwnedEvent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_event().hash(state);
    }
}

impl fmt::Debug for OwnedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedEvent").field(&self.as_event()).finish()
    }
}

impl Parts {
    fn of_short(memory: Box<[u8]>, layout: Layout) -> Self {
        let memory = Bytes::from(memory);
        let values = layout.values(&memory);
        Self {
            event_type: memory.slice_ref(values.event_type),
            data: values.data.map(|data| memory.slice_ref(data)),
            last_event_id: memory.slice_ref(values.last_event_id),
            sets_id: layout.sets_id(),
            retry: None,
        }
    }
}

impl Event<'_> {
    /// Copies the event into memory of its own.
    pub fn into_owned(self) -> OwnedEvent {
        match Layout::of(self) {
            Some((layout, range)) => OwnedEvent::short(copy(self.context(), range), layout),
            None => self.join(),
        }
    }

    /// Copies the values of the event into one piece of memory, one after the other.
    #[inline(never)]
    fn join(self) -> OwnedEvent {
        let (event_type, id) = (self.named_type().unwrap_or_default(), self.last_event_id());
        if let Some(layout) = Layout::of_joined(self) {
            return OwnedEvent::short(padded(&[event_type, &id, &self.data()]), layout);
        }
        let mut data = Bytes::from([event_type, &id, &self.data()].concat());
        let (event_type, last_event_id) =
            (data.split_to(event_type.len()), data.split_to(id.len()));
        OwnedEvent::from_parts(Parts {
            event_type,
            data: self.has_data().then_some(data),
            last_event_id,
            sets_id: self.id().is_some(),
            retry: self.retry_millis(),
        })
    }

    /// Returns an event that shares the values that lie in `chunk`, and copies all others: values
    /// that span chunks, data of several lines, an ID of an earlier event. A short event is copied as
    /// a whole, which takes less time than sharing.
    ///
    /// [`OwnedEvent`] describes how long that keeps the chunk in memory.
    pub fn slice_ref(self, chunk: &Bytes) -> OwnedEvent {
        self.slice_from(chunk, &mut Bytes::new())
    }

    /// Like `slice_ref`. `inherited_id` caches the last event ID of events without one of their own.
    pub(crate) fn slice_from(self, chunk: &Bytes, inherited_id: &mut Bytes) -> OwnedEvent {
        let mut joined = None;
        let mut event = self.take_from(chunk, inherited_id, &mut joined);
        if joined.is_some() {
            event.set_data(Bytes::copy_from_slice(&self.data()));
        }
        event
    }

    /// Like `slice_from`, but leaves out long data that the decoder has joined, and stores their
    /// length in `joined`.
    #[inline]
    pub(crate) fn take_from(
        self,
        chunk: &Bytes,
        inherited_id: &mut Bytes,
        joined: &mut Option<usize>,
    ) -> OwnedEvent {
        match Layout::of(self) {
            Some((layout, range)) => OwnedEvent::short(copy(self.context(), range), layout),
            None => self.take_long_from(chunk, inherited_id, joined),
        }
    }

    #[inline(never)]
    fn take_long_from(
        self,
        chunk: &Bytes,
        inherited_id: &mut Bytes,
        joined: &mut Option<usize>,
    ) -> OwnedEvent {
        let (data, id) = (self.data(), self.last_event_id());
        let is_joined = offset(&data, chunk).is_none();
        if data.len() + id.len() <= Layout::MAX || is_joined && data.len() <= Layout::MAX {
            return self.join();
        }
        *joined = is_joined.then_some(data.len());
        let last_event_id = if self.id().is_some() {
            part(chunk, &id)
        } else {
            if id != **inherited_id {
                *inherited_id = Bytes::copy_from_slice(&id);
            }
            inherited_id.clone()
        };
        OwnedEvent::from_parts(Parts {
            event_type: part(chunk, self.named_type().unwrap_or_default()),
            data: self.own_data().filter(|_| !is_joined).map(|data| part(chunk, data)),
            last_event_id,
            sets_id: self.id().is_some(),
            retry: self.retry_millis(),
        })
    }
}

/// Returns a slice of the chunk if `bytes` lies in it, and a copy otherwise.
fn part(chunk: &Bytes, bytes: &[u8]) -> Bytes {
    if bytes.is_empty() {
        return Bytes::new();
    }
    match offset(bytes, chunk) {
        Some(start) => chunk.slice(start..start + bytes.len()),
        None => Bytes::copy_from_slice(bytes),
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
