//! From a stream of events to a stream of chunks.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{AsEvent, KEEP_ALIVE};

/// Events that are there at once go out together, up to so many bytes and one event.
const ENOUGH: usize = 8 << 10;

pin_project! {
    /// An event stream to be sent: encodes a [`Stream`] of events, and fills its silence with
    /// [keep-alive comments](KEEP_ALIVE).
    ///
    /// It is a [`Stream`] of [`Bytes`] that never fails and, with the feature `http-body`, the body
    /// of a response. The events are [`Event`](crate::Event)s, [`OwnedEvent`](crate::OwnedEvent)s,
    /// or whatever else is [as an event](AsEvent). A stream of events cannot say that it failed; it
    /// can only end, as a stream of results does with `map_while(Result::ok)`.
    ///
    /// ```
    /// use core::future::{pending, ready};
    /// use futures_lite::{StreamExt, future::block_on, stream};
    /// use sse_proto::{Event, EventBody};
    ///
    /// # block_on(async {
    /// let events = stream::iter([Event::new("a"), Event::new("b")]);
    /// let mut body = EventBody::new(events, pending::<()>); // no keep-alive
    /// assert_eq!(body.next().await.unwrap().unwrap(), "data: a\n\ndata: b\n\n");
    /// assert_eq!(body.next().await, None);
    ///
    /// let silent = stream::pending::<Event>();
    /// let mut body = EventBody::new(silent, || ready(())); // in earnest: || sleep(15 seconds)
    /// assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
    /// # });
    /// ```
    ///
    /// Text alone is not an event:
    ///
    /// ```compile_fail,E0277
    /// # use futures_lite::stream;
    /// let words = stream::iter([String::from("a")]);
    /// sse_proto::EventBody::new(words, core::future::pending::<()>);
    /// ```
    pub struct EventBody<S, F, T> {
        #[pin]
        events: Option<S>,
        silence: F,
        #[pin]
        timer: Option<T>,
    }
}

impl<S, F, T> EventBody<S, F, T>
where
    S: Stream<Item: AsEvent>,
    F: FnMut() -> T,
    T: Future,
{
    /// The body with these events. A comment goes out whenever a future that `silence` gives is
    /// done before there is an event; each is asked for when there is nothing else to send, and
    /// dropped with the next event.
    ///
    /// That is any runtime's timer, such as `|| tokio::time::sleep(Duration::from_secs(15))` or
    /// `|| async_io::Timer::after(Duration::from_secs(15))`; with `core::future::pending::<()>`
    /// there are no comments.
    pub fn new(events: S, silence: F) -> Self {
        Self { events: Some(events), silence, timer: None }
    }
}

impl<S, F, T> Stream for EventBody<S, F, T>
where
    S: Stream<Item: AsEvent>,
    F: FnMut() -> T,
    T: Future,
{
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // Made for each chunk, and given away with it: an event that was large leaves nothing behind.
        let mut chunk = Vec::new();
        while let Some(events) = this.events.as_mut().as_pin_mut() {
            match events.poll_next(cx) {
                Poll::Ready(Some(event)) => {
                    let event = event.as_event();
                    chunk.reserve(event.encoded_len());
                    event.encode_to_vec(&mut chunk);
                    if chunk.len() >= ENOUGH {
                        break;
                    }
                }
                Poll::Ready(None) => this.events.set(None),
                Poll::Pending => break,
            }
        }
        if !chunk.is_empty() {
            this.timer.set(None);
            return Poll::Ready(Some(Ok(chunk.into())));
        }
        if this.events.is_none() {
            return Poll::Ready(None);
        }
        if this.timer.is_none() {
            this.timer.set(Some((this.silence)()));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
            this.timer.set(None);
        }
        Poll::Ready(Some(Ok(Bytes::from_static(KEEP_ALIVE))))
    }
}

impl<S, F, T> EventBody<S, F, T> {
    #[cfg(feature = "http-body")]
    pub(super) const fn is_over(&self) -> bool {
        self.events.is_none()
    }
}

impl<S: fmt::Debug, F, T> fmt::Debug for EventBody<S, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody").field("events", &self.events).finish_non_exhaustive()
    }
}
