//! A stream of events that reconnects, over any HTTP client and any runtime.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::boxed::Box;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;
use std::vec::Vec;

use bytes::Bytes;
use futures_core::Stream;

use super::decoding::consume;
use crate::{
    Client, ClientConfig, ConnectRequest, Decoder, EventTooLarge, OwnedEvent, ReadyState, Rejected,
    ResponseHead,
};

/// A [`Stream`] of the events of a server, which reconnects when a connection ends, and resumes
/// after the last event: the `EventSource` of browsers (HTML Standard, 9.2), for any HTTP client.
///
/// The two functions are all that it needs from the outside: `connect` makes a request with the
/// headers that it gets, and returns the [`Connection`]; `sleep` returns a future that is ready
/// after a duration. With reqwest and tokio:
///
/// ```no_run
/// # #[cfg(feature = "http-body")]
/// # async fn follow() -> Result<(), reqwest::Error> {
/// use futures_lite::StreamExt;
/// use sse_proto::{ClientConfig, ConnectRequest, EventSource};
///
/// let http = reqwest::Client::new();
/// let connect = |request: ConnectRequest<'_>| {
///     let request = http.get("http://localhost:8080/clock").headers(request.header_map());
///     async { Ok::<_, reqwest::Error>(http::Response::from(request.send().await?).into()) }
/// };
/// let mut source = EventSource::new(ClientConfig::default(), connect, tokio::time::sleep);
/// while let Some(event) = source.next().await {
///     match event {
///         Ok(event) => println!("{}", event.data()),
///         Err(error) => eprintln!("{error}"), // the next item comes from the next connection
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// `connect` decides about everything else: method, URL, body, further headers, redirects. To send a
/// `POST` that must not be repeated, see [`ClientConfig::repeat`].
///
/// The stream yields an [error](EventSourceError) for each connection that failed, and goes on with
/// the next connection; the end of a response is no error. It ends when no connection follows: the
/// server answered 204, the response was [rejected](EventSourceError::Rejected), or the
/// configuration permits no further attempt. What it waits for between two connections is described
/// at [`ClientConfig`]: with the default, at least 500 ms after a failure, even if the server has
/// set `retry: 0`.
///
/// Here, a server cuts the connection off after its first event:
///
/// ```
/// use std::convert::Infallible;
/// use std::future::ready;
/// use std::time::Duration;
///
/// use futures_lite::{StreamExt, future::block_on, stream};
/// use sse_proto::{ClientConfig, ConnectRequest, Connection, EventSource};
///
/// let connect = |request: ConnectRequest<'_>| {
///     let resumes = request.headers().any(|header| header == ("Last-Event-ID", b"1"));
///     let body = if resumes { "id: 2\ndata: b\n\n" } else { "retry: 0\nid: 1\ndata: a\n\ndata: lo" };
///     let chunks = stream::iter([Ok::<_, Infallible>(body)]);
///     ready(Ok(Connection::new(200, "text/event-stream", chunks)))
/// };
/// let config = ClientConfig::default().with_min_reconnection_time(Duration::ZERO);
/// let mut source = EventSource::new(config, connect, |_: Duration| ready(()));
/// # block_on(async {
/// assert_eq!(source.next().await.unwrap()?.data(), "a");
/// assert_eq!(source.next().await.unwrap()?.data(), "b");
/// # Ok::<(), sse_proto::EventSourceError<Infallible>>(())
/// # }).unwrap();
/// ```
pub struct EventSource<C, S, Connecting, Chunks, Sleeping> {
    client: Client<Instant>,
    connect: C,
    sleep: S,
    /// The connection. Boxed, so that the stream can be moved between polls.
    link: Link<Connecting, Chunks>,
    timer: Option<(Instant, Pin<Box<Sleeping>>)>,
    /// The rest of the current chunk.
    chunk: Bytes,
    inherited_id: Bytes,
}

enum Link<Connecting, Chunks> {
    None,
    Connecting(Pin<Box<Connecting>>),
    Open(Pin<Box<Chunks>>),
}

/// A response: what `connect` returns to an [`EventSource`].
///
/// With the feature `http-body`, an `http::Response` converts to it.
#[derive(Clone, Debug)]
pub struct Connection<S> {
    status: u16,
    content_types: Vec<Vec<u8>>,
    retry_after: Option<Duration>,
    chunks: S,
}

