//! One connection from its first byte to its last: head, handler, end.

use std::future::{self, Future};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, StatusCode};
use smol::future::FutureExt as _;
use smol::io::AsyncReadExt as _;
use smol::{Async, Timer};

use crate::head::{Refusal, parse, text, whole};
use crate::wire::Wire;
use crate::{Config, End, Request};

/// How long a connection is read after the last byte was written.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one connection.
pub(crate) async fn serve<H, F>(
    socket: Async<TcpStream>,
    peer: SocketAddr,
    config: &Config,
    handler: H,
) where
    H: FnOnce(Request) -> F,
    F: Future<Output = Result<(), End>>,
{
    let wire = Arc::new(Wire::new(socket));
    let mut log = AccessLog::new(peer, Arc::clone(&wire));
    let end = match read_head(&wire.socket, config).await {
        Ok(head) => {
            log.request = format!("{} {}", head.method, head.uri);
            let request = Request::new(head, peer, config.keep_alive, Arc::clone(&wire));
            drive(&wire, run(&wire, handler(request))).await.err().unwrap_or(End::Finished)
        }
        Err(NoHead::Refused(refusal)) => {
            wire.answer(refusal.status, &whole(refusal.response(), &Method::GET));
            wire.flush().await.err().unwrap_or(End::Answered(refusal.status))
        }
        Err(NoHead::Gone(end)) => end,
    };
    let whole = matches!(end, End::Finished | End::Answered(_));
    log.end = end;
    drop(log);
    if whole {
        linger(&wire.socket).await;
    }
}

/// Why there is no request on a connection.
enum NoHead {
    Refused(Refusal),
    Gone(End),
}

impl From<Refusal> for NoHead {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn read_head(mut socket: &Async<TcpStream>, config: &Config) -> Result<Parts, NoHead> {
    let mut deadline = Timer::after(config.head_timeout);
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = async { Some(socket.read(&mut piece).await) };
        let late = async {
            (&mut deadline).await;
            None
        };
        let count = match read.or(late).await {
            Some(Ok(0)) => return Err(NoHead::Gone(End::PeerClosed)),
            Some(Ok(count)) => count,
            Some(Err(error)) => return Err(NoHead::Gone(End::from_socket(&error))),
            // Browsers open connections that they then do not need, and expect no answer there.
            None if head.is_empty() => return Err(NoHead::Gone(End::Silent)),
            None => return Err(Refusal::TOO_SLOW.into()),
        };
        let first = head.is_empty();
        head.extend_from_slice(&piece[..count]);
        // Whole lines only, or a peer that sends byte by byte would have all of it parsed again
        // for each; but what does not even begin like HTTP is refused at once.
        if first || piece[..count].contains(&b'\n') {
            if let Some(head) = parse(&head[..head.len().min(config.max_head)])? {
                return Ok(head);
            }
        }
        if head.len() >= config.max_head {
            return Err(Refusal::TOO_LARGE.into());
        }
    }
}

/// Runs a handler to its end, and ends what it has begun.
async fn run(wire: &Wire, handler: impl Future<Output = Result<(), End>>) -> Result<(), End> {
    // A panic is the failure of one request, not of the server.
    let result = AssertUnwindSafe(handler).catch_unwind().await;
    let result = result.unwrap_or_else(|_| Err(End::Failed("the handler panicked".into())));
    let answered = wire.status().is_some();
    match result {
        Ok(()) if answered => wire.finish(),
        Err(End::Failed(_)) | Ok(()) if !answered => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let response = text(status, "The server failed to answer.");
            wire.answer(status, &whole(response, &Method::GET));
        }
        _ => {}
    }
    wire.flush().await?;
    result
}

/// Polls a handler, and beside it does what goes on while it waits: watches the peer, sends
/// keep-alives, writes what is left over.
async fn drive(wire: &Wire, handler: impl Future<Output = Result<(), End>>) -> Result<(), End> {
    let mut handler = pin!(handler);
    let mut timer = None;
    future::poll_fn(|cx| {
        if let Poll::Ready(result) = handler.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if let Poll::Ready(end) = wire.poll_peer(cx) {
            return Poll::Ready(Err(end));
        }
        wire.poll_keep_alive(cx, &mut timer);
        match wire.poll_flush(cx) {
            Poll::Ready(Err(end)) => Poll::Ready(Err(end)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Tells the peer that nothing more comes, and waits until it has closed, too. A socket that is
/// closed with input unread is reset, and the peer may lose the answer.
async fn linger(mut socket: &Async<TcpStream>) {
    if socket.get_ref().shutdown(Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        let mut bytes = [0; 1024];
        while matches!(socket.read(&mut bytes).await, Ok(1..)) {}
    };
    let late = async {
        Timer::after(LINGER).await;
    };
    drain.or(late).await;
}

/// Writes one line to the log when the connection is over, however that comes about.
struct AccessLog {
    peer: SocketAddr,
    request: String,
    start: Instant,
    wire: Arc<Wire>,
    end: End,
}

impl AccessLog {
    fn new(peer: SocketAddr, wire: Arc<Wire>) -> Self {
        let request = "(no request)".to_owned();
        Self { peer, request, start: Instant::now(), wire, end: End::Stopped }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let sent = self.wire.sent();
        let status = self.wire.status().map_or("-".into(), |status| status.as_u16().to_string());
        log::info!(
            "{} {} {status}: {}, {} events, {} bytes, {:.3} s",
            self.peer,
            self.request,
            self.end,
            sent.events,
            sent.bytes,
            self.start.elapsed().as_secs_f64()
        );
    }
}
