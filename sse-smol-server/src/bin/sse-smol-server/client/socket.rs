//! The sockets of clients: TCP and Unix.

use std::io;
use std::net::ToSocketAddrs as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smol::net::unix::UnixStream;
use smol::unblock;

use super::error::Result;
use super::url::Endpoint;

/// A connection to a server.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to a server, at the first of its addresses that accepts.
    ///
    /// # Errors
    ///
    /// The reason, with the address.
    pub(crate) async fn connect(server: &Endpoint) -> Result<Self> {
        let (connected, place) = match server {
            Endpoint::Tcp { host, port } => {
                (Self::connect_tcp(host.clone(), *port).await, server.to_string())
            }
            Endpoint::Unix(path) => {
                (UnixStream::connect(path).await.map(Self::Unix), path.display().to_string())
            }
        };
        connected.map_err(|error| format!("cannot connect to {place}: {error}").into())
    }

    async fn connect_tcp(host: String, port: u16) -> io::Result<Self> {
        let addresses = unblock(move || (host, port).to_socket_addrs()).await?;
        TcpStream::connect(&addresses.collect::<Vec<_>>()[..]).await.map(Self::Tcp)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_close(cx),
            Self::Unix(socket) => Pin::new(socket).poll_close(cx),
        }
    }
}
