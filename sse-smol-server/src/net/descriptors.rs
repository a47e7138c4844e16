//! File descriptors: the check of the process's limit, and room for them in advance.

use std::io;
use std::os::fd::{AsFd, RawFd};

use rustix::process::{Resource, getrlimit};

use crate::net::admission::MAX_REJECTIONS;

/// The number of descriptors that the process itself needs: standard streams, the reactor, the
/// listener, signals, a file watcher, and files that are read.
const OWN: usize = 24;

/// The minimum number of connections for which descriptors have to be available.
const MIN_CONNECTIONS: usize = 16;

/// The maximum number of entries that are made in advance. A higher limit on open files is often a
/// stand-in for no limit.
const MAX_ROOM: usize = 1 << 20;

/// Returns the limit of open files, or `None` if there is none.
fn limit() -> Option<usize> {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

/// Checks the limit of open files at the start, instead of failing later at an arbitrary operation.
/// Logs a warning if the limit is too low for `connections`.
///
/// # Errors
///
/// Returns an error if the limit is too low for [`MIN_CONNECTIONS`].
pub(crate) fn check(connections: usize) -> io::Result<()> {
    const MIN: usize = OWN + MIN_CONNECTIONS;
    let Some(limit) = limit() else { return Ok(()) };
    if limit < MIN {
        return Err(io::Error::other(format!(
            "the limit of open files (RLIMIT_NOFILE, `ulimit -n`) is {limit}, and at least {MIN} \
             are needed ({OWN} for the server itself, {MIN_CONNECTIONS} for connections): raise it"
        )));
    }
    let needed = connections.saturating_add(OWN);
    if limit < needed {
        log::warn!(
            "the limit of open files (RLIMIT_NOFILE, `ulimit -n`) is {limit}, enough for {} \
             connections; raise it to {needed}, or lower the maximum of {connections} connections",
            limit - OWN
        );
    }
    Ok(())
}

/// Grows the process's table of descriptors to the size that `connections` will need. Linux doubles
/// the table whenever it is full, and a thread that needs a descriptor then waits about ten
/// milliseconds for the other threads. That includes rejected connections, which need a descriptor
/// for a short time only, so that [`check`] does not demand one for each.
pub(crate) fn make_room(socket: impl AsFd, connections: usize) {
    let all = connections.saturating_add(OWN + MAX_REJECTIONS);
    let last = all.min(limit().unwrap_or(usize::MAX)).min(MAX_ROOM).saturating_sub(1);
    let Ok(last) = RawFd::try_from(last) else { return };
    // The duplicate itself is not needed. If the call fails, the table grows later.
    drop(rustix::io::fcntl_dupfd_cloexec(socket, last));
}
