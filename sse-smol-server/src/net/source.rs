//! A socket that is registered in the reactor.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::reactor::{Direction, Reactor, Readiness};

/// A socket in the reactor of its server. It must be in non-blocking mode.
#[derive(Debug)]
pub(crate) struct Source<S: AsFd> {
    socket: S,
    readiness: Arc<Readiness>,
    reactor: Arc<Reactor>,
    key: usize,
}

impl<S: AsFd> Source<S> {
    /// Registers a socket.
    pub(crate) fn new(socket: S, reactor: &Arc<Reactor>) -> io::Result<Self> {
        let (key, readiness) = reactor.add(socket.as_fd())?;
        Ok(Self { socket, readiness, reactor: Arc::clone(reactor), key })
    }

    pub(crate) const fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Waits until the socket may be ready.
    pub(crate) fn poll_ready(&self, direction: Direction, cx: &Context<'_>) -> Poll<()> {
        self.readiness.poll_ready(direction, cx)
    }

    /// Performs an operation as soon as the socket is ready for it. `is_last` returns whether the
    /// socket is not ready for another one after that result.
    pub(crate) fn poll_with<T>(
        &self,
        direction: Direction,
        cx: &Context<'_>,
        mut operation: impl FnMut(&S) -> io::Result<T>,
        is_last: impl FnOnce(&T) -> bool,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_ready(direction, cx));
            self.readiness.set_ready(direction, false);
            match operation(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.readiness.set_ready(direction, true);
                }
                result => {
                    if !result.as_ref().is_ok_and(is_last) {
                        self.readiness.set_ready(direction, true);
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Reads some bytes. Returns zero once the peer has shut down its sending side.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>>
    where
        for<'s> &'s S: Read,
    {
        let size = bytes.len();
        // After a partial read, the kernel has no more, and reports the next bytes or the end.
        let is_partial = |count: &usize| (1..size).contains(count);
        self.poll_with(Direction::Read, cx, |mut socket| socket.read(bytes), is_partial)
    }

    /// Writes as much of `bytes`, which are not empty, as the kernel accepts now, and returns the
    /// number of those bytes. A full send buffer is not an error.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize>
    where
        for<'s> &'s S: Write,
    {
        let mut has_failed = false;
        loop {
            match (&self.socket).write(bytes) {
                Ok(0) => return Err(ErrorKind::ConnectionReset.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if has_failed {
                        return Ok(0);
                    }
                    // The socket may have become ready since the write, and the next one fails only
                    // if it has not.
                    self.readiness.set_ready(Direction::Write, false);
                    has_failed = true;
                }
                written => return written,
            }
        }
    }
}

impl<S: AsFd> AsFd for Source<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S: AsFd> Drop for Source<S> {
    fn drop(&mut self) {
        self.reactor.remove(self.key, self.socket.as_fd());
    }
}
