//! Consecutive messages of a subject.

use tokio::time::Instant;

use super::failure::Failure;
use super::message::Stored;
use super::reader::Reader;
use super::stream::Shared;
use crate::storage::PageLimit;

/// The number of messages that are read one by one before a consumer is created, which takes as
/// long as several messages.
const SINGLE: usize = 4;

/// Messages, and how much of a limit they take.
struct Fetched {
    messages: Vec<Stored>,
    bytes: usize,
    limit: PageLimit,
    /// The sequence of the last message to fetch.
    last: u64,
}

impl Fetched {
    fn push(&mut self, message: Stored, after: &mut u64) {
        // A consumer on a replica that lags behind may begin with older messages.
        if message.sequence > *after {
            *after = message.sequence;
            self.bytes += message.payload.len();
            self.messages.push(message);
        }
    }

    const fn is_complete(&self, after: u64) -> bool {
        after >= self.last
            || self.messages.len() >= self.limit.events
            || self.bytes >= self.limit.bytes
    }
}

impl Shared {
    /// Returns messages of a reader, up to the limit or to `last`, the sequence of a message of the
    /// subject that exists. It returns fewer if the engine delivers no more at the moment, or if an
    /// error follows them.
    pub(super) async fn fetch(
        &self,
        reader: &mut Reader,
        last: u64,
        limit: PageLimit,
        until: Instant,
    ) -> Result<Vec<Stored>, Failure> {
        let mut fetched = Fetched { messages: Vec::new(), bytes: 0, limit, last };
        match self.fill(reader, &mut fetched, until).await {
            Err(failure) if fetched.messages.is_empty() => Err(failure),
            _ => Ok(fetched.messages),
        }
    }

    /// Adds messages until those are complete, or the engine delivers no more at the moment.
    async fn fill(
        &self,
        reader: &mut Reader,
        fetched: &mut Fetched,
        until: Instant,
    ) -> Result<(), Failure> {
        let (mut singles, mut is_refused) = (0, false);
        while !fetched.is_complete(reader.after) {
            let is_unreadable = self.has_unreadable(reader.after);
            if is_unreadable {
                reader.remove_consumer();
            }
            let is_single = is_unreadable || is_refused;
            let message = if is_single || (singles < SINGLE && !reader.has_consumer()) {
                singles += 1;
                self.next(reader.subject(), reader.after + 1, until).await?
            } else {
                let consumer = match reader.consumer(&self.api, fetched.limit, until).await {
                    Ok(Some(consumer)) => consumer,
                    Ok(None) => return Ok(()),
                    Err(Failure::Refused(..)) => {
                        // The number of consumers may be limited.
                        is_refused = true;
                        continue;
                    }
                    Err(failure) => return Err(failure),
                };
                let result = consumer.next(until).await;
                if !matches!(result, Ok(Some(_))) {
                    reader.remove_consumer();
                }
                result?
            };
            let Some(message) = message else { return Ok(()) };
            fetched.push(message, &mut reader.after);
        }
        Ok(())
    }
}
