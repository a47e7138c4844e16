//! The output queue of a connection: whole frames, and the part of the first one that was written.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::frame::Framing;

/// The frames to be written, and the counts of those that were.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// `None` while the queue is empty, so that an idle connection holds no memory for it.
    backlog: Option<Box<Backlog>>,
    sent: Sent,
}

#[derive(Debug)]
struct Backlog {
    first: Frame,
    /// The number of bytes of `first` that the kernel has accepted.
    taken: usize,
    others: VecDeque<Frame>,
    /// The time when the queue became non-empty, or when the kernel last accepted bytes of it.
    since: CompactInstant,
}

/// The counts of an answer's output that the kernel has accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// The number of whole events.
    pub(crate) events: u64,
    /// The number of bytes of those events.
    pub(crate) event_bytes: u64,
    /// The number of bytes of the body without its framing. Includes comments and parts of events.
    pub(crate) body_bytes: u64,
    /// The last whole frame with an ID.
    pub(crate) last_with_id: Option<Frame>,
}

impl Sent {
    /// Counts a whole frame, except for its body bytes.
    fn count(&mut self, frame: Frame) {
        if frame.is_event() {
            self.events += 1;
            self.event_bytes += frame.encoded().len() as u64;
        }
        if frame.id().is_some() {
            self.last_with_id = Some(frame);
        }
    }
}

/// The maximum number of bytes of several frames that are joined for one write. For frames of the
/// usual size, a copy costs less than a vectored write does in the kernel.
const BYTES_AT_ONCE: usize = 32 << 10;

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.is_none()
    }

    /// Returns the time since which the kernel has accepted nothing of a queue that is not empty.
    pub(crate) fn waiting_since(&self) -> Option<CompactInstant> {
        self.backlog.as_ref().map(|backlog| backlog.since)
    }

    pub(crate) fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, frame: Frame, now: CompactInstant) {
        if let Some(backlog) = &mut self.backlog {
            backlog.others.push_back(frame);
        } else {
            let others = VecDeque::new();
            self.backlog = Some(Box::new(Backlog { first: frame, taken: 0, others, since: now }));
        }
    }

    /// Returns the next bytes to be written: the rest of the first frame, joined with the frames
    /// after it if these are small. Returns `None` if the queue is empty.
    pub(crate) fn next_bytes(&self, framing: Framing) -> Option<Cow<'_, [u8]>> {
        let backlog = self.backlog.as_ref()?;
        let first = &backlog.first.framed(framing)[backlog.taken..];
        let mut others = backlog.others.iter().map(|frame| frame.framed(framing)).peekable();
        let fits = |bytes: &[u8], len| len + bytes.len() <= BYTES_AT_ONCE;
        if !others.peek().is_some_and(|next| fits(next, first.len())) {
            return Some(first.into());
        }
        let mut joined = first.to_vec();
        while let Some(next) = others.next_if(|next| fits(next, joined.len())) {
            joined.extend_from_slice(next);
        }
        Some(joined.into())
    }

    /// Counts frames of events that were written without being queued.
    pub(crate) fn passed<'f>(&mut self, frames: impl Iterator<Item = &'f Frame>) {
        for frame in frames {
            self.sent.body_bytes += frame.encoded().len() as u64;
            self.sent.count(frame.clone());
        }
    }

    /// Removes `count` bytes that the kernel has accepted, and counts them.
    pub(crate) fn advance(&mut self, mut count: usize, framing: Framing) {
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        loop {
            let Backlog { first, taken, .. } = &**backlog;
            let left = first.framed(framing).len() - taken;
            let body = |len| first.body_len(len, framing) as u64;
            self.sent.body_bytes += body(taken + count.min(left)) - body(*taken);
            if count < left {
                backlog.taken += count;
                backlog.since = CompactInstant::now();
                return;
            }
            count -= left;
            backlog.taken = 0;
            let Some(next) = backlog.others.pop_front() else { break };
            self.sent.count(mem::replace(&mut backlog.first, next));
        }
        if let Some(last) = self.backlog.take() {
            self.sent.count(last.first);
        }
    }
}
