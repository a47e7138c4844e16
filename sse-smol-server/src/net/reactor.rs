//! The reactor: waits until sockets are ready, and wakes the tasks that wait for them.
//!
//! A socket is registered once, for edges: changes of its readiness. So a task that waits for a
//! socket makes no system call, and a thread that waits for all of them makes one. With
//! [`smol::Async`] it would be one and five.
//!
//! The reactor is driven by [`Server::run`](crate::Server::run), whose thread waits in it. If the
//! server runs on other threads, [`drive`](Reactor::drive) drives it as a task.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use smol::Async;

/// The maximum number of sockets whose readiness is taken from the kernel at once.
const MAX_EVENTS: usize = 1024;

/// The token of notifications.
const NOTIFICATION: Token = Token(usize::MAX);

/// The sockets of a server, and the tasks that wait for them.
#[derive(Debug)]
pub(crate) struct Reactor {
    registry: Registry,
    /// Shared with the task that drives the reactor: notifications that are pending when the last
    /// owner is dropped are lost.
    notifier: Arc<mio::Waker>,
    sockets: Mutex<Slab<Arc<Readiness>>>,
    /// Locked while a thread waits.
    poll: Mutex<(mio::Poll, Events)>,
}

/// The readiness of a socket.
#[derive(Debug)]
pub(crate) struct Readiness(Mutex<State>);

#[derive(Debug)]
struct State {
    /// By [`Direction`].
    sides: [Side; 2],
    /// Whether the kernel has reported that the peer sends no more. It reports that once, perhaps
    /// together with the last bytes.
    is_read_closed: bool,
}

/// One side of a socket.
#[derive(Debug)]
struct Side {
    /// Whether an operation may succeed. If it is false, the kernel reports the change to true.
    is_ready: bool,
    waiting: Option<Waker>,
}

/// A side of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Read = 0,
    Write = 1,
}

