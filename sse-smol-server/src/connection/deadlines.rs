//! A connection's deadlines: keep-alives, and peers that take nothing or are half gone.

use std::task::Poll;

use sse_proto::KeepAlive;

use super::{Connection, State};
use crate::net::compact_instant::CompactInstant;
use crate::{End, Frame};

impl Connection {
    /// Ready when it is time, with the time that it is by then; otherwise the timers wake the
    /// connection's task. An timer that is set for an earlier time stays, and is set anew when it
    /// has gone off: so a deadline that each event moves is not set with each event.
    pub(crate) fn poll_deadline(&self, at: CompactInstant) -> Poll<CompactInstant> {
        let now = CompactInstant::now();
        if now >= at {
            return Poll::Ready(now);
        }
        let mut state = self.state();
        if !state.timer.is_some_and(|set| now < set && set <= at) {
            let old = state.timer.replace(at);
            // The task of the timers may have to be woken.
            drop(state);
            self.shared.timers.set(self.number, old, at);
        }
        Poll::Pending
    }

    /// Returns the time of the next call of [`handle_time`](Self::handle_time).
    pub(crate) fn deadline(&self) -> Option<CompactInstant> {
        let state = self.state();
        let timeout = self.shared.config.write_timeout;
        match state.queue.waiting_since() {
            Some(since) => Some(since + timeout),
            None => state
                .unanswered_since()
                .map(|since| since + timeout)
                .or_else(|| self.keep_alive(&state).map(|keep_alive| keep_alive.poll_timeout())),
        }
    }

    /// Queues a keep-alive that is due, or gives up a peer that has taken nothing for too long, or has
    /// shut down its sending side and got no answer for as long.
    pub(crate) fn handle_time(&self, now: CompactInstant) -> Result<(), End> {
        let mut state = self.state();
        let timeout = self.shared.config.write_timeout;
        if state.unanswered_since().is_some_and(|since| now >= since + timeout) {
            return Err(End::PeerClosed);
        }
        match state.queue.waiting_since() {
            Some(since) if now >= since + timeout => {
                // The system calls a socket writable when much of its buffer is free. There may
                // be room for less: then the peer is slow, not stuck.
                self.write(&mut state)?;
                if state.queue.waiting_since() == Some(since) {
                    return Err(End::Stuck);
                }
            }
            // A peer that has not taken the last bytes yet is not silent, it is slow.
            Some(_) => {}
            None => {
                if self.keep_alive(&state).is_some_and(|mut due| due.handle_timeout(now)) {
                    state.push([Frame::keep_alive()]);
                }
            }
        }
        Ok(())
    }

    fn keep_alive(&self, state: &State) -> Option<KeepAlive<CompactInstant>> {
        Some(KeepAlive::new(self.shared.config.keep_alive?, state.last_sent?))
    }
}

impl State {
    /// Returns when the peer shut down its sending side, if it did and no answer has begun.
    fn unanswered_since(&self) -> Option<CompactInstant> {
        self.half_closed().filter(|_| self.status.is_none())
    }
}
