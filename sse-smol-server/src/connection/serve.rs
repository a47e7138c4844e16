//! The life of a connection: reads requests, runs their handlers, completes answers, logs.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use http::Method;
use smol::future::{FutureExt as _, yield_now};

use crate::compact_instant::CompactInstant;
use crate::connection::Connection;
use crate::connection::driver::{Driver, flush};
use crate::connection::exchange::Progress;
use crate::connection::input::{NoInput, ReadHead};
use crate::connection::shared::Shared;
use crate::http1::{Head, Refusal, busy, replace, whole};
use crate::net::transport::Transport;
use crate::{CloseReason, Closed, Error, Frame};

/// The references to a connection that its own task holds: one directly, one in the slot.
const MINE: usize = 2;

/// An admitted connection. Dropping it frees its place in the admission.
struct ConnectionSlot(Arc<Connection>);

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.shared.admission.release(self.0.peer());
    }
}

/// Serves the requests of one connection that was admitted, until it is closed.
// Not an `async fn`, which would hold its arguments twice.
pub(crate) fn serve<H, F>(
    connection: Arc<Connection>,
    handler: Arc<H>,
) -> impl Future<Output = ()> + Send
where
    H: Fn(Box<Head>, Arc<Connection>) -> F + Send + Sync,
    F: Future<Output = Result<(), Error>> + Send,
{
    // Created outside the block, so that a task that is never polled frees the slot, too.
    let slot = ConnectionSlot(Arc::clone(&connection));
    async move {
        let mut first = true;
        loop {
            // Begun before the head is read, since a head that is refused counts as a request, too.
            connection.begin_request();
            let head = match ReadHead::new(&connection, first).await {
                Ok(head) => Ok(head),
                Err(NoInput::Refused(refusal)) => Err(refusal),
                Err(NoInput::Gone(end)) => {
                    // Requests before this one have been logged.
                    if mem::take(&mut first) {
                        AccessLog::new(&connection).report(end);
                    }
                    return;
                }
            };
            first = false;
            let mut log = AccessLog::new(&connection);
            let mut end = match begin(head, &connection, &mut log, &*handler) {
                Ok(work) => {
                    let work = pin!(AssertUnwindSafe(work).catch_unwind());
                    match Driver::new(&connection, work).await {
                        Ok(Ok(Ok(()))) => CloseReason::Finished,
                        Ok(Ok(Err(error))) | Err(error) => error.into(),
                        Ok(Err(_)) => panicked().into(),
                    }
                }
                Err(error) => error.into(),
            };
            end = conclude(&connection, end);
            if end.is_answerable() && !connection.progress().is_flushed {
                // The handler has been dropped, but the peer is still watched.
                match Box::pin(flush(&connection)).await {
                    Err(cut_short) if end.is_orderly() => end = cut_short.into(),
                    _ => {}
                }
            }
            if matches!(end, CloseReason::Error(Error::TimedOut))
                && !connection.progress().is_flushed
            {
                // If the peer accepts no data, the kernel's timeout for the last packet may expire
                // just before the write timeout.
                end = Error::Stuck.into();
            }
            if matches!(end, CloseReason::Error(Error::Stuck)) {
                connection.transport.reset_on_close();
            }
            let orderly = end.is_orderly();
            let progress = connection.progress();
            let answered = progress.status.is_some() && end.is_answerable();
            let again = !progress.is_last && !progress.body_unread;
            log.report(end);
            if !answered {
                // The connection closes when its last reference is dropped. If other tasks hold
                // references, it is closed here.
                if Arc::strong_count(&connection) > MINE {
                    connection.transport.shut();
                }
                return;
            }
            if !again || !orderly || connection.shared.drain.has_begun() {
                break;
            }
            if connection.has_input() {
                // A peer may send requests as fast as they are answered: other tasks run first.
                yield_now().await;
            }
        }
        if connection.shared.drain.has_begun() && connection.progress().had_stream {
            // The stream is complete. A graceful shutdown does not wait for peers to close.
            drop(slot);
        }
        connection.linger().await;
    }
}

/// Calls the handler for a request, or answers a request that is refused.
fn begin<H, F>(
    head: Result<Box<Head>, Refusal>,
    connection: &Arc<Connection>,
    log: &mut AccessLog<'_>,
    handler: &H,
) -> Result<F, Error>
where
    H: Fn(Box<Head>, Arc<Connection>) -> F,
{
    let head = head.map_err(|refusal| {
        connection.make_last();
        connection.answer(refusal.status, whole(refusal.response(), false, true));
        Error::Answered(refusal.status)
    })?;
    log.request = Some(loggable(&head));
    let head_only = head.parts.method == Method::HEAD;
    connection.head_is_read(head.has_body(), head_only, !head.keeps_connection);
    // A panic of the handler fails one request and not the server.
    catch_unwind(AssertUnwindSafe(|| handler(head, Arc::clone(connection)))).map_err(|_| panicked())
}

fn panicked() -> Error {
    Error::Failed("the handler panicked".into())
}

