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

use core::mem;

use bytes::{Buf as _, Bytes};

use crate::{Decoder, EventTooLarge, OwnedEvent};

/// A decoder, and the rest of the chunk that it is in.
#[derive(Clone, Debug, Default)]
struct Decoding {
    decoder: Decoder,
    chunk: Bytes,
    /// The last event ID of events without one of their own. A copy: it may stay for long.
    inherited_id: Bytes,
}

impl Decoding {
    const fn new(decoder: Decoder) -> Self {
        Self { decoder, chunk: Bytes::new(), inherited_id: Bytes::new() }
    }

    /// The next event of the chunk. After `None` the chunk is used up and may be replaced.
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
            // What is used up is not held: an empty slice would, until the next chunk comes.
            mem::take(&mut self.chunk);
        } else {
            self.chunk.advance(used);
        }
        event.transpose()
    }
}
