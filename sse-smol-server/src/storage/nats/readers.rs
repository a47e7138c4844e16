//! Readers that are kept from one page of a subscriber to the next.
//!
//! A subscriber that is far behind reads one page after the other, and creating a consumer takes
//! longer than reading a page. A request for a page does not name its subscriber. So a reader is kept
//! for a short time, and used for a page that begins where the reader's last page ended. A page of
//! several topics may end before the last event that was read of one of them. So the events of the
//! last page are kept, too, and the next page may begin at any of them.
//!
//! A kept reader is used only with the stream and the connection that it was created for.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::message::{Kind, Stored};
use super::reader::Reader;
use crate::storage::StoredEvent;

/// The maximum number of readers that are kept, including those in use that may be kept. Each holds
/// the events of a page and the messages of one request.
const MOST: usize = 32;

/// The time for which a reader is kept, which is less than that for which the engine keeps an unused
/// consumer.
pub(super) const UNUSED: Duration = Duration::from_secs(3);

/// The time for which no readers are kept after they were released.
const RELEASED: Duration = Duration::from_secs(5);

/// The stream and the connection that operations use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The identity of the stream.
    pub(super) epoch: String,
    /// How often the connection had been lost.
    pub(super) losses: u64,
    /// How often the stream had lost its end, or been replaced.
    pub(super) resets: u64,
}

/// A message that was read.
#[derive(Debug)]
pub(super) enum Content {
    Event(StoredEvent),
    /// A deletion, with the position of the last event that was deleted.
    Deletion(u64),
    Foreign,
}

/// A reader of a topic.
#[derive(Debug)]
pub(super) struct TopicReader {
    pub(super) reader: Reader,
    /// The messages that were read after the sequence `start`, with their sequences.
    pub(super) seen: VecDeque<(u64, Content)>,
    start: u64,
    /// The sequence of the last message of the topic when that was last requested, or 0.
    pub(super) last: u64,
    version: Version,
    /// When the reader was created or last kept.
    used: Instant,
}

impl TopicReader {
    /// Adds messages that were read.
    pub(super) fn extend(&mut self, messages: Vec<Stored>) {
        self.seen.extend(messages.into_iter().map(|message| {
            let sequence = message.sequence;
            let content = match message.kind() {
                Kind::Event => Content::Event(message.event()),
                Kind::Deletion(up_to) => Content::Deletion(up_to),
                Kind::Foreign => Content::Foreign,
            };
            (sequence, content)
        }));
    }

    /// Forgets the messages up to a sequence.
    pub(super) fn forget(&mut self, up_to: u64) {
        while self.seen.front().is_some_and(|(sequence, _)| *sequence <= up_to) {
            self.seen.pop_front();
        }
        self.start = self.start.max(up_to);
    }

    /// Returns whether the messages after a sequence can be read from here.
    fn covers(&self, subject: &str, after: u64, version: &Version) -> bool {
        let range = self.start..=self.reader.after;
        range.contains(&after) && self.reader.subject() == subject && self.version == *version
    }
}

/// The readers that are kept.
#[derive(Debug)]
pub(super) struct Readers {
    kept: Vec<TopicReader>,
    permits: Arc<Semaphore>,
    /// Whether a task removes readers that are not used.
    is_swept: bool,
    /// When the readers were released.
    released: Option<Instant>,
}

impl Default for Readers {
    fn default() -> Self {
        let permits = Arc::new(Semaphore::new(MOST));
        Self { kept: Vec::new(), permits, is_swept: false, released: None }
    }
}

impl Readers {
    /// Returns a kept reader of the messages of a subject after a sequence.
    pub(super) fn take(
        &mut self,
        subject: &str,
        after: u64,
        version: &Version,
    ) -> Option<TopicReader> {
        let kept = self.kept.iter().enumerate();
        let kept = kept.filter(|(_, one)| one.covers(subject, after, version));
        // Of several, the one that has read the least beyond this sequence.
        let (index, _) = kept.min_by_key(|(_, one)| one.reader.after)?;
        let mut reader = self.kept.swap_remove(index);
        reader.forget(after);
        Some(reader)
    }

    /// Creates a reader of the messages of a subject after a sequence.
    pub(super) fn create(&self, subject: &str, after: u64, version: Version) -> TopicReader {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        TopicReader {
            reader: Reader::new(subject, after, permit),
            seen: VecDeque::new(),
            start: after,
            last: 0,
            version,
            used: Instant::now(),
        }
    }

    /// Keeps a reader for the next page. Returns whether a task has to begin to remove those that
    /// are not used.
    pub(super) fn keep(&mut self, mut reader: TopicReader) -> bool {
        if self.released.is_some_and(|released| released.elapsed() < RELEASED) {
            return false;
        }
        reader.used = Instant::now();
        self.kept.push(reader);
        !mem::replace(&mut self.is_swept, true)
    }

    /// Returns all readers that are kept, to be dropped, and keeps none for a while.
    pub(super) fn release(&mut self) -> Vec<TopicReader> {
        self.released = Some(Instant::now());
        mem::take(&mut self.kept)
    }

    /// Removes the readers that are not used any more. If there are no others, the task that does
    /// this has to end.
    pub(super) fn take_unused(&mut self) -> Vec<TopicReader> {
        let is_unused = |one: &mut TopicReader| one.used.elapsed() >= UNUSED;
        let unused = self.kept.extract_if(.., is_unused).collect();
        self.is_swept = !self.kept.is_empty();
        unused
    }

    /// Returns whether a task removes readers that are not used.
    pub(super) const fn is_swept(&self) -> bool {
        self.is_swept
    }
}
