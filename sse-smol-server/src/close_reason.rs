//! The reasons for which requests end.

use std::fmt;

use http::StatusCode;

use crate::error::Error;

/// The reason for the end of a request, as it is logged and counted, and as
/// [`on_close`](crate::EventStream::on_close) hooks get it.
///
/// ```
/// use sse_smol_server::testing::TestServer;
/// use sse_smol_server::{CloseReason, Error, Request};
///
/// async fn silent(request: Request) -> Result<(), Error> {
///     let _stream = request.open().await?;
///     std::future::pending().await
/// }
///
/// let server = TestServer::new(silent);
/// smol::block_on(async {
///     let left = server.get("/").await.leave().await;
///     assert!(matches!(left.reason, CloseReason::Error(Error::PeerClosed)));
///
///     let mut answer = server.get("/").await;
///     server.drain().begin();
///     assert!(matches!(answer.closed().await.reason, CloseReason::Error(Error::Drained)));
/// });
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler returned.
    Finished,
    /// The request was answered by a response that is not an event stream.
    Answered(StatusCode),
    /// An operation or the handler failed, or the stream was ended early.
    Error(Error),
    /// The peer sent no request before the deadline.
    Silent,
    /// The server stopped before the request ended.
    Stopped,
}

impl CloseReason {
    /// Returns whether the rest of the output is written and the response completed.
    pub(crate) const fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::Finished
                | Self::Answered(_)
                | Self::Error(Error::Lagged | Error::Storage(_) | Error::Drained)
        )
    }

    /// Returns whether the peer may still receive the rest of an answer.
    pub(crate) const fn is_answerable(&self) -> bool {
        match self {
            Self::Finished | Self::Answered(_) | Self::Stopped => true,
            Self::Error(error) => !error.is_of_peer(),
            Self::Silent => false,
        }
    }

    /// Returns the reason as a label for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Answered(_) => "answered",
            Self::Error(error) => error.label(),
            Self::Silent => "silent",
            Self::Stopped => "stopped",
        }
    }
}

/// Converts the error that a handler returned. `Answered` and `Ended` are not failures: the request
/// was answered, or the stream was complete.
impl From<Error> for CloseReason {
    fn from(error: Error) -> Self {
        match error {
            Error::Answered(status) => Self::Answered(status),
            Error::Ended => Self::Finished,
            error => Self::Error(error),
        }
    }
}

/// Writes the reason as it is logged. For a handler that failed, that includes its error.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Answered(_) => f.write_str("answered"),
            Self::Error(Error::Failed(source)) => write!(f, "failed: {source}"),
            Self::Error(error) => error.fmt(f),
            Self::Silent => f.write_str("no request received before the deadline"),
            Self::Stopped => f.write_str("server stopped"),
        }
    }
}

/// How a stream ended: see [`EventStream::on_close`](crate::EventStream::on_close).
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The reason for the end.
    pub reason: CloseReason,
    /// The ID of the last event with an ID that the kernel has accepted whole.
    ///
    /// It is the ID as it was sent if that is valid UTF-8, as IDs of topics always are. In other
    /// IDs, which only a handler can send, broken sequences are replaced by U+FFFD, as the receiver
    /// replaces them: the client resumes with this text in both cases.
    pub last_event_id: Option<Box<str>>,
    /// The number of events that the kernel has accepted whole.
    pub events: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_reported_by_label_and_text() {
        for (error, label, text) in [
            (Error::Answered(StatusCode::NOT_FOUND), "answered", "answered"),
            (Error::Ended, "finished", "finished"),
            (Error::PeerClosed, "peer_closed", "closed by the peer"),
            (Error::PeerReset, "peer_reset", "reset by the peer"),
            (Error::Lagged, "lagged", "fell behind the log"),
            (Error::Drained, "drained", "drained"),
            (Error::Failed("the reason".into()), "failed", "failed: the reason"),
        ] {
            let reason = CloseReason::from(error);
            assert_eq!((reason.label(), reason.to_string().as_str()), (label, text));
        }
    }
}
