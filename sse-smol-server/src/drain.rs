//! Graceful shutdown. Streams end at different times, so that their clients do not all reconnect at
//! once.

use crate::notifier::{Flag, Notified};

/// A handle that starts a server's graceful shutdown: see [`Server::drain`](crate::Server::drain).
///
/// ```
/// use sse_smol_server::{Config, Request, Server};
///
/// let server = Server::bind("127.0.0.1:0", Config::default())?;
/// let drain = server.drain();
/// drain.begin(); // for instance on a signal
/// let handler = |request: Request| async { request.open().await.map(drop) };
/// server.run(&smol::Executor::new(), handler)?; // returns at once: there is no connection
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain(Flag);

impl Drain {
    /// Starts the shutdown: the server accepts no more connections, closes idle ones, and ends each
    /// stream after sending it a random reconnection time. The more streams are open, the longer
    /// the period over which they end, within [`Config::drain`](crate::Config::drain).
    pub fn begin(&self) {
        self.0.set();
    }

    /// Returns whether the shutdown has started.
    pub fn has_begun(&self) -> bool {
        self.0.is_set()
    }

    /// Waits until the shutdown starts.
    pub async fn begun(&self) {
        self.0.wait().await;
    }

    /// Returns a future that is ready when the shutdown starts. It must be created before
    /// [`has_begun`](Self::has_begun) is checked, or a shutdown that starts in between is missed.
    pub(crate) fn listen(&self) -> Notified {
        self.0.listen()
    }
}
