//! What a handler holds: a request, and the event stream that it opens.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use smol::channel;
use smol::stream::{Stream, StreamExt as _};

use crate::head::{
    Body, Framing, Head, Response, accepts_event_stream, replace, stream_head, text, whole,
};
use crate::input::{NoInput, read_body};
use crate::peers::{Slot, StreamSlot};
use crate::server::Shared;
use crate::wire::Wire;
use crate::{End, Frame, Lagged, Subscription};

/// A request, to be answered by an event stream or by a response.
#[derive(Debug)]
pub struct Request {
    head: Parts,
    body: Body,
    keeps_connection: bool,
    response_headers: HeaderMap,
    wire: Arc<Wire>,
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Request {
    pub(crate) fn new(head: Head, wire: Arc<Wire>, slot: Arc<Slot>, shared: Arc<Shared>) -> Self {
        let keeps_connection = head.keeps_connection();
        let response_headers = HeaderMap::new();
        let Head { parts, body } = head;
        Self { head: parts, body, keeps_connection, response_headers, wire, slot, shared }
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

    /// Headers for the answer, whatever it will be; until then they can be set by whoever has the
    /// request, such as what wraps a handler. They replace those that an event stream or a response
    /// has by itself.
    ///
    /// ```
    /// # use http::HeaderValue;
    /// # use sse_smol_server::{End, EventStream, Request};
    /// async fn no_store(mut request: Request) -> Result<(), End> {
    ///     let value = HeaderValue::from_static("no-store");
    ///     request.response_headers_mut().insert("cache-control", value);
    ///     request.open().await.map(drop)
    /// }
    /// ```
    pub const fn response_headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.response_headers
    }

    /// The address the request came from.
    pub fn peer_addr(&self) -> SocketAddr {
        self.slot.peer
    }

    /// Reads the body, up to [`Config::max_body`](crate::Config::max_body). Empty if it was read
    /// before. What was begun cannot be begun again: if the future is dropped, so is the rest.
    ///
    /// # Errors
    ///
    /// An [`End`] to be passed on. A request whose body is too large, too slow or broken has got its
    /// answer then.
    pub async fn body(&mut self) -> Result<Vec<u8>, End> {
        if !self.wire.body_unread() {
            return Ok(Vec::new());
        }
        if !self.wire.begin_body() {
            return Err(End::Failed("the body was begun before, and dropped".into()));
        }
        let config = &self.shared.config;
        let too_large = matches!(self.body, Body::Length(len) if len > config.max_body as u64);
        let expects = self.head.headers.get(header::EXPECT).filter(|_| !too_large);
        if expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
            && self.head.version == Version::HTTP_11
            && !self.wire.has_input()
        {
            self.wire.push_raw(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
            self.wire.flush().await?;
        }
        match read_body(&self.wire, self.body, config.max_body, config.head_timeout).await {
            Ok(body) => Ok(body),
            Err(NoInput::Gone(end)) => Err(end),
            Err(NoInput::Refused(refusal)) => {
                self.answer(refusal.response()).await?;
                Err(End::Answered(refusal.status))
            }
        }
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
        if self.head.method != Method::GET && self.head.method != Method::HEAD {
            return Err(self.refuse(not_allowed("GET, HEAD")).await);
        }
        if !accepts_event_stream(&self.head.headers) {
            let why = "This is an event stream: accept text/event-stream.";
            return Err(self.refuse(text(StatusCode::NOT_ACCEPTABLE, why)).await);
        }
        let old = self.head.version == Version::HTTP_10;
        let framing = if old { Framing::Close } else { Framing::Chunked };
        let head = stream_head(framing, &self.response_headers);
        if self.head.method == Method::HEAD {
            self.wire.answer(StatusCode::OK, head);
            self.wire.make_last();
            self.wire.flush().await?;
            return Err(End::Answered(StatusCode::OK));
        }
        let Self { wire, slot, shared, .. } = self;
        shared.metrics.streams.inc();
        let slot = slot.open_stream();
        wire.begin_stream(head, framing, shared.config.keep_alive);
        let stream = EventStream { wire, shared, _slot: slot };
        stream.wire.flush().await?;
        Ok(stream)
    }

    /// Answers with a response that is no event stream; with its head alone if that was asked for.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn respond(self, response: Response) -> Result<(), End> {
        self.answer(response).await
    }

    /// Answers 204: an `EventSource` that asked does not connect again.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn no_content(self) -> Result<(), End> {
        let mut response = Response::new(Vec::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.answer(response).await
    }

    async fn answer(&self, mut response: Response) -> Result<(), End> {
        replace(response.headers_mut(), &self.response_headers);
        let close = !self.keeps_connection || self.wire.body_unread();
        if close {
            self.wire.make_last();
        }
        self.wire.answer(response.status(), whole(response, self.wire.head_only(), close));
        self.wire.flush().await
    }

    async fn refuse(self, response: Response) -> End {
        let status = response.status();
        self.answer(response).await.err().unwrap_or(End::Answered(status))
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
/// When the handler returns `Ok`, the stream ends as
/// a whole (HTTP/1.1: with the last chunk).
#[derive(Debug)]
pub struct EventStream {
    wire: Arc<Wire>,
    shared: Arc<Shared>,
    _slot: StreamSlot,
}

impl EventStream {
    /// Sends an [`Event`](sse_proto::Event), a [`Comment`](sse_proto::Comment) or a [`Frame`], and
    /// returns when the kernel has taken all of it: that is the backpressure.
    ///
    /// Dropping the future tears nothing: an event that has begun to go out goes out whole, before
    /// whatever is sent next. One whose turn has not come is not sent; so no more than one waits.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn send(&mut self, frame: impl Into<Frame>) -> Result<(), End> {
        self.send_all([frame.into()]).await
    }

    /// Sends several at once, in few writes.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) -> Result<(), End> {
        // What an earlier send that was dropped has left over.
        self.wire.flush().await?;
        if !self.wire.push(frames) {
            return Err(End::Finished);
        }
        self.wire.flush().await
    }

    /// Sends whatever a stream yields, until it ends.
    ///
    /// It is polled no faster than the client takes the events, and dropped as soon as the client
    /// is gone: a bounded channel sees backpressure first, and then that it is closed.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// use std::time::Duration;
    ///
    /// use smol::stream::StreamExt;
    /// use sse_proto::Event;
    /// use sse_smol_server::Frame;
    ///
    /// async fn from_channel(request: Request) -> Result<(), End> {
    ///     let (sender, receiver) = smol::channel::bounded::<Frame>(1);
    ///     # let feed = async move { sender.send(Event::new("x").into()).await };
    ///     request.open().await?.forward(receiver).await
    /// }
    ///
    /// async fn periodic(request: Request) -> Result<(), End> {
    ///     let ticks = smol::Timer::interval(Duration::from_secs(1));
    ///     request.open().await?.forward(ticks.map(|_| Event::new("tick"))).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone.
    pub async fn forward<S>(&mut self, frames: S) -> Result<(), End>
    where
        S: Stream,
        S::Item: Into<Frame>,
    {
        let mut frames = std::pin::pin!(frames);
        while let Some(frame) = frames.next().await {
            self.send(frame).await?;
        }
        Ok(())
    }

    /// Sends what is published to topics, from where the subscription begins.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone, or if it lags ([`End::Lagged`]).
    pub async fn follow(&mut self, mut subscription: Subscription) -> Result<(), End> {
        loop {
            let frames = subscription.next().await.map_err(|Lagged| End::Lagged)?;
            self.send_all(frames).await?;
        }
    }

    /// Has `hook` called once when the stream is over, whatever ends it, with the reason and the
    /// last id that was sent. It runs when the handler is gone, or now if the stream is over
    /// already; what it does should not take long.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// async fn handler(request: Request) -> Result<(), End> {
    ///     let mut stream = request.open().await?;
    ///     stream.on_close(|closed| println!("{} after {:?}", closed.reason, closed.last_event_id));
    ///     stream.send(sse_proto::Event::new("hello")).await
    /// }
    /// ```
    pub fn on_close(&mut self, hook: impl FnOnce(&Closed) + Send + 'static) {
        self.wire.on_close(Box::new(hook));
    }

    /// A token that tells other tasks when the stream is over, say to cancel work upstream.
    ///
    /// ```
    /// # use sse_smol_server::{End, Request};
    /// # async fn generate() {}
    /// async fn handler(request: Request) -> Result<(), End> {
    ///     let mut stream = request.open().await?;
    ///     let gone = stream.token();
    ///     smol::spawn(async move { smol::future::or(generate(), gone.cancelled()).await }).detach();
    ///     stream.send(sse_proto::Event::new("hello")).await
    /// }
    /// ```
    pub fn token(&self) -> CancelToken {
        CancelToken(self.wire.token())
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.shared.metrics.streams.dec();
    }
}

/// How a stream ended: see [`EventStream::on_close`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub reason: End,
    /// The id of the last event with one that the kernel has taken whole.
    pub last_event_id: Option<Box<[u8]>>,
    /// How many events it has taken.
    pub events: u64,
}

/// Tells that a stream is over: see [`EventStream::token`].
#[derive(Clone)]
pub struct CancelToken(channel::Receiver<Infallible>);

impl CancelToken {
    /// Waits until the stream is over.
    pub async fn cancelled(&self) {
        let _ = self.0.recv().await;
    }

    /// Whether the stream is over.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}
