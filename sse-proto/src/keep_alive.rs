//! When a silent stream is to be kept open (HTML Standard, 9.2.7).

use core::ops::Add;

/// The deadline of a keep-alive comment, as data: it reads no clock and sets no timer.
///
/// Proxies close connections that have been silent for a while, and a peer that vanished without
/// a word is only found by writing to it. So when nothing has been sent for an interval (the
/// standard advises about 15 seconds), send [`KEEP_ALIVE`](crate::KEEP_ALIVE).
///
/// The instant `I` is whatever your clock gives: `std::time::Instant`, a `Duration` since boot,
/// ticks. The loop of a sender:
///
/// 1. after writing anything, [`sent`](Self::sent);
/// 2. wait until [`poll_timeout`](Self::poll_timeout), or until there is something to send;
/// 3. then [`handle_timeout`](Self::handle_timeout); if it says so, write a keep-alive.
///
/// A timer that is set again only when it fires is enough, however often `sent` is called: if it
/// fires early, `handle_timeout` says no and `poll_timeout` tells the new deadline.
///
/// ```
/// use core::time::Duration;
/// use sse_proto::KeepAlive;
///
/// let seconds = Duration::from_secs;
/// let mut keep_alive = KeepAlive::new(seconds(15), seconds(0));
/// assert_eq!(keep_alive.poll_timeout(), seconds(15));
/// keep_alive.sent(seconds(10));
/// assert!(!keep_alive.handle_timeout(seconds(15)), "the stream was not silent for so long");
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
    /// A stream that was opened `now`, and is to be kept alive after each `interval` of silence.
    ///
    /// Deadlines are `now + interval`, so for the standard library's types the sum must be in
    /// range.
    pub const fn new(interval: D, now: I) -> Self {
        Self { interval, last_sent: now }
    }

    /// Something was sent.
    pub fn sent(&mut self, now: I) {
        self.last_sent = now;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). Changes when it or
    /// [`sent`](Self::sent) is called.
    #[must_use]
    pub fn poll_timeout(&self) -> I {
        self.last_sent + self.interval
    }

    /// Whether a keep-alive is due. If so, it counts as sent.
    #[must_use = "a keep-alive that is due is to be written"]
    pub fn handle_timeout(&mut self, now: I) -> bool {
        let due = now >= self.poll_timeout();
        if due {
            self.last_sent = now;
        }
        due
    }
}
