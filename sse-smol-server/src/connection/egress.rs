//! Egress: all output is written here, that of awake streams and that of delivery workers.
//!
//! ```text
//! frames ─► queue ─► framing ─► transport
//! batch, framed for all streams ─► transport
//! ```
//!
//! The queue holds the frames that the transport has not accepted. While it is empty, a batch is
//! written directly.
//!
//! No content coding is supported. A coding, such as gzip, would be state of the stream, applied in
//! `Exchange::push_at`, where frames enter the queue: the queue counts framed bytes, so it has to
//! hold coded frames. `Exchange::write_batch` would then write a batch directly only to chunked
//! streams without a coding, and queue it for all others.

use std::io;

use super::batch::Remaining;
use super::exchange::Exchange;
use crate::compact_instant::CompactInstant;
use crate::frame::Frame;
use crate::framing::Framing;
use crate::net::transport::Transport;

impl Exchange {
    /// Queues frames.
    pub(super) fn push(&mut self, frames: impl IntoIterator<Item = Frame>) {
        self.push_at(frames, CompactInstant::now());
    }

    fn push_at(&mut self, frames: impl IntoIterator<Item = Frame>, now: CompactInstant) {
        for frame in frames {
            self.note_output(now);
            self.queue.push(frame, now);
        }
    }

    /// Records output on the stream, which postpones its next keep-alive.
    fn note_output(&mut self, now: CompactInstant) {
        if let Some(stream) = &mut self.stream {
            stream.last_sent = stream.last_sent.map(|_| now);
        }
    }

    /// Writes the queue as far as the transport accepts it now. With `corked`, the kernel may hold the
    /// last bytes back until others are written.
    pub(super) fn write(&mut self, transport: &Transport, corked: bool) -> io::Result<()> {
        let framing = self.framing();
        while let Some(output) = self.queue.next_output(framing) {
            let (count, has_more_room) = output.write_to(transport, corked)?;
            drop(output);
            if count > 0 {
                self.queue.advance(count, framing);
            }
            if !has_more_room {
                break;
            }
        }
        Ok(())
    }

    /// Writes a batch after an empty queue as far as the transport accepts it now, and queues the
    /// rest. In the common case this is one call of the kernel, without a copy for each stream.
    pub(super) fn write_batch(
        &mut self,
        batch: Remaining<'_>,
        transport: &Transport,
        now: CompactInstant,
    ) -> io::Result<()> {
        let is_framed = self.framing() == Framing::Chunked;
        let written = if is_framed { transport.write(batch.bytes)? } else { 0 };
        if written == batch.bytes.len() {
            self.note_output(now);
            self.queue.passed(batch.frames());
            return Ok(());
        }
        self.push_at(batch.frames().cloned(), now);
        if is_framed {
            // The transport accepts no more.
            self.queue.advance(written, Framing::Chunked);
            return Ok(());
        }
        self.write(transport, false)
    }
}
