//! The storage behind the windows of topics, and how far its feed has come.
//!
//! Positions here are those in memory: see [`epoch`](crate::topics::epoch). If the storage replaces
//! its log, the result of an operation may be of either log until the feed has applied the
//! replacement. So each operation compares the storage's epoch with the current one afterwards.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smol::Timer;
use smol::channel::Sender;
use smol::future::or;

use crate::storage::{
    Appended, Bounds, EventRef, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStatus, TopicSummary,
};
use crate::topics::counts::StorageCounts;
use crate::topics::epoch::{Epoch, Epochs};
use crate::topics::pages::Pages;
use crate::topics::timeouts::Timeouts;

/// A storage, and how far its feed has come.
#[derive(Debug)]
pub(crate) struct Backing {
    storage: Arc<dyn Storage>,
    epochs: Arc<Epochs>,
    pub(crate) counts: StorageCounts,
    pub(crate) pages: Pages,
    /// The timeout of operations that change the log, including the wait for the feed.
    pub(crate) timeouts: Timeouts,
    /// All events up to this position are in the windows in memory, or have been.
    applied: AtomicU64,
    /// The reason why the feed has ended.
    failure: OnceLock<StorageError>,
    /// Ends the feed when it is dropped with the topics.
    _feed: Sender<Infallible>,
    /// The wakers of publications, by the position that they wait for and the number of the wait.
    /// With one notification for all of them, many publications would be woken for each event.
    waiting: Mutex<BTreeMap<(u64, u64), Waker>>,
}

