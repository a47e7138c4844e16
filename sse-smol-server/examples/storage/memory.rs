// A storage in memory: the smallest complete implementation. It holds the newest events of each
// topic, and loses them with the process, so it shows the contract and serves as a base for tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use smol::channel::{self, Receiver, Sender};
use smol::stream;
use sse_smol_server::storage::{
    Appended, Bounds, Change, EventRef, NewEvent, Page, PageLimit, Storage, StorageError,
    StorageErrorKind, StorageFuture, StorageStream, StoredEvent, TopicSummary,
};

/// A storage that holds at most a number of events for each topic.
#[derive(Debug)]
pub(crate) struct MemoryStorage {
    most: usize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last_position: u64,
    topics: BTreeMap<Arc<str>, Topic>,
    /// Where new changes go. Unbounded, since the feed takes one in a moment.
    followers: Vec<Sender<Change>>,
}

#[derive(Debug, Default)]
struct Topic {
    events: VecDeque<(StoredEvent, Option<Box<str>>)>,
    dropped: u64,
    /// The position of the last deletion.
    deleted: u64,
}

impl MemoryStorage {
    /// Creates a storage for at most `most` events of each topic.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, log: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while this lock is held")
    }

    fn append_now(&self, new: NewEvent) -> Appended {
        let NewEvent { topic: name, fields, id, key, .. } = new;
        let mut log = self.log();
        let position = log.last_position + 1;
        let topic = log.topics.entry(Arc::clone(&name)).or_default();
        let repeated = topic.events.iter().find(|(_, known)| key.is_some() && *known == key);
        if let Some((event, _)) = repeated {
            let is_same = event.fields == fields && event.id == id;
            return if is_same {
                Appended::Duplicate(event.position)
            } else {
                Appended::KeyInUse(reference(event))
            };
        }
        if id.is_some() && topic.events.iter().any(|(event, _)| event.id == id) {
            return Appended::IdInUse;
        }
        let event = StoredEvent { position, fields, id };
        topic.events.push_back((event.clone(), key));
        if topic.events.len() > self.most {
            topic.dropped = topic.events.pop_front().map_or(0, |(event, _)| event.position);
        }
        log.last_position = position;
        log.send(&Change::Appended { topic: name, event });
        Appended::New(position)
    }

    fn delete_now(&self, name: &str) -> Option<u64> {
        let mut log = self.log();
        let position = log.last_position + 1;
        let (name, topic) = log.topics.get_key_value(name)?;
        let last = topic.events.back()?.0.position;
        let name = Arc::clone(name);
        // The position of the last event stays: subscribers that have not read it get a gap event.
        let deleted = Topic { dropped: last, deleted: position, ..Topic::default() };
        log.topics.insert(Arc::clone(&name), deleted);
        log.last_position = position;
        log.send(&Change::Deleted { topic: name, position });
        Some(position)
    }
}

impl Log {
    fn send(&mut self, change: &Change) {
        self.followers.retain(|follower| follower.try_send(change.clone()).is_ok());
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new(1000)
    }
}

fn reference(event: &StoredEvent) -> EventRef {
    EventRef { position: event.position, id: event.id.clone() }
}

impl Topic {
    fn bounds(&self) -> Bounds {
        Bounds {
            dropped: self.dropped,
            first: self.events.front().map(|(event, _)| reference(event)),
            last: self.events.back().map(|(event, _)| reference(event)),
        }
    }

    fn page(&self, after: u64, limit: PageLimit) -> Page {
        let start = self.events.partition_point(|(event, _)| event.position <= after);
        let mut events = Vec::new();
        let mut bytes = 0;
        for (event, _) in self.events.range(start..) {
            if !events.is_empty() && (events.len() >= limit.events || bytes >= limit.bytes) {
                break;
            }
            bytes += event.fields.len();
            events.push(event.clone());
        }
        let is_last = start + events.len() == self.events.len();
        Page { events, is_last, dropped: self.dropped }
    }
}

impl Storage for MemoryStorage {
    fn epoch(&self) -> String {
        "memory".to_owned()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        Box::pin(async { Ok(self.log().last_position) })
    }

    fn append(&self, event: NewEvent) -> StorageFuture<'_, Appended> {
        Box::pin(async { Ok(self.append_now(event)) })
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        Box::pin(async move {
            let log = self.log();
            let none = Page { is_last: true, ..Page::default() };
            Ok(log.topics.get(topic).map_or(none, |topic| topic.page(after, limit)))
        })
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        Box::pin(async { Ok(self.log().topics.get(topic).map(Topic::bounds).unwrap_or_default()) })
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async move {
            let log = self.log();
            let mut events = log.topics.get(topic).into_iter().flat_map(|topic| &topic.events);
            let found = events.find(|(event, _)| event.id.as_deref() == Some(id));
            Ok(found.map(|(event, _)| event.position))
        })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move {
            let log = self.log();
            let later =
                log.topics.iter().filter(|(name, _)| after.is_none_or(|after| &***name > after));
            let later = later.filter(|(_, topic)| !topic.events.is_empty());
            let row = |(name, topic): (&Arc<str>, &Topic)| TopicSummary {
                name: Arc::clone(name),
                events: topic.events.len(),
                bytes: topic.events.iter().map(|(event, _)| event.fields.len()).sum(),
                last: topic.bounds().last,
            };
            Ok(later.take(limit).map(row).collect())
        })
    }

    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>> {
        Box::pin(async move { Ok(self.delete_now(topic)) })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (sender, receiver) = channel::unbounded();
        let mut log = self.log();
        let mut stored = BTreeMap::new();
        for (name, topic) in &log.topics {
            let deleted = Change::Deleted { topic: Arc::clone(name), position: topic.deleted };
            stored.insert(topic.deleted, deleted);
            for (event, _) in &topic.events {
                let appended = Change::Appended { topic: Arc::clone(name), event: event.clone() };
                stored.insert(event.position, appended);
            }
        }
        for change in stored.split_off(&(after + 1)).into_values() {
            sender.try_send(change).expect("the receiver is here");
        }
        log.followers.push(sender);
        Box::pin(stream::unfold(receiver, next))
    }
}

type Item = Result<Change, StorageError>;

async fn next(receiver: Receiver<Change>) -> Option<(Item, Receiver<Change>)> {
    let gone = |error: channel::RecvError| StorageError::new(StorageErrorKind::Unavailable, error);
    let change = receiver.recv().await.map_err(gone);
    Some((change, receiver))
}
