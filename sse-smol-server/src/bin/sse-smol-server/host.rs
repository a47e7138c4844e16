//! Hosts and web origins, as given in flags and in requests.

use std::net::IpAddr;

use sse_smol_server::Authority;

/// A host, normalized for comparison: an address by value, a name in lower case and without the
/// trailing dot of the DNS root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    pub(crate) fn new(host: &str) -> Self {
        let host = host.strip_suffix('.').unwrap_or(host);
        match host.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(host.to_ascii_lowercase()),
        }
    }

    /// Returns whether this is the local machine: a loopback address, `localhost`, or a name below
    /// `localhost`.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    pub(crate) const fn is_address(&self) -> bool {
        matches!(self, Self::Address(_))
    }
}

/// The origin of a web page. Without a port, it has the default port of its scheme (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: Host,
    port: Option<u16>,
}

impl Origin {
    /// Parses an `Origin` header. Returns `None` for `null` and for anything that is not an origin.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme))?;
        let authority = Authority::parse(authority)?;
        Some(Self::new(scheme, Host::new(authority.host()), authority.port()))
    }

    fn new(scheme: &str, host: Host, port: Option<u16>) -> Self {
        let scheme = scheme.to_ascii_lowercase();
        let port = port.or(match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        });
        Self { scheme, host, port }
    }

    /// Returns whether a page of this origin was served by the server that received a request for
    /// `authority`.
    ///
    /// The server itself only supports http. An https page is one of its own pages if a proxy
    /// served it on the default port and the request is for that port, too. Pages on other ports
    /// belong to other servers.
    pub(crate) fn is_of(&self, authority: Authority<'_>) -> bool {
        let same_port = match self.scheme.as_str() {
            "http" => self.port == Some(authority.port().unwrap_or(80)),
            "https" => self.port == Some(443) && matches!(authority.port(), None | Some(443)),
            _ => false,
        };
        same_port && self.host == Host::new(authority.host())
    }
}

/// A value of `--allow-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowedOrigin {
    Any,
    Only(Origin),
}

/// Schemes that no origin has: the pages of some have the origin `null`, and the others have no
/// pages.
const NO_ORIGIN: [&str; 9] =
    ["about", "blob", "data", "file", "ftp", "javascript", "view-source", "ws", "wss"];

