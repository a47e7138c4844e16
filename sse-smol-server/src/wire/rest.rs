//! A stream's part while a [courier](crate::courier) serves it.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::task::{Context, Poll};

use super::{State, Wire};
use crate::End;
use crate::compact_instant::CompactInstant;
use crate::courier::{Batch, Carried};
use crate::head::Framing;

/// A stream that a courier serves.
pub(super) struct Resting {
    /// With whom. A courier may be on its way to a stream that has come to rest elsewhere since.
    round: NonZeroUsize,
    /// Everything up to here was sent, or is queued.
    position: u64,
}

impl Wire {
    /// From here on, a courier sends what is published after a position.
    pub(crate) fn begin_rest(&self, round: NonZeroUsize, position: u64) {
        let mut state = self.state();
        state.rest = Some(Resting { round, position });
        state.handed_back = false;
    }

    pub(crate) fn end_rest(&self) {
        self.state().rest = None;
    }

    /// Ready when the courier has handed the stream back, with the position up to which it has got;
    /// or when the request is over.
    pub(crate) fn poll_rest(&self, cx: &Context<'_>) -> Poll<Result<u64, End>> {
        let mut state = self.state();
        match &state.rest {
            Some(rest) if state.handed_back => Poll::Ready(Ok(rest.position)),
            Some(_) if state.over.is_none() => {
                // The driver is woken anyway.
                if !state.is_driver(cx) {
                    state.wait(cx);
                }
                Poll::Pending
            }
            _ => Poll::Ready(Err(End::PeerClosed)),
        }
    }

    /// The courier's part: writes what the stream has not got yet, and hands it back if that is not
    /// all there is to do.
    pub(crate) fn carry(&self, batch: &Batch, now: CompactInstant) {
        let mut state = self.state();
        let rests = |rest: &&Resting| !state.handed_back && rest.round == batch.round;
        let Some(rest) = state.rest.as_ref().filter(rests) else {
            return;
        };
        // Nothing follows the last chunk.
        if state.over.is_some() || !state.is_open() {
            return;
        }
        // Something else may be left over, such as half a keep-alive.
        let carried = batch.after(rest.position).filter(|_| state.queue.is_empty());
        let Some(carried) = carried else {
            return state.hand_back();
        };
        let Some(position) = carried.position() else {
            return;
        };
        if let Err(error) = self.write_carried(&mut state, carried, now) {
            state.cold().broken = Some(error);
            return state.hand_back();
        }
        state.last_sent = state.last_sent.map(|_| now);
        if let Some(rest) = &mut state.rest {
            rest.position = position;
        }
        if !state.queue.is_empty() {
            state.hand_back();
        }
    }

    /// Writes as much as the kernel takes, and queues the rest.
    fn write_carried(
        &self,
        state: &mut State,
        carried: Carried<'_>,
        now: CompactInstant,
    ) -> io::Result<()> {
        let mut socket = self.socket.get_ref();
        let queue = |state: &mut State| {
            carried.frames().for_each(|frame| state.queue.push(frame.clone(), now));
        };
        if state.stream == Some(Framing::Close) {
            queue(state);
            return state.queue.write(socket, Framing::Close);
        }
        let written = match socket.write(carried.bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            written => written?,
        };
        if written == carried.bytes.len() {
            state.queue.passed(carried.frames());
        } else {
            queue(state);
            state.queue.advance(written, Framing::Chunked);
        }
        Ok(())
    }

    /// Hands the stream back to its own task.
    pub(crate) fn hand_back(&self) {
        self.state().hand_back();
    }
}
