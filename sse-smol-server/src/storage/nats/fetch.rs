//! Consecutive messages of a subject.

use std::time::Duration;

use tokio::time::Instant;

use super::api::{Begin, Pull, Selection};
use super::failure::Failure;
use super::message::Stored;
use super::stream::Shared;
use crate::storage::PageLimit;

/// The number of messages that are read one by one before a consumer is created, which takes as
/// long as several messages.
const SINGLE: usize = 4;

/// The maximum number of messages that a consumer delivers at a time.
const BATCH: usize = 256;

/// The maximum time without a message from a consumer. It sends at once what it has.
const SILENCE: Duration = Duration::from_secs(1);

/// Which messages to fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<'a> {
    pub(super) subject: &'a str,
    /// Messages after this sequence.
    pub(super) after: u64,
    /// The sequence of the last message of the subject, which exists.
    pub(super) last: u64,
    pub(super) limit: PageLimit,
    pub(super) only_headers: bool,
}

/// Messages, and how much of the limit they take.
pub(super) struct Fetched {
    pub(super) messages: Vec<Stored>,
    bytes: usize,
    after: u64,
    /// The number of messages that the consumer has delivered.
    deliveries: u64,
}

impl Fetched {
    pub(super) const fn new(after: u64) -> Self {
        Self { messages: Vec::new(), bytes: 0, after, deliveries: 0 }
    }

    fn push(&mut self, message: Stored) {
        // A consumer on a replica that lags behind may begin with older messages.
        if message.sequence > self.after {
            self.after = message.sequence;
            self.bytes += message.payload.len();
            self.messages.push(message);
        }
    }

    fn is_complete(&self, range: &Range<'_>) -> bool {
        self.after >= range.last
            || self.messages.len() >= range.limit.events
            || self.bytes >= range.limit.bytes
    }
}

impl Shared {
    /// Returns messages in the order of sequences, until the limit or the last message is reached.
    /// It may return fewer if the engine does not deliver more at the moment.
    pub(super) async fn fetch(
        &self,
        range: Range<'_>,
        until: Instant,
    ) -> Result<Vec<Stored>, Failure> {
        let mut fetched = Fetched::new(range.after);
        let mut singles = 0;
        while singles < SINGLE || self.has_unreadable(fetched.after) {
            singles += 1;
            if fetched.is_complete(&range) {
                return Ok(fetched.messages);
            }
            match self.next(range.subject, fetched.after + 1, until).await? {
                Some(message) => fetched.push(message),
                None => return Ok(fetched.messages),
            }
        }
        if fetched.is_complete(&range) {
            return Ok(fetched.messages);
        }
        let selection = Selection {
            begin: Begin::At(fetched.after + 1),
            subject: Some(range.subject),
            only_headers: range.only_headers,
        };
        let consumer = self.api.create_consumer(selection, until).await?;
        let result = self.consume(&consumer, &mut fetched, &range, until).await;
        self.api.delete_consumer(&consumer, until).await;
        match result {
            Err(failure) if fetched.messages.is_empty() => Err(failure),
            _ => Ok(fetched.messages),
        }
    }

    /// Takes messages from a consumer, until the limit or the last message is reached, or the consumer
    /// has no more.
    pub(super) async fn consume(
        &self,
        consumer: &str,
        fetched: &mut Fetched,
        range: &Range<'_>,
        until: Instant,
    ) -> Result<(), Failure> {
        while !fetched.is_complete(range) {
            let wanted = range.limit.events.saturating_sub(fetched.messages.len());
            let pull = Pull {
                messages: wanted.min(BATCH),
                bytes: Some(range.limit.bytes.max(2 * self.api.link.max_payload())),
                wait: None,
            };
            let mut replies = self.api.pull(consumer, pull, until).await?;
            let before = fetched.messages.len();
            for _ in 0..pull.messages {
                let reply = replies.next(until.min(Instant::now() + SILENCE)).await?;
                if reply.status.is_some_and(|status| status.as_u16() != 200)
                    && !Stored::is_stored(&reply)
                {
                    // The end of what it has.
                    break;
                }
                let Some(delivery) = Stored::from_consumer(reply) else { break };
                fetched.deliveries += 1;
                if delivery.number != fetched.deliveries {
                    // One was lost on the way. Those before it are consecutive.
                    return Ok(());
                }
                fetched.push(delivery.message);
                if fetched.is_complete(range) {
                    break;
                }
            }
            if fetched.messages.len() == before {
                break;
            }
        }
        Ok(())
    }
}
