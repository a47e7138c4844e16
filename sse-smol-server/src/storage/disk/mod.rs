//! Events in a file.
//!
//! A [`DiskStorage`] keeps the events of topics in one file of the engine redb, in a directory of
//! its own, which only one process can use. It needs the feature `disk`.
//!
//! With [`Sync::Always`], an event is written durably before its publication is answered and before
//! subscribers get it. So neither a crash of the process nor a power cut loses an event that was
//! acknowledged or delivered. Publications that wait at the same time share one write.
//!
//! With [`Sync::Interval`], events are acknowledged and delivered first, and stay in memory until
//! they are written together, at an interval or when they take 8 MiB. An unclean end, such as a
//! crash, loses the events since the last write. The storage then has a new
//! [epoch](crate::storage::Storage::epoch) at the next start, so that the ID of a lost event is
//! unknown and not assigned to another event.
//!
//! If a write fails, for example because the disk is full, publications return the error. The file
//! is opened again, at most once a second, and the events in memory are written then. If the file
//! has lost events, subscribers get a gap event, as after an unclean end.
//!
//! Events beyond the bounds are dropped from the file, which reuses their space. A damaged file is
//! refused; with [`DiskConfig::recover`], its intact events are copied to a new one. If the damage
//! has destroyed the list of dropped and deleted events, some of those may reappear.
//!
//! If the end was unclean and only the last write is damaged, for example by a disk that reported it
//! as durable too early, the file is opened without that write. This cannot be distinguished from a
//! write that was interrupted. At each start, positions continue after those that such a write may
//! have used.
//!
//! ```
//! use std::sync::Arc;
//!
//! use smol::Executor;
//! use sse_smol_server::storage::disk::{DiskConfig, DiskStorage};
//! use sse_smol_server::{Publication, Start, Topics, TopicsConfig};
//!
//! # let directory = std::env::temp_dir().join(format!("sse-disk-doc-{}", std::process::id()));
//! let mut ids: Vec<String> = Vec::new();
//! for run in ["first", "second"] {
//!     let storage = DiskStorage::open(DiskConfig::new(&directory))?;
//!     let executor = Executor::new();
//!     smol::block_on(executor.run(async {
//!         let (topics, feed) = Topics::open(TopicsConfig::default(), Arc::new(storage)).await?;
//!         executor.spawn(feed).detach();
//!         // The ID from the first run is known in the second one.
//!         if let Some(id) = ids.first() {
//!             let mut subscription = topics.subscribe(&["news"], Start::After(id)).await?;
//!             topics.publish("news", Publication::new(run)).await?;
//!             assert!(subscription.next_batch().await.unwrap()[0].encoded().ends_with(b"second\n\n"));
//!         } else {
//!             let new = Publication::new(run);
//!             ids.push(topics.publish("news", new).await?.id);
//!         }
//!         Ok::<(), sse_smol_server::TopicError>(())
//!     }))?;
//! }
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod config;
mod file;
mod index;
mod new_file;
mod place;
mod record;
mod salvage;
mod shared;
mod tables;
mod unwritten;
mod writer;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use smol::channel::{self, Receiver, Sender, WeakSender};
use smol::lock::Semaphore;
use smol::stream;

use self::file::File;
use self::index::BATCH_EVENTS;
use self::shared::{Followed, Shared};
use self::writer::{Command, Writer};
use super::{
    Appended, Bounds, Change, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStream, TopicSummary, ends_batch, not_published,
};

pub use self::config::{DiskConfig, Sync};

/// A storage in a file: see the [module](self).
///
/// Dropping it writes the remaining events, and closes the file.
#[derive(Debug)]
pub struct DiskStorage {
    shared: Arc<Shared>,
    commands: Option<Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    /// The channels to the followers, to be closed.
    followers: Mutex<Vec<WeakSender<Followed>>>,
    /// A permit for each page that may be read concurrently. Reading blocks a thread, which holds the
    /// permit until the page is read, even if its future was dropped.
    readers: Arc<Semaphore>,
}

/// The maximum number of commands that wait for the writer. Further publications wait before they
/// are queued.
const QUEUE: usize = 1024;

/// The maximum number of pages that are read at the same time.
const READERS: usize = 4;

/// The maximum number of batches of changes that the feed is behind the writer.
const FEED: usize = 1;

