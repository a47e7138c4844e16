//! The list of topics, and their maximum number.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::failure::Failure;
use super::message::Kind;
use super::read::Ends;
use super::stream::Shared;
use super::subject;
use crate::storage::{StorageError, TopicSummary};

/// The number of topics that are examined at the same time.
const AT_ONCE: usize = 16;

impl Shared {
    /// Returns the maximum number of topics if a topic would exceed it.
    pub(super) async fn full(
        &self,
        topic: &Arc<str>,
        until: Instant,
    ) -> Result<Option<usize>, Failure> {
        if self.known().contains(topic) {
            return Ok(None);
        }
        let subject = self.subject(topic);
        let info = self.info(Some(&subject), 0, until).await?;
        let most = self.config.max_topics;
        let is_full = usize::try_from(info.subjects).is_ok_and(|subjects| subjects >= most);
        if !is_full || !self.is_empty(&subject, info.count(&subject), until).await? {
            return Ok(None);
        }
        let all = format!("{}.*", self.api.stream);
        let mut holding = 0;
        for (subject, count) in self.info(Some(&all), 0, until).await?.counts {
            holding += usize::from(!self.is_empty(&subject, count, until).await?);
        }
        Ok((holding >= most).then_some(most))
    }

    /// Returns whether a topic holds no events. One that was deleted has a message nevertheless.
    async fn is_empty(&self, subject: &str, count: u64, until: Instant) -> Result<bool, Failure> {
        if count != 1 {
            return Ok(count == 0);
        }
        let last = self.last(subject, until).await?;
        Ok(last.is_none_or(|last| matches!(last.kind(), Kind::Deletion(_))))
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
            for (topic, count) in counts.by_ref().take(AT_ONCE) {
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
