//! Input from the peer: requests, bodies, unexpected bytes, and the end of the connection.

use std::future;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::Connection;
use crate::Error;
use crate::compact_instant::CompactInstant;

/// The size of one read in bytes. Once this much input is held, no more is read ahead.
const READ_AHEAD: usize = 4096;

/// The maximum time for which input is read and dropped after the last byte was written.
const LINGER: Duration = Duration::from_secs(1);

/// The number of pieces of input that are dropped before other tasks run. A peer on the same machine
/// may send as fast as this task reads.
const READS_AT_ONCE: usize = 16;

/// The maximum number of bytes that a peer may send while a stream is open.
const MOST_IGNORED: u32 = 64 << 10;

impl Connection {
    /// Returns whether there is input that was read ahead.
    pub(crate) fn has_input(&self) -> bool {
        !self.state().input().is_empty()
    }

    /// Reads some bytes from the peer, and appends them to the input.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Checked first, since filling the room below with zeros takes time.
        ready!(self.transport.poll_readable(cx));
        // This takes room on the stack, and not in each connection's future.
        let mut piece = [0; READ_AHEAD];
        let count = ready!(self.poll_piece(cx, &mut piece))?;
        self.state().cold().input.extend_from_slice(&piece[..count]);
        Poll::Ready(Ok(()))
    }

    /// Reads some bytes from the peer into `piece`, and returns their number.
    fn poll_piece(&self, cx: &mut Context<'_>, piece: &mut [u8]) -> Poll<Result<usize, Error>> {
        Poll::Ready(match ready!(self.transport.poll_read(cx, piece)) {
            Ok(0) => Err(Error::PeerClosed),
            Ok(count) => Ok(count),
            Err(error) => Err(Error::from_socket(error)),
        })
    }

    /// Shuts down the sending side, and drops input until the peer has closed, too, for at most
    /// [`LINGER`]. If a socket is closed with unread input, the kernel resets the connection, and
    /// the peer may lose the answer.
    pub(crate) async fn linger(&self) {
        if self.transport.finish().is_err() {
            return;
        }
        let end = CompactInstant::now() + LINGER;
        future::poll_fn(|cx| {
            self.drive(cx);
            if self.poll_deadline(end).is_ready() {
                return Poll::Ready(());
            }
            for _ in 0..READS_AT_ONCE {
                match ready!(self.poll_read(cx)) {
                    Ok(()) => self.state().cold().input.clear(),
                    Err(_) => return Poll::Ready(()),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Passes the input to `take`, and removes the number of bytes that it returns.
    pub(crate) fn input<R>(&self, take: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        let mut state = self.state();
        let (used, result) = take(state.input());
        if let Some(cold) = &mut state.cold {
            cold.input.drain(..used);
            state.tidy();
        }
        result
    }

    /// Waits until the peer is gone, and returns the reason.
    ///
    /// Bytes that arrive while a stream is open are ignored, since the connection serves no request
    /// after a stream. Bytes that arrive before belong to the next request.
    ///
    /// A peer that shuts down its sending side still gets an ordinary answer, unless it has to wait
    /// for the handler longer than the write timeout: a peer that has closed the whole connection
    /// looks the same. An event stream ends at once.
    pub(crate) fn poll_peer(&self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            let mut state = self.state();
            if state.half_closed().is_some() {
                let streams = state.exchange.stream.is_some();
                return if streams { Poll::Ready(Error::PeerClosed) } else { Poll::Pending };
            }
            if state.exchange.body_unread || state.input().len() >= READ_AHEAD {
                return Poll::Pending;
            }
            if let Err(end) = state.unbroken() {
                return Poll::Ready(end);
            }
            // The lock is released first: `poll_readable` wakes the task that waited before, if it
            // is another one.
            drop(state);
            // A check of readiness costs no system call; a read on every wake-up would.
            ready!(self.transport.poll_readable(cx));
            let mut piece = [0; READ_AHEAD];
            let read = ready!(self.poll_piece(cx, &mut piece));
            let mut state = self.state();
            match read {
                Ok(count) => match &mut state.exchange.stream {
                    Some(stream) => {
                        stream.ignored += u32::try_from(count).unwrap_or(MOST_IGNORED);
                        if stream.ignored > MOST_IGNORED {
                            return Poll::Ready(Error::Unasked);
                        }
                    }
                    None => state.cold().input.extend_from_slice(&piece[..count]),
                },
                Err(Error::PeerClosed) => state.cold().half_closed = Some(CompactInstant::now()),
                Err(end) => return Poll::Ready(end),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;
    use crate::Config;
    use crate::connection::shared::Shared;
    use crate::net::source::Source;
    use crate::net::transport::Transport;

    #[test]
    fn dropping_the_input_of_a_fast_peer_lets_other_tasks_run() {
        let shared = Shared::new(Config::default()).unwrap();
        let (mut there, here) = UnixStream::pair().unwrap();
        let input = here.try_clone().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let source = Source::new(here, &shared.reactor).unwrap();
        let connection = Connection::new(Transport::Unix(source), shared);
        let mut linger = pin!(connection.linger());
        let mut poll = || linger.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        while there.write(&[0; 4096]).is_ok() {}
        let available = || rustix::io::ioctl_fionread(&input).unwrap();
        let mut before = available();
        while before > 0 {
            assert!(poll().is_pending());
            let after = available();
            let most = READS_AT_ONCE * READ_AHEAD;
            assert!(before - after <= most as u64, "from {before} to {after} bytes at once");
            before = after;
        }
        drop(there);
        connection.shared.reactor.try_react().unwrap();
        assert!(poll().is_ready());
    }
}
