//! The answer of an exchange: its status, its frames and its end. All output is queued here, and
//! written by the connection.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::Connection;
use super::budget::Reservation;
use super::exchange::{Hook, Progress};
use super::stream_state::StreamState;
use crate::cancel_token::CancelToken;
use crate::close_reason::Closed;
use crate::compact_instant::CompactInstant;
use crate::frame::Frame;
use crate::framing::Framing;
use crate::net::queue::Sent;

impl Connection {
    /// Begins the next request of the connection.
    pub(crate) fn begin_request(&self) {
        let mut state = self.state();
        let old = state.begin_exchange();
        // Dropped outside the lock, since it may hold hooks and wakers.
        drop(state);
        drop(old);
    }

    /// Records what the head of the request determines.
    pub(crate) fn head_is_read(&self, has_body: bool, head_only: bool, is_last: bool) {
        let exchange = &mut self.state().exchange;
        exchange.body_unread = has_body;
        exchange.head_only = head_only;
        exchange.last = is_last;
    }

    /// Returns the progress of the exchange.
    pub(crate) fn progress(&self) -> Progress {
        self.state().exchange.progress()
    }

    /// Returns whether the answer is an event stream that is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.state().exchange.is_open()
    }

    /// Registers a hook that is called when the request ends, or calls it at once if it has ended.
    pub(crate) fn on_close(&self, hook: Hook) {
        let mut state = self.state();
        match state.exchange.over.clone() {
            None => state.exchange.cold().hooks.push(hook),
            Some(closed) => {
                drop(state);
                hook(&closed);
            }
        }
    }

    /// Returns how the request ended, if it has.
    pub(crate) fn over(&self) -> Option<Arc<Closed>> {
        self.state().exchange.over.clone()
    }

    /// Marks the connection to be closed after this request.
    pub(crate) fn make_last(&self) {
        self.state().exchange.last = true;
    }

    /// Returns a token that is cancelled when the request is over.
    pub(crate) fn token(&self) -> CancelToken {
        let mut state = self.state();
        if state.exchange.over.is_some() {
            let token = CancelToken::new();
            token.cancel();
            return token;
        }
        state.exchange.cold().token.get_or_insert_with(CancelToken::new).clone()
    }

    /// Ends the request: wakes the tasks that wait for it, and calls the hooks.
    pub(crate) fn close(&self, closed: Closed) -> Arc<Closed> {
        let closed = Arc::new(closed);
        let mut state = self.state();
        state.wake_waiting();
        let exchange = &mut state.exchange;
        exchange.over = Some(Arc::clone(&closed));
        if let Some(stream) = &mut exchange.stream {
            stream.parked = None;
        }
        let cold = exchange.cold();
        cold.body = None;
        let (token, hooks) = (cold.token.take(), mem::take(&mut cold.hooks));
        exchange.tidy();
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

    /// Keeps the headers of a request that was dropped, for the answer to the error of its handler.
    /// Drops them if the request has been answered.
    pub(crate) fn keep_headers(&self, headers: HeaderMap) {
        let headers = Box::new(headers);
        let exchange = &mut self.state().exchange;
        if exchange.status.is_none() && exchange.over.is_none() {
            exchange.cold().headers = Some(headers);
        }
    }

    /// Takes the headers that were kept.
    pub(crate) fn take_headers(&self) -> Option<Box<HeaderMap>> {
        let exchange = &mut self.state().exchange;
        let headers = exchange.cold_mut()?.headers.take();
        exchange.tidy();
        headers
    }

    pub(crate) fn sent(&self) -> Sent {
        let exchange = &self.state().exchange;
        exchange.queue.sent(exchange.framing())
    }

    /// Marks the body as begun. Returns false if it was begun before.
    pub(crate) fn begin_body(&self) -> bool {
        !mem::replace(&mut self.state().exchange.body_begun, true)
    }

    /// Marks the body as read, and keeps its memory reserved until the request ends.
    pub(crate) fn body_is_read(&self, reservation: Reservation) {
        let mut state = self.state();
        state.exchange.body_unread = false;
        state.exchange.cold().body = Some(reservation);
    }

    /// Queues a frame of bytes outside of any framing.
    pub(crate) fn push_raw(&self, frame: Frame) {
        self.state().exchange.push([frame]);
    }

    /// Queues a frame that holds a response or the head of one.
    pub(crate) fn answer(&self, status: StatusCode, frame: Frame) {
        let exchange = &mut self.state().exchange;
        exchange.status = Some(status);
        exchange.push([frame]);
    }

    /// Queues the head of a response whose body of `length` bytes follows in pieces.
    pub(crate) fn begin_response(&self, status: StatusCode, head: Vec<u8>, length: u64) {
        let exchange = &mut self.state().exchange;
        exchange.status = Some(status);
        exchange.cold().unsent = length;
        exchange.tidy();
        exchange.push([Frame::head(head)]);
    }

    /// Queues the next piece of the body. The caller ensures that it is not longer than
    /// [`unsent`](Self::unsent).
    pub(crate) fn push_piece(&self, bytes: Vec<u8>) {
        let exchange = &mut self.state().exchange;
        let cold = exchange.cold();
        cold.unsent = cold.unsent.saturating_sub(bytes.len() as u64);
        exchange.tidy();
        exchange.push([Frame::raw(bytes, 0)]);
    }

    /// Queues the head of an event stream, and opens the stream.
    pub(crate) fn begin_stream(&self, head: Vec<u8>, framing: Framing) {
        self.answer(StatusCode::OK, Frame::head(head));
        let now = self.shared.config.keep_alive.map(|_| CompactInstant::now());
        let mut state = self.state();
        if let Some(cold) = &mut state.cold {
            cold.input.clear();
            state.tidy();
        }
        let exchange = &mut state.exchange;
        exchange.stream = Some(StreamState::new(framing, now));
        exchange.last = true;
        // If the handler has not read the body, it is ignored on arrival.
        exchange.body_unread = false;
        // Released before the request ends: a stream may stay open for days, and its handler rarely
        // keeps the body.
        exchange.cold().body = None;
        exchange.tidy();
        // The driver has to set the stream's deadlines.
        state.wake_driver();
    }

    /// Queues frames of the event stream. Returns false if no stream is open.
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = Frame>) -> bool {
        let exchange = &mut self.state().exchange;
        let open = exchange.is_open();
        if open {
            exchange.push(frames);
        }
        open
    }

    /// Finishes the event stream, if the answer is one: queues the last chunk if it is chunked.
    pub(crate) fn finish(&self) {
        let exchange = &mut self.state().exchange;
        let Some(stream) = &mut exchange.stream else { return };
        stream.last_sent = None;
        let was_finished = mem::replace(&mut stream.finished, true);
        if !was_finished && stream.framing == Framing::Chunked {
            exchange.push([Frame::head(b"0\r\n\r\n".to_vec())]);
        }
    }
}
