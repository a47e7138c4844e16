//! What a handler holds: a request, and the event stream that it opens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use sse_proto::{Comment, Event};

use crate::End;
use crate::head::{Framing, Response, accepts_event_stream, stream_head, text, whole};
use crate::wire::Wire;

/// A request, to be answered by an event stream or by a response.
#[derive(Debug)]
pub struct Request {
    head: Parts,
    peer: SocketAddr,
    keep_alive: Option<Duration>,
    wire: Arc<Wire>,
}

impl Request {
    pub(crate) const fn new(
        head: Parts,
        peer: SocketAddr,
        keep_alive: Option<Duration>,
        wire: Arc<Wire>,
    ) -> Self {
        Self { head, peer, keep_alive, wire }
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.head.method
    }

    /// The path of the request target, as it was sent.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The query of the request target, as it was sent, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// The headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The address the request came from.
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Answers with an event stream: writes the head and returns when the kernel has it.
    ///
    /// No byte of the body is needed to make it go. What comes after this line runs with the
    /// client connected (`EventSource` has fired `open`), on the same task. From here on, while
    /// the handler waits for whatever it waits for, keep-alive comments go out and the peer is
    /// watched; if it leaves, the handler is dropped where it stands.
    ///
    /// # Errors
    ///
    /// An [`End`] to be passed on. Requests that no event stream can answer have got their answer
    /// then: `HEAD` the head, other methods 405, an `Accept` that excludes event streams 406.
    pub async fn open(self) -> Result<EventStream, End> {
        self.open_with(&HeaderMap::new()).await
    }

    /// Like [`open`](Self::open), with further response headers; they replace those that the
    /// stream has by itself.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_with(self, headers: &HeaderMap) -> Result<EventStream, End> {
        if self.head.method != Method::GET && self.head.method != Method::HEAD {
            return Err(self.refuse(not_allowed("GET, HEAD")).await);
        }
        if !accepts_event_stream(&self.head.headers) {
            let why = "This is an event stream: accept text/event-stream.";
            return Err(self.refuse(text(StatusCode::NOT_ACCEPTABLE, why)).await);
        }
        let old = self.head.version == Version::HTTP_10;
        let framing = if old { Framing::Close } else { Framing::Chunked };
        let head = stream_head(framing, headers);
        if self.head.method == Method::HEAD {
            self.wire.answer(StatusCode::OK, &head);
            self.wire.flush().await?;
            return Err(End::Answered(StatusCode::OK));
        }
        let Self { wire, keep_alive, .. } = self;
        wire.begin(&head, framing, keep_alive);
        wire.flush().await?;
        Ok(EventStream { wire })
    }

    /// Answers with a response that is no event stream; with its head alone if that was asked for.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn respond(self, response: Response) -> Result<(), End> {
        self.wire.answer(response.status(), &whole(response, &self.head.method));
        self.wire.flush().await
    }

    async fn refuse(self, response: Response) -> End {
        let status = response.status();
        self.respond(response).await.err().unwrap_or(End::Answered(status))
    }
}

/// 405, with the methods that there are.
pub fn not_allowed(methods: &'static str) -> Response {
    let line = format!("Allowed here: {methods}.");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &line);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// An open event stream. The peer has the head.
///
/// It belongs to the task that runs the handler. When the handler returns `Ok`, the stream ends as
/// a whole (HTTP/1.1: with the last chunk).
#[derive(Debug)]
pub struct EventStream {
    wire: Arc<Wire>,
}

impl EventStream {
    /// Sends an event, and returns when the kernel has taken all of it: that is the backpressure.
    ///
    /// Dropping the future loses nothing and tears nothing: the event still goes out, before
    /// whatever is sent next.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn send(&mut self, event: Event<'_>) -> Result<(), End> {
        self.push(true, event.encoded_len(), |out| event.encode_to_vec(out)).await
    }

    /// Sends a comment, which receivers ignore. Keep-alive comments go out by themselves.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn comment(&mut self, comment: Comment<'_>) -> Result<(), End> {
        self.push(false, comment.encoded_len(), |out| comment.encode_to_vec(out)).await
    }

    async fn push(
        &mut self,
        event: bool,
        len: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), End> {
        if !self.wire.push(len, event, encode) {
            return Err(End::Finished);
        }
        self.wire.flush().await
    }
}
