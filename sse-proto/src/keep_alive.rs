//! Deadlines for keep-alive comments (HTML Standard, 9.2.7).

use core::ops::Add;

/// The deadline of the next keep-alive comment. It reads no clock and sets no timer.
///
/// Proxies close connections that have been silent for a while, and a peer that vanished without
/// closing its connection is found only by writing to it. So send [`KEEP_ALIVE`](crate::KEEP_ALIVE)
/// when nothing has been sent for an interval; the standard recommends about 15 seconds.
///
/// The instant `I` can come from any clock: `std::time::Instant`, a `Duration` since boot, ticks.
/// The loop of a sender:
///
/// 1. After each write, call [`sent`](Self::sent).
/// 2. Wait until [`poll_timeout`](Self::poll_timeout), or until there is something to send.
/// 3. Call [`handle_timeout`](Self::handle_timeout). If it returns true, write a keep-alive.
///
/// It is enough to set the timer again when it fires, however often `sent` is called: if it fires
/// early, `handle_timeout` returns false and `poll_timeout` returns the new deadline.
///
/// ```
/// use core::time::Duration;
/// use sse_proto::KeepAlive;
///
/// let seconds = Duration::from_secs;
/// let mut keep_alive = KeepAlive::new(seconds(15), seconds(0));
/// assert_eq!(keep_alive.poll_timeout(), seconds(15));
/// keep_alive.sent(seconds(10));
/// assert!(!keep_alive.handle_timeout(seconds(15)), "only 5 seconds of silence");
/// assert_eq!(keep_alive.poll_timeout(), seconds(25));
/// assert!(keep_alive.handle_timeout(seconds(26)));
/// assert_eq!(keep_alive.poll_timeout(), seconds(41));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive<I, D = core::time::Duration> {
    interval: D,
    last_sent: I,
}

impl<I, D> KeepAlive<I, D>
where
    I: Copy + Ord + Add<D, Output = I>,
    D: Copy,
{
    /// Creates the deadline for a stream that was opened at `now`, with a keep-alive after each
    /// `interval` of silence.
    ///
    /// Deadlines are sums of an instant and the interval, which must be in the range of `I`.
    pub const fn new(interval: D, now: I) -> Self {
        Self { interval, last_sent: now }
    }

    /// Records that something was sent.
    pub fn sent(&mut self, now: I) {
        self.last_sent = now;
    }

    /// Returns the time at which to call [`handle_timeout`](Self::handle_timeout). It changes when
    /// that or [`sent`](Self::sent) is called.
    #[must_use]
    pub fn poll_timeout(&self) -> I {
        self.last_sent + self.interval
    }

    /// Returns whether a keep-alive is due. If so, it counts as sent.
    #[must_use = "a keep-alive that is due must be written"]
    pub fn handle_timeout(&mut self, now: I) -> bool {
        let due = now >= self.poll_timeout();
        if due {
            self.last_sent = now;
        }
        due
    }
}
