//! The driver: polls the handler, and meanwhile writes output, watches the peer and handles
//! deadlines, in one task per connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sse_proto::Event;

use crate::compact_instant::CompactInstant;
use crate::connection::Connection;
use crate::{Error, Frame};

/// Polls the handler of a request. While that waits, writes queued output, watches the peer and the
/// deadlines, and ends the stream when the server drains.
// Not an `async fn`, which would hold its arguments twice for as long as a stream is open.
pub(crate) struct Driver<'w, F> {
    connection: &'w Connection,
    work: F,
    /// The time when the stream ends, once the server drains.
    leave: Option<CompactInstant>,
}

impl<'w, F> Driver<'w, F> {
    pub(crate) const fn new(connection: &'w Connection, work: F) -> Self {
        Self { connection, work, leave: None }
    }
}

impl<F: Future + Unpin> Future for Driver<'_, F> {
    /// The output of the work, or how the request ended before that.
    type Output = Result<F::Output, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let connection = self.connection;
        connection.begin_poll(cx);
        let worked = Pin::new(&mut self.work).poll(cx);
        connection.end_poll();
        if let Poll::Ready(result) = worked {
            return Poll::Ready(Ok(result));
        }
        if let Poll::Ready(end) = connection.poll_peer(cx) {
            return Poll::Ready(Err(end));
        }
        if self.leave.is_none() && connection.shared.drain.has_begun() && connection.is_open() {
            self.leave =
                Some(CompactInstant::now() + send_away(connection, connection.shared.config.drain));
        }
        loop {
            if let Poll::Ready(Err(end)) = connection.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            connection.uncork();
            let deadline = connection.deadline().into_iter().chain(self.leave).min();
            let now = ready!(
                deadline.map_or(Poll::Pending, |deadline| connection.poll_deadline(deadline))
            );
            if self.leave.is_some_and(|leave| leave <= now) {
                return Poll::Ready(Err(Error::Drained));
            }
            // A keep-alive that it queues is written by the next iteration.
            if let Err(end) = connection.handle_time(now) {
                return Poll::Ready(Err(end));
            }
        }
    }
}

/// Writes the queue after the handler has ended, and watches the peer and the deadlines.
pub(crate) async fn flush(connection: &Connection) -> Result<(), Error> {
    Driver::new(connection, pin!(connection.flush())).await?
}

/// The mean time between the ends of two streams during a drain, unless `Config::drain` is too
/// short.
const BETWEEN_ENDS: Duration = Duration::from_millis(50);

/// Sends a random reconnection time on a stream, and returns the time until the stream ends: a
/// random part of a period that grows with the number of open streams. A single stream ends at
/// once.
fn send_away(connection: &Connection, drain: Duration) -> Duration {
    let retry = Duration::from_millis(500 + fastrand::u64(..1500));
    connection.push([Frame::from(Event::without_data().with_retry(retry))]);
    let others = u32::try_from(connection.shared.metrics.streams() - 1).unwrap_or(0);
    // The last fifth of the time is left for peers that are slow to accept the end.
    let period = drain.mul_f64(0.8).min(BETWEEN_ENDS.saturating_mul(others));
    period.mul_f64(fastrand::f64())
}
