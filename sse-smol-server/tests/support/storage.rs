//! A storage for tests: slow, and failing at will.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use smol::channel::{self, Receiver, Sender};
use smol::future::{block_on, or, yield_now};
use smol::lock::{Semaphore, SemaphoreGuardArc};
use smol::stream::{self, StreamExt as _};
use sse_smol_server::storage::{
    Appended, Bounds, Change, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStream, TopicSummary,
};

use super::memory_storage::MemoryStorage;

/// A storage in memory whose operations take several polls, fail at a given rate, and stall while
/// the test holds a permit.
#[derive(Debug)]
pub(crate) struct Unreliable {
    most: usize,
    log: Mutex<Log>,
    random: Mutex<Rng>,
    /// The number of operations in a hundred that fail, without any effect.
    failures: AtomicU32,
    /// Whether an event is appended and an error returned.
    loses_answers: AtomicBool,
    /// The limit of the last page that was read.
    limit: Mutex<Option<PageLimit>>,
    /// One permit, which each operation holds.
    operations: Arc<Semaphore>,
    /// One permit, which is held for each event of the feed.
    feed: Arc<Semaphore>,
    /// Whether the feed returns an error in place of the next event.
    feed_fails: Arc<AtomicBool>,
}

/// The log, and what is needed to replace it.
#[derive(Debug)]
struct Log {
    inner: Arc<MemoryStorage>,
    /// How often it was replaced, which is in the epoch.
    replaced: u32,
    /// All events that were appended.
    appended: Vec<NewEvent>,
    followers: Vec<Sender<Replacement>>,
}

/// A replacement of the log, and the changes that follow it.
struct Replacement(Change, StorageStream);

/// The number of polls after which every operation is complete, unless it is stalled.
pub(crate) const POLLS: usize = 100;

impl Unreliable {
    /// Creates a storage for at most `most` events of each topic.
    pub(crate) fn new(most: usize, seed: u64) -> Self {
        Self {
            most,
            log: Mutex::new(Log {
                inner: Arc::new(MemoryStorage::new(most)),
                replaced: 0,
                appended: Vec::new(),
                followers: Vec::new(),
            }),
            random: Mutex::new(Rng::with_seed(seed)),
            failures: AtomicU32::new(0),
            loses_answers: AtomicBool::new(false),
            limit: Mutex::new(None),
            operations: Arc::new(Semaphore::new(1)),
            feed: Arc::new(Semaphore::new(1)),
            feed_fails: Arc::default(),
        }
    }

    /// Stalls all operations until the permit is dropped.
    pub(crate) fn stall(&self) -> SemaphoreGuardArc {
        self.operations.try_acquire_arc().expect("no operation is running")
    }

    /// Stalls the feed until the permit is dropped.
    pub(crate) fn stall_feed(&self) -> SemaphoreGuardArc {
        self.feed.try_acquire_arc().expect("no event is being fed")
    }

    /// Lets appends take effect and return an error.
    pub(crate) fn lose_answers(&self, loses: bool) {
        self.loses_answers.store(loses, Ordering::SeqCst);
    }

    /// Lets the feed return an error in place of the next event.
    pub(crate) fn fail_feed(&self) {
        self.feed_fails.store(true, Ordering::SeqCst);
    }

    /// Sets the number of operations in a hundred that fail.
    pub(crate) fn fail(&self, failures: u32) {
        self.failures.store(failures, Ordering::SeqCst);
    }

    /// Replaces the log by one that has only the last `keep` of the events that were appended
    /// without an ID and a key, in a new epoch.
    pub(crate) fn replace(&self, keep: usize) {
        let mut log = self.log.lock().unwrap();
        // Kept until the replacement is sent: without it, the streams of its changes fail.
        let _old = mem::replace(&mut log.inner, Arc::new(MemoryStorage::new(self.most)));
        log.replaced += 1;
        let plain = log.appended.iter().filter(|event| event.id.is_none() && event.key.is_none());
        let kept: Vec<_> = plain.rev().take(keep).cloned().collect();
        for event in kept.into_iter().rev() {
            log.appended.push(event.clone());
            block_on(log.inner.append(event)).unwrap();
        }
        let position = block_on(log.inner.last_position()).unwrap();
        let (epoch, inner) = (log.epoch(), Arc::clone(&log.inner));
        log.followers.retain(|follower| {
            let reset = Change::Reset { epoch: epoch.clone(), position };
            follower.try_send(Replacement(reset, inner.follow(position))).is_ok()
        });
    }

