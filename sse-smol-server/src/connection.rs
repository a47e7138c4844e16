//! One connection from its first byte to its last: heads, handlers, ends.

use std::future::{self, Future};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use smol::Async;
use smol::future::FutureExt as _;
use sse_proto::Event;

use crate::clock::Alarm;
use crate::head::{Head, Refusal, busy, text, whole};
use crate::input::{NoInput, read_head};
use crate::peers::Slot;
use crate::server::Shared;
use crate::wire::Wire;
use crate::{Closed, End, Frame, Request};

/// Serves one connection.
pub(crate) async fn serve<H, F>(wire: Arc<Wire>, slot: Slot, handler: &H)
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<(), End>>,
{
    let drain = &wire.shared.drain;
    let mut first = true;
    loop {
        // A refusal answers a request, too, of which nothing is known.
        wire.begin_request(false, false);
        let drained = async {
            drain.begun().await;
            Err(NoInput::Gone(End::Drained))
        };
        let input = next_request(&wire).or(drained).await;
        if let (Err(NoInput::Gone(_)), false) = (&input, first) {
            // Its requests are in the log.
            return;
        }
        first = false;
        let mut log = AccessLog::new(Arc::clone(&wire));
        let (end, again) = match input {
            Ok(request) => {
                log.request = loggable(request.head());
                let keeps = request.head().keeps_connection();
                let end = answer(request, &wire, handler).await;
                (end, keeps && !wire.is_last() && !wire.body_unread())
            }
            Err(NoInput::Refused(refusal)) => (refuse(&wire, refusal).await, false),
            Err(NoInput::Gone(end)) => (end, false),
        };
        let orderly = end.is_orderly();
        let answered = wire.status().is_some() && end.is_answerable();
        log.end = end;
        drop(log);
        if !answered {
            // Also if somebody else still holds the stream.
            return wire.shut();
        }
        if !again || !orderly || drain.has_begun() {
            if drain.has_begun() && wire.had_stream() {
                // Its stream is whole. A server that stops waits for streams, not for peers.
                drop(slot);
            }
            return wire.linger().await;
        }
    }
}

async fn next_request(wire: &Arc<Wire>) -> Result<Request, NoInput> {
    let head = read_head(wire).await?;
    wire.begin_request(head.has_body(), head.parts.method == Method::HEAD);
    Ok(Request::new(head, Arc::clone(wire)))
}

/// Answers one request.
async fn answer<H, F>(request: Request, wire: &Wire, handler: &H) -> End
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<(), End>>,
{
    // A panic is the failure of one request, not of the server. The box keeps what a handler needs
    // out of this future, which would hold it more than once.
    let handler = Box::pin(AssertUnwindSafe(async { handler(request).await }).catch_unwind());
    let mut end = match drive(wire, handler).await {
        Ok(Ok(Ok(()))) => End::Finished,
        Ok(Ok(Err(end))) | Err(end) => end,
        Ok(Err(_)) => End::Failed("the handler panicked".into()),
    };
    match wire.status() {
        Some(_) if end.is_orderly() => wire.finish(),
        None if end.is_answerable() => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let response = text(status, "The server failed to answer.");
            wire.answer(status, whole(response, wire.head_only(), true));
            if !matches!(end, End::Failed(_)) {
                end = End::Failed("the handler did not answer".into());
            }
        }
        _ => {}
    }
    if let (End::Finished, false, Some(status)) = (&end, wire.had_stream(), wire.status()) {
        end = End::Answered(status);
    }
    if end.is_answerable() {
        // The rest of the answer; the handler is gone, but the peer is still watched.
        if let Err(cut_short) = flush(wire).await {
            if end.is_orderly() {
                return cut_short;
            }
        }
    }
    end
}

/// The request line, as far as it is fit for the log: no control characters, and an end.
fn loggable(head: &Head) -> String {
    const MOST: usize = 200;
    let target = head.parts.uri.to_string();
    let mut target: String = target.chars().flat_map(char::escape_default).take(MOST + 1).collect();
    if target.len() > MOST {
        target.truncate(MOST);
        target.push_str("...");
    }
    let method: String = head.parts.method.as_str().chars().take(MOST).collect();
    format!("{method} {target}")
}

