// A storage in memory: the smallest complete implementation. It holds the newest events of each
// topic, and loses them with the process, so it shows the contract and serves as a base for tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use smol::channel::{self, Receiver, Sender};
use smol::stream;
use sse_smol_server::storage::{
    Appended, Bounds, EventRef, NewEvent, Page, PageLimit, Storage, StorageError, StorageErrorKind,
    StorageFuture, StorageStream, StoredEvent, TopicSummary,
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
    /// Where new events go. Unbounded, since the feed takes an event in a moment.
    followers: Vec<Sender<(Arc<str>, StoredEvent)>>,
}

#[derive(Debug, Default)]
struct Topic {
    events: VecDeque<(StoredEvent, Option<Box<str>>)>,
    dropped: u64,
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
        log.followers
            .retain(|follower| follower.try_send((Arc::clone(&name), event.clone())).is_ok());
        Appended::New(position)
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
            let row = |(name, topic): (&Arc<str>, &Topic)| TopicSummary {
                name: Arc::clone(name),
                events: topic.events.len(),
                bytes: topic.events.iter().map(|(event, _)| event.fields.len()).sum(),
                last: topic.bounds().last,
            };
            Ok(later.take(limit).map(row).collect())
        })
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (sender, receiver) = channel::unbounded();
        let mut log = self.log();
        let mut stored: Vec<_> = Vec::new();
        for (name, topic) in &log.topics {
            let events = topic.events.iter().filter(|(event, _)| event.position > after);
            stored.extend(events.map(|(event, _)| (Arc::clone(name), event.clone())));
        }
        stored.sort_unstable_by_key(|(_, event)| event.position);
        for event in stored {
            sender.try_send(event).expect("the receiver is here");
        }
        log.followers.push(sender);
        Box::pin(stream::unfold(receiver, next))
    }
}

type Item = Result<(Arc<str>, StoredEvent), StorageError>;

async fn next(
    receiver: Receiver<(Arc<str>, StoredEvent)>,
) -> Option<(Item, Receiver<(Arc<str>, StoredEvent)>)> {
    let gone = |error: channel::RecvError| StorageError::new(StorageErrorKind::Unavailable, error);
    let event = receiver.recv().await.map_err(gone);
    Some((event, receiver))
}
