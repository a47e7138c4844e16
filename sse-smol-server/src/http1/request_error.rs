//! Mistakes of clients.

use std::error::Error;
use std::fmt;

use http::StatusCode;

use super::response::{Response, failure};

/// A mistake of the client: the status that reports it, and a description for the client.
///
/// A handler that returns it with `?` before it has answered answers with
/// [`response`](Self::response).
///
/// ```
/// use sse_smol_server::http::StatusCode;
/// use sse_smol_server::{Error, Request, RequestError};
///
/// async fn room(request: Request) -> Result<(), Error> {
///     if request.path() != "/rooms/1" {
///         Err(RequestError::new(StatusCode::NOT_FOUND, "There is one room, /rooms/1."))?;
///     }
///     request.open().await.map(drop)
/// }
///
/// let error = Error::from(RequestError::new(StatusCode::NOT_FOUND, "No such room."));
/// assert_eq!(error.response().status(), StatusCode::NOT_FOUND);
/// assert_eq!(error.response().body(), b"404 Not Found\n\nNo such room.\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    status: StatusCode,
    why: String,
}

impl RequestError {
    /// Creates an error that is answered with a status and a line of text.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// Creates an error that is answered with 400.
    pub(crate) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// Returns the status that reports the error to the client.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the response that reports the error: the status and the text of the error.
    pub fn response(&self) -> Response {
        failure(self.status, &self.why)
    }
}

/// Writes the description.
impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for RequestError {}