impl Backing {
    /// Creates a backing for windows that start after a position. Changes of the log time out after
    /// `timeout`.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        epochs: Arc<Epochs>,
        position: u64,
        timeout: Duration,
        feed: Sender<Infallible>,
    ) -> Self {
        Self {
            storage,
            epochs,
            counts: StorageCounts::new(),
            pages: Pages::default(),
            timeouts: Timeouts::new(timeout),
            applied: AtomicU64::new(position),
            failure: OnceLock::new(),
            _feed: feed,
            waiting: Mutex::default(),
        }
    }

    /// Returns an error if the feed has ended.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Waits until the change at a position is visible to subscribers.
    ///
    /// # Errors
    ///
    /// Returns an error if the feed has ended, or if the log was replaced since.
    pub(crate) async fn applied(&self, position: u64) -> Result<(), StorageError> {
        self.counts.assigned(position);
        self.reached(position).await?;
        if position < self.epochs.current().start() {
            return Err(replaced());
        }
        Ok(())
    }

    /// Waits until the feed has reached a position, or a later one.
    fn reached(&self, position: u64) -> impl Future<Output = Result<(), StorageError>> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Applied { backing: self, key: (position, number) }
    }

    /// Records that all events up to a position are visible to subscribers.
    pub(crate) fn set_applied(&self, position: u64) {
        self.applied.store(position, Ordering::Release);
        self.wake(position);
    }

    /// Waits until the feed has applied that the log of an epoch was replaced.
    async fn ended(&self, epoch: &Arc<Epoch>) -> Result<(), StorageError> {
        let ended = async {
            loop {
                // Loaded before the epoch is compared, so that no replacement in between is missed.
                let applied = self.applied.load(Ordering::Acquire);
                if !Arc::ptr_eq(epoch, &self.epochs.current()) {
                    return Ok(());
                }
                self.reached(applied + 1).await?;
            }
        };
        let timeout = async {
            Timer::after(REPLACING).await;
            Err(replaced())
        };
        or(ended, timeout).await
    }

    fn has(&self, epoch: &Epoch) -> bool {
        self.storage.epoch() == epoch.name()
    }

    /// Returns the current epoch, when the log of the storage is of that epoch.
    async fn epoch(&self) -> Result<Arc<Epoch>, StorageError> {
        loop {
            let epoch = self.epochs.current();
            if self.has(&epoch) {
                return Ok(epoch);
            }
            self.ended(&epoch).await?;
        }
    }

    /// Runs an operation that reads, again if the log was replaced meanwhile. Returns its result
    /// and the epoch of that.
    async fn reading<'a, T>(
        &'a self,
        operation: impl Fn(&Epoch) -> StorageFuture<'a, T>,
    ) -> Result<(Arc<Epoch>, T), StorageError> {
        loop {
            let epoch = self.epoch().await?;
            let result = operation(&epoch).await;
            if self.has(&epoch) {
                let failed = |error: &StorageError| self.counts.failed("read", error);
                return result.inspect_err(failed).map(|result| (epoch, result));
            }
        }
    }

    /// Runs an operation that writes. Returns its result and the epoch of that.
    async fn writing<T>(
        &self,
        operation: StorageFuture<'_, T>,
    ) -> Result<(Arc<Epoch>, T), StorageError> {
        let epoch = self.epoch().await?;
        let result = operation.await?;
        if !self.has(&epoch) {
            return Err(replaced());
        }
        Ok((epoch, result))
    }

    /// See [`Storage::last_position`].
    pub(crate) async fn last_position(&self) -> Result<u64, StorageError> {
        let (epoch, position) = self.reading(|_| self.storage.last_position()).await?;
        Ok(epoch.in_memory(position))
    }

    /// See [`Storage::is_assigned`].
    pub(crate) async fn is_assigned(&self, position: u64) -> Result<bool, StorageError> {
        let is_assigned = |epoch: &Epoch| self.storage.is_assigned(epoch.in_log(position));
        Ok(self.reading(is_assigned).await?.1)
    }

    /// See [`Storage::append`].
    pub(crate) async fn append(&self, event: NewEvent) -> Result<Appended, StorageError> {
        let _time = self.counts.start_append();
        let (epoch, appended) = self.writing(self.storage.append(event)).await?;
        Ok(in_memory(&epoch, appended))
    }

    /// See [`Storage::append_all`].
    pub(crate) async fn append_all(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Result<Appended, StorageError>>, StorageError> {
        let count = events.len();
        let _time = self.counts.start_append();
        let (epoch, results) = self.writing(self.storage.append_all(events)).await?;
        if results.len() != count {
            let why = format!("it returned {} results for {count} events", results.len());
            return Err(StorageError::new(StorageErrorKind::Unavailable, why));
        }
        let in_memory = |result: Result<_, _>| result.map(|appended| in_memory(&epoch, appended));
        Ok(results.into_iter().map(in_memory).collect())
    }

    /// See [`Storage::delete`].
    pub(crate) async fn delete(&self, topic: &str) -> Result<Option<u64>, StorageError> {
        let (epoch, position) = self.writing(self.storage.delete(topic)).await?;
        Ok(position.map(|position| epoch.in_memory(position)))
    }

    /// See [`Storage::read`]. After a position of an earlier epoch, events count as dropped.
    pub(crate) async fn read(
        &self,
        topic: &str,
        after: u64,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        let read = |epoch: &Epoch| self.storage.read(topic, epoch.in_log(after), limit);
        let (epoch, mut page) = self.reading(read).await?;
        self.counts.read(&page);
        page.dropped = epoch.in_memory(page.dropped);
        for event in &mut page.events {
            event.position = epoch.in_memory(event.position);
        }
        Ok(page)
    }

    /// See [`Storage::bounds`]. The positions of earlier epochs count as dropped.
    pub(crate) async fn bounds(&self, topic: &str) -> Result<Bounds, StorageError> {
        let (epoch, bounds) = self.reading(|_| self.storage.bounds(topic)).await?;
        Ok(Bounds {
            dropped: epoch.in_memory(bounds.dropped),
            first: bounds.first.map(|first| reference(&epoch, first)),
            last: bounds.last.map(|last| reference(&epoch, last)),
        })
    }

    /// See [`Storage::find`].
    pub(crate) async fn find(&self, topic: &str, id: &str) -> Result<Option<u64>, StorageError> {
        let (epoch, position) = self.reading(|_| self.storage.find(topic, id)).await?;
        Ok(position.map(|position| epoch.in_memory(position)))
    }

    /// See [`Storage::topics`].
    pub(crate) async fn topics(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicSummary>, StorageError> {
        let (epoch, mut topics) = self.reading(|_| self.storage.topics(after, limit)).await?;
        for topic in &mut topics {
            topic.last = topic.last.take().map(|last| reference(&epoch, last));
        }
        Ok(topics)
    }

    /// See [`Storage::status`]. The lag is always known.
    pub(crate) fn status(&self) -> StorageStatus {
        let applied = self.applied.load(Ordering::Relaxed);
        let mut status = self.storage.status(self.epochs.current().in_log(applied));
        status.lag.get_or_insert_with(|| self.counts.lag(applied));
        status
    }

    /// Records the reason why the feed has ended. Returns false if there is one already.
    pub(crate) fn fail(&self, failure: StorageError) -> bool {
        let is_first = self.failure.set(failure).is_ok();
        self.wake(u64::MAX);
        is_first
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Waker>> {
        self.waiting.lock().expect("no panic while this lock is held")
    }

    /// Wakes the publications that wait for positions up to this one.
    fn wake(&self, position: u64) {
        let mut due = Vec::new();
        let mut waiting = self.waiting();
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= position) {
            due.push(first.remove());
        }
        drop(waiting);
        due.into_iter().for_each(Waker::wake);
    }
}

/// The maximum time between a new epoch of the storage and the change that reports it.
const REPLACING: Duration = Duration::from_secs(5);

/// Returns the error of an operation during which the log was replaced.
fn replaced() -> StorageError {
    StorageError::new(StorageErrorKind::Unavailable, "its log was replaced meanwhile")
}

/// Returns an outcome with positions in memory.
fn in_memory(epoch: &Epoch, appended: Appended) -> Appended {
    match appended {
        Appended::New(position) => Appended::New(epoch.in_memory(position)),
        Appended::Duplicate(position) => Appended::Duplicate(epoch.in_memory(position)),
        Appended::KeyInUse(event) => Appended::KeyInUse(reference(epoch, event)),
        Appended::IdInUse | Appended::TooManyTopics(_) => appended,
    }
}

fn reference(epoch: &Epoch, event: EventRef) -> EventRef {
    EventRef { position: epoch.in_memory(event.position), ..event }
}

/// A wait for a position.
#[derive(Debug)]
struct Applied<'b> {
    backing: &'b Backing,
    /// The key of the waker.
    key: (u64, u64),
}

impl Future for Applied<'_> {
    type Output = Result<(), StorageError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { backing, key } = *self;
        let waker = cx.waker().clone();
        let replaced = backing.waiting().insert(key, waker);
        // Not under the lock: dropping a waker may drop a task.
        drop(replaced);
        // Checked after the waker is registered, so that no progress in between is missed.
        if backing.applied.load(Ordering::Acquire) >= key.0 {
            return Poll::Ready(Ok(()));
        }
        backing.check().map_or_else(|failure| Poll::Ready(Err(failure)), |()| Poll::Pending)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        let waker = self.backing.waiting().remove(&self.key);
        drop(waker);
    }
}
