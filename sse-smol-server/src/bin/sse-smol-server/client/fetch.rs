//! Requests over HTTP/1.1, with redirects (Fetch, "HTTP-redirect fetch").

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    TRANSFER_ENCODING,
};
use http::{Method, Response, StatusCode};
use httparse::{ParserConfig, Status};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::Result;
use super::socket::Socket;
use super::url::Url;

/// A request. Redirects change it.
pub(crate) struct Request {
    url: Url,
    method: Method,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
}

/// The connection, and the bytes that have arrived on it after the head.
pub(crate) type Incoming = (Socket, Vec<u8>);

/// The maximum number of redirects, the same as in Fetch.
const MAX_REDIRECTS: usize = 20;

/// The maximum size in bytes of a response's head, together with those of interim responses.
const MAX_HEAD: usize = 64 << 10;

/// The maximum number of headers in a response.
const MAX_HEADERS: usize = 128;

/// Sends the request, follows redirects, and returns the final response.
pub(crate) async fn fetch(request: &mut Request) -> Result<Response<Incoming>> {
    for _ in 0..MAX_REDIRECTS {
        let response = exchange(request).await?;
        let Some(location) = location(&response)? else {
            return Ok(response);
        };
        request.redirect(response.status(), &location)?;
    }
    let response = exchange(request).await?;
    match location(&response)? {
        Some(_) => Err("too many redirects".into()),
        None => Ok(response),
    }
}

/// Returns the target of a redirect, or `None` for other responses, including redirects without a
/// target.
fn location(response: &Response<Incoming>) -> Result<Option<String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let mut locations = response.headers().get_all(LOCATION).iter();
    let first = locations.next().filter(|location| !location.is_empty());
    if locations.any(|other| Some(other) != first) {
        return Err("the redirect leads to several places".into());
    }
    Ok(first.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned()))
}

impl Request {
    pub(crate) const fn new(url: Url, method: Method, headers: HeaderMap, body: Vec<u8>) -> Self {
        Self { url, method, headers, body }
    }

    /// Sends the request on a connection, and returns the response.
    pub(crate) async fn send(&self, mut socket: Socket) -> Result<Response<Incoming>> {
        let sent = socket.write_all(&self.encode()).await;
        // A server may respond and close the connection before it has read the whole request. Its
        // response counts.
        let (head, wire) =
            read_head(&mut socket).await.map_err(|error| sent.err().map_or(error, Into::into))?;
        Ok(head.map(|()| (socket, wire)))
    }

    /// Changes the request as a redirect with this status and target requires.
    fn redirect(&mut self, status: StatusCode, location: &str) -> Result<()> {
        let target = self.url.join(location)?;
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body.clear();
            for name in [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE] {
                self.headers.remove(name);
            }
        }
        if target.server != self.url.server {
            // Credentials must not be sent to another origin.
            self.headers.remove(AUTHORIZATION);
            self.headers.remove(COOKIE);
        }
        self.url = target;
        Ok(())
    }

    /// Returns the request in its wire form.
    fn encode(&self) -> Vec<u8> {
        let (target, host) = (self.url.target(), &self.url.server);
        let line = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n", self.method);
        let mut wire = line.into_bytes();
        // Callers do not control the headers that describe the connection and the body.
        let mut headers = self.headers.clone();
        for name in [HOST, TRANSFER_ENCODING, CONTENT_LENGTH] {
            headers.remove(name);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if !self.body.is_empty() || matches!(self.method, Method::POST | Method::PUT) {
            headers.insert(CONTENT_LENGTH, self.body.len().into());
        }
        for (name, value) in &headers {
            wire.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        wire.extend(b"\r\n");
        wire.extend(&self.body);
        wire
    }
}

/// Connects, sends the request and returns its response.
async fn exchange(request: &Request) -> Result<Response<Incoming>> {
    request.send(Socket::connect(&request.url.server).await?).await
}

/// Reads the head of a response. Returns it with the bytes that have arrived after it.
async fn read_head(socket: &mut Socket) -> Result<(Response<()>, Vec<u8>)> {
    let mut wire = Vec::new();
    let mut buffer = [0; 4096];
    let mut room = MAX_HEAD;
    loop {
        while let Some((head, len)) = parse_head(&wire)? {
            wire.drain(..len);
            // Interim responses are skipped, except 101, which is final: no upgrade was requested.
            let status = head.status();
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((head, wire));
            }
        }
        loop {
            let count = socket.read(&mut buffer).await?;
            if count == 0 {
                return Err("the connection ended before the response".into());
            }
            room = room.checked_sub(count).ok_or("the head of the response is too large")?;
            wire.extend_from_slice(&buffer[..count]);
            // A head ends with a line, so it is not parsed again before the next line end: it may
            // arrive byte by byte.
            if buffer[..count].contains(&b'\n') {
                break;
            }
        }
    }
}

/// Parses a head and returns it with its length, or `None` if it is incomplete. Invalid header
/// lines are ignored.
fn parse_head(wire: &[u8]) -> Result<Option<(Response<()>, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut fields);
    let status = ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .parse_response(&mut parsed, wire)?;
    let Status::Complete(len) = status else {
        return Ok(None);
    };
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(parsed.code.unwrap_or(0))?;
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes())?;
        head.headers_mut().append(name, HeaderValue::from_bytes(field.value)?);
    }
    Ok(Some((head, len)))
}
