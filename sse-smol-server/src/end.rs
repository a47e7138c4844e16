//! Why a request was over.

use std::fmt;
use std::io;

use http::StatusCode;

/// Why a request was over: what a handler ends with, and what the log says.
///
/// A handler gets one as the error of [`open`](crate::Request::open),
/// [`send`](crate::EventStream::send) and the like, and passes it on with `?`.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The handler returned.
    Finished,
    /// The answer was no event stream, and has been sent.
    Answered(StatusCode),
    /// The peer closed the connection.
    PeerClosed,
    /// The connection broke.
    PeerReset,
    /// The peer acknowledged nothing for too long: its machine or its network is gone.
    TimedOut,
    /// The network reported that the peer cannot be reached.
    Unreachable,
    /// The peer connected and asked for nothing in time.
    Silent,
    /// The peer took nothing of what was sent for too long.
    Stuck,
    /// The peer kept sending while a stream was open, which is not what streams are for.
    Unasked,
    /// The subscriber fell behind the topic's log; the stream ended so that it resumes.
    Lagged,
    /// The server is about to stop, and told the peer when to come back.
    Drained,
    /// The handler failed. A stream that was open is cut off, without the chunk that would tell
    /// the peer it was whole; otherwise the answer is 500.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The server stopped.
    Stopped,
}

impl End {
    /// What an error on the socket means.
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

    /// Whether the peer is to get all that was written, and is told that it was all.
    pub(crate) const fn is_orderly(&self) -> bool {
        matches!(self, Self::Finished | Self::Answered(_) | Self::Lagged | Self::Drained)
    }

    /// Whether the peer is there to get the rest of an answer.
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

    /// One word, for metrics.
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
            Self::Drained => "drained",
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Answered(_) => f.write_str("answered"),
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::PeerReset => f.write_str("reset by the peer"),
            Self::TimedOut => f.write_str("the peer acknowledged nothing for too long"),
            Self::Unreachable => f.write_str("the peer cannot be reached"),
            Self::Silent => f.write_str("nothing asked in time"),
            Self::Stuck => f.write_str("the peer took nothing for too long"),
            Self::Unasked => f.write_str("the peer sent too much while the stream was open"),
            Self::Lagged => f.write_str("fell behind the log"),
            Self::Drained => f.write_str("drained"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Stopped => f.write_str("server stopped"),
        }
    }
}

impl std::error::Error for End {}
