//! An `EventSource` on smol: [`sse_proto::Client`] is the state machine, and this module adds
//! sockets and HTTP.

#![allow(dead_code)] // the binary and the example `contract_service` each use a part of it

mod body;
mod error;
mod fetch;
pub(crate) mod refused;
pub(crate) mod socket;
mod url;

use std::collections::VecDeque;
use std::error::Error;
use std::future::pending;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use smol::Timer;
use smol::future::{FutureExt as _, yield_now};
use sse_proto::{Client, ClientConfig, Decoder, InvalidLastEventId, ReadyState, ResponseHead};

pub(crate) use body::Body;
pub(crate) use error::Result;
pub(crate) use fetch::{Request, fetch};
pub(crate) use refused::Refused;
pub(crate) use url::Url;

/// An event stream that is followed across connections. Dropping it closes the stream.
pub(crate) struct EventSource {
    client: Client<Instant>,
    /// The request for each connection. Changes by redirects persist.
    request: Request,
    /// Whether the request has to be sent, or is in progress.
    requesting: bool,
    connection: Option<Body>,
    /// The current piece of the body.
    piece: Vec<u8>,
    /// The number of bytes of `piece` that have been decoded.
    read: usize,
    /// The part of the current comment that has been received.
    comment: Vec<u8>,
    items: VecDeque<Item>,
}

/// An item that an [`EventSource`] yields.
pub(crate) enum Item {
    /// The stream is connected.
    Open,
    /// An event was received.
    Event { event_type: String, data: String, last_event_id: String },
    /// A comment was received.
    Comment(String),
    /// The connection ended or failed, or an event in it was invalid.
    Error(Box<dyn Error + Send + Sync>),
}

/// The maximum length of a comment in bytes. The rest is dropped.
const MAX_COMMENT: usize = 1 << 20;

impl EventSource {
    /// Creates a stream that starts after the event with this ID, or anywhere if the ID is empty.
    pub(crate) fn new(
        request: Request,
        config: ClientConfig,
        last_event_id: &str,
    ) -> Result<Self, InvalidLastEventId> {
        let mut decoder = Decoder::new();
        decoder.set_last_event_id(last_event_id)?;
        Ok(Self {
            client: Client::with_decoder(config, decoder),
            request,
            requesting: false,
            connection: None,
            piece: Vec::new(),
            read: 0,
            comment: Vec::new(),
            items: VecDeque::new(),
        })
    }

    /// Waits for the next item, or returns `None` after the stream was closed for good. If the
    /// future is dropped, no item is lost, but a request without a response is sent again.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            if self.is_closed() {
                return None;
            }
            if let Err(error) = self.prepare() {
                return Some(Item::Error(error));
            }
            let deadline = self.client.poll_timeout();
            let time_comes = async {
                match deadline {
                    Some(deadline) => Timer::at(deadline).await,
                    None => pending().await,
                };
                None
            };
            // The step is polled first: data that has arrived counts even if it is late.
            let over = match async { Some(self.step().await) }.or(time_comes).await {
                Some(step) => step.err(),
                None if self.client.handle_timeout(Instant::now(), fastrand::u32(..)) => {
                    Some("no data has come for too long".into())
                }
                None => None,
            };
            if let Some(error) = over {
                self.requesting = false;
                self.connection = None;
                self.client.handle_end(Instant::now(), fastrand::u32(..));
                self.items.push_back(Item::Error(error));
            }
            // A stream that is always ready must not starve other tasks.
            yield_now().await;
        }
    }

    /// Returns whether the stream is closed for good. The last [`Item::Error`] is the reason.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.ready_state() == ReadyState::Closed
    }

    /// Drops the connection and reconnects at once.
    pub(crate) fn restart(&mut self) {
        self.connection = None;
        self.client.restart();
    }

    /// Prepares the request if it is due.
    ///
    /// # Errors
    ///
    /// No header can hold the last event ID. The request is sent without it.
    fn prepare(&mut self) -> Result<()> {
        let Some(wanted) = self.client.poll_request(Instant::now()) else {
            return Ok(());
        };
        self.requesting = true;
        self.request.headers.remove("last-event-id");
        for (name, value) in wanted.headers() {
            // The standard decodes the ID as UTF-8, with replacement characters.
            let value = HeaderValue::from_str(&String::from_utf8_lossy(value))?;
            self.request.headers.insert(name, value);
        }
        match wanted.unsendable_id() {
            Some(id) => Err(format!("no header can hold the last event ID {id:?}").into()),
            None => Ok(()),
        }
    }

    /// Takes the next step: connects, reads a piece of the body, or decodes an event.
    async fn step(&mut self) -> Result<()> {
        match &mut self.connection {
            None if self.requesting => self.connect().await,
            None => pending().await,
            Some(_) if self.read < self.piece.len() => {
                self.decode();
                Ok(())
            }
            Some(connection) => {
                self.piece = connection.next().await?.ok_or("the stream has ended")?;
                self.read = 0;
                Ok(())
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let response = fetch(&mut self.request).await?;
        let (parts, incoming) = response.into_parts();
        let content_type = parts.headers.get_all(CONTENT_TYPE);
        let content_type: Vec<&[u8]> = content_type.iter().map(HeaderValue::as_bytes).collect();
        let retry_after = parts.headers.get(RETRY_AFTER).and_then(retry_after);
        let status = parts.status.as_u16();
        let head = ResponseHead::new(status, &content_type).with_retry_after(retry_after);
        let mut body = Body::new(incoming, &parts.headers);
        // Before the response is handled, so that the timeout for responses includes it.
        let reason = match &mut body {
            Ok(body) => refused::reason(parts.status, &parts.headers, body).await,
            Err(_) => String::new(),
        };
        self.client
            .handle_response(head, Instant::now(), fastrand::u32(..))
            .map_err(|rejected| Refused { rejected, reason })?;
        self.connection = Some(body?);
        self.requesting = false;
        self.piece.clear();
        self.read = 0;
        self.comment.clear();
        self.items.push_back(Item::Open);
        Ok(())
    }

    /// Decodes the current piece up to and including the next event.
    fn decode(&mut self) {
        let (comment, items) = (&mut self.comment, &mut self.items);
        let on_comment = |part: &[u8], end| {
            let room = MAX_COMMENT - comment.len();
            comment.extend_from_slice(&part[..part.len().min(room)]);
            if end {
                let text = String::from_utf8_lossy(comment).into_owned();
                comment.clear();
                items.push_back(Item::Comment(text));
            }
        };
        let mut rest = &self.piece[self.read..];
        match self.client.next_event_with_comments(&mut rest, Instant::now(), on_comment) {
            Ok(None) => {}
            Ok(Some(event)) => self.items.push_back(Item::Event {
                event_type: event.event_type().to_string(),
                data: event.data().to_string(),
                last_event_id: event.last_event_id().to_string(),
            }),
            Err(error) => self.items.push_back(Item::Error(error.into())),
        }
        self.read = self.piece.len() - rest.len();
    }
}

/// Returns the delay in a `Retry-After` header, which holds seconds or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(value).ok().map(until))
}
