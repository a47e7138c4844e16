//! The transport of a connection: all that is done with its socket.
//!
//! This is TCP or a Unix socket. Another transport, such as TLS, changes this file and
//! `listener.rs`.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::net::reactor::Direction;
use crate::net::socket;
use crate::net::source::Source;

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A TCP socket, and the address of its peer.
    Tcp(Source<TcpStream>, SocketAddr),
    /// A Unix socket, whose peer has no address.
    Unix(Source<UnixStream>),
}

/// The address of a peer, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) Option<SocketAddr>);

impl Peer {
    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip())
    }
}

/// Writes the address as it is logged.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// Does the same with either socket.
macro_rules! each {
    ($transport:expr, $socket:ident => $action:expr) => {
        match $transport {
            Transport::Tcp($socket, _) => $action,
            Transport::Unix($socket) => $action,
        }
    };
}

impl Transport {
    pub(crate) const fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, peer) => Peer(Some(*peer)),
            Self::Unix(_) => Peer(None),
        }
    }

    /// Waits until bytes can be read. Costs no system call, unlike a read.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        each!(self, socket => socket.poll_ready(Direction::Read, cx))
    }

    /// Waits until bytes can be written.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        each!(self, socket => socket.poll_ready(Direction::Write, cx))
    }

    /// Reads some bytes. Returns zero once the peer has shut down its sending side.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, piece: &mut [u8]) -> Poll<io::Result<usize>> {
        each!(self, socket => socket.poll_read(cx, piece))
    }

    /// Writes as much of `bytes`, which are not empty, as the kernel accepts now, and returns the
    /// number of those bytes. A full send buffer is not an error.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.write(bytes))
    }

    /// Writes as [`write`](Self::write) does, but lets the kernel hold the bytes back until further
    /// ones are written or [`uncork`](Self::uncork) is called, so that they share a packet.
    pub(crate) fn write_corked(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket, _) => {
                socket.write_with(bytes.len(), |socket| socket::send_corked(socket, bytes))
            }
            // A Unix socket has no packets that writes could share.
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    /// Sends the bytes that the kernel holds back.
    pub(crate) fn uncork(&self) {
        if let Self::Tcp(socket, _) = self {
            socket::uncork(socket);
        }
    }

    /// Writes as much of these pieces as the kernel accepts now, like [`write`](Self::write). If it
    /// has not accepted all bytes, it accepts no more until the socket is ready.
    pub(crate) fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, socket => socket.write_vectored(pieces))
    }

    /// Shuts down the sending side.
    pub(crate) fn finish(&self) -> io::Result<()> {
        each!(self, socket => socket.get_ref().shutdown(Shutdown::Write))
    }

    /// Closes the connection, even if other tasks still hold the transport.
    pub(crate) fn shut(&self) {
        // An error means that it is closed already.
        let _ = each!(self, socket => socket.get_ref().shutdown(Shutdown::Both));
    }

    /// Makes the kernel reset the connection and discard unsent data when the transport is dropped.
    pub(crate) fn reset_on_close(&self) {
        // What is in a Unix socket belongs to the peer's end, and is discarded with that.
        if let Self::Tcp(socket, _) = self {
            socket::reset_on_close(socket);
        }
    }

    /// Limits the time for which the peer may leave data unacknowledged, or removes the limit.
    pub(crate) fn limit_unacknowledged(&self, write_timeout: Option<Duration>) {
        // A Unix socket has no acknowledgements, and its peer cannot vanish without a notice.
        if let Self::Tcp(socket, _) = self {
            // If this fails, the connection is broken, and the next read or write reports it.
            let _ = socket::limit_unacknowledged(socket, write_timeout);
        }
    }
}
