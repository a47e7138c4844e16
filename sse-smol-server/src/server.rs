//! The accept loop.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use smol::future::FutureExt as _;
use smol::{Async, Executor, Timer};

use crate::connection::Connection;
use crate::connection::budget::BodyBudget;
use crate::connection::delivery::{self, DeliveryWorkers, JobQueue};
use crate::connection::serve;
use crate::metrics::Metrics;
use crate::net::admission::{Admission, ConnectionSlot};
use crate::net::timers::Timers;
use crate::net::{descriptors, socket};
use crate::{Drain, End, Request};

/// How a server treats its connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// After so much silence on a stream a keep-alive comment is sent, at most twenty a second;
    /// `None` for never. Default: 15 s.
    pub keep_alive: Option<Duration>,
    /// The time that the first request of a connection may take to begin, that a request head may
    /// take to arrive, and that a body may stall; 408 beyond, or no answer if nothing has arrived.
    /// Default: 10 s.
    pub head_timeout: Duration,
    /// The time that a whole request body may take to arrive; 408 beyond. Default: 60 s.
    pub body_timeout: Duration,
    /// The time that a connection may be idle between two requests before it is closed. A proxy in
    /// front should give up idle connections sooner; most do after 60 s. Default: 75 s.
    pub idle_timeout: Duration,
    /// A request head of more bytes is answered with 431. Default: 16 KiB.
    pub max_head: usize,
    /// A request body of more bytes is answered with 413. So is a chunked body whose framing alone
    /// (chunk sizes, extensions, line ends and trailers) has more bytes, except that as many as
    /// `max_head` are always allowed. Default: 1 MiB.
    pub max_body: usize,
    /// The maximum number of bytes that the bodies of all requests in progress occupy together. A
    /// body that exceeds it is answered with 503 and a `Retry-After`, one that is larger by itself
    /// with 413. Bytes count from their arrival until the request is over or its event stream is
    /// opened; a length that is only declared does not count. Default: 64 MiB.
    pub max_pending_body_bytes: usize,
    /// How long a peer may take nothing of what was sent before its connection is reset. A peer that
    /// takes a little now and then is slow, and is waited for.
    ///
    /// A peer that has vanished from a quiet stream is noticed within twice this time, by keep-alive
    /// comments or TCP probes that it does not acknowledge. A peer that has shut down its sending
    /// side gets an ordinary answer if it begins within this time. Default: 30 s.
    pub write_timeout: Duration,
    /// One more connection is answered with 503 and a time to come back. The system's table of
    /// descriptors is made large enough for so many, but no larger than for a million. Default: 20,000.
    pub max_connections: usize,
    /// The same for connections from one address. Default (`None`): 256, and no limit for loopback
    /// addresses, from which proxies connect.
    pub max_connections_per_peer: Option<usize>,
    /// The maximum time that draining takes. Open streams end at random times within the first four
    /// fifths of it, or within 50 ms for each stream if that is less; so a lone stream ends at once.
    /// Default: 5 s.
    pub drain: Duration,
}

impl Config {
    pub(crate) const PER_PEER: usize = 256;

    /// Returns the configuration with durations that can be added to any point in time.
    fn in_range(self) -> Self {
        Self {
            keep_alive: self
                .keep_alive
                .filter(|interval| !interval.is_zero())
                .map(|interval| interval.clamp(SHORTEST_KEEP_ALIVE, LONGEST)),
            head_timeout: self.head_timeout.min(LONGEST),
            body_timeout: self.body_timeout.min(LONGEST),
            idle_timeout: self.idle_timeout.min(LONGEST),
            write_timeout: self.write_timeout.min(LONGEST),
            drain: self.drain.min(LONGEST),
            ..self
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(15)),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            max_head: 16 << 10,
            max_body: 1 << 20,
            max_pending_body_bytes: 64 << 20,
            write_timeout: Duration::from_secs(30),
            max_connections: 20_000,
            max_connections_per_peer: None,
            drain: Duration::from_secs(5),
        }
    }
}

