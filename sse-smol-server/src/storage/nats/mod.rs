//! Events on NATS JetStream, for several servers with the same topics.
//!
//! A [`NatsStorage`] keeps the events of topics in one stream of JetStream. Several servers that
//! use the same stream have the same events with the same IDs: what is published to one of them is
//! delivered by all, and a subscriber may resume on any. It needs the feature `nats`.
//!
//! The stream is created if it does not exist, with the bounds of the configuration. A stream that
//! exists is used as it is. The size of a topic in bytes has no bound of its own.
//!
//! The client of NATS runs on a thread of its own. While the engine is unreachable, publications
//! fail after [`NatsConfig::timeout`], streams of subscribers stay open, and everything continues
//! when it is back.
//!
//! # What JetStream cannot do
//!
//! - An idempotency key is recognized for the `duplicate_window` of the stream, two minutes if it is
//!   created here, and as long as the event is held.
//! - IDs that publishers choose are unique among the events of a topic that the stream holds. They
//!   are kept in memory, at most 50000. A publication with an ID takes longer if others publish to
//!   the same topic at the same time.
//! - A subscriber may get a gap event although it has missed nothing: after the event of its ID was
//!   dropped, or if the stream has dropped events, whose topics JetStream does not record.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use smol::Executor;
//! use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};
//! use sse_smol_server::{Publication, Start, Topics, TopicsConfig};
//!
//! let executor = Executor::new();
//! smol::block_on(executor.run(async {
//!     let storage = NatsStorage::open(NatsConfig::new("nats://127.0.0.1:4222")).await?;
//!     let (topics, feed) = Topics::open(TopicsConfig::default(), Arc::new(storage)).await?;
//!     executor.spawn(feed).detach();
//!     let id = topics.publish("news", Publication::new("kept")).await?.id;
//!     let mut subscription = topics.subscribe(&["news"], Start::After(&id)).await?;
//!     topics.publish("news", Publication::new("next")).await?;
//!     assert!(subscription.next_batch().await.unwrap()[0].encoded().ends_with(b"next\n\n"));
//!     Ok::<(), sse_smol_server::TopicError>(())
//! }))?;
//! # Ok::<(), sse_smol_server::TopicError>(())
//! ```

mod api;
mod append;
mod config;
mod consumer;
mod creation;
mod delete;
mod deleted;
mod failure;
mod fetch;
mod find;
mod follow;
mod ids;
mod info;
mod known;
mod link;
mod message;
mod position;
mod progress;
mod read;
mod reader;
mod readers;
mod recent;
mod stream;
mod subject;
mod thread;
mod topics;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use smol::future::or;
use smol::lock::Semaphore;
use smol::{Timer, channel};
use tokio::time::Instant;

use self::follow::Follower;
use self::position::Place;
use self::stream::{SETTLED, Shared};
use self::thread::Thread;
use super::{
    Appended, Bounds, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStatus, StorageStream, TopicSummary,
};

pub use self::config::NatsConfig;

/// A storage on NATS JetStream: see the [module](self).
pub struct NatsStorage {
    shared: Arc<Shared>,
    thread: Thread,
    /// A permit for each publication or deletion that waits for an answer.
    publications: Semaphore,
    /// A permit for each operation that reads.
    reads: Semaphore,
    /// A permit for each check of a position, which is one request. Checks of readiness do not wait
    /// for subscribers that read.
    checks: Semaphore,
}

/// The maximum number of publications that wait for an answer. Further ones wait before they are
/// sent.
const PUBLICATIONS: usize = 512;

/// The maximum number of pages, bounds and lists that are read at the same time.
const READS: usize = 8;

/// The maximum number of positions that are checked at the same time.
const CHECKS: usize = 64;

/// The maximum time that an operation waits for a permit. After the engine was unreachable, many
/// subscribers read at once.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The maximum number of changes that the feed is behind the consumer.
const FEED: usize = 256;

