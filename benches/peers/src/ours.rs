//! `sse-proto`. Whatever it gets besides belongs here, and into `DECODERS`.

use sse_proto::{Decoder, Limits};

use crate::decode::{Decode, Item, Start};

/// Data as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Data as `str`, checked.
#[derive(Debug)]
pub enum Str {}

fn decode(chunks: &[bytes::Bytes], start: Start<'_>, mut see: impl FnMut(Item<'_>), strict: bool) {
    let limits = Limits { data: usize::MAX, ..Limits::default() };
    let limits = if start.no_limits { limits } else { Limits::default() };
    let mut decoder = Decoder::with_limits(limits);
    decoder.set_last_event_id(start.seed).expect("a seed that fits");
    for chunk in chunks {
        let mut chunk = &chunk[..];
        loop {
            let event = if start.comments {
                let on_comment = |_: &[u8], end| {
                    if end {
                        see(Item::Comment);
                    }
                };
                decoder.next_event_with_comments(&mut chunk, on_comment)
            } else {
                decoder.next_event(&mut chunk)
            };
            match event {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if strict && event.data().to_str().is_err() {
                        see(Item::Error);
                        continue;
                    }
                    if let Some(retry) = event.retry() {
                        see(Item::Retry(retry));
                    }
                    see(Item::Event {
                        event_type: event.event_type().as_bytes(),
                        data: event.data().as_bytes(),
                        id: event.last_event_id().as_bytes(),
                    });
                }
                Err(_) => see(Item::Error),
            }
        }
    }
    // Set by a block after the last event, maybe.
    if let Some(retry) = decoder.retry() {
        see(Item::Retry(retry));
    }
}

impl Decode for Bytes {
    const NAME: &'static str = "sse-proto";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, see: impl FnMut(Item<'_>)) {
        decode(chunks, start, see, false);
    }
}

impl Decode for Str {
    const NAME: &'static str = "sse-proto, data as `str`";

    fn decode(chunks: &[bytes::Bytes], start: Start<'_>, see: impl FnMut(Item<'_>)) {
        decode(chunks, start, see, true);
    }
}
