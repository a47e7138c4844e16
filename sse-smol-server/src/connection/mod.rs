//! The state of one connection: its socket, input that was read ahead, and output to be written.
//!
//! Three parties use it: the handler, which sends; the driver, which polls the handler, sends
//! keep-alives and watches the peer; and a delivery worker, while the stream is parked. All output
//! goes through one queue of whole frames, or directly to the socket while the queue is empty. So a
//! dropped send cannot cut an event, and a keep-alive cannot end up inside one.
//!
//! Only the driver waits for the socket: a socket wakes one task, and the handler may wait on
//! another task, or poll its futures with other wakers. Tasks that wait for the queue register
//! wakers here.

mod batch;
pub(crate) mod body;
pub(crate) mod budget;
mod deadlines;
pub(crate) mod delivery;
pub(crate) mod driver;
pub(crate) mod input;
mod locked;
mod parked;
mod peer;
pub(crate) mod serve;
pub(crate) mod shared;

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::{future, mem};

use http::StatusCode;
use smol::Async;

use crate::cancel_token::CancelToken;
use crate::compact_instant::CompactInstant;
use crate::connection::budget::Reservation;
use crate::connection::shared::Shared;
use crate::end::{Closed, End};
use crate::frame::Frame;
use crate::frame::Framing;
use crate::net::queue::{Queue, Sent};
use crate::net::socket;
use crate::net::timers::Timed;

use self::locked::Locked;
use self::parked::ParkedAt;

pub(crate) struct Connection {
    socket: Async<TcpStream>,
    pub(crate) peer: SocketAddr,
    /// The key of the connection in the timers.
    number: usize,
    pub(crate) shared: Arc<Shared>,
    /// Never locked across an await point.
    state: Mutex<State>,
}

/// Per-connection state. Held for the connection's lifetime, so keep it small.
#[derive(Default)]
struct State {
    queue: Queue,
    /// The waker of the connection's task.
    driver: Option<Waker>,
    /// The time for which the timers have been set to wake the connection's task.
    timer: Option<CompactInstant>,
    /// The time of the last output on a stream with keep-alives.
    last_sent: Option<CompactInstant>,
    /// Set while a delivery worker sends the events of the stream's topic.
    parked: Option<ParkedAt>,
    /// Whether the worker has returned the stream to the connection's task.
    unparked: bool,
    /// How the request ended. Nothing is written once it is set.
    over: Option<Arc<Closed>>,
    cold: Option<Box<ColdState>>,
    /// The number of bytes that arrived while a stream was open, and were ignored.
    ignored: u32,
    /// The status of the answer, once it has begun.
    status: Option<StatusCode>,
    /// The framing of the event stream, if the answer is or was one.
    stream: Option<Framing>,
    /// Whether the stream's last frame has been queued.
    finished: bool,
    /// Whether the request has a body that has not been read to its end.
    body_unread: bool,
    body_begun: bool,
    /// Whether the answer is only its head, as for `HEAD`.
    head_only: bool,
    /// Whether the driver is polling the handler. It writes the queue when that returns.
    driving: bool,
    /// Whether the connection is closed after this request.
    last: bool,
}

/// State that few connections need at one time. Freed when it is empty.
#[derive(Default)]
struct ColdState {
    /// Bytes that were read, and belong to this request's body or to the next request.
    input: Vec<u8>,
    /// The reserved memory of the request's body, which the handler may hold.
    body: Option<Reservation>,
    /// The wakers of tasks that wait for the queue to be empty or the stream to be unparked.
    waiting: Vec<Waker>,
    /// The hooks to call when the request has ended.
    hooks: Vec<Hook>,
    token: Option<CancelToken>,
    /// The error of a delivery worker's write, to be returned to the driver.
    broken: Option<io::Error>,
    /// Set if the peer has shut down its sending side and may still wait for the answer: the time
    /// since when it has waited for the next part.
    half_closed: Option<CompactInstant>,
    /// The number of bytes of the announced body that have not been queued yet.
    unsent: u64,
    /// Set if the peer fell behind, so that the kernel does not limit the time for which data are
    /// unacknowledged: the time when it does again.
    slow_until: Option<CompactInstant>,
}

pub(crate) type Hook = Box<dyn FnOnce(&Closed) + Send>;

