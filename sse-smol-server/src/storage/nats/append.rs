//! Publications.

use std::sync::Arc;

use async_nats::HeaderMap;
use tokio::time::Instant;

use super::failure::{Failure, WRONG_LAST_SEQUENCE};
use super::message::{self, Ack, Kind, Stored};
use super::position;
use super::stream::Shared;
use crate::storage::{Appended, NewEvent, StorageError, StorageErrorKind, append_each};

/// The maximum size of the headers of a message in bytes, a limit of JetStream.
const MAX_HEADERS: usize = 65_535;

/// An event with what is the same in all attempts to publish it.
struct Publication {
    event: NewEvent,
    subject: String,
    salt: u32,
    /// The identity of the message, by which the engine recognizes a repeated one.
    message_id: String,
    /// Whether an attempt had no answer, so that the event may be stored.
    may_be_stored: bool,
}

impl Publication {
    fn headers(&self, stream: &str) -> HeaderMap {
        let mut headers = message::headers(stream, self.salt, &self.message_id);
        if let Some(id) = &self.event.id {
            message::set_id(&mut headers, id);
        }
        headers
    }

    /// Returns the outcome if the stream has an event with the same key.
    fn repeats(&self, stored: &Stored) -> Appended {
        let is_same = stored.payload == self.event.fields && stored.id() == self.event.id;
        if !is_same {
            Appended::KeyInUse(stored.event_ref())
        } else if self.may_be_stored && stored.salt() == self.salt {
            // By an earlier attempt. The salt alone could also be that of another publication.
            Appended::New(stored.position())
        } else {
            Appended::Duplicate(stored.position())
        }
    }
}

