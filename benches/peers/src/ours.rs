//! `sse-proto`. Whatever it gets besides belongs here, and into `DECODERS`.

use sse_proto::{Decoder, Limits};

use crate::decode::{Decode, Item};

/// Data as bytes.
#[derive(Debug)]
pub enum Bytes {}

/// Data as `str`, checked.
#[derive(Debug)]
pub enum Str {}

fn decode(chunks: &[bytes::Bytes], seed: &str, mut see: impl FnMut(Item<'_>), strict: bool) {
    // The shapes go beyond the default for the size of data.
    let mut decoder = Decoder::with_limits(Limits { data: 1 << 30, ..Limits::default() });
    decoder.set_last_event_id(seed).expect("a seed that fits");
    for chunk in chunks {
        let mut chunk = &chunk[..];
        loop {
            match decoder.next_event(&mut chunk) {
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
    // Of the blocks after the last event.
    if let Some(retry) = decoder.retry() {
        see(Item::Retry(retry));
    }
}

impl Decode for Bytes {
    const NAME: &'static str = "sse-proto";

    fn decode(chunks: &[bytes::Bytes], seed: &str, see: impl FnMut(Item<'_>)) {
        decode(chunks, seed, see, false);
    }
}

impl Decode for Str {
    const NAME: &'static str = "sse-proto, data as `str`";

    fn decode(chunks: &[bytes::Bytes], seed: &str, see: impl FnMut(Item<'_>)) {
        decode(chunks, seed, see, true);
    }
}
