//! The reasons for which requests end.

use std::fmt;
use std::io;

use http::StatusCode;

use crate::storage::StorageError;

/// The reason for the end of a request, as it is logged and counted.
///
/// [`open`](crate::Request::open), [`send`](crate::EventStream::send) and other operations return
/// it as an error, which a handler passes on with `?`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The handler returned.
    Finished,
    /// The request was answered by a response that is no event stream.
    Answered(StatusCode),
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    PeerReset,
    /// The peer acknowledged no data for too long: its machine or its network is down.
    TimedOut,
    /// The network reported that the peer cannot be reached.
    Unreachable,
    /// The peer sent no request before the deadline.
    Silent,
    /// The peer accepted no data for [`Config::write_timeout`](crate::Config::write_timeout).
    Stuck,
    /// The peer sent more than 64 KiB while a stream was open, when no request can follow.
    Unasked,
    /// The subscriber fell behind the topic's log. The stream was ended, so that the client
    /// reconnects and resumes.
    Lagged,
    /// The storage of the subscriber's topics failed. The stream was ended, so that the client
    /// reconnects and resumes.
    Storage(StorageError),
    /// The server is shutting down. A stream was sent a reconnection time before it ended.
    Drained,
    /// The handler failed. An open stream is cut off without its last chunk, so that the peer can
    /// tell that it is incomplete. A request without an answer gets 500.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The server stopped before the request ended.
    Stopped,
}

/// How a stream ended: see [`EventStream::on_close`](crate::EventStream::on_close).
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The reason for the end.
    pub reason: Error,
    /// The ID of the last event with an ID that the kernel has accepted whole.
    pub last_event_id: Option<Box<[u8]>>,
    /// The number of events that the kernel has accepted whole.
    pub events: u64,
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

    /// Returns whether the rest of the output is written and the response completed.
    pub(crate) const fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::Finished | Self::Answered(_) | Self::Lagged | Self::Storage(_) | Self::Drained
        )
    }

    /// Returns whether the peer may still receive the rest of an answer.
    pub(crate) const fn is_answerable(&self) -> bool {
        !matches!(
            self,
            Self::PeerClosed
                | Self::PeerReset
                | Self::TimedOut
                | Self::Unreachable
                | Self::Silent
                | Self::Stuck
                | Self::Unasked
        )
    }

    /// Returns the reason as a label for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Answered(_) => "answered",
            Self::PeerClosed => "peer_closed",
            Self::PeerReset => "peer_reset",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Unasked => "unasked",
            Self::Lagged => "lagged",
            Self::Storage(_) => "storage",
            Self::Drained => "drained",
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Answered(_) => f.write_str("answered"),
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::PeerReset => f.write_str("reset by the peer"),
            Self::TimedOut => f.write_str("the peer acknowledged no data for too long"),
            Self::Unreachable => f.write_str("the peer cannot be reached"),
            Self::Silent => f.write_str("no request received before the deadline"),
            Self::Stuck => f.write_str("the peer accepted no data for too long"),
            Self::Unasked => f.write_str("the peer sent too much while the stream was open"),
            Self::Lagged => f.write_str("fell behind the log"),
            Self::Storage(error) => error.fmt(f),
            Self::Drained => f.write_str("drained"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Stopped => f.write_str("server stopped"),
        }
    }
}

impl std::error::Error for Error {}
