//! The data lines of Datastar's events, and the fields that all of the events have.

use std::time::Duration;

use sse_proto::{Event, EventId, EventType, OwnedEvent, event_type};

use crate::Frame;

/// The reconnection time that a client of Datastar starts with. It is not written.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

pub(super) const PATCH_ELEMENTS: EventType<'static> = event_type!("datastar-patch-elements");
pub(super) const PATCH_SIGNALS: EventType<'static> = event_type!("datastar-patch-signals");

/// The ID and the reconnection time of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<EventId<'a>>,
    pub(super) retry: Option<Duration>,
}

/// An event of Datastar.
pub(super) trait Patch {
    const EVENT_TYPE: EventType<'static>;

    fn fields(&self) -> Fields<'_>;

    fn write<S: Sink>(&self, lines: &mut Lines<'_, S>);
}

/// A destination for text.
pub(super) trait Sink {
    fn push(&mut self, text: &str);
}

impl Sink for Vec<u8> {
    fn push(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Sink for String {
    fn push(&mut self, text: &str) {
        self.push_str(text);
    }
}

/// The length of text that is not stored, in bytes.
struct Length(usize);

impl Sink for Length {
    fn push(&mut self, text: &str) {
        self.0 += text.len();
    }
}

/// A writer of data lines, each of which is a key and a value. A value of several lines takes as
/// many data lines with the same key, which the client joins again. So no value can become
/// another key, another field or another event.
pub(super) struct Lines<'o, S> {
    out: &'o mut S,
    /// The field name before each line, or nothing.
    name: &'static str,
    key: &'static str,
    has_lines: bool,
}

impl<'o, S: Sink> Lines<'o, S> {
    fn new(out: &'o mut S, name: &'static str) -> Self {
        Self { out, name, key: "", has_lines: false }
    }

    /// Writes a key and its value.
    pub(super) fn pair(&mut self, key: &'static str, value: &str) {
        self.begin(key);
        self.push(value);
    }

    /// Begins the value of a key, which [`push`](Self::push) writes.
    pub(super) fn begin(&mut self, key: &'static str) {
        if self.has_lines {
            self.out.push("\n");
        }
        self.has_lines = true;
        self.key = key;
        for piece in [self.name, key, " "] {
            self.out.push(piece);
        }
    }

    /// Writes a piece of the value. A CR and LF in two pieces are two line ends.
    pub(super) fn push(&mut self, mut piece: &str) {
        while let Some(at) = piece.bytes().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, rest) = piece.split_at(at);
            self.out.push(line);
            self.begin(self.key);
            piece = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
        }
        self.out.push(piece);
    }
}

/// Encodes an event into a buffer of its exact size, without an intermediate copy of its values.
pub(super) fn frame<P: Patch>(patch: &P) -> Frame {
    const NAME: &str = "data: ";
    let mut len = Length(0);
    patch.write(&mut Lines::new(&mut len, NAME));
    let event = without_data(patch);
    Frame::with_data_lines(event, len.0, |out| patch.write(&mut Lines::new(out, NAME)))
}

/// Returns an event with its data, which are copied.
pub(super) fn owned<P: Patch>(patch: &P) -> OwnedEvent {
    let mut len = Length(0);
    patch.write(&mut Lines::new(&mut len, ""));
    let mut data = String::with_capacity(len.0);
    patch.write(&mut Lines::new(&mut data, ""));
    let mut event = OwnedEvent::new(data).with_type(P::EVENT_TYPE);
    let fields = without_data(patch);
    if let Some(id) = fields.id() {
        event = event.with_id(id);
    }
    if let Some(retry) = fields.retry() {
        event = event.with_retry(retry);
    }
    event
}

/// Returns the fields of an event.
fn without_data<P: Patch>(patch: &P) -> Event<'_> {
    let Fields { id, retry } = patch.fields();
    let mut event = Event::without_data().with_type(P::EVENT_TYPE);
    if let Some(id) = id {
        event = event.with_id(id);
    }
    if let Some(retry) = retry {
        let with_retry = event.with_retry(retry);
        if with_retry.retry() != Some(DEFAULT_RETRY) {
            event = with_retry;
        }
    }
    event
}

/// Implements for a [`Patch`] with a field `fields` what all events have.
macro_rules! event {
    ($type:ident) => {
        impl<'a> $type<'a> {
            /// Returns the event with this ID, which the client sends back when it reconnects.
            #[must_use]
            pub fn with_id(mut self, id: EventId<'a>) -> Self {
                self.fields.id = Some(id);
                self
            }

            /// Returns the event with a reconnection time: the time that the client waits before it
            /// reconnects, from this event on. One second is the client's default, and not written.
            #[must_use]
            pub fn with_retry(mut self, retry: Duration) -> Self {
                self.fields.retry = Some(retry);
                self
            }
        }

        impl From<&$type<'_>> for Frame {
            fn from(event: &$type<'_>) -> Self {
                frame(event)
            }
        }

        impl From<$type<'_>> for Frame {
            fn from(event: $type<'_>) -> Self {
                frame(&event)
            }
        }

        /// For topics: see the [module](super).
        impl From<&$type<'_>> for OwnedEvent {
            fn from(event: &$type<'_>) -> Self {
                owned(event)
            }
        }

        impl From<$type<'_>> for OwnedEvent {
            fn from(event: $type<'_>) -> Self {
                owned(&event)
            }
        }
    };
}
pub(super) use event;
