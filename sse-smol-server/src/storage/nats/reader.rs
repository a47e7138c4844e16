//! A reader of the messages of a subject, and the consumer that it creates.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::api::{Api, Begin, Pull, Selection};
use super::consumer::Consumer;
use super::failure::Failure;
use crate::storage::PageLimit;

/// The time for which a reader waits for its consumer. In a cluster under load, the creation takes
/// much longer than reading a message.
const CREATION_TIMEOUT: Duration = Duration::from_millis(50);

/// The maximum number of messages of one request of a reader that may be kept, and their size in
/// bytes. This is more than a page, so that messages arrive while others are processed. A reader has
/// one request at once, since a consumer distributes its messages over all requests. In memory, with
/// their headers, the messages take about 1 MiB.
const MESSAGES: usize = 1024;
const BYTES: usize = 256 << 10;

/// Reads the messages of a subject in the order of sequences.
#[derive(Debug)]
pub(super) struct Reader {
    subject: Arc<str>,
    /// The sequence up to which the messages have been read.
    pub(super) after: u64,
    only_headers: bool,
    source: Source,
    /// The permit to keep this reader after the operation.
    permit: Option<OwnedSemaphorePermit>,
}

/// Where a reader gets its messages from.
#[derive(Debug)]
enum Source {
    /// From the stream, one by one.
    Stream,
    /// From the stream, until this consumer has been created.
    Creation(JoinHandle<Result<Consumer, Failure>>),
    Consumer(Consumer),
}

impl Reader {
    /// Creates a reader of the messages after a sequence.
    pub(super) fn new(subject: &str, after: u64, permit: Option<OwnedSemaphorePermit>) -> Self {
        let subject = subject.into();
        Self { subject, after, only_headers: false, source: Source::Stream, permit }
    }

    /// Creates a reader of the headers of the messages after a sequence.
    pub(super) fn of_headers(subject: &str, after: u64) -> Self {
        Self { only_headers: true, ..Self::new(subject, after, None) }
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns whether this may be kept, and has a consumer, or one that is being created, for the
    /// next operation.
    pub(super) const fn can_be_kept(&self) -> bool {
        self.permit.is_some() && !matches!(self.source, Source::Stream)
    }

    /// Returns whether there is a consumer that need not be waited for.
    pub(super) fn has_consumer(&self) -> bool {
        match &self.source {
            Source::Stream => false,
            Source::Creation(creation) => creation.is_finished(),
            Source::Consumer(_) => true,
        }
    }

    /// Returns the consumer, which is created if there is none. Returns `None` if that takes long
    /// and this reader can be kept until it is done.
    pub(super) async fn consumer(
        &mut self,
        api: &Api,
        limit: PageLimit,
        until: Instant,
    ) -> Result<Option<&mut Consumer>, Failure> {
        if matches!(self.source, Source::Stream) {
            // A separate task: if the reader is dropped meanwhile, the consumer is, too.
            self.source = Source::Creation(tokio::spawn(self.create(api, limit, until)));
        }
        if let Source::Creation(creation) = &mut self.source {
            let creation_until = self.permit.as_ref().map(|_| Instant::now() + CREATION_TIMEOUT);
            let created =
                match timeout_at(creation_until.unwrap_or(until).min(until), creation).await {
                    Ok(created) => {
                        created.unwrap_or_else(|error| Err(Failure::Lost(error.to_string())))
                    }
                    Err(_) if creation_until.is_some() => return Ok(None),
                    Err(_) => Err(Failure::Lost("the consumer is not created in time".to_owned())),
                };
            // Also after an error: a finished task must not be polled again.
            self.source = Source::Stream;
            self.source = Source::Consumer(created?);
        }
        Ok(match &mut self.source {
            Source::Consumer(consumer) => Some(consumer),
            Source::Stream | Source::Creation(_) => None,
        })
    }

    /// Removes the consumer, which has failed or does not deliver what the stream has.
    pub(super) fn remove_consumer(&mut self) {
        self.source = Source::Stream;
    }

    /// Creates a consumer of the messages that have not been read.
    fn create(
        &self,
        api: &Api,
        limit: PageLimit,
        until: Instant,
    ) -> impl Future<Output = Result<Consumer, Failure>> + use<> {
        let (api, subject) = (api.clone(), Arc::clone(&self.subject));
        let (begin, only_headers) = (Begin::At(self.after + 1), self.only_headers);
        let (messages, bytes) = match self.permit {
            Some(_) => (MESSAGES, BYTES),
            // Headers and subjects can take more than the data.
            None => (limit.events.min(MESSAGES), limit.bytes.saturating_mul(4).min(BYTES)),
        };
        let size = Pull { messages, bytes: Some(bytes), wait: None };
        async move {
            let selection = Selection { begin, subject: Some(&*subject), only_headers };
            Consumer::create(api, selection, size, until).await
        }
    }
}
