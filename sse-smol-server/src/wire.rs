//! One connection's socket, what was read from it ahead of time, and what is still to be written.
//!
//! Two parties use it: the handler, which sends, and the connection, which drives the handler,
//! keeps the stream alive and watches the peer. All that either of them writes goes through one
//! queue of whole frames; so a send that is dropped half done tears nothing, and a keep-alive cannot
//! end up inside an event.
//!
//! The driver alone waits for the socket: a socket wakes one task, and the handler may well wait on
//! another, or have its futures polled by something with wakers of its own. Whoever else waits for
//! the queue leaves a waker here.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use http::StatusCode;
use smol::future::FutureExt as _;
use smol::io::AsyncRead as _;
use smol::{Async, channel};
use sse_proto::KeepAlive;

use crate::courier::Batch;
use crate::head::Framing;
use crate::queue::{Queue, Sent};
use crate::server::Shared;
use crate::{Closed, End, Frame};

pub(crate) struct Wire {
    socket: Async<TcpStream>,
    pub(crate) peer: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    /// Locked for moments, never across a wait.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was read and belongs to the next request, or to this one's body.
    input: Vec<u8>,
    /// The request has a body that nobody has read yet, or not to its end.
    body_unread: bool,
    body_begun: bool,
    /// The request asks for the head of the answer alone.
    head_only: bool,
    queue: Queue,
    /// The status of the answer, once there is one.
    status: Option<StatusCode>,
    /// How the body is framed while it is an open event stream.
    stream: Option<Framing>,
    /// The stream's last frame is in the queue.
    finished: bool,
    keep_alive: Option<KeepAlive<Instant>>,
    /// A courier sends what is published.
    rest: Option<Resting>,
    /// What the socket said to a courier, for the driver.
    broken: Option<io::Error>,
    /// The driver's, to be woken when there is something to write.
    driver: Option<Waker>,
    /// The driver is polling the handler, and looks at the queue when that returns.
    driving: bool,
    /// Whoever waits for the queue to be empty.
    waiting: Vec<Waker>,
    /// How the request ended, once it has: nothing is written any more.
    over: Option<Arc<Closed>>,
    /// The connection serves no request after this one.
    last: bool,
    /// Bytes that came while a stream was open, and that nobody asked for.
    ignored: usize,
    /// Who is to be told when the request is over.
    hooks: Vec<Hook>,
    token: Option<(channel::Sender<Infallible>, channel::Receiver<Infallible>)>,
}

struct Resting {
    /// Everything up to here was sent.
    position: u64,
    /// Whoever waits for the stream to be handed back.
    waker: Option<Waker>,
    /// It is.
    is_over: bool,
}

pub(crate) type Hook = Box<dyn FnOnce(&Closed) + Send>;

/// No more than this is read ahead of a peer's next request.
const READ_AHEAD: usize = 4096;

/// How long a connection is read after the last byte was written.
const LINGER: Duration = Duration::from_secs(1);

/// A peer may say so much while a stream is open.
const MOST_IGNORED: usize = 64 << 10;

/// Keep-alives more often than that keep busy, not alive.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_millis(50);

