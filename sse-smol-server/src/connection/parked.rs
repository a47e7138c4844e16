//! The connection's side of a parked stream, to which a
//! [delivery worker](crate::connection::delivery) writes.

use std::io::{self, Write as _};
use std::task::{Context, Poll};

use super::{Connection, State};
use crate::End;
use crate::compact_instant::CompactInstant;
use crate::connection::batch::{Batch, GroupNumber, Remaining};
use crate::frame::Framing;

/// The group and the position of a parked stream.
pub(super) struct ParkedAt {
    /// Compared on delivery: a worker may hold a batch for a stream that has since been parked with
    /// another group.
    group: GroupNumber,
    /// All events up to this position have been sent or are queued.
    position: u64,
}

impl Connection {
    /// Parks the stream with a group, whose worker sends the events after a position.
    pub(super) fn park(&self, group: GroupNumber, position: u64) {
        let mut state = self.state();
        state.parked = Some(ParkedAt { group, position });
        state.unparked = false;
    }

    /// Ends the parking. Later deliveries are ignored.
    pub(super) fn end_parking(&self) {
        self.state().parked = None;
    }

    /// Waits until the stream is unparked, and returns the position up to which events were
    /// delivered.
    ///
    /// # Errors
    ///
    /// Returns [`End::PeerClosed`] if the request has ended.
    pub(super) fn poll_parked(&self, cx: &Context<'_>) -> Poll<Result<u64, End>> {
        let mut state = self.state();
        match &state.parked {
            Some(parked) if state.unparked => Poll::Ready(Ok(parked.position)),
            Some(_) if state.over.is_none() => {
                // Unparking wakes the driver in any case.
                if !state.is_driver(cx) {
                    state.wait(cx);
                }
                Poll::Pending
            }
            _ => Poll::Ready(Err(End::PeerClosed)),
        }
    }

    /// Writes the events of a batch that the stream has not been sent yet, and unparks the stream
    /// if that takes more than one write. Called by the worker.
    pub(super) fn deliver(&self, batch: &Batch, now: CompactInstant) {
        let mut state = self.state();
        let is_parked = |parked: &&ParkedAt| !state.unparked && parked.group == batch.group;
        let Some(parked) = state.parked.as_ref().filter(is_parked) else {
            return;
        };
        // No event may follow the last chunk.
        if state.over.is_some() || !state.is_open() {
            return;
        }
        // The queue may hold the rest of a keep-alive comment.
        let remaining = batch.after(parked.position).filter(|_| state.queue.is_empty());
        let Some(remaining) = remaining else {
            return state.unpark();
        };
        let Some(position) = remaining.position() else {
            return;
        };
        if let Err(error) = self.write_remaining(&mut state, remaining, now) {
            state.cold().broken = Some(error);
            return state.unpark();
        }
        state.last_sent = state.last_sent.map(|_| now);
        if let Some(parked) = &mut state.parked {
            parked.position = position;
        }
        if !state.queue.is_empty() {
            state.unpark();
        }
    }

    /// Writes as much as the kernel accepts, and queues the rest.
    fn write_remaining(
        &self,
        state: &mut State,
        remaining: Remaining<'_>,
        now: CompactInstant,
    ) -> io::Result<()> {
        let mut socket = self.socket.get_ref();
        let queue = |state: &mut State| {
            remaining.frames().for_each(|frame| state.queue.push(frame.clone(), now));
        };
        if state.stream == Some(Framing::Close) {
            queue(state);
            return state.queue.write(socket, Framing::Close);
        }
        let written = match socket.write(remaining.bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            written => written?,
        };
        if written == remaining.bytes.len() {
            state.queue.passed(remaining.frames());
        } else {
            queue(state);
            state.queue.advance(written, Framing::Chunked);
        }
        Ok(())
    }

    /// Returns the stream to its own task.
    pub(super) fn unpark(&self) {
        self.state().unpark();
    }
}
