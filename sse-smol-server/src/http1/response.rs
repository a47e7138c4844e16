//! Responses, and how response heads are encoded.

use std::cell::Cell;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use httpdate::HttpDate;
use serde::Serialize;

use crate::frame::Frame;
use crate::framing::Framing;

/// A response other than an event stream: status, headers and a body in memory.
///
/// `Content-Length`, `Date` and `Connection` are added when it is sent.
pub type Response = http::Response<Vec<u8>>;

/// Creates a plain text response whose body is this text. To report an error, return a
/// [`RequestError`](crate::RequestError).
///
/// ```
/// use sse_smol_server::http::StatusCode;
///
/// let response = sse_smol_server::text(StatusCode::CREATED, "/rooms/1");
/// assert_eq!(response.body(), b"/rooms/1");
/// assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
/// ```
pub fn text(status: StatusCode, body: impl Into<String>) -> Response {
    of_type(status, "text/plain; charset=utf-8", body.into().into_bytes())
}

/// Creates a response whose body is a value as JSON.
///
/// ```
/// use sse_smol_server::http::StatusCode;
/// use sse_smol_server::{Error, Request, json};
///
/// async fn load(request: Request) -> Result<(), Error> {
///     request.respond(json(StatusCode::OK, &[0.7, 0.5])?).await
/// }
///
/// let server = sse_smol_server::testing::TestServer::new(load);
/// smol::block_on(async {
///     let mut answer = server.get("/").await;
///     assert_eq!(answer.headers()["content-type"], "application/json");
///     assert_eq!(answer.text().await, "[0.7,0.5]");
/// });
/// ```
///
/// # Errors
///
/// Returns an error if the value cannot be JSON: its `Serialize` fails, or a map has keys that are
/// not strings.
pub fn json<T: Serialize + ?Sized>(
    status: StatusCode,
    value: &T,
) -> Result<Response, serde_json::Error> {
    Ok(of_type(status, "application/json", serde_json::to_vec(value)?))
}

fn of_type(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Creates the response to a request that fails: the status and a line of text.
pub(crate) fn failure(status: StatusCode, line: &str) -> Response {
    text(status, format!("{status}\n\n{line}\n"))
}

/// Creates a 503 response with a random `Retry-After`, so that clients do not all retry at once.
pub(crate) fn busy(line: &str) -> Response {
    let mut response = failure(StatusCode::SERVICE_UNAVAILABLE, line);
    let seconds = HeaderValue::from(fastrand::u64(2..=10));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// Encodes the head of an event stream. `headers` are added to the defaults or replace them.
pub(crate) fn stream_head(framing: Framing, headers: &HeaderMap) -> Vec<u8> {
    // `no-transform` keeps proxies from compressing the stream, and X-Accel-Buffering keeps nginx
    // from buffering it. Both would delay events.
    let mut all = HeaderMap::new();
    all.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    all.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    let no_buffering = HeaderName::from_static("x-accel-buffering");
    all.insert(no_buffering, HeaderValue::from_static("no"));
    replace(&mut all, headers);
    // Headers of the handler must not contradict the framing.
    all.remove(header::CONTENT_LENGTH);
    all.remove(header::TRANSFER_ENCODING);
    if framing == Framing::Chunked {
        all.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    head(StatusCode::OK, all, None, true)
}

/// Sets the headers `others`, with all their values, in place of those with the same names.
pub(crate) fn replace(all: &mut HeaderMap, others: &HeaderMap) {
    for name in others.keys() {
        all.remove(name);
        for value in others.get_all(name) {
            all.append(name, value.clone());
        }
    }
}

/// Encodes a response, or with `head_only` its head alone. `close` announces that the connection is
/// closed afterwards.
pub(crate) fn whole(response: Response, head_only: bool, close: bool) -> Frame {
    let (parts, body) = response.into_parts();
    let has_body = !head_only && may_have_body(parts.status);
    let head = http::Response::from_parts(parts, ());
    let mut bytes = head_of_length(head, body.len() as u64, close);
    let head = bytes.len();
    if has_body {
        bytes.extend(body);
    }
    Frame::raw(bytes, head)
}

/// Returns whether a response with this status may have a body. After any other status, the client
/// would read a body as the next response.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Encodes the head of a response with a body of `length` bytes. `close` announces that the
/// connection is closed afterwards.
pub(crate) fn head_of_length(response: http::Response<()>, length: u64, close: bool) -> Vec<u8> {
    let (parts, ()) = response.into_parts();
    let mut headers = parts.headers;
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    head(parts.status, headers, may_have_body(parts.status).then_some(length), close)
}

/// Encodes a head with these headers, and the length of the body if it has one.
fn head(status: StatusCode, mut headers: HeaderMap, length: Option<u64>, close: bool) -> Vec<u8> {
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // This capacity is enough for most heads together with their body, which are then allocated
    // once.
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend_from_slice(b"\r\nDate: ");
    bytes.extend_from_slice(&date());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &headers {
        bytes.extend(title_case(name));
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if let Some(length) = length {
        write!(bytes, "Content-Length: {length}\r\n").expect("writing to a Vec does not fail");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The length of a date.
const DATE: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// Returns the current time as a `Date` header has it.
fn date() -> [u8; DATE] {
    thread_local! {
        /// The last date of this thread, and its seconds since 1970. A busy server writes the same
        /// date thousands of times.
        static LAST: Cell<(u64, [u8; DATE])> = const { Cell::new((0, [0; DATE])) };
    }
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (last, date) = LAST.get();
    if seconds == last && last != 0 {
        return date;
    }
    let mut date = [0; DATE];
    write!(&mut date[..], "{}", HttpDate::from(now)).expect("all dates have the same length");
    LAST.set((seconds, date));
    date
}

/// Returns a header name in title case, such as `Content-Type`, as some old clients expect it.
fn title_case(name: &HeaderName) -> impl Iterator<Item = u8> + '_ {
    let mut start = true;
    name.as_str().bytes().map(move |byte| {
        let cased = if start { byte.to_ascii_uppercase() } else { byte };
        start = byte == b'-';
        cased
    })
}
