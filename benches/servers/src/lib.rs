//! Compares sse-smol-server with other servers and with a floor, which does only what every server
//! has to do.
//!
//! This library is shared by the programs: messages and sockets.

pub mod message;
pub mod net;

/// Returns the value of `Content-Length`, or 0 if it is absent or invalid.
pub fn content_length(headers: &[httparse::Header<'_>]) -> usize {
    let length = headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok()).unwrap_or(0)
}
