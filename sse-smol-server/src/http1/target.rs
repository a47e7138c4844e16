//! Checks of the request line and the `Host` header, by RFC 9112, sections 2.3 and 3.2.

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{Method, Uri, Version};

use super::authority::Authority;
use super::refusal::Refusal;

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
