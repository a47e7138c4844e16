//! Decodes chunks that are shared by reference count.

use core::mem;

use bytes::{Buf as _, Bytes};

use crate::{Decoder, Event, EventTooLarge, OwnedEvent};

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
        let event = self
            .decoder
            .next_event(&mut rest)
            .map(|event| event.map(|event| slice(event, &self.chunk, &mut self.inherited_id)));
        let left = rest.len();
        consume(&mut self.chunk, left);
        event.transpose()
    }
}

/// Returns an event of a chunk as slices of the chunk. `inherited_id` caches the last event ID of
/// events without one of their own.
pub(super) fn slice(event: Event<'_>, chunk: &Bytes, inherited_id: &mut Bytes) -> OwnedEvent {
    if event.id().is_some() {
        return event.slice_ref(chunk);
    }
    if event.last_event_id() != **inherited_id {
        *inherited_id = Bytes::copy_from_slice(&event.last_event_id());
    }
    event.slice_ref_with_id(chunk, inherited_id.clone())
}

/// Shortens a chunk to its last `left` bytes.
pub(super) fn consume(chunk: &mut Bytes, left: usize) {
    if left == 0 {
        // Releases a consumed chunk at once: an empty slice would keep its memory until the next
        // chunk.
        mem::take(chunk);
    } else {
        chunk.advance(chunk.len() - left);
    }
}
