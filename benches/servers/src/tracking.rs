//! The kernel's table of tracked connections: waiting for room in it, and detecting that it was full.
//!
//! Where a firewall tracks connections, each one has an entry there, which stays for two minutes
//! after the connection was closed. While the table is full, the kernel drops the packets of new
//! connections.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time within which entries of closed connections must be gone: two minutes, and one until the
/// kernel has removed them.
const TIMEOUT: Duration = Duration::from_secs(200);

/// Waits until the table has room for this number of connections, besides an eighth of the table for
/// other programs.
pub(crate) fn wait_for_room(connections: u32) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        // Without the files, no connections are tracked.
        let (Some(used), Some(most)) = (number("count"), number("max")) else { return Ok(()) };
        let usable = most - most / 8;
        if used + u64::from(connections) <= usable {
            return Ok(());
        }
        if u64::from(connections) > usable || begun.elapsed() > TIMEOUT {
            return Err(format!(
                "no room for {connections} connections, {used} of {most} are tracked: raise \
                 net.netfilter.nf_conntrack_max"
            ));
        }
        sleep(Duration::from_secs(1));
    }
}

/// Returns how often the kernel has repeated the first packet of a connection, of any program.
pub(crate) fn retransmissions() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    // A line of names and a line of values.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "TCPSynRetrans")?.1.parse().ok()
}

fn number(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