impl<S> Connection<S> {
    /// Creates a connection from a response's status, its `Content-Type`, and the chunks of its body.
    pub fn new(status: u16, content_type: &str, chunks: S) -> Self {
        Self::with_content_types(status, [content_type], chunks)
    }

    /// Creates a connection from a response with any number of `Content-Type` headers, in order.
    pub fn with_content_types<T: AsRef<[u8]>>(
        status: u16,
        content_types: impl IntoIterator<Item = T>,
        chunks: S,
    ) -> Self {
        let content_types = content_types.into_iter().map(|value| value.as_ref().to_vec());
        Self { status, content_types: content_types.collect(), retry_after: None, chunks }
    }

    /// Sets the wait that `Retry-After` requires: see [`ClientConfig::honour_retry_after`].
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }
}

/// An error that an [`EventSource`] yields in place of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSourceError<E> {
    /// The request failed.
    Connect(E),
    /// The response is not an event stream. No connection follows, unless its `Retry-After` is
    /// [honoured](ClientConfig::honour_retry_after).
    Rejected(Rejected),
    /// The body failed.
    Chunks(E),
    /// Nothing arrived for [`ClientConfig::read_timeout`].
    Silent,
    /// An event exceeds the decoder's limits. The connection continues after it.
    TooLarge(EventTooLarge),
}

impl<E: fmt::Display> fmt::Display for EventSourceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "the request failed: {error}"),
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Chunks(error) => write!(f, "the event stream failed: {error}"),
            Self::Silent => f.write_str("the connection was silent for too long"),
            Self::TooLarge(error) => error.fmt(f),
        }
    }
}

/// There is no `source`, so that `E` need not be an [`Error`](core::error::Error); boxed errors are
/// not.
impl<E: fmt::Debug + fmt::Display> core::error::Error for EventSourceError<E> {}

impl<C, S, Connecting, Chunks, Sleeping> EventSource<C, S, Connecting, Chunks, Sleeping>
where
    C: FnMut(ConnectRequest<'_>) -> Connecting,
    S: FnMut(Duration) -> Sleeping,
{
    /// Creates a stream that connects when it is polled.
    pub fn new(config: ClientConfig, connect: C, sleep: S) -> Self {
        Self::with_decoder(config, Decoder::new(), connect, sleep)
    }

    /// Creates a stream with this decoder, which may have custom limits or an initial last event ID.
    pub const fn with_decoder(
        config: ClientConfig,
        decoder: Decoder,
        connect: C,
        sleep: S,
    ) -> Self {
        Self {
            client: Client::with_decoder(config, decoder),
            connect,
            sleep,
            link: Link::None,
            timer: None,
            chunk: Bytes::new(),
            inherited_id: Bytes::new(),
        }
    }
}

impl<C, S, Connecting, Chunks, Sleeping> EventSource<C, S, Connecting, Chunks, Sleeping> {
    /// Returns the connection state.
    pub const fn ready_state(&self) -> ReadyState {
        self.client.ready_state()
    }

    /// Returns the decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        self.client.decoder()
    }

    /// Closes the connection. The stream ends.
    pub fn close(&mut self) {
        self.client.close();
        self.disconnect();
    }

    fn disconnect(&mut self) {
        self.link = Link::None;
        self.chunk = Bytes::new();
    }

    /// Drops a connection that has ended.
    fn end(&mut self) {
        self.disconnect();
        self.client.handle_end(Instant::now(), random());
    }
}

