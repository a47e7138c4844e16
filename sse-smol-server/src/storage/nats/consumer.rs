//! A consumer: messages of the stream in their order, requested in parts.

use std::mem;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::api::{Api, Pull, Selection};
use super::failure::Failure;
use super::link::Deliveries;
use super::message::{Delivery, Stored};

/// The maximum time without a message. A consumer sends at once what it has.
const SILENCE: Duration = Duration::from_secs(1);

/// The time within which a consumer is removed. After that, the engine does it.
const REMOVAL: Duration = Duration::from_secs(1);

/// A consumer. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Consumer {
    api: Api,
    name: String,
    /// The size of each request.
    size: Pull,
    /// The number of messages that were received.
    received: u64,
    request: Option<Request>,
}

/// A request for messages, of which not all have been received.
#[derive(Debug)]
struct Request {
    deliveries: Deliveries,
    /// The number of messages that may follow.
    left: usize,
    /// Whether a message was received.
    is_begun: bool,
}

impl Consumer {
    /// Creates a consumer. Its messages are requested in parts of this size. A larger message is
    /// requested alone.
    pub(super) async fn create(
        api: Api,
        selection: Selection<'_>,
        size: Pull,
        until: Instant,
    ) -> Result<Self, Failure> {
        let name = api.create_consumer(selection, until).await?;
        Ok(Self { api, name, size, received: 0, request: None })
    }

    async fn request(&mut self, size: Pull, until: Instant) -> Result<(), Failure> {
        let deliveries = self.api.pull(&self.name, size, until).await?;
        self.request = Some(Request { deliveries, left: size.messages, is_begun: false });
        Ok(())
    }

    /// Returns the next message, or `None` if the consumer has no more at the moment. After an error,
    /// it must not be used any more.
    pub(super) async fn next(&mut self, until: Instant) -> Result<Option<Stored>, Failure> {
        // Whether the current request was made here, and not in an earlier call.
        let mut is_new = false;
        loop {
            let Some(request) = &mut self.request else {
                self.request(self.size, until).await?;
                is_new = true;
                continue;
            };
            let reply = match request.deliveries.arrived().await {
                Some(reply) => reply?,
                None => request.deliveries.next(until.min(Instant::now() + SILENCE)).await?,
            };
            let status = reply.status.filter(|_| !Stored::is_stored(&reply));
            let status = status.map(|status| status.as_u16()).filter(|status| *status != 200);
            if let Some(status) = status {
                // The consumer has no more messages, or the next one exceeds the size.
                let is_begun = request.is_begun;
                self.request = None;
                let is_full = reply.description.is_some_and(|why| why.contains("MaxBytes"));
                if status == 409 && is_full && !is_begun {
                    self.request(Pull { messages: 1, bytes: None, ..self.size }, until).await?;
                } else if is_new && !is_begun {
                    return Ok(None);
                }
                continue;
            }
            let unknown = || Failure::Lost("a message without a sequence".to_owned());
            let delivery = Stored::from_consumer(reply).ok_or_else(unknown)?;
            let Delivery { number, message, .. } = delivery;
            self.received += 1;
            if number != self.received {
                return Err(Failure::Lost("a message was not delivered".to_owned()));
            }
            (request.left, request.is_begun) = (request.left - 1, true);
            if request.left == 0 {
                self.request = None;
            }
            return Ok(Some(message));
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Without a runtime, the connection is gone, too.
        let Ok(runtime) = Handle::try_current() else { return };
        let (api, name) = (self.api.clone(), mem::take(&mut self.name));
        runtime.spawn(async move { api.delete_consumer(&name, Instant::now() + REMOVAL).await });
    }
}
