//! The thread on which the client of NATS runs.
//!
//! The client needs a runtime of tokio. It has one with a single thread, so that nothing else in
//! the library depends on tokio: operations are spawned there, and awaited from any executor.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task;

use crate::storage::{StorageError, StorageErrorKind};

/// The maximum time for which the end waits for operations that block, such as name resolution.
const SHUTDOWN: Duration = Duration::from_millis(100);

/// A thread with a runtime. Dropping it cancels all operations, and waits for the thread.
#[derive(Debug)]
pub(super) struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("sse-nats".to_owned()).spawn(move || {
            // Ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(SHUTDOWN);
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Begins an operation on the thread. Dropping what this returns cancels it.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task(self.handle.spawn(operation))
    }

    /// Begins an operation on the thread that ends by itself.
    pub(super) fn spawn_detached(&self, operation: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(operation));
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            // The last owner may be a task that is dropped with its waker, on this thread.
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            log::error!("the thread of the NATS client has panicked");
        }
    }
}

/// An operation on the thread, as a future.
#[derive(Debug)]
pub(super) struct Task<T>(task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, StorageError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            // The thread has ended, or the operation has panicked, which the panic hook reports.
            result.map_err(|error| StorageError::new(StorageErrorKind::Unavailable, error))
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
