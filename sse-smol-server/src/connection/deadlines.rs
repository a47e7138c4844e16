//! Deadlines of a connection: keep-alives, the write timeout, and half-closed connections.

use std::task::Poll;
use std::time::Duration;

use sse_proto::KeepAlive;

use super::Connection;
use super::state::State;
use crate::compact_instant::CompactInstant;
use crate::{Error, Frame};

/// The time in which a peer that fell behind should read the rest of the send buffer.
const SLOW: Duration = Duration::from_secs(60);

impl Connection {
    /// Returns the current time if the deadline has passed. Otherwise, has the timers wake the
    /// connection's task. A timer that is set for an earlier time is kept, and set again after it
    /// has fired. So each event can move the deadline without setting a timer.
    pub(crate) fn poll_deadline(&self, at: CompactInstant) -> Poll<CompactInstant> {
        let now = CompactInstant::now();
        if now >= at {
            return Poll::Ready(now);
        }
        let mut state = self.state();
        if !state.timer.is_some_and(|set| now < set && set <= at) {
            let old = state.timer.replace(at);
            // The lock is released first: `set` may wake the task of the timers.
            drop(state);
            self.shared.timers.set(self.number, old, at);
        }
        Poll::Pending
    }

    /// Returns the time when [`handle_time`](Self::handle_time) has to be called next.
    pub(crate) fn deadline(&self) -> Option<CompactInstant> {
        let state = self.state();
        let timeout = self.shared.config.write_timeout;
        match state.exchange.queue.waiting_since() {
            Some(since) => Some(since + timeout),
            None => state
                .unanswered_since()
                .map(|since| since + timeout)
                .or_else(|| self.keep_alive(&state).map(|keep_alive| keep_alive.poll_timeout())),
        }
    }

    /// Queues a keep-alive if it is due.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Stuck`] if the peer has accepted no data for the write timeout, and
    /// [`Error::PeerClosed`] if its sending side has been shut down for as long without an answer.
    pub(crate) fn handle_time(&self, now: CompactInstant) -> Result<(), Error> {
        let mut state = self.state();
        let timeout = self.shared.config.write_timeout;
        match state.exchange.queue.waiting_since() {
            Some(since) if now >= since + timeout => {
                // The system reports a socket as writable only when much of its buffer is free. If
                // there is room for less, the peer is slow, but not stuck.
                self.write(&mut state)?;
                if state.exchange.queue.waiting_since() == Some(since) {
                    return Err(Error::Stuck);
                }
            }
            // Output is pending, so no keep-alive is needed.
            Some(_) => {}
            None if state.unanswered_since().is_some_and(|since| now >= since + timeout) => {
                return Err(Error::PeerClosed);
            }
            None => {
                if self.keep_alive(&state).is_some_and(|mut due| due.handle_timeout(now)) {
                    self.expect_acknowledgements(&mut state, now);
                    state.exchange.push([Frame::keep_alive()]);
                }
            }
        }
        Ok(())
    }

    /// Records that the kernel has not accepted the whole queue. From then on, the write timeout
    /// alone ends the connection. The kernel's own limit is removed, since it also ends connections
    /// of slow readers.
    pub(super) fn fell_behind(&self, state: &mut State) {
        if state.slow_until().is_none() {
            state.cold().slow_until = Some(CompactInstant::now());
            self.transport.limit_unacknowledged(None);
        }
    }

    /// Restores the kernel's limit on unacknowledged data, once a peer that fell behind has had the
    /// time to read the rest of the send buffer.
    fn expect_acknowledgements(&self, state: &mut State, now: CompactInstant) {
        if state.slow_until().is_some_and(|until| now >= until) {
            state.cold().slow_until = None;
            state.tidy();
            let timeout = self.shared.config.write_timeout;
            self.transport.limit_unacknowledged(Some(timeout));
        }
    }

    fn keep_alive(&self, state: &State) -> Option<KeepAlive<CompactInstant>> {
        let last_sent = state.exchange.stream.as_ref()?.last_sent;
        Some(KeepAlive::new(self.shared.config.keep_alive?, last_sent?))
    }
}

impl State {
    /// Records that the kernel has accepted the whole queue.
    pub(super) fn caught_up(&mut self) {
        if let Some(cold) = &mut self.cold {
            let now = CompactInstant::now();
            cold.half_closed = cold.half_closed.map(|_| now);
            // The send buffer may still hold what a slow peer has to read.
            cold.slow_until = cold.slow_until.map(|_| now + SLOW);
        }
    }

    /// Returns the time since which a peer that has shut down its sending side has waited for the
    /// handler: for the start of the answer or for the rest of its body.
    fn unanswered_since(&self) -> Option<CompactInstant> {
        self.half_closed().filter(|_| self.exchange.status.is_none() || self.exchange.unsent() > 0)
    }
}