/// Queues the rest of the answer after the handler has ended, and returns how the request ended.
fn conclude(connection: &Arc<Connection>, mut end: CloseReason) -> CloseReason {
    // Without this, the peer would read the next response as the rest of this body.
    let Progress { status, unsent, had_stream, .. } = connection.progress();
    if unsent > 0 && end.is_orderly() {
        let why = format!("the response body is {unsent} bytes too short");
        end = Error::Failed(why.into()).into();
    }
    if status.is_some() && Arc::strong_count(connection) > MINE {
        // Another task holds the request, with which it could answer the next one.
        connection.make_last();
    }
    match status {
        Some(_) if had_stream && end.is_orderly() => connection.finish(),
        None if end.is_answerable() => {
            let error = match end {
                CloseReason::Error(error @ (Error::Failed(_) | Error::Storage(_))) => error,
                _ => Error::Failed("the handler returned without an answer".into()),
            };
            let mut response = error.response();
            if let Some(headers) = connection.take_headers() {
                replace(response.headers_mut(), &headers);
            }
            let status = response.status();
            // After an error of the client, the connection can serve further requests, unless
            // another task holds the request, with which it could answer the next one.
            let Progress { is_last, body_unread, head_only, .. } = connection.progress();
            let close = !status.is_client_error()
                || is_last
                || body_unread
                || Arc::strong_count(connection) > MINE;
            if close {
                connection.make_last();
            }
            connection.answer(status, whole(response, head_only, close));
            return if status.is_client_error() {
                CloseReason::Answered(status)
            } else {
                error.into()
            };
        }
        _ => {}
    }
    match (&end, status) {
        (CloseReason::Finished, Some(status)) if !had_stream => CloseReason::Answered(status),
        _ => end,
    }
}

/// Rejects a connection that exceeds a limit: answers without reading the request.
pub(crate) async fn reject(transport: Transport, shared: Arc<Shared>) {
    let connection = Connection::new(transport, shared);
    connection.push_raw(whole(
        busy("A limit on connections is reached; try again later."),
        false,
        true,
    ));
    if flush(&connection).await.is_ok() {
        connection.linger().await;
    }
}

/// Returns the request line for the log: method and target, escaped and limited in length.
fn loggable(head: &Head) -> Box<str> {
    const MOST: usize = 200;
    if !log::log_enabled!(log::Level::Info) {
        return Box::default();
    }
    let (method, target) = (head.parts.method.as_str(), head.parts.uri.to_string());
    // A method is ASCII.
    let mut line = method[..method.len().min(MOST)].to_owned();
    line.push(' ');
    let escapes = |byte: u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'\\' | b'\'' | b'"');
    if target.len() <= MOST && !target.bytes().any(escapes) {
        line.push_str(&target);
    } else {
        let start = line.len();
        line.extend(target.chars().flat_map(char::escape_default).take(MOST + 1));
        if line.len() - start > MOST {
            line.truncate(start + MOST);
            line.push_str("...");
        }
    }
    line.into()
}

/// Returns a count with its unit, in the plural unless the count is one.
fn counted(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Reports the end of a request once, at the latest when it is dropped: to
/// [`on_close`](crate::EventStream::on_close) hooks, to the metrics, and as a log line with the
/// number of body bytes that the kernel has accepted and, for a stream, the number of events.
struct AccessLog<'w> {
    connection: &'w Connection,
    /// `None` if no line is logged.
    start: Option<CompactInstant>,
    /// The request line, empty if there was no request. `None` once the end is reported.
    request: Option<Box<str>>,
}

impl<'w> AccessLog<'w> {
    fn new(connection: &'w Connection) -> Self {
        let start = log::log_enabled!(log::Level::Info).then(CompactInstant::now);
        Self { connection, start, request: Some(Box::default()) }
    }

    fn report(&mut self, end: CloseReason) {
        let Some(request) = self.request.take() else {
            return;
        };
        let sent = self.connection.sent();
        let Progress { status, had_stream, .. } = self.connection.progress();
        let closed = Closed {
            reason: end,
            last_event_id: sent
                .last_with_id
                .as_ref()
                .and_then(Frame::id)
                .map(|id| String::from_utf8_lossy(id).into()),
            events: sent.events,
        };
        self.connection.shared.metrics.ended(&closed.reason, &sent, had_stream);
        let closed = self.connection.close(closed);
        let Some(start) = self.start else {
            return;
        };
        let events =
            if had_stream { format!("{}, ", counted(sent.events, "event")) } else { String::new() };
        log::info!(
            "{} {} {}: {}, {events}{}, {:.3} s",
            self.connection.peer(),
            if request.is_empty() { "(no request)" } else { &request },
            status.map_or("-".into(), |status| status.as_u16().to_string()),
            closed.reason,
            counted(sent.body_bytes, "byte"),
            start.elapsed().as_secs_f64()
        );
    }
}

impl Drop for AccessLog<'_> {
    fn drop(&mut self) {
        self.report(CloseReason::Stopped);
    }
}
