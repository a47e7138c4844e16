//! The connection's side of a parked stream, to which a
//! [delivery worker](crate::connection::delivery) writes.

use std::task::{Context, Poll};

use super::Connection;
use super::batch::{Batch, GroupNumber};
use super::exchange::Exchange;
use super::stream_state::ParkedAt;
use crate::Error;
use crate::compact_instant::CompactInstant;

impl Connection {
    /// Parks the stream with a group, whose worker sends the events after a position.
    pub(super) fn park(&self, group: GroupNumber, position: u64) {
        if let Some(stream) = &mut self.state().exchange.stream {
            stream.parked = Some(ParkedAt { group, position });
            stream.unparked = false;
        }
    }

    /// Ends the parking, and returns the position up to which events were delivered. Later
    /// deliveries are ignored.
    pub(super) fn end_parking(&self) -> Option<u64> {
        let parked = self.state().exchange.stream.as_mut()?.parked.take()?;
        Some(parked.position)
    }

    /// Waits until the stream is unparked, and returns the position up to which events were
    /// delivered.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Ended`] if the request has ended.
    pub(super) fn poll_parked(&self, cx: &Context<'_>) -> Poll<Result<u64, Error>> {
        let mut state = self.state();
        let stream = state.exchange.stream.as_ref();
        match stream.and_then(|stream| Some((stream.parked.as_ref()?, stream.unparked))) {
            Some((parked, true)) => Poll::Ready(Ok(parked.position)),
            Some(_) if state.exchange.over.is_none() => {
                // `unpark` always wakes the driver, so only other tasks register.
                if !state.is_driver(cx) {
                    state.exchange.wait(cx);
                }
                Poll::Pending
            }
            _ => Poll::Ready(Err(Error::Ended)),
        }
    }

    /// Writes the events of a batch that the stream has not been sent yet, and unparks the stream
    /// if that takes more than one write. Called by the worker.
    pub(super) fn deliver(&self, batch: &Batch, now: CompactInstant) {
        let mut state = self.state();
        let Exchange { over, stream: Some(stream), queue, .. } = &mut state.exchange else {
            return;
        };
        let is_its = |parked: &&mut ParkedAt| parked.group == batch.group;
        let Some(parked) = stream.parked.as_mut().filter(is_its) else {
            return;
        };
        // No event may follow the last chunk.
        if stream.unparked || stream.finished || over.is_some() {
            return;
        }
        // The queue may hold the rest of a keep-alive comment.
        let remaining = batch.after(parked.position).filter(|_| queue.is_empty());
        let Some(remaining) = remaining else {
            return state.unpark();
        };
        let Some(position) = remaining.position() else {
            return;
        };
        // Written or queued, or else the connection is broken.
        parked.position = position;
        if let Err(error) = state.exchange.write_batch(remaining, &self.transport, now) {
            state.cold().broken = Some(error);
            return state.unpark();
        }
        if !state.exchange.queue.is_empty() {
            state.unpark();
        }
    }

    /// Returns the stream to its own task.
    pub(super) fn unpark(&self) {
        self.state().unpark();
    }
}
