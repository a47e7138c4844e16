//! The feed: the changes of the stream in their order, from one consumer.
//!
//! The consumer is created again, from the message after the last one that was seen, whenever the
//! connection was lost or the engine is silent. Before that, the stream is compared with what was
//! seen: if it is another one, or has lost its end, the feed yields [`Change::Reset`]; if it has
//! dropped all that follows, [`Change::AllDropped`].

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use smol::channel::Sender;
use tokio::time::{Instant, sleep};

use super::api::{Begin, Pull, Selection};
use super::failure::Failure;
use super::ids::Ids;
use super::info::Info;
use super::message::{Delivery, Kind, Stored};
use super::position::{self, Place};
use super::stream::Shared;
use crate::storage::{Change, StorageError};

/// The time for which a request waits for messages. The stream is examined after each of them.
const WAIT: Duration = Duration::from_secs(5);

/// The time without a message or a heartbeat after which the engine counts as silent.
const SILENCE: Duration = Duration::from_secs(6);

/// The maximum number of messages of one request, and their size in bytes.
const MESSAGES: usize = 256;
const BYTES: usize = 4 << 20;

/// The time between two attempts to continue.
const PAUSE: Duration = Duration::from_millis(200);

/// The maximum number of recent messages that the stream is compared with, if the last one is gone.
const COMPARED: usize = 16;

/// The maximum number of topics that are known to be complete after a hole.
const MAX_CHECKED: usize = 10_000;

/// The time for which a replicated stream may differ from what was seen of it.
const DOUBT: Duration = Duration::from_secs(3);

/// An item of the stream of changes.
pub(super) type Item = Result<Change, StorageError>;

/// The feed, and the message up to which it has come.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    out: Sender<Item>,
    epoch: String,
    last: u64,
    salt: u32,
    hole: Option<Hole>,
    /// The time since when the stream differs from what was seen of it.
    doubt: Option<Instant>,
    /// The identity of the engine's process when the stream was compared with what was seen.
    process: Option<String>,
    /// Whether the connection was lost before the last consumer had delivered anything.
    is_stuck: bool,
    /// Whether the last attempt has failed, which is logged once.
    has_failed: bool,
}

/// Messages that the stream dropped before the feed saw them.
#[derive(Debug)]
struct Hole {
    /// The sequence before it.
    start: u64,
    /// The sequence before the first hole. A deletion after several holes may have removed events
    /// that were in any of them.
    first_start: u64,
    /// The topics that have lost nothing in it.
    checked: HashSet<Arc<str>>,
}

/// The reason for which the feed ends: its receiver was dropped.
#[derive(Debug)]
struct Gone;

/// What interrupts the consumer.
enum Break {
    Gone,
    Failed(Failure),
}

impl From<Gone> for Break {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Failure> for Break {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, after: u64, epoch: String, out: Sender<Item>) -> Self {
        let place = Place::of(after);
        let (last, salt) = (place.last_included(), place.salt);
        shared.progress.saw(last);
        Self {
            shared,
            out,
            epoch,
            last,
            salt,
            hole: None,
            doubt: None,
            process: None,
            is_stuck: false,
            has_failed: false,
        }
    }

    /// Runs until the receiver is gone.
    pub(super) async fn run(mut self) {
        loop {
            let start = Instant::now();
            match self.consume().await {
                Err(Break::Gone) => return,
                Err(Break::Failed(failure)) => {
                    if !self.has_failed {
                        log::warn!("NATS: no new events at the moment: {failure}");
                    }
                    self.has_failed = true;
                }
                Ok(()) => {}
            }
            if self.out.is_closed() {
                return;
            }
            // No pause after a consumer that has worked for longer: it may have been deleted with
            // the stream, whose replacement is then found at once.
            sleep(PAUSE.saturating_sub(start.elapsed())).await;
        }
    }

    async fn send(&self, change: Change) -> Result<(), Gone> {
        self.out.send(Ok(change)).await.map_err(|_| Gone)
    }

