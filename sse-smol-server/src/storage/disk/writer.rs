//! The thread that writes: takes queued events, writes them in one transaction, and answers their
//! publishers.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redb::Durability;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{block_on, or};

use super::config::{DiskConfig, Sync};
use super::file::File;
use super::index::{BATCH_EVENTS, Removals};
use super::record::Record;
use super::shared::{Followed, Shared};
use crate::storage::{
    Appended, Change, EventRef, NewEvent, StorageError, StorageErrorKind, StoredEvent,
};

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Appends an event.
    Append { event: NewEvent, reply: Reply },
    /// Deletes all events of a topic.
    Delete { topic: Arc<str>, reply: Sender<Result<Option<u64>, StorageError>> },
    /// Sends the events after a position, and from then on each new change.
    Follow { after: u64, events: Sender<Followed> },
    /// Drops old events.
    Tick,
}

/// The size in bytes at which a transaction is complete.
const BATCH_BYTES: usize = 8 << 20;

/// The interval at which old events are dropped.
const TICK: Duration = Duration::from_secs(1);

/// The minimum time between two attempts to open the file again after a failure.
const REOPEN: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: Receiver<Command>,
    config: DiskConfig,
    followers: Vec<Sender<Followed>>,
    /// The topic of the last position, once one was assigned in this run.
    last_topic: Option<Arc<str>>,
    /// A deletion that failed: its topic and position. It may have reached the file nevertheless.
    deleting: Option<(Arc<str>, u64)>,
    /// Events that are no longer in the index and still in the file. They are removed from it in
    /// the next transaction. If the process ends before that, the next start drops them again.
    dropped: Removals,
    /// The time since when there are events that have not been written durably.
    since: Option<Instant>,
    /// The time of the last attempt to open it again.
    attempt: Option<Instant>,
}

/// A sender for the answer to a publication.
type Reply = Sender<Result<Appended, StorageError>>;

/// An event of a batch.
struct Pending {
    event: NewEvent,
    position: u64,
    reply: Reply,
}

impl Pending {
    fn record(&self, time: u64) -> Record<'_> {
        let NewEvent { topic, fields, id, key } = &self.event;
        Record { topic, id: id.as_deref(), key: key.as_deref(), time, fields }
    }
}

impl Writer {
    /// Creates a writer, and applies the bounds to the events in the file.
    pub(super) fn new(shared: Arc<Shared>, queue: Receiver<Command>, config: DiskConfig) -> Self {
        let mut writer = Self {
            shared,
            queue,
            config,
            followers: Vec::new(),
            last_topic: None,
            deleting: None,
            dropped: Removals::default(),
            since: None,
            attempt: None,
        };
        writer.apply_all_bounds();
        writer
    }

    /// Runs until all senders of commands are gone.
    pub(super) fn run(mut self) {
        while let Some(command) = self.next() {
            let is_tick = matches!(command, Command::Tick);
            let batch = self.batch(command);
            self.append(batch);
            let is_late = self.until_sync().is_some_and(|left| left.is_zero());
            if is_late || is_tick && !self.dropped.is_empty() {
                self.flush();
            }
        }
        self.flush();
        if self.shared.check().is_ok()
            && let Err(error) = self.with_file(File::mark_clean)
        {
            log::error!("{error}");
        }
    }

    /// Returns the time until events have to be written durably, if there are any.
    fn until_sync(&self) -> Option<Duration> {
        match self.config.sync {
            Sync::Interval(interval) => Some(interval.saturating_sub(self.since?.elapsed())),
            Sync::Always => None,
        }
    }

    /// Waits for a command, or for the next tick. Returns `None` when there are no more.
    fn next(&self) -> Option<Command> {
        let tick = self.until_sync().map_or(TICK, |left| left.min(TICK));
        let command = async { self.queue.recv().await.ok() };
        let tick = async {
            Timer::after(tick).await;
            Some(Command::Tick)
        };
        block_on(or(command, tick))
    }

