//! The stream that all operations use, and messages by sequence and subject.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::config::NatsConfig;
use super::creation::{create_again, find, find_or_create, read};
use super::deleted::Deleted;
use super::failure::Failure;
use super::ids::Ids;
use super::info::Info;
use super::known::Known;
use super::link::Link;
use super::message::Stored;
use super::position::{self, Place};
use super::progress::Progress;
use super::readers::{Readers, Version};
use super::recent::Recent;
use super::subject;
use crate::storage::{StorageError, StorageErrorKind};

/// The maximum time of the first connection and the creation of the stream.
const START: Duration = Duration::from_secs(10);

/// The time between two attempts of an operation.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after which a replica that lagged behind has caught up, or does not answer any more. A
/// message that the stream does not have then is gone.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// The maximum number of topics whose IDs are read at the same time.
const ID_READS: usize = 4;

/// What all operations share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) api: Api,
    pub(super) config: NatsConfig,
    identity: Mutex<Identity>,
    recent: Mutex<Recent>,
    ids: Mutex<Ids>,
    known: Mutex<Known>,
    deleted: Mutex<Deleted>,
    /// Locked by the task that creates the stream again.
    creating: tokio::sync::Mutex<()>,
    readers: Mutex<Readers>,
    /// The end of the last examination of all topics. Locked during an examination.
    pub(super) examined: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// A permit for each operation that reads the IDs of a topic's events, which takes much memory.
    pub(super) id_reads: Semaphore,
    /// The sequence of the last message that the client could not receive, or 0.
    unreadable: AtomicU64,
    /// How often the messages that were known have been forgotten.
    resets: AtomicU64,
    pub(super) progress: Progress,
}

/// The stream that the operations use.
#[derive(Debug)]
struct Identity {
    epoch: String,
    /// Whether each replica may answer requests for messages. If there are several, one may lag
    /// behind, so requests go to the leader only.
    is_direct: bool,
    /// How often the connection had been lost when this was read.
    losses: u64,
}

/// What the stream has from a sequence on.
enum Rest {
    /// The first message, which has this sequence or a later one.
    First(Stored),
    /// No message. This is the state of the stream.
    Nothing(Info),
}

impl Shared {
    /// Connects, and opens or creates the stream.
    pub(super) async fn open(config: NatsConfig) -> Result<Self, StorageError> {
        let until = Instant::now() + START;
        let link = Link::open(&config, until).await?;
        let api = Api { link: link.into(), stream: config.stream.as_str().into() };
        let (info, losses) = loop {
            let losses = api.link.state().losses;
            let failure = match find_or_create(&api, &config, until).await {
                Ok((info, is_new)) => {
                    info.check(&config.stream)?;
                    if is_new {
                        log::info!("NATS: created the stream {}", config.stream);
                    } else {
                        info.log_differences(&config.stream, &config);
                    }
                    break (info, losses);
                }
                Err(failure) => failure,
            };
            if !failure.is_lost() || Instant::now() + PAUSE > until {
                let why = format!(
                    "NATS: cannot open the stream {} at {}: {failure}; JetStream has to be enabled",
                    config.stream,
                    config.shown()
                );
                return Err(StorageError::new(StorageErrorKind::Unavailable, why));
            }
            sleep(PAUSE).await;
        };
        let identity = Identity { epoch: info.epoch.clone(), is_direct: info.is_direct, losses };
        Ok(Self {
            api,
            config,
            identity: Mutex::new(identity),
            recent: Mutex::default(),
            ids: Mutex::default(),
            known: Mutex::default(),
            deleted: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            readers: Mutex::default(),
            examined: Arc::default(),
            id_reads: Semaphore::new(ID_READS),
            unreadable: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            progress: Progress::new(info.last),
        })
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        lock(&self.identity)
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        lock(&self.recent)
    }

    pub(super) fn ids(&self) -> MutexGuard<'_, Ids> {
        lock(&self.ids)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    pub(super) fn deleted(&self) -> MutexGuard<'_, Deleted> {
        lock(&self.deleted)
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, Readers> {
        lock(&self.readers)
    }

    pub(super) fn epoch(&self) -> String {
        self.identity().epoch.clone()
    }

    /// Returns the stream and the connection that the operations use now.
    pub(super) fn version(&self) -> Version {
        let identity = self.identity();
        let resets = self.resets.load(Ordering::Relaxed);
        Version { epoch: identity.epoch.clone(), losses: identity.losses, resets }
    }