    /// Follows the stream with one consumer, until that is interrupted.
    async fn consume(&mut self) -> Result<(), Break> {
        // A lost connection is waited for without a bound: the streams of subscribers stay open.
        let until = Instant::now() + SILENCE;
        self.shared.api.link.ready(until).await?;
        let losses = self.shared.api.link.state().losses;
        let process = self.shared.api.link.process();
        let info = self.shared.refresh(until).await?;
        self.compare(&info, until).await?;
        self.process = process;
        if mem::take(&mut self.is_stuck) {
            self.step(until).await?;
        }
        let selection =
            Selection { begin: Begin::At(self.last + 1), subject: None, only_headers: false };
        let created = self.shared.api.create_consumer(selection, until).await;
        if let Err(Failure::Refused(..)) = created {
            // The number of consumers may be limited. Not dropped under the lock.
            let released = self.shared.readers().release();
            drop(released);
        }
        let consumer = created?;
        if self.shared.api.link.state().losses != losses {
            // The consumer may be one of another process, whose stream was not compared.
            return Err(Failure::Lost("the connection was lost".to_owned()).into());
        }
        if self.has_failed {
            log::info!("NATS: the feed of events continues");
            self.shared.progress.resumed();
            self.has_failed = false;
        }
        let before = self.last;
        let result = self.take(&consumer).await;
        self.is_stuck = self.last == before && self.shared.api.link.state().losses != losses;
        if !self.out.is_closed() {
            let until = Instant::now() + PAUSE;
            self.shared.api.delete_consumer(&consumer, until).await;
        }
        result
    }

    /// Applies the next message, if there is one. The client may have closed the connection because
    /// of it.
    async fn step(&mut self, until: Instant) -> Result<(), Break> {
        let next = json!({ "seq": self.last + 1, "next_by_subj": ">" });
        if let Some(message) = self.shared.by_leader(&next, until).await? {
            self.apply(message).await?;
        }
        Ok(())
    }

    /// Takes messages from a consumer.
    async fn take(&mut self, consumer: &str) -> Result<(), Break> {
        let mut deliveries = 0;
        let mut is_large = false;
        loop {
            let bytes = BYTES.max(2 * self.shared.api.link.max_payload());
            let mut pull = Pull { messages: MESSAGES, bytes: Some(bytes), wait: Some(WAIT) };
            if mem::take(&mut is_large) {
                (pull.messages, pull.bytes) = (1, None);
            }
            let until = Instant::now() + SILENCE;
            let mut replies = self.shared.api.pull(consumer, pull, until).await?;
            let mut left = pull.messages;
            while left > 0 {
                let reply = replies.next(Instant::now() + SILENCE).await?;
                let status = reply.status.filter(|_| !Stored::is_stored(&reply));
                match status.map(|status| status.as_u16()) {
                    None | Some(200) => {}
                    // A heartbeat.
                    Some(100) => continue,
                    // The time of the request is over, or its size is reached.
                    Some(404 | 408) => break,
                    Some(409) if reply.description.as_deref().is_some_and(is_complete) => {
                        // The next message exceeds this size alone: it was stored when
                        // `max_payload` was higher. It is requested alone and without a limit.
                        is_large = left == pull.messages;
                        break;
                    }
                    Some(status) => {
                        let why = reply.description.unwrap_or_default();
                        return Err(Failure::Lost(format!("status {status}: {why}")).into());
                    }
                }
                let delivery = Stored::from_consumer(reply);
                let unknown = || Failure::Lost("a message without a sequence".to_owned());
                let Delivery { number, pending, message } = delivery.ok_or_else(unknown)?;
                deliveries += 1;
                left -= 1;
                if number != deliveries {
                    return Err(Failure::Lost("a message was not delivered".to_owned()).into());
                }
                self.shared.progress.assigned(message.sequence + pending);
                let size = message.payload.len();
                if size > bytes {
                    let (sequence, subject) = (message.sequence, &message.subject);
                    log::warn!(
                        "NATS: message {sequence} on {subject} has {size} bytes, more than NATS \
                         accepts now; it is delivered nevertheless"
                    );
                }
                self.apply(message).await?;
            }
            if left == pull.messages && !is_large {
                self.examine().await?;
            }
        }
    }