impl DiskStorage {
    /// Opens the file in a directory, or creates it. Blocks while it is read: all events, after an
    /// unclean end twice.
    ///
    /// # Errors
    ///
    /// An error of the kind [`Damaged`](StorageErrorKind::Damaged) if the file is damaged, and
    /// otherwise [`Unavailable`](StorageErrorKind::Unavailable): if the directory cannot be used,
    /// or another process uses the file.
    pub fn open(config: DiskConfig) -> Result<Self, StorageError> {
        let is_lossy = config.sync != Sync::Always;
        let (file, loaded) = File::open(&config.directory, config.recover, is_lossy)?;
        let shared = Arc::new(Shared::new(file, loaded.index, loaded.epoch));
        let (commands, queue) = channel::bounded(QUEUE);
        let writer = Writer::new(Arc::clone(&shared), queue, config);
        let writer = thread::Builder::new().name("sse-disk".to_owned()).spawn(|| writer.run());
        let writer =
            writer.map_err(|error| StorageError::new(StorageErrorKind::Unavailable, error))?;
        Ok(Self {
            shared,
            commands: Some(commands),
            writer: Some(writer),
            followers: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS)),
        })
    }

    /// Returns the number of events that can be read: those in the file, and those that are not
    /// written yet.
    pub fn events(&self) -> usize {
        self.shared.index().len()
    }

    async fn command(&self, command: Command) -> Result<(), StorageError> {
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command).await.map_err(|_| gone())
    }
}

/// Returns the error of operations after the thread that writes has ended.
fn gone() -> StorageError {
    StorageError::new(StorageErrorKind::Unavailable, "the writer has ended")
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        // The writer may wait for a follower that is not polled any more, such as one whose task
        // drops this storage.
        let followers = self.followers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for follower in followers.iter().filter_map(WeakSender::upgrade) {
            follower.close();
        }
        // The writer ends after the commands in the queue.
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            log::error!("the thread that writes events has panicked");
        }
        // Waits for the threads that still read a page, since they have the file open.
        let readers = (0..READERS).map(|_| self.readers.acquire_arc_blocking());
        drop(readers.collect::<Vec<_>>());
    }
}

impl Storage for DiskStorage {
    fn epoch(&self) -> String {
        self.shared.epoch().clone()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(async {
            self.shared.check()?;
            Ok(self.shared.index().last_position)
        })
    }

    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async {
            let (reply, replied) = channel::bounded(1);
            self.command(Command::Append(vec![(event, reply)])).await?;
            replied.recv().await.map_err(|_| gone())?
        })
    }

    fn append_all(
        &self,
        events: Vec<NewEvent>,
    ) -> StorageFuture<'_, Vec<Result<Appended, StorageError>>> {
        Box::pin(async {
            let mut results = Vec::with_capacity(events.len());
            let mut events = events.into_iter().peekable();
            // Each part is one transaction, so none of its events is stored after one that failed.
            while events.peek().is_some() && !results.iter().any(ends_batch) {
                let (new, replies): (Vec<_>, Vec<_>) = events
                    .by_ref()
                    .take(BATCH_EVENTS)
                    .map(|event| {
                        let (reply, replied) = channel::bounded(1);
                        ((event, reply), replied)
                    })
                    .unzip();
                self.command(Command::Append(new)).await?;
                for reply in replies {
                    results.push(reply.recv().await.unwrap_or_else(|_| Err(gone())));
                }
            }
            results.extend(events.map(|_| Err(not_published())));
            Ok(results)
        })
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        Box::pin(async move {
            let permit = self.readers.acquire_arc().await;
            let (shared, topic) = (Arc::clone(&self.shared), topic.to_owned());
            smol::unblock(move || {
                let page = shared.read(&topic, after, limit);
                // Before the permit: see `drop`.
                drop(shared);
                drop(permit);
                page
            })
            .await
        })
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        Box::pin(async { Ok(self.shared.index().bounds(topic)) })
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async { Ok(self.shared.index().by_id(topic, id)) })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move { Ok(self.shared.index().list(after, limit)) })
    }

    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async {
            let (reply, replied) = channel::bounded(1);
            self.command(Command::Delete { topic: topic.into(), reply }).await?;
            replied.recv().await.map_err(|_| gone())?
        })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (events, receiver) = channel::bounded(FEED);
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| follower.upgrade().is_some());
        followers.push(events.downgrade());
        drop(followers);
        // Weak, so that a stream that is not polled does not keep the writer from ending.
        let commands = self.commands.as_ref().map(Sender::downgrade);
        let begun = async move {
            if let Some(commands) = commands.and_then(|commands| commands.upgrade()) {
                // If this fails, the writer has ended, and the stream ends, too.
                let _ = commands.send(Command::Follow { after, events }).await;
            }
            receiver
        };
        Box::pin(stream::unfold(Following::New(Box::pin(begun)), next))
    }
}

/// The state of a stream of changes.
enum Following {
    /// The writer has not added the follower yet.
    New(smol::future::Boxed<Receiver<Followed>>),
    /// Changes that were received and not returned yet, and the channel for further ones.
    Open(VecDeque<Change>, Receiver<Followed>),
}

async fn next(following: Following) -> Option<(Result<Change, StorageError>, Following)> {
    let (mut changes, receiver) = match following {
        Following::New(begun) => (VecDeque::new(), begun.await),
        Following::Open(changes, receiver) => (changes, receiver),
    };
    loop {
        if let Some(change) = changes.pop_front() {
            return Some((Ok(change), Following::Open(changes, receiver)));
        }
        match receiver.recv().await.ok()? {
            Ok(more) => changes = more.into(),
            Err(error) => return Some((Err(error), Following::Open(changes, receiver))),
        }
    }
}
