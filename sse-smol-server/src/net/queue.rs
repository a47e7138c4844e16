//! The output queue of a connection: whole frames, and the part of the first one that was written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::{iter, mem};

use crate::Frame;
use crate::compact_instant::CompactInstant;
use crate::framing::{Framed, Framing};
use crate::net::transport::Transport;

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
        let events = frame.events() as u64;
        if events > 0 {
            self.events += events;
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

/// The size in bytes from which a frame is written without a copy.
const LARGE: usize = 4 << 10;

/// The maximum number of frames in one vectored write.
const FRAMES_AT_ONCE: usize = 32;

/// The next bytes to be written.
pub(crate) enum Output<'q> {
    /// The rest of a frame.
    Rest(&'q [u8]),
    /// Small frames, copied into one buffer.
    Joined(Vec<u8>),
    /// Frames that are not copied, and the number of bytes of the first one that have been written.
    Frames(Vec<Framed<'q>>, usize),
}

impl Output<'_> {
    /// Writes as much as the kernel accepts now. Returns the number of bytes, and whether it may
    /// accept more. With `corked`, the kernel may hold the last bytes back.
    pub(crate) fn write_to(
        &self,
        transport: &Transport,
        corked: bool,
    ) -> io::Result<(usize, bool)> {
        let write = if corked { Transport::write_corked } else { Transport::write };
        let (frames, taken) = match self {
            Self::Rest(bytes) => return write(transport, bytes).map(|count| (count, count > 0)),
            Self::Joined(bytes) => return write(transport, bytes).map(|count| (count, count > 0)),
            Self::Frames(frames, taken) => (frames, *taken),
        };
        let taken = iter::once(taken).chain(iter::repeat(0));
        let pieces = frames.iter().zip(taken).flat_map(|(frame, taken)| frame.pieces(taken));
        let pieces: Vec<_> = pieces.map(IoSlice::new).collect();
        let size: usize = pieces.iter().map(|piece| piece.len()).sum();
        transport.write_vectored(&pieces).map(|count| (count, count == size))
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.is_none()
    }

    /// Returns the time since which the kernel has accepted nothing of a queue that is not empty.
    pub(crate) fn waiting_since(&self) -> Option<CompactInstant> {
        self.backlog.as_ref().map(|backlog| backlog.since)
    }

    /// Returns the counts, including the whole events of a frame that was written in part.
    pub(crate) fn sent(&self, framing: Framing) -> Sent {
        let mut sent = self.sent.clone();
        if let Some(backlog) = &self.backlog
            && let Some(events) = backlog.first.run_within(backlog.taken, framing)
        {
            sent.count(events);
        }
        sent
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

    /// Returns the next bytes to be written: the rest of the first frame, and frames after it,
    /// which are joined with it if the next one is small. Returns `None` if the queue is empty.
    pub(crate) fn next_output(&self, framing: Framing) -> Option<Output<'_>> {
        let Backlog { first, taken, others, .. } = &**self.backlog.as_ref()?;
        let first = first.framed(framing);
        let left = first.len() - taken;
        let mut others = others.iter().map(|frame| frame.framed(framing)).peekable();
        let fits =
            |frame: &Framed<'_>, len| frame.len() < LARGE && len + frame.len() <= BYTES_AT_ONCE;
        let Some(next) = others.peek() else {
            return Some(match first.contiguous() {
                Some(bytes) => Output::Rest(&bytes[*taken..]),
                None => Output::Frames(vec![first], *taken),
            });
        };
        if !fits(next, left) {
            let frames = iter::once(first).chain(others).take(FRAMES_AT_ONCE).collect();
            return Some(Output::Frames(frames, *taken));
        }
        let mut joined = Vec::with_capacity(BYTES_AT_ONCE);
        first.pieces(*taken).for_each(|piece| joined.extend_from_slice(piece));
        while let Some(next) = others.next_if(|next| fits(next, joined.len())) {
            next.pieces(0).for_each(|piece| joined.extend_from_slice(piece));
        }
        Some(Output::Joined(joined))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Segment, SegmentSize};

    /// Returns a run of events with the IDs from `first` on.
    fn run(first: u64, count: u64, data_len: usize) -> Frame {
        let fields = format!("data: {}\n\n", "x".repeat(data_len));
        let frames =
            (first..first + count).map(|n| Frame::with_id(fields.as_bytes(), &n.to_string()));
        let frames: Vec<_> = frames.collect();
        let now = CompactInstant::now();
        let events = (first..).zip(&frames).map(|(n, frame)| (n, now, frame.encoded()));
        let size = SegmentSize { events: 1000, bytes: 1 << 20 };
        Frame::of_segment(Segment::copy_of(events, size)).unwrap()
    }

    fn bytes(output: &Output<'_>) -> Vec<u8> {
        match output {
            Output::Rest(bytes) => bytes.to_vec(),
            Output::Joined(bytes) => bytes.clone(),
            Output::Frames(frames, taken) => {
                let pieces = frames.iter().flat_map(|frame| frame.pieces(0));
                pieces.flatten().skip(*taken).copied().collect()
            }
        }
    }

    /// For any sizes of frames and of writes, the output is that of all frames in order, and whole
    /// events are counted when their last byte has been accepted.
    #[test]
    fn runs_are_written_and_counted_in_parts() {
        let now = CompactInstant::now();
        let frames = [
            Frame::with_id(b"data: x\n\n", "1"),
            run(2, 3, 5),
            Frame::with_id(b"data: x\n\n", "5"),
            run(6, 60, 200),
            run(66, 40, 300),
            Frame::keep_alive(),
        ];
        for framing in [Framing::Chunked, Framing::Close] {
            let mut all = Vec::new();
            // The offset at which each event is whole.
            let mut ends = Vec::new();
            for frame in &frames {
                let output: Vec<u8> = frame.framed(framing).pieces(0).flatten().copied().collect();
                if frame.events() == 1 {
                    ends.push(all.len() + output.len());
                } else {
                    let blank = (1..output.len()).filter(|at| output[at - 1..=*at] == *b"\n\n");
                    ends.extend(blank.map(|at| all.len() + at + 1).take(frame.events()));
                }
                all.extend(output);
            }
            for step in [1, 7, 64, 4096, 9000, 50_000] {
                let mut queue = Queue::default();
                for frame in &frames {
                    queue.push(frame.clone(), now);
                }
                let mut written = Vec::new();
                while let Some(output) = queue.next_output(framing) {
                    let next = bytes(&output);
                    let count = step.min(next.len());
                    written.extend_from_slice(&next[..count]);
                    queue.advance(count, framing);
                    let sent = queue.sent(framing);
                    let whole = ends.iter().filter(|end| **end <= written.len()).count();
                    assert_eq!(sent.events, whole as u64, "after {} bytes", written.len());
                    let id = sent.last_with_id.as_ref().and_then(Frame::id).map(<[u8]>::to_vec);
                    assert_eq!(id, (whole > 0).then(|| whole.to_string().into_bytes()));
                }
                assert!(written == all, "{framing:?} in steps of {step}");
                let body = queue.sent(framing).body_bytes;
                let encoded: usize = frames.iter().map(|frame| frame.encoded().len()).sum();
                assert_eq!(body, encoded as u64);
            }
        }
    }
}
