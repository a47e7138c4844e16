//! Event streams as bodies of HTTP messages, for all that speaks `http-body`.

use core::convert::Infallible;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_core::Stream;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;

use super::{EventBody, Events};
use crate::{AsEvent, Decoder};

pin_project! {
    /// The chunks of a body: see [`Events::from_body`].
    #[derive(Clone, Debug)]
    pub struct BodyChunks<B> {
        #[pin]
        body: B,
    }
}

impl<B: Body> Stream for BodyChunks<B> {
    type Item = Result<Bytes, B::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.project().body;
        loop {
            match ready!(body.as_mut().poll_frame(cx)) {
                // What is no data is trailers, which say nothing about events.
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        // No copy, if the data is `Bytes`.
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
    /// The events of a body: that of a hyper or reqwest response, or of a request in axum.
    ///
    /// Whether the message is an event stream at all (status,
    /// [`Content-Type`](crate::is_event_stream)) is for the caller to see to.
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
    /// Any body will do:
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on};
    /// use sse_proto::Events;
    ///
    /// # block_on(async {
    /// let body = String::from("data: a\n\n"); // is a body
    /// let mut events = Events::from_body(body);
    /// assert_eq!(events.next().await.unwrap().unwrap().data(), "a");
    /// # });
    /// ```
    pub fn from_body(body: B) -> Self {
        Self::from_body_with_decoder(body, Decoder::new())
    }

    /// The same with a decoder of your own.
    pub const fn from_body_with_decoder(body: B, decoder: Decoder) -> Self {
        Self::with_decoder(BodyChunks { body }, decoder)
    }
}

impl<S, F, T> EventBody<S, F, T>
where
    S: Stream<Item: AsEvent>,
    F: FnMut() -> T,
    T: Future,
{
    /// The response with this body: status 200, `Content-Type: text/event-stream`, and what keeps
    /// caches and proxies from holding it back or rewriting it.
    ///
    /// ```
    /// use futures_lite::stream;
    /// use sse_proto::{Event, EventBody};
    ///
    /// let body = EventBody::new(stream::pending::<Event>(), core::future::pending::<()>);
    /// let response = body.into_response(); // axum and others take it as it is
    /// assert_eq!(response.headers()["content-type"], "text/event-stream");
    /// ```
    pub fn into_response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let no_cache = HeaderValue::from_static("no-cache, no-transform");
        headers.insert(header::CACHE_CONTROL, no_cache);
        // nginx buffers what it passes on unless told.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

impl<S, F, T> Body for EventBody<S, F, T>
where
    S: Stream<Item: AsEvent>,
    F: FnMut() -> T,
    T: Future,
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
