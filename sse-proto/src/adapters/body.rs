//! Encodes a stream of events as a stream of chunks.

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

/// The number of bytes from which a chunk is sent. Until then, it takes further events that are
/// ready.
const FULL_CHUNK: usize = 8 << 10;

pin_project! {
    /// An event stream to send: encodes a [`Stream`] of events, and adds
    /// [keep-alive comments](KEEP_ALIVE) when it is silent.
    ///
    /// It is a [`Stream`] of [`Bytes`] that never fails and, with the feature `http-body`, the body
    /// of a response. The events are [`Event`](crate::Event)s, [`OwnedEvent`](crate::OwnedEvent)s,
    /// or of any other type that implements [`AsEvent`]. A stream of events cannot report an error,
    /// only end; a stream of results does that with `map_while(Result::ok)`.
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
    /// let mut body = EventBody::new(silent, || ready(())); // in practice: || sleep(15 seconds)
    /// assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
    /// # });
    /// ```
    ///
    /// The type of a body, for a field or a return type: a timer is created by a function pointer, as
    /// here, or by a type of your own that implements [`StartTimer`].
    ///
    /// ```
    /// use core::future::{Ready, ready};
    /// use futures_lite::stream::{self, Pending};
    /// use sse_proto::{EventBody, OwnedEvent};
    ///
    /// struct Connection {
    ///     body: EventBody<Pending<OwnedEvent>, fn() -> Ready<()>>,
    /// }
    /// let connection = Connection { body: EventBody::new(stream::pending(), || ready(())) };
    /// # drop(connection.body);
    /// ```
    ///
    /// Plain text is not an event:
    ///
    /// ```compile_fail,E0277
    /// # use futures_lite::stream;
    /// let words = stream::iter([String::from("a")]);
    /// sse_proto::EventBody::new(words, core::future::pending::<()>);
    /// ```
    pub struct EventBody<S, F: StartTimer> {
        #[pin]
        events: Option<S>,
        silence: F,
        #[pin]
        timer: Option<F::Timer>,
    }
}

/// A source of the timers of an [`EventBody`]. Each function and closure that returns a future is
/// one.
pub trait StartTimer {
    /// The timer, which completes when a keep-alive comment is due.
    type Timer: Future;

    /// Starts a timer. It is called when there is nothing to send.
    fn start_timer(&mut self) -> Self::Timer;
}

impl<F: FnMut() -> T, T: Future> StartTimer for F {
    type Timer = T;

    fn start_timer(&mut self) -> T {
        self()
    }
}

impl<S, F> EventBody<S, F>
where
    S: Stream<Item: AsEvent>,
    F: StartTimer,
{
    /// Creates a body of these events. `silence` creates a timer when there is nothing to send; the
    /// next event drops the timer. If the timer completes first, a comment is sent.
    ///
    /// Any runtime's timer works, such as `|| tokio::time::sleep(Duration::from_secs(15))` or
    /// `|| async_io::Timer::after(Duration::from_secs(15))`. With `core::future::pending::<()>`, no
    /// comments are sent.
    pub fn new(events: S, silence: F) -> Self {
        Self { events: Some(events), silence, timer: None }
    }
}

impl<S, F> Stream for EventBody<S, F>
where
    S: Stream<Item: AsEvent>,
    F: StartTimer,
{
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        // Each chunk has a buffer of its own, so the memory of a large event is freed with its
        // chunk.
        let mut chunk = Vec::new();
        while let Some(events) = this.events.as_mut().as_pin_mut() {
            match events.poll_next(cx) {
                Poll::Ready(Some(event)) => {
                    let event = event.as_event();
                    // This is exact for one event with one line of data, which is then the only
                    // allocation: `Bytes` needs another one for a vector with spare capacity.
                    chunk.reserve(event.one_line_len());
                    event.encode_to_vec(&mut chunk);
                    if chunk.len() >= FULL_CHUNK {
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
            this.timer.set(Some(this.silence.start_timer()));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
            this.timer.set(None);
        }
        Poll::Ready(Some(Ok(Bytes::from_static(KEEP_ALIVE))))
    }
}

impl<S, F: StartTimer> EventBody<S, F> {
    #[cfg(feature = "http-body")]
    pub(super) const fn is_over(&self) -> bool {
        self.events.is_none()
    }
}

impl<S: fmt::Debug, F: StartTimer> fmt::Debug for EventBody<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody").field("events", &self.events).finish_non_exhaustive()
    }
}
