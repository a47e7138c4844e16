//! Sockets, and waiting for many: epoll with as little around it as there can be.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Addresses of this machine to connect from: each has ports of its own.
const SOURCES: usize = 16;

/// How many sockets are told of at a time.
const BATCH: usize = 1024;

/// Tells which sockets are ready, by the numbers they were added with. Level-triggered: what is left
/// unread is told of again.
#[expect(missing_debug_implementations, reason = "what the kernel fills in has none")]
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// A socket that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// What it was added with.
    pub token: usize,
    /// Whether there is something to read, be it the end.
    pub readable: bool,
    /// Whether it takes more.
    pub writable: bool,
}

impl Poller {
    /// With nothing to wait for.
    ///
    /// # Errors
    ///
    /// If there are too many descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH) })
    }

    /// Waits for input, from now until it is closed.
    ///
    /// # Errors
    ///
    /// If it is watched already.
    pub fn watch(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), EventFlags::IN)?)
    }

    /// Waits for room, too, or no longer.
    ///
    /// # Errors
    ///
    /// If it is not watched.
    pub fn watch_room(&self, socket: impl AsFd, token: usize, room: bool) -> io::Result<()> {
        let flags = if room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token as u64), flags)?)
    }

    /// Does not wait for it any longer.
    ///
    /// # Errors
    ///
    /// If it is not watched.
    pub fn forget(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until something is ready, but not longer than this, nor without end.
    ///
    /// # Errors
    ///
    /// None that is to be expected.
    pub fn wait(&mut self, most: Duration) -> io::Result<()> {
        let timeout = most.try_into().expect("a short time");
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many were ready then.
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// One of those.
    pub fn ready(&self, at: usize) -> Ready {
        let epoll::Event { flags, data, .. } = self.events[at];
        let token = usize::try_from(data.u64()).expect("a number that was given");
        let over = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        Ready {
            token,
            readable: over || flags.contains(EventFlags::IN),
            writable: over || flags.contains(EventFlags::OUT),
        }
    }
}

/// Connects, the `number`th time: with the addresses to connect from taking turns. On loopback a
/// connection is there at once, so waiting for it costs nothing, and nothing need be kept that is
/// not connected yet. Neither reading nor writing waits longer than `patience`.
///
/// # Errors
///
/// If nobody answers.
pub fn connect(to: SocketAddrV4, number: usize, patience: Duration) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    for end in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, end, Some(patience))?;
    }
    let last = u8::try_from(number % SOURCES).expect("few") + 1;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    rustix::net::connect(&socket, &to)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Listens on a port that others may listen on, too: the kernel shares connections out.
///
/// # Errors
///
/// If the port is somebody else's.
pub fn listen(port: u16) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket)
}

/// From here on, reading and writing do not wait.
///
/// # Errors
///
/// None that is to be expected.
pub fn do_not_wait(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}
