//! Checks of the request line and the `Host` header, by RFC 9112, sections 2.3 and 3.2.

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{Method, Uri, Version};

use super::Refusal;
use crate::Authority;

/// Refuses a request line whose version is neither HTTP/1.1 nor HTTP/1.0. Returns `Ok` while the
/// rest of the version may still arrive.
pub(super) fn refuse_version(bytes: &[u8]) -> Result<(), Refusal> {
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let form = b"HTTP/d.d";
    let fits = version.len() <= form.len()
        && version.iter().zip(form).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            form => byte == form,
        });
    match (fits, end) {
        (true, None) => Ok(()),
        (true, Some(_)) if version.len() == form.len() => Err(Refusal::UNSUPPORTED_VERSION),
        _ => Err(Refusal::bad("The request line does not end with an HTTP version.")),
    }
}

/// Checks that a request target is a path, `*` for `OPTIONS`, or an absolute `http` URL.
pub(super) fn check_target(target: &str, method: &Method, uri: &Uri) -> Result<(), Refusal> {
    // Checked in the text, since `Uri` drops a fragment.
    if target.contains('#') {
        return Err(Refusal::bad("The request target has a fragment."));
    }
    if target.starts_with('/') {
        return Ok(());
    }
    if target == "*" {
        let why = "The request target * is only allowed for OPTIONS.";
        return if method == Method::OPTIONS { Ok(()) } else { Err(Refusal::bad(why)) };
    }
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP => {
            let why = "The request target has no valid host, or has user information.";
            Authority::parse(authority.as_str()).map(drop).ok_or(Refusal::bad(why))
        }
        (Some(_), _) => Err(Refusal::bad("The scheme of the request target is not http.")),
        (None, _) => Err(Refusal::bad("The request target is neither a path nor an http URL.")),
    }
}

/// Checks that there is one `Host` header (HTTP/1.0: at most one), and that it is empty or a host
/// with an optional port. RFC 9112, section 3.2, requires 400 otherwise.
pub(super) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (Some(host), None) => host
            .to_str()
            .ok()
            .filter(|host| host.is_empty() || Authority::parse(host).is_some())
            .map(drop)
            .ok_or(Refusal::bad("The Host header is not a host with an optional port.")),
        _ => Err(Refusal::bad("A request needs exactly one Host header.")),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use crate::http::parse;

    fn status(head: &str) -> u16 {
        parse(head.as_bytes()).unwrap_err().status.as_u16()
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