    /// Forgets the messages, after the stream was replaced or has lost its end.
    pub(super) fn forget(&self) {
        self.recent().clear();
        self.known().clear();
        self.deleted().clear();
        self.progress.forget();
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn subject(&self, topic: &str) -> String {
        subject::of_topic(&self.api.stream, topic)
    }

    /// Returns the time at which an operation that begins now gives up.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Waits before a failed operation is repeated. Returns false if there is no time for that.
    pub(super) async fn pause(&self, until: Instant) -> bool {
        if Instant::now() + PAUSE >= until {
            return false;
        }
        sleep(PAUSE).await;
        true
    }

    /// Reads the state of the stream. Creates the stream if it has been deleted, and records its
    /// identity.
    pub(super) async fn refresh(&self, until: Instant) -> Result<Info, Failure> {
        self.api.link.ready(until).await?;
        let losses = self.api.link.state().losses;
        let info = match find(&self.api, until).await? {
            Some(info) => info,
            None => create_again(&self.api, &self.config, &self.creating, until).await?,
        };
        let mut identity = self.identity();
        if identity.epoch != info.epoch {
            log::warn!(
                "NATS: the stream {} is another one than before; subscribers get a gap event",
                self.config.stream
            );
            self.unreadable.store(0, Ordering::Relaxed);
            self.forget();
        }
        *identity = Identity { epoch: info.epoch.clone(), is_direct: info.is_direct, losses };
        drop(identity);
        self.progress.set(info.last);
        Ok(info)
    }

    /// Makes sure that the stream is the one whose epoch is known, after the connection was lost.
    pub(super) async fn confirm(&self, until: Instant) -> Result<(), Failure> {
        self.api.link.ready(until).await?;
        if self.identity().losses != self.api.link.state().losses {
            self.refresh(until).await?;
        }
        Ok(())
    }

    /// Reads the state of the stream, and the number of messages of subjects.
    pub(super) async fn info(
        &self,
        subject: Option<&str>,
        offset: usize,
        until: Instant,
    ) -> Result<Info, Failure> {
        read(&self.api.info(subject, offset, until).await?)
    }

    async fn message(&self, body: Value, until: Instant) -> Result<Option<Stored>, Failure> {
        let message = self.unverified_message(body, until).await?;
        let differs = |message: &Stored| {
            let known = self.recent().salt(message.sequence);
            known.is_some_and(|salt| salt != message.salt())
        };
        if message.as_ref().is_some_and(differs) {
            // The stream is another one, which the connection does not show.
            self.refresh(until).await?;
        }
        Ok(message)
    }

    async fn unverified_message(
        &self,
        body: Value,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        let is_direct = self.identity().is_direct && self.unreadable.load(Ordering::Relaxed) == 0;
        if !is_direct {
            return self.by_leader(&body, until).await;
        }
        let losses = self.api.link.state().losses;
        match self.api.message(&body, true, until).await {
            // The message itself may be the reason.
            Err(failure) if failure.is_lost() && self.api.link.state().losses != losses => {
                self.confirm(until).await?;
                self.by_leader(&body, until).await
            }
            result => result,
        }
    }

    /// Returns a message in a form in which the client can receive any headers.
    pub(super) async fn by_leader(
        &self,
        body: &Value,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        let message = self.api.message(body, false, until).await?;
        if let Some(message) = message.as_ref().filter(|message| !message.is_readable) {
            let sequence = message.sequence;
            if self.unreadable.fetch_max(sequence, Ordering::Relaxed) < sequence {
                let subject = &message.subject;
                log::warn!(
                    "NATS: message {sequence} on {subject} has headers that are not valid, which \
                     are ignored; pages that begin before it are read slowly"
                );
            }
        }
        Ok(message)
    }

    /// Returns whether the client may be unable to receive a message after a sequence.
    pub(super) fn has_unreadable(&self, after: u64) -> bool {
        self.unreadable.load(Ordering::Relaxed) > after
    }

    /// Returns an error while the replica that answers as the leader lacks events that this server
    /// has seen. It may have just become the leader, or be a former one that has not received the
    /// result of the election yet.
    pub(super) async fn caught_up(&self, until: Instant) -> Result<(), Failure> {
        match self.newest_seen() {
            0 => Ok(()),
            seen => check_caught_up(&self.info(None, 0, until).await?, seen),
        }
    }

    /// Returns the newest sequence that this server has seen. Returns 0 if it has seen none, or if the
    /// stream is read directly from its single replica, which does not lag behind.
    pub(super) fn newest_seen(&self) -> u64 {
        let newest = self.recent().newest(1);
        let newest = newest.first().filter(|_| !self.identity().is_direct);
        newest.map_or(0, |(sequence, _)| *sequence)
    }

    /// Returns the message with a sequence.
    pub(super) async fn at(
        &self,
        sequence: u64,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        self.message(json!({ "seq": sequence }), until).await
    }

    /// Returns the first message of a subject from a sequence on.
    pub(super) async fn next(
        &self,
        subject: &str,
        from: u64,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        self.message(json!({ "seq": from.max(1), "next_by_subj": subject }), until).await
    }

    /// Returns the last message of a subject.
    pub(super) async fn last(
        &self,
        subject: &str,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        self.message(json!({ "last_by_subj": subject }), until).await
    }

    /// Returns the last position. The salt of a message that is gone is 0.
    pub(super) async fn last_position(&self, until: Instant) -> Result<u64, Failure> {
        let info = self.refresh(until).await?;
        if info.last == 0 {
            return Ok(0);
        }
        let salt = self.salt_at(info.last, until).await?;
        Ok(position::at(info.last, salt))
    }

    /// Returns the salt of a message. That of a message that is gone is 0.
    pub(super) async fn salt_at(&self, sequence: u64, until: Instant) -> Result<u32, Failure> {
        let known = self.recent().salt(sequence);
        if let Some(salt) = known {
            return Ok(salt);
        }
        let Some(message) = self.kept(sequence, until).await? else { return Ok(0) };
        let salt = message.salt();
        self.recent().push(sequence, salt);
        Ok(salt)
    }

    /// Returns whether a position was assigned, if that is known without a request.
    pub(super) fn is_recent(&self, position: u64) -> Option<bool> {
        let place = Place::of(position);
        if place.sequence == 0 {
            // The position before all events. No other one has this sequence, for which the engine
            // has no answer.
            return Some(position == 0);
        }
        self.recent().salt(place.sequence).map(|salt| salt == place.salt)
    }

    /// Returns whether a position was assigned in the stream as it is now. A position whose message
    /// is gone is not known, unless it is the last. Returns `None` if the replica that has answered
    /// may lag behind, such as a former leader that the election of another one has not reached.
    pub(super) async fn is_assigned(
        &self,
        position: u64,
        until: Instant,
    ) -> Result<Option<bool>, Failure> {
        self.confirm(until).await?;
        let place = Place::of(position);
        let info = match self.rest(place.sequence, until).await? {
            Rest::First(message) => {
                let is_it = message.sequence == place.sequence && message.salt() == place.salt;
                return Ok(Some(is_it));
            }
            Rest::Nothing(info) => info,
        };
        let is_last = place.sequence == info.last && place.is_after;
        Ok((is_last || info.has_dropped(place.sequence)).then_some(is_last))
    }

    /// Returns what the stream has from a sequence on. A replica that lags behind may answer, but if
    /// it has a later message, the one with this sequence is gone.
    async fn rest(&self, sequence: u64, until: Instant) -> Result<Rest, Failure> {
        Ok(match self.next(">", sequence, until).await? {
            Some(message) => Rest::First(message),
            None => Rest::Nothing(self.info(None, 0, until).await?),
        })
    }

    /// Returns a message that the stream has had, or `None` if it is gone. Unlike [`at`](Self::at),
    /// this does not take the answer of a replica that lags behind as proof of that.
    pub(super) async fn kept(
        &self,
        sequence: u64,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        let start = Instant::now();
        loop {
            let info = match self.rest(sequence, until).await? {
                Rest::First(message) => {
                    return Ok(Some(message).filter(|message| message.sequence == sequence));
                }
                Rest::Nothing(info) => info,
            };
            if info.has_dropped(sequence) {
                return Ok(None);
            }
            // Otherwise another program has removed the last messages, or the two answers are those
            // of different replicas.
            if info.last >= sequence && start.elapsed() >= SETTLED {
                return Ok(None);
            }
            if info.last < sequence || !self.pause(until).await {
                return Err(lags_behind());
            }
        }
    }
}

/// Returns an error if a description of the stream is older than a sequence that was seen.
pub(super) fn check_caught_up(info: &Info, seen: u64) -> Result<(), Failure> {
    if info.last < seen { Err(lags_behind()) } else { Ok(()) }
}

fn lags_behind() -> Failure {
    Failure::Lost("the leader of the stream lags behind".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
