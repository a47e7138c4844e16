//! Sockets, and a thin wrapper of epoll.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// The number of loopback addresses to connect from, each of which has its own port range.
const SOURCES: usize = 16;

/// The maximum number of events of one poll.
const BATCH: usize = 1024;

/// Reports which sockets are ready, by their tokens. Level-triggered: a socket with unread input is
/// reported again.
#[expect(missing_debug_implementations, reason = "`epoll::Event` does not implement it")]
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The token that it was added with.
    pub token: usize,
    /// Whether it can be read, which includes its end.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
}

impl Poller {
    /// Creates a poller without sockets.
    ///
    /// # Errors
    ///
    /// If no descriptor is available.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH) })
    }

    /// Adds a socket to wait for input.
    ///
    /// # Errors
    ///
    /// If the socket is watched already.
    pub fn watch(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), EventFlags::IN)?)
    }

    /// Starts or stops waiting until the socket can be written.
    ///
    /// # Errors
    ///
    /// If the socket is not watched.
    pub fn watch_room(&self, socket: impl AsFd, token: usize, room: bool) -> io::Result<()> {
        let flags = if room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token as u64), flags)?)
    }

    /// Removes a socket.
    ///
    /// # Errors
    ///
    /// If the socket is not watched.
    pub fn forget(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until a socket is ready, at most for `most`.
    ///
    /// # Errors
    ///
    /// None is expected.
    pub fn wait(&mut self, most: Duration) -> io::Result<()> {
        let timeout = most.try_into().expect("a short time");
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the number of sockets that the last wait reported.
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Returns one of the reported sockets.
    pub fn ready(&self, at: usize) -> Ready {
        let epoll::Event { flags, data, .. } = self.events[at];
        let token = usize::try_from(data.u64()).expect("a token that was passed in");
        let over = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        Ready {
            token,
            readable: over || flags.contains(EventFlags::IN),
            writable: over || flags.contains(EventFlags::OUT),
        }
    }
}

/// Connects from the loopback address that `number` selects. Blocks until connected, which is
/// immediate on loopback. Reads and writes time out after `timeout`.
///
/// # Errors
///
/// If the connection is refused or times out.
pub fn connect(to: SocketAddrV4, number: usize, timeout: Duration) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    for end in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, end, Some(timeout))?;
    }
    let last = u8::try_from(number % SOURCES).expect("few") + 1;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    rustix::net::connect(&socket, &to).map_err(|error| match error {
        Errno::INPROGRESS => io::ErrorKind::TimedOut.into(),
        error => io::Error::from(error),
    })?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Listens on a port with `SO_REUSEPORT`: the kernel distributes connections among the listeners.
///
/// # Errors
///
/// If the port is in use by another program.
pub fn listen(port: u16) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// Makes a socket non-blocking.
///
/// # Errors
///
/// None is expected.
pub fn set_nonblocking(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}
