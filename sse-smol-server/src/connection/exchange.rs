//! The state of one exchange: a request and its answer.

use std::sync::Arc;
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};

use super::budget::Reservation;
use super::stream_state::StreamState;
use crate::cancel_token::CancelToken;
use crate::close_reason::Closed;
use crate::framing::Framing;
use crate::net::queue::Queue;

/// The state of one request and its answer. The next request of the connection has a new one.
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) queue: Queue,
    /// How the request ended. Nothing is written once it is set.
    pub(super) over: Option<Arc<Closed>>,
    cold: Option<Box<ColdExchange>>,
    /// The event stream, if the answer is or was one.
    pub(super) stream: Option<StreamState>,
    /// The status of the answer, once it has begun.
    pub(super) status: Option<StatusCode>,
    /// Whether the request has a body that has not been read to its end.
    pub(super) body_unread: bool,
    pub(super) body_begun: bool,
    /// Whether the answer is only its head, as for `HEAD`.
    pub(super) head_only: bool,
    /// Whether the driver is polling the handler. It writes the queue when that returns.
    pub(super) driving: bool,
    /// Whether the connection is closed after this exchange.
    pub(super) last: bool,
}

/// State that few exchanges need at one time. Freed when it is empty.
#[derive(Default)]
pub(super) struct ColdExchange {
    /// The reserved memory of the request's body, which the handler may hold.
    pub(super) body: Option<Reservation>,
    /// The wakers of tasks that wait for the queue to be empty or the stream to be unparked.
    pub(super) waiting: Vec<Waker>,
    /// The hooks to call when the request has ended.
    pub(super) hooks: Vec<Hook>,
    pub(super) token: Option<CancelToken>,
    /// The number of bytes of the announced body that have not been queued yet.
    pub(super) unsent: u64,
    /// The headers that the handler has set for an answer that it did not give.
    pub(super) headers: Option<Box<HeaderMap>>,
}

/// The progress of an exchange, read under one lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The status of the answer, once it has begun.
    pub(crate) status: Option<StatusCode>,
    /// The number of bytes of the announced body that have not been queued yet.
    pub(crate) unsent: u64,
    /// Whether the request has a body that has not been read to its end.
    pub(crate) body_unread: bool,
    /// Whether the answer is only its head, as for `HEAD`.
    pub(crate) head_only: bool,
    /// Whether the connection is closed after this exchange.
    pub(crate) is_last: bool,
    /// Whether the answer is or was an event stream.
    pub(crate) had_stream: bool,
    /// Whether the kernel has accepted all output.
    pub(crate) is_flushed: bool,
}

/// A hook that is called when a request has ended.
pub(crate) type Hook = Box<dyn FnOnce(&Closed) + Send>;

impl Exchange {
    pub(super) fn progress(&self) -> Progress {
        Progress {
            status: self.status,
            unsent: self.unsent(),
            body_unread: self.body_unread,
            head_only: self.head_only,
            is_last: self.last,
            had_stream: self.stream.is_some(),
            is_flushed: self.queue.is_empty(),
        }
    }

    /// Returns whether the answer is an event stream that is still open.
    pub(super) fn is_open(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.finished)
    }

    /// Returns the framing of the answer. Outside of a stream all frames are raw, and no framing
    /// changes them.
    pub(super) fn framing(&self) -> Framing {
        self.stream.as_ref().map_or(Framing::Chunked, |stream| stream.framing)
    }

    /// Returns whether the whole answer has been queued, and the connection serves the next request
    /// after it.
    pub(super) fn is_complete(&self) -> bool {
        let is_answered = self.status.is_some() && self.stream.is_none() && self.unsent() == 0;
        is_answered && !self.body_unread && !self.last
    }

    pub(super) fn cold(&mut self) -> &mut ColdExchange {
        self.cold.get_or_insert_default()
    }

    /// Returns the cold state if there is any.
    pub(super) fn cold_mut(&mut self) -> Option<&mut ColdExchange> {
        self.cold.as_deref_mut()
    }

    /// Frees the cold state if it is empty.
    pub(super) fn tidy(&mut self) {
        let needless = self.cold.take_if(|cold| {
            let ColdExchange { body, waiting, hooks, token, unsent, headers } = &**cold;
            let at_all = waiting.is_empty() && hooks.is_empty() && *unsent == 0;
            at_all && body.is_none() && token.is_none() && headers.is_none()
        });
        drop(needless);
    }

    /// Returns the number of bytes of the announced body that have not been queued yet.
    pub(super) fn unsent(&self) -> u64 {
        self.cold.as_ref().map_or(0, |cold| cold.unsent)
    }

    /// Registers a waker for when the queue is empty or the stream is unparked.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        let waiting = &mut self.cold().waiting;
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }
}
