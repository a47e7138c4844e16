//! Decodes chunks that are shared by reference count.

use core::mem;

use bytes::{Buf as _, Bytes};

use crate::{Decoder, EventTooLarge, OwnedEvent};

/// A decoder and the rest of its current chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoding {
    pub(super) decoder: Decoder,
    pub(super) chunk: Bytes,
    /// The last event ID of events without one of their own. It is a copy, because it may be kept
    /// for much longer than its chunk.
    inherited_id: Bytes,
}

impl Decoding {
    pub(super) const fn new(decoder: Decoder) -> Self {
        Self { decoder, chunk: Bytes::new(), inherited_id: Bytes::new() }
    }

    /// Returns the next event of the chunk. After `None`, the chunk is consumed and may be
    /// replaced.
    pub(super) fn next_event(&mut self) -> Option<Result<OwnedEvent, EventTooLarge>> {
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
