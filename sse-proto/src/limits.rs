//! The size limits of a decoder, and the errors for exceeding them.

use core::fmt;

use crate::setters::setters;
use crate::{Field, InvalidValue};

/// The maximum size of events, whether they lie in one chunk or not.
///
/// A publisher can compare its events with [`Limits::DEFAULT`] to ensure that a decoder with the
/// default limits receives them:
///
/// ```
/// use sse_proto::{EventId, EventType, Limits};
///
/// fn fits(event_type: EventType<'_>, id: EventId<'_>, last_event_id: EventId<'_>) -> bool {
///     let fields = [event_type.as_ref(), id.as_ref(), last_event_id.as_ref()];
///     fields.iter().map(|field| field.len()).sum::<usize>() <= Limits::DEFAULT.fields
/// }
/// # assert!(fits(EventType::from_static("a"), EventId::from_static("1"), EventId::from_static("")));
/// ```
///
/// A decoder with custom limits:
///
/// ```
/// use sse_proto::{Decoder, Limits};
///
/// let mut decoder = Decoder::with_limits(Limits::default().with_data(5));
/// let mut input: &[u8] = b"data: 123456\n\ndata: 12345\n\n";
/// let error = decoder.next_event(&mut input).unwrap_err();
/// assert_eq!(error.limit(), 5);
/// assert_eq!(decoder.next_event(&mut input).unwrap().unwrap().data(), "12345");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum number of bytes of an event's data, including the line feeds between its lines.
    /// Default: 16 MiB, which holds the images and documents that language models and tools send as
    /// one event.
    pub data: usize,
    /// The maximum number of bytes of the event type and the IDs together. Default: 8 KiB. The last
    /// event ID is sent back in a request header, and servers reject request heads much larger than
    /// that.
    ///
    /// At any time, this limits the sum of four lengths: that of the last event ID, which an
    /// earlier event has set, those of the type and the ID of the current event, and that of the
    /// value of the `id` or `event` line being read. So an event with at most one line of each is
    /// received if its type, its ID and the previous ID together do not exceed this. A stream whose
    /// longest type and ID take `t` and `i` bytes is received if `t + 2 * i` does not exceed this.
    /// A further `id` or `event` line for the same event replaces the value of the previous one,
    /// but counts together with it.
    pub fields: usize,
}

impl Limits {
    /// The limits of [`Decoder::new`](crate::Decoder::new).
    pub const DEFAULT: Self = Self { data: 16 << 20, fields: 8 << 10 };
}

setters!(Limits {
    with_data => data: usize,
    with_fields => fields: usize,
});

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The error for an event that exceeds the decoder's [`Limits`].
///
/// The event is dropped with its type and ID: the last event ID is still that of the event before
/// it. The decoder continues with the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLarge {
    exceeded: Exceeded,
    limit: usize,
}

/// A field with a limit. It takes a word, because a result that holds either this error or an event
/// would otherwise be moved in parts of odd sizes, which takes longer than decoding a short event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Exceeded {
    Data,
    EventType,
    Id,
}

impl EventTooLarge {
    pub(crate) const fn new(field: Field, limit: usize) -> Self {
        let exceeded = match field {
            Field::EventType => Exceeded::EventType,
            Field::Id => Exceeded::Id,
            _ => Exceeded::Data,
        };
        Self { exceeded, limit }
    }

    /// Returns the field that exceeded its limit: [`Field::Data`], or [`Field::EventType`] or
    /// [`Field::Id`], which share a limit.
    pub const fn field(self) -> Field {
        match self.exceeded {
            Exceeded::Data => Field::Data,
            Exceeded::EventType => Field::EventType,
            Exceeded::Id => Field::Id,
        }
    }

    /// Returns the limit in bytes.
    pub const fn limit(self) -> usize {
        self.limit
    }
}

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.exceeded {
            Exceeded::Data => write!(f, "event dropped: more than {limit} bytes of data"),
            _ => write!(f, "event dropped: its type and ids take more than {limit} bytes"),
        }?;
        f.write_str("; to receive such events, raise the decoder's limit")
    }
}

impl core::error::Error for EventTooLarge {}

/// A last event ID that a decoder rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidLastEventId {
    /// It contains CR, LF or NUL, so it cannot come from an event stream.
    Value(InvalidValue),
    /// It takes more bytes than [`Limits::fields`] leaves.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for InvalidLastEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(error) => error.fmt(f),
            Self::TooLong { limit } => {
                write!(f, "the last event ID exceeds the decoder's limit of {limit} bytes for ")?;
                f.write_str("type and ids")
            }
        }
    }
}

impl core::error::Error for InvalidLastEventId {}
