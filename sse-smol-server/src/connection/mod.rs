//! One connection's socket, what was read from it ahead of time, and what is still to be written.
//!
//! Three parties use it: the handler, which sends; the connection, which drives the handler,
//! keeps the stream alive and watches the peer; and, while the handler waits for nothing but a
//! topic, a delivery worker. All that any of them writes goes through one queue of whole frames, or past it
//! when it is empty; so a send that is dropped half done tears nothing, and a keep-alive cannot end
//! up inside an event.
//!
//! The driver alone waits for the socket: a socket wakes one task, and the handler may well wait on
//! another, or have its futures polled by something with wakers of its own. Other tasks that wait
//! for the queue register wakers here.

pub(crate) mod body;
pub(crate) mod budget;
mod deadlines;
pub(crate) mod delivery;
pub(crate) mod driver;
pub(crate) mod input;
mod parked;
mod peer;
pub(crate) mod serve;

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::{future, mem};

use http::StatusCode;
use smol::Async;

use crate::connection::budget::Reservation;
use crate::http::Framing;
use crate::net::compact_instant::CompactInstant;
use crate::net::queue::{Queue, Sent};
use crate::net::socket;
use crate::server::Shared;
use crate::{CancelToken, Closed, End, Frame};

use self::parked::ParkedAt;

pub(crate) struct Connection {
    socket: Async<TcpStream>,
    pub(crate) peer: SocketAddr,
    /// The key of the connection among the timers.
    number: usize,
    pub(crate) shared: Arc<Shared>,
    /// Locked for moments, never across a wait.
    state: Mutex<State>,
}

/// What is held for as long as the connection is: the less, the better.
#[derive(Default)]
struct State {
    queue: Queue,
    /// The connection's task, to be woken when there is something for it to do.
    driver: Option<Waker>,
    /// The time for which the timers have been set to wake the connection's task.
    timer: Option<CompactInstant>,
    /// When something was sent, of a stream that is to be kept alive.
    last_sent: Option<CompactInstant>,
    /// Set while a delivery worker sends the events of the stream's topic.
    parked: Option<ParkedAt>,
    /// The worker has returned the stream to the connection's task.
    unparked: bool,
    /// How the request ended, once it has: nothing is written any more.
    over: Option<Arc<Closed>>,
    cold: Option<Box<ColdState>>,
    /// Bytes that came while a stream was open, and that nobody asked for.
    ignored: u32,
    /// The status of the answer, once there is one.
    status: Option<StatusCode>,
    /// How the body is framed while it is an open event stream.
    stream: Option<Framing>,
    /// The stream's last frame is in the queue.
    finished: bool,
    /// The request has a body that nobody has read yet, or not to its end.
    body_unread: bool,
    body_begun: bool,
    /// The request asks for the head of the answer alone.
    head_only: bool,
    /// The driver is polling the handler, and looks at the queue when that returns.
    driving: bool,
    /// The connection serves no request after this one.
    last: bool,
}

