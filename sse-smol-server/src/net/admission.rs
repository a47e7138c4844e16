//! Connection accounting and admission control.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::metrics::gauge::Gauge;

use crate::Config;
use crate::net::transport::Peer;
use crate::notifier::Notifier;

/// The number of streams of one peer at which a hint is logged. A browser opens at most six
/// connections to a host over HTTP/1.1, so with one stream more than this, a page may not load.
const STREAMS_TO_MENTION: usize = 5;

/// The maximum number of rejected connections that are being answered. Further ones are closed
/// without an answer.
pub(crate) const MAX_REJECTIONS: usize = 256;

/// The counts of connections and streams, and the decision on new connections.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: Gauge,
    /// Held once by each rejected connection that is being answered.
    rejections: Arc<()>,
    counts: Mutex<Counts>,
    /// Notified when a connection has been closed.
    one_left: Notifier,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    of_peer: HashMap<IpAddr, OfPeer>,
}

#[derive(Debug, Default)]
struct OfPeer {
    connections: usize,
    streams: usize,
}

/// Returns the address under which a peer is counted: the IPv4 address or, since one IPv6 host
/// usually has a whole /64 network of addresses, that network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::from(Ipv6Addr::from(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

impl Admission {
    /// Creates an admission without connections. It sets the gauge `connections` to their number.
    pub(crate) fn new(connections: Gauge) -> Self {
        Self { connections, ..Self::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no panic while this lock is held")
    }

    /// Counts one more connection and returns true, unless a limit is reached. The caller ensures
    /// that [`release`](Self::release) is called when it has been closed. Peers without an address
    /// are not counted one by one.
    pub(crate) fn admit(&self, peer: Peer, config: &Config) -> bool {
        let mut counts = self.counts();
        if counts.connections >= config.max_connections {
            return false;
        }
        if let Some(address) = peer.ip().map(network) {
            let of_peer = counts.of_peer.get(&address).map_or(0, |of_peer| of_peer.connections);
            // A proxy on the same machine connects on behalf of all clients.
            let most = config.max_connections_per_peer.unwrap_or(if address.is_loopback() {
                usize::MAX
            } else {
                Config::PER_PEER
            });
            if of_peer >= most {
                return false;
            }
        }
        counts.connections += 1;
        self.connections.inc();
        counts.change(peer, |of_peer| of_peer.connections += 1);
        true
    }

    /// Counts an admitted connection as closed.
    pub(crate) fn release(&self, peer: Peer) {
        let mut counts = self.counts();
        counts.connections -= 1;
        self.connections.dec();
        counts.change(peer, |of_peer| of_peer.connections -= 1);
        drop(counts);
        self.one_left.notify();
    }

    /// Counts a stream that was opened.
    pub(crate) fn opened_stream(&self, peer: Peer) {
        let mut streams = 0;
        self.counts().change(peer, |of_peer| {
            of_peer.streams += 1;
            streams = of_peer.streams;
        });
        // Called outside the lock, since the logger belongs to the program.
        if let Some(address) = peer.ip().filter(|_| streams == STREAMS_TO_MENTION) {
            log::info!(
                "{address} holds {STREAMS_TO_MENTION} streams over HTTP/1.1: a browser opens no more than \
                 six connections to a host; share one stream between pages, or put a proxy with \
                 HTTP/2 in front"
            );
        }
    }

    /// Counts a stream that was closed.
    pub(crate) fn closed_stream(&self, peer: Peer) {
        self.counts().change(peer, |of_peer| of_peer.streams -= 1);
    }

    /// Returns a slot for answering a rejected connection, unless [`MAX_REJECTIONS`] are in use.
    pub(crate) fn rejection_slot(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.rejections) <= MAX_REJECTIONS)
            .then(|| Arc::clone(&self.rejections))
    }

    /// Waits until there are no connections.
    pub(crate) async fn gone(&self) {
        loop {
            let listener = self.one_left.listen();
            if self.counts().connections == 0 {
                return;
            }
            listener.await;
        }
    }
}

impl Counts {
    /// Changes the counts of a peer, and removes them if they are all zero. A stream may outlive
    /// its connection if a task keeps it, so both counts matter.
    fn change(&mut self, peer: Peer, change: impl FnOnce(&mut OfPeer)) {
        let Some(address) = peer.ip().map(network) else { return };
        let of_peer = self.of_peer.entry(address).or_default();
        change(of_peer);
        if of_peer.connections == 0 && of_peer.streams == 0 {
            self.of_peer.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_peers_are_counted_by_64_bit_network() {
        for (address, counts_as) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::1"),
        ] {
            assert_eq!(network(address.parse().unwrap()), counts_as.parse::<IpAddr>().unwrap());
        }
    }
}