/// Parses a value of `--allow-origin`. Rejects origins that no browser sends, which would never
/// match.
pub(crate) fn allowed_origin(text: &str) -> Result<AllowedOrigin, String> {
    if text == "*" {
        return Ok(AllowedOrigin::Any);
    }
    if text.eq_ignore_ascii_case("null") {
        return Err(
            "all sandboxed and local pages send the origin null, so it cannot be allowed".into()
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("an origin has a scheme and a host, such as https://app.example".into());
    };
    if !is_scheme(scheme) || NO_ORIGIN.iter().any(|no| scheme.eq_ignore_ascii_case(no)) {
        return Err(format!("no page has an origin with the scheme {scheme:?}: use http or https"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(
            "an origin has no path, query or fragment: end it after the host or port".into()
        );
    }
    let (host, port) = host_and_port(authority)?;
    if port == Some(0) {
        return Err("no page is served from port 0".into());
    }
    Ok(AllowedOrigin::Only(Origin::new(scheme, host, port)))
}

/// Parses a value of `--allow-host`. Rejects hosts that no browser sends, which would never match.
pub(crate) fn allowed_host(text: &str) -> Result<Host, String> {
    if text.contains(['/', '?', '#']) {
        return Err("give the host name alone, not a URL or a path".into());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        // An IPv6 address without brackets.
        return Ok(Host::Address(address.to_canonical()));
    }
    match host_and_port(text)? {
        (host, None | Some(80 | 443)) => Ok(host),
        (_, Some(port)) => {
            Err(format!("a host is allowed on every port: leave out the port {port}"))
        }
    }
}

/// Parses a host with an optional port, in the form that browsers send.
fn host_and_port(text: &str) -> Result<(Host, Option<u16>), String> {
    if text.is_empty() {
        return Err("the host is empty".into());
    }
    if text.contains('@') {
        return Err("user information is not part of a host".into());
    }
    if text.contains('*') {
        return Err("patterns of hosts are not supported: repeat the flag for each host".into());
    }
    if !text.is_ascii() {
        return Err("browsers send host names in ASCII: give the Punycode form (xn--...)".into());
    }
    let Some(authority) = Authority::parse(text) else {
        return Err("expected a host name, IPv4 address or IPv6 address in brackets, with an \
                    optional port up to 65535"
            .into());
    };
    let host = Host::new(authority.host());
    if let Host::Name(name) = &host {
        let odd = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
        if let Some(odd) = name.chars().find(|c| odd(*c)) {
            return Err(format!("a host name cannot contain {odd:?}"));
        }
        if name.split('.').any(str::is_empty) {
            return Err("a part of the host name between dots is empty".into());
        }
        let is_no_label =
            |label: &str| label.len() > 63 || label.starts_with('-') || label.ends_with('-');
        if let Some(label) = name.split('.').find(|label| is_no_label(label)) {
            return Err(format!(
                "{label:?} is not a part of a host name: it has at most 63 characters, and no hyphen \
                 at either end"
            ));
        }
        // Browsers interpret such a name as an address, and send that address.
        let last = name.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("write an IPv4 address as four decimal numbers".into());
        }
    }
    Ok((host, authority.port()))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_hosts_are_equal() {
        for (one, other) in [
            ("Example.ORG", "example.org"),
            ("localhost.", "localhost"),
            ("127.0.0.1.", "127.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
        ] {
            assert_eq!(Host::new(one), Host::new(other));
        }
        for (one, other) in [("a.example", "b.example"), ("a..", "a"), ("127.1", "127.0.0.1")] {
            assert_ne!(Host::new(one), Host::new(other));
        }
        for local in ["localhost", "LocalHost.", "a.localhost", "127.0.0.2", "::1"] {
            assert!(Host::new(local).is_local(), "{local}");
        }
        for other in ["localhost.example", "notlocalhost", "10.0.0.1", "127.0.0.1.example", "::"] {
            assert!(!Host::new(other).is_local(), "{other}");
        }
    }

    #[test]
    fn a_page_is_of_the_server_if_scheme_host_and_port_match() {
        for (origin, host, same) in [
            ("http://h", "h", true),
            ("http://H.:80", "h", true),
            ("http://h", "H.:80", true),
            ("http://h:8080", "h:8080", true),
            ("http://h:443", "h:443", true),
            ("http://[::1]:1", "[0:0::1]:1", true),
            ("https://h", "h", true),
            ("https://h", "h:443", true),
            ("https://h:443", "h", true),
            ("http://h:8080", "h", false),
            ("http://h", "h:8080", false),
            ("http://h", "h:443", false),
            ("https://h:8080", "h:8080", false),
            ("https://h:8443", "h", false),
            ("https://h", "h:80", false),
            ("http://other", "h", false),
            ("ftp://h", "h", false),
        ] {
            let (origin, authority) = (Origin::parse(origin), Authority::parse(host).unwrap());
            assert_eq!(origin.clone().unwrap().is_of(authority), same, "{origin:?} for {host}");
        }
        for none in ["", "null", "h", "http://", "http://a http://b", "http://a/", "://h", "1://h"]
        {
            assert_eq!(Origin::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn origins_that_can_match_are_normalized() {
        for (flag, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://app.example/", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("https://app.example:443/", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:", "https://app.example"),
            ("https://app.example.", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://10.0.0.1", "http://10.0.0.1"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            let sent = Origin::parse(sent).unwrap();
            assert_eq!(allowed_origin(flag), Ok(AllowedOrigin::Only(sent)), "{flag}");
        }
        assert_eq!(allowed_origin("*"), Ok(AllowedOrigin::Any));
    }

    #[test]
    fn origins_that_cannot_match_are_refused_with_the_reason() {
        for (flag, reason) in [
            ("about://blank", "no page has an origin"),
            ("view-source://x", "no page has an origin"),
            ("https://app.example:0", "port 0"),
            ("https://-.-", "hyphen"),
            ("", "scheme"),
            (" ", "scheme"),
            ("app.example", "scheme"),
            ("app.example:443", "scheme"),
            ("//app.example", "scheme"),
            ("https:/app.example", "scheme"),
            ("://app.example", "scheme"),
            ("wss://app.example", "scheme"),
            ("null", "null"),
            ("https://", "empty"),
            ("file:///", "no page has an origin"),
            ("https://app.example//", "path"),
            ("https://app.example/x", "path"),
            ("https://app.example?x", "query"),
            ("https://app.example/#x", "fragment"),
            ("https://user@app.example", "user information"),
            ("https://user:password@app.example", "user information"),
            ("https://*.example.org", "patterns"),
            ("https://*", "patterns"),
            ("https://b\u{fc}cher.example", "Punycode"),
            ("https://app.example:99999", "65535"),
            ("https://app.example:x", "65535"),
            ("https://app.example:-1", "65535"),
            ("https://a b.example", "host name"),
            (" https://app.example", "scheme"),
            ("https://app.example ", "host name"),
            ("https://::1", "brackets"),
            ("https://[app.example]", "brackets"),
            ("https://a.example,b.example", "','"),
            ("https://a%2eb", "'%'"),
            ("https://a..b", "between dots"),
            ("https://.example.org", "between dots"),
            ("http://127.1", "four decimal numbers"),
            ("http://2130706433", "four decimal numbers"),
            ("http://0x7f000001", "four decimal numbers"),
        ] {
            let error = allowed_origin(flag).unwrap_err();
            assert!(error.contains(reason), "{flag:?}: {error}");
        }
    }

    #[test]
    fn hosts_that_can_match_are_normalized() {
        for (flag, sent) in [
            ("example.org", "example.org"),
            ("Example.ORG.", "example.org"),
            ("example.org:80", "example.org"),
            ("example.org:443", "example.org"),
            ("my_host", "my_host"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:443", "::1"),
        ] {
            assert_eq!(allowed_host(flag), Ok(Host::new(sent)), "{flag}");
        }
    }

    #[test]
    fn hosts_that_cannot_match_are_refused_with_the_reason() {
        for (flag, reason) in [
            ("", "empty"),
            (" ", "host name"),
            ("example.org ", "host name"),
            ("a b", "host name"),
            ("example.org:8080", "leave out the port 8080"),
            ("[::1]:8080", "leave out the port 8080"),
            ("example.org:99999", "65535"),
            ("http://example.org", "URL"),
            ("example.org/", "URL"),
            ("*", "patterns"),
            ("*.example.org", "patterns"),
            (".example.org", "between dots"),
            ("a.example,b.example", "','"),
            ("user@example.org", "user information"),
            ("b\u{fc}cher.example", "Punycode"),
            ("fe80::1%eth0", "brackets"),
            ("127.1", "four decimal numbers"),
        ] {
            let error = allowed_host(flag).unwrap_err();
            assert!(error.contains(reason), "{flag:?}: {error}");
        }
    }
}
