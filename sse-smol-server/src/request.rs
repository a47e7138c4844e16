//! A request, and its answer: an event stream, a whole response, or one sent in pieces.

mod contents;

use std::future::Future;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::connection::Connection;
use crate::connection::body::{max_size, read_body};
use crate::connection::delivery::DeliveryWorkers;
use crate::connection::exchange::Progress;
use crate::connection::input::NoInput;
use crate::framing::Framing;
use crate::http1::{
    Body, Head, Response, accepts_event_stream, failure, head_of_length, may_have_body, replace,
    stream_head, whole,
};
use crate::{Authority, BodyWriter, Error, EventStream, Frame, IntoFrame};

/// A request, to be answered by an event stream or by a response.
// Boxed: an async fn holds its arguments twice, and a request passes through several of them.
#[derive(Debug)]
pub struct Request(Box<Inner>);

#[derive(Debug)]
struct Inner {
    head: Box<Head>,
    response_headers: HeaderMap,
    connection: Arc<Connection>,
    workers: Arc<DeliveryWorkers>,
}

impl Drop for Inner {
    /// Keeps the headers for the response to an error of the handler.
    fn drop(&mut self) {
        if !self.response_headers.is_empty() {
            self.connection.keep_headers(mem::take(&mut self.response_headers));
        }
    }
}

impl Request {
    pub(crate) fn new(
        head: Box<Head>,
        connection: Arc<Connection>,
        workers: Arc<DeliveryWorkers>,
    ) -> Self {
        Self(Box::new(Inner { head, response_headers: HeaderMap::new(), connection, workers }))
    }

    /// Returns the request method.
    pub fn method(&self) -> &Method {
        &self.0.head.parts.method
    }

    /// Returns the path of the request target, as it was sent.
    pub fn path(&self) -> &str {
        self.0.head.parts.uri.path()
    }

