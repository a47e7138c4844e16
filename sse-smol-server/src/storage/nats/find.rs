//! Finding events by the IDs that publishers chose.
//!
//! JetStream has no index of them. A server reads the headers of a topic's events when it needs
//! their IDs for the first time, and from then on those of new events. It keeps the IDs of a bounded
//! number of topics and events, and with them the keys, since a known key takes precedence over a
//! known ID. An event with a chosen ID is only stored directly after the last event whose ID was
//! considered, so two servers cannot store the same ID twice.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::ids::{Ids, MAX_IDS, of_id, of_key};
use super::message::Stored;
use super::position::Place;
use super::reader::Reader;
use super::stream::Shared;
use crate::storage::{PageLimit, StorageError};

/// The number of events whose headers are read with one page.
const EVENTS: usize = 1000;

/// What a topic has.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The sequence of the last message.
    pub(super) last: u64,
    /// The event with an ID.
    pub(super) by_id: Option<Stored>,
    /// The event with a key.
    pub(super) by_key: Option<Stored>,
}

impl Shared {
    /// Reads the IDs of a topic's events that are not known yet. Returns the sequence of the last
    /// message of the topic.
    async fn read_ids(&self, topic: &Arc<str>, until: Instant) -> Result<u64, Failure> {
        let epoch = self.epoch();
        let subject = self.subject(topic);
        self.caught_up(until).await?;
        let last = self.last(&subject, until).await?.map_or(0, |last| last.sequence);
        let mut permit = None;
        let mut reader = Reader::of_headers(&subject, 0);
        loop {
            let after = {
                let mut ids = self.ids();
                if ids.epoch != epoch {
                    *ids = Ids::default();
                    ids.epoch.clone_from(&epoch);
                }
                ids.up_to(topic)
            };
            if after >= last {
                return Ok(last);
            }
            if permit.is_none() {
                let waited = timeout_at(until, self.id_reads.acquire()).await;
                permit = Some(waited.map_err(|_| Failure::Lost("too many IDs are read".into()))?);
                // Another operation may have read them meanwhile.
                continue;
            }
            let limit = PageLimit { events: EVENTS, bytes: usize::MAX >> 1 };
            if reader.after != after {
                reader = Reader::of_headers(&subject, after);
            }
            let messages = self.fetch(&mut reader, last, limit, until).await?;
            if messages.is_empty() {
                return Err(Failure::Lost("the IDs of the topic are not delivered".to_owned()));
            }
            self.ids().extend(topic, &messages);
            self.bound_ids(topic, &subject, until).await?;
        }
    }

    /// Keeps the number of IDs within its bound.
    async fn bound_ids(
        &self,
        topic: &Arc<str>,
        subject: &str,
        until: Instant,
    ) -> Result<(), Failure> {
        let is_too_large = {
            let mut ids = self.ids();
            ids.make_room(topic);
            ids.count > MAX_IDS
        };
        if !is_too_large {
            return Ok(());
        }
        // Events that the stream has dropped since then.
        let first = self.next(subject, 1, until).await?.map_or(0, |first| first.position());
        let mut ids = self.ids();
        ids.prune(topic, first);
        if ids.count > MAX_IDS {
            ids.forget(topic);
            let why = format!("more than {MAX_IDS} events of the topic have an ID of a publisher");
            return Err(Failure::Refused(0, why));
        }
        Ok(())
    }

    /// Returns the event of an ID or a key that has been read, if the stream still has it.
    async fn entry(
        &self,
        topic: &Arc<str>,
        id: &str,
        until: Instant,
    ) -> Result<Option<Stored>, Failure> {
        let Some(position) = self.ids().get(topic, id) else { return Ok(None) };
        let stored = self.kept(Place::of(position).sequence, until).await?;
        let stored = stored.filter(|stored| stored.position() == position);
        if stored.is_none() {
            self.ids().remove(topic, id);
        }
        Ok(stored)
    }

    /// Looks up the ID of an event, and the identity of its message.
    pub(super) async fn lookup(
        &self,
        topic: &Arc<str>,
        id: &str,
        message_id: &str,
        until: Instant,
    ) -> Result<Lookup, Failure> {
        let last = self.read_ids(topic, until).await?;
        let by_id = self.entry(topic, &of_id(id), until).await?;
        let by_key = match of_key(message_id) {
            Some(key) => self.entry(topic, key, until).await?,
            None => None,
        };
        Ok(Lookup { last, by_id, by_key })
    }

    /// Records an event that this server has stored directly after the message with sequence
    /// `last`.
    pub(super) fn note_id(
        &self,
        topic: &Arc<str>,
        id: &str,
        message_id: &str,
        last: u64,
        position: u64,
    ) {
        let mut ids = self.ids();
        if ids.up_to(topic) == last {
            let key = of_key(message_id).map(Into::into);
            ids.push(topic, position, key.into_iter().chain([of_id(id)]));
            ids.make_room(topic);
            if ids.count > MAX_IDS {
                // They are read again, without those that the stream has dropped.
                ids.forget(topic);
            }
        }
    }

    /// Returns the position of an event: see [`Storage::find`](crate::storage::Storage::find).
    pub(super) async fn find(
        self: Arc<Self>,
        topic: Arc<str>,
        id: Box<str>,
        until: Instant,
    ) -> Result<Option<u64>, StorageError> {
        loop {
            let found = async {
                self.confirm(until).await?;
                self.read_ids(&topic, until).await?;
                self.entry(&topic, &of_id(&id), until).await
            };
            match found.await {
                Err(failure) if failure.is_lost() && self.pause(until).await => {}
                Err(failure) => return Err(failure.into()),
                Ok(stored) => return Ok(stored.map(|stored| stored.position())),
            }
        }
    }
}