    /// Takes the events that are queued. Requests to follow are served on the way.
    fn batch(&mut self, first: Command) -> Vec<(NewEvent, Reply)> {
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append { event, reply } => {
                    bytes += event.fields.len();
                    events.push((event, reply));
                }
                Command::Delete { topic, reply } => {
                    let before = mem::take(&mut events);
                    self.append(before);
                    // The publisher may have left.
                    let _ = reply.try_send(self.delete(&topic));
                }
                // Events before this command are stored, and later ones are new to the follower.
                Command::Follow { after, events: follower } => {
                    let before = mem::take(&mut events);
                    self.append(before);
                    self.follow(after, follower);
                }
                Command::Tick => {
                    // Also without a publication: a server that is not ready may get none.
                    if let Err(error) = self.reopen() {
                        log::debug!("{error}");
                    }
                    self.apply_bounds(&[]);
                }
            }
            let has_room = events.len() < BATCH_EVENTS && bytes < BATCH_BYTES;
            next = if has_room { self.queue.try_recv().ok() } else { None };
        }
        events
    }

    fn follow(&mut self, after: u64, follower: Sender<Followed>) {
        let positions = self.with_file(|file| file.positions_after(after));
        let stored = positions.and_then(|positions| self.stored(&positions));
        match stored {
            Ok(mut changes) => {
                let last_position = self.shared.index().last_position;
                // The last event has been dropped, or the last change is a deletion.
                let sent = changes.last().map_or(after, position);
                if let Some(topic) = self.last_topic.clone().filter(|_| sent < last_position) {
                    changes.push(Change::Deleted { topic, position: last_position });
                }
                for change in changes {
                    if follower.send_blocking(Ok(change)).is_err() {
                        return;
                    }
                }
                self.followers.push(follower);
            }
            Err(error) => drop(follower.send_blocking(Err(error))),
        }
    }

    /// Reads events.
    fn stored(&self, positions: &[u64]) -> Result<Vec<Change>, StorageError> {
        let mut events = Vec::new();
        self.with_file(|file| {
            file.read(positions, |position, record| {
                let (topic, event) = (record.topic.into(), record.to_stored(position));
                events.push(Change::Appended { topic, event });
            })
        })?;
        Ok(events)
    }

    fn with_file<T>(
        &self,
        operation: impl FnOnce(&File) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        operation(&self.shared.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends events in one transaction, and answers their publishers.
    fn append(&mut self, batch: Vec<(NewEvent, Reply)>) {
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.reopen() {
            for (_, reply) in batch {
                let _ = reply.try_send(Err(error.clone()));
            }
            return;
        }
        let (mut pending, repeated) = self.place(batch);
        let time = now();
        let mut records = Vec::with_capacity(pending.len());
        pending.retain(|one| {
            let record = one.record(time).encode();
            let is_encoded = record.is_some();
            if !is_encoded {
                let why = "the idempotency key is longer than 65534 bytes";
                let error = StorageError::new(StorageErrorKind::TooLarge, why);
                let _ = one.reply.try_send(Err(error));
            }
            records.extend(record.map(|record| (one.position, record)));
            is_encoded
        });
        let written = match records.last() {
            Some((last, _)) => self.write(&records, *last, self.durability()),
            None => Ok(()),
        };
        if let Err(error) = written {
            for Pending { reply, .. } in pending {
                let _ = reply.try_send(Err(error.clone()));
            }
        } else {
            self.make_visible(pending, time);
        }
        // After the events before them: a repeated publication may be one of those.
        for (event, reply) in repeated {
            let outcome = self.outcome(&event);
            let _ = reply.try_send(outcome);
        }
    }

    /// Deletes all events of a topic in one transaction.
    fn delete(&mut self, topic: &Arc<str>) -> Result<Option<u64>, StorageError> {
        self.reopen()?;
        let index = self.shared.index();
        if !index.holding(topic).1 {
            return Ok(None);
        }
        let position = index.next_position();
        index.list_events(topic, &mut self.dropped);
        drop(index);
        // The index is changed after the file, so that nothing is missing there if this fails.
        if let Err(error) = self.write(&[], position, self.durability()) {
            self.deleting = Some((Arc::clone(topic), position));
            return Err(error);
        }
        self.shared.index().delete(topic, position, &mut self.dropped);
        self.last_topic = Some(Arc::clone(topic));
        self.send(&Change::Deleted { topic: Arc::clone(topic), position });
        Ok(Some(position))
    }

    /// Returns how durably a change is written before it is answered.
    fn durability(&self) -> Durability {
        match self.config.sync {
            Sync::Always => Durability::Immediate,
            Sync::Interval(_) => Durability::None,
        }
    }

    /// Assigns positions to events that are new, and returns the others apart.
    fn place(&self, batch: Vec<(NewEvent, Reply)>) -> (Vec<Pending>, Vec<(NewEvent, Reply)>) {
        let index = self.shared.index();
        let mut next = index.next_position();
        // What the events of the batch itself will use.
        let mut keys = HashSet::new();
        let mut ids = HashSet::new();
        let mut topics = HashSet::new();
        let (mut pending, mut repeated) = (Vec::new(), Vec::new());
        for (event, reply) in batch {
            let topic = &event.topic;
            let is_repeated = event.key.as_deref().is_some_and(|key| {
                index.by_key(topic, key).is_some()
                    || keys.contains(&(Arc::clone(topic), key.to_owned()))
            }) || event.id.as_deref().is_some_and(|id| {
                index.by_id(topic, id).is_some()
                    || ids.contains(&(Arc::clone(topic), id.to_owned()))
            });
            let (holding, is_held) = index.holding(topic);
            let is_full = !is_held
                && !topics.contains(topic)
                && holding + topics.len() >= self.config.max_topics;
            if is_repeated || is_full {
                repeated.push((event, reply));
                continue;
            }
            if !is_held {
                topics.insert(Arc::clone(topic));
            }
            if let Some(key) = event.key.as_deref() {
                keys.insert((Arc::clone(topic), key.to_owned()));
            }
            if let Some(id) = event.id.as_deref() {
                ids.insert((Arc::clone(topic), id.to_owned()));
            }
            pending.push(Pending { event, position: next, reply });
            next += 1;
        }
        (pending, repeated)
    }

    /// Returns the outcome for an event that is not appended.
    fn outcome(&self, event: &NewEvent) -> Result<Appended, StorageError> {
        let NewEvent { topic, fields, id, key } = event;
        let index = self.shared.index();
        let known = key.as_deref().and_then(|key| index.by_key(topic, key));
        let has_id = id.as_deref().is_some_and(|id| index.by_id(topic, id).is_some());
        let (holding, is_held) = index.holding(topic);
        drop(index);
        if let Some(position) = known {
            let stored = self.stored(&[position])?;
            if let Some(Change::Appended { event: stored, .. }) = stored.into_iter().next() {
                let is_same = stored.fields == *fields && stored.id == *id;
                return Ok(if is_same {
                    Appended::Duplicate(position)
                } else {
                    Appended::KeyInUse(EventRef { position, id: stored.id })
                });
            }
        }
        if has_id {
            return Ok(Appended::IdInUse);
        }
        if !is_held && holding >= self.config.max_topics {
            return Ok(Appended::TooManyTopics(self.config.max_topics));
        }
        // The event that it would have repeated was not written, or has been dropped meanwhile.
        let why = "an event with the same key or ID could not be written";
        Err(StorageError::new(StorageErrorKind::Unavailable, why))
    }

    /// Adds written events to the index, sends them to the followers, and answers the publishers.
    fn make_visible(&mut self, pending: Vec<Pending>, time: u64) {
        let mut index = self.shared.index();
        let mut names = Vec::with_capacity(pending.len());
        for one in &pending {
            names.push(index.push(one.position, &one.record(time)));
        }
        drop(index);
        self.apply_bounds(&names);
        self.last_topic = names.last().map(Arc::clone).or(self.last_topic.take());
        for (Pending { event, position, reply }, topic) in pending.into_iter().zip(names) {
            let stored = StoredEvent { position, fields: event.fields, id: event.id };
            self.send(&Change::Appended { topic, event: stored });
            // The publisher may have left.
            let _ = reply.try_send(Ok(Appended::New(position)));
        }
    }

    fn send(&mut self, change: &Change) {
        self.followers.retain(|follower| follower.send_blocking(Ok(change.clone())).is_ok());
    }

    /// Drops all events that exceed the bounds.
    fn apply_all_bounds(&mut self) {
        let topics = self.shared.index().list(None, usize::MAX);
        let names: Vec<_> = topics.into_iter().map(|topic| topic.name).collect();
        self.apply_bounds(&names);
    }

    /// Drops the events of these topics, and the oldest of all, that exceed the bounds.
    fn apply_bounds(&mut self, topics: &[Arc<str>]) {
        let DiskConfig { history, max_bytes, .. } = &self.config;
        let mut index = self.shared.index();
        let age = u64::try_from(history.age.as_millis()).unwrap_or(u64::MAX);
        index.expire(now().saturating_sub(age), &mut self.dropped);
        for name in topics {
            index.trim(name, history, &mut self.dropped);
        }
        index.evict(*max_bytes, &mut self.dropped);
    }

    /// Writes everything durably, and removes dropped events from the file.
    fn flush(&mut self) {
        if self.shared.check().is_err() || self.since.is_none() && self.dropped.is_empty() {
            return;
        }
        let last = self.shared.index().last_position;
        if self.write(&[], last, Durability::Immediate).is_ok() {
            self.since = None;
        }
    }

    /// Writes records, and removes dropped events, in one transaction. After an error, the file has
    /// to be opened again.
    fn write(
        &mut self,
        records: &[(u64, Vec<u8>)],
        last: u64,
        durability: Durability,
    ) -> Result<(), StorageError> {
        let written = self.with_file(|file| file.write(records, last, &self.dropped, durability));
        match &written {
            Ok(()) => {
                self.dropped = Removals::default();
                if matches!(durability, Durability::None) {
                    self.since.get_or_insert_with(Instant::now);
                }
            }
            Err(error) => {
                log::error!("{error}");
                *self.shared.failure() = Some(error.clone());
            }
        }
        written
    }

    /// Opens the file again after a failure, at most once in [`REOPEN`].
    fn reopen(&mut self) -> Result<(), StorageError> {
        if self.shared.check().is_ok() {
            return Ok(());
        }
        if self.attempt.is_some_and(|attempt| attempt.elapsed() < REOPEN) {
            let why = "it failed a moment ago, and is opened again soon";
            return Err(StorageError::new(StorageErrorKind::Unavailable, why));
        }
        self.attempt = Some(Instant::now());
        let last = self.shared.index().last_position;
        let mut file = self.shared.file.write().unwrap_or_else(PoisonError::into_inner);
        file.reopen()?;
        let loaded = file.load(false, self.config.sync != Sync::Always, Some(last))?;
        drop(file);
        let reached = loaded.index.last_position;
        let is_new = *self.shared.epoch() != loaded.epoch;
        // Before the index: an operation that finds the new one also finds the new epoch.
        self.shared.epoch().clone_from(&loaded.epoch);
        *self.shared.index() = loaded.index;
        self.dropped = Removals::default();
        *self.shared.failure() = None;
        self.since = None;
        log::info!("the file of events was opened again after a failure");
        if is_new {
            log::warn!("events that were not written durably yet are lost");
            self.deleting = None;
            self.last_topic = None;
            self.send(&Change::Reset { epoch: loaded.epoch, position: reached });
            self.apply_all_bounds();
            return Ok(());
        }
        // A write whose failure was reported may have reached the file nevertheless.
        let positions = self.with_file(|file| file.positions_after(last))?;
        for change in self.stored(&positions)? {
            self.send(&change);
        }
        if let Some((topic, position)) = self.deleting.take().filter(|(_, at)| *at <= reached) {
            self.last_topic = Some(Arc::clone(&topic));
            self.send(&Change::Deleted { topic, position });
        }
        self.apply_all_bounds();
        Ok(())
    }
}

/// Returns the position of a change.
const fn position(change: &Change) -> u64 {
    match change {
        Change::Appended { event, .. } => event.position,
        Change::Deleted { position, .. }
        | Change::Dropped { position, .. }
        | Change::AllDropped { position }
        | Change::Skipped { position }
        | Change::Reset { position, .. } => *position,
    }
}

/// Returns the time in milliseconds since 1970.
fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
