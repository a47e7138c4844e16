//! Hosts with optional ports: `uri-host [ ":" port ]` of RFC 9110, section 7.2.

use std::net::Ipv6Addr;

/// A host and an optional port, as in a `Host` header or in an absolute request target.
///
/// ```
/// use sse_smol_server::Authority;
///
/// let authority = Authority::parse("[::1]:8080").unwrap();
/// assert_eq!((authority.host(), authority.port()), ("::1", Some(8080)));
/// assert_eq!(Authority::parse("user@example.org"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses a host with an optional port. Returns `None` if the host is empty or has an invalid
    /// character, if the brackets do not contain an IPv6 address without a zone, if the port is not
    /// a number up to 65535, or if there is user information. An empty port counts as none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { rest } else { rest.strip_prefix(':')? };
            (host, port)
        } else {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (host, Some(port).filter(|_| is_reg_name(host))?)
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
        Some(Self { host, port })
    }

    /// Returns the host name or address as it was sent, an IPv6 address without its brackets.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the port, if any.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Returns whether this is a `reg-name` of RFC 3986, which includes IPv4 addresses, and not empty.
fn is_reg_name(host: &str) -> bool {
    let mut rest = host.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (byte, after) if is_plain(*byte) => after,
            _ => return false,
        };
    }
    !host.is_empty()
}

/// Returns whether a byte is `unreserved` or one of the `sub-delims` of RFC 3986.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(byte, b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports_are_parsed() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("LOCALHOST.", "LOCALHOST.", None),
            ("example.org:80", "example.org", Some(80)),
            ("example.org:", "example.org", None),
            ("example.org:00080", "example.org", Some(80)),
            ("a_b.example:65535", "a_b.example", Some(65535)),
            ("a%2fb", "a%2fb", None),
            ("127.0.0.1:0", "127.0.0.1", Some(0)),
            ("[::1]", "::1", None),
            ("[::1]:", "::1", None),
            ("[2001:DB8::1]:443", "2001:DB8::1", Some(443)),
            ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", Some(1)),
        ] {
            let parsed = Authority::parse(text).map(|parsed| (parsed.host(), parsed.port()));
            assert_eq!(parsed, Some((host, port)), "{text}");
        }
    }

    #[test]
    fn other_text_is_rejected() {
        for text in [
            "",
            ":80",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:99999",
            "a:+1",
            "a:-1",
            "a: 1",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "user:password@a",
            "a\\b",
            "a%2",
            "a%zz",
            "\u{e9}",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[::1]80",
            "[::1]:x",
            "[::1]:65536",
            "[127.0.0.1]",
            "[localhost]",
            "[[[localhost]]]",
            "[[::1]]",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "a\tb",
            "http://a",
            "<a>",
            "a|b",
            "a^b",
            "\"a\"",
            "{a}",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }
}
