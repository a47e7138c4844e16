//! Decodes a stream of chunks into a stream of events.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::decoding::Decoding;
use crate::{Decoder, EventTooLarge, OwnedEvent};

pin_project! {
    /// A [`Stream`] of the events in a [`Stream`] of chunks.
    ///
    /// Chunks are of any type that becomes [`Bytes`] at no cost: `Bytes`, `Vec<u8>`,
    /// `&'static [u8]`. Long events are [slices](crate::Event::slice_ref) of their chunk where
    /// possible, and short ones are copied, so that they do not keep it in memory.
    ///
    /// After an [oversized event](EventsError::TooLarge), the stream continues with the next one.
    /// It ends with the chunks or after the first [error](EventsError::Chunks) among them, because
    /// bytes after a gap cannot be interpreted. An event that is incomplete by then is dropped
    /// (HTML Standard, 9.2.6).
    ///
    /// Comments are not events, so a server's keep-alives are not visible here: apply a timeout for
    /// silent connections to the stream of chunks. For comments, and for reconnection, use
    /// [`Client`](crate::Client).
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
    /// Creates a stream of the events in these chunks.
    pub fn new(chunks: S) -> Self {
        Self::with_decoder(chunks, Decoder::new())
    }

    /// Creates a stream with this decoder, which may have custom limits or an initial last event
    /// ID.
    pub const fn with_decoder(chunks: S, decoder: Decoder) -> Self {
        Self { chunks: Some(chunks), decoding: Decoding::new(decoder) }
    }

    /// Returns the decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        &self.decoding.decoder
    }

    /// Returns the stream of chunks, or `None` after it has ended or failed, when it has been dropped.
    ///
    /// ```
    /// use futures_lite::{Stream, StreamExt, future::block_on, stream};
    /// use sse_proto::Events;
    ///
    /// # block_on(async {
    /// let chunks = stream::iter([Ok::<_, ()>("data: a\n\n"), Ok("data: b\n\n")]);
    /// let mut events = Events::new(chunks);
    /// assert_eq!(events.next().await.unwrap().unwrap().data(), "a");
    /// assert_eq!(events.get_ref().unwrap().size_hint(), (1, Some(1)));
    /// assert_eq!(events.into_inner().unwrap().next().await, Some(Ok("data: b\n\n")));
    /// # });
    /// ```
    pub const fn get_ref(&self) -> Option<&S> {
        self.chunks.as_ref()
    }

    /// Returns the stream of chunks, or `None` after it has ended or failed. The rest of the chunk
    /// that was being decoded is lost, as is an incomplete event.
    pub fn into_inner(self) -> Option<S> {
        self.chunks
    }

    /// Returns the decoder, [prepared](Decoder::reset) for the next connection: it keeps the last
    /// event ID and the reconnection time, but no incomplete event.
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

    /// Returns the next event. It is inlined, so that the caller does not load an event from memory
    /// that has just been stored there.
    #[allow(clippy::inline_always)] // moving an event in memory takes longer than decoding it
    #[inline(always)]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let decoding = self.as_mut().project().decoding;
            if let Some(event) = decoding.next_plain_event() {
                return Poll::Ready(Some(Ok(event)));
            }
            match decoding.next_event() {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(EventsError::TooLarge(error)))),
            }
            match self.as_mut().poll_chunk(cx) {
                Poll::Ready(Some(Ok(()))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S, C, E> Events<S>
where
    S: Stream<Item = Result<C, E>>,
    C: Into<Bytes>,
{
    /// Receives chunks up to one that may complete an event.
    #[inline(never)]
    fn poll_chunk(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(), EventsError<E>>>> {
        let mut this = self.project();
        while let Some(chunks) = this.chunks.as_mut().as_pin_mut() {
            match chunks.poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => match this.decoding.add_chunk(chunk.into()) {
                    Ok(true) => return Poll::Ready(Some(Ok(()))),
                    Ok(false) => {}
                    Err(error) => return Poll::Ready(Some(Err(EventsError::TooLarge(error)))),
                },
                Poll::Ready(Some(Err(error))) => {
                    this.chunks.set(None);
                    return Poll::Ready(Some(Err(EventsError::Chunks(error))));
                }
                Poll::Ready(None) => this.chunks.set(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

/// An error that [`Events`] yields in place of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventsError<E> {
    /// The stream of chunks failed. The stream of events ends with this error.
    Chunks(E),
    /// An event exceeds the decoder's limits. The stream continues after it.
    TooLarge(EventTooLarge),
}

impl<E: fmt::Display> fmt::Display for EventsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks(error) => write!(f, "the event stream failed: {error}"),
            Self::TooLarge(error) => error.fmt(f),
        }
    }
}

/// Has no `source`, so that `E` may be a type that does not implement
/// [`Error`](core::error::Error), such as a boxed error.
impl<E: fmt::Debug + fmt::Display> core::error::Error for EventsError<E> {}
