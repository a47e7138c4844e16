//! The token of a server, for publishers of the same user on the same machine.
//!
//! A server offers its token in a file that only its user can read, and whose name is the server's
//! address. It holds a lock on the file for as long as it listens. A publisher first connects and
//! then looks for the file. If the file is locked at that time, its server still listens, so it is
//! the one at the other end of the connection: two servers cannot listen at one address. Without
//! the lock, the file is left from a process that was killed, and another user's server may have
//! taken over the address.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use smol::net::unix::UnixStream;

use crate::publishing::Token;

/// The maximum size in bytes of a file that is read, which is enough for every token.
const MAX_FILE: u64 = 16 << 10;

const FILE_FLAGS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The content of a file.
#[derive(Deserialize, Serialize)]
struct Content {
    token: String,
    /// The network namespace. In another one, another server may have the same address.
    network: Option<PathBuf>,
}

/// The offer of a server, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Offer {
    directory: File,
    name: String,
    /// Open for its lock.
    file: File,
}

impl Offer {
    /// Offers a token under the name of an address, in the first directory that is safe.
    ///
    /// # Errors
    ///
    /// The error of the last directory, with its path, if there is no safe one.
    pub(crate) fn new(name: &str, token: &Token) -> io::Result<Self> {
        let mut failed = ErrorKind::NotFound.into();
        for directory in directories() {
            let created = directory.open(true).and_then(|directory| {
                let file = create(&directory, name, token)?;
                Ok(Self { directory, name: name.to_owned(), file })
            });
            match created {
                Ok(offer) => return Ok(offer),
                Err(error) => {
                    let path = directory.parent.join(&directory.name);
                    failed = io::Error::other(format!("{}: {error}", path.display()));
                }
            }
        }
        Err(failed)
    }

