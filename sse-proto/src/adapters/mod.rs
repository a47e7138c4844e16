//! The protocol in other crates' terms. Each adapter is a translation: no protocol of its own, no
//! runtime.

#[cfg(feature = "futures-core")]
mod body;
#[cfg(feature = "tokio-util")]
mod codec;
#[cfg(feature = "futures-core")]
mod events;
#[cfg(feature = "http-body")]
mod http;

#[cfg(feature = "futures-core")]
pub use body::EventBody;
#[cfg(feature = "tokio-util")]
pub use codec::EventCodec;
#[cfg(feature = "futures-core")]
pub use events::{Events, EventsError};
#[cfg(feature = "http-body")]
pub use http::BodyChunks;

use bytes::{Buf as _, Bytes};

use crate::{Decoder, EventTooLarge, OwnedEvent};

/// A decoder, and the rest of the chunk that it is in.
#[derive(Clone, Debug, Default)]
struct Decoding {
    decoder: Decoder,
    chunk: Bytes,
}

impl Decoding {
    const fn new(decoder: Decoder) -> Self {
        Self { decoder, chunk: Bytes::new() }
    }

    /// The next event of the chunk. After `None` the chunk is used up and may be replaced.
    fn next_event(&mut self) -> Option<Result<OwnedEvent, EventTooLarge>> {
        let mut rest = &self.chunk[..];
        let event = self.decoder.next_event(&mut rest);
        let event = event.map(|event| event.map(|event| event.slice_ref(&self.chunk)));
        let used = self.chunk.len() - rest.len();
        self.chunk.advance(used);
        event.transpose()
    }
}
