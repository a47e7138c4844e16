//! One connection from its first byte to its last: heads, handlers, ends.

use std::future::{self, Future};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use smol::future::FutureExt as _;
use smol::{Async, Timer};
use sse_proto::Event;

use crate::head::{Head, Refusal, busy, text, whole};
use crate::input::{NoInput, read_head};
use crate::peers::Slot;
use crate::server::Shared;
use crate::wire::Wire;
use crate::{Closed, End, Frame, Request};

/// Serves one connection.
pub(crate) async fn serve<H, F>(
    socket: Async<TcpStream>,
    slot: Slot,
    shared: Arc<Shared>,
    handler: &H,
) where
    H: Fn(Request) -> F,
    F: Future<Output = Result<(), End>>,
{
    let slot = Arc::new(slot);
    let wire = Arc::new(Wire::new(socket, shared.config.write_timeout));
    let mut first = true;
    loop {
        // A refusal answers a request, too, of which nothing is known.
        wire.begin_request(false, false);
        let drained = async {
            shared.drain.begun().await;
            Err(NoInput::Gone(End::Drained))
        };
        let input = next_request(&wire, &slot, &shared).or(drained).await;
        if let (Err(NoInput::Gone(_)), false) = (&input, first) {
            // Its requests are in the log.
            return;
        }
        first = false;
        let mut log = AccessLog::new(slot.peer, Arc::clone(&wire), Arc::clone(&shared));
        let (end, again) = match input {
            Ok(request) => {
                log.request = loggable(request.head());
                let keeps = request.head().keeps_connection();
                let end = answer(request, &wire, &shared, handler).await;
                (end, keeps && !wire.is_last() && !wire.body_unread())
            }
            Err(NoInput::Refused(refusal)) => (refuse(&wire, &shared, refusal).await, false),
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
        if !again || !orderly || shared.drain.has_begun() {
            if shared.drain.has_begun() && wire.had_stream() {
                // Its stream is whole. A server that stops waits for streams, not for peers.
                drop(slot);
            }
            return wire.linger().await;
        }
    }
}

async fn next_request(
    wire: &Arc<Wire>,
    slot: &Arc<Slot>,
    shared: &Arc<Shared>,
) -> Result<Request, NoInput> {
    let head = read_head(wire, &shared.config).await?;
    wire.begin_request(head.has_body(), head.parts.method == Method::HEAD);
    Ok(Request::new(head, Arc::clone(wire), Arc::clone(slot), Arc::clone(shared)))
}

/// Answers one request.
async fn answer<H, F>(request: Request, wire: &Wire, shared: &Shared, handler: &H) -> End
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<(), End>>,
{
    // A panic is the failure of one request, not of the server. The box keeps what a handler needs
    // out of this future, which would hold it more than once.
    let handler = Box::pin(AssertUnwindSafe(async { handler(request).await }).catch_unwind());
    let mut end = match drive(wire, shared, handler).await {
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
        if let Err(cut_short) = flush(wire, shared).await {
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

async fn refuse(wire: &Wire, shared: &Shared, refusal: Refusal) -> End {
    wire.answer(refusal.status, whole(refusal.response(), false, true));
    flush(wire, shared).await.err().unwrap_or(End::Answered(refusal.status))
}

/// Writes what is queued while no handler is there to wait for it.
async fn flush(wire: &Wire, shared: &Shared) -> Result<(), End> {
    drive(wire, shared, pin!(wire.flush())).await?
}

/// Polls what answers a request, and beside it does what goes on while that waits: watches the
/// peer and the clock, writes what is left over, and sends the peer away when the server drains.
async fn drive<F: Future + Unpin>(
    wire: &Wire,
    shared: &Shared,
    mut work: F,
) -> Result<F::Output, End> {
    let mut alarm = None;
    let mut drain = None;
    let mut leave: Option<Timer> = None;
    future::poll_fn(|cx| {
        wire.begin_poll(cx);
        let worked = Pin::new(&mut work).poll(cx);
        wire.end_poll();
        if let Poll::Ready(result) = worked {
            return Poll::Ready(Ok(result));
        }
        if let Poll::Ready(end) = wire.poll_peer(cx) {
            return Poll::Ready(Err(end));
        }
        if leave.is_none() {
            let listener = drain.get_or_insert_with(|| shared.drain.listen());
            let begun = shared.drain.has_begun() || Pin::new(listener).poll(cx).is_ready();
            if begun && wire.is_open() {
                leave = Some(Timer::after(send_away(wire, shared.config.drain)));
            }
        }
        if leave.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready()) {
            return Poll::Ready(Err(End::Drained));
        }
        loop {
            if let Poll::Ready(Err(end)) = wire.poll_flush(cx) {
                return Poll::Ready(Err(end));
            }
            // What it queues is written in the next round, and the clock looked at once more.
            match wire.poll_time(cx, &mut alarm) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => return Poll::Pending,
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
pub(crate) async fn turn_away(socket: Async<TcpStream>, shared: Arc<Shared>) {
    let wire = Wire::new(socket, shared.config.write_timeout);
    wire.push_raw(whole(busy("No connection is free; try again later."), false, true));
    if flush(&wire, &shared).await.is_ok() {
        wire.linger().await;
    }
}

/// Tells everyone that a request is over, however that comes about: who asked for it
/// ([`on_close`](crate::EventStream::on_close)), the metrics, and the log, a line each.
struct AccessLog {
    peer: SocketAddr,
    request: String,
    start: Instant,
    wire: Arc<Wire>,
    shared: Arc<Shared>,
    end: End,
}

impl AccessLog {
    fn new(peer: SocketAddr, wire: Arc<Wire>, shared: Arc<Shared>) -> Self {
        let request = "(no request)".to_owned();
        Self { peer, request, start: Instant::now(), wire, shared, end: End::Stopped }
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
        self.shared.metrics.ended(&closed.reason, &sent, had_stream);
        let closed = self.wire.close(closed);
        let status = self.wire.status().map_or("-".into(), |status| status.as_u16().to_string());
        log::info!(
            "{} {} {status}: {}, {} events, {} bytes, {:.3} s",
            self.peer,
            self.request,
            closed.reason,
            sent.events,
            sent.bytes,
            self.start.elapsed().as_secs_f64()
        );
    }
}