/// Returns an identity for a message that no other message has.
pub(super) fn unique_id() -> String {
    format!("r.{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

impl Shared {
    /// Appends an event: see [`Storage::append`](crate::storage::Storage::append).
    pub(super) async fn append(
        self: Arc<Self>,
        event: NewEvent,
        until: Instant,
    ) -> Result<Appended, StorageError> {
        let mut publication = Publication {
            subject: self.subject(&event.topic),
            salt: position::new_salt(),
            message_id: match &event.key {
                // Keys of different topics are different. Neither part has a slash.
                Some(key) => format!("k.{}/{}", event.topic, message::encode(key)),
                None => unique_id(),
            },
            may_be_stored: false,
            event,
        };
        self.check_size(&publication)?;
        loop {
            match self.try_append(&mut publication, until).await {
                Err(failure) if failure.is_lost() && self.pause(until).await => {
                    publication.may_be_stored = true;
                }
                Err(failure) => return Err(failure.into()),
                Ok(Some(appended)) => return Ok(appended),
                Ok(None) => {
                    if Instant::now() >= until {
                        let why =
                            "other events of the topic were published all the time".to_owned();
                        return Err(Failure::Lost(why).into());
                    }
                }
            }
        }
    }

    /// Appends events in their order: see [`Storage::append_all`](crate::storage::Storage::append_all).
    /// Each one is appended when the one before is acknowledged.
    pub(super) async fn append_all(
        self: Arc<Self>,
        events: Vec<NewEvent>,
        until: Instant,
    ) -> Vec<Result<Appended, StorageError>> {
        let now = Instant::now();
        // The results have to be there before the publisher gives up.
        let until = now + until.saturating_duration_since(now) * 4 / 5;
        append_each(events, |event| {
            let shared = Arc::clone(&self);
            async move {
                if Instant::now() >= until {
                    let why = "not published: earlier events of the batch took too long";
                    return Err(StorageError::new(StorageErrorKind::Unavailable, why));
                }
                shared.append(event, until).await
            }
        })
        .await
    }

    /// Returns an error if the server would refuse the message for its size.
    fn check_size(&self, publication: &Publication) -> Result<(), StorageError> {
        let headers = message::headers_size(&publication.headers(&self.api.stream));
        let size = headers + publication.event.fields.len();
        let most = self.api.link.max_payload();
        let why = if headers > MAX_HEADERS {
            format!("its key and ID take {headers} bytes, and at most {MAX_HEADERS} are possible")
        } else if size > most {
            format!("it takes {size} bytes, and max_payload of the NATS server is {most}")
        } else {
            return Ok(());
        };
        Err(StorageError::new(StorageErrorKind::TooLarge, why))
    }

    /// Publishes an event once. Returns `None` if that has to be repeated at once.
    async fn try_append(
        self: &Arc<Self>,
        publication: &mut Publication,
        until: Instant,
    ) -> Result<Option<Appended>, Failure> {
        self.confirm(until).await?;
        let topic = Arc::clone(&publication.event.topic);
        if let Some(most) = self.full(&topic, until).await? {
            return Ok(Some(Appended::TooManyTopics(most)));
        }
        let mut headers = publication.headers(&self.api.stream);
        let mut expected = None;
        if let Some(id) = &publication.event.id {
            let found = self.lookup(&topic, id, &publication.message_id, until).await?;
            if let Some(stored) = found.by_key {
                return Ok(Some(publication.repeats(&stored)));
            }
            if let Some(stored) = found.by_id {
                // Its answer may have been lost in an attempt before this one.
                let is_own = stored.message_id() == Some(&*publication.message_id);
                let position = stored.position();
                let outcome = if is_own { Appended::New(position) } else { Appended::IdInUse };
                return Ok(Some(outcome));
            }
            message::expect_last(&mut headers, found.last);
            expected = Some(found.last);
        }
        let fields = publication.event.fields.clone();
        let seen = self.progress.seen();
        let ack = match self.api.publish(&publication.subject, headers, fields, until).await {
            Ok(ack) => ack,
            // Another event of the topic came in between, and may have the ID.
            Err(Failure::Refused(WRONG_LAST_SEQUENCE, _)) if expected.is_some() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        if ack.is_duplicate && publication.event.key.is_some() {
            return self.repeated(publication, ack.sequence, until).await;
        }
        self.check_ack(ack, seen, until).await?;
        self.progress.assigned(ack.sequence);
        self.known().insert(&topic);
        self.deleted().remove(&topic, ack.sequence);
        let position = position::at(ack.sequence, publication.salt);
        if let (Some(id), Some(last)) = (&publication.event.id, expected) {
            self.note_id(&topic, id, &publication.message_id, last, position);
        }
        Ok(Some(Appended::New(position)))
    }

    /// Compares the stream with the known one if a message may have been stored in another stream:
    /// if it is a duplicate, or if its sequence is not after `seen`, the last one that the feed had
    /// seen before. The sequences of a new stream start at 1.
    pub(super) async fn check_ack(
        &self,
        ack: Ack,
        seen: u64,
        until: Instant,
    ) -> Result<(), Failure> {
        if ack.is_duplicate || ack.sequence <= seen {
            self.refresh(until).await?;
        }
        Ok(())
    }

    /// Returns the outcome for a publication whose identity the engine has seen before, in the
    /// message with a sequence. Returns `None` if it has to be published again.
    async fn repeated(
        self: &Arc<Self>,
        publication: &mut Publication,
        sequence: u64,
        until: Instant,
    ) -> Result<Option<Appended>, Failure> {
        if self.recent().salt(sequence).is_none() {
            // It may be a message of another stream.
            self.refresh(until).await?;
        }
        let stored = self.kept(sequence, until).await?;
        let stored = stored.filter(|stored| stored.kind() == Kind::Event);
        let Some(stored) = stored else {
            // The event is gone, and its key with it. The engine still remembers the identity, so
            // the message needs another one, which is the same if this is repeated.
            publication.message_id = format!("{}/{sequence}", publication.message_id);
            return Ok(None);
        };
        Ok(Some(publication.repeats(&stored)))
    }
}
