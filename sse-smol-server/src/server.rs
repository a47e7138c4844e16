//! The accept loop and graceful shutdown.

use std::future::{self, Future};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smol::future::{FutureExt as _, yield_now};
use smol::{Executor, Timer};

use crate::connection::Connection;
use crate::connection::delivery::{self, DeliveryWorkers, JobQueue};
use crate::connection::serve;
use crate::connection::shared::Shared;
use crate::http1::Head;
use crate::net::descriptors;
use crate::net::listener::{Accepting, Listener};
use crate::net::reactor::Reactor;
use crate::net::timers::Timers;
use crate::{Config, Drain, Error, Metrics, Request, threads};

/// A server that listens and does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    listener: Accepting,
    shared: Arc<Shared>,
    workers: Arc<DeliveryWorkers>,
    /// The job queues of the delivery workers.
    queues: Vec<JobQueue>,
}

/// The pause after a failed accept, for instance when no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The number of connections that are accepted before other tasks run, even if more wait.
const ACCEPTED_AT_ONCE: usize = 64;

impl Server {
    /// Binds a server to a TCP address, such as `"127.0.0.1:8080"`, with port 0 to any free port.
    ///
    /// If a host name has several addresses, this binds to the first that is free. The look-up of a
    /// host name blocks the thread.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the address, or an error if the limit of open files is too
    /// low for a handful of connections. A limit that is too low for `max_connections` is logged.
    pub fn bind(address: impl ToSocketAddrs, config: Config) -> io::Result<Self> {
        Self::from_listener(TcpListener::bind(address)?, config)
    }

    /// Binds a server to a Unix socket at `path`, with the permissions 0600, for its owner only.
    ///
    /// If the file is that of a socket on which no process listens, such as one left by a process
    /// that was killed, it is replaced. It is removed when the server stops accepting connections or
    /// is dropped.
    ///
    /// Peers of a Unix socket have no address: [`Config::max_connections_per_peer`] does not apply
    /// to them.
    ///
    /// # Errors
    ///
    /// Returns an error if another process listens on the socket, if the file is no socket, or the
    /// same errors as [`bind`](Self::bind).
    pub fn bind_unix(path: impl AsRef<Path>, config: Config) -> io::Result<Self> {
        Self::from_listener(Listener::bind_unix(path.as_ref())?, config)
    }

    /// Creates a server on a listening socket of the standard library, TCP or Unix, such as one that
    /// was inherited. Its options are set as [`bind`](Self::bind) sets them. The file of a Unix
    /// socket is not removed.
    ///
    /// ```
    /// use std::net::TcpListener;
    ///
    /// use sse_smol_server::{Config, Server};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let server = Server::from_listener(listener, Config::default())?;
    /// assert_eq!(server.local_addr()?, address);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the system's error for the socket, or an error if the limit of open files is too low
    /// for a handful of connections.
    pub fn from_listener(listener: impl Into<Listener>, config: Config) -> io::Result<Self> {
        descriptors::check(config.max_connections)?;
        let (workers, queues) = DeliveryWorkers::new();
        let shared = Shared::new(config)?;
        let listener = Accepting::new(listener.into(), &shared.config, &shared.reactor)?;
        descriptors::make_room(&listener, shared.config.max_connections);
        Ok(Self { listener, shared, workers: Arc::new(workers), queues })
    }