impl<C, S, Connecting, Chunks, Sleeping, B, E> EventSource<C, S, Connecting, Chunks, Sleeping>
where
    C: FnMut(ConnectRequest<'_>) -> Connecting,
    Connecting: Future<Output = Result<Connection<Chunks>, E>>,
    Chunks: Stream<Item = Result<B, E>>,
    B: Into<Bytes>,
    S: FnMut(Duration) -> Sleeping,
    Sleeping: Future,
{
    /// Returns the next event of the current chunk.
    fn next_event(&mut self) -> Option<Result<OwnedEvent, EventTooLarge>> {
        if self.chunk.is_empty() {
            return None;
        }
        let mut rest = &self.chunk[..];
        let event = self
            .client
            .next_event(&mut rest, Instant::now())
            .map(|event| event.map(|event| event.slice_from(&self.chunk, &mut self.inherited_id)));
        let left = rest.len();
        consume(&mut self.chunk, left);
        event.transpose()
    }

    /// Waits for the client's next deadline. Is ready when it has passed.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.client.poll_timeout() else {
                self.timer = None;
                return Poll::Pending;
            };
            let now = Instant::now();
            // A timer for an earlier time stays, so that a deadline that each chunk moves does not
            // create a timer for each chunk.
            let (_, timer) = match &mut self.timer {
                Some(timer) if timer.0 <= deadline => timer,
                timer => {
                    let sleeping = (self.sleep)(deadline.saturating_duration_since(now));
                    timer.insert((deadline, Box::pin(sleeping)))
                }
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let (set, _) = self.timer.take().expect("it has just been polled");
            if set == deadline {
                return Poll::Ready(());
            }
        }
    }

    /// Drops a connection that has been silent for too long. Is ready if it was.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.poll_timer(cx).is_ready() {
            // The clock of `sleep` may be ahead of this one.
            let now =
                self.client.poll_timeout().map_or_else(Instant::now, |at| at.max(Instant::now()));
            if self.client.handle_timeout(now, random()) {
                self.disconnect();
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Makes the next request when it is due.
    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut now = Instant::now();
        loop {
            if let Some(request) = self.client.poll_request(now) {
                self.link = Link::Connecting(Box::pin((self.connect)(request)));
                self.timer = None;
                return Poll::Ready(());
            }
            let deadline = self.client.poll_timeout();
            if self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
            // The clock of `sleep` may be ahead of this one.
            now = deadline.map_or(now, |deadline| deadline.max(now));
        }
    }
}

impl<C, S, Connecting, Chunks, Sleeping, B, E> Stream
    for EventSource<C, S, Connecting, Chunks, Sleeping>
where
    C: FnMut(ConnectRequest<'_>) -> Connecting + Unpin,
    Connecting: Future<Output = Result<Connection<Chunks>, E>>,
    Chunks: Stream<Item = Result<B, E>>,
    B: Into<Bytes>,
    S: FnMut(Duration) -> Sleeping + Unpin,
    Sleeping: Future,
{
    type Item = Result<OwnedEvent, EventSourceError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.next_event() {
                return Poll::Ready(Some(event.map_err(EventSourceError::TooLarge)));
            }
            let ended = match &mut this.link {
                Link::None if this.client.ready_state() == ReadyState::Closed => {
                    return Poll::Ready(None);
                }
                Link::None => match this.poll_connect(cx) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                },
                Link::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(connection)) => match this.open(connection) {
                        // With status 204, the server ends the stream for good (9.2.3).
                        Ok(()) | Err(Rejected::Status(204)) => continue,
                        Err(rejected) => Some(EventSourceError::Rejected(rejected)),
                    },
                    Poll::Ready(Err(error)) => {
                        this.end();
                        Some(EventSourceError::Connect(error))
                    }
                    Poll::Pending => None,
                },
                Link::Open(chunks) => match chunks.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(chunk))) => {
                        this.chunk = chunk.into();
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        this.end();
                        Some(EventSourceError::Chunks(error))
                    }
                    Poll::Ready(None) => {
                        this.end();
                        continue;
                    }
                    Poll::Pending => None,
                },
            };
            return match ended {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => this.poll_silence(cx).map(|()| Some(Err(EventSourceError::Silent))),
            };
        }
    }
}

impl<C, S, Connecting, Chunks, Sleeping> EventSource<C, S, Connecting, Chunks, Sleeping> {
    /// Takes over a response, if it is an event stream.
    fn open(&mut self, connection: Connection<Chunks>) -> Result<(), Rejected> {
        let Connection { status, content_types, retry_after, chunks } = connection;
        let content_type: Vec<&[u8]> = content_types.iter().map(Vec::as_slice).collect();
        let head = ResponseHead::new(status, &content_type).with_retry_after(retry_after);
        self.link = Link::None;
        self.client.handle_response(head, Instant::now(), random())?;
        self.link = Link::Open(Box::pin(chunks));
        Ok(())
    }
}

impl<C, S, Connecting, Chunks, Sleeping> fmt::Debug
    for EventSource<C, S, Connecting, Chunks, Sleeping>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Returns a random number for jitter, from the keys that the standard library gives hash maps.
fn random() -> u32 {
    let number = RandomState::new().hash_one(0_u8);
    u32::try_from(number >> 32).expect("32 bits")
}
