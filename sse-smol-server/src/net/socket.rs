//! Socket options: latency, kernel memory and dead peers.
//!
//! On Linux an accepted socket inherits the options of its listener, so most are set once and cost
//! a connection no system call.

use std::io;
#[cfg(not(target_os = "linux"))]
use std::io::Write as _;
use std::net::TcpListener;
#[cfg(not(target_os = "linux"))]
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
#[cfg(target_os = "linux")]
use rustix::net::{SendFlags, send};

use crate::Config;

/// The size of a socket's send buffer in bytes. The kernel accounts for twice as much, for its own
/// bookkeeping. By default it lets the buffer of a peer that stops reading grow to several MiB. A
/// much smaller buffer would hold less than two loopback segments of 64 KiB, and the sender would
/// wait for delayed acknowledgements.
const SEND_BUFFER: usize = 128 << 10;

/// Sets the options of a listener that its connections inherit.
pub(crate) fn prepare(listener: &TcpListener, config: &Config) -> io::Result<()> {
    // Small events must not wait for further ones to fill a packet.
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER)?;
    detect_dead_peers(listener, config)
}

/// Configures the kernel to end connections whose peer acknowledges nothing, and to discard their
/// data.
///
/// A write succeeds as long as the send buffer has room, so the write timeout alone does not notice
/// a peer that has vanished from a quiet stream.
fn detect_dead_peers(listener: &TcpListener, config: &Config) -> io::Result<()> {
    let timeout = config.write_timeout;
    limit_unacknowledged(listener, Some(timeout))?;
    // Keep-alive comments are data that a peer has to acknowledge. Between requests, and where
    // comments are off or rare, probes replace them.
    let comments = config.keep_alive.is_some_and(|interval| interval <= timeout / 2);
    let seconds = |time: Duration| Duration::from_secs(time.as_secs().clamp(1, 32_767));
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, seconds(if comments { timeout } else { timeout / 2 }))?;
    sockopt::set_tcp_keepintvl(listener, seconds(timeout / 4))?;
    Ok(())
}

/// Limits the time for which data may be unacknowledged to a little more than the write timeout, so
/// that the latter ends connections that have a backlog. `None` removes the limit.
///
/// The kernel also counts the time for which the peer's window has been too small for the next
/// segment, even while the peer reads. So there must be no limit for a peer that reads slowly.
#[cfg(target_os = "linux")]
pub(crate) fn limit_unacknowledged(
    socket: impl AsFd,
    write_timeout: Option<Duration>,
) -> io::Result<()> {
    const LONGEST: u32 = i32::MAX.unsigned_abs();
    let milliseconds = write_timeout.map_or(0, |timeout| {
        let timeout = timeout.mul_f64(1.25).as_millis();
        u32::try_from(timeout).unwrap_or(LONGEST).clamp(1, LONGEST)
    });
    Ok(sockopt::set_tcp_user_timeout(socket, milliseconds)?)
}

/// Does nothing: only Linux has this option, and other systems use their own limits.
#[cfg(not(target_os = "linux"))]
pub(crate) fn limit_unacknowledged(_: impl AsFd, _: Option<Duration>) -> io::Result<()> {
    Ok(())
}

/// Sends bytes that the kernel holds back until others follow.
#[cfg(target_os = "linux")]
pub(crate) fn send_corked(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)
}

/// Sends bytes at once: not all other systems can hold them back.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send_corked(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    socket.write(bytes)
}

/// Makes the kernel send the bytes that it holds back.
pub(crate) fn uncork(socket: impl AsFd) {
    // On Linux this has that effect although the option is set already. If it fails, the connection
    // is broken, and the next read or write reports it.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Makes the kernel discard unsent data and reset the connection when a socket is closed. Otherwise
/// it would keep the socket, and the data for a peer that does not read, for minutes.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    // If this fails, the connection is broken, and no data is left to discard.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
