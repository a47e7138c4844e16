//! Errors of operations on topics, and the bounds of their values.

use std::fmt;

use sse_proto::{InvalidValue, Limits};

use crate::storage::StorageError;

/// The maximum length of an event type in bytes. Together with an ID and a last event ID of
/// [`MAX_ID`] bytes each, it takes about half of a decoder's default [`Limits::fields`].
pub(crate) const MAX_TYPE: usize = 4096;

/// The maximum length of an ID in bytes.
pub(crate) const MAX_ID: usize = 256;

/// The error of an operation on topics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is empty, too long, or contains a character that is not allowed.
    Name(String),
    /// The event type contains a line end.
    Type(InvalidValue),
    /// The event type has this many bytes, which is more than 4096.
    TypeTooLong(usize),
    /// The event has no data, so receivers would not dispatch it.
    WithoutData,
    /// The id contains a line end or a NUL.
    Id(InvalidValue),
    /// The id is empty, too long, not UTF-8, reserved, or cannot be sent in a `Last-Event-ID`
    /// header.
    ReservedId(String),
    /// An event with this ID is already in the log.
    IdInUse(String),
    /// The key was used for a different event, which is still in the log.
    KeyInUse {
        /// The ID of that event.
        id: String,
    },
    /// The data has this many bytes, which is more than the default of [`Limits::data`].
    DataTooLarge(usize),
    /// This many topics hold events, which is the maximum.
    TooManyTopics(usize),
    /// The storage cannot append, or cannot be read.
    Storage(StorageError),
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
            Self::Name(name) => {
                write!(f, "topic {name:?}: names are 1 to 128 characters from A-Z a-z 0-9 . _ ~ -")
            }
            Self::Type(error) | Self::Id(error) => error.fmt(f),
            Self::WithoutData => f.write_str(
                "an event without data cannot be published: receivers would not dispatch it",
            ),
            Self::TypeTooLong(len) => {
                write!(f, "event type of {len} bytes: the maximum is {MAX_TYPE} bytes")
            }
            Self::ReservedId(id) => write!(
                f,
                "id {id:?}: ids are 1 to {MAX_ID} bytes of visible characters, and neither \
                 earliest, latest nor of the form that the server assigns"
            ),
            Self::IdInUse(id) => {
                write!(f, "id {id:?}: an event with this id is already in the log")
            }
            Self::KeyInUse { id } => write!(
                f,
                "idempotency key: it was used for event {id:?}, which has different content; use \
                 a new key for a new event"
            ),
            Self::DataTooLarge(len) => {
                let most = Limits::DEFAULT.data;
                write!(f, "data of {len} bytes: the maximum is {most} bytes")
            }
            Self::TooManyTopics(most) => write!(
                f,
                "{most} topics hold events, which is the maximum; publish to one of them, or wait \
                 until the events of one have expired"
            ),
            Self::Storage(error) => error.fmt(f),
            Self::Config { field, problem } => write!(f, "{field}: {problem}"),
        }
    }
}

impl std::error::Error for TopicError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<StorageError> for TopicError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Returns an error unless this is a valid name of a topic.
pub(crate) fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(TopicError::Name(name.to_owned()));
    }
    Ok(())
}
