//! Framed reading and writing, for `tokio_util::codec`.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio_util::codec;

use super::decoding::Decoding;
use crate::{AsEvent, Comment, Decoder, EventTooLarge, OwnedEvent};

/// A codec for [`FramedRead`](codec::FramedRead) and [`FramedWrite`](codec::FramedWrite).
///
/// An event that exceeds the limits is an item, not an error of the codec, so that framed reading
/// continues after it. Comments can be sent as well as events.
///
/// Bytes that have been read but not decoded are kept in the codec, not in the read buffer of the
/// framed reader, so the codec cannot be replaced in the middle of a stream.
///
/// ```
/// use futures_lite::{StreamExt, future::block_on};
/// use sse_proto::EventCodec;
/// use tokio_util::codec::FramedRead;
///
/// # block_on(async {
/// let socket: &[u8] = b"data: a\n\nid: 7\ndata: b\n\ndata: incomplete";
/// let mut events = FramedRead::new(socket, EventCodec::new());
/// assert_eq!(events.next().await.unwrap()?.unwrap().data(), "a");
/// assert_eq!(events.next().await.unwrap()?.unwrap().last_event_id(), "7");
/// assert!(events.next().await.is_none());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct EventCodec {
    decoding: Decoding,
}

impl EventCodec {
    /// Creates a codec for the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a codec with this decoder, which may have custom limits or an initial last event ID.
    pub const fn with_decoder(decoder: Decoder) -> Self {
        Self { decoding: Decoding::new(decoder) }
    }

    /// Returns the decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        &self.decoding.decoder
    }
}

impl codec::Decoder for EventCodec {
    type Item = Result<OwnedEvent, EventTooLarge>;
    type Error = io::Error;

    #[inline]
    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        loop {
            if let Some(event) = self.decoding.next_plain_event() {
                return Ok(Some(Ok(event)));
            }
            match self.decoding.next_event() {
                Ok(Some(event)) => return Ok(Some(Ok(event))),
                Err(error) => return Ok(Some(Err(error))),
                Ok(None) if input.is_empty() => return Ok(None),
                Ok(None) => {}
            }
            // This consumes all of the input, so the read buffer is empty at the end of the stream,
            // and an incomplete event is dropped without an error.
            let mut rest = &input[..];
            let result = self.decoding.decoder.skip_to_event(&mut rest);
            let left = rest.len();
            if left == 0 {
                input.clear();
            } else {
                // Only bytes that may complete an event are taken out of the read buffer, since
                // this allocates.
                input.advance(input.len() - left);
                self.decoding.chunk = input.split().freeze();
            }
            match result {
                Err(error) => return Ok(Some(Err(error))),
                Ok(()) if left == 0 => return Ok(None),
                Ok(()) => {}
            }
        }
    }
}

impl<E: AsEvent> codec::Encoder<E> for EventCodec {
    type Error = io::Error;

    fn encode(&mut self, event: E, output: &mut BytesMut) -> io::Result<()> {
        event.as_event().slices().for_each(|slice| output.extend_from_slice(slice));
        Ok(())
    }
}

impl codec::Encoder<Comment<'_>> for EventCodec {
    type Error = io::Error;

    fn encode(&mut self, comment: Comment<'_>, output: &mut BytesMut) -> io::Result<()> {
        comment.slices().for_each(|slice| output.extend_from_slice(slice));
        Ok(())
    }
}