impl Wire {
    pub(crate) fn new(socket: Async<TcpStream>, peer: SocketAddr, shared: Arc<Shared>) -> Self {
        Self { socket, peer, shared, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding this lock; and if so, a drop must not panic for it again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next request of the connection.
    pub(crate) fn begin_request(&self, has_body: bool, head_only: bool) {
        let mut state = self.state();
        let input = std::mem::take(&mut state.input);
        *state = State { input, body_unread: has_body, head_only, ..State::default() };
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.state().status
    }

    /// Whether the answer is an event stream that goes on.
    pub(crate) fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// Whether the answer was or is an event stream.
    pub(crate) fn had_stream(&self) -> bool {
        self.state().stream.is_some()
    }

    /// Has a hook called when the request is over; at once if it is.
    pub(crate) fn on_close(&self, hook: Hook) {
        let mut state = self.state();
        match state.over.clone() {
            None => state.hooks.push(hook),
            Some(closed) => {
                drop(state);
                hook(&closed);
            }
        }
    }

    /// The connection is to be closed after this request.
    pub(crate) fn make_last(&self) {
        self.state().last = true;
    }

    /// Whether the connection serves no request after this one.
    pub(crate) fn is_last(&self) -> bool {
        self.state().last
    }

    /// Closes the connection, whoever still holds it.
    pub(crate) fn shut(&self) {
        // An error says that it is closed.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// Something that is closed when the request is over.
    pub(crate) fn token(&self) -> channel::Receiver<Infallible> {
        let mut state = self.state();
        if state.over.is_some() {
            return channel::bounded(1).1;
        }
        state.token.get_or_insert_with(|| channel::bounded(1)).1.clone()
    }

    /// Tells everyone that the request is over.
    pub(crate) fn close(&self, closed: Closed) -> Arc<Closed> {
        let closed = Arc::new(closed);
        let mut state = self.state();
        state.token = None;
        state.over = Some(Arc::clone(&closed));
        state.waiting.drain(..).for_each(Waker::wake);
        state.rest.take().and_then(|rest| rest.waker).into_iter().for_each(Waker::wake);
        let hooks = std::mem::take(&mut state.hooks);
        drop(state);
        for hook in hooks {
            // One that panics does not keep the others from being called.
            let _ = catch_unwind(AssertUnwindSafe(|| hook(&closed)));
        }
        closed
    }

    pub(crate) fn sent(&self) -> Sent {
        self.state().queue.sent().clone()
    }

    pub(crate) fn head_only(&self) -> bool {
        self.state().head_only
    }

    pub(crate) fn body_unread(&self) -> bool {
        self.state().body_unread
    }

    /// Notes that the body is about to be read. False if it was begun before.
    pub(crate) fn begin_body(&self) -> bool {
        !std::mem::replace(&mut self.state().body_begun, true)
    }

    /// Whether something of the body has arrived.
    pub(crate) fn has_input(&self) -> bool {
        !self.state().input.is_empty()
    }

    pub(crate) fn body_is_read(&self) {
        self.state().body_unread = false;
    }

    /// Reads some more of what the peer says, behind what was read before.
    pub(crate) async fn read_more(&self) -> Result<(), End> {
        std::future::poll_fn(|cx| {
            // Here it takes room on the stack, and not in each connection's future.
            let mut piece = [0; READ_AHEAD];
            let count = ready!(self.poll_piece(cx, &mut piece))?;
            self.state().input.extend_from_slice(&piece[..count]);
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Some bytes from the peer, or what it means that there are no more.
    fn poll_piece(&self, cx: &mut Context<'_>, piece: &mut [u8]) -> Poll<Result<usize, End>> {
        Poll::Ready(match ready!(Pin::new(&mut &self.socket).poll_read(cx, piece)) {
            Ok(0) => Err(End::PeerClosed),
            Ok(count) => Ok(count),
            Err(error) => Err(End::from_socket(error)),
        })
    }

    /// Tells the peer that nothing more comes, and waits until it has closed, too. A socket that is
    /// closed with input unread is reset, and the peer may lose the answer.
    pub(crate) async fn linger(&self) {
        if self.socket.get_ref().shutdown(Shutdown::Write).is_err() {
            return;
        }
        let closed = async {
            while self.read_more().await.is_ok() {
                self.state().input.clear();
            }
        };
        let late = async {
            self.shared.clock.until(Instant::now() + LINGER).await;
        };
        closed.or(late).await;
    }

    /// What was read: `take` says how much of it is used up.
    pub(crate) fn input<R>(&self, take: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let mut state = self.state();
        let (used, result) = take(&state.input);
        state.input.drain(..used);
        if state.input.is_empty() {
            state.input = Vec::new();
        }
        result
    }

    /// Queues bytes outside of any framing.
    pub(crate) fn push_raw(&self, bytes: Vec<u8>) {
        self.state().push(Frame::raw(bytes));
    }

    /// Answers with these bytes: all of a response.
    pub(crate) fn answer(&self, status: StatusCode, bytes: Vec<u8>) {
        let mut state = self.state();
        state.status = Some(status);
        state.push(Frame::raw(bytes));
    }

    /// Answers with the head of an event stream.
    pub(crate) fn begin_stream(&self, head: Vec<u8>, framing: Framing) {
        self.answer(StatusCode::OK, head);
        let mut state = self.state();
        state.stream = Some(framing);
        state.last = true;
        // A body that nobody wanted is not waited for: what comes is ignored.
        state.body_unread = false;
        state.keep_alive = self
            .shared
            .config
            .keep_alive
            .filter(|interval| !interval.is_zero())
            .map(|interval| KeepAlive::new(interval.max(SHORTEST_KEEP_ALIVE), Instant::now()));
        state.input = Vec::new();
    }

    /// Queues frames of the event stream. False if there is no open stream.
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut state = self.state();
        let open = state.is_open();
        if open {
            frames.into_iter().for_each(|frame| state.push(frame));
        }
        open
    }

    /// Queues what tells the peer that the stream is whole.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.keep_alive = None;
        if state.is_open() && state.stream == Some(Framing::Chunked) {
            state.push(Frame::raw(b"0\r\n\r\n".to_vec()));
        }
        state.finished = true;
    }

    /// Waits until the kernel has taken everything.
    ///
    /// # Errors
    ///
    /// If the request is over before that.
    pub(crate) async fn flush(&self) -> Result<(), End> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.over.is_some() {
                return Poll::Ready(Err(End::PeerClosed));
            }
            self.write(&mut state)?;
            if state.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            if !state.driving {
                state.driver.iter().for_each(Waker::wake_by_ref);
            }
            Poll::Pending
        })
        .await
    }

    /// From here on, a courier sends what is published after a position.
    pub(crate) fn begin_rest(&self, position: u64) {
        self.state().rest = Some(Resting { position, waker: None, is_over: false });
    }

    pub(crate) fn end_rest(&self) {
        self.state().rest = None;
    }

    /// Ready when the courier has handed the stream back, with the position up to which all is sent.
    pub(crate) fn poll_rest(&self, cx: &Context<'_>) -> Poll<Result<u64, End>> {
        match &mut self.state().rest {
            Some(rest) if rest.is_over => Poll::Ready(Ok(rest.position)),
            Some(rest) => {
                if !rest.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    rest.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            // The request is over.
            None => Poll::Ready(Err(End::PeerClosed)),
        }
    }

    /// The courier's part: writes what the stream has not got yet, or hands it back if that is not
    /// all there is to do.
    pub(crate) fn carry(&self, batch: &Batch) {
        let mut state = self.state();
        let Some(rest) = state.rest.as_ref().filter(|rest| !rest.is_over) else {
            return;
        };
        let carried = batch.after(rest.position).filter(|_| {
            // Others are framed otherwise, and are few.
            state.queue.is_empty() && state.stream == Some(Framing::Chunked)
        });
        let Some(carried) = carried else {
            return state.hand_back();
        };
        let Some(position) = carried.position() else {
            return;
        };
        match self.socket.get_ref().write(carried.bytes) {
            Ok(count) if count == carried.bytes.len() => state.queue.passed(carried.frames()),
            Ok(count) if count > 0 => {
                let now = Instant::now();
                carried.frames().for_each(|frame| state.queue.push(frame.clone(), now));
                state.queue.advance(count, Framing::Chunked);
            }
            Err(error) if !would_block(&error) => {
                state.broken = Some(error);
                return state.hand_back();
            }
            _ => return state.hand_back(),
        }
        if let Some(keep_alive) = &mut state.keep_alive {
            keep_alive.sent(Instant::now());
        }
        if let Some(rest) = &mut state.rest {
            rest.position = position;
        }
        if !state.queue.is_empty() {
            state.hand_back();
        }
    }

    /// Has the stream's own task go on.
    pub(crate) fn hand_back(&self) {
        self.state().hand_back();
    }

    /// Notes that the driver polls the handler now, and who it is. True if that is somebody else
    /// than before.
    pub(crate) fn begin_poll(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        state.driving = true;
        let new = !state.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker()));
        if new {
            state.driver = Some(cx.waker().clone());
        }
        new
    }

