//! Pages of a topic, and its bounds.
//!
//! JetStream does not record which messages of a subject it has dropped. What is known:
//!
//! - The limits on age and size drop the first messages of the stream. So nothing after a sequence
//!   was dropped by them if the stream begins there or earlier.
//! - The limit on the messages of a subject drops the subject's first message, and leaves as many
//!   as the limit allows. If the subject has fewer and the stream has dropped none of them at its
//!   beginning, it has dropped none of the subject.
//! - The deletion of a topic leaves a message.
//!
//! Where none of these excludes a loss, one is assumed: a subscriber then gets a gap event, although
//! it may have missed nothing. A raised limit of an existing stream, and messages that another
//! program removes one by one, are not noticed.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::info::Info;
use super::message::{Kind, Stored};
use super::position::{self, Place};
use super::readers::{Content, TopicReader, UNUSED};
use super::stream::Shared;
use crate::storage::{Bounds, Page, PageLimit, StorageError, StoredEvent};

/// The first and the last message of a topic.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) first: Stored,
    pub(super) last: Stored,
}

/// The events of a page, as far as they have been read.
#[derive(Debug)]
struct PageBuilder {
    after: u64,
    limit: PageLimit,
    events: Vec<StoredEvent>,
    bytes: usize,
    /// The number of messages that were taken from the reader.
    taken: usize,
    /// The position of the last event that a deletion has removed, or 0.
    deleted: u64,
}

impl PageBuilder {
    const fn new(after: u64, limit: PageLimit) -> Self {
        Self { after, limit, events: Vec::new(), bytes: 0, taken: 0, deleted: 0 }
    }

    /// Adds the messages of a reader after those that were taken already, until the page is complete.
    /// Returns the sequence of a deletion that has removed events from the page, if there was one.
    fn extend(&mut self, seen: &VecDeque<(u64, Content)>) -> Option<u64> {
        let mut deletion = None;
        for (sequence, content) in seen.range(self.taken..) {
            if self.is_complete() {
                break;
            }
            self.taken += 1;
            match content {
                Content::Deletion(up_to) => {
                    // What precedes it is about to be removed, unless that has failed.
                    if !self.events.is_empty() {
                        deletion = Some(*sequence);
                    }
                    if *up_to > self.after {
                        self.deleted = *up_to;
                    }
                    self.events.clear();
                    self.bytes = 0;
                }
                Content::Event(event) => {
                    self.bytes += event.fields.len();
                    self.events.push(event.clone());
                }
                Content::Foreign => {}
            }
        }
        deletion
    }

    const fn is_complete(&self) -> bool {
        self.events.len() >= self.limit.events || self.bytes >= self.limit.bytes
    }

    /// Returns what the page has room for.
    const fn left(&self) -> PageLimit {
        let PageLimit { events, bytes } = self.limit;
        PageLimit { events: events - self.events.len(), bytes: bytes - self.bytes }
    }
}

impl Shared {
    /// Reads a page: see [`Storage::read`](crate::storage::Storage::read).
    pub(super) async fn page(
        self: &Arc<Self>,
        topic: &str,
        after: u64,
        limit: PageLimit,
        until: Instant,
    ) -> Result<Page, StorageError> {
        // Only once: the consumers of all kept ones may have failed.
        let mut may_use_kept = true;
        loop {
            let page = self.try_page(topic, after, limit, may_use_kept, until).await;
            may_use_kept = false;
            match page {
                Ok(Some(page)) => return Ok(page),
                Err(failure) if !failure.is_lost() => return Err(failure.into()),
                result => {
                    if !self.pause(until).await {
                        let slow = "messages of the topic are not delivered in time";
                        let slow = || Failure::Lost(slow.to_owned());
                        return Err(result.err().unwrap_or_else(slow).into());
                    }
                }
            }
        }
    }