    /// Yields the change that a message is.
    async fn apply(&mut self, message: Stored) -> Result<(), Break> {
        // A consumer on a replica that lags behind may begin with older messages.
        if message.sequence <= self.last {
            return Ok(());
        }
        let topic = message.topic(&self.shared.api.stream);
        let kind = message.kind();
        if message.sequence > self.last + 1 {
            self.enter_hole(message.sequence).await?;
        }
        if let Some(topic) = topic {
            self.check_hole(&topic, &message).await?;
            self.remember(&message);
            match kind {
                Kind::Event => {
                    self.shared.deleted().remove(&topic, message.sequence);
                    self.send(Change::Appended { topic, event: message.event() }).await?;
                }
                Kind::Deletion(_) => {
                    self.shared.known().remove(&topic);
                    self.shared.deleted().insert(&topic, message.sequence);
                    let position = message.position();
                    self.send(Change::Deleted { topic, position }).await?;
                }
                Kind::Foreign => {
                    log::debug!("NATS: {topic}: a message with unknown headers is ignored");
                    self.send(Change::Skipped { position: message.position() }).await?;
                }
            }
        } else {
            self.remember(&message);
            self.send(Change::Skipped { position: message.position() }).await?;
        }
        Ok(())
    }

    fn remember(&mut self, message: &Stored) {
        (self.last, self.salt) = (message.sequence, message.salt());
        self.shared.progress.saw(self.last);
        self.shared.recent().push(self.last, self.salt);
    }

    /// Records that messages after the last one were dropped, before the one with a sequence. If the
    /// stream begins after them, which topics they belong to cannot be known.
    async fn enter_hole(&mut self, end: u64) -> Result<(), Break> {
        let start = self.last;
        self.check_skipped(end).await?;
        let info = self.shared.info(None, 0, Instant::now() + SILENCE).await?;
        if info.first > start + 1 {
            return self.skip_dropped(&info).await;
        }
        let first_start = self.hole.as_ref().map_or(start, |hole| hole.first_start);
        self.hole = Some(Hole { start, first_start, checked: HashSet::new() });
        Ok(())
    }

    /// Returns an error if the stream has messages between the last one and a sequence. In version
    /// 2.9, a consumer that is behind skips them when messages of one subject are removed.
    async fn check_skipped(&self, end: u64) -> Result<(), Failure> {
        let until = Instant::now() + SILENCE;
        let all = format!("{}.*", self.shared.api.stream);
        let next = self.shared.next(&all, self.last + 1, until).await?;
        if next.is_some_and(|next| next.sequence < end) {
            return Err(Failure::Lost("the consumer has skipped messages".to_owned()));
        }
        Ok(())
    }

    /// Yields [`Change::Dropped`] if a topic may have lost events in a hole before this message.
    async fn check_hole(&mut self, topic: &Arc<str>, message: &Stored) -> Result<(), Break> {
        let Some(hole) = &self.hole else { return Ok(()) };
        if hole.checked.contains(topic) {
            return Ok(());
        }
        let has_lost = match message.kind() {
            // The events before it have been removed.
            Kind::Deletion(up_to) => Place::of(up_to).sequence > hole.first_start,
            Kind::Event | Kind::Foreign => self.may_have_lost(hole.start, &message.subject).await?,
        };
        if has_lost {
            log::warn!("NATS: {topic}: events were dropped before this server saw them");
            let position = message.before();
            self.send(Change::Dropped { topic: Arc::clone(topic), position }).await?;
        }
        if let Some(hole) = &mut self.hole {
            if hole.checked.len() >= MAX_CHECKED {
                hole.checked.clear();
            }
            hole.checked.insert(Arc::clone(topic));
        }
        Ok(())
    }

    /// Returns whether a topic may have lost events after a sequence.
    async fn may_have_lost(&self, start: u64, subject: &str) -> Result<bool, Failure> {
        let until = Instant::now() + SILENCE;
        // If there is an event of the topic from before, none of those after it was dropped.
        let first = self.shared.next(subject, 1, until).await?;
        if first.is_some_and(|first| first.sequence <= start) {
            return Ok(false);
        }
        let info = self.shared.info(Some(subject), 0, until).await?;
        Ok(info.per_subject.is_some_and(|most| info.count(subject) >= most))
    }

    /// Examines a stream without new messages.
    async fn examine(&mut self) -> Result<(), Break> {
        let info = self.shared.refresh(Instant::now() + SILENCE).await?;
        if info.epoch != self.epoch || info.last < self.last {
            return Err(Failure::Lost("the stream has changed".to_owned()).into());
        }
        if info.first > self.last + 1 {
            self.skip_dropped(&info).await?;
        }
        if info.last > self.last {
            self.check_skipped(info.last + 1).await?;
            // Another program has removed the last messages.
            (self.last, self.salt) = (info.last, 0);
            self.shared.progress.saw(self.last);
            self.send(Change::Skipped { position: position::at(info.last, 0) }).await?;
        }
        Ok(())
    }