impl Reactor {
    /// Creates a reactor without sockets.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let notifier = Arc::new(mio::Waker::new(&registry, NOTIFICATION)?);
        let events = Events::with_capacity(MAX_EVENTS);
        let sockets = Mutex::default();
        Ok(Arc::new(Self { registry, notifier, sockets, poll: Mutex::new((poll, events)) }))
    }

    fn sockets(&self) -> MutexGuard<'_, Slab<Arc<Readiness>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a socket, and returns its key.
    pub(crate) fn add(&self, socket: BorrowedFd<'_>) -> io::Result<(usize, Arc<Readiness>)> {
        // The first operation is tried at once.
        let side = || Side { is_ready: true, waiting: None };
        let state = State { sides: [side(), side()], is_read_closed: false };
        let readiness = Arc::new(Readiness(Mutex::new(state)));
        let key = self.sockets().insert(Arc::clone(&readiness));
        let both = Interest::READABLE | Interest::WRITABLE;
        let descriptor = socket.as_raw_fd();
        if let Err(error) = self.registry.register(&mut SourceFd(&descriptor), Token(key), both) {
            self.sockets().remove(key);
            return Err(error);
        }
        Ok((key, readiness))
    }

    /// Removes a socket.
    pub(crate) fn remove(&self, key: usize, socket: BorrowedFd<'_>) {
        // An error means that the kernel has removed it.
        let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        let readiness = self.sockets().try_remove(key);
        drop(readiness);
    }

    /// Makes the thread that waits in [`react`](Self::react) return.
    pub(crate) fn notify(&self) {
        // This does not fail: the counter of the notifications would overflow after 2^64 of them.
        let _ = self.notifier.wake();
    }

    /// Waits until sockets are ready, and wakes their tasks.
    ///
    /// Calls `begin` before it waits, for the maximum time to wait, and `end` after that. No other
    /// thread takes a notification in between.
    ///
    /// # Errors
    ///
    /// Returns the system's error, which is not expected.
    pub(crate) fn react(
        &self,
        begin: impl FnOnce() -> Option<Duration>,
        end: impl FnOnce(),
    ) -> io::Result<()> {
        let poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        self.react_with(poll, begin(), end)
    }

    /// Wakes the tasks of sockets that are ready, unless another thread does so or waits for them.
    ///
    /// # Errors
    ///
    /// The errors of [`react`](Self::react).
    pub(crate) fn try_react(&self) -> io::Result<()> {
        match self.poll.try_lock() {
            Ok(poll) => self.react_with(poll, Some(Duration::ZERO), || {}),
            Err(_) => Ok(()),
        }
    }

    fn react_with(
        &self,
        mut poll: MutexGuard<'_, (mio::Poll, Events)>,
        timeout: Option<Duration>,
        end: impl FnOnce(),
    ) -> io::Result<()> {
        let (of_kernel, events) = &mut *poll;
        let result = of_kernel.poll(events, timeout);
        end();
        match result {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut due = Vec::new();
        let sockets = self.sockets();
        for event in &*events {
            // The key may be that of another socket by now. That costs it an operation that fails,
            // as an event of its own that is out of date does.
            if let Some(readiness) = sockets.get(event.token().0) {
                readiness.update(event, &mut due);
            }
        }
        drop(sockets);
        drop(poll);
        due.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Drives a reactor from another one, that of [`smol::Async`], until it is dropped.
    pub(crate) async fn drive(reactor: Weak<Self>) -> io::Result<()> {
        let Some(strong) = reactor.upgrade() else { return Ok(()) };
        let of_kernel = strong.registry.as_fd().try_clone_to_owned()?;
        let _notifier = Arc::clone(&strong.notifier);
        drop(strong);
        // The descriptor of the kernel's part can be read when a socket is ready.
        let of_kernel = Async::new_nonblocking(of_kernel)?;
        while let Some(reactor) = reactor.upgrade() {
            reactor.try_react()?;
            drop(reactor);
            of_kernel.readable().await?;
        }
        Ok(())
    }
}

impl Drop for Reactor {
    /// Ends [`drive`](Self::drive).
    fn drop(&mut self) {
        self.notify();
    }
}

impl Readiness {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event of the kernel, and adds the tasks that it wakes to `due`.
    fn update(&self, event: &mio::event::Event, due: &mut Vec<Waker>) {
        let mut state = self.state();
        state.is_read_closed |= event.is_read_closed();
        let is_readable = event.is_readable() || event.is_read_closed();
        let is_writable = event.is_writable() || event.is_write_closed();
        for (side, is_ready) in state.sides.iter_mut().zip([is_readable, is_writable]) {
            // An operation returns the error.
            if is_ready || event.is_error() {
                side.is_ready = true;
                due.extend(side.waiting.take());
            }
        }
    }

    /// Waits until an operation may succeed. Only one task waits for each direction: another one
    /// that waited before is woken.
    pub(crate) fn poll_ready(&self, direction: Direction, cx: &Context<'_>) -> Poll<()> {
        let mut waker = None;
        loop {
            let mut state = self.state();
            let side = &mut state.sides[direction as usize];
            if side.is_ready {
                // Here and below, the lock is released before a waker is dropped or woken.
                drop(state);
                return Poll::Ready(());
            }
            if side.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                drop(state);
                return Poll::Pending;
            }
            let Some(waker) = waker.take() else {
                drop(state);
                waker = Some(cx.waker().clone());
                continue;
            };
            let replaced = side.waiting.replace(waker);
            drop(state);
            replaced.into_iter().for_each(Waker::wake);
            return Poll::Pending;
        }
    }

    /// Sets whether an operation may succeed. To set it to false, this has to be called before an
    /// operation, so that a change after the operation is not lost.
    pub(crate) fn set_ready(&self, direction: Direction, is_ready: bool) {
        self.state().sides[direction as usize].is_ready = is_ready;
    }

    /// Returns whether the kernel has reported the end of what can be read, perhaps before all of it
    /// was read.
    pub(crate) fn is_read_closed(&self) -> bool {
        self.state().is_read_closed
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_dropped_reactor_ends_the_task_that_drives_it() {
        let reactor = Reactor::new().unwrap();
        let driving = Reactor::drive(Arc::downgrade(&reactor));
        smol::block_on(smol::future::zip(driving, async { drop(reactor) })).0.unwrap();
    }

    #[test]
    fn a_task_is_woken_by_data_and_by_the_end() {
        let reactor = Reactor::new().unwrap();
        let (mut there, here) = UnixStream::pair().unwrap();
        let (_, readiness) = reactor.add(here.as_fd()).unwrap();
        let cx = &Context::from_waker(Waker::noop());
        let is_ready = || readiness.poll_ready(Direction::Read, cx).is_ready();
        // The writable side of the new socket.
        reactor.try_react().unwrap();
        readiness.set_ready(Direction::Read, false);
        assert!(!is_ready());
        there.write_all(b"x").unwrap();
        reactor.react(|| None, || {}).unwrap();
        assert!(is_ready() && !readiness.is_read_closed());
        readiness.set_ready(Direction::Read, false);
        drop(there);
        reactor.react(|| None, || {}).unwrap();
        assert!(is_ready() && readiness.is_read_closed());
    }

    #[test]
    fn an_event_of_a_removed_socket_does_not_keep_the_next_one_ready() {
        let reactor = Reactor::new().unwrap();
        let (there, here) = UnixStream::pair().unwrap();
        let (key, _) = reactor.add(here.as_fd()).unwrap();
        drop(there);
        let (_there, next) = UnixStream::pair().unwrap();
        let mut added = None;
        // As another thread may, between the wait and the events.
        let replace = || {
            reactor.remove(key, here.as_fd());
            added = Some(reactor.add(next.as_fd()).unwrap());
        };
        reactor.react(|| None, replace).unwrap();
        let (key_of_next, readiness) = added.unwrap();
        assert_eq!(key_of_next, key);
        readiness.set_ready(Direction::Read, false);
        let cx = &Context::from_waker(Waker::noop());
        assert!(readiness.poll_ready(Direction::Read, cx).is_pending());
    }
}