    /// Reads a page. Returns `None` if the engine does not deliver messages that it has.
    async fn try_page(
        self: &Arc<Self>,
        topic: &str,
        after: u64,
        limit: PageLimit,
        may_use_kept: bool,
        until: Instant,
    ) -> Result<Option<Page>, Failure> {
        self.confirm(until).await?;
        let subject = self.subject(topic);
        let version = self.version();
        let mut reader = {
            let (mut readers, start) = (self.readers(), Place::of(after).last_included());
            let kept = may_use_kept.then(|| readers.take(&subject, start, &version)).flatten();
            kept.unwrap_or_else(|| readers.create(&subject, start, version))
        };
        let mut page = PageBuilder::new(after, limit);
        let (mut is_current, mut is_fetched) = (false, false);
        let is_last = loop {
            if let Some(deletion) = page.extend(&reader.seen) {
                self.purge_later(&subject, deletion);
            }
            let is_at_end = page.taken == reader.seen.len() && reader.reader.after >= reader.last;
            if is_at_end && is_current {
                break true;
            }
            if is_at_end {
                // There may be a later message, or the reader is new. The request goes to the leader:
                // with a replica that lags behind, the topic would end too early.
                self.caught_up(until).await?;
                reader.last = self.last(&subject, until).await?.map_or(0, |last| last.sequence);
                is_current = true;
                continue;
            }
            if page.is_complete() || (is_fetched && !page.events.is_empty()) {
                break false;
            }
            if page.events.is_empty() {
                // What was read so far has no events for this page, so no later page needs it.
                reader.forget(reader.reader.after);
                page.taken = 0;
            }
            let messages = self.fetch(&mut reader.reader, reader.last, page.left(), until).await?;
            if messages.is_empty() {
                return Ok(None);
            }
            reader.extend(messages);
            is_fetched = true;
        };
        let is_kept = !is_last && reader.reader.can_be_kept();
        // After the messages were read: what is still there now was there all the time.
        let dropped = if is_current {
            self.dropped(&subject, after, until).await?
        } else {
            tokio::try_join!(self.dropped(&subject, after, until), self.caught_up(until))?.0
        };
        let dropped = dropped.max(page.deleted);
        let mut events = page.events;
        if dropped > after {
            events.retain(|event| event.position > dropped);
        }
        // They were dropped while they were read. Later ones are read in another attempt.
        if events.is_empty() && !is_last {
            return Ok(None);
        }
        if is_kept && dropped <= after {
            self.keep(reader);
        }
        Ok(Some(Page { events, is_last, dropped }))
    }

    /// Keeps a reader for the next page.
    fn keep(self: &Arc<Self>, reader: TopicReader) {
        if self.readers().keep(reader) {
            tokio::spawn(Arc::clone(self).remove_unused_readers());
        }
    }

    /// Removes kept readers that are not used any more, until no reader is kept.
    async fn remove_unused_readers(self: Arc<Self>) {
        loop {
            sleep(UNUSED / 3).await;
            let mut readers = self.readers();
            let unused = readers.take_unused();
            let is_over = !readers.is_swept();
            drop(readers);
            // Not under the lock, since each removes its consumer.
            drop(unused);
            if is_over {
                return;
            }
        }
    }

    /// Returns a position up to which events of a subject after another position may have been
    /// dropped, or 0 if none was.
    async fn dropped(&self, subject: &str, after: u64, until: Instant) -> Result<u64, Failure> {
        let cursor = Place::of(after).last_included();
        let first = self.next(subject, 1, until).await?;
        match &first {
            Some(first) if first.sequence <= cursor => return Ok(0),
            Some(first) => {
                // Before the deletion there is nothing else, and after it nothing was dropped.
                if let Kind::Deletion(up_to) = first.kind() {
                    return Ok(if up_to > after { up_to } else { 0 });
                }
            }
            None => {}
        }
        let info = self.info(Some(subject), 0, until).await?;
        if !may_have_dropped(&info, subject, cursor) {
            return Ok(0);
        }
        match first {
            Some(first) => Ok(first.before()),
            None if info.last <= cursor => Ok(0),
            None => self.last_position(until).await,
        }
    }

