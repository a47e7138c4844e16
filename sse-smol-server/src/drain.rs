//! Stopping without a stampede.

use crate::notifier::{Flag, Listener};

/// Tells a server to stop: see [`Server::drain`](crate::Server::drain).
///
/// ```
/// use sse_smol_server::{Config, Server};
///
/// let server = Server::bind(([127, 0, 0, 1], 0).into(), Config::default())?;
/// let drain = server.drain();
/// drain.begin(); // when a signal comes, say
/// let executor = smol::Executor::new();
/// let serve = server.serve(&executor, |request| async { request.open().await.map(drop) });
/// smol::block_on(executor.run(serve)); // returns: nobody is connected any more
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain(Flag);

impl Drain {
    /// Begins: no connection is accepted any more, idle ones are closed, streams get a reconnection
    /// time of their own and end one after the other.
    pub fn begin(&self) {
        self.0.set();
    }

    /// Returns whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.is_set()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.0.wait().await;
    }

    /// Returns a listener, to be created before [`has_begun`](Self::has_begun) is checked.
    pub(crate) fn listen(&self) -> Listener {
        self.0.listen()
    }
}
