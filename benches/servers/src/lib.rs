//! sse-smol-server beside other servers, and beside a floor that does what cannot be left out.
//!
//! What the programs here share: the messages that are sent about, and sockets.

pub mod message;
pub mod net;

/// What a head says of the length of the body after it; nothing means that there is none.
pub fn content_length(headers: &[httparse::Header<'_>]) -> usize {
    let length = headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok()).unwrap_or(0)
}