    /// Returns the first and the last message of a topic, or `None` if it holds no events.
    pub(super) async fn ends(
        self: &Arc<Self>,
        topic: &str,
        until: Instant,
    ) -> Result<Option<Ends>, Failure> {
        let subject = self.subject(topic);
        let _reader = self.deleted().reader();
        let Some(last) = self.last(&subject, until).await? else { return Ok(None) };
        let first = self.next(&subject, 1, until).await?;
        if matches!(last.kind(), Kind::Deletion(_)) {
            if first.is_some_and(|first| first.sequence < last.sequence) {
                self.purge_later(&subject, last.sequence);
            }
            self.deleted().insert(topic, last.sequence);
            return Ok(None);
        }
        Ok(Some(Ends { first: first.unwrap_or_else(|| last.clone()), last }))
    }

    /// Returns the bounds of a topic: see [`Storage::bounds`](crate::storage::Storage::bounds).
    pub(super) async fn bounds(
        self: &Arc<Self>,
        topic: &str,
        until: Instant,
    ) -> Result<Bounds, StorageError> {
        loop {
            match self.try_bounds(topic, until).await {
                Err(failure) if failure.is_lost() && self.pause(until).await => {}
                result => return Ok(result?),
            }
        }
    }

    async fn try_bounds(self: &Arc<Self>, topic: &str, until: Instant) -> Result<Bounds, Failure> {
        self.confirm(until).await?;
        self.caught_up(until).await?;
        let subject = self.subject(topic);
        let Some(last) = self.last(&subject, until).await? else {
            let info = self.info(Some(&subject), 0, until).await?;
            let dropped = if info.first > 1 { before_stream(&info) } else { 0 };
            return Ok(Bounds { dropped, ..Bounds::default() });
        };
        // Read after the last message: the first may be dropped meanwhile.
        let first = self.next(&subject, 1, until).await?.unwrap_or_else(|| last.clone());
        if let Kind::Deletion(dropped) = last.kind() {
            return Ok(Bounds { dropped, ..Bounds::default() });
        }
        if let Kind::Deletion(dropped) = first.kind() {
            let from = first.sequence + 1;
            let first = self.next(&subject, from, until).await?.unwrap_or_else(|| last.clone());
            let (first, last) = (Some(first.event_ref()), Some(last.event_ref()));
            return Ok(Bounds { dropped, first, last });
        }
        let info = self.info(Some(&subject), 0, until).await?;
        let mut dropped = if info.first > 1 { before_stream(&info) } else { 0 };
        if may_have_dropped(&info, &subject, info.first.saturating_sub(1)) {
            dropped = dropped.max(first.before());
        }
        Ok(Bounds { dropped, first: Some(first.event_ref()), last: Some(last.event_ref()) })
    }

    /// Removes the messages of a topic before its deletion, in the background.
    fn purge_later(self: &Arc<Self>, subject: &str, before: u64) {
        let (shared, subject) = (Arc::clone(self), subject.to_owned());
        tokio::spawn(async move {
            let until = shared.deadline();
            if let Err(failure) = shared.purge(&subject, before, until).await {
                log::warn!("NATS: deleted events of {subject} could not be removed: {failure}");
            }
        });
    }

    /// Removes the messages of a subject before a sequence.
    pub(super) async fn purge(
        &self,
        subject: &str,
        before: u64,
        until: Instant,
    ) -> Result<(), Failure> {
        let operation = format!("STREAM.PURGE.{}", self.api.stream);
        let body = json!({ "filter": subject, "seq": before });
        self.api.call(&operation, &body, until).await.map(|_| ())
    }
}

/// Returns the position before the first message of the stream.
fn before_stream(info: &Info) -> u64 {
    // Every position of an earlier message is less, also with the greatest salt.
    position::before(info.first.saturating_sub(1), 0)
}

/// Returns whether limits may have dropped messages of a subject after a sequence, given that the
/// subject has no earlier message.
fn may_have_dropped(info: &Info, subject: &str, cursor: u64) -> bool {
    let is_full = info.per_subject.is_some_and(|most| info.count(subject) >= most);
    info.first > cursor + 1 || is_full
}
