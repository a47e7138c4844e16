//! Adapters to the types of other crates. They only translate: they add no protocol logic and no
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

use core::mem;

use bytes::{Buf as _, Bytes};

use crate::{Decoder, EventTooLarge, OwnedEvent};

/// A decoder and the rest of its current chunk.
#[derive(Clone, Debug, Default)]
struct Decoding {
    decoder: Decoder,
    chunk: Bytes,
    /// The last event ID of events without one of their own. It is a copy, because it may be kept
    /// for much longer than its chunk.
    inherited_id: Bytes,
}

impl Decoding {
    const fn new(decoder: Decoder) -> Self {
        Self { decoder, chunk: Bytes::new(), inherited_id: Bytes::new() }
    }

    /// Returns the next event of the chunk. After `None`, the chunk is consumed and may be
    /// replaced.
    fn next_event(&mut self) -> Option<Result<OwnedEvent, EventTooLarge>> {
        let mut rest = &self.chunk[..];
        let event = self.decoder.next_event(&mut rest).map(|event| {
            event.map(|event| {
                if event.id().is_some() {
                    return event.slice_ref(&self.chunk);
                }
                if event.last_event_id() != *self.inherited_id {
                    self.inherited_id = Bytes::copy_from_slice(&event.last_event_id());
                }
                event.slice_ref_with_id(&self.chunk, self.inherited_id.clone())
            })
        });
        let used = self.chunk.len() - rest.len();
        if rest.is_empty() {
            // Releases a consumed chunk at once: an empty slice would keep its memory until the
            // next chunk.
            mem::take(&mut self.chunk);
        } else {
            self.chunk.advance(used);
        }
        event.transpose()
    }
}
