//! From a stream of chunks to a stream of events.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::Decoding;
use crate::{Decoder, EventTooLarge, OwnedEvent};

pin_project! {
    /// The events of a stream of chunks: a [`Stream`] over a [`Stream`].
    ///
    /// Chunks are whatever becomes [`Bytes`] at no cost: `Bytes`, `Vec<u8>`, `&'static [u8]`.
    /// Events are [slices](crate::Event::slice_ref) of their chunk where they can be.
    ///
    /// After an [oversized event](EventsError::TooLarge) the stream goes on with the next one. It
    /// ends with the chunks, or after an [error](EventsError::Chunks) of theirs: what would come
    /// behind a hole is anybody's guess. An event that is incomplete then is dropped (HTML Standard,
    /// 9.2.6).
    ///
    /// Comments are not events, and so a server's keep-alives are not seen here: a time-out for a
    /// connection that is silent belongs around the chunks. Comments themselves, and reconnecting,
    /// are to be had of [`Client`](crate::Client).
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on, stream};
    /// use sse_proto::{Events, EventsError};
    ///
    /// # block_on(async {
    /// let chunks = [Ok("id: 1\nda"), Ok("ta: a\n\ndata: b\n\ndata: c"), Err("broken")];
    /// let mut events = Events::new(stream::iter(chunks));
    /// assert_eq!(events.next().await.unwrap()?.data(), "a");
    /// assert_eq!(events.next().await.unwrap()?.last_event_id(), "1");
    /// assert_eq!(events.next().await, Some(Err(EventsError::Chunks("broken"))));
    /// assert_eq!(events.next().await, None);
    /// # Ok::<(), EventsError<&str>>(())
    /// # }).unwrap();
    /// ```
    #[derive(Clone, Debug)]
    pub struct Events<S> {
        #[pin]
        chunks: Option<S>,
        decoding: Decoding,
    }
}

impl<S> Events<S> {
    /// The events of these chunks.
    pub fn new(chunks: S) -> Self {
        Self::with_decoder(chunks, Decoder::new())
    }

    /// The same with a decoder of your own: with limits, or with a last event ID to begin with.
    pub const fn with_decoder(chunks: S, decoder: Decoder) -> Self {
        Self { chunks: Some(chunks), decoding: Decoding::new(decoder) }
    }

    /// The decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        &self.decoding.decoder
    }

    /// The decoder, [ready](Decoder::reset) for the next connection: with the last event ID and the
    /// reconnection time, and without what was incomplete.
    pub fn into_decoder(self) -> Decoder {
        let mut decoder = self.decoding.decoder;
        decoder.reset();
        decoder
    }
}

impl<S, C, E> Stream for Events<S>
where
    S: Stream<Item = Result<C, E>>,
    C: Into<Bytes>,
{
    type Item = Result<OwnedEvent, EventsError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(event) = this.decoding.next_event() {
                return Poll::Ready(Some(event.map_err(EventsError::TooLarge)));
            }
            let Some(chunks) = this.chunks.as_mut().as_pin_mut() else {
                return Poll::Ready(None);
            };
            match ready!(chunks.poll_next(cx)) {
                Some(Ok(chunk)) => this.decoding.chunk = chunk.into(),
                Some(Err(error)) => {
                    this.chunks.set(None);
                    return Poll::Ready(Some(Err(EventsError::Chunks(error))));
                }
                None => this.chunks.set(None),
            }
        }
    }
}

/// What [`Events`] may yield in place of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsError<E> {
    /// The chunks brought an error; it was the end of them.
    Chunks(E),
    /// An event is beyond the decoder's limits. The stream goes on after it.
    TooLarge(EventTooLarge),
}

impl<E: fmt::Display> fmt::Display for EventsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks(error) => write!(f, "the event stream broke: {error}"),
            Self::TooLarge(error) => error.fmt(f),
        }
    }
}

/// Without a source, so that errors that are boxed, which are no `Error`s, will do.
impl<E: fmt::Debug + fmt::Display> core::error::Error for EventsError<E> {}
