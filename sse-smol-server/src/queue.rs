//! What a connection is still to write: whole frames, and how far the first of them has gone.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::Frame;
use crate::head::Framing;
use crate::moment::Moment;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Nothing is held while nothing is to be written.
    backlog: Option<Box<Backlog>>,
    sent: Sent,
}

#[derive(Debug)]
struct Backlog {
    /// All of it but so many bytes is still to be written.
    first: Frame,
    taken: usize,
    others: VecDeque<Frame>,
    /// Since when it is waiting for the kernel.
    since: Moment,
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
const FRAMES_AT_ONCE: usize = 128;

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.is_none()
    }

    pub(crate) fn waiting_since(&self) -> Option<Moment> {
        self.backlog.as_ref().map(|backlog| backlog.since)
    }

    pub(crate) fn sent(&self) -> &Sent {
        &self.sent
    }

    pub(crate) fn push(&mut self, frame: Frame, now: Moment) {
        if let Some(backlog) = &mut self.backlog {
            backlog.others.push_back(frame);
        } else {
            let others = VecDeque::new();
            self.backlog = Some(Box::new(Backlog { first: frame, taken: 0, others, since: now }));
        }
    }

    /// Writes as much as the kernel takes now. That it takes no more is no error.
    pub(crate) fn write(&mut self, mut socket: impl Write, framing: Framing) -> io::Result<()> {
        while let Some(backlog) = &self.backlog {
            let first = &backlog.first.framed(framing)[backlog.taken..];
            let written = if backlog.others.is_empty() {
                socket.write(first)
            } else {
                let mut slices = [IoSlice::new(first); FRAMES_AT_ONCE];
                for (slice, frame) in slices[1..].iter_mut().zip(&backlog.others) {
                    *slice = IoSlice::new(frame.framed(framing));
                }
                let count = FRAMES_AT_ONCE.min(1 + backlog.others.len());
                socket.write_vectored(&slices[..count])
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
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        backlog.since = Moment::now();
        loop {
            let left = backlog.first.framed(framing).len() - backlog.taken;
            if count < left {
                backlog.taken += count;
                return;
            }
            count -= left;
            self.sent.count(&backlog.first);
            backlog.taken = 0;
            match backlog.others.pop_front() {
                Some(next) => backlog.first = next,
                None => break,
            }
        }
        self.backlog = None;
    }
}