    /// Returns the address that the server listens on.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the socket, or an error of the kind
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the handle that starts a graceful shutdown.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }

    /// Returns the server's metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Serves connections until the server has drained: runs the executor on this thread and, while
    /// there is a backlog, on one more for each other core.
    ///
    /// A handler should not block its thread. If one does, the other threads accept and serve
    /// connections, with a delay of some 10 milliseconds.
    ///
    /// The connections are tasks of `executor`, to which other tasks can be added. See
    /// [`serve`](Self::serve) for what a handler does and when the server has drained.
    ///
    /// ```
    /// use sse_smol_server::sse_proto::Event;
    /// use sse_smol_server::{Config, Error, Request, Server};
    ///
    /// async fn hello(request: Request) -> Result<(), Error> {
    ///     request.open().await?.send(Event::new("hello")).await
    /// }
    ///
    /// let server = Server::bind("127.0.0.1:0", Config::default())?;
    /// # server.drain().begin();
    /// server.run(&smol::Executor::new(), hello)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the system's error if it cannot start a thread or wait for sockets.
    ///
    /// # Panics
    ///
    /// Panics if a task panics that was added to `executor`: at once on this thread, otherwise when
    /// the server stops. A handler that panics fails its request only.
    pub fn run<H, F>(self, executor: &Executor<'_>, handler: H) -> io::Result<()>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        self.run_until(executor, handler, future::pending())
    }

    /// Serves connections as [`run`](Self::run) does, but also returns when `stop` is ready.
    /// Connections that are open then wait until they are closed when the executor is dropped.
    ///
    /// # Errors
    ///
    /// The errors of [`run`](Self::run).
    pub fn run_until<H, F>(
        self,
        executor: &Executor<'_>,
        handler: H,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let reactor = Arc::clone(&self.shared.reactor);
        let accepting = Executor::new();
        let serve = self.accept(executor, &accepting, handler);
        threads::run(&reactor, executor, &accepting, serve.or(stop))
    }

    /// Accepts connections while this future is polled, and serves each on a task of `executor`.
    /// The tasks live as long as the executor does. [`run`](Self::run) does the same with fewer
    /// system calls, since its thread waits for the sockets itself.
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
        let driving = Reactor::drive(Arc::downgrade(&self.shared.reactor));
        let drive = async {
            if let Err(error) = driving.await {
                log::error!("cannot wait for sockets: {error}");
            }
        };
        executor.spawn(drive).detach();
        self.accept(executor, &Executor::new(), handler).await;
    }

    /// Accepts connections, with a task of `accepting` that this runs. Other threads may run it,
    /// too.
    async fn accept<'e, H, F>(
        self,
        executor: &'e Executor<'_>,
        accepting: &Executor<'e>,
        handler: H,
    ) where
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
        // The caller may poll this future on every wake-up of its thread. A task of its own runs only
        // if it was woken, so other wake-ups do not poll the listener.
        let accept = accepting.spawn(accept(listener, Arc::clone(&shared), executor, handler));
        let until_drain = async {
            shared.drain.begun().await;
            accept.cancel().await;
        };
        let run = async {
            loop {
                accepting.tick().await;
                yield_now().await;
            }
        };
        until_drain.or(run).await;
        let late = async {
            Timer::after(shared.config.drain).await;
        };
        shared.admission.gone().or(late).await;
    }
}

async fn accept<H, F>(
    listener: Accepting,
    shared: Arc<Shared>,
    executor: &Executor<'_>,
    handler: Arc<H>,
) where
    H: Fn(Box<Head>, Arc<Connection>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut failing = false;
    let mut accepted_at_once = 0;
    loop {
        accepted_at_once += 1;
        if accepted_at_once > ACCEPTED_AT_ONCE {
            accepted_at_once = 0;
            yield_now().await;
        }
        let transport = match listener.accept(&shared.reactor).await {
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
        let peer = transport.peer();
        if !shared.admission.admit(peer, &shared.config) {
            shared.metrics.turned_away.inc();
            log::debug!("{peer}: rejected, a connection limit is reached");
            if let Some(slot) = shared.admission.rejection_slot() {
                let shared = Arc::clone(&shared);
                let reject = async move {
                    serve::reject(transport, shared).await;
                    drop(slot);
                };
                executor.spawn(reject).detach();
            }
            continue;
        }
        let connection = Connection::new(transport, Arc::clone(&shared));
        executor.spawn(serve::serve(connection, Arc::clone(&handler))).detach();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use smol::block_on;

    use super::*;
    use crate::net::transport::Transport;

    #[test]
    fn accepted_sockets_send_small_events_without_delay() {
        let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
        let _client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let Ok(Transport::Tcp(socket, _)) =
            block_on(server.listener.accept(&server.shared.reactor))
        else {
            panic!()
        };
        assert!(socket.get_ref().nodelay().unwrap());
    }
}
