//! The accept loop and graceful shutdown.

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
use crate::connection::shared::Shared;
use crate::http1::Head;
use crate::net::admission::Admission;
use crate::net::timers::Timers;
use crate::net::transport::Transport;
use crate::net::{descriptors, socket};
use crate::{Config, Drain, Error, Metrics, Request};

/// A server that listens and does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listener: Async<TcpListener>,
    shared: Arc<Shared>,
    workers: Arc<DeliveryWorkers>,
    /// The job queues of the delivery workers.
    queues: Vec<JobQueue>,
}

/// The maximum number of connections that wait to be accepted. The system may lower it.
const BACKLOG: i32 = 4096;

/// The pause after a failed accept, for instance when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Binds a server to `address`, with port 0 to any free port.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the address, or an error if the limit of open files is too
    /// low for a handful of connections. A limit that is too low for `max_connections` is logged.
    pub fn bind(address: SocketAddr, config: Config) -> io::Result<Self> {
        descriptors::check(config.max_connections)?;
        let metrics = Arc::<Metrics>::default();
        let admission = Admission::new(metrics.connections.clone());
        let (workers, queues) = DeliveryWorkers::new();
        let bodies = BodyBudget::new(config.max_pending_body_bytes);
        let shared = Shared {
            config: config.in_range(),
            drain: Drain::default(),
            metrics,
            admission,
            timers: Arc::default(),
            bodies,
        };
        let listener = Async::<TcpListener>::bind(address)?;
        socket::prepare(listener.get_ref(), &shared.config)?;
        // When a server restarts, all of its clients reconnect at once.
        rustix::net::listen(&listener, BACKLOG)?;
        descriptors::make_room(&listener, shared.config.max_connections);
        Ok(Self { listener, shared: Arc::new(shared), workers: Arc::new(workers), queues })
    }

    /// Returns the address that the server listens on.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// Returns the handle that starts a graceful shutdown.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }

    /// Returns the server's metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Accepts connections while this future is polled, and serves each on a task of `executor`.
    /// The tasks live as long as the executor does.
    ///
    /// A handler takes a request, answers it, and returns.
    ///
    /// After [`Drain::begin`], this accepts no more connections, and returns when all are closed or
    /// [`Config::drain`] has passed.
    pub async fn serve<H, F>(self, executor: &Executor<'_>, handler: H)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let Self { listener, shared, workers, queues } = self;
        let handler = Arc::new(move |head, connection| {
            handler(Request::new(head, connection, Arc::clone(&workers)))
        });
        // These tasks end when the last connection is gone.
        executor.spawn(Timers::run(Arc::downgrade(&shared.timers), shared.drain.clone())).detach();
        for queue in queues {
            executor.spawn(delivery::work(queue)).detach();
        }
        {
            // The caller may poll this future on every wake-up of its thread. The inner executor
            // runs the accept loop only if that was woken, so other wake-ups do not poll the
            // listener.
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
    H: Fn(Box<Head>, Arc<Connection>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut failing = false;
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Only the first of successive failures is logged.
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("cannot accept connections, retrying: {error}");
                }
                Timer::after(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let transport = Transport::new(socket, peer);
        if !shared.admission.admit(peer, &shared.config) {
            shared.metrics.turned_away.inc();
            log::debug!("{peer}: rejected, a connection limit is reached");
            if let Some(slot) = shared.admission.rejection_slot() {
                let shared = Arc::clone(shared);
                let reject = async move {
                    serve::reject(transport, shared).await;
                    drop(slot);
                };
                executor.spawn(reject).detach();
            }
            continue;
        }
        let connection = Connection::new(transport, Arc::clone(shared));
        executor.spawn(serve::serve(connection, Arc::clone(handler))).detach();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use smol::block_on;

    use super::*;

    #[test]
    fn accepted_sockets_send_small_events_without_delay() {
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Config::default()).unwrap();
        let _client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (socket, _) = block_on(server.listener.accept()).unwrap();
        assert!(socket.get_ref().nodelay().unwrap());
    }
}
