//! One connection: its transport, and the state of what is read and written.
//!
//! Three parties use it: the handler, which sends; the driver, which polls the handler, sends
//! keep-alives and watches the peer; and a delivery worker, while the stream is parked. All output
//! goes through one queue of whole frames, or directly to the transport while the queue is empty.
//! So a dropped send cannot cut an event, and a keep-alive cannot end up inside one.
//!
//! Only the driver waits for the transport: a socket wakes one task, and the handler may wait on
//! another task, or poll its futures with other wakers. Tasks that wait for the queue register
//! wakers in the exchange.

mod answer;
mod batch;
pub(crate) mod body;
pub(crate) mod budget;
mod deadlines;
pub(crate) mod delivery;
pub(crate) mod driver;
mod egress;
pub(crate) mod exchange;
pub(crate) mod input;
mod locked;
mod parked;
mod peer;
pub(crate) mod serve;
pub(crate) mod shared;
mod state;
mod stream_state;

use std::fmt;
use std::future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};

use crate::connection::shared::Shared;
use crate::error::Error;
use crate::net::timers::Timed;
use crate::net::transport::{Peer, Transport};

use self::locked::Locked;
use self::state::State;

pub(crate) struct Connection {
    transport: Transport,
    /// The key of the connection in the timers.
    number: usize,
    pub(crate) shared: Arc<Shared>,
    /// Held during the connection's writes, which do not block, so that the output of its tasks and
    /// of a delivery worker does not mix. A task that waits for it holds no other lock.
    state: Mutex<State>,
}

impl Connection {
    pub(crate) fn new(transport: Transport, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|connection: &Weak<Self>| {
            let number = shared.timers.enter(connection.clone());
            Self { transport, number, shared, state: Mutex::default() }
        })
    }

    fn state(&self) -> Locked<'_> {
        // No panic is expected while this lock is held; after one, a drop must not panic again.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked::new(state)
    }

    /// Returns the address of the peer.
    pub(crate) const fn peer(&self) -> Peer {
        self.transport.peer()
    }

    /// Waits until the kernel has accepted all output.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the socket fails, and [`Error::Ended`] if the request has ended.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        future::poll_fn(|cx| {
            let mut state = self.state();
            if state.exchange.over.is_some() {
                return Poll::Ready(Err(Error::Ended));
            }
            self.write(&mut state)?;
            if state.exchange.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.exchange.wait(cx);
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
        state.exchange.driving = true;
        state.drive(cx);
    }

    /// Marks the end of the driver's poll of the handler.
    pub(crate) fn end_poll(&self) {
        self.state().exchange.driving = false;
    }

    /// Writes the queue, and waits for the socket if necessary. Called by the driver only.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let mut state = self.state();
            self.write(&mut state)?;
            if state.exchange.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // The lock is released first: `poll_writable` wakes the task that waited before, if it
            // is another one.
            drop(state);
            ready!(self.transport.poll_writable(cx));
        }
    }

    /// Makes the kernel send what it holds back until a further answer. Called before the task
    /// waits.
    pub(crate) fn uncork(&self) {
        let mut state = self.state();
        if state.is_corked() {
            state.set_corked(false);
            self.transport.uncork();
        }
    }

    /// Writes as much of the queue as the kernel accepts. If that empties the queue, wakes the
    /// tasks that wait for it.
    fn write(&self, state: &mut Locked<'_>) -> Result<(), Error> {
        state.unbroken()?;
        // The task of a parked stream waits with an empty queue, and is not woken by this.
        let any = !state.exchange.queue.is_empty();
        let corked = any && state.is_followed();
        state.exchange.write(&self.transport, corked).map_err(Error::from_socket)?;
        if any {
            state.set_corked(corked);
        }
        if !state.exchange.queue.is_empty() {
            self.fell_behind(state);
        } else if any {
            state.caught_up();
            state.wake_waiting();
        }
        Ok(())
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
        f.debug_struct("Connection").field("transport", &self.transport).finish_non_exhaustive()
    }
}
