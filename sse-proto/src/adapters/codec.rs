//! For `tokio_util::codec`: framed reading and writing.

use std::io;

use bytes::BytesMut;
use tokio_util::codec;

use super::Decoding;
use crate::{AsEvent, Comment, Decoder, EventTooLarge, OwnedEvent};

/// Decodes and encodes for [`FramedRead`](codec::FramedRead) and
/// [`FramedWrite`](codec::FramedWrite).
///
/// An oversized event is an item, not an error of the codec, so that framed reading goes on after
/// it. Comments can be sent beside events.
///
/// What has been read and not decoded yet is kept in the codec, not in the read buffer of the
/// framed reader: another codec cannot take over.
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
    /// A codec at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a decoder of your own: with limits, or with a last event ID to begin with.
    pub const fn with_decoder(decoder: Decoder) -> Self {
        Self { decoding: Decoding::new(decoder) }
    }

    /// The decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder {
        &self.decoding.decoder
    }
}

impl codec::Decoder for EventCodec {
    type Item = Result<OwnedEvent, EventTooLarge>;
    type Error = io::Error;

    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        loop {
            let event = self.decoding.next_event();
            if event.is_some() || input.is_empty() {
                return Ok(event);
            }
            // The codec keeps what is left of it: the caller sees it as used up, at the end of
            // the stream, too, where what is incomplete is dropped without an error.
            self.decoding.chunk = input.split().freeze();
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
