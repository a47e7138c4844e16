//! Handlers under test: requests without a network, and their answers as they arrive.
//!
//! A [`TestServer`] runs a handler as [`Server`](crate::Server) does. It has no thread of its own:
//! it runs while a test waits in one of the methods of this module. Timers run in real time.
//!
//! ```
//! use sse_smol_server::http::{self, Method, Request as HttpRequest, StatusCode};
//! use sse_smol_server::sse_proto::{Event, EventId};
//! use sse_smol_server::testing::TestServer;
//! use sse_smol_server::{CloseReason, Error, Request};
//!
//! /// Counts from the last id that the client has seen.
//! async fn count(request: Request) -> Result<(), Error> {
//!     request.allow(&[Method::GET])?;
//!     let last: u64 = request.last_event_id()?.parse().unwrap_or(0);
//!     let mut stream = request.open().await?;
//!     for n in last + 1..=3 {
//!         let n = n.to_string();
//!         stream.send(Event::new(&n).with_id(EventId::new(&n)?)).await?;
//!     }
//!     Ok(())
//! }
//!
//! smol::block_on(async {
//!     let server = TestServer::new(count);
//!     let mut answer = server.get("/?lastEventId=1").await;
//!     assert_eq!(answer.status(), StatusCode::OK);
//!     assert_eq!(answer.headers()["content-type"], "text/event-stream");
//!     assert_eq!(answer.event().await.unwrap().data(), "2");
//!     assert_eq!(answer.event().await.unwrap().data(), "3");
//!     assert!(answer.event().await.is_none() && answer.is_complete());
//!     assert!(matches!(answer.closed().await.reason, CloseReason::Finished));
//!
//!     let request = HttpRequest::post("/").body("the body")?;
//!     let mut answer = server.send(request).await;
//!     assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
//!     assert!(answer.text().await.ends_with("Allowed methods: GET, HEAD.\n"));
//!     Ok::<(), http::Error>(())
//! })?;
//! # Ok::<(), http::Error>(())
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use smol::channel::{self, Receiver};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, Executor};
use sse_proto::{Decoder, OwnedEvent};

use crate::connection::Connection;
use crate::connection::delivery::{self, DeliveryWorkers};
use crate::connection::serve;
use crate::connection::shared::Shared;
use crate::http1::Head;
use crate::net::reactor::Reactor;
use crate::net::source::Source;
use crate::net::timers::Timers;
use crate::net::transport::Transport;
use crate::{Closed, Config, Drain, Error, Metrics, Request};

type Answering = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

type Handler = dyn Fn(Request) -> Answering + Send + Sync;

/// A server for one handler, to which requests are made in the same process.
#[derive(Clone)]
pub struct TestServer(Arc<Inner>);

struct Inner {
    executor: Executor<'static>,
    shared: Arc<Shared>,
    workers: Arc<DeliveryWorkers>,
    handler: Arc<Handler>,
}

impl TestServer {
    /// Creates a server with the default configuration.
    ///
    /// # Panics
    ///
    /// Panics where [`with_config`](Self::with_config) does.
    pub fn new<H, F>(handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Self::with_config(Config::default(), handler)
    }

    /// Creates a server.
    ///
    /// # Panics
    ///
    /// Panics if the system has no file descriptor left.
    pub fn with_config<H, F>(config: Config, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let executor = Executor::new();
        let shared = Shared::new(config).expect("the system has a descriptor left");
        let driving = Reactor::drive(Arc::downgrade(&shared.reactor));
        executor.spawn(driving).detach();
        let timers = Timers::run(Arc::downgrade(&shared.timers), shared.drain.clone());
        executor.spawn(timers).detach();
        let (workers, queues) = DeliveryWorkers::new();
        for queue in queues {
            executor.spawn(delivery::work(queue)).detach();
        }
        let handler = Arc::new(move |request| -> Answering { Box::pin(handler(request)) });
        Self(Arc::new(Inner { executor, shared, workers: Arc::new(workers), handler }))
    }

    /// Returns the handle that starts a graceful shutdown.
    pub fn drain(&self) -> Drain {
        self.0.shared.drain.clone()
    }

