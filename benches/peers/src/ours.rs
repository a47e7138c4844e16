//! `sse-proto`. New ways of decoding belong here and into `DECODERS`.
//!
//! Each way has its own loop, although the loops look alike: the decoder is inlined into the loop,
//! and a shared loop would make all of them slower.

use sse_proto::{Decoder, Event, Events, Limits, Utf8Checker};

use crate::codecs::milliseconds;
use crate::decode::{Decode, Item, Start};
use crate::streams::{chunk_stream, drain};

/// Data as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Data as `str`, by `Utf8Checker`.
#[derive(Debug)]
pub enum Str {}

/// Data as `str`, with a check for each value.
#[derive(Debug)]
pub enum StrAlone {}

/// Owned events from a stream of chunks, with data as bytes.
#[derive(Debug)]
pub enum Stream {}

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

/// Emits the reconnection time at the end, as a block after the last event may have set it.
fn emit_end(decoder: &Decoder, emit: &mut impl FnMut(Item<'_>)) {
    if let Some(retry) = decoder.retry() {
        emit(Item::Retry(milliseconds(retry)));
    }
}

impl Decode for Bytes {
    const NAME: &'static str = "sse-proto";

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

impl Decode for Str {
    const NAME: &'static str = "sse-proto, data as `str`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            let mut utf8 = Utf8Checker::new(chunk);
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) if utf8.to_str(event.data()).is_ok() => {
                        emit_event(&event, &mut emit);
                    }
                    Ok(Some(_)) | Err(_) => emit(Item::Error),
                }
            }
        }
        emit_end(&decoder, &mut emit);
    }
}

impl Decode for StrAlone {
    const NAME: &'static str = "sse-proto, each `str` by itself";

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

impl Decode for Stream {
    const NAME: &'static str = "sse-proto, as `Stream`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut emit: impl FnMut(Item<'_>)) {
        drain(Events::with_decoder(chunk_stream(chunks), decoder(start)), |event| match event {
            Some(event) => emit_event(&event.as_event(), &mut emit),
            None => emit(Item::Error),
        });
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