/// What few connections need at a time.
#[derive(Default)]
struct ColdState {
    /// What was read and belongs to the next request, or to this one's body.
    input: Vec<u8>,
    /// The memory of the request's body, which the handler may hold.
    body: Option<Reservation>,
    /// The wakers of tasks that wait for the queue to be empty or the stream to be unparked.
    waiting: Vec<Waker>,
    /// Who is to be told when the request is over.
    hooks: Vec<Hook>,
    token: Option<CancelToken>,
    /// The socket's error that a delivery worker met, for the driver.
    broken: Option<io::Error>,
    /// Set if the peer has shut down its sending side, and may still wait for the answer: the time since
    /// when it has waited for the next part of that.
    half_closed: Option<CompactInstant>,
    /// The bytes that the response head announced and that have not been queued yet.
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
        Arc::new_cyclic(|connection| {
            let number = shared.timers.enter(Weak::clone(connection));
            Self { socket, peer, number, shared, state: Mutex::default() }
        })
    }

    fn state(&self) -> Locked<'_> {
        // No panic is expected while this lock is held; after one, a drop must not panic again.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, wakers: Wakers::default() }
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
        // It may hold hooks and wakers.
        drop(state);
        drop(old);
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
            None => state.cold().hooks.push(hook),
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

    /// Has the connection reset when it is closed, and the data discarded that the peer does not take.
    pub(crate) fn reset_on_close(&self) {
        socket::reset_on_close(&self.socket);
    }

    /// Closes the connection, whoever still holds it.
    pub(crate) fn shut(&self) {
        // An error says that it is closed.
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
        !mem::replace(&mut self.state().body_begun, true)
    }

    /// Notes that the body has been read, and keeps its memory reserved until the request is over.
    pub(crate) fn body_is_read(&self, reservation: Reservation) {
        let mut state = self.state();
        state.body_unread = false;
        state.cold().body = Some(reservation);
    }

    /// Queues a frame that is outside of any framing.
    pub(crate) fn push_raw(&self, frame: Frame) {
        self.state().push([frame]);
    }

    /// Answers with a frame that holds a response, or the head of one.
    pub(crate) fn answer(&self, status: StatusCode, frame: Frame) {
        let mut state = self.state();
        state.status = Some(status);
        state.push([frame]);
    }

    /// Answers with the head of a response whose body of `length` bytes follows in pieces.
    pub(crate) fn begin_response(&self, status: StatusCode, head: Vec<u8>, length: u64) {
        self.answer(status, Frame::head(head));
        let mut state = self.state();
        state.cold().unsent = length;
        state.tidy();
    }

    /// Returns how many bytes of the announced body have not been queued yet.
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

    /// Answers with the head of an event stream.
    pub(crate) fn begin_stream(&self, head: Vec<u8>, framing: Framing) {
        self.answer(StatusCode::OK, Frame::head(head));
        let mut state = self.state();
        state.stream = Some(framing);
        state.last = true;
        // A body that nobody wanted is not waited for: what comes is ignored.
        state.body_unread = false;
        state.last_sent = self.shared.config.keep_alive.map(|_| CompactInstant::now());
        let cold = state.cold();
        cold.input.clear();
        // A stream may stay open for days, and its handler seldom keeps the body.
        cold.body = None;
        state.tidy();
        // It has deadlines from now on.
        state.wake_driver();
    }

    /// Queues frames of the event stream. False if there is no open stream.
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let mut state = self.state();
        let open = state.is_open();
        if open {
            state.push(frames);
        }
        open
    }

    /// Queues what tells the peer that the stream is whole.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.last_sent = None;
        if state.is_open() && state.stream == Some(Framing::Chunked) {
            state.push([Frame::head(b"0\r\n\r\n".to_vec())]);
        }
        state.finished = true;
    }

    /// Whether the kernel has taken everything.
    pub(crate) fn is_flushed(&self) -> bool {
        self.state().queue.is_empty()
    }

    /// Waits until the kernel has taken everything.
    ///
    /// # Errors
    ///
    /// If the request is over before that.
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

    /// Notes which task is the connection's.
    pub(crate) fn drive(&self, cx: &Context<'_>) {
        self.state().drive(cx);
    }

    /// Notes that the driver polls the handler now.
    pub(crate) fn begin_poll(&self, cx: &Context<'_>) {
        let mut state = self.state();
        state.driving = true;
        state.drive(cx);
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        let driver = self.state().driver.clone();
        driver.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn end_poll(&self) {
        self.state().driving = false;
    }

    /// The driver's part: writes what is in the queue, and waits for the socket if it must.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            let mut state = self.state();
            self.write(&mut state)?;
            if state.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // The socket wakes a task that waited before, if it is another one.
            drop(state);
            ready!(self.socket.poll_writable(cx)).map_err(End::from_socket)?;
        }
    }

    /// Writes as much of the queue as the kernel takes, and wakes the tasks that wait for the queue
    /// to be empty once it is.
    fn write(&self, state: &mut Locked<'_>) -> Result<(), End> {
        state.unbroken()?;
        // Outside of a stream all frames are raw, and any framing leaves them as they are.
        let framing = state.stream.unwrap_or(Framing::Chunked);
        // A parked stream waits with an empty queue, and stays parked.
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

/// The locked state of a connection.
///
/// Wakers are woken and dropped when this is, once the lock is released: a waker may run or drop its
/// task at once, which takes the same lock.
struct Locked<'w> {
    // Fields are dropped in this order.
    state: MutexGuard<'w, State>,
    wakers: Wakers,
}

#[derive(Default)]
struct Wakers {
    driver: Option<Waker>,
    waiting: Vec<Waker>,
    /// No task to wake, but a waker to drop.
    replaced: Option<Waker>,
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.driver.take().into_iter().chain(self.waiting.drain(..)).for_each(Waker::wake);
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Locked<'_> {
    fn drive(&mut self, cx: &Context<'_>) {
        if !self.is_driver(cx) {
            self.wakers.replaced = self.state.driver.replace(cx.waker().clone());
        }
    }

    /// Wakes the driver to look at what has changed, unless it will anyway.
    fn wake_driver(&mut self) {
        if !self.driving {
            self.wakers.driver.clone_from(&self.state.driver);
        }
    }

    /// Wakes the tasks that wait for the queue to be empty or the stream to be unparked.
    fn wake_waiting(&mut self) {
        if let Some(cold) = &mut self.state.cold {
            // Mostly the first, and then nothing is copied.
            let waiting = mem::take(&mut cold.waiting);
            if self.wakers.waiting.is_empty() {
                self.wakers.waiting = waiting;
            } else {
                self.wakers.waiting.extend(waiting);
            }
            self.state.tidy();
        }
    }

    /// Returns a parked stream to its own task.
    fn unpark(&mut self) {
        if self.parked.is_some() {
            self.unparked = true;
            self.wakers.driver.clone_from(&self.state.driver);
            self.wake_waiting();
        }
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

    /// Gives back what is not needed any more.
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

    /// Returns the error that a delivery worker met, once.
    fn unbroken(&mut self) -> Result<(), End> {
        let broken = self.cold.as_mut().and_then(|cold| cold.broken.take());
        broken.map_or(Ok(()), |error| Err(End::from_socket(error)))
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
