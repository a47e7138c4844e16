//! The values that topics refuse, and their bounds.

use std::fmt;

use sse_proto::{InvalidValue, Limits};

/// The maximum length of an event type in bytes. With an id of [`MAX_ID`] bytes and a last event ID
/// of as many, it takes about half of what a decoder holds by default ([`Limits::fields`]).
pub(crate) const MAX_TYPE: usize = 4096;

/// The maximum length of an id in bytes.
pub(crate) const MAX_ID: usize = 256;

/// The error of an operation on topics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty, too long, or has a character that names do not have.
    Name(String),
    /// The event type has a line end.
    Type(InvalidValue),
    /// The event type has this many bytes, which is more than 4096.
    TypeTooLong(usize),
    /// The id has a line end or a NUL.
    Id(InvalidValue),
    /// The id could not come back in a `Last-Event-ID` header, or is reserved.
    ReservedId(String),
    /// An event with this id is in the log.
    IdInUse(String),
    /// The key was used for another event, which is still in the log.
    KeyInUse {
        /// The id of that event.
        id: String,
    },
    /// The data have this many bytes, which is more than the default of [`Limits::data`].
    DataTooLarge(usize),
    /// The maximum number of topics, this one, hold events.
    TooManyTopics(usize),
    /// A field of [`TopicsConfig`](crate::TopicsConfig) has a value that cannot work.
    Config {
        /// The field.
        field: &'static str,
        /// The problem with its value.
        problem: String,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "topic {name:?}: names are 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"
            ),
            Self::Type(error) | Self::Id(error) => error.fmt(f),
            Self::TypeTooLong(len) => {
                write!(f, "event type of {len} bytes: an event type has at most {MAX_TYPE}")
            }
            Self::ReservedId(id) => write!(
                f,
                "id {id:?}: ids are 1 to {MAX_ID} visible characters, and neither earliest, latest \
                 nor of the form that the server assigns"
            ),
            Self::IdInUse(id) => write!(f, "id {id:?}: an event with this id is in the log"),
            Self::KeyInUse { id } => write!(
                f,
                "idempotency key: it was used for event {id:?}, which has another content; use a \
                 new key for a new event"
            ),
            Self::DataTooLarge(len) => {
                let most = Limits::default().data;
                write!(f, "data of {len} bytes: an event has at most {most}")
            }
            Self::TooManyTopics(most) => write!(
                f,
                "{most} topics hold events, which is the maximum; publish to one of them, or wait \
                 until the events of one have expired"
            ),
            Self::Config { field, problem } => write!(f, "{field}: {problem}"),
        }
    }
}

impl std::error::Error for TopicError {}
