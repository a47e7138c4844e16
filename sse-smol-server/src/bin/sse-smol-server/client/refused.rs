//! Responses that refuse the request, and the reason that their bodies give.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};
use smol::Timer;
use smol::future::FutureExt as _;
use sse_proto::Rejected;

use super::body::Body;

/// The error of a response that is no event stream.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejected: Rejected,
    /// The text of the body, or an empty string.
    pub(crate) reason: String,
}

/// The maximum size in bytes of a body whose text is a reason.
const MAX_REASON: usize = 4096;

/// The time within which such a body has to arrive.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rejected, self.reason)
    }
}

impl Error for Refused {}

/// Returns the reason in the body of an error response, in the form of [`explanation`]. It is
/// empty if the response is no error or has no short body of plain text.
pub(super) async fn reason(status: StatusCode, headers: &HeaderMap, body: &mut Body) -> String {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || !content_type.starts_with(b"text/plain") {
        return String::new();
    }
    let read = async {
        let mut text = Vec::new();
        while let Ok(Some(piece)) = body.next().await {
            text.extend_from_slice(&piece);
            if text.len() > MAX_REASON {
                return String::new();
            }
        }
        explanation(status, &text)
    };
    let too_late = async {
        Timer::after(REASON_TIMEOUT).await;
        String::new()
    };
    read.or(too_late).await
}

/// Returns a colon and the text of a response on one line, without the status, with which the
/// server begins it. It is empty if there is no other text.
pub(crate) fn explanation(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix(&status.to_string()).unwrap_or(&text);
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(" ")) }
}