impl NatsStorage {
    /// Connects to the engine, and opens the stream or creates it. Retries for at most 10 seconds.
    ///
    /// # Errors
    ///
    /// An error of the kind [`Unavailable`](StorageErrorKind::Unavailable) if a value of the
    /// configuration cannot be used, the engine cannot be reached, or the stream cannot be used.
    pub async fn open(config: NatsConfig) -> Result<Self, StorageError> {
        config.check()?;
        let unavailable = |error| StorageError::new(StorageErrorKind::Unavailable, error);
        let thread = Thread::start().map_err(unavailable)?;
        let shared = thread.spawn(Shared::open(config)).await??;
        Ok(Self {
            shared: Arc::new(shared),
            thread,
            publications: Semaphore::new(PUBLICATIONS),
            reads: Semaphore::new(READS),
            checks: Semaphore::new(CHECKS),
        })
    }

    /// Runs an operation on the thread, when there is a permit for it. The operation gets the time
    /// until which it may take.
    async fn run<T, F>(
        &self,
        permits: &Semaphore,
        operation: impl FnOnce(Arc<Shared>, Instant) -> F,
    ) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        let permit = async { Some(permits.acquire().await) };
        let late = async {
            Timer::after(LONGEST_WAIT).await;
            None
        };
        let Some(_permit) = or(permit, late).await else {
            let why = "too many operations wait for NATS";
            return Err(StorageError::new(StorageErrorKind::Unavailable, why));
        };
        // Not from the call on: an operation that had to wait would not have time left.
        let until = self.shared.deadline();
        self.thread.spawn(operation(Arc::clone(&self.shared), until)).await?
    }
}

impl fmt::Debug for NatsStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStorage").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Storage for NatsStorage {
    fn epoch(&self) -> String {
        self.shared.epoch()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(self.run(&self.checks, |shared, until| async move {
            loop {
                match shared.last_position(until).await {
                    Err(failure) if failure.is_lost() && shared.pause(until).await => {}
                    result => return Ok(result?),
                }
            }
        }))
    }

    fn is_assigned(&self, position: u64) -> StorageFuture<'_, bool> {
        Box::pin(async move {
            let check = |shared: Arc<Shared>, until| async move {
                loop {
                    match shared.is_assigned(position, until).await {
                        Err(failure) if failure.is_lost() && shared.pause(until).await => {}
                        result => return Ok(result?),
                    }
                }
            };
            let start = Instant::now();
            loop {
                if let Some(is_assigned) = self.shared.is_recent(position) {
                    return Ok(is_assigned);
                }
                match self.run(&self.checks, check).await? {
                    Some(is_assigned) => return Ok(is_assigned),
                    None if start.elapsed() >= SETTLED => return Ok(false),
                    // The permit has been released.
                    None => Timer::after(SETTLED / 10).await,
                };
            }
        })
    }

    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(self.run(&self.publications, |shared, until| shared.append(event, until)))
    }

    fn append_all(
        &self,
        events: Vec<NewEvent>,
    ) -> StorageFuture<'_, Vec<Result<Appended, StorageError>>> {
        Box::pin(self.run(&self.publications, |shared, until| async move {
            Ok(shared.append_all(events, until).await)
        }))
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        let topic = topic.to_owned();
        Box::pin(self.run(&self.reads, move |shared, until| async move {
            shared.page(&topic, after, limit, until).await
        }))
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        let topic = topic.to_owned();
        Box::pin(self.run(&self.reads, move |shared, until| async move {
            shared.bounds(&topic, until).await
        }))
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        let (topic, id) = (topic.into(), id.into());
        Box::pin(self.run(&self.reads, |shared, until| shared.find(topic, id, until)))
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        let after = after.map(str::to_owned);
        Box::pin(self.run(&self.reads, move |shared, until| shared.list(after, limit, until)))
    }

    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>> {
        let topic = topic.into();
        Box::pin(self.run(&self.publications, |shared, until| shared.delete(topic, until)))
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (sender, receiver) = channel::bounded(FEED);
        let shared = Arc::clone(&self.shared);
        let epoch = shared.epoch();
        self.thread.spawn_detached(Follower::new(shared, after, epoch, sender).run());
        Box::pin(receiver)
    }

    fn status(&self, position: u64) -> StorageStatus {
        let progress = &self.shared.progress;
        StorageStatus {
            lag: Some(progress.after(Place::of(position).last_included())),
            reconnects: Some(self.shared.api.link.state().reconnects),
            resumes: Some(progress.resumes()),
        }
    }
}
