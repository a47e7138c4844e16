//! The transport of a connection: all that is done with its socket.
//!
//! Today this is TCP. Another transport, such as TLS or a Unix socket, changes this file and the
//! accept loop.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use smol::Async;
use smol::io::AsyncRead as _;

use crate::net::socket;

/// The socket of a connection, and the address of its peer.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Async<TcpStream>,
    peer: SocketAddr,
}

impl Transport {
    pub(crate) const fn new(socket: Async<TcpStream>, peer: SocketAddr) -> Self {
        Self { socket, peer }
    }

    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Waits until bytes can be read. Costs no system call, unlike a read.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(cx)
    }

    /// Waits until bytes can be written.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_writable(cx)
    }

    /// Reads some bytes. Returns zero once the peer has shut down its sending side.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        piece: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.socket).poll_read(cx, piece)
    }

    /// Writes as much of `bytes`, which are not empty, as the kernel accepts now, and returns the
    /// number of those bytes. A full send buffer is not an error.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            return match self.socket.get_ref().write(bytes) {
                Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written,
            };
        }
    }

    /// Shuts down the sending side.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    /// Closes the connection, even if other tasks still hold the transport.
    pub(crate) fn shut(&self) {
        // An error means that it is closed already.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// Makes the kernel reset the connection and discard unsent data when the transport is dropped.
    pub(crate) fn reset_on_close(&self) {
        socket::reset_on_close(&self.socket);
    }

    /// Limits the time for which the peer may leave data unacknowledged, or removes the limit.
    pub(crate) fn limit_unacknowledged(&self, write_timeout: Option<Duration>) {
        // If this fails, the connection is broken, and the next read or write reports it.
        let _ = socket::limit_unacknowledged(&self.socket, write_timeout);
    }
}
