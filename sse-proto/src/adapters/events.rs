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
    /// Nothing ends the stream but the end of the chunks: after an
    /// [oversized event](EventsError::TooLarge) it goes on with the next one, and after an
    /// [error of the chunks](EventsError::Chunks) with whatever chunk comes next. An event that is
    /// incomplete when the chunks end is dropped (HTML Standard, 9.2.6).
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on, stream};
    /// use sse_proto::{Events, EventsError};
    ///
    /// # block_on(async {
    /// let chunks = stream::iter([Ok("id: 1\nda"), Err("broken"), Ok("ta: a\n\ndata: b\n\ndata: c")]);
    /// let mut events = Events::new(chunks);
    /// assert_eq!(events.next().await, Some(Err(EventsError::Chunks("broken"))));
    /// assert_eq!(events.next().await.unwrap()?.data(), "a");
    /// assert_eq!(events.next().await.unwrap()?.last_event_id(), "1");
    /// assert_eq!(events.next().await, None);
    /// # Ok::<(), EventsError<&str>>(())
    /// # }).unwrap();
    /// ```
    #[derive(Clone, Debug)]
    pub struct Events<S> {
        #[pin]
        chunks: S,
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
        Self { chunks, decoding: Decoding::new(decoder) }
    }

    /// The decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        &self.decoding.decoder
    }

    /// The decoder, to be [reset](Decoder::reset) and taken to the next connection.
    pub fn into_decoder(self) -> Decoder {
        self.decoding.decoder
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
            match ready!(this.chunks.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => this.decoding.chunk = chunk.into(),
                Some(Err(error)) => return Poll::Ready(Some(Err(EventsError::Chunks(error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// What [`Events`] may yield in place of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsError<E> {
    /// The chunks brought an error.
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

impl<E: core::error::Error + 'static> core::error::Error for EventsError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Chunks(error) => Some(error),
            Self::TooLarge(error) => Some(error),
        }
    }
}