impl Connection {
    pub(crate) fn new(
        socket: Async<TcpStream>,
        peer: SocketAddr,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|connection: &Weak<Self>| {
            let number = shared.timers.enter(connection.clone());
            Self { socket, peer, number, shared, state: Mutex::default() }
        })
    }

    fn state(&self) -> Locked<'_> {
        // No panic is expected while this lock is held; after one, a drop must not panic again.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked::new(state)
    }

    /// Begins the next request of the connection.
    pub(crate) fn begin_request(&self, has_body: bool, head_only: bool) {
        let mut state = self.state();
        // The peer waits for each answer anew.
        let half_closed = state.half_closed().map(|_| CompactInstant::now());
        let timer = state.timer;
        let input = mem::take(&mut state.cold().input);
        let slow_until = state.cold().slow_until;
        let cold = ColdState { input, half_closed, slow_until, ..ColdState::default() };
        let cold = Some(Box::new(cold));
        let mut new = State { timer, body_unread: has_body, head_only, cold, ..State::default() };
        new.tidy();
        let old = mem::replace(&mut *state, new);
        // `old` may hold hooks and wakers, which are not dropped under the lock.
        drop(state);
        drop(old);
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.state().status
    }

    /// Returns whether the answer is an event stream that is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// Returns whether the answer is or was an event stream.
    pub(crate) fn had_stream(&self) -> bool {
        self.state().stream.is_some()
    }

    /// Registers a hook that is called when the request ends, or calls it at once if it has ended.
    pub(crate) fn on_close(&self, hook: Hook) {
        let mut state = self.state();
        match state.over.clone() {
            None => state.cold().hooks.push(hook),
            Some(closed) => {
                drop(state);
                hook(&closed);
            }
        }
    }

    /// Marks the connection to be closed after this request.
    pub(crate) fn make_last(&self) {
        self.state().last = true;
    }

    /// Returns whether the connection is closed after this request.
    pub(crate) fn is_last(&self) -> bool {
        self.state().last
    }

    /// Makes the kernel reset the connection and discard unsent data when the socket is closed.
    pub(crate) fn reset_on_close(&self) {
        socket::reset_on_close(&self.socket);
    }

    /// Closes the connection, even if other tasks still hold it.
    pub(crate) fn shut(&self) {
        // An error means that it is closed already.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// Returns a token that is cancelled when the request is over.
    pub(crate) fn token(&self) -> CancelToken {
        let mut state = self.state();
        if state.over.is_some() {
            let token = CancelToken::new();
            token.cancel();
            return token;
        }
        state.cold().token.get_or_insert_with(CancelToken::new).clone()
    }

    /// Ends the request: wakes the tasks that wait for it, and calls the hooks.
    pub(crate) fn close(&self, closed: Closed) -> Arc<Closed> {
        let closed = Arc::new(closed);
        let mut state = self.state();
        state.over = Some(Arc::clone(&closed));
        state.parked = None;
        state.wake_waiting();
        let cold = state.cold();
        cold.body = None;
        let (token, hooks) = (cold.token.take(), mem::take(&mut cold.hooks));
        state.tidy();
        drop(state);
        if let Some(token) = token {
            token.cancel();
        }
        for hook in hooks {
            // A hook that panics does not prevent the others.
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

    /// Marks the body as begun. Returns false if it was begun before.
    pub(crate) fn begin_body(&self) -> bool {
        !mem::replace(&mut self.state().body_begun, true)
    }

    /// Marks the body as read, and keeps its memory reserved until the request ends.
    pub(crate) fn body_is_read(&self, reservation: Reservation) {
        let mut state = self.state();
        state.body_unread = false;
        state.cold().body = Some(reservation);
    }

    /// Queues a frame of bytes outside of any framing.
    pub(crate) fn push_raw(&self, frame: Frame) {
        self.state().push([frame]);
    }

    /// Queues a frame that holds a response or the head of one.
    pub(crate) fn answer(&self, status: StatusCode, frame: Frame) {
        let mut state = self.state();
        state.status = Some(status);
        state.push([frame]);
    }

    /// Queues the head of a response whose body of `length` bytes follows in pieces.
    pub(crate) fn begin_response(&self, status: StatusCode, head: Vec<u8>, length: u64) {
        let mut state = self.state();
        state.status = Some(status);
        state.cold().unsent = length;
        state.tidy();
        state.push([Frame::head(head)]);
    }

    /// Returns the number of bytes of the announced body that have not been queued yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.state().cold.as_ref().map_or(0, |cold| cold.unsent)
    }

    /// Queues the next piece of the body. The caller ensures that it is not longer than
    /// [`unsent`](Self::unsent).
    pub(crate) fn push_piece(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        let cold = state.cold();
        cold.unsent = cold.unsent.saturating_sub(bytes.len() as u64);
        state.tidy();
        state.push([Frame::raw(bytes, 0)]);
    }

    /// Queues the head of an event stream, and opens the stream.
    pub(crate) fn begin_stream(&self, head: Vec<u8>, framing: Framing) {
        self.answer(StatusCode::OK, Frame::head(head));
        let mut state = self.state();
        state.stream = Some(framing);
        state.last = true;
        // If the handler has not read the body, it is ignored on arrival.
        state.body_unread = false;
        state.last_sent = self.shared.config.keep_alive.map(|_| CompactInstant::now());
        let cold = state.cold();
        cold.input.clear();
        // Released before the request ends: a stream may stay open for days, and its handler
        // seldom keeps the body.
        cold.body = None;
        state.tidy();
        // The driver has to set the stream's deadlines.
        state.wake_driver();
    }

    /// Queues frames of the event stream. Returns false if no stream is open.
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut state = self.state();
        let open = state.is_open();
        if open {
            state.push(frames);
        }
        open
    }

    /// Marks the answer as finished, and queues the last chunk of a chunked stream.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.last_sent = None;
        if state.is_open() && state.stream == Some(Framing::Chunked) {
            state.push([Frame::head(b"0\r\n\r\n".to_vec())]);
        }
        state.finished = true;
    }

    /// Returns whether the kernel has accepted all output.
    pub(crate) fn is_flushed(&self) -> bool {
        self.state().queue.is_empty()
    }

    /// Waits until the kernel has accepted all output.
    ///
    /// # Errors
    ///
    /// Returns an [`End`] if the socket fails or the request ends before that.
    pub(crate) async fn flush(&self) -> Result<(), End> {
        future::poll_fn(|cx| {
            let mut state = self.state();
            if state.over.is_some() {
                return Poll::Ready(Err(End::PeerClosed));
            }
            self.write(&mut state)?;
            if state.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.wait(cx);
            state.wake_driver();
            Poll::Pending
        })
        .await
    }

    /// Registers the calling task as the connection's task.
    pub(crate) fn drive(&self, cx: &Context<'_>) {
        self.state().drive(cx);
    }

    /// Marks the start of the driver's poll of the handler.
    pub(crate) fn begin_poll(&self, cx: &Context<'_>) {
        let mut state = self.state();
        state.driving = true;
        state.drive(cx);
    }

    /// Marks the end of the driver's poll of the handler.
    pub(crate) fn end_poll(&self) {
        self.state().driving = false;
    }

    /// Writes the queue, and waits for the socket if necessary. Called by the driver only.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            let mut state = self.state();
            self.write(&mut state)?;
            if state.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Not under the lock: this wakes the task that waited before, if it is another one.
            drop(state);
            ready!(self.socket.poll_writable(cx)).map_err(End::from_socket)?;
        }
    }

    /// Writes as much of the queue as the kernel accepts. If that empties the queue, wakes the
    /// tasks that wait for it.
    fn write(&self, state: &mut Locked<'_>) -> Result<(), End> {
        state.unbroken()?;
        // Outside of a stream all frames are raw, and no framing changes them.
        let framing = state.stream.unwrap_or(Framing::Chunked);
        // The task of a parked stream waits with an empty queue, and is not woken by this.
        let any = !state.queue.is_empty();
        state.queue.write(self.socket.get_ref(), framing).map_err(End::from_socket)?;
        if !state.queue.is_empty() {
            self.fell_behind(state);
        } else if any {
            state.caught_up();
            state.wake_waiting();
        }
        Ok(())
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.stream.is_some() && !self.finished
    }

    fn push(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let now = CompactInstant::now();
        for frame in frames {
            self.last_sent = self.last_sent.map(|_| now);
            self.queue.push(frame, now);
        }
    }

    fn is_driver(&self, cx: &Context<'_>) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker()))
    }

    fn cold(&mut self) -> &mut ColdState {
        self.cold.get_or_insert_default()
    }

    /// Frees the cold state if it is empty.
    fn tidy(&mut self) {
        let needless = self.cold.take_if(|cold| {
            let ColdState { input, body, waiting, hooks, token, .. } = &**cold;
            let ColdState { broken, half_closed, unsent, slow_until, .. } = &**cold;
            let at_all = input.is_empty() && waiting.is_empty() && hooks.is_empty();
            at_all
                && body.is_none()
                && token.is_none()
                && broken.is_none()
                && half_closed.is_none()
                && *unsent == 0
                && slow_until.is_none()
        });
        drop(needless);
    }

    fn half_closed(&self) -> Option<CompactInstant> {
        self.cold.as_ref().and_then(|cold| cold.half_closed)
    }

    fn input(&self) -> &[u8] {
        self.cold.as_ref().map_or(&[], |cold| &cold.input)
    }

    /// Registers a waker for when the queue is empty or the stream is unparked.
    fn wait(&mut self, cx: &Context<'_>) {
        let waiting = &mut self.cold().waiting;
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }

    /// Returns the error of a delivery worker's write, once.
    fn unbroken(&mut self) -> Result<(), End> {
        let broken = self.cold.as_mut().and_then(|cold| cold.broken.take());
        broken.map_or(Ok(()), |error| Err(End::from_socket(error)))
    }
}

impl Timed for Connection {
    /// Wakes the connection's task.
    fn wake(&self) {
        let driver = self.state().driver.clone();
        driver.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let timer = self.state().timer;
        self.shared.timers.leave(self.number, timer);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", &self.socket.get_ref()).finish_non_exhaustive()
    }
}
