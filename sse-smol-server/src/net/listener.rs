//! Sockets that connections are accepted from.

use std::fs::{self, Permissions};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::Config;
use crate::net::reactor::{Direction, Reactor};
use crate::net::socket;
use crate::net::source::Source;
use crate::net::transport::Transport;

/// A listening socket of the standard library, TCP or Unix, for
/// [`Server::from_listener`](crate::Server::from_listener).
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, Option<SocketFile>),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(Socket::Tcp(listener))
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self(Socket::Unix(listener, None))
    }
}

/// The maximum number of connections that wait to be accepted. The system may lower it.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Creates a Unix socket at a path, for its owner only, and listens on it. Replaces the file of
    /// a socket that no process listens on any more.
    pub(crate) fn bind_unix(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = unix_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Before it listens: until then, connections are refused.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let file = SocketFile::new(path)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self(Socket::Unix(UnixListener::from(socket), Some(file))))
    }
}

/// A file of a Unix socket, which is removed on drop unless another file has its path by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = fs::symlink_metadata(&path)?;
        Ok(Self { path, device_and_inode: (file.dev(), file.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let file = fs::symlink_metadata(&self.path);
        if file.is_ok_and(|file| (file.dev(), file.ino()) == self.device_and_inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

/// Removes the file of a socket that no process listens on.
///
/// # Errors
///
/// Returns an error if a process listens on the socket, or if the file is no socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => {
            let why = "the file exists and is not a socket";
            return Err(io::Error::new(ErrorKind::AlreadyExists, why));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = unix_socket()?;
    // With a full queue of connections, the probe would wait.
    ioctl_fionbio(&probe, true)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// A listening socket, as the accept loop uses it.
#[derive(Debug)]
pub(crate) enum Accepting {
    Tcp(Source<TcpListener>),
    Unix(Source<UnixListener>, #[expect(dead_code, reason = "for its drop")] Option<SocketFile>),
}

impl Accepting {
    /// Prepares a listener: sets the options that its connections inherit.
    pub(crate) fn new(
        listener: Listener,
        config: &Config,
        reactor: &Arc<Reactor>,
    ) -> io::Result<Self> {
        let accepting = match listener.0 {
            Socket::Tcp(listener) => {
                socket::prepare(&listener, config)?;
                listener.set_nonblocking(true)?;
                Self::Tcp(Source::new(listener, reactor)?)
            }
            Socket::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Self::Unix(Source::new(listener, reactor)?, file)
            }
        };
        // When a server restarts, all of its clients reconnect at once.
        rustix::net::listen(&accepting, BACKLOG)?;
        Ok(accepting)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.get_ref().local_addr(),
            Self::Unix(..) => {
                let why = "the server listens on a Unix socket, which has no IP address";
                Err(io::Error::new(ErrorKind::Unsupported, why))
            }
        }
    }

    /// Accepts a connection, whose socket is registered in `reactor`.
    pub(crate) async fn accept(&self, reactor: &Arc<Reactor>) -> io::Result<Transport> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = next(listener, TcpListener::accept).await?;
                socket.set_nonblocking(true)?;
                Ok(Transport::Tcp(Source::new(socket, reactor)?, peer))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = next(listener, UnixListener::accept).await?;
                socket.set_nonblocking(true)?;
                Ok(Transport::Unix(Source::new(socket, reactor)?))
            }
        }
    }
}

/// Waits for a connection to a listener.
async fn next<L: AsFd, T>(
    listener: &Source<L>,
    accept: impl Fn(&L) -> io::Result<T>,
) -> io::Result<T> {
    poll_fn(|cx| listener.poll_with(Direction::Read, cx, &accept, |_| false)).await
}

impl AsFd for Accepting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}
