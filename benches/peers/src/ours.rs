//! `sse-proto`. Whatever it gets besides belongs here, and into `DECODERS`.
//!
//! Each way to decode has a loop of its own, although they look alike: the decoder is compiled into
//! the loop around it, and one that serves several ways makes all of them slower.

use sse_proto::{Decoder, Event, Events, Limits, Utf8Checker};

use crate::decode::{Decode, Item, Start};
use crate::streams::{chunk_stream, drain};

/// Data as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Data as `str`, checked.
#[derive(Debug)]
pub enum Str {}

/// Data as `str`, each value checked by itself.
#[derive(Debug)]
pub enum StrAlone {}

/// Events to own, from a stream of chunks; data as bytes.
#[derive(Debug)]
pub enum Stream {}

/// Data as bytes, and comments. No row of the tables, where others do without.
#[derive(Debug)]
pub enum WithComments {}

fn decoder(start: Start<'_>) -> Decoder {
    let limits = Limits { data: usize::MAX, ..Limits::default() };
    let mut decoder =
        Decoder::with_limits(if start.no_limits { limits } else { Limits::default() });
    decoder.set_last_event_id(start.seed).expect("a seed that fits");
    decoder
}

fn see_event(event: &Event<'_>, see: &mut impl FnMut(Item<'_>)) {
    if let Some(retry) = event.retry() {
        see(Item::Retry(retry));
    }
    see(Item::Event {
        event_type: event.event_type().as_bytes(),
        data: event.data().as_bytes(),
        id: event.last_event_id().as_bytes(),
    });
}

/// The end of the stream: a block after the last event may have set the reconnection time.
fn see_end(decoder: &Decoder, see: &mut impl FnMut(Item<'_>)) {
    if let Some(retry) = decoder.retry() {
        see(Item::Retry(retry));
    }
}

impl Decode for Bytes {
    const NAME: &'static str = "sse-proto";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) => see_event(&event, &mut see),
                    Err(_) => see(Item::Error),
                }
            }
        }
        see_end(&decoder, &mut see);
    }
}

impl Decode for Str {
    const NAME: &'static str = "sse-proto, data as `str`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            let mut utf8 = Utf8Checker::new(chunk);
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) if utf8.to_str(event.data()).is_ok() => {
                        see_event(&event, &mut see);
                    }
                    Ok(Some(_)) | Err(_) => see(Item::Error),
                }
            }
        }
        see_end(&decoder, &mut see);
    }
}

impl Decode for StrAlone {
    const NAME: &'static str = "sse-proto, each `str` by itself";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                match decoder.next_event(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(event)) if event.data().to_str().is_ok() => see_event(&event, &mut see),
                    Ok(Some(_)) | Err(_) => see(Item::Error),
                }
            }
        }
        see_end(&decoder, &mut see);
    }
}

impl Decode for Stream {
    const NAME: &'static str = "sse-proto, as `Stream`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        drain(Events::with_decoder(chunk_stream(chunks), decoder(start)), |event| match event {
            Some(event) => see_event(&event.as_event(), &mut see),
            None => see(Item::Error),
        });
    }
}

impl Decode for WithComments {
    const NAME: &'static str = "sse-proto, with comments";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>)) {
        let mut decoder = decoder(start);
        for chunk in chunks {
            let mut chunk = &chunk[..];
            loop {
                let on_comment = |_: &[u8], end| {
                    if end {
                        see(Item::Comment);
                    }
                };
                match decoder.next_event_with_comments(&mut chunk, on_comment) {
                    Ok(None) => break,
                    Ok(Some(event)) => see_event(&event, &mut see),
                    Err(_) => see(Item::Error),
                }
            }
        }
        see_end(&decoder, &mut see);
    }
}
