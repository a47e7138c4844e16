//! One connection's socket and what is still to be written to it.
//!
//! Two parties use it, on one task: the handler, which sends, and the connection, which keeps the
//! stream alive and watches the peer while the handler waits for something. All that either of
//! them writes goes through one buffer, in order and in whole chunks; so a send that is dropped
//! half done tears nothing, and a keep-alive cannot end up inside an event.

use std::fmt;
use std::future::Future as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::StatusCode;
use smol::io::{AsyncRead as _, AsyncWrite as _};
use smol::{Async, Timer};
use sse_proto::{KEEP_ALIVE, KeepAlive};

use crate::End;
use crate::head::Framing;

pub(crate) struct Wire {
    pub(crate) socket: Async<TcpStream>,
    /// Locked for moments, never across a wait.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the kernel has not taken yet is `out[taken..]`.
    out: Vec<u8>,
    taken: usize,
    /// The status of the answer, once there is one.
    status: Option<StatusCode>,
    /// How the body is framed while it is an open event stream.
    stream: Option<Framing>,
    keep_alive: Option<KeepAlive<Instant>>,
    sent: Sent,
}

/// What went out on a stream, framing not counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    pub(crate) bytes: usize,
}

/// No more than this is held for the next write while nothing is to be written.
const IDLE_BUFFER: usize = 512;

impl Wire {
    pub(crate) fn new(socket: Async<TcpStream>) -> Self {
        Self { socket, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding this lock")
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.state().status
    }

    pub(crate) fn sent(&self) -> Sent {
        self.state().sent
    }

    /// Answers with these bytes: all of a response.
    pub(crate) fn answer(&self, status: StatusCode, bytes: &[u8]) {
        let mut state = self.state();
        state.status = Some(status);
        state.out.extend_from_slice(bytes);
    }

    /// Answers with the head of an event stream.
    pub(crate) fn begin(&self, head: &[u8], framing: Framing, keep_alive: Option<Duration>) {
        self.answer(StatusCode::OK, head);
        let mut state = self.state();
        state.stream = Some(framing);
        state.keep_alive = keep_alive.map(|interval| KeepAlive::new(interval, Instant::now()));
    }

    /// Appends `len` bytes to the event stream, and whether they are an event. False if there is
    /// no open stream.
    pub(crate) fn push(&self, len: usize, event: bool, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        state.sent.events += u64::from(event && state.stream.is_some());
        state.push(len, encode)
    }

    /// Appends what tells the peer that the stream is whole.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.keep_alive = None;
        if state.stream.take() == Some(Framing::Chunked) {
            state.out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Waits until the kernel has taken everything.
    pub(crate) async fn flush(&self) -> Result<(), End> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut state = self.state();
        let State { out, taken, .. } = &mut *state;
        while *taken < out.len() {
            let written = ready!(Pin::new(&mut &self.socket).poll_write(cx, &out[*taken..]));
            match written {
                Ok(0) => return Poll::Ready(Err(End::PeerReset)),
                Ok(count) => *taken += count,
                Err(error) => return Poll::Ready(Err(End::from_socket(&error))),
            }
        }
        out.clear();
        out.shrink_to(IDLE_BUFFER);
        *taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer is gone. Whatever it says meanwhile is ignored: it asked for an answer
    /// without an end, and the connection serves no other.
    pub(crate) fn poll_peer(&self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // Asking for readiness costs no system call, where reading on every wake-up would.
            let read = match ready!(self.socket.poll_readable(cx)) {
                Ok(()) => ready!(Pin::new(&mut &self.socket).poll_read(cx, &mut [0; 512])),
                Err(error) => Err(error),
            };
            match read {
                Ok(0) => return Poll::Ready(End::PeerClosed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(End::from_socket(&error)),
            }
        }
    }

    /// Appends a keep-alive whenever one is due. The timer is set when it has fired, not with each
    /// event: see [`KeepAlive`].
    pub(crate) fn poll_keep_alive(&self, cx: &mut Context<'_>, timer: &mut Option<Timer>) {
        let mut state = self.state();
        while let Some(keep_alive) = &mut state.keep_alive {
            let timer_set = timer.get_or_insert_with(|| Timer::at(keep_alive.poll_timeout()));
            if Pin::new(timer_set).poll(cx).is_pending() {
                return;
            }
            *timer = None;
            // A peer that has not taken the last bytes yet is not silent, it is slow.
            if keep_alive.handle_timeout(Instant::now()) && state.out.is_empty() {
                state.push(KEEP_ALIVE.len(), |out| out.extend_from_slice(KEEP_ALIVE));
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket.get_ref()).finish_non_exhaustive()
    }
}

impl State {
    fn push(&mut self, len: usize, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        match self.stream {
            None => return false,
            Some(Framing::Close) => encode(&mut self.out),
            Some(Framing::Chunked) => {
                write!(self.out, "{len:X}\r\n").expect("a Vec takes everything");
                encode(&mut self.out);
                self.out.extend_from_slice(b"\r\n");
            }
        }
        self.sent.bytes += len;
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.sent(Instant::now());
        }
        true
    }
}
