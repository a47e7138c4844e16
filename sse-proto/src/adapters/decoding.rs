//! Decodes chunks that are shared by reference count.

use bytes::{Buf as _, Bytes};

use crate::owned::{Layout, copy, offset};
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

    /// Returns the next event of the chunk if it is short and [plain](Decoder::next_plain_event),
    /// which most events of most streams are. Inlined, it leaves the event in registers until it is
    /// in the caller's result.
    #[allow(clippy::inline_always)] // moving an event in memory takes longer than decoding it
    #[inline(always)]
    pub(super) fn next_plain_event(&mut self) -> Option<OwnedEvent> {
        let mut rest = &self.chunk[..];
        let data = self.decoder.next_plain_event(&mut rest)?;
        let layout = Layout::of_data(data.len())?;
        let start = offset(data, &self.chunk)?;
        let memory = copy(&self.chunk, start..start + data.len());
        let left = rest.len();
        consume(&mut self.chunk, left);
        // The last step: an event that has to be dropped on unwinding does not stay in registers.
        Some(OwnedEvent::short(memory, layout))
    }

    /// Returns the next event of the chunk. After `None`, the chunk is consumed.
    #[inline]
    pub(super) fn next_event(&mut self) -> Result<Option<OwnedEvent>, EventTooLarge> {
        if self.chunk.is_empty() {
            return Ok(None);
        }
        let mut rest = &self.chunk[..];
        let event = take_event(&mut self.decoder, &self.chunk, &mut rest, &mut self.inherited_id);
        let left = rest.len();
        consume(&mut self.chunk, left);
        event
    }

    /// Adds the next chunk. The current one must have been consumed. Returns whether the chunk may
    /// complete an event. If not, it has been consumed.
    #[cfg(feature = "futures-core")]
    #[inline]
    pub(super) fn add_chunk(&mut self, mut chunk: Bytes) -> Result<bool, EventTooLarge> {
        debug_assert!(self.chunk.is_empty());
        let mut rest = &chunk[..];
        let result = self.decoder.skip_to_event(&mut rest);
        let left = rest.len();
        if left > 0 {
            chunk.advance(chunk.len() - left);
            self.chunk = chunk;
        }
        result.map(|()| left > 0)
    }
}

/// Consumes bytes from the front of `rest`, which is the rest of `chunk`, and returns the next event.
#[inline(never)]
fn take_event<'i>(
    decoder: &mut Decoder,
    chunk: &'i Bytes,
    rest: &mut &'i [u8],
    inherited_id: &mut Bytes,
) -> Result<Option<OwnedEvent>, EventTooLarge> {
    let mut joined = None;
    let event =
        decoder.next_event_as(rest, |event| event.take_from(chunk, inherited_id, &mut joined));
    match joined {
        None => event,
        Some(len) => event.map(|event| add_joined(event, decoder, len)),
    }
}

/// Adds the data that the decoder has joined. Their memory becomes that of the event, so that they
/// are not copied again.
#[inline(never)]
fn add_joined(event: Option<OwnedEvent>, decoder: &mut Decoder, len: usize) -> Option<OwnedEvent> {
    let mut event = event?;
    event.set_data(decoder.take_data(len).into());
    Some(event)
}

/// Shortens a chunk to its last `left` bytes.
#[inline]
pub(super) fn consume(chunk: &mut Bytes, left: usize) {
    if left == 0 {
        // Releases a consumed chunk at once: an empty slice would keep its memory until the next
        // chunk.
        *chunk = Bytes::new();
    } else {
        chunk.advance(chunk.len() - left);
    }
}