/// A server that listens, and has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: Async<TcpListener>,
    shared: Arc<Shared>,
    /// The jobs of the delivery workers.
    queues: Vec<JobQueue>,
}

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) drain: Drain,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Admission,
    pub(crate) timers: Arc<Timers>,
    pub(crate) delivery_workers: DeliveryWorkers,
    pub(crate) bodies: Arc<BodyBudget>,
}

/// Longer than anything is waited for.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Keep-alives more often than that keep busy, not alive.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_millis(50);

/// So many connections wait to be accepted, if the system lets them.
const BACKLOG: i32 = 4096;

/// How long accepting pauses after it failed, say for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Listens on `address`; with port 0 on any free port.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the address, or an error if the limit of open files is too low
    /// for a handful of connections. A limit that is too low for `max_connections` is logged.
    pub fn bind(address: SocketAddr, config: Config) -> io::Result<Self> {
        descriptors::check(config.max_connections)?;
        let metrics = Arc::<Metrics>::default();
        let admission = Admission::new(metrics.connections.clone());
        let (delivery_workers, queues) = DeliveryWorkers::new();
        let bodies = BodyBudget::new(config.max_pending_body_bytes);
        let shared = Shared {
            config: config.in_range(),
            drain: Drain::default(),
            metrics,
            admission,
            timers: Arc::default(),
            delivery_workers,
            bodies,
        };
        let listener = Async::<TcpListener>::bind(address)?;
        socket::prepare(listener.get_ref(), &shared.config)?;
        // When a server comes back, all of its clients come back.
        rustix::net::listen(&listener, BACKLOG)?;
        descriptors::make_room(&listener, shared.config.max_connections);
        Ok(Self { listener, shared: Arc::new(shared), queues })
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Whatever the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// What tells the server to stop.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }

    /// What the server counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Accepts connections, and serves each on a task of `executor`, for as long as this future
    /// is polled. The tasks live as long as the executor does.
    ///
    /// A handler takes a request, answers it, and returns.
    ///
    /// When the server is told to [drain](Drain::begin), this accepts no more, and returns when all
    /// connections are gone, or the time for it is over.
    pub async fn serve<H, F>(self, executor: &Executor<'_>, handler: H)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), End>> + Send + 'static,
    {
        let Self { listener, shared, queues } = self;
        let handler = Arc::new(handler);
        // These end when the last connection is gone.
        executor.spawn(Timers::run(Arc::downgrade(&shared.timers), shared.drain.clone())).detach();
        for queue in queues {
            executor.spawn(delivery::work(queue)).detach();
        }
        {
            // Whoever polls this future may poll it whenever anything on their thread is woken; this
            // one executes nothing but what was woken itself, and the listener is let alone.
            let accepting = Executor::new();
            let accept = accepting.spawn(accept(&listener, &shared, executor, &handler));
            accepting.run(shared.drain.begun().or(accept)).await;
        }
        drop(listener);
        let late = async {
            Timer::after(shared.config.drain).await;
        };
        shared.admission.gone().or(late).await;
    }
}

async fn accept<H, F>(
    listener: &Async<TcpListener>,
    shared: &Arc<Shared>,
    executor: &Executor<'_>,
    handler: &Arc<H>,
) where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let mut failing = false;
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Once, and not ten times a second.
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("cannot accept connections, trying on: {error}");
                }
                Timer::after(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        if !shared.admission.admit(peer, &shared.config) {
            shared.metrics.turned_away.inc();
            log::debug!("{peer}: turned away");
            if let Some(slot) = shared.admission.rejection_slot() {
                let shared = Arc::clone(shared);
                let reject = async move {
                    serve::reject(socket, peer, shared).await;
                    drop(slot);
                };
                executor.spawn(reject).detach();
            }
            continue;
        }
        let connection = Connection::new(socket, peer, Arc::clone(shared));
        let slot = ConnectionSlot::new(Arc::clone(&connection));
        executor.spawn(serve::serve(connection, slot, Arc::clone(handler))).detach();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use smol::block_on;

    use super::*;

    #[test]
    fn no_event_waits_for_the_next() {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Config::default()).unwrap();
        let _client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (socket, _) = block_on(server.listener.accept()).unwrap();
        assert!(socket.get_ref().nodelay().unwrap());
    }
}
