//! The end of the server: not ready at once, so that load balancers send it no more clients, and
//! then the graceful shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smol::Timer;
use sse_smol_server::Drain;

/// A part of log lines about the end.
pub(crate) const SECOND_SIGNAL: &str = "a second signal stops the server at once";

/// The state of the server's end.
#[derive(Clone, Debug)]
pub(crate) struct Stopping {
    has_begun: Arc<AtomicBool>,
    drain: Drain,
    /// The time between the signal and the graceful shutdown.
    delay: Duration,
}

impl Stopping {
    pub(crate) fn new(drain: Drain, delay: Duration) -> Self {
        Self { has_begun: Arc::default(), drain, delay }
    }

    /// Returns whether the server is about to end.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed) || self.drain.has_begun()
    }

    /// Reports that the server is not ready any more, and waits for the delay.
    pub(crate) async fn announce(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        if !self.delay.is_zero() {
            let delay = self.delay;
            log::info!("shutting down in {delay:?}: /readyz answers 503; {SECOND_SIGNAL}");
            Timer::after(delay).await;
        }
    }
}
