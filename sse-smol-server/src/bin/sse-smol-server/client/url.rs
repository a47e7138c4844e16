//! The URLs of event streams: over TCP, or through a Unix socket.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sse_smol_server::Authority;

/// A URL without its fragment: `http://HOST:PORT/PATH?QUERY` or `unix:SOCKET:/PATH?QUERY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) server: Endpoint,
    /// The path and the query, as they are sent in the request line.
    target: String,
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A host, with an IPv6 address without its brackets, and a port.
    Tcp { host: String, port: u16 },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The port of a URL that has none.
const DEFAULT_PORT: u16 = 80;

/// The characters that a query cannot contain as they are. An escape that is present stays.
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The characters that a path cannot contain as they are.
const IN_PATH: &AsciiSet = &IN_QUERY.add(b'`').add(b'{').add(b'}');

/// The characters that the value of a query parameter cannot contain as they are.
const IN_PARAMETER: &AsciiSet = &IN_QUERY.add(b'#').add(b'%').add(b'&').add(b'+').add(b'=');

impl Url {
    /// Parses an absolute URL.
    ///
    /// # Errors
    ///
    /// A description of what is wrong or not supported, with the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return match rest.split_once(":/") {
                Some((path, target)) if !path.is_empty() => Ok(Self {
                    server: Endpoint::Unix(path.into()),
                    target: normalized(&format!("/{}", without_fragment(target))),
                }),
                _ => Err(format!(
                    "{text} lacks the socket or the path: the form is unix:SOCKET:/PATH"
                )),
            };
        }
        match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                let rest = without_fragment(rest);
                let (authority, target) =
                    rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let server = endpoint(authority).map_err(|why| format!("{text}: {why}"))?;
                let slash = if target.starts_with('/') { "" } else { "/" };
                Ok(Self { server, target: normalized(&format!("{slash}{target}")) })
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => Err(format!(
                "{text} is not http, and there is no TLS here: use `curl -N`, or a proxy on this \
                 machine that adds TLS"
            )),
            Some(_) => Err(format!("{text} is not http, the only scheme that is supported")),
            None => Err(format!("{text} is no URL: it does not begin with http:// or unix:")),
        }
    }

    /// Returns the URL that a reference in a response of this URL means. Unlike [`parse`], this
    /// accepts no Unix socket, since a server must not choose files of its clients.
    ///
    /// [`parse`]: Self::parse
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub(crate) fn join(&self, reference: &str) -> Result<Self, String> {
        let reference = without_fragment(reference);
        if let Some(scheme) = scheme(reference) {
            if scheme.eq_ignore_ascii_case("unix") {
                return Err(format!("{reference} is not http, the only scheme that is supported"));
            }
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("http:{reference}"));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match reference.chars().next() {
            None => self.target.clone(),
            Some('/') => normalized(reference),
            Some('?') => normalized(&format!("{path}{reference}")),
            Some(_) => {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                normalized(&format!("{directory}/{reference}"))
            }
        };
        Ok(Self { server: self.server.clone(), target })
    }

    /// Adds a parameter to the query.
    pub(crate) fn add_parameter(&mut self, name: &str, value: &str) {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let value = utf8_percent_encode(value, IN_PARAMETER);
        self.target = format!("{}{separator}{name}={value}", self.target);
    }

    /// Returns the path and the query, as they are sent in the request line.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Endpoint::Tcp { .. } => write!(f, "http://{}{}", self.server, self.target),
            Endpoint::Unix(path) => write!(f, "unix:{}:{}", path.display(), self.target),
        }
    }
}

impl fmt::Display for Endpoint {
    /// Writes the value of the `Host` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tcp { host, port } = self else {
            // As curl does; the path is of no use to the server.
            return f.write_str("localhost");
        };
        if host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            f.write_str(host)?;
        }
        if *port == DEFAULT_PORT { Ok(()) } else { write!(f, ":{port}") }
    }
}

fn without_fragment(text: &str) -> &str {
    text.split('#').next().unwrap_or_default()
}

/// Returns the scheme of a reference, if it has one.
fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(is_part))
        .then_some(scheme)
}

/// Parses the host and the port of a URL.
fn endpoint(authority: &str) -> Result<Endpoint, &'static str> {
    if authority.is_empty() {
        return Err("empty host");
    }
    if authority.contains('@') {
        return Err("credentials in a URL are not supported: send a header Authorization");
    }
    if !authority.is_ascii() {
        return Err("the host is not ASCII: write it in Punycode");
    }
    let parsed = Authority::parse(authority).ok_or("the host or the port is invalid")?;
    let port = parsed.port().unwrap_or(DEFAULT_PORT);
    Ok(Endpoint::Tcp { host: parsed.host().to_ascii_lowercase(), port })
}

/// Returns a path and a query without dot segments, and with all characters escaped that a request
/// line cannot contain.
fn normalized(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut segments = Vec::new();
    let mut all = path.split('/').skip(1).peekable();
    while let Some(segment) = all.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                // The path of a directory ends with a slash.
                if all.peek().is_none() {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    let path = segments.join("/");
    let (path, query) = (utf8_percent_encode(&path, IN_PATH), utf8_percent_encode(query, IN_QUERY));
    format!("/{path}{query}")
}
