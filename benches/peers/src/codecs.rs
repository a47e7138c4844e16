//! Peers with a decoder that is called with bytes until it has no more items.

use bytes::{Bytes, BytesMut};

use crate::decode::{Decode, Item, Start, TOO_MANY_ERRORS};

/// Emits an item of sse-core, from its decoder or its stream.
pub(crate) fn emit_sse_core(event: &sse_core::SseEvent, emit: &mut impl FnMut(Item<'_>)) {
    match event {
        sse_core::SseEvent::Message(message) => emit(Item::Event {
            event_type: message.event.as_bytes(),
            data: message.data.as_bytes(),
            id: message.last_event_id.as_deref().unwrap_or_default().as_bytes(),
        }),
        sse_core::SseEvent::Retry(retry) => emit(Item::Retry((*retry).into())),
    }
}

/// Returns the decoder of sse-core.
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

    fn decode(chunks: &[Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut decoder = sse_core(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            while let Some(event) = decoder.next(&mut chunk) {
                match event {
                    Ok(event) => emit_sse_core(&event, &mut emit),
                    Err(_) => emit(Item::Error),
                }
            }
        }
    }
}

/// Feeds a codec: each chunk is appended to the buffer that the codec consumes.
pub(crate) fn feed<T, E>(
    chunks: &[Bytes],
    mut decode: impl FnMut(&mut BytesMut, bool) -> Result<Option<T>, E>,
    mut emit: impl FnMut(Option<T>),
) {
    let mut buffer = BytesMut::new();
    let mut errors = 0;
    let end = &Bytes::new();
    for chunk in chunks.iter().chain([end]) {
        buffer.extend_from_slice(chunk);
        loop {
            match decode(&mut buffer, chunk.is_empty()) {
                Ok(None) => break,
                Ok(Some(item)) => emit(Some(item)),
                // Some codecs report leftover input at the end as an error; the standard does not.
                Err(_) if chunk.is_empty() => return,
                Err(_) => {
                    emit(None);
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

    fn decode(chunks: &[Bytes], _: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        use futures_codec::Decoder;
        let mut codec = sse_codec::SSECodec::default();
        let decode = |buffer: &mut BytesMut, end| {
            if end { codec.decode_eof(buffer) } else { codec.decode(buffer) }
        };
        feed(chunks, decode, |item| match item {
            Some(sse_codec::Event::Message { id, event, data }) => emit(Item::Event {
                event_type: event.as_bytes(),
                data: data.as_bytes(),
                id: id.unwrap_or_default().as_bytes(),
            }),
            Some(sse_codec::Event::Retry { retry }) => emit(Item::Retry(retry)),
            None => emit(Item::Error),
        });
    }
}

/// `russe::Decoder`, which returns blocks: IDs and types do not carry over between them.
#[derive(Debug)]
pub enum Russe {}

impl Decode for Russe {
    const NAME: &'static str = "russe";

    fn decode(chunks: &[Bytes], _: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        use tokio_util::codec::Decoder;
        let mut codec = russe::Decoder::default();
        let decode = |buffer: &mut BytesMut, end| {
            if end { codec.decode_eof(buffer) } else { codec.decode(buffer) }
        };
        feed(chunks, decode, |item| match item {
            Some(russe::Event::Message(message)) => {
                if let Some(retry) = message.retry {
                    emit(Item::Retry(milliseconds(retry)));
                }
                emit(Item::Event {
                    event_type: message.event.as_deref().unwrap_or("message").as_bytes(),
                    data: message.data.as_bytes(),
                    id: message.id.as_deref().unwrap_or_default().as_bytes(),
                });
            }
            Some(russe::Event::Comment(_)) => emit(Item::Comment),
            Some(russe::Event::Retry(retry)) => emit(Item::Retry(milliseconds(retry))),
            None => emit(Item::Error),
        });
    }
}

pub(crate) fn milliseconds(retry: std::time::Duration) -> u64 {
    u64::try_from(retry.as_millis()).unwrap_or(u64::MAX)
}
