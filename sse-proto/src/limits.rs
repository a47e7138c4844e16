//! How much a decoder takes, and what it says beyond.

use core::fmt;

use crate::{Field, InvalidValue};

/// How large events may be, whether they fit into one chunk or not.
///
/// ```
/// use sse_proto::{Decoder, Limits};
///
/// let mut decoder = Decoder::with_limits(Limits { data: 5, ..Limits::default() });
/// let mut input: &[u8] = b"data: 123456\n\ndata: 12345\n\n";
/// let error = decoder.next_event(&mut input).unwrap_err();
/// assert_eq!(error.limit(), 5);
/// assert_eq!(decoder.next_event(&mut input).unwrap().unwrap().data(), "12345");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an event's data, the line feeds between its lines included. Default: 16 MiB, which
    /// holds the images and documents that come as one event from language models and tools.
    pub data: usize,
    /// Bytes that the event type and the ids take: at any time the sum of the last event ID in
    /// force, the id and the type of the block at hand, and the `id` or `event` line being read. So
    /// an id may take half of it if the next one is to be as long. Default: 8 KiB. The last event
    /// ID comes back in a request header, and servers refuse heads much larger than that.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { data: 16 << 20, fields: 8 << 10 }
    }
}

/// An event is larger than the decoder's [`Limits`] allow.
///
/// It is dropped with its type and id: the last event ID still names the event before it. The
/// decoder goes on at the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLarge {
    field: Field,
    limit: usize,
}

impl EventTooLarge {
    pub(crate) const fn new(field: Field, limit: usize) -> Self {
        Self { field, limit }
    }

    /// The field that was too much: [`Field::Data`], or [`Field::EventType`] or [`Field::Id`],
    /// which share a limit.
    pub const fn field(self) -> Field {
        self.field
    }

    /// The limit in bytes.
    pub const fn limit(self) -> usize {
        self.limit
    }
}

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.field {
            Field::Data => write!(f, "event dropped: more than {limit} bytes of data"),
            _ => write!(f, "event dropped: its type and ids take more than {limit} bytes"),
        }?;
        f.write_str("; if it is to be received, raise the decoder's limit")
    }
}

impl core::error::Error for EventTooLarge {}

/// A last event ID that a decoder cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidLastEventId {
    /// No event stream can have set it.
    Value(InvalidValue),
    /// It takes more room than [`Limits::fields`] leaves.
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
                write!(f, "last event ID takes more than the {limit} bytes for type and ids")
            }
        }
    }
}

impl core::error::Error for InvalidLastEventId {}
