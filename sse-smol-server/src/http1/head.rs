//! Request heads: parsing, and the length of the body that follows.

use std::mem::MaybeUninit;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use super::authority::Authority;
use super::list::list_members;
use super::refusal::Refusal;
use super::target::{check_host, check_target, refuse_version};

/// The maximum number of header fields in a request, far more than clients send.
const MAX_HEADERS: usize = 100;

/// A request head, and the length of the body that follows it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) parts: Parts,
    pub(crate) body: Body,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether the client may send another request on the same connection.
    pub(crate) keeps_connection: bool,
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
}

/// Parses a request head. Returns the head and its length in bytes, or `None` while it is
/// incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(bytes, &mut headers) {
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
    let Some(mut parts) = parts(method, target, parsed.headers) else {
        return Err(Refusal::bad("The request line or a header has an invalid value."));
    };
    parts.version = version;
    check_target(target, &parts.method, &parts.uri)?;
    check_host(version, &parts.headers)?;
    let expects_continue = expects_continue(&parts.headers)?;
    let body = body_length(&parts.headers)?;
    if body == Body::Chunked && version == Version::HTTP_10 {
        return Err(Refusal::bad("A request of HTTP/1.0 has a chunked body."));
    }
    let keeps_connection = keeps_connection(&parts);
    Ok(Some((Head { parts, body, expects_continue, keeps_connection }, len)))
}

/// Converts the parts of a head, or returns `None` if one of them is invalid.
fn parts(method: &str, target: &str, fields: &[httparse::Header<'_>]) -> Option<Parts> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).ok()?;
    parts.uri = target.parse().ok()?;
    parts.headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(field.value).ok()?;
        parts.headers.append(name, value);
    }
    Some(parts)
}

/// Returns whether a line, without its line end, is one header field by the grammar of request
/// heads.
pub(crate) fn is_header_line(line: &[u8]) -> bool {
    let lines = [line, b"\r\n\r\n"].concat();
    let mut headers = [httparse::EMPTY_HEADER; 1];
    let parsed = httparse::parse_headers(&lines, &mut headers);
    matches!(parsed, Ok(httparse::Status::Complete((len, [_]))) if len == lines.len())
}

/// Returns whether the client waits for `100 Continue`. Refuses any other expectation.
fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut expectations = list_members(headers.get_all(header::EXPECT)).peekable();
    let has_any = expectations.peek().is_some();
    if expectations.all(|one| one.eq_ignore_ascii_case(b"100-continue")) {
        Ok(has_any)
    } else {
        Err(Refusal::EXPECTATION_FAILED)
    }
}

/// Returns whether the client may send another request on the same connection.
fn keeps_connection(parts: &Parts) -> bool {
    let connection = parts.headers.get_all(header::CONNECTION).iter();
    let mut options = connection.filter_map(|value| value.to_str().ok());
    parts.version == Version::HTTP_11
        && !options.any(|value| value.to_ascii_lowercase().contains("close"))
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

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

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
            parse(head.as_bytes()).unwrap().unwrap().0.expects_continue
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

    #[test]
    fn other_versions_than_http_1_0_and_1_1_are_refused() {
        for (version, expected) in [
            ("HTTP/1.2", 505),
            ("HTTP/1.9", 505),
            ("HTTP/2.0", 505),
            ("HTTP/3.0", 505),
            ("HTTP/0.9", 505),
            ("HTTP/2", 400),
            ("HTTP/1.10", 400),
            ("HTTP/2.0 ", 400),
            ("HTTP/x.y", 400),
            ("http/1.1", 400),
            ("HTTPS/1.1", 400),
            ("x", 400),
        ] {
            let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
            assert_eq!(status(&head), expected, "{version}");
            // A prefix of the line gives the same answer, or none yet.
            for cut in 0..head.find('\n').unwrap() {
                match parse(&head.as_bytes()[..cut]) {
                    Ok(head) => assert!(head.is_none()),
                    Err(refusal) => assert_eq!(refusal.status, expected, "{version} cut at {cut}"),
                }
            }
        }
    }

    #[test]
    fn targets_are_paths_or_http_urls() {
        let head = |line: &str, host: &str| {
            let bytes = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            parse(bytes.as_bytes()).map(|parsed| parsed.unwrap().0).map_err(|error| error.status)
        };
        for (line, path, query, authority) in [
            ("GET /b?c", "/b", Some("c"), Some(("h", Some(1)))),
            ("GET //a/b", "//a/b", None, Some(("h", Some(1)))),
            ("GET http://a/b?c", "/b", Some("c"), Some(("a", None))),
            ("GET HTTP://A:80/b", "/b", None, Some(("A", Some(80)))),
            ("GET http://a", "/", None, Some(("a", None))),
            ("GET http://a?c", "/", Some("c"), Some(("a", None))),
            ("GET http://[::1]:2/", "/", None, Some(("::1", Some(2)))),
            ("OPTIONS *", "*", None, Some(("h", Some(1)))),
        ] {
            let head = head(line, "h:1").unwrap();
            assert_eq!((head.parts.uri.path(), head.parts.uri.query()), (path, query), "{line}");
            let found = head.authority().map(|found| (found.host(), found.port()));
            assert_eq!(found, authority, "{line}");
        }
        assert_eq!(head("GET /", "").unwrap().authority(), None, "an empty host is legal");
        for line in [
            "GET nowhere",
            "GET *",
            "GET a:80",
            "CONNECT a:80",
            "GET https://a/",
            "GET ftp://a/",
            "GET foo://a/",
            "GET http:///b",
            "GET http://:80/",
            "GET http://user@a/",
            "GET http://user:password@a/",
            "GET http://a:99999/",
            "GET http://[a]/",
            "GET /b#c",
            "GET #c",
            "GET http://a/b#c",
        ] {
            assert_eq!(head(line, "a").unwrap_err(), StatusCode::BAD_REQUEST, "{line}");
        }
        // A target that names the host does not excuse a bad Host header.
        for host in ["[[[localhost]]]", "localhost:99999", "a b", "a@b", "a/b", "::1", "\u{e9}"] {
            assert_eq!(head("GET http://a/", host).unwrap_err(), StatusCode::BAD_REQUEST, "{host}");
            assert_eq!(head("GET /", host).unwrap_err(), StatusCode::BAD_REQUEST, "{host}");
        }
        assert_eq!(status("GET http://a/ HTTP/1.1\r\n\r\n"), 400, "no Host header");
        assert_eq!(status("GET / HTTP/1.0\r\nHost: a:b\r\n\r\n"), 400);
        let (head, _) = parse(b"GET http://a/ HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.authority().map(|found| found.host()), Some("a"));
        let request = b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let (_, len) = parse(request).unwrap().unwrap();
        assert_eq!(&request[len..], b"rest");
    }
}
