//! The answers to requests that are refused before their handlers answer.

use http::StatusCode;

use super::response::{Response, busy, failure};

/// The answer to a request that is refused before its handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
}

impl Refusal {
    pub(crate) const HEAD_TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        why: "The request head exceeds the limit of this server (max_head).",
    };
    pub(super) const TOO_MANY_HEADERS: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        why: "The request has more than 100 header fields.",
    };
    pub(super) const UNSUPPORTED_VERSION: Self = Self {
        status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        why: "This server supports HTTP/1.1 and HTTP/1.0.",
    };
    pub(super) const EXPECTATION_FAILED: Self = Self {
        status: StatusCode::EXPECTATION_FAILED,
        why: "This server supports no other expectation than 100-continue.",
    };
    pub(crate) const BODY_TOO_LARGE: Self = Self {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        why: "The request body exceeds the limit of this server (max_body).",
    };
    pub(crate) const TOO_SLOW: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        why: "The request did not arrive in time (head_timeout, body_timeout).",
    };

    pub(crate) const FRAMING_TOO_LARGE: Self = Self {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        why: "The chunk sizes, extensions and trailers of the request body exceed the limit of \
              this server: send larger chunks.",
    };
    pub(crate) const TRAILERS_TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        why: "The trailers of the request body exceed the limit of this server.",
    };
    pub(crate) const SIZE_LINE_TOO_LONG: Self =
        Self::bad("The line before a chunk of the request body is longer than 1024 bytes.");
    pub(crate) const BAD_CHUNK_SIZE: Self =
        Self::bad("A chunk of the request body does not begin with its size.");
    pub(crate) const TOO_MANY_BODIES: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        why: "The memory limit for request bodies is reached; try again later.",
    };

    /// Creates a refusal with status 400.
    pub(crate) const fn bad(why: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why }
    }

    pub(crate) fn response(self) -> Response {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => busy(self.why),
            status => failure(status, self.why),
        }
    }
}