    /// Compares the stream with what was seen of it, and yields [`Change::Reset`] if it differs.
    async fn compare(&mut self, info: &Info, until: Instant) -> Result<(), Break> {
        let Some(why) = self.difference(info, until).await? else {
            self.doubt = None;
            if info.first > self.last + 1 {
                self.skip_dropped(info).await?;
            }
            return Ok(());
        };
        // A replica that has just become the leader may not have all events yet.
        let since = *self.doubt.get_or_insert_with(Instant::now);
        if info.is_replicated && since.elapsed() < DOUBT {
            return Err(Failure::Lost(format!("it seems that the stream {why}")).into());
        }
        self.reset(info, why).await
    }

    /// Returns what differs between the stream and what was seen of it.
    async fn difference(
        &self,
        info: &Info,
        until: Instant,
    ) -> Result<Option<&'static str>, Failure> {
        const LOST: Option<&str> = Some("has lost its last events");
        if info.epoch != self.epoch {
            return Ok(Some("is another one"));
        }
        if info.last < self.last {
            return Ok(LOST);
        }
        // All that was seen is gone, so no position of it can be taken for one of another event.
        if info.first > self.last + 1 {
            return Ok(None);
        }
        // The position before all events, or the end of a stream that has not grown.
        if self.last == 0 || self.salt == 0 {
            return Ok(None);
        }
        if let Some(message) = self.shared.at(self.last, until).await? {
            return Ok(LOST.filter(|_| message.salt() != self.salt));
        }
        if info.last == self.last {
            return Ok(None);
        }
        // The last message was dropped, or lost with others and its sequence assigned again. Another
        // recent message that is still the same makes the latter impossible for those before it.
        let recent = self.shared.recent().newest(COMPARED);
        let mut is_same = false;
        for (sequence, salt) in recent {
            if let Some(message) = self.shared.at(sequence, until).await? {
                if message.salt() != salt {
                    return Ok(LOST);
                }
                is_same = true;
            }
        }
        // If all of them are gone, a single engine whose process is the same has dropped them.
        let process = self.shared.api.link.process().filter(|_| !info.is_clustered);
        let is_same = is_same || (process.is_some() && process == self.process);
        Ok((!is_same).then_some("has none of the events that this server saw last"))
    }

    /// Continues at the end of a stream that has dropped events before this server saw them.
    async fn skip_dropped(&mut self, info: &Info) -> Result<(), Break> {
        log::warn!(
            "NATS: the stream has dropped events before this server saw them; subscribers get a gap \
             event"
        );
        // Deletions may be among them, and events after deletions that are known.
        self.shared.deleted().count(info.first);
        // If the stream has lost its end before, sequences up to which IDs were read may have been
        // assigned again.
        *self.shared.ids() = Ids::default();
        let position = self.go_to_end(info).await?;
        self.send(Change::AllDropped { position }).await?;
        // The consumer starts again after this position.
        Err(Failure::Lost("events were dropped".to_owned()).into())
    }

    /// Continues at the end of a stream that has other events than those that were seen. All windows
    /// start again, with a new generation of positions.
    async fn reset(&mut self, info: &Info, why: &str) -> Result<(), Break> {
        log::warn!("NATS: the stream {why}; subscribers get a gap event");
        self.shared.forget();
        // Sequences may be assigned again, so they do not show which IDs have been read.
        *self.shared.ids() = Ids::default();
        let position = self.go_to_end(info).await?;
        self.epoch.clone_from(&info.epoch);
        self.send(Change::Reset { epoch: info.epoch.clone(), position }).await?;
        // The consumer starts again after this position.
        Err(Failure::Lost("the stream has changed".to_owned()).into())
    }

    /// Moves to the end of the stream, and returns its position.
    async fn go_to_end(&mut self, info: &Info) -> Result<u64, Failure> {
        let salt = match info.last {
            0 => 0,
            last => self.shared.salt_at(last, Instant::now() + SILENCE).await?,
        };
        (self.last, self.salt, self.hole) = (info.last, salt, None);
        self.shared.progress.saw(self.last);
        Ok(if info.last == 0 { 0 } else { position::at(info.last, salt) })
    }
}

/// Returns whether the description of a status means that a request is complete.
fn is_complete(description: &str) -> bool {
    description.contains("Batch Completed") || description.contains("MaxBytes")
}