    /// Returns the server's metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.0.shared.metrics)
    }

    /// Runs the server while it waits for a future, such as one that publishes.
    pub async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.executor.run(future).await
    }

    /// Makes a `GET` request to a path, and returns its answer when the head has arrived.
    ///
    /// # Panics
    ///
    /// Panics if `path` is no request target, or where [`send`](Self::send) does.
    pub async fn get(&self, path: &str) -> TestAnswer {
        let request = http::Request::get(path).body(Vec::new()).expect("a request target");
        self.send(request).await
    }

    /// Makes a request on a connection of its own, and returns its answer when the head has
    /// arrived. The headers `Host` (`localhost`) and `Content-Length` are added if they are absent.
    /// [`Request::peer_addr`] is `None`.
    ///
    /// # Panics
    ///
    /// Panics if the connection ends without a head, such as during a graceful shutdown, or if the
    /// system has no socket left.
    pub async fn send(&self, request: http::Request<impl Into<Vec<u8>>>) -> TestAnswer {
        let (mine, theirs) = UnixStream::pair().expect("a pair of sockets");
        let socket = Arc::new(Async::new(mine).expect("a socket"));
        theirs.set_nonblocking(true).expect("a socket");
        let theirs = Source::new(theirs, &self.0.shared.reactor).expect("a socket");
        let theirs = Transport::Unix(theirs);
        let closed = self.accept(theirs);
        let (request, body) = request.into_parts();
        let is_head = request.method == Method::HEAD;
        let mut bytes = request_head(request);
        let body = body.into();
        if !body.is_empty() && !bytes.1 {
            write!(bytes.0, "Content-Length: {}\r\n", body.len()).expect("writes to memory");
        }
        let mut bytes = bytes.0;
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(body);
        // A task of its own, since the handler may answer before it has read all of the body.
        let to = Arc::clone(&socket);
        let write = async move { drop((&*to).write_all(&bytes).await) };
        self.0.executor.spawn(write).detach();
        let mut answer = TestAnswer {
            server: self.clone(),
            socket,
            closed,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            input: Vec::new(),
            rest: Rest::Close,
            content: Vec::new(),
            decoder: Decoder::new(),
            events: VecDeque::new(),
        };
        answer.read_head(is_head).await;
        answer
    }

    /// Serves a connection. Returns a channel for how its first request ends.
    fn accept(&self, transport: Transport) -> Receiver<Arc<Closed>> {
        let Inner { executor, shared, workers, handler } = &*self.0;
        let (ended, closed) = channel::bounded(1);
        if !shared.admission.admit(transport.peer(), &shared.config) {
            executor.spawn(serve::reject(transport, Arc::clone(shared))).detach();
            return closed;
        }
        let (workers, handler) = (Arc::clone(workers), Arc::clone(handler));
        let handler = move |head: Box<Head>, connection: Arc<Connection>| {
            let (of_hook, ended) = (Arc::downgrade(&connection), ended.clone());
            connection.on_close(Box::new(move |_| {
                if let Some(closed) = of_hook.upgrade().and_then(|connection| connection.over()) {
                    let _ = ended.try_send(closed);
                }
            }));
            handler(Request::new(head, connection, Arc::clone(&workers)))
        };
        let connection = Connection::new(transport, Arc::clone(shared));
        executor.spawn(serve::serve(connection, Arc::new(handler))).detach();
        closed
    }
}

/// Encodes the head of a request but for its last line. Also returns whether the length of the body
/// is among the headers.
fn request_head(request: http::request::Parts) -> (Vec<u8>, bool) {
    let mut headers = request.headers;
    let host = HeaderValue::from_static("localhost");
    headers.entry(header::HOST).or_insert(host);
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.uri).into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let has_length = headers.contains_key(header::CONTENT_LENGTH)
        || headers.contains_key(header::TRANSFER_ENCODING);
    (bytes, has_length)
}

/// What is left of the body of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing.
    Complete,
    /// This number of bytes.
    Length(usize),
    /// The rest of a chunk with this number of bytes and its line end, and other chunks.
    Chunk(usize),
    /// The size of a chunk, and chunks.
    Chunks,
    /// Everything until the connection is closed.
    Close,
    /// Nothing that will arrive: the connection was closed too soon.
    Missing,
}

/// The answer to a request. Dropping it closes the connection, as a client that leaves does.
pub struct TestAnswer {
    server: TestServer,
    socket: Arc<Async<UnixStream>>,
    closed: Receiver<Arc<Closed>>,
    status: StatusCode,
    headers: HeaderMap,
    input: Vec<u8>,
    rest: Rest,
    /// The part of the body that was neither returned nor decoded.
    content: Vec<u8>,
    decoder: Decoder,
    events: VecDeque<OwnedEvent>,
}

impl TestAnswer {
    /// Returns the status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns whether the body has arrived to its end. It has not if the server closed the
    /// connection before that, as it does when a handler fails while a stream is open.
    pub fn is_complete(&self) -> bool {
        self.rest == Rest::Complete
    }

    /// Waits for the next event. Returns `None` at the end of the body.
    ///
    /// # Panics
    ///
    /// Panics if the event exceeds the default limits of a [`Decoder`].
    pub async fn event(&mut self) -> Option<OwnedEvent> {
        loop {
            let content = std::mem::take(&mut self.content);
            let mut chunk = &content[..];
            while let Some(event) = self.decoder.next_event(&mut chunk).expect("a small event") {
                self.events.push_back(event.into_owned());
            }
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if !self.read_body().await {
                return None;
            }
        }
    }

