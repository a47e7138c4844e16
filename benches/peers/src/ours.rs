//! `sse-proto`. New ways of decoding belong here and into `DECODERS`.
//!
//! Each way has its own loop, although the loops look alike: the decoder is inlined into the loop,
//! and a shared loop would make all of them slower.

use std::time::Duration;

use sse_proto::{
    Client, ClientConfig, Decoder, Event, EventCodec, Events, Limits, OwnedEvent, ResponseHead,
};
use tokio_util::codec::Decoder as _;

use crate::codecs::{feed, milliseconds};
use crate::decode::{Decode, Item, Start};
use crate::streams::{chunk_stream, drain};

/// The loop of the documentation, with data as `str`.
#[derive(Debug)]
pub enum Loop {}

/// The same loop with data as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Owned events from a stream of chunks, with data as `str`.
#[derive(Debug)]
pub enum Stream {}

/// Owned events from the codec, with data as `str`.
#[derive(Debug)]
pub enum Codec {}

/// The state machine of a client on an open connection, with data as `str`.
#[derive(Debug)]
pub enum OpenClient {}

/// Data as bytes, and comments. Not in the speed tables, where peers do not report comments.
#[derive(Debug)]
pub enum WithComments {}

fn decoder(start: Start<'_>) -> Decoder {
    let limits = Limits::default().with_data(usize::MAX);
    let mut decoder =
        Decoder::with_limits(if start.no_limits { limits } else { Limits::default() });
    decoder.set_last_event_id(start.seed).expect("the seed is within the limits");
    decoder
}

fn emit_event(event: &Event<'_>, emit: &mut impl FnMut(Item<'_>)) {
    if let Some(retry) = event.retry() {
        emit(Item::Retry(milliseconds(retry)));
    }
    emit(Item::Event {
        event_type: event.event_type().as_bytes(),
        data: event.data().as_bytes(),
        id: event.last_event_id().as_bytes(),
    });
}

/// Emits an event whose data are UTF-8, and an error otherwise.
fn emit_owned(event: Option<&OwnedEvent>, emit: &mut impl FnMut(Item<'_>)) {
    match event {
        Some(event) if event.data().to_str().is_ok() => emit_event(&event.as_event(), emit),
        _ => emit(Item::Error),
    }
}

/// Emits the reconnection time at the end, as a block after the last event may have set it.
fn emit_end(decoder: &Decoder, emit: &mut impl FnMut(Item<'_>)) {
    if let Some(retry) = decoder.retry() {
        emit(Item::Retry(milliseconds(retry)));
    }
}

impl Decode for Loop {
    const NAME: &'static str = "sse-proto";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) if event.data().to_str().is_ok() => {
                        emit_event(&event, &mut emit);
                    }
                    Ok(Some(_)) | Err(_) => emit(Item::Error),
                }
            }
        }
        emit_end(&decoder, &mut emit);
    }
}

impl Decode for Bytes {
    const NAME: &'static str = "sse-proto, data as bytes";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) => emit_event(&event, &mut emit),
                    Err(_) => emit(Item::Error),
                }
            }
        }
        emit_end(&decoder, &mut emit);
    }
}

impl Decode for Stream {
    const NAME: &'static str = "sse-proto, `Events`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let events = Events::with_decoder(chunk_stream(chunks), decoder(start));
        drain(events, |event| emit_owned(event.as_ref(), &mut emit));
    }
}

impl Decode for Codec {
    const NAME: &'static str = "sse-proto, `EventCodec`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut codec = EventCodec::with_decoder(decoder(start));
        feed(
            chunks,
            |buffer, _| codec.decode(buffer),
            |event| emit_owned(event.as_ref().and_then(|event| event.as_ref().ok()), &mut emit),
        );
    }
}

impl Decode for OpenClient {
    const NAME: &'static str = "sse-proto, `Client`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let now = Duration::ZERO;
        let mut client = Client::with_decoder(ClientConfig::default(), decoder(start));
        client.poll_request(now).expect("the first request is due");
        let content_type: &[&[u8]] = &[b"text/event-stream"];
        let head = ResponseHead::new(200, content_type);
        client.handle_response(head, now, 0).expect("the response is an event stream");
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                match client.next_event(&mut chunk, now) {
                    Ok(None) => break,
                    Ok(Some(event)) if event.data().to_str().is_ok() => {
                        emit_event(&event, &mut emit);
                    }
                    Ok(Some(_)) | Err(_) => emit(Item::Error),
                }
            }
        }
        emit_end(client.decoder(), &mut emit);
    }
}

impl Decode for WithComments {
    const NAME: &'static str = "sse-proto, with comments";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                let on_comment = |_: &[u8], end| {
                    if end {
                        emit(Item::Comment);
                    }
                };
                match decoder.next_event_with_comments(&mut chunk, on_comment) {
                    Ok(None) => break,
                    Ok(Some(event)) => emit_event(&event, &mut emit),
                    Err(_) => emit(Item::Error),
                }
            }
        }
        emit_end(&decoder, &mut emit);
    }
}
