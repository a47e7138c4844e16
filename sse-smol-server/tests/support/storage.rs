//! A storage for tests: slow, and failing at will.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use smol::future::yield_now;
use smol::lock::Semaphore;
use smol::stream::StreamExt as _;
use sse_smol_server::storage::{
    Appended, Bounds, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStream, TopicSummary,
};

use super::memory_storage::MemoryStorage;

/// A storage in memory whose operations take several polls, fail at a given rate, and stall while a
/// gate is closed.
#[derive(Debug)]
pub(crate) struct Unreliable {
    inner: MemoryStorage,
    random: Mutex<Rng>,
    /// The number of operations in a hundred that fail, without any effect.
    failures: AtomicU32,
    /// Held by each operation, and by the test to stall them.
    pub(crate) operations: Arc<Semaphore>,
    /// Held for each event that is followed, and by the test to stall the feed.
    pub(crate) feed: Arc<Semaphore>,
}

/// The number of polls after which every operation is complete, unless it is stalled.
pub(crate) const POLLS: usize = 100;

impl Unreliable {
    /// Creates a storage for at most `most` events of each topic.
    pub(crate) fn new(most: usize, seed: u64) -> Self {
        Self {
            inner: MemoryStorage::new(most),
            random: Mutex::new(Rng::with_seed(seed)),
            failures: AtomicU32::new(0),
            operations: Arc::new(Semaphore::new(usize::MAX)),
            feed: Arc::new(Semaphore::new(1)),
        }
    }

    /// Sets the number of operations in a hundred that fail.
    pub(crate) fn fail(&self, failures: u32) {
        self.failures.store(failures, Ordering::SeqCst);
    }

    fn random(&self, end: u32) -> u32 {
        self.random.lock().unwrap().u32(..end)
    }

    async fn trouble(&self) -> Result<(), StorageError> {
        let _pass = self.operations.acquire().await;
        for _ in 0..self.random(4) {
            yield_now().await;
        }
        if self.random(100) < self.failures.load(Ordering::SeqCst) {
            return Err(StorageError::new(StorageErrorKind::Unavailable, "a failure of the test"));
        }
        Ok(())
    }
}

impl Storage for Unreliable {
    fn epoch(&self) -> String {
        self.inner.epoch()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        self.inner.last_position()
    }

    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async {
            self.trouble().await?;
            self.inner.append(event).await
        })
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        Box::pin(async move {
            self.trouble().await?;
            // Small pages, so that they end within what the tests publish.
            let limit = PageLimit { events: limit.events.min(3), ..limit };
            self.inner.read(topic, after, limit).await
        })
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner.bounds(topic).await
        })
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner.find(topic, id).await
        })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner.topics(after, limit).await
        })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let gate = Arc::clone(&self.feed);
        let delayed = self.inner.follow(after).then(move |event| {
            let gate = Arc::clone(&gate);
            async move {
                let _pass = gate.acquire_arc().await;
                yield_now().await;
                event
            }
        });
        Box::pin(delayed)
    }
}