async fn refuse(wire: &Wire, refusal: Refusal) -> End {
    wire.answer(refusal.status, whole(refusal.response(), false, true));
    flush(wire).await.err().unwrap_or(End::Answered(refusal.status))
}

/// Writes what is queued while no handler is there to wait for it.
async fn flush(wire: &Wire) -> Result<(), End> {
    drive(wire, pin!(wire.flush())).await?
}

/// Polls what answers a request, and beside it does what goes on while that waits: watches the
/// peer and the clock, writes what is left over, and sends the peer away when the server drains.
async fn drive<F: Future + Unpin>(wire: &Wire, mut work: F) -> Result<F::Output, End> {
    let Shared { clock, config, drain, .. } = &*wire.shared;
    let mut alarm = Alarm::new(clock);
    let mut drained = None;
    let mut leave: Option<Instant> = None;
    future::poll_fn(|cx| {
        let new = wire.begin_poll(cx);
        let worked = Pin::new(&mut work).poll(cx);
        wire.end_poll();
        if let Poll::Ready(result) = worked {
            return Poll::Ready(Ok(result));
        }
        if let Poll::Ready(end) = wire.poll_peer(cx) {
            return Poll::Ready(Err(end));
        }
        if new || drained.is_none() {
            let listener = drained.insert(drain.listen());
            // What it says, the drain says better; but it is to wake the driver.
            let _ = Pin::new(listener).poll(cx);
        }
        if leave.is_none() && drain.has_begun() && wire.is_open() {
            leave = Some(Instant::now() + send_away(wire, config.drain));
        }
        loop {
            if let Poll::Ready(Err(end)) = wire.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            let deadline = wire.deadline().into_iter().chain(leave).min();
            ready!(deadline.map_or(Poll::Pending, |deadline| alarm.poll(deadline, cx)));
            let now = Instant::now();
            if leave.is_some_and(|leave| leave <= now) {
                return Poll::Ready(Err(End::Drained));
            }
            // What it queues is written in the next round.
            if let Err(end) = wire.handle_time(now) {
                return Poll::Ready(Err(end));
            }
        }
    })
    .await
}

/// Tells a stream's peer to come back at a time of its own, and tells when the stream is to end:
/// all within the window, one after the other.
fn send_away(wire: &Wire, window: Duration) -> Duration {
    let retry = 500 + fastrand::u64(..1500);
    wire.push([Frame::from(Event::without_data().with_retry(retry))]);
    // The last fifth is for those that are slow to take it.
    window.mul_f64(0.8 * fastrand::f64())
}

/// Turns a connection away at the door: an answer without a look at the request.
pub(crate) async fn turn_away(socket: Async<TcpStream>, peer: SocketAddr, shared: Arc<Shared>) {
    let wire = Wire::new(socket, peer, shared);
    wire.push_raw(whole(busy("No connection is free; try again later."), false, true));
    if flush(&wire).await.is_ok() {
        wire.linger().await;
    }
}

/// Tells everyone that a request is over, however that comes about: who asked for it
/// ([`on_close`](crate::EventStream::on_close)), the metrics, and the log, a line each.
struct AccessLog {
    request: String,
    start: Instant,
    wire: Arc<Wire>,
    end: End,
}

impl AccessLog {
    fn new(wire: Arc<Wire>) -> Self {
        let request = "(no request)".to_owned();
        Self { request, start: Instant::now(), wire, end: End::Stopped }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let sent = self.wire.sent();
        let had_stream = self.wire.had_stream();
        let closed = Closed {
            reason: mem::replace(&mut self.end, End::Stopped),
            last_event_id: sent.last_with_id.as_ref().and_then(Frame::id).map(Into::into),
            events: sent.events,
        };
        self.wire.shared.metrics.ended(&closed.reason, &sent, had_stream);
        let closed = self.wire.close(closed);
        let status = self.wire.status().map_or("-".into(), |status| status.as_u16().to_string());
        log::info!(
            "{} {} {status}: {}, {} events, {} bytes, {:.3} s",
            self.wire.peer,
            self.request,
            closed.reason,
            sent.events,
            sent.bytes,
            self.start.elapsed().as_secs_f64()
        );
    }
}
