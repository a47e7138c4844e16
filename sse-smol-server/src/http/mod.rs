//! HTTP/1: parsing of request heads, encoding of response heads, framing. Independent of streams
//! and sockets.

mod authority;
mod target;

use std::io::Write as _;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{StatusCode, Version};

pub use self::authority::Authority;
use self::target::{check_host, check_target, refuse_version};
use crate::frame::{Frame, Framing};

/// The maximum number of header fields in a request, far more than clients send.
const MAX_HEADERS: usize = 100;

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
    const TOO_MANY_HEADERS: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        why: "The request has more than 100 header fields.",
    };
    const UNSUPPORTED_VERSION: Self = Self {
        status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        why: "This server supports HTTP/1.1 and HTTP/1.0.",
    };
    const EXPECTATION_FAILED: Self = Self {
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
            status => text(status, self.why),
        }
    }
}

/// A response other than an event stream: status, headers and a body in memory.
///
/// `Content-Length`, `Date` and `Connection` are added when it is sent.
pub type Response = http::Response<Vec<u8>>;

/// Creates a plain text response that consists of the status and a line of text.
///
/// ```
/// use http::StatusCode;
///
/// let response = sse_smol_server::text(StatusCode::NOT_FOUND, "No such page.");
/// assert_eq!(response.body(), b"404 Not Found\n\nNo such page.\n");
/// ```
pub fn text(status: StatusCode, line: &str) -> Response {
    let mut response = Response::new(format!("{status}\n\n{line}\n").into_bytes());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// A request head, and the length of the body that follows it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) parts: Parts,
    pub(crate) body: Body,
}

/// The length of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
}

impl Head {
    pub(crate) fn has_body(&self) -> bool {
        self.body != Body::Length(0)
    }

    /// Returns the host and port that the request is for. An absolute request target takes
    /// precedence over the `Host` header.
    pub(crate) fn authority(&self) -> Option<Authority<'_>> {
        let Parts { uri, headers, .. } = &self.parts;
        let text = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => headers.get(header::HOST)?.to_str().ok()?,
        };
        Authority::parse(text)
    }

    /// Returns whether the client may send another request on the same connection.
    pub(crate) fn keeps_connection(&self) -> bool {
        let connection = self.parts.headers.get_all(header::CONNECTION).iter();
        let mut options = connection.filter_map(|value| value.to_str().ok());
        self.parts.version == Version::HTTP_11
            && !options.any(|value| value.to_ascii_lowercase().contains("close"))
    }
}

/// Creates a 503 response with a random `Retry-After`, so that clients do not all retry at once.
pub(crate) fn busy(line: &str) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, line);
    let seconds = HeaderValue::from(fastrand::u64(2..=10));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// Parses a request head. Returns the head and its length in bytes, or `None` while it is
/// incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(len)) => len,
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TOO_MANY_HEADERS),
        Err(httparse::Error::Version) => return refuse_version(bytes).map(|()| None),
        Err(_) => return Err(Refusal::bad("The request head is not valid HTTP.")),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Ok(None);
    };
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = http::Request::builder().method(method).uri(target).version(version);
    for field in parsed.headers.iter() {
        request = request.header(field.name, field.value);
    }
    let Ok(request) = request.body(()) else {
        return Err(Refusal::bad("The request line or a header has an invalid value."));
    };
    let (parts, ()) = request.into_parts();
    check_target(target, &parts.method, &parts.uri)?;
    check_host(version, &parts.headers)?;
    if expectations(&parts.headers).any(|one| !one.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::EXPECTATION_FAILED);
    }
    let body = body_length(&parts.headers)?;
    if body == Body::Chunked && version == Version::HTTP_10 {
        return Err(Refusal::bad("A request of HTTP/1.0 has a chunked body."));
    }
    Ok(Some((Head { parts, body }, len)))
}

/// Returns whether a line, without its line end, is one header field by the grammar of request
/// heads.
pub(crate) fn is_header_line(line: &[u8]) -> bool {
    let lines = [line, b"\r\n\r\n"].concat();
    let mut headers = [httparse::EMPTY_HEADER; 1];
    let parsed = httparse::parse_headers(&lines, &mut headers);
    matches!(parsed, Ok(httparse::Status::Complete((len, [_]))) if len == lines.len())
}

/// Returns the members of all `Expect` headers.
fn expectations(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(header::EXPECT).iter();
    let members = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Returns whether the client waits for `100 Continue` before it sends the body. [`parse`] refuses
/// heads with any other expectation.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    expectations(headers).next().is_some()
}

