//! What a connection is still to write: whole frames, and how far the first of them has gone.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::time::Instant;

use crate::Frame;
use crate::head::Framing;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// All but the first `taken` bytes of the first one.
    frames: VecDeque<Frame>,
    taken: usize,
    /// Since when it is waiting for the kernel.
    waiting_since: Option<Instant>,
    sent: Sent,
}

/// What the kernel has taken of a stream, in whole events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    pub(crate) bytes: usize,
    /// The last frame that had an id.
    pub(crate) last_with_id: Option<Frame>,
}

impl Sent {
    /// The kernel has taken all of a frame.
    pub(crate) fn count(&mut self, frame: &Frame) {
        if frame.is_event() {
            self.events += 1;
            self.bytes += frame.encoded().len();
        }
        if frame.id().is_some() {
            self.last_with_id = Some(frame.clone());
        }
    }
}

/// So many frames go into one write.
const FRAMES_AT_ONCE: usize = 32;

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    pub(crate) fn sent(&self) -> &Sent {
        &self.sent
    }

    pub(crate) fn push(&mut self, frame: Frame, now: Instant) {
        self.waiting_since.get_or_insert(now);
        self.frames.push_back(frame);
    }

    /// Writes as much as the kernel takes now. That it takes no more is no error.
    pub(crate) fn write(&mut self, mut socket: impl Write, framing: Framing) -> io::Result<()> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_AT_ONCE];
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(frame.framed(framing));
            }
            slices[0] = IoSlice::new(&self.frames[0].framed(framing)[self.taken..]);
            let written = match self.frames.len() {
                1 => socket.write(&slices[0]),
                len => socket.write_vectored(&slices[..len.min(FRAMES_AT_ONCE)]),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                Ok(count) => self.advance(count, framing),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes that frames were written that were never queued.
    pub(crate) fn passed<'f>(&mut self, frames: impl Iterator<Item = &'f Frame>) {
        frames.for_each(|frame| self.sent.count(frame));
    }

    /// The kernel has taken so many bytes.
    pub(crate) fn advance(&mut self, mut count: usize, framing: Framing) {
        self.waiting_since = Some(Instant::now());
        while let Some(frame) = self.frames.front() {
            let left = frame.framed(framing).len() - self.taken;
            if count < left {
                self.taken += count;
                return;
            }
            count -= left;
            self.taken = 0;
            self.sent.count(frame);
            self.frames.pop_front();
        }
        self.waiting_since = None;
        // Nothing is held while nothing is to be written.
        self.frames = VecDeque::new();
    }
}
