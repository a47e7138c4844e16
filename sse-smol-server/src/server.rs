//! The accept loop.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use smol::{Async, Executor, Timer};

use crate::{End, Request, connection};

/// How a server treats its connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// After so much silence on a stream a keep-alive comment is sent; `None` for never.
    /// Default: 15 s.
    pub keep_alive: Option<Duration>,
    /// A request head that has not arrived by then is answered with 408. Default: 10 s.
    pub head_timeout: Duration,
    /// A request head of more bytes is answered with 431. Default: 16 KiB.
    pub max_head: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(15)),
            head_timeout: Duration::from_secs(10),
            max_head: 16 << 10,
        }
    }
}

/// A server that listens, and has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: Async<TcpListener>,
    config: Config,
}

/// How long accepting pauses after it failed, say for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Listens on `address`; port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// Whatever the system says of the address.
    pub fn bind(address: SocketAddr, config: Config) -> io::Result<Self> {
        Ok(Self { listener: Async::<TcpListener>::bind(address)?, config })
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Whatever the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// Accepts connections, and serves each on a task of `executor`, for as long as this future
    /// is polled. The tasks live as long as the executor does.
    ///
    /// A handler takes a request, answers it, and returns.
    pub async fn serve<H, F>(self, executor: &Executor<'_>, handler: H)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), End>> + Send + 'static,
    {
        let config = Arc::new(self.config);
        let handler = Arc::new(handler);
        loop {
            let (socket, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    Timer::after(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Events are small, and none waits for the next to fill a packet.
            if let Err(error) = socket.get_ref().set_nodelay(true) {
                log::debug!("{peer}: {error}");
                continue;
            }
            let (config, handler) = (Arc::clone(&config), Arc::clone(&handler));
            executor
                .spawn(async move {
                    connection::serve(socket, peer, &config, |request| handler(request)).await;
                })
                .detach();
        }
    }
}
