//! The errors of operations on requests and streams.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::string::FromUtf8Error;

use http::StatusCode;
use sse_proto::InvalidValue;

use crate::http1::{RequestError, Response, busy, failure};
use crate::storage::{StorageError, StorageErrorKind};
use crate::topics::{SubscriptionError, TopicError};

/// An error of an operation on a request or its stream, which a handler passes on with `?`.
///
/// The handler's error becomes the [`CloseReason`](crate::CloseReason) of the request. Errors of
/// other types convert to [`Failed`](Self::Failed), or to the kind that they stand for.
///
/// If a handler fails before it has answered, [`response`](Self::response) is the answer.
///
/// ```
/// use std::error::Error as _;
///
/// use sse_smol_server::http::StatusCode;
/// use sse_smol_server::{Error, Request, Start, Topics, TopicsConfig};
///
/// async fn follow(topics: &Topics, request: Request) -> Result<(), Error> {
///     let name = request.path().trim_start_matches('/').to_owned();
///     let subscription = topics.subscribe(&[&name], Start::Latest).await?; // may answer 400
///     request.open().await?.follow(subscription).await
/// }
///
/// # let topics = Topics::new(TopicsConfig::default())?;
/// let subscribed = smol::block_on(topics.subscribe(&["no spaces"], Start::Latest));
/// let error = Error::from(subscribed.unwrap_err());
/// assert_eq!(error.response().status(), StatusCode::BAD_REQUEST);
///
/// fn parse(number: &str) -> Result<u32, Error> {
///     number.parse().map_err(Error::failed)
/// }
/// let error = parse("1x").unwrap_err();
/// assert_eq!(error.response().status(), StatusCode::INTERNAL_SERVER_ERROR);
/// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
/// # Ok::<(), Error>(())
/// ```
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
    /// detect that it is incomplete. A request without an answer gets [`Error::response`].
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

    /// Creates an error from any other error, or from a text.
    ///
    /// An error of this crate is converted as `?` does it. A mistake in the request is better
    /// returned as a [`RequestError`], which answers with a status of its own.
    ///
    /// ```
    /// use sse_smol_server::Error;
    ///
    /// assert!(matches!(Error::failed("no tokens left"), Error::Failed(_)));
    /// let nested: Box<dyn std::error::Error + Send + Sync> = Box::new(Error::Lagged);
    /// assert!(matches!(Error::failed(nested), Error::Lagged));
    /// ```
    pub fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        source.into().into()
    }

    /// Returns the response to a request whose handler returns this error without an answer.
    ///
    /// For a [`RequestError`], it is [`RequestError::response`]. For a [`TopicError`], the response
    /// has the text of the error, and this status:
    ///
    /// | error | status |
    /// |---|---|
    /// | `Name`, `Type`, `TypeTooLong`, `WithoutData`, `Id`, `ReservedId` | 400 |
    /// | `IdInUse` | 409 |
    /// | `DataTooLarge` | 413 |
    /// | `KeyInUse` | 422 |
    /// | `TooManyTopics` | 429 |
    /// | `Storage`, also as [`Error::Storage`] | 507 if it is full, 413 if the event is too large, else 503 |
    /// | `Config` | 500, without the text |
    ///
    /// With [`StorageErrorKind::Unavailable`], the response has a `Retry-After`.
    ///
    /// For all other errors it is 500, without their text. They may come from values of the server,
    /// such as JSON in a file. A handler that parses what the client sent converts the error to a
    /// [`RequestError`], as [`Request::json`](crate::Request::json) does.
    ///
    /// When the connection sends it, the headers that the handler has set with
    /// [`response_headers_mut`](crate::Request::response_headers_mut) are added.
    pub fn response(&self) -> Response {
        let (status, why): (_, &dyn fmt::Display) = match self {
            Self::Storage(error) => (status_of_storage(error), error),
            Self::Failed(source) => {
                if let Some(error) = source.downcast_ref::<RequestError>() {
                    return error.response();
                }
                match source.downcast_ref() {
                    Some(error) => (status_of_topic(error), error),
                    None => (StatusCode::INTERNAL_SERVER_ERROR, source),
                }
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, self),
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return failure(status, "The server failed to answer this request.");
        }
        let line = format!("{why}.");
        if self.storage_error().is_some_and(|error| error.kind() == StorageErrorKind::Unavailable) {
            return busy(&line);
        }
        failure(status, &line)
    }

    /// Returns the error of the storage that this is.
    fn storage_error(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Failed(source) => match source.downcast_ref() {
                Some(TopicError::Storage(error)) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns whether the peer is gone or the connection is abandoned, so that no answer can be
    /// sent.
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

/// Returns the status that reports an error of an operation on topics to a client.
fn status_of_topic(error: &TopicError) -> StatusCode {
    match error {
        TopicError::Name(_)
        | TopicError::Type(_)
        | TopicError::TypeTooLong(_)
        | TopicError::WithoutData
        | TopicError::Id(_)
        | TopicError::ReservedId(_) => StatusCode::BAD_REQUEST,
        TopicError::IdInUse(_) => StatusCode::CONFLICT,
        TopicError::KeyInUse { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        TopicError::DataTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        TopicError::TooManyTopics(_) => StatusCode::TOO_MANY_REQUESTS,
        TopicError::Storage(error) => status_of_storage(error),
        TopicError::Config { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn status_of_storage(error: &StorageError) -> StatusCode {
    match error.kind() {
        StorageErrorKind::Full => StatusCode::INSUFFICIENT_STORAGE,
        StorageErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        StorageErrorKind::Unavailable | StorageErrorKind::Damaged => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Lists types instead of converting every error: `Error` implements `Error`, too, and already
/// converts to itself.
macro_rules! failed {
    ($($source:ty),* $(,)?) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::Failed(error.into())
            }
        })*
    };
}

failed!(FromUtf8Error, InvalidValue, RequestError, io::Error, serde_json::Error);

type Boxed = Box<dyn std::error::Error + Send + Sync>;

impl From<Boxed> for Error {
    /// Converts an error of this crate as if it were not in a box.
    fn from(error: Boxed) -> Self {
        fn unboxed<E: std::error::Error + Into<Error> + 'static>(
            error: Boxed,
        ) -> Result<Error, Boxed> {
            error.downcast::<E>().map(|error| (*error).into())
        }
        let error = unboxed::<Self>(error)
            .or_else(unboxed::<TopicError>)
            .or_else(unboxed::<SubscriptionError>)
            .or_else(unboxed::<StorageError>)
            .or_else(unboxed::<RequestError>);
        error.unwrap_or_else(Self::Failed)
    }
}

/// For streams of results that cannot fail, such as bodies.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<TopicError> for Error {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Storage(error) => Self::Storage(error),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<SubscriptionError> for Error {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::Lagged => Self::Lagged,
            SubscriptionError::Storage(error) => Self::Storage(error),
        }
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

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn errors_convert_and_are_sources() {
        fn json() -> Result<(), Error> {
            serde_json::from_str::<bool>("{")?;
            Ok(())
        }
        fn text() -> Result<String, Error> {
            Ok(String::from_utf8(vec![0xff])?)
        }
        fn file() -> Result<Vec<u8>, Error> {
            Ok(std::fs::read("/does/not/exist")?)
        }
        fn value() -> Result<usize, Error> {
            Ok(sse_proto::EventType::new("a\nb")?.as_ref().len())
        }
        fn boxed() -> Result<(), Error> {
            Err(Box::<dyn std::error::Error + Send + Sync>::from("the reason"))?;
            Ok(())
        }
        let errors = [
            json().unwrap_err(),
            text().unwrap_err(),
            file().unwrap_err(),
            value().unwrap_err(),
            boxed().unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.to_string(), "the handler failed");
            let source = error.source().unwrap().to_string();
            let response = error.response();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{source}");
            let body = String::from_utf8_lossy(response.body()).into_owned();
            assert!(!body.contains(&source), "{body}");
        }
        assert!(matches!(Error::from(SubscriptionError::Lagged), Error::Lagged));
    }

    #[test]
    fn errors_of_this_crate_convert_from_boxes_as_without() {
        let storage = || StorageError::new(StorageErrorKind::Full, "why");
        let name = || TopicError::Name("a b".to_owned());
        for (boxed, label, status) in [
            (Boxed::from(Error::PeerClosed), "peer_closed", 500),
            (Boxed::from(Error::Drained), "drained", 500),
            (Boxed::from(Error::from(name())), "failed", 400),
            (Boxed::from(name()), "failed", 400),
            (Boxed::from(SubscriptionError::Lagged), "lagged", 500),
            (Boxed::from(storage()), "storage", 507),
            (Boxed::from(TopicError::Storage(storage())), "storage", 507),
        ] {
            let error = Error::from(boxed);
            assert_eq!((error.label(), error.response().status().as_u16()), (label, status));
        }
    }

    #[test]
    fn topic_errors_are_answered_with_their_status_and_text() {
        let invalid = || sse_proto::EventType::new("a\nb").unwrap_err();
        for (error, status) in [
            (TopicError::Name("a b".to_owned()), 400),
            (TopicError::Type(invalid()), 400),
            (TopicError::TypeTooLong(5000), 400),
            (TopicError::WithoutData, 400),
            (TopicError::Id(invalid()), 400),
            (TopicError::ReservedId(String::new()), 400),
            (TopicError::IdInUse("1".to_owned()), 409),
            (TopicError::DataTooLarge(1 << 30), 413),
            (TopicError::KeyInUse { id: "1".to_owned() }, 422),
            (TopicError::TooManyTopics(1), 429),
            (TopicError::Storage(StorageError::new(StorageErrorKind::Unavailable, "why")), 503),
            (TopicError::Storage(StorageError::new(StorageErrorKind::Full, "why")), 507),
        ] {
            let text = error.to_string();
            let response = Error::from(error).response();
            assert_eq!(response.status(), status, "{text}");
            assert!(String::from_utf8_lossy(response.body()).contains(&text), "{text}");
        }
        let config = TopicError::Config { field: "max_topics", problem: "is 0".to_owned() };
        assert_eq!(Error::from(config).response().status(), 500);
    }
}
