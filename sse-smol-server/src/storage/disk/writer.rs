//! The thread that writes: takes queued events and answers their publishers. It writes the events
//! in one transaction before that, or at an interval after that.

use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::{block_on, or};

use super::config::{DiskConfig, Sync};
use super::index::{BATCH_EVENTS, Removals};
use super::place::{Pending, Placed, Reply, outcome, place};
use super::shared::{Followed, Shared};
use super::tables::BATCH_BYTES;
use super::unwritten::record;
use crate::storage::{Appended, Change, NewEvent, StorageError, StoredEvent};

/// A request to the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// Appends events, at most [`BATCH_EVENTS`], in one transaction.
    Append(Vec<(NewEvent, Reply)>),
    /// Deletes all events of a topic.
    Delete { topic: Arc<str>, reply: Sender<Result<Option<u64>, StorageError>> },
    /// Sends the events after a position, and from then on each new change.
    Follow { after: u64, events: Sender<Followed> },
    /// Drops old events.
    Tick,
}

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
    /// The last position that is in the file.
    written: u64,
    /// The time at which the first of the unwritten events was appended.
    since: Option<Instant>,
    /// The time of the next tick.
    tick: Instant,
    /// The time for which the timer is set, and the timer. It stays set, since setting a timer
    /// wakes another thread.
    timer: (Instant, Timer),
    /// The time before which the file is not opened again.
    next_attempt: Option<Instant>,
}

impl Writer {
    /// Creates a writer, and applies the bounds to the events in the file.
    pub(super) fn new(shared: Arc<Shared>, queue: Receiver<Command>, config: DiskConfig) -> Self {
        let tick = Instant::now() + TICK;
        let written = shared.index().last_position;
        let mut writer = Self {
            shared,
            queue,
            config,
            followers: Vec::new(),
            last_topic: None,
            deleting: None,
            dropped: Removals::default(),
            written,
            since: None,
            tick,
            timer: (tick, Timer::at(tick)),
            next_attempt: None,
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
            let is_due = self.due().is_some_and(|due| due <= Instant::now())
                || self.shared.unwritten().bytes() >= BATCH_BYTES;
            if is_due || is_tick && !self.dropped.is_empty() {
                // The error is logged, and returned by the next operation.
                let _ = self.flush();
            }
        }
        self.finish();
    }

    /// Writes everything, with a second attempt after a failure, and marks the file as complete.
    fn finish(&mut self) {
        let written = self.flush().or_else(|_| {
            self.next_attempt = None;
            self.reopen()
        });
        if let Err(error) = written.and_then(|()| self.shared.file().mark_clean()) {
            let lost = self.shared.unwritten().len();
            log::error!("{error}; {lost} events that were delivered are lost");
        }
    }

    /// Returns the time at which unwritten events have to be written, if there are any.
    fn due(&self) -> Option<Instant> {
        match self.config.sync {
            Sync::Interval(interval) => Some(self.since? + interval),
            Sync::Always => None,
        }
    }

