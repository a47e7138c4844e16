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
    /// The peer connected and asked for nothing in time.
    Silent,
    /// The handler failed. A stream that was open is cut off, without the chunk that would tell
    /// the peer it was whole; otherwise the answer is 500.
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The server stopped.
    Stopped,
}

impl End {
    /// What an error on the socket means.
    pub(crate) fn from_socket(error: &io::Error) -> Self {
        log::debug!("socket: {error}");
        Self::PeerReset
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
            Self::Silent => f.write_str("nothing asked in time"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Stopped => f.write_str("server stopped"),
        }
    }
}

impl std::error::Error for End {}