    pub(crate) fn end_poll(&self) {
        self.state().driving = false;
    }

    /// The driver's part: writes what is in the queue, and waits for the socket if it must.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut state = self.state();
        loop {
            self.write(&mut state)?;
            if state.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_writable(cx)).map_err(End::from_socket)?;
        }
    }

    /// Writes as much of the queue as the kernel takes. Whoever empties the queue wakes those who
    /// wait for that.
    fn write(&self, state: &mut State) -> Result<(), End> {
        if let Some(error) = state.broken.take() {
            return Err(End::from_socket(error));
        }
        // Outside of a stream all frames are raw, and any framing leaves them as they are.
        let framing = state.stream.unwrap_or(Framing::Chunked);
        state.queue.write(self.socket.get_ref(), framing).map_err(End::from_socket)?;
        if state.queue.is_empty() {
            state.waiting.drain(..).for_each(Waker::wake);
        }
        Ok(())
    }

    /// Ready when the peer is gone. What it says while a stream is open is ignored: it asked for an
    /// answer without an end, and the connection serves no other. What it says before belongs to
    /// its next request.
    pub(crate) fn poll_peer(&self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let mut state = self.state();
            if state.body_unread || state.input.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            if let Some(error) = state.broken.take() {
                return Poll::Ready(End::from_socket(error));
            }
            // Asking for readiness costs no system call, where reading on every wake-up would.
            let mut piece = [0; READ_AHEAD];
            let read = match ready!(self.socket.poll_readable(cx)) {
                Ok(()) => ready!(self.poll_piece(cx, &mut piece)),
                Err(error) => Err(End::from_socket(error)),
            };
            match read {
                Ok(count) if state.stream.is_some() => {
                    state.ignored += count;
                    if state.ignored > MOST_IGNORED {
                        return Poll::Ready(End::Unasked);
                    }
                }
                Ok(count) => state.input.extend_from_slice(&piece[..count]),
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// When [`handle_time`](Self::handle_time) is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        match state.queue.waiting_since() {
            Some(since) => Some(since + self.shared.config.write_timeout),
            None => state.keep_alive.map(|keep_alive| keep_alive.poll_timeout()),
        }
    }

    /// Does what time asks for: queues a keep-alive, or gives up a peer that has taken nothing for
    /// too long.
    pub(crate) fn handle_time(&self, now: Instant) -> Result<(), End> {
        let mut state = self.state();
        match state.queue.waiting_since() {
            Some(since) if now >= since + self.shared.config.write_timeout => {
                // The system calls a socket writable when much of its buffer is free. There may
                // be room for less: then the peer is slow, not stuck.
                self.write(&mut state)?;
                if state.queue.waiting_since() == Some(since) {
                    return Err(End::Stuck);
                }
            }
            // A peer that has not taken the last bytes yet is not silent, it is slow.
            Some(_) => {}
            None => {
                if state.keep_alive.as_mut().is_some_and(|due| due.handle_timeout(now)) {
                    state.push(Frame::keep_alive());
                }
            }
        }
        Ok(())
    }
}

/// Neither is an error of the connection.
fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl State {
    fn hand_back(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.is_over = true;
            rest.waker.iter().for_each(Waker::wake_by_ref);
        }
    }

    fn is_open(&self) -> bool {
        self.stream.is_some() && !self.finished
    }

    fn push(&mut self, frame: Frame) {
        let now = Instant::now();
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.sent(now);
        }
        self.queue.push(frame, now);
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket.get_ref()).finish_non_exhaustive()
    }
}
