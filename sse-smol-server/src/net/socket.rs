//! Socket options: latency, kernel memory and dead peers.
//!
//! On Linux an accepted socket inherits the options of its listener, so most are set once and cost a connection no
//! system call.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::Config;

/// The size of a socket's send buffer, in bytes. The kernel accounts twice as much, to have room for its own
/// bookkeeping, and by default lets the buffer of a reader that stops grow to several MiB.
const SEND_BUFFER: usize = 128 << 10;

/// Prepares a listener for connections that `config` describes.
pub(crate) fn prepare(listener: &TcpListener, config: &Config) -> io::Result<()> {
    // Events are small, and none waits for the next to fill a packet.
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    detect_dead_peers(listener, config)
}

/// Has the kernel end connections whose peer acknowledges nothing, with the data that wait for it.
///
/// A write succeeds as long as the send buffer has room, so the write timeout alone does not notice a
/// peer that has vanished from a quiet stream.
fn detect_dead_peers(listener: &TcpListener, config: &Config) -> io::Result<()> {
    // A little more than the write timeout, which is the one to end connections that have a backlog.
    #[cfg(target_os = "linux")]
    {
        const LONGEST: u32 = i32::MAX.unsigned_abs();
        let milliseconds = config.write_timeout.mul_f64(1.25).as_millis();
        let timeout = u32::try_from(milliseconds).unwrap_or(LONGEST).clamp(1, LONGEST);
        sockopt::set_tcp_user_timeout(listener, timeout)?;
    }
    // Keep-alive comments are data that a peer has to acknowledge. Where there are none, or they are
    // rare, probes take their place.
    if config.keep_alive.is_none_or(|interval| interval > config.write_timeout / 2) {
        let seconds =
            |part| Duration::from_secs((config.write_timeout / part).as_secs().clamp(1, 32_767));
        sockopt::set_socket_keepalive(listener, true)?;
        sockopt::set_tcp_keepidle(listener, seconds(2))?;
        sockopt::set_tcp_keepintvl(listener, seconds(4))?;
    }
    Ok(())
}

/// Has a socket discard its unsent data and reset the connection when it is closed. Otherwise the
/// kernel would hold the data of a peer that reads nothing, and the socket, for minutes.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    // If this fails, the connection is broken, and there is nothing to discard.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
