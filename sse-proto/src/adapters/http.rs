//! Event streams as bodies of HTTP messages, for libraries that use `http-body`.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::body::{EventBody, StartTimer};
use super::event_source::Connection;
use super::events::Events;
use crate::{AsEvent, ConnectRequest, Decoder};

pin_project! {
    /// The data chunks of a body: see [`Events::from_body`].
    #[derive(Clone, Debug)]
    pub struct BodyChunks<B> {
        #[pin]
        body: B,
    }
}

impl<B> BodyChunks<B> {
    /// Returns the body.
    pub const fn get_ref(&self) -> &B {
        &self.body
    }

    /// Returns the body, of which the chunks that were yielded have been read.
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body> Stream for BodyChunks<B> {
    type Item = Result<Bytes, B::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.project().body;
        loop {
            match ready!(body.as_mut().poll_frame(cx)) {
                // Trailers contain no events.
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        // This copies nothing if the data is `Bytes`.
                        return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<B: Body> Events<BodyChunks<B>> {
    /// Creates a stream of the events in a body, such as that of a hyper or reqwest response, or of
    /// a request in axum.
    ///
    /// The caller must check that the message is an event stream, by its status and
    /// [`Content-Type`](crate::is_event_stream).
    ///
    /// ```no_run
    /// use futures_lite::StreamExt;
    /// use sse_proto::Events;
    ///
    /// # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
    /// let response = reqwest::get("http://localhost:8080/clock").await?.error_for_status()?;
    /// let mut events = Events::from_body(reqwest::Body::from(response));
    /// while let Some(event) = events.next().await {
    ///     println!("{}", event?.data());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Any other body works too:
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on};
    /// use sse_proto::Events;
    ///
    /// # block_on(async {
    /// let body = String::from("data: a\n\n"); // implements `Body`
    /// let mut events = Events::from_body(body);
    /// assert_eq!(events.next().await.unwrap().unwrap().data(), "a");
    /// # });
    /// ```
    pub fn from_body(body: B) -> Self {
        Self::from_body_with_decoder(body, Decoder::new())
    }

    /// Creates a stream with this decoder: see [`Events::with_decoder`].
    pub const fn from_body_with_decoder(body: B, decoder: Decoder) -> Self {
        Self::with_decoder(BodyChunks { body }, decoder)
    }
}

impl ConnectRequest<'_> {
    /// Returns the [headers](Self::headers) as a map. A last event ID that no header can have is
    /// left out.
    pub fn header_map(&self) -> HeaderMap {
        let headers = self.headers().filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(value).ok()?,
            ))
        });
        headers.collect()
    }
}

/// Takes status, `Content-Type`, `Retry-After` in seconds, and body from a response, such as that of
/// hyper or reqwest.
impl<B: Body> From<Response<B>> for Connection<BodyChunks<B>> {
    fn from(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let content_types = head.headers.get_all(header::CONTENT_TYPE);
        let wait = head.headers.get(header::RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
        Self::with_content_types(head.status.as_u16(), content_types, BodyChunks { body })
            .with_retry_after(wait.map(Duration::from_secs))
    }
}

impl<S, F> EventBody<S, F>
where
    S: Stream<Item: AsEvent>,
    F: StartTimer,
{
    /// Returns a response with this body: status 200, `Content-Type: text/event-stream`, and
    /// headers that keep caches and proxies from delaying or changing it.
    ///
    /// ```
    /// use futures_lite::stream;
    /// use sse_proto::{Event, EventBody};
    ///
    /// let body = EventBody::new(stream::pending::<Event>(), core::future::pending::<()>);
    /// let response = body.into_response(); // axum and others accept it as it is
    /// assert_eq!(response.headers()["content-type"], "text/event-stream");
    /// ```
    pub fn into_response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let no_cache = HeaderValue::from_static("no-cache, no-transform");
        headers.insert(header::CACHE_CONTROL, no_cache);
        // nginx buffers responses that it proxies, unless this header disables it.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

impl<S, F> Body for EventBody<S, F>
where
    S: Stream<Item: AsEvent>,
    F: StartTimer,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }
}
