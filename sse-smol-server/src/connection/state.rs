//! The state of a connection apart from its socket, for its whole lifetime.
//!
//! The parts of the state are nested by the time for which they last: a connection has one
//! [`Exchange`] at a time, and an exchange has at most one stream. So the next request replaces the
//! exchange as one value, and everything that belonged to the last request is gone.

use std::io;
use std::task::{Context, Waker};

use super::exchange::Exchange;
use crate::Error;
use crate::compact_instant::CompactInstant;

/// Per-connection state. Held for the connection's lifetime, so keep it small.
#[derive(Default)]
pub(super) struct State {
    /// The waker of the connection's task.
    pub(super) driver: Option<Waker>,
    /// The time for which the timers have been set to wake the connection's task.
    pub(super) timer: Option<CompactInstant>,
    pub(super) cold: Option<Box<ColdState>>,
    pub(super) exchange: Exchange,
}

/// State that few connections need at one time. Freed when it is empty.
#[derive(Default)]
pub(super) struct ColdState {
    /// Bytes that were read, and belong to this request's body or to the next request.
    pub(super) input: Vec<u8>,
    /// Whether the kernel may hold back the end of the last answer, since input of the next request
    /// had arrived when it was written.
    pub(super) corked: bool,
    /// The error of a delivery worker's write, to be returned to the driver.
    pub(super) broken: Option<io::Error>,
    /// Set if the peer has shut down its sending side and may still wait for the answer: the time
    /// since when it has waited for the next part.
    pub(super) half_closed: Option<CompactInstant>,
    /// Set if the peer fell behind, so that the kernel does not limit the time for which data are
    /// unacknowledged: the time when it does again.
    pub(super) slow_until: Option<CompactInstant>,
}

impl State {
    /// Replaces the exchange by a new one, and returns the old one, which may hold hooks and
    /// wakers, to be dropped after the lock is released.
    pub(super) fn begin_exchange(&mut self) -> Exchange {
        if let Some(cold) = &mut self.cold {
            // The wait for the next answer starts now.
            cold.half_closed = cold.half_closed.map(|_| CompactInstant::now());
        }
        std::mem::take(&mut self.exchange)
    }

    pub(super) fn is_driver(&self, cx: &Context<'_>) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker()))
    }

    pub(super) fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    /// Frees the cold state if it is empty.
    pub(super) fn tidy(&mut self) {
        let needless = self.cold.take_if(|cold| {
            let ColdState { input, corked, broken, half_closed, slow_until } = &**cold;
            let is_quiet = input.is_empty() && !corked && broken.is_none();
            is_quiet && half_closed.is_none() && slow_until.is_none()
        });
        drop(needless);
    }

    pub(super) fn half_closed(&self) -> Option<CompactInstant> {
        self.cold.as_ref().and_then(|cold| cold.half_closed)
    }

    pub(super) fn slow_until(&self) -> Option<CompactInstant> {
        self.cold.as_ref().and_then(|cold| cold.slow_until)
    }

    pub(super) fn input(&self) -> &[u8] {
        self.cold.as_ref().map_or(&[], |cold| &cold.input)
    }

    /// Returns whether the answer is complete and the peer has sent a part of a further request.
    pub(super) fn is_followed(&self) -> bool {
        !self.input().is_empty() && self.exchange.is_complete()
    }

    pub(super) fn is_corked(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.corked)
    }

    pub(super) fn set_corked(&mut self, corked: bool) {
        if corked != self.is_corked() {
            self.cold().corked = corked;
            self.tidy();
        }
    }

    /// Returns the error of a delivery worker's write, once.
    pub(super) fn unbroken(&mut self) -> Result<(), Error> {
        let broken = self.cold.as_mut().and_then(|cold| cold.broken.take());
        broken.map_or(Ok(()), |error| Err(Error::from_socket(error)))
    }
}
