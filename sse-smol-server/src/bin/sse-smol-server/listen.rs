//! Where the server listens: `--listen`.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use sse_smol_server::{Config, Server};

/// A place to listen, as given on the command line.
#[derive(Clone, Debug)]
pub(crate) enum Listen {
    /// The addresses to try in turn, and the text that they come from.
    Tcp { text: String, addresses: Vec<SocketAddr> },
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A socket that systemd has passed.
    Systemd(Arc<Inherited>),
}

/// A socket that another process has opened and passed.
#[derive(Debug)]
pub(crate) struct Inherited {
    socket: OwnedFd,
    /// The address, or `None` for a Unix socket.
    address: Option<SocketAddr>,
}

impl Listen {
    /// Returns whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        match self {
            Self::Tcp { addresses, .. } => addresses.iter().all(is_loopback),
            Self::Unix(_) => true,
            Self::Systemd(inherited) => inherited.address.as_ref().is_none_or(is_loopback),
        }
    }

    /// Creates a server that listens here. A Unix socket that it creates gets the permissions
    /// `mode`.
    pub(crate) fn bind(&self, mode: u32, config: Config) -> io::Result<Server> {
        match self {
            Self::Tcp { addresses, .. } => Server::bind(&addresses[..], config),
            Self::Unix(path) => {
                let server = Server::bind_unix(path, config)?;
                fs::set_permissions(path, Permissions::from_mode(mode))?;
                Ok(server)
            }
            Self::Systemd(inherited) => {
                let socket = inherited.socket.try_clone()?;
                match inherited.address {
                    Some(_) => Server::from_listener(TcpListener::from(socket), config),
                    None => Server::from_listener(UnixListener::from(socket), config),
                }
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { text, .. } => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(_) => f.write_str("systemd"),
        }
    }
}

/// Parses the value of `--listen`. Host names are looked up.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if text == "systemd" {
        return inherited().map(|inherited| Listen::Systemd(Arc::new(inherited)));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            return Err("the path of the Unix socket is missing".to_owned());
        }
        return Ok(Listen::Unix(path.into()));
    }
    let addresses: Vec<SocketAddr> = match text.strip_prefix(':') {
        Some(port) => {
            let port = port.parse::<u16>().map_err(|error| format!("the port: {error}"))?;
            // An IPv6 socket also takes IPv4 connections. The other is for systems without IPv6.
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => text
            .to_socket_addrs()
            .map_err(|error| format!("not HOST:PORT, :PORT, unix:PATH or systemd: {error}"))?
            .collect(),
    };
    if addresses.is_empty() {
        return Err("the host has no address".to_owned());
    }
    Ok(Listen::Tcp { text: text.to_owned(), addresses })
}

/// Takes over the socket that systemd has passed to this process (`sd_listen_fds(3)`).
#[cfg(target_os = "linux")]
fn inherited() -> Result<Inherited, String> {
    use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    use std::{env, process};

    /// The first descriptor that systemd passes.
    const FIRST: i32 = 3;

    let variable = |name| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if variable("LISTEN_PID") != Some(process::id()) {
        return Err("systemd has passed no socket to this process (LISTEN_PID)".to_owned());
    }
    let count = variable("LISTEN_FDS").unwrap_or(0);
    if count != 1 {
        return Err(format!("systemd has passed {count} sockets (LISTEN_FDS), and not one"));
    }
    let failed = |error| format!("cannot take over the socket from systemd: {error}");
    // A descriptor that is known by its number only cannot be owned in safe code, but duplicated.
    let this = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed)?;
    let socket = pidfd_getfd(&this, FIRST, PidfdGetfdFlags::empty()).map_err(failed)?;
    let listens = sockopt::socket_acceptconn(&socket).map_err(failed)?
        && sockopt::socket_type(&socket).map_err(failed)? == SocketType::STREAM;
    if !listens {
        return Err("the socket from systemd is no listening stream socket: set Accept=no".into());
    }
    let address = match sockopt::socket_domain(&socket).map_err(failed)? {
        AddressFamily::UNIX => None,
        _ => Some(getsockname(&socket).and_then(SocketAddr::try_from).map_err(failed)?),
    };
    Ok(Inherited { socket, address })
}

#[cfg(not(target_os = "linux"))]
fn inherited() -> Result<Inherited, String> {
    Err("this system has no systemd".to_owned())
}

/// Parses the permissions of a Unix socket, in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not an octal number from 0 to 777".to_owned()),
    }
}
