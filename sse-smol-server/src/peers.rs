//! Who is connected, and whether one more may.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use event_listener::Event;
use prometheus_client::metrics::gauge::Gauge;

use crate::Config;

/// A browser opens no more than six connections to a host over HTTP/1.1; with so many streams the
/// next page may not load.
const STREAMS_TO_MENTION: usize = 5;

#[derive(Debug, Default)]
pub(crate) struct Peers {
    connections: Gauge,
    counts: Mutex<Counts>,
    one_left: Event,
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

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) peer: SocketAddr,
    peers: Arc<Peers>,
}

/// An open stream's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot(Arc<Slot>);

impl Peers {
    /// Nobody yet; `connections` is kept at their number.
    pub(crate) fn new(connections: Gauge) -> Self {
        Self { connections, ..Self::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panics while holding this lock")
    }

    /// A place for a connection, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, peer: SocketAddr, config: &Config) -> Option<Slot> {
        let mut counts = self.counts();
        let address = peer.ip().to_canonical();
        let of_peer = counts.of_peer.get(&address).map_or(0, |of_peer| of_peer.connections);
        // A proxy on the same machine brings everybody.
        let most = config.max_connections_per_peer.unwrap_or(if address.is_loopback() {
            usize::MAX
        } else {
            Config::PER_PEER
        });
        if counts.connections >= config.max_connections || of_peer >= most {
            return None;
        }
        counts.connections += 1;
        self.connections.inc();
        counts.of_peer.entry(address).or_default().connections += 1;
        Some(Slot { peer, peers: Arc::clone(self) })
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

impl Slot {
    pub(crate) fn open_stream(self: &Arc<Self>) -> StreamSlot {
        let mut counts = self.peers.counts();
        if let Some(of_peer) = counts.of_peer.get_mut(&self.peer.ip().to_canonical()) {
            of_peer.streams += 1;
            if of_peer.streams == STREAMS_TO_MENTION {
                log::info!(
                    "{} holds {STREAMS_TO_MENTION} streams over HTTP/1.1: a browser opens no more \
                     than six connections to a host; share one stream between pages, or put a \
                     proxy with HTTP/2 in front",
                    self.peer.ip()
                );
            }
        }
        StreamSlot(Arc::clone(self))
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut counts = self.0.peers.counts();
        if let Some(of_peer) = counts.of_peer.get_mut(&self.0.peer.ip().to_canonical()) {
            of_peer.streams -= 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.peers.counts();
        counts.connections -= 1;
        self.peers.connections.dec();
        let address = self.peer.ip().to_canonical();
        if let Some(of_peer) = counts.of_peer.get_mut(&address) {
            of_peer.connections -= 1;
            if of_peer.connections == 0 {
                counts.of_peer.remove(&address);
            }
        }
        drop(counts);
        self.peers.one_left.notify(usize::MAX);
    }
}
