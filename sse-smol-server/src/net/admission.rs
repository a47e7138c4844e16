//! Who is connected, and whether one more may.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::metrics::gauge::Gauge;

use crate::Config;
use crate::connection::Connection;
use crate::notifier::Notifier;

/// A browser opens no more than six connections to a host over HTTP/1.1; with so many streams the
/// next page may not load.
const STREAMS_TO_MENTION: usize = 5;

/// So many connections get an answer at once that there is no room for them; others get none.
pub(crate) const MAX_REJECTIONS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: Gauge,
    /// Held by each connection that is being turned away.
    rejections: Arc<()>,
    counts: Mutex<Counts>,
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

/// Who counts as one: an address or, in IPv6, where everybody has plenty, a network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::from(Ipv6Addr::from(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Arc<Connection>);

impl Admission {
    /// Nobody yet; `connections` is kept at their number.
    pub(crate) fn new(connections: Gauge) -> Self {
        Self { connections, ..Self::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panics while holding this lock")
    }

    /// Whether there is a place for one more connection, which then is taken: see [`ConnectionSlot`].
    pub(crate) fn admit(&self, peer: SocketAddr, config: &Config) -> bool {
        let mut counts = self.counts();
        let address = network(peer.ip());
        let of_peer = counts.of_peer.get(&address).map_or(0, |of_peer| of_peer.connections);
        // A proxy on the same machine brings everybody.
        let most = config.max_connections_per_peer.unwrap_or(if address.is_loopback() {
            usize::MAX
        } else {
            Config::PER_PEER
        });
        if counts.connections >= config.max_connections || of_peer >= most {
            return false;
        }
        counts.connections += 1;
        self.connections.inc();
        counts.change(address, |of_peer| of_peer.connections += 1);
        true
    }

    pub(crate) fn opened_stream(&self, peer: SocketAddr) {
        let mut streams = 0;
        self.counts().change(network(peer.ip()), |of_peer| {
            of_peer.streams += 1;
            streams = of_peer.streams;
        });
        // Without the lock: the logger is the program's.
        if streams == STREAMS_TO_MENTION {
            log::info!(
                "{} holds {STREAMS_TO_MENTION} streams over HTTP/1.1: a browser opens no more than \
                 six connections to a host; share one stream between pages, or put a proxy with \
                 HTTP/2 in front",
                peer.ip()
            );
        }
    }

    pub(crate) fn closed_stream(&self, peer: SocketAddr) {
        self.counts().change(network(peer.ip()), |of_peer| of_peer.streams -= 1);
    }

    /// A place to be turned away from, if not too many are there already.
    pub(crate) fn rejection_slot(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.rejections) <= MAX_REJECTIONS)
            .then(|| Arc::clone(&self.rejections))
    }

    /// Waits until nobody is connected.
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

impl ConnectionSlot {
    /// The place of a connection that was admitted.
    pub(crate) const fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Connection { peer, shared, .. } = &*self.0;
        let mut counts = shared.admission.counts();
        counts.connections -= 1;
        shared.admission.connections.dec();
        counts.change(network(peer.ip()), |of_peer| of_peer.connections -= 1);
        drop(counts);
        shared.admission.one_left.notify();
    }
}

impl Counts {
    /// Nobody is remembered who holds nothing. A stream may outlive its connection, if somebody
    /// keeps it.
    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut OfPeer)) {
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
    fn networks_are_addresses_and_in_ipv6_halves_of_them() {
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
