// A storage over the log in memory of `log.rs`, which takes the place of a database.

use std::future::ready;
use std::sync::{Arc, Mutex};

use smol::channel;
use sse_smol_server::storage::{
    Appended, Bounds, NewEvent, Page, PageLimit, Storage, StorageFuture, StorageStream,
    TopicSummary,
};

use super::log::Log;

/// A storage that holds the newest events of each topic, and loses them with the process.
#[derive(Debug)]
pub(crate) struct MemoryStorage(Mutex<Log>);

impl MemoryStorage {
    /// Creates a storage for at most `most` events of each topic.
    pub(crate) fn new(most: usize) -> Self {
        Self(Mutex::new(Log::new(most)))
    }

    /// Runs an operation, which is complete when the future is created.
    fn run<'a, T: Send + 'a>(&self, operation: impl FnOnce(&mut Log) -> T) -> StorageFuture<'a, T> {
        Box::pin(ready(Ok(operation(&mut self.0.lock().unwrap()))))
    }
}

impl Storage for MemoryStorage {
    fn epoch(&self) -> String {
        "memory".to_owned()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        self.run(|log| log.last_position)
    }

    fn append(&self, new: NewEvent) -> StorageFuture<'_, Appended> {
        self.run(|log| log.append(new))
    }

    fn read(&self, topic: &str, after: u64, limit: PageLimit) -> StorageFuture<'_, Page> {
        self.run(|log| {
            let mut later = log.of(topic).filter(|event| event.position > after).peekable();
            let (mut events, mut bytes) = (Vec::new(), 0);
            while events.is_empty() || (events.len() < limit.events && bytes < limit.bytes) {
                let Some(event) = later.next() else { break };
                bytes += event.fields.len();
                events.push(event.clone());
            }
            Page { events, is_last: later.peek().is_none(), dropped: log.dropped(topic) }
        })
    }

    fn bounds(&self, topic: &str) -> StorageFuture<'_, Bounds> {
        self.run(|log| Bounds {
            dropped: log.dropped(topic),
            first: log.of(topic).next().map(Into::into),
            last: log.of(topic).next_back().map(Into::into),
        })
    }

    fn find(&self, topic: &str, id: &str) -> StorageFuture<'_, Option<u64>> {
        self.run(|log| Some(log.of(topic).find(|event| event.id.as_deref() == Some(id))?.position))
    }

    fn topics(&self, after: Option<&str>, limit: usize) -> StorageFuture<'_, Vec<TopicSummary>> {
        self.run(|log| {
            let names = log.topics().into_iter();
            let later = names.filter(|name| after.is_none_or(|after| ***name > *after));
            let row = |name| TopicSummary {
                name: Arc::clone(name),
                events: log.of(name).count(),
                bytes: log.of(name).map(|event| event.fields.len()).sum(),
                last: log.of(name).next_back().map(Into::into),
            };
            later.take(limit).map(row).collect()
        })
    }

    fn delete(&self, topic: &str) -> StorageFuture<'_, Option<u64>> {
        self.run(|log| log.delete(topic))
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (sender, changes) = channel::unbounded();
        self.0.lock().unwrap().follow(after, sender);
        Box::pin(changes)
    }
}