/// Returns the length of the request's body. Refuses any head that two parsers could interpret
/// differently, which would allow request smuggling.
fn body_length(headers: &HeaderMap) -> Result<Body, Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next(), lengths.next(), codings.next()) {
        (None, None, ..) => Ok(Body::Length(0)),
        (Some(length), None, None, _) => length
            .to_str()
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Body::Length)
            .ok_or(Refusal::bad("Content-Length is not a number of bytes.")),
        (None, Some(coding), _, None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        _ => Err(Refusal::bad("A body needs one Content-Length, or chunked as its only coding.")),
    }
}

/// Returns whether the request's `Accept` allows an event stream. An absent or empty one does.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut any = false;
    let mut best: Option<(u8, bool)> = None;
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_range = parts.next().unwrap_or_default().to_ascii_lowercase();
        any |= !media_range.is_empty();
        // The most specific range decides, independent of the order.
        let rank = match media_range.as_str() {
            "text/event-stream" => 2,
            "text/*" => 1,
            "*/*" => 0,
            _ => continue,
        };
        let wanted = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .is_none_or(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|q| q > 0.0));
        if best.is_none_or(|(other, _)| rank >= other) {
            best = Some((rank, wanted));
        }
    }
    !any || best.is_some_and(|(_, wanted)| wanted)
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
    head(StatusCode::OK, all, true)
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
    if may_have_body(parts.status) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(header::CONTENT_LENGTH);
    }
    head(parts.status, headers, close)
}

fn head(status: StatusCode, mut headers: HeaderMap, close: bool) -> Vec<u8> {
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // Enough for most heads together with their body, so that it is allocated once.
    let mut bytes = Vec::with_capacity(512);
    let reason = status.canonical_reason().unwrap_or_default();
    let date = httpdate::fmt_http_date(SystemTime::now());
    write!(bytes, "HTTP/1.1 {} {reason}\r\nDate: {date}\r\n", status.as_u16())
        .expect("writing to a Vec does not fail");
    for (name, value) in &headers {
        bytes.extend(title_case(name));
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        accepts_event_stream(&headers)
    }

    #[test]
    fn accept_is_refused_only_if_it_excludes_event_streams() {
        for yes in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/*"],
            &["text/event-stream"],
            &["TEXT/Event-Stream; q=0.1"],
            &["text/html, application/xhtml+xml, */*;q=0.8"],
            &["application/json", "text/event-stream"],
            &["text/*;q=0, text/event-stream"],
            &["text/event-stream, */*;q=0"],
        ] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [
            &["application/json"][..],
            &["text/html"],
            &["text/event-stream;q=0"],
            &["*/*, text/event-stream; q=0.000"],
            &["text/*;q=0, */*"],
            &["text/event-streams"],
        ] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    fn status(head: &str) -> u16 {
        parse(head.as_bytes()).unwrap_err().status.as_u16()
    }

    #[test]
    fn invalid_heads_are_refused() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "no host");
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
        assert_eq!(status("\x16\x03\x01"), 400, "TLS");
        let fields = |count: usize| {
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(count - 1))
        };
        assert!(parse(fields(100).as_bytes()).unwrap().is_some());
        assert_eq!(parse(fields(101).as_bytes()).unwrap_err(), Refusal::TOO_MANY_HEADERS);
        assert!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
        assert!(parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn the_only_expectation_is_100_continue() {
        let head = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let expects = |headers: &str| {
            let head = head(headers);
            expects_continue(&parse(head.as_bytes()).unwrap().unwrap().0.parts.headers)
        };
        assert!(!expects("") && !expects("Expect:\r\n") && !expects("Expect: ,\r\n"));
        assert!(expects("Expect: 100-Continue\r\n") && expects("Expect: , 100-continue\r\n"));
        for other in
            ["200-ok", "100-continue, x", "100-continue\r\nExpect: x", "100-continue=1", "\u{e9}"]
        {
            assert_eq!(status(&head(&format!("Expect: {other}\r\n"))), 417, "{other}");
        }
    }

    #[test]
    fn a_head_with_an_ambiguous_body_length_is_refused() {
        let body = |headers: &str| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            parse(head.as_bytes())
                .map(|parsed| parsed.unwrap().0.body)
                .map_err(|error| error.status)
        };
        assert_eq!(body(""), Ok(Body::Length(0)));
        assert_eq!(body("Content-Length: 12\r\n"), Ok(Body::Length(12)));
        assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunked));
        for ambiguous in [
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(body(ambiguous), Err(StatusCode::BAD_REQUEST), "{ambiguous}");
        }
    }
}