    /// Returns the limit in bytes of the last page that was read.
    pub(crate) fn page_bytes(&self) -> Option<usize> {
        self.limit.lock().unwrap().map(|limit| limit.bytes)
    }

    fn inner(&self) -> Arc<MemoryStorage> {
        Arc::clone(&self.log.lock().unwrap().inner)
    }

    fn append_now(&self, event: NewEvent) -> Result<Appended, StorageError> {
        let mut log = self.log.lock().unwrap();
        let appended = block_on(log.inner.append(event.clone()));
        if matches!(appended, Ok(Appended::New(_))) {
            log.appended.push(event);
        }
        appended
    }

    fn random(&self, end: u32) -> u32 {
        self.random.lock().unwrap().u32(..end)
    }

    async fn trouble(&self) -> Result<(), StorageError> {
        let _permit = self.operations.acquire().await;
        for _ in 0..self.random(4) {
            yield_now().await;
        }
        if self.random(100) < self.failures.load(Ordering::SeqCst) {
            return Err(failure());
        }
        Ok(())
    }
}

impl Log {
    fn epoch(&self) -> String {
        match self.replaced {
            0 => "memory".to_owned(),
            times => format!("memory.{times}"),
        }
    }
}

fn failure() -> StorageError {
    StorageError::new(StorageErrorKind::Unavailable, "a failure of the test")
}

impl Storage for Unreliable {
    fn epoch(&self) -> String {
        self.log.lock().unwrap().epoch()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(async { self.inner().last_position().await })
    }

    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async {
            self.trouble().await?;
            let appended = self.append_now(event);
            if self.loses_answers.load(Ordering::SeqCst) { Err(failure()) } else { appended }
        })
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        Box::pin(async move {
            self.trouble().await?;
            *self.limit.lock().unwrap() = Some(limit);
            // Small pages, so that they end within what the tests publish.
            let limit = PageLimit { events: limit.events.min(3), ..limit };
            self.inner().read(topic, after, limit).await
        })
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner().bounds(topic).await
        })
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner().find(topic, id).await
        })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move {
            self.trouble().await?;
            self.inner().topics(after, limit).await
        })
    }

    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async move {
            self.trouble().await?;
            let deleted = self.inner().delete(topic).await;
            if self.loses_answers.load(Ordering::SeqCst) { Err(failure()) } else { deleted }
        })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (feed, fails) = (Arc::clone(&self.feed), Arc::clone(&self.feed_fails));
        let (sender, replaced) = channel::unbounded();
        let mut log = self.log.lock().unwrap();
        log.followers.push(sender);
        let changes = stream::unfold((log.inner.follow(after), replaced), next);
        let delayed = changes.then(move |event| {
            let (feed, fails) = (Arc::clone(&feed), Arc::clone(&fails));
            async move {
                let _permit = feed.acquire_arc().await;
                yield_now().await;
                if fails.load(Ordering::SeqCst) { Err(failure()) } else { event }
            }
        });
        Box::pin(delayed)
    }
}

/// What a follower reads: the current log, and its replacements.
type Following = (StorageStream, Receiver<Replacement>);

async fn next(
    (mut changes, replaced): Following,
) -> Option<(Result<Change, StorageError>, Following)> {
    let replacement = async { Err(replaced.recv().await.ok()) };
    match or(replacement, async { Ok(changes.next().await) }).await {
        Ok(change) => Some((change?, (changes, replaced))),
        Err(replacement) => {
            let Replacement(reset, changes) = replacement?;
            Some((Ok(reset), (changes, replaced)))
        }
    }
}