    /// Waits for the end of the body, and returns what [`event`](Self::event) has not decoded.
    pub async fn body(&mut self) -> Vec<u8> {
        while self.read_body().await {}
        std::mem::take(&mut self.content)
    }

    /// Waits for the end of the body, and returns it as text.
    ///
    /// # Panics
    ///
    /// Panics if the body is not UTF-8.
    pub async fn text(&mut self) -> String {
        String::from_utf8(self.body().await).expect("the body is text")
    }

    /// Waits until the request has ended, and returns how.
    ///
    /// # Panics
    ///
    /// Panics if the request was refused before the handler was called, or if this was called
    /// before.
    pub async fn closed(&mut self) -> Arc<Closed> {
        let closed = self.server.run(self.closed.recv()).await;
        closed.expect("the handler was called, and its end not taken before")
    }

    /// Closes the connection, as a client that leaves does. Waits until the request has ended, and
    /// returns how.
    ///
    /// # Panics
    ///
    /// Panics where [`closed`](Self::closed) does.
    pub async fn leave(mut self) -> Arc<Closed> {
        self.shut();
        self.closed().await
    }

    fn shut(&self) {
        // An error means that it is closed already.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// Reads some input. Returns false if the connection is closed.
    async fn read(&mut self) -> bool {
        let mut piece = vec![0; 4096];
        let read = self.server.run((&*self.socket).read(&mut piece)).await;
        let count = read.unwrap_or(0);
        self.input.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// Reads the head, behind interim responses.
    async fn read_head(&mut self, is_head: bool) {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut head = httparse::Response::new(&mut fields);
            match head.parse(&self.input).expect("a valid head") {
                httparse::Status::Complete(length) => {
                    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
                    self.status = status.expect("a valid status");
                    self.headers = head.headers.iter().map(field).collect();
                    self.input.drain(..length);
                    if !self.status.is_informational() {
                        break;
                    }
                }
                httparse::Status::Partial => {
                    assert!(self.read().await, "the connection was closed without an answer");
                }
            }
        }
        let length = self.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok());
        self.rest = match length.and_then(|length| length.parse().ok()) {
            _ if is_head || self.status == StatusCode::NO_CONTENT => Rest::Complete,
            _ if self.status == StatusCode::NOT_MODIFIED => Rest::Complete,
            Some(0) => Rest::Complete,
            Some(length) => Rest::Length(length),
            None if self.headers.contains_key(header::TRANSFER_ENCODING) => Rest::Chunks,
            None => Rest::Close,
        };
    }

    /// Moves more of the body to the content. Returns false at its end.
    async fn read_body(&mut self) -> bool {
        loop {
            if matches!(self.rest, Rest::Complete | Rest::Missing) {
                return false;
            }
            if self.take() {
                return true;
            }
            if self.rest != Rest::Complete && !self.read().await {
                let by_close = self.rest == Rest::Close;
                self.rest = if by_close { Rest::Complete } else { Rest::Missing };
            }
        }
    }

    /// Moves input to the content as far as the framing allows. Returns whether there was some.
    fn take(&mut self) -> bool {
        let before = self.content.len();
        loop {
            let available = self.input.len();
            match self.rest {
                Rest::Close => self.content.append(&mut self.input),
                Rest::Length(length) => {
                    let count = length.min(available);
                    self.content.extend(self.input.drain(..count));
                    let left = length - count;
                    self.rest = if left == 0 { Rest::Complete } else { Rest::Length(left) };
                }
                Rest::Chunk(length) if available >= length + 2 => {
                    self.content.extend(self.input.drain(..length));
                    self.input.drain(..2);
                    self.rest = if length == 0 { Rest::Complete } else { Rest::Chunks };
                    continue;
                }
                Rest::Chunks => {
                    if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                        let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                        let size = usize::from_str_radix(&line, 16).expect("a chunk size");
                        self.input.drain(..end + 2);
                        self.rest = Rest::Chunk(size);
                        continue;
                    }
                }
                Rest::Chunk(_) | Rest::Complete | Rest::Missing => {}
            }
            return self.content.len() > before;
        }
    }
}

fn field(field: &httparse::Header<'_>) -> (HeaderName, HeaderValue) {
    let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a valid header name");
    (name, HeaderValue::from_bytes(field.value).expect("a valid header value"))
}

impl Drop for TestAnswer {
    fn drop(&mut self) {
        self.shut();
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("shared", &self.0.shared).finish_non_exhaustive()
    }
}

impl fmt::Debug for TestAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, rest, .. } = self;
        f.debug_struct("TestAnswer")
            .field("status", status)
            .field("headers", headers)
            .field("rest", rest)
            .finish_non_exhaustive()
    }
}