    /// Returns the query of the request target, as it was sent, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.0.head.parts.uri.query()
    }

    /// Returns the host and port of an absolute request target, or else those of the `Host` header
    /// (RFC 9112, section 3.3). Returns `None` if the header is empty, or absent as HTTP/1.0
    /// allows. A malformed header is answered with 400 before the handler runs.
    ///
    /// ```
    /// # use sse_smol_server::http::StatusCode;
    /// # use sse_smol_server::{Error, Request, RequestError};
    /// async fn for_this_machine_only(request: Request) -> Result<(), Error> {
    ///     let host = request.authority().map(|authority| authority.host());
    ///     if !host.is_some_and(|host| host.eq_ignore_ascii_case("localhost")) {
    ///         let line = "This server answers for localhost only.";
    ///         Err(RequestError::new(StatusCode::MISDIRECTED_REQUEST, line))?;
    ///     }
    ///     request.open().await.map(drop)
    /// }
    /// ```
    pub fn authority(&self) -> Option<Authority<'_>> {
        self.0.head.authority()
    }

    /// Returns the request headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.head.parts.headers
    }

    /// Returns the headers to add to the answer. Code that wraps a handler can set them before the
    /// handler answers. They replace headers of the same name in the event stream or the response,
    /// also in the response to an error that the handler returns without an answer.
    ///
    /// ```
    /// # use sse_smol_server::http::HeaderValue;
    /// # use sse_smol_server::{Error, EventStream, Request};
    /// async fn no_store(mut request: Request) -> Result<(), Error> {
    ///     let value = HeaderValue::from_static("no-store");
    ///     request.response_headers_mut().insert("cache-control", value);
    ///     request.open().await.map(drop)
    /// }
    /// ```
    pub fn response_headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.response_headers
    }

    /// Returns the address of the peer, or `None` for a Unix socket, whose peers have none.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.connection.peer().0
    }

    /// Answers a request whose method is none of `methods` with 405 and an `Allow` header. `HEAD` is
    /// allowed where `GET` is: its answers are the same without their bodies.
    ///
    /// ```
    /// use sse_smol_server::http::{self, Method};
    /// use sse_smol_server::sse_proto::Event;
    /// use sse_smol_server::{Error, Request};
    ///
    /// async fn clock(request: Request) -> Result<(), Error> {
    ///     request.allow(&[Method::GET])?;
    ///     request.open().await?.send(Event::new("tick")).await
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(clock);
    /// let request = http::Request::delete("/").body("")?;
    /// let answer = smol::block_on(server.send(request));
    /// assert_eq!(answer.status(), 405);
    /// assert_eq!(answer.headers()["allow"], "GET, HEAD");
    /// # Ok::<(), http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] that the handler should return: the request has already been answered.
    pub fn allow(&self, methods: &[Method]) -> Result<(), Error> {
        let method = self.method();
        let is_allowed =
            methods.contains(method) || *method == Method::HEAD && methods.contains(&Method::GET);
        if is_allowed {
            return Ok(());
        }
        let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        if let Some(get) = names.iter().position(|name| *name == "GET")
            && !names.contains(&"HEAD")
        {
            names.insert(get + 1, "HEAD");
        }
        Err(self.refuse(not_allowed(&names.join(", "))))
    }

    /// Reads the body. Returns no bytes if there is none, or if it was read before. If the future
    /// is dropped, the body cannot be read again. The body of a request that is answered by an
    /// event stream has to be read before [`open`](Self::open).
    ///
    /// The size is limited by [`Config::max_body`](crate::Config::max_body), the time by
    /// [`Config::body_timeout`](crate::Config::body_timeout). The bytes count towards
    /// [`Config::max_pending_body_bytes`](crate::Config::max_pending_body_bytes) until the request
    /// ends or an event stream is opened. A handler that keeps them for longer has to limit them
    /// itself.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] that the handler should return. If the body is malformed, too slow, too
    /// large, or too large together with other bodies, the request has already been answered.
    pub async fn body(&mut self) -> Result<Vec<u8>, Error> {
        let Inner { head, connection, .. } = &*self.0;
        if !connection.progress().body_unread {
            return Ok(Vec::new());
        }
        if !connection.begin_body() {
            return Err(Error::Failed(
                "the body cannot be read again: an earlier read was dropped or failed".into(),
            ));
        }
        let max = max_size(&connection.shared.config);
        let too_large = matches!(head.body, Body::Length(len) if len > max as u64);
        if !too_large
            && head.expects_continue
            && head.parts.version == Version::HTTP_11
            && !connection.has_input()
        {
            connection.push_raw(Frame::head(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
            connection.flush().await?;
        }
        match read_body(connection, head.body).await {
            Ok(body) => Ok(body),
            Err(NoInput::Gone(error)) => Err(error),
            Err(NoInput::Refused(refusal)) => {
                self.answer(refusal.response());
                connection.flush().await?;
                Err(Error::Answered(refusal.status))
            }
        }
    }

    /// Answers with an event stream: writes the head and returns when the kernel has accepted it.
    ///
    /// The head does not wait for a first event, so `EventSource` fires `open` at once. While the
    /// handler waits for anything from here on, keep-alive comments are sent and the peer is
    /// watched. If the peer disconnects, the handler is dropped at its current await point.
    ///
    /// Any method can be answered, such as `POST`: see [`allow`](Self::allow) to restrict it. The
    /// handler reads the [body](Self::body) first if it needs it. A body that has not been read is
    /// ignored; the request fails as [`Unasked`](Error::Unasked) if more than 64 KiB of it arrive.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] that the handler should return. A request that no event stream can
    /// answer has already been answered: `HEAD` with the head, an `Accept` that excludes event
    /// streams with 406.
    pub async fn open(self) -> Result<EventStream, Error> {
        self.open_with(None::<Frame>).await
    }

    /// Answers with an event stream like [`open`](Self::open), and sends first events in the same
    /// write, such as those that a client has missed. They are what
    /// [`send_all`](EventStream::send_all) takes: events, or results of them.
    ///
    /// ```
    /// use sse_smol_server::http;
    /// use sse_smol_server::sse_proto::OwnedEvent;
    /// use sse_smol_server::{Error, Request};
    ///
    /// async fn numbers(request: Request) -> Result<(), Error> {
    ///     let mut stream = request.open_with([1, 2].iter().map(OwnedEvent::from_json)).await?;
    ///     stream.send(OwnedEvent::from_json(&3)?).await
    /// }
    ///
    /// let server = sse_smol_server::testing::TestServer::new(numbers);
    /// let mut answer = smol::block_on(server.send(http::Request::get("/").body("")?));
    /// assert_eq!(smol::block_on(answer.text()), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    /// # Ok::<(), http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`open`](Self::open). If an item is an error, it is returned, and
    /// no stream is opened, so the request is answered as [`Error::response`] describes.
    #[expect(clippy::manual_async_fn, reason = "an async fn holds its arguments twice")]
    pub fn open_with<I>(self, first: I) -> impl Future<Output = Result<EventStream, Error>> + Send
    where
        I: IntoIterator<Item: IntoFrame> + Send,
    {
        async move {
            let connection = Arc::clone(&self.0.connection);
            let opened = self.begin_stream(first)?;
            connection.flush().await?;
            opened.map_err(Error::Answered)
        }
    }

    /// Queues the head of an event stream and its first events, or the answer to a request that no
    /// event stream can answer, whose status is returned. Returns the first error among the events
    /// before it queues anything.
    fn begin_stream<I>(self, first: I) -> Result<Result<EventStream, StatusCode>, Error>
    where
        I: IntoIterator<Item: IntoFrame>,
    {
        let Inner { head, response_headers, connection, workers } = &*self.0;
        if let Some(status) = connection.progress().status {
            return Ok(Err(status));
        }
        if !accepts_event_stream(self.headers()) {
            let why = "This is an event stream: the Accept header must allow text/event-stream.";
            self.answer(failure(StatusCode::NOT_ACCEPTABLE, why));
            return Ok(Err(StatusCode::NOT_ACCEPTABLE));
        }
        let old = head.parts.version == Version::HTTP_10;
        let framing = if old { Framing::Close } else { Framing::Chunked };
        let bytes = stream_head(framing, response_headers);
        if head.parts.method == Method::HEAD {
            connection.answer(StatusCode::OK, Frame::head(bytes));
            connection.make_last();
            return Ok(Err(StatusCode::OK));
        }
        // The caller's iterator must not run under the lock of the connection.
        let first: Vec<Frame> =
            first.into_iter().map(IntoFrame::into_frame).collect::<Result<_, _>>()?;
        connection.begin_stream(bytes, framing);
        connection.push(first);
        Ok(Ok(EventStream::new(Arc::clone(connection), Arc::clone(workers))))
    }

    /// Answers with a response that is not an event stream, or with its head alone if the method is
    /// `HEAD`.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone.
    pub async fn respond(mut self, response: Response) -> Result<(), Error> {
        self.answer(response);
        // They need not be kept for the answer to an error.
        self.0.response_headers.clear();
        self.0.connection.flush().await
    }

    /// Begins a response whose body of `length` bytes the handler sends in pieces, for bodies that
    /// are too large to hold in memory.
    ///
    /// The head is queued. It is sent with the first piece, or as soon as the handler waits or
    /// returns. `Content-Length`, `Date` and `Connection` are added to it.
    ///
    /// ```
    /// use sse_smol_server::http::{self, StatusCode};
    /// use sse_smol_server::{Config, Error, Request, Server};
    ///
    /// async fn a_million(request: Request) -> Result<(), Error> {
    ///     let mut body = request.start_response(http::Response::new(()), 1_000_000);
    ///     while body.remaining() > 0 {
    ///         let len = body.remaining().min(64 << 10);
    ///         body.send(vec![b'a'; len as usize]).await?; // the kernel has accepted it
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let server = Server::bind("127.0.0.1:0", Config::default())?;
    /// let address = server.local_addr()?;
    /// # let drain = server.drain();
    /// # let client = smol::unblock(move || {
    /// #     use std::io::{Read, Write};
    /// #     let mut socket = std::net::TcpStream::connect(address).unwrap();
    /// #     socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    /// #     let mut answer = String::new();
    /// #     socket.read_to_string(&mut answer).unwrap();
    /// #     drain.begin();
    /// #     answer
    /// # });
    /// server.run(&smol::Executor::new(), a_million)?;
    /// # let answer = smol::block_on(client);
    /// # let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    /// # assert!(head.lines().any(|line| line == "Content-Length: 1000000"));
    /// # assert_eq!(body, "a".repeat(1_000_000));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// If the handler ends before it has sent the whole body, the connection is closed, so that the
    /// peer can detect that the body is incomplete, and the request counts as
    /// [failed](Error::Failed).
    pub fn start_response(self, mut head: http::Response<()>, length: u64) -> BodyWriter {
        let Inner { head: request, response_headers, connection, .. } = &*self.0;
        let connection = Arc::clone(connection);
        let progress = connection.progress();
        if progress.status.is_some() {
            // The request was refused while its body was read.
            return BodyWriter::new(connection, false, 0);
        }
        replace(head.headers_mut(), response_headers);
        let close = prepare_close(request, &connection, progress);
        let status = head.status();
        let has_body = !progress.head_only && may_have_body(status);
        let bytes = head_of_length(head, length, close);
        let remaining = if has_body { length } else { 0 };
        connection.begin_response(status, bytes, remaining);
        BodyWriter::new(connection, has_body, remaining)
    }

    /// Answers with 204, after which an `EventSource` does not reconnect.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone.
    pub async fn no_content(self) -> Result<(), Error> {
        let mut response = Response::new(Vec::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.answer(response);
        self.0.connection.flush().await
    }

    /// Queues an answer, and returns the error for the handler to return.
    fn refuse(&self, response: Response) -> Error {
        let status = response.status();
        self.answer(response);
        Error::Answered(self.0.connection.progress().status.unwrap_or(status))
    }

    /// Queues an answer, unless the request was refused while its body was read.
    fn answer(&self, mut response: Response) {
        let Inner { head, response_headers, connection, .. } = &*self.0;
        let progress = connection.progress();
        if progress.status.is_some() {
            return;
        }
        replace(response.headers_mut(), response_headers);
        let close = prepare_close(head, connection, progress);
        connection.answer(response.status(), whole(response, progress.head_only, close));
    }
}

/// Returns whether the connection closes after the response to this request. If so, marks it.
fn prepare_close(head: &Head, connection: &Connection, progress: Progress) -> bool {
    let close = !head.keeps_connection || progress.body_unread;
    if close {
        connection.make_last();
    }
    close
}

/// Creates a 405 response with an `Allow` header that lists `methods`. See also [`Request::allow`].
///
/// # Panics
///
/// Panics if `methods` is not a valid header value.
pub fn not_allowed(methods: &str) -> Response {
    let line = format!("Allowed methods: {methods}.");
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, &line);
    let methods = HeaderValue::try_from(methods).expect("methods are a valid header value");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}
