// A storage in memory: the smallest complete implementation. It holds the newest events of each
// topic in one log, which it searches from the start, and loses them with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard};

use smol::channel::{self, Sender};
use smol::stream::StreamExt as _;
use sse_smol_server::storage::{
    Appended, Bounds, Change, EventRef, NewEvent, Page, PageLimit, Storage, StorageFuture,
    StorageStream, StoredEvent, TopicSummary,
};

/// A storage that holds at most `most` events of each topic.
#[derive(Debug)]
pub(crate) struct MemoryStorage {
    most: usize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    last_position: u64,
    events: Vec<Held>,
    /// For each topic, the position of the last event that was dropped.
    dropped: BTreeMap<Arc<str>, u64>,
    /// Where new changes go. Unbounded, since the feed takes each one at once.
    followers: Vec<Sender<Change>>,
}

/// The topic of an event, its key, and the event.
#[derive(Debug)]
struct Held(Arc<str>, Option<Box<str>>, StoredEvent);

impl MemoryStorage {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, log: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while this lock is held")
    }
}

impl Log {
    fn of(&self, topic: &str) -> impl DoubleEndedIterator<Item = &Held> {
        self.events.iter().filter(move |held| *held.0 == *topic)
    }

    fn bounds(&self, topic: &str) -> Bounds {
        Bounds {
            dropped: self.dropped.get(topic).copied().unwrap_or(0),
            first: self.of(topic).next().map(|held| EventRef::from(&held.2)),
            last: self.of(topic).next_back().map(|held| EventRef::from(&held.2)),
        }
    }

    fn drop_up_to(&mut self, topic: &Arc<str>, position: u64) {
        self.events.retain(|held| held.0 != *topic || held.2.position > position);
        self.dropped.insert(Arc::clone(topic), position);
    }

    /// Sends a change at the next position, and returns the position.
    fn advance(&mut self, change: &Change) -> u64 {
        self.followers.retain(|follower| follower.try_send(change.clone()).is_ok());
        self.last_position += 1;
        self.last_position
    }
}

/// An operation is complete when its future is created.
fn done<'a, T: Send + 'a>(output: T) -> StorageFuture<'a, T> {
    Box::pin(ready(Ok(output)))
}

impl Storage for MemoryStorage {
    fn epoch(&self) -> String {
        "memory".to_owned()
    }

    fn last_position(&self) -> StorageFuture<'_, u64> {
        done(self.log().last_position)
    }

    fn append(&self, new: NewEvent) -> StorageFuture<'_, Appended> {
        let NewEvent { topic, fields, id, key, .. } = new;
        let mut log = self.log();
        if let Some(Held(.., known)) = log.of(&topic).find(|held| key.is_some() && held.1 == key) {
            let is_same = known.fields == fields && known.id == id;
            return done(if is_same {
                Appended::Duplicate(known.position)
            } else {
                Appended::KeyInUse(known.into())
            });
        }
        if log.of(&topic).any(|held| id.is_some() && held.2.id == id) {
            return done(Appended::IdInUse);
        }
        let event = StoredEvent { position: log.last_position + 1, fields, id };
        log.events.push(Held(Arc::clone(&topic), key, event.clone()));
        let excess = log.of(&topic).rev().nth(self.most).map(|held| held.2.position);
        if let Some(position) = excess {
            log.drop_up_to(&topic, position);
        }
        done(Appended::New(log.advance(&Change::Appended { topic, event })))
    }

    fn read<'a>(&'a self, topic: &'a str, after: u64, limit: PageLimit) -> StorageFuture<'a, Page> {
        let log = self.log();
        let Bounds { last, dropped, .. } = log.bounds(topic);
        let mut bytes = 0;
        let has_room = |event: &&StoredEvent| {
            let has_room = bytes == 0 || bytes < limit.bytes;
            bytes += event.fields.len();
            has_room
        };
        let later = log.of(topic).map(|held| &held.2).filter(|event| event.position > after);
        let events: Vec<_> =
            later.take(limit.events.max(1)).take_while(has_room).cloned().collect();
        let end = last.map(|last| last.position);
        let is_last = events.last().is_none_or(|event| Some(event.position) == end);
        done(Page { events, is_last, dropped })
    }

    fn bounds<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Bounds> {
        done(self.log().bounds(topic))
    }

    fn find<'a>(&'a self, topic: &'a str, id: &'a str) -> StorageFuture<'a, Option<u64>> {
        let log = self.log();
        let found = log.of(topic).find(|held| held.2.id.as_deref() == Some(id));
        done(found.map(|held| held.2.position))
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> StorageFuture<'a, Vec<TopicSummary>> {
        let log = self.log();
        let names: BTreeSet<_> = log.events.iter().map(|held| Arc::clone(&held.0)).collect();
        let later = names.into_iter().filter(|name| after.is_none_or(|after| **name > *after));
        let row = |name: Arc<str>| TopicSummary {
            events: log.of(&name).count(),
            bytes: log.of(&name).map(|held| held.2.fields.len()).sum(),
            last: log.bounds(&name).last,
            name,
        };
        done(later.take(limit).map(row).collect())
    }

    fn delete<'a>(&'a self, topic: &'a str) -> StorageFuture<'a, Option<u64>> {
        let mut log = self.log();
        let Some(Held(topic, _, last)) = log.of(topic).next_back() else { return done(None) };
        let (topic, last) = (Arc::clone(topic), last.position);
        log.drop_up_to(&topic, last);
        let position = log.last_position + 1;
        done(Some(log.advance(&Change::Deleted { topic, position })))
    }

    fn follow(&self, after: u64) -> StorageStream {
        let (sender, changes) = channel::unbounded();
        let mut log = self.log();
        let stored = log.events.iter().filter(|held| held.2.position > after);
        let reached = stored.clone().last().map_or(after, |held| held.2.position);
        let stored = stored.map(|Held(topic, _, event)| Change::Appended {
            topic: Arc::clone(topic),
            event: event.clone(),
        });
        // What came after the last event is a deletion, which is no longer of interest.
        let position = log.last_position;
        let rest = (reached < position).then_some(Change::Skipped { position });
        for change in stored.chain(rest) {
            sender.try_send(change).expect("the receiver is here");
        }
        log.followers.push(sender);
        Box::pin(changes.map(Ok))
    }
}
