//! A socket that is registered in the reactor.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::reactor::{Direction, Reactor, Readiness};

/// The flags of `sendmsg`: a write to a connection that was closed is an error instead of a signal.
/// Apple's systems have an option of the socket for that.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const FLAGS: SendFlags = SendFlags::empty();

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
        // After a partial read, the kernel has no more, and reports the next bytes or the end. If it
        // has reported the end before, it does not do so again. (Urgent data and passed descriptors
        // cut a read, too. What follows them is read with the next bytes. HTTP uses neither.)
        let is_last = |count: &usize| (1..size).contains(count) && !self.readiness.is_read_closed();
        self.poll_with(Direction::Read, cx, |mut socket| socket.read(bytes), is_last)
    }

    /// Writes as much of `bytes`, which are not empty, as the kernel accepts now, and returns the
    /// number of those bytes. A full send buffer is not an error.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize>
    where
        for<'s> &'s S: Write,
    {
        self.write_with(bytes.len(), |mut socket| socket.write(bytes))
    }

    /// Writes as much of these pieces, at least one of which is not empty, as the kernel accepts
    /// now, like [`write`](Self::write).
    pub(crate) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        self.write_with(size, |socket| {
            Ok(sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), FLAGS)?)
        })
    }

    /// Writes `size` bytes as [`write`](Self::write) does, with another operation.
    ///
    /// If the kernel has not accepted all bytes, it accepts no more until the socket is ready.
    pub(crate) fn write_with(
        &self,
        size: usize,
        mut operation: impl FnMut(&S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // Cleared first, so that a change during the write is kept.
        self.readiness.set_ready(Direction::Write, false);
        let written = loop {
            match operation(&self.socket) {
                Ok(0) => break Err(ErrorKind::ConnectionReset.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                written => break written,
            }
        };
        if !written.as_ref().is_ok_and(|count| *count < size) {
            self.readiness.set_ready(Direction::Write, true);
        }
        written
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    use super::*;

    #[test]
    fn the_end_is_read_after_bytes_with_which_it_was_reported() {
        let reactor = Reactor::new().unwrap();
        let (mut there, here) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let source = Source::new(here, &reactor).unwrap();
        let cx = &Context::from_waker(Waker::noop());
        let read = || source.poll_read(cx, &mut [0; 8]).map(Result::unwrap);
        assert_eq!(read(), Poll::Pending);
        there.write_all(b"last").unwrap();
        there.shutdown(Shutdown::Write).unwrap();
        reactor.try_react().unwrap();
        assert_eq!(read(), Poll::Ready(4));
        reactor.try_react().unwrap();
        assert_eq!(read(), Poll::Ready(0));
        assert_eq!(read(), Poll::Ready(0));
    }

    #[test]
    fn a_full_send_buffer_is_reported_when_it_has_room() {
        let reactor = Reactor::new().unwrap();
        let (there, here) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let source = Source::new(here, &reactor).unwrap();
        let cx = &Context::from_waker(Waker::noop());
        // The writable side of the new socket.
        reactor.try_react().unwrap();
        let mut written = 0;
        loop {
            match source.write(&[0; 4096]).unwrap() {
                0 => break,
                count => written += count,
            }
        }
        assert!(source.poll_ready(Direction::Write, cx).is_pending());
        (&there).read_exact(&mut vec![0; written]).unwrap();
        reactor.try_react().unwrap();
        assert!(source.poll_ready(Direction::Write, cx).is_ready());
        assert_eq!(source.write(b"more").unwrap(), 4);
    }
}
