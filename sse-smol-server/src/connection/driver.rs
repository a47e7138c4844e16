//! What goes on beside a handler: one task for each connection polls it all.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sse_proto::Event;

use crate::connection::Connection;
use crate::net::compact_instant::CompactInstant;
use crate::{End, Frame};

/// Polls what answers a request, and beside it does what goes on while that waits: watches the
/// peer and the clock, writes what is left over, and sends the peer away when the server drains.
// By hand, and not as an `async fn`, which would hold its arguments twice, for as long as a stream
// is open.
pub(crate) struct Driver<'w, F> {
    connection: &'w Connection,
    work: F,
    /// When the stream is to end, once the server drains.
    leave: Option<CompactInstant>,
}

impl<'w, F> Driver<'w, F> {
    pub(crate) const fn new(connection: &'w Connection, work: F) -> Self {
        Self { connection, work, leave: None }
    }
}

impl<F: Future + Unpin> Future for Driver<'_, F> {
    /// What the work gives, or how the request ended before that.
    type Output = Result<F::Output, End>;

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
            let deadline = connection.deadline().into_iter().chain(self.leave).min();
            let now = ready!(
                deadline.map_or(Poll::Pending, |deadline| connection.poll_deadline(deadline))
            );
            if self.leave.is_some_and(|leave| leave <= now) {
                return Poll::Ready(Err(End::Drained));
            }
            // What it queues is written in the next round.
            if let Err(end) = connection.handle_time(now) {
                return Poll::Ready(Err(end));
            }
        }
    }
}

/// Writes what is queued while no handler is there to wait for it.
pub(crate) async fn flush(connection: &Connection) -> Result<(), End> {
    Driver::new(connection, pin!(connection.flush())).await?
}

/// The time between the ends of two streams on average, if the time for draining allows it.
const BETWEEN_ENDS: Duration = Duration::from_millis(50);

/// Sends a stream's peer a reconnection time of its own, and returns how long the stream goes on:
/// a random part of the period over which all open streams end, which grows with their number. A
/// lone stream ends at once.
fn send_away(connection: &Connection, drain: Duration) -> Duration {
    let retry = 500 + fastrand::u64(..1500);
    connection.push([Frame::from(Event::without_data().with_retry(retry))]);
    let others = u32::try_from(connection.shared.metrics.streams() - 1).unwrap_or(0);
    // The last fifth of the time is for peers that are slow to take the end.
    let period = drain.mul_f64(0.8).min(BETWEEN_ENDS.saturating_mul(others));
    period.mul_f64(fastrand::f64())
}