    /// Waits for a command, or for the next tick. Returns `None` when there are no more.
    fn next(&mut self) -> Option<Command> {
        let at = self.due().map_or(self.tick, |due| due.min(self.tick));
        let (set, timer) = &mut self.timer;
        if *set != at {
            timer.set_at(at);
            *set = at;
        }
        let command = async { self.queue.recv().await.ok() };
        let tick = async {
            timer.await;
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
                Command::Append(new) => {
                    if events.len() + new.len() > BATCH_EVENTS {
                        self.append(mem::take(&mut events));
                        bytes = 0;
                    }
                    bytes += new.iter().map(|(event, _)| event.fields.len()).sum::<usize>();
                    events.extend(new);
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
                    self.tick = Instant::now() + TICK;
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
        // Written first, since the follower has to get a change with the last position.
        let stored = self.flush().and_then(|()| self.shared.file().positions_after(after));
        match stored.and_then(|positions| self.stored(&positions)) {
            Ok(mut changes) => {
                let last_position = self.shared.index().last_position;
                // The last event has been dropped, or the last change is a deletion.
                let sent = changes.last().map_or(after, position);
                if let Some(topic) = self.last_topic.clone().filter(|_| sent < last_position) {
                    changes.push(Change::Deleted { topic, position: last_position });
                }
                if changes.is_empty() || follower.send_blocking(Ok(changes)).is_ok() {
                    self.followers.push(follower);
                }
            }
            Err(error) => drop(follower.send_blocking(Err(error))),
        }
    }

    /// Reads events.
    fn stored(&self, positions: &[u64]) -> Result<Vec<Change>, StorageError> {
        let mut events = Vec::new();
        self.shared.events(positions, |topic, event| {
            events.push(Change::Appended { topic: topic.into(), event });
        })?;
        Ok(events)
    }

    /// Appends events, and answers their publishers. With [`Sync::Always`], they are in one
    /// transaction, unless they repeat each other. Otherwise they stay unwritten.
    fn append(&mut self, mut batch: Vec<(NewEvent, Reply)>) {
        while !batch.is_empty() {
            if let Err(error) = self.reopen() {
                return refuse(batch.into_iter().map(|(_, reply)| reply), &error);
            }
            batch = self.append_part(batch);
        }
    }

    /// Appends the events of a batch that do not repeat each other. Returns those that are to be
    /// appended after them.
    fn append_part(&mut self, batch: Vec<(NewEvent, Reply)>) -> Vec<(NewEvent, Reply)> {
        let most = self.config.max_topics;
        let Placed { pending, repeated, rest } = place(&self.shared, most, batch);
        let (time, mut failure) = (now(), None);
        if let Some(last) = pending.last().map(|one| one.position) {
            let mut unwritten = self.shared.change_unwritten();
            for one in &pending {
                unwritten.push(one.position, one.event.clone(), time);
            }
            drop(unwritten);
            let written = match self.config.sync {
                Sync::Always => self.write(last),
                Sync::Interval(_) => {
                    self.since.get_or_insert_with(Instant::now);
                    Ok(())
                }
            };
            match written {
                Ok(()) => self.make_visible(pending, time),
                Err(error) => {
                    // Only with `Sync::Always`, where no other events are unwritten.
                    self.shared.change_unwritten().clear();
                    refuse(pending.into_iter().map(|one| one.reply), &error);
                    failure = Some(error);
                }
            }
        }
        // After the events before them: a repeated publication may be one of those.
        let mut again = Vec::new();
        for (event, reply) in repeated {
            match outcome(&self.shared, most, &event) {
                Some(result) => drop(reply.try_send(result)),
                None => again.push((event, reply)),
            }
        }
        again.extend(rest);
        if let Some(error) = failure {
            refuse(again.into_iter().map(|(_, reply)| reply), &error);
            return Vec::new();
        }
        again
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
        if let Err(error) = self.write(position) {
            self.deleting = Some((Arc::clone(topic), position));
            return Err(error);
        }
        self.shared.index().delete(topic, position, &mut self.dropped);
        self.last_topic = Some(Arc::clone(topic));
        self.send(vec![Change::Deleted { topic: Arc::clone(topic), position }]);
        Ok(Some(position))
    }

    /// Adds events to the index, sends them to the followers, and answers the publishers.
    fn make_visible(&mut self, pending: Vec<Pending>, time: u64) {
        let mut index = self.shared.index();
        let mut names = Vec::with_capacity(pending.len());
        for one in &pending {
            names.push(index.push(one.position, &record(&one.event, time)));
        }
        drop(index);
        self.apply_bounds(&names);
        self.last_topic = names.last().map(Arc::clone).or(self.last_topic.take());
        let (mut changes, mut replies) = (Vec::with_capacity(names.len()), Vec::new());
        for (Pending { event, position, reply }, topic) in pending.into_iter().zip(names) {
            let event = StoredEvent { position, fields: event.fields, id: event.id };
            changes.push(Change::Appended { topic, event });
            replies.push((position, reply));
        }
        // The feed gets them first, since each publication waits until the feed has applied it.
        self.send(changes);
        for (position, reply) in replies {
            // The publisher may have left.
            let _ = reply.try_send(Ok(Appended::New(position)));
        }
    }

    fn send(&mut self, changes: Vec<Change>) {
        let Some((last, others)) = self.followers.split_last() else {
            return;
        };
        let mut open: Vec<_> = others
            .iter()
            .map(|follower| follower.send_blocking(Ok(changes.clone())).is_ok())
            .collect();
        open.push(last.send_blocking(Ok(changes)).is_ok());
        let mut open = open.into_iter();
        self.followers.retain(|_| open.next() == Some(true));
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

    /// Writes unwritten events, and removes dropped events from the file.
    fn flush(&mut self) -> Result<(), StorageError> {
        self.shared.check()?;
        if self.shared.unwritten().is_empty() && self.dropped.is_empty() {
            return Ok(());
        }
        let last = self.shared.index().last_position;
        self.write(last)
    }

    /// Writes unwritten events, and removes dropped events from the file, in one transaction. After
    /// an error, the file has to be opened again.
    fn write(&mut self, last: u64) -> Result<(), StorageError> {
        let unwritten = self.shared.unwritten();
        let written = self.shared.file().write(&unwritten, last, &self.dropped);
        drop(unwritten);
        self.since = None;
        match &written {
            Ok(()) => {
                self.shared.change_unwritten().clear();
                self.dropped = Removals::default();
                self.written = last;
            }
            Err(error) => {
                log::error!("{error}");
                *self.shared.failure() = Some(error.clone());
            }
        }
        written
    }

    /// Opens the file again after a failure, at most once in [`REOPEN`], and writes the events that
    /// are visible and could not be written.
    fn reopen(&mut self) -> Result<(), StorageError> {
        if self.shared.check().is_ok() {
            return Ok(());
        }
        let started = Instant::now();
        if self.next_attempt.is_some_and(|next| started < next) {
            // The error of the last write, such as that the disk is full.
            return self.shared.check();
        }
        let result = self.open_again();
        // All of the file is read, while no one else can read it. So a large file gets more time.
        self.next_attempt = Some(Instant::now() + REOPEN.max(2 * started.elapsed()));
        result
    }

    fn open_again(&mut self) -> Result<(), StorageError> {
        let visible = self.shared.index().last_position;
        let mut file = self.shared.file.write().unwrap_or_else(PoisonError::into_inner);
        file.reopen()?;
        let loaded = file.load(self.config.sync != Sync::Always, Some(self.written))?;
        let is_new = *self.shared.epoch() != loaded.epoch;
        // A write whose failure was reported may have reached the file nevertheless.
        let missed = if is_new { Vec::new() } else { file.positions_after(visible)? };
        drop(file);
        let missed = self.stored(&missed)?;
        let mut index = loaded.index;
        let reached = index.last_position;
        let mut unwritten = self.shared.change_unwritten();
        if is_new {
            unwritten.clear();
        } else {
            unwritten.remove_up_to(reached);
            for (position, record) in unwritten.records() {
                index.push(position, &record);
            }
        }
        drop(unwritten);
        // Before the index: an operation that finds the new one also finds the new epoch.
        self.shared.epoch().clone_from(&loaded.epoch);
        *self.shared.index() = index;
        self.dropped = Removals::default();
        *self.shared.failure() = None;
        self.written = reached;
        if is_new {
            log::warn!(
                "the file of events was opened again, and has lost events; subscribers get a gap \
                 event"
            );
            self.deleting = None;
            self.last_topic = None;
            self.send(vec![Change::Reset { epoch: loaded.epoch, position: reached }]);
            self.apply_all_bounds();
            return Ok(());
        }
        if !missed.is_empty() {
            self.send(missed);
        }
        if let Some((topic, position)) = self.deleting.take().filter(|(_, at)| *at <= reached) {
            self.last_topic = Some(Arc::clone(&topic));
            self.send(vec![Change::Deleted { topic, position }]);
        }
        self.apply_all_bounds();
        self.flush()?;
        log::info!("the file of events was opened again after a failure");
        Ok(())
    }
}

/// Answers publishers with an error.
fn refuse(replies: impl Iterator<Item = Reply>, error: &StorageError) {
    for reply in replies {
        // The publisher may have left.
        let _ = reply.try_send(Err(error.clone()));
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
