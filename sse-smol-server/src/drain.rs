//! Stopping without a stampede.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::{Event, EventListener};

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
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begun: AtomicBool,
    event: Event,
}

impl Drain {
    /// Begins to drain: no connection is accepted any more, idle ones are closed, and each stream is
    /// sent a reconnection time of its own and ended. The more streams are open, the longer the
    /// period over which they end, within [`Config::drain`](crate::Config::drain).
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::SeqCst);
        self.0.event.notify(usize::MAX);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::SeqCst)
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let listener = self.listen();
        if !self.has_begun() {
            listener.await;
        }
    }

    /// A listener; to be made before [`has_begun`](Self::has_begun) is asked.
    pub(crate) fn listen(&self) -> EventListener {
        self.0.event.listen()
    }
}
