//! The errors of operations on requests and streams.

use std::fmt;
use std::io;

use http::StatusCode;

use crate::storage::StorageError;
use crate::topics::SubscriptionError;

/// An error of an operation on a request or its stream, which a handler passes on with `?`.
///
/// The handler's error becomes the [`CloseReason`](crate::CloseReason) of the request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request has already been answered with this status, since it cannot be answered by an
    /// event stream, or its body cannot be read.
    Answered(StatusCode),
    /// The stream has ended, and with it the request that it belongs to.
    Ended,
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    PeerReset,
    /// The peer acknowledged no data for too long: its machine or its network is down.
    TimedOut,
    /// The network reported that the peer cannot be reached.
    Unreachable,
    /// The peer accepted no data for [`Config::write_timeout`](crate::Config::write_timeout).
    Stuck,
    /// The peer sent more than 64 KiB while a stream was open, when no request can follow.
    Unasked,
    /// The subscriber fell behind the topic's log. The stream is ended, so that the client
    /// reconnects and resumes.
    Lagged,
    /// The storage of the subscriber's topics failed. The stream is ended, so that the client
    /// reconnects and resumes.
    Storage(StorageError),
    /// The server is shutting down. The stream is ended after it was sent a reconnection time.
    Drained,
    /// The handler failed. An open stream is cut off without its last chunk, so that the peer can
    /// tell that it is incomplete. A request without an answer gets 500.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Converts an error of the socket.
    pub(crate) fn from_socket(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown,
            NetworkUnreachable, NotConnected, TimedOut,
        };
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected => Self::PeerReset,
            TimedOut => Self::TimedOut,
            HostUnreachable | NetworkDown | NetworkUnreachable => Self::Unreachable,
            _ => error.into(),
        }
    }

    /// Returns whether the peer is gone or given up, so that it cannot receive an answer.
    pub(crate) const fn is_of_peer(&self) -> bool {
        match self {
            Self::PeerClosed
            | Self::PeerReset
            | Self::TimedOut
            | Self::Unreachable
            | Self::Stuck
            | Self::Unasked => true,
            Self::Answered(_)
            | Self::Ended
            | Self::Lagged
            | Self::Storage(_)
            | Self::Drained
            | Self::Failed(_) => false,
        }
    }

    /// Returns the label of the close reason.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Ended => "finished",
            Self::PeerClosed => "peer_closed",
            Self::PeerReset => "peer_reset",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Stuck => "stuck",
            Self::Unasked => "unasked",
            Self::Lagged => "lagged",
            Self::Storage(_) => "storage",
            Self::Drained => "drained",
            Self::Failed(_) => "failed",
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Writes what happened. The text of [`Failed`](Error::Failed) does not include its
/// [source](std::error::Error::source).
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "already answered with {status}"),
            Self::Ended => f.write_str("the stream has ended"),
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::PeerReset => f.write_str("reset by the peer"),
            Self::TimedOut => f.write_str("the peer acknowledged no data for too long"),
            Self::Unreachable => f.write_str("the peer cannot be reached"),
            Self::Stuck => f.write_str("the peer accepted no data for too long"),
            Self::Unasked => f.write_str("the peer sent too much while the stream was open"),
            Self::Lagged => f.write_str("fell behind the log"),
            Self::Storage(error) => error.fmt(f),
            Self::Drained => f.write_str("drained"),
            Self::Failed(_) => f.write_str("the handler failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(source) => Some(&**source),
            // The text is that of the storage's error.
            Self::Storage(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}
