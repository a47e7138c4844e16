//! Peers that are driven by hand: a call with bytes, again until there is nothing more.

use bytes::{Bytes, BytesMut};

use crate::decode::{Decode, Item, Start, TOO_MANY_ERRORS};

/// What sse-core found, by hand or as a stream.
pub(crate) fn see_sse_core(event: &sse_core::SseEvent, see: &mut impl FnMut(Item<'_>)) {
    match event {
        sse_core::SseEvent::Message(message) => see(Item::Event {
            event_type: message.event.as_bytes(),
            data: message.data.as_bytes(),
            id: message.last_event_id.as_deref().unwrap_or_default().as_bytes(),
        }),
        sse_core::SseEvent::Retry(retry) => see(Item::Retry((*retry).into())),
    }
}

/// The decoder of sse-core.
pub(crate) fn sse_core(start: Start<'_>) -> sse_core::SseDecoder {
    let mut decoder = if start.no_limits {
        sse_core::SseDecoder::with_limit(std::num::NonZeroUsize::MAX)
    } else {
        sse_core::SseDecoder::new()
    };
    if !start.seed.is_empty() {
        decoder.reconnect_with_id(Some(start.seed.into()));
    }
    decoder
}

/// `sse_core::SseDecoder`.
#[derive(Debug)]
pub enum SseCore {}

impl Decode for SseCore {
    const NAME: &'static str = "sse-core";

    fn decode(chunks: &[Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut decoder = sse_core(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            while let Some(event) = decoder.next(&mut chunk) {
                match event {
                    Ok(event) => see_sse_core(&event, &mut see),
                    Err(_) => see(Item::Error),
                }
            }
        }
    }
}

/// Feeds a codec: each chunk is copied behind what it has left over.
fn feed<T, E>(
    chunks: &[Bytes],
    mut decode: impl FnMut(&mut BytesMut, bool) -> Result<Option<T>, E>,
    mut see: impl FnMut(Option<T>),
) {
    let mut buffer = BytesMut::new();
    let mut errors = 0;
    let end = &Bytes::new();
    for chunk in chunks.iter().chain([end]) {
        buffer.extend_from_slice(chunk);
        loop {
            match decode(&mut buffer, chunk.is_empty()) {
                Ok(None) => break,
                Ok(Some(item)) => see(Some(item)),
                // What is left at the end is an error to some, and none to the standard.
                Err(_) if chunk.is_empty() => return,
                Err(_) => {
                    see(None);
                    errors += 1;
                    if errors == TOO_MANY_ERRORS {
                        return;
                    }
                }
            }
        }
    }
}

/// `sse_codec::SSECodec`.
#[derive(Debug)]
pub enum SseCodec {}

impl Decode for SseCodec {
    const NAME: &'static str = "sse-codec";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        use futures_codec::Decoder;
        let mut codec = sse_codec::SSECodec::default();
        let decode = |buffer: &mut BytesMut, end| {
            if end { codec.decode_eof(buffer) } else { codec.decode(buffer) }
        };
        feed(chunks, decode, |item| match item {
            Some(sse_codec::Event::Message { id, event, data }) => see(Item::Event {
                event_type: event.as_bytes(),
                data: data.as_bytes(),
                id: id.unwrap_or_default().as_bytes(),
            }),
            Some(sse_codec::Event::Retry { retry }) => see(Item::Retry(retry)),
            None => see(Item::Error),
        });
    }
}

/// `russe::Decoder`, which gives blocks: what is absent in one is absent.
#[derive(Debug)]
pub enum Russe {}

impl Decode for Russe {
    const NAME: &'static str = "russe";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        use tokio_util::codec::Decoder;
        let mut codec = russe::Decoder::default();
        let decode = |buffer: &mut BytesMut, end| {
            if end { codec.decode_eof(buffer) } else { codec.decode(buffer) }
        };
        feed(chunks, decode, |item| match item {
            Some(russe::Event::Message(message)) => {
                if let Some(retry) = message.retry {
                    see(Item::Retry(milliseconds(retry)));
                }
                see(Item::Event {
                    event_type: message.event.as_deref().unwrap_or("message").as_bytes(),
                    data: message.data.as_bytes(),
                    id: message.id.as_deref().unwrap_or_default().as_bytes(),
                });
            }
            Some(russe::Event::Comment(_)) => see(Item::Comment),
            Some(russe::Event::Retry(retry)) => see(Item::Retry(milliseconds(retry))),
            None => see(Item::Error),
        });
    }
}

pub(crate) fn milliseconds(retry: std::time::Duration) -> u64 {
    u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)
}