    /// Removes the file. Must be called before the server stops to listen.
    pub(crate) fn withdraw(&self) {
        // A server in another network namespace may have replaced the file with its own.
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let own = fstat(&self.file).map(identity);
        let named = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW).map(identity);
        if own.is_ok() && own == named {
            let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Creates a file with a token, and locks it. Replaces a file that was left with this name.
fn create(directory: &File, name: &str, token: &Token) -> io::Result<File> {
    // Nothing locks or reads the file before it is complete, since it has another name until then.
    let unfinished = format!(".{:016x}", fastrand::u64(..));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | FILE_FLAGS;
    let mut file = File::from(openat(directory, &unfinished, flags, Mode::RUSR | Mode::WUSR)?);
    let content = Content { token: token.reveal().to_owned(), network: network() };
    let written = file
        .try_lock()
        .map_err(io::Error::from)
        .and_then(|()| file.write_all(&serde_json::to_vec(&content)?))
        .and_then(|()| Ok(renameat(directory, &unfinished, directory, name)?));
    if written.is_err() {
        let _ = unlinkat(directory, &unfinished, AtFlags::empty());
    }
    written.map(|()| file)
}

/// Returns the token that a running server of this user offers under one of these names.
pub(crate) fn find(names: &[String]) -> Option<Token> {
    directories()
        .iter()
        .filter_map(|directory| directory.open(false).ok())
        .find_map(|directory| names.iter().find_map(|name| read(&directory, name).ok().flatten()))
}

/// Reads the token from a file. Returns `None` if no server holds its lock.
fn read(directory: &File, name: &str) -> io::Result<Option<Token>> {
    let file = File::from(openat(directory, name, OFlags::RDONLY | FILE_FLAGS, Mode::empty())?);
    check(&fstat(&file)?, FileType::RegularFile)?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_FILE).read_to_end(&mut bytes)?;
    let content: Content = serde_json::from_slice(&bytes)?;
    Ok(Token::new(content.token.as_bytes()).ok().filter(|_| content.network == network()))
}

/// A directory for tokens, which may not exist yet.
struct Directory {
    parent: PathBuf,
    name: String,
    /// Whether the parent must belong to this user.
    is_parent_own: bool,
}

/// Returns the directories to try, in order: that of the login session, which programs that do not
/// belong to it find by the ID of the user, and one among the temporary files.
fn directories() -> Vec<Directory> {
    let user = geteuid().as_raw();
    let of_session = |parent: PathBuf| Directory {
        parent,
        name: "sse-smol-server".to_owned(),
        is_parent_own: true,
    };
    let session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut directories: Vec<_> =
        session.filter(|path| path.is_absolute()).map(of_session).into_iter().collect();
    directories.push(of_session(format!("/run/user/{user}").into()));
    directories.push(Directory {
        parent: env::temp_dir(),
        name: format!("sse-smol-server-{user}"),
        is_parent_own: false,
    });
    directories
}

impl Directory {
    /// Opens the directory, and creates it first if `create` is set.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if another user owns it or has permissions on it, or if it is a symbolic
    /// link; otherwise the error of the system.
    fn open(&self, create: bool) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = open(&self.parent, flags, Mode::empty())?;
        if self.is_parent_own && fstat(&parent)?.st_uid != geteuid().as_raw() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if create {
            match mkdirat(&parent, &self.name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Files are opened relative to this directory, so it cannot be exchanged after the check.
        let directory = openat(&parent, &self.name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        check(&fstat(&directory)?, FileType::Directory)?;
        Ok(directory.into())
    }
}

/// Checks that a file is of a type, and that only this user has permissions on it.
fn check(stat: &Stat, file_type: FileType) -> io::Result<()> {
    let of_others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    let is_private = stat.st_uid == geteuid().as_raw() && !of_others;
    if FileType::from_raw_mode(stat.st_mode) == file_type && is_private {
        Ok(())
    } else {
        Err(ErrorKind::PermissionDenied.into())
    }
}

/// Returns the identity of this process's network namespace, where there are namespaces (Linux).
fn network() -> Option<PathBuf> {
    fs::read_link("/proc/self/ns/net").ok()
}

/// Returns the name of the file for a TCP address at which a server listens.
pub(crate) fn name_of_address(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Returns the name of the file for a Unix socket, which has to exist.
pub(crate) fn name_of_socket(path: &Path) -> io::Result<String> {
    let path = fs::canonicalize(path)?;
    let path = path.to_str().ok_or(ErrorKind::InvalidInput)?;
    Ok(format!("unix:{}", path.replace('%', "%25").replace('/', "%2F")))
}

/// Returns the names of files for the server at the other end of a TCP connection, which may listen
/// at all addresses. There are none for another machine.
pub(crate) fn names_of_peer(local: SocketAddr, peer: SocketAddr) -> Vec<String> {
    let (ip, port) = (peer.ip().to_canonical(), peer.port());
    // A connection to an address of this machine has that address at both ends, or is a loopback.
    if !ip.is_loopback() && ip != local.ip().to_canonical() {
        return Vec::new();
    }
    let mut names = vec![name_of_address(peer)];
    if ip.is_ipv4() {
        names.push(name_of_address((Ipv4Addr::UNSPECIFIED, port).into()));
    }
    if ip.is_ipv6() || are_ipv6_sockets_dual() {
        names.push(name_of_address((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()));
    }
    names
}

/// Returns whether a socket that listens at all IPv6 addresses also takes IPv4 connections, so that
/// no other socket can. If that is not known, it is not relied on.
fn are_ipv6_sockets_dual() -> bool {
    fs::read("/proc/sys/net/ipv6/bindv6only").is_ok_and(|value| value.trim_ascii() == b"0")
}

/// Returns the names of files for the server at the other end of a Unix socket, if it is of this
/// user. Others may be able to replace the socket of a server.
#[cfg(target_os = "linux")]
pub(crate) fn names_of_socket_peer(socket: &UnixStream) -> Vec<String> {
    let is_own = rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|credentials| credentials.uid == geteuid());
    let address = socket.peer_addr().ok();
    let path = address.as_ref().and_then(|address| address.as_pathname()).filter(|_| is_own);
    path.and_then(|path| name_of_socket(path).ok()).into_iter().collect()
}

/// Returns no name, since the user at the other end is not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn names_of_socket_peer(_: &UnixStream) -> Vec<String> {
    Vec::new()
}
