//! The list of topics, and their maximum number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::api::{Begin, Pull, Selection};
use super::consumer::Consumer;
use super::failure::Failure;
use super::message::Kind;
use super::read::Ends;
use super::stream::{Shared, check_caught_up};
use super::subject;
use crate::storage::{StorageError, TopicSummary};

/// The number of topics that are examined at the same time.
const AT_ONCE: usize = 16;

/// The minimum time between two examinations of all topics, while publications are refused.
const AGAIN: Duration = Duration::from_secs(1);

/// The maximum time of an examination. A publication waits for it only until its own deadline.
const EXAMINATION: Duration = Duration::from_secs(60);

/// The maximum number of topics that are read with one request.
const TOPICS: usize = 1000;

impl Shared {
    /// Returns the maximum number of topics if a topic would exceed it.
    pub(super) async fn full(
        self: &Arc<Self>,
        topic: &Arc<str>,
        until: Instant,
    ) -> Result<Option<usize>, Failure> {
        if self.known().contains(topic) {
            return Ok(None);
        }
        let subject = self.subject(topic);
        let most = self.config.max_topics;
        loop {
            let start = Instant::now();
            let seen = self.newest_seen();
            let info = self.info(Some(&subject), 0, until).await?;
            let subjects = usize::try_from(info.subjects).unwrap_or(usize::MAX);
            if subjects < most || !self.is_empty(topic, info.count(&subject), until).await? {
                return Ok(None);
            }
            let has_others = info.has_other_subjects;
            let topics = if has_others { self.counts(None, until).await?.len() } else { subjects };
            if topics.saturating_sub(self.deleted().count(info.first)) < most {
                return Ok(None);
            }
            check_caught_up(&info, seen)?;
            // Deletions from before the start of the feed, or that it has not reached, are not
            // counted yet.
            let late = |_| Failure::Lost("the topics were not read in time".to_owned());
            let examined = Arc::clone(&self.examined).lock_owned();
            let mut examined = timeout_at(until, examined).await.map_err(late)?;
            match *examined {
                // Another publication has had all topics examined meanwhile.
                Some(end) if end > start => continue,
                Some(end) if end + AGAIN > start => return Ok(Some(most)),
                _ => {}
            }
            let shared = Arc::clone(self);
            // A separate task, since it may take longer than this publication may wait.
            let examination = tokio::spawn(async move {
                shared.examine_topics(info.last, Instant::now() + EXAMINATION).await?;
                *examined = Some(Instant::now());
                Ok(())
            });
            let failed = |error| Failure::Lost(format!("the topics were not read: {error}"));
            timeout_at(until, examination).await.map_err(late)?.map_err(failed)??;
        }
    }

    /// Returns whether a topic holds no events, given the number of its messages. One that was
    /// deleted has a message nevertheless.
    async fn is_empty(&self, topic: &str, count: u64, until: Instant) -> Result<bool, Failure> {
        if count != 1 || self.deleted().contains(topic) {
            return Ok(count <= 1);
        }
        let last = self.last(&self.subject(topic), until).await?;
        Ok(last.is_none_or(|last| matches!(last.kind(), Kind::Deletion(_))))
    }

    /// Reads the last message of each topic up to a sequence, and notes which topics were deleted.
    async fn examine_topics(&self, last: u64, until: Instant) -> Result<(), Failure> {
        let all = format!("{}.*", self.api.stream);
        let _reader = self.deleted().reader();
        let selection =
            Selection { begin: Begin::LastOfEach, subject: Some(&all), only_headers: true };
        let size = Pull { messages: TOPICS, bytes: None, wait: None };
        let mut consumer = Consumer::create(self.api.clone(), selection, size, until).await?;
        while let Some(message) = consumer.next(until).await? {
            if let Some(topic) = message.topic(&self.api.stream) {
                match message.kind() {
                    Kind::Deletion(_) => self.deleted().insert(&topic, message.sequence),
                    Kind::Event | Kind::Foreign => self.deleted().remove(&topic, message.sequence),
                }
            }
            if message.sequence >= last {
                break;
            }
        }
        Ok(())
    }

    /// Lists topics: see [`Storage::topics`](crate::storage::Storage::topics).
    pub(super) async fn list(
        self: Arc<Self>,
        after: Option<String>,
        limit: usize,
        until: Instant,
    ) -> Result<Vec<TopicSummary>, StorageError> {
        loop {
            match self.try_list(after.as_deref(), limit, until).await {
                Err(failure) if failure.is_lost() && self.pause(until).await => {}
                result => return Ok(result?),
            }
        }
    }

    async fn try_list(
        self: &Arc<Self>,
        after: Option<&str>,
        limit: usize,
        until: Instant,
    ) -> Result<Vec<TopicSummary>, Failure> {
        self.confirm(until).await?;
        let counts = self.counts(after, until).await?;
        let mut rows = Vec::new();
        let mut counts = counts.into_iter();
        while rows.len() < limit {
            let mut examined: JoinSet<Result<_, Failure>> = JoinSet::new();
            // A deleted topic has one message. With another one, it may hold an event.
            let is_deleted = |topic: &str, count| count == 1 && self.deleted().contains(topic);
            let held = counts.by_ref().filter(|(topic, count)| !is_deleted(topic, *count));
            for (topic, count) in held.take(AT_ONCE) {
                let shared = Arc::clone(self);
                examined.spawn(async move {
                    let ends = shared.ends(&topic, until).await?;
                    Ok(ends.map(|ends| summary(topic, count, &ends)))
                });
            }
            if examined.is_empty() {
                break;
            }
            while let Some(row) = examined.join_next().await {
                let failed = |error| Failure::Lost(format!("a topic was not read: {error}"));
                rows.extend(row.map_err(failed)??);
            }
        }
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Returns the number of messages of each topic after a name.
    async fn counts(
        &self,
        after: Option<&str>,
        until: Instant,
    ) -> Result<BTreeMap<Arc<str>, u64>, Failure> {
        let stream = &self.api.stream;
        let all = format!("{stream}.*");
        let mut counts = BTreeMap::new();
        let mut offset = 0;
        loop {
            // The engine returns a large number of subjects in parts.
            let info = self.info(Some(&all), offset, until).await?;
            let received = info.counts.len();
            offset += received;
            for (subject, count) in info.counts {
                let topic = subject::to_topic(stream, &subject);
                let topic = topic.filter(|topic| after.is_none_or(|after| **topic > *after));
                counts.extend(topic.map(|topic| (topic, count)));
            }
            if received == 0 || u64::try_from(offset).is_ok_and(|offset| offset >= info.subjects) {
                return Ok(counts);
            }
        }
    }
}

fn summary(name: Arc<str>, count: u64, ends: &Ends) -> TopicSummary {
    let deletion = u64::from(ends.first.kind() != Kind::Event);
    let events = usize::try_from(count.saturating_sub(deletion).max(1)).unwrap_or(usize::MAX);
    TopicSummary { name, events, bytes: 0, last: Some(ends.last.event_ref()) }
}
