//! The `EventSource` state machine, without I/O (HTML Standard, 9.2.2 and 9.2.3).

mod config;

use core::fmt;
use core::iter;
use core::ops::Add;
use core::time::Duration;

pub use self::config::{ClientConfig, RequestReplay};
use crate::mime::is_event_stream;
use crate::{DecodeBuffer, Decoder, Event, EventTooLarge, GrowableBuffer, Text};

/// The connection state of a client (9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyState {
    /// Not connected; the next request is scheduled, due or waiting for its response.
    Connecting,
    /// Connected: the response was accepted.
    Open,
    /// Closed for good: no reconnection follows.
    Closed,
}

/// The reason why a response was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// The status is not 200. A server ends a stream for good with 204.
    Status(u16),
    /// The `Content-Type` is not `text/event-stream`.
    ContentType,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the status is {status}, not 200"),
            Self::ContentType => f.write_str("the content type is not text/event-stream"),
        }
    }
}

impl core::error::Error for Rejected {}

/// The parts of a response's head that a [`Client`] needs. Redirects are not among them: the caller
/// follows them and passes the head of the last response.
///
/// ```
/// use core::time::Duration;
/// use sse_proto::ResponseHead;
///
/// let busy = ResponseHead::new(503, &[]).with_retry_after(Some(Duration::from_secs(10)));
/// assert_eq!((busy.status, busy.retry_after), (503, Some(Duration::from_secs(10))));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResponseHead<'r> {
    /// The status code.
    pub status: u16,
    /// The values of all `Content-Type` headers, in order.
    pub content_type: &'r [&'r [u8]],
    /// The wait that `Retry-After` requires, if the header is present and understood.
    pub retry_after: Option<Duration>,
}

impl<'r> ResponseHead<'r> {
    /// Creates a head with this status code and the values of all `Content-Type` headers, in order.
    pub const fn new(status: u16, content_type: &'r [&'r [u8]]) -> Self {
        Self { status, content_type, retry_after: None }
    }

    /// Returns the head with the wait that `Retry-After` requires.
    #[must_use]
    pub const fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

/// A request to make, with these headers. The method is `GET` unless the caller chooses another
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'c> {
    last_event_id: Text<'c>,
}

impl<'c> ConnectRequest<'c> {
    /// Returns the names and values of the headers: `Accept`, those of Fetch's cache mode
    /// `no-store`, and `Last-Event-ID` (9.2.4), if there is a last event ID that can be sent.
    ///
    /// A space or tab at either end of the ID does not arrive, since it is not part of a header's
    /// value. An ID that is not UTF-8 is returned as received; the standard would send it as
    /// [`Text::to_str_lossy`] decodes it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'c [u8])> + use<'c> {
        let id = self.last_event_id.as_bytes();
        let id =
            (!id.is_empty() && self.unsendable_id().is_none()).then_some(("Last-Event-ID", id));
        let accept = ("Accept", &b"text/event-stream"[..]);
        let no_store = [("Cache-Control", &b"no-cache"[..]), ("Pragma", b"no-cache")];
        iter::once(accept).chain(no_store).chain(id)
    }

    /// Returns the last event ID if it cannot be the value of a header, because it contains a
    /// control character other than a tab. It is then left out of the headers, and the stream does
    /// not resume after it.
    pub fn unsendable_id(&self) -> Option<Text<'c>> {
        let control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7F;
        self.last_event_id.iter().any(control).then_some(self.last_event_id)
    }
}

/// The `EventSource` state machine, without I/O: determines when to connect and with which headers,
/// checks the response, decodes the body, and determines when to reconnect.
///
/// It makes no requests, reads no clock and generates no random numbers. The caller's loop:
///
/// 1. Call [`poll_request`](Self::poll_request). If it returns a request, make it.
/// 2. Pass the head of the response to [`handle_response`](Self::handle_response).
/// 3. Pass each chunk of the body to [`next_event`](Self::next_event), until it returns `None`.
/// 4. When the body ends for any reason, or if there is no response, call
///    [`handle_end`](Self::handle_end).
/// 5. At [`poll_timeout`](Self::poll_timeout), call [`handle_timeout`](Self::handle_timeout). If it
///    returns true, drop the connection.
///
/// ```
/// use core::time::Duration;
/// use sse_proto::{Client, ClientConfig, ReadyState, ResponseHead};
///
/// let now = Duration::from_secs(0); // from any clock
/// let ok = ResponseHead::new(200, &[b"text/event-stream"]);
///
/// let mut client = Client::new(ClientConfig::default());
/// assert_eq!(client.poll_request(now).unwrap().headers().count(), 3);
/// client.handle_response(ok, now, 0)?;
/// let mut chunk: &[u8] = b"retry: 500\nid: 7\ndata: a\n\ndata: cut of";
/// while let Some(event) = client.next_event(&mut chunk, now)? {
///     assert_eq!(event.data(), "a");
/// }
/// client.handle_end(now, 0);
/// assert_eq!(client.ready_state(), ReadyState::Connecting);
///
/// let later = client.poll_timeout().unwrap();
/// assert_eq!(later, Duration::from_millis(500));
/// client.handle_timeout(later, 0);
/// let again = client.poll_request(later).unwrap();
/// assert!(again.headers().any(|header| header == ("Last-Event-ID", b"7")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client<I, B = GrowableBuffer> {
    config: ClientConfig,
    decoder: Decoder<B>,
    state: State<I>,
    /// The number of consecutive attempts that ended without a byte of a body.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum State<I> {
    /// The next request is due at this time.
    Waiting(I),
    /// The next request is due now.
    Due,
    /// The request was made at this time, and its response has not arrived.
    Requested(I),
    Open {
        requested: I,
        /// The time at which the head or the last byte of the body arrived.
        active: I,
        /// Whether a byte of the body has arrived.
        has_body: bool,
    },
    Closed,
}

/// The maximum of each configured or received duration, so that every deadline is in the range of
/// clocks.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(feature = "alloc")]
impl<I: Copy + Ord + Add<Duration, Output = I>> Client<I> {
    /// Creates a client whose first request is due at once.
    pub fn new(config: ClientConfig) -> Self {
        Self::with_decoder(config, Decoder::new())
    }
}

impl<I: Copy + Ord + Add<Duration, Output = I>, B: DecodeBuffer> Client<I, B> {
    /// Creates a client with this decoder, which may have custom limits, borrowed buffers or an
    /// initial last event ID.
    pub const fn with_decoder(config: ClientConfig, decoder: Decoder<B>) -> Self {
        Self { config, decoder, state: State::Due, failures: 0 }
    }

    /// Returns the request to make now, if one is due. It then counts as made.
    pub fn poll_request(&mut self, now: I) -> Option<ConnectRequest<'_>> {
        let due = match self.state {
            State::Due => true,
            State::Waiting(until) => until <= now,
            _ => false,
        };
        if !due {
            return None;
        }
        self.state = State::Requested(now);
        self.decoder.reset();
        Some(ConnectRequest { last_event_id: self.decoder.last_event_id() })
    }

    /// Checks the head of the response. Returns `Ok` if the client is open now, or if it was not
    /// waiting for a response, for example because it was closed meanwhile.
    ///
    /// `random` is a random number for [`jitter`](ClientConfig::jitter), which uses its full range.
    ///
    /// # Errors
    ///
    /// [`Rejected`] if the response is not an event stream; drop the connection. The client is then
    /// [closed](ReadyState::Closed), or waits for as long as `Retry-After` requires.
    pub fn handle_response(
        &mut self,
        response: ResponseHead<'_>,
        now: I,
        random: u32,
    ) -> Result<(), Rejected> {
        let State::Requested(requested) = self.state else {
            return Ok(());
        };
        let rejected = if response.status != 200 {
            Rejected::Status(response.status)
        } else if !self.is_event_stream(response) {
            Rejected::ContentType
        } else {
            self.state = State::Open { requested, active: now, has_body: false };
            return Ok(());
        };
        self.failures = self.failures.saturating_add(1);
        self.state = match (response.status, response.retry_after) {
            (429 | 503, Some(wait)) if self.config.honour_retry_after && self.may_repeat() => {
                let wait = wait.max(self.config.min_reconnection_time);
                State::Waiting(now + self.lengthened(wait, random))
            }
            _ => State::Closed,
        };
        Err(rejected)
    }

    /// Consumes bytes of the body from the front of `input` and returns the next event, as
    /// [`Decoder::next_event`] does.
    ///
    /// A client that is not open discards `input`: after [`close`](Self::close), there are no more
    /// events, not even those that have arrived.
    ///
    /// # Errors
    ///
    /// [`EventTooLarge`], once for each event that exceeds the decoder's limits.
    pub fn next_event<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        now: I,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.receive(input, now);
        self.decoder.next_event(input)
    }

    /// Like [`next_event`](Self::next_event), and passes the comments before the event to
    /// `on_comment`: see [`Decoder::next_event_with_comments`].
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event).
    pub fn next_event_with_comments<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        now: I,
        on_comment: impl FnMut(&'i [u8], bool),
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.receive(input, now);
        self.decoder.next_event_with_comments(input, on_comment)
    }

    /// Records that bytes of the body have arrived. A client that is not open discards them.
    #[inline]
    fn receive(&mut self, input: &mut &[u8], now: I) {
        match self.state {
            State::Open { requested, .. } if !input.is_empty() => {
                self.state = State::Open { requested, active: now, has_body: true };
                self.failures = 0;
            }
            State::Open { .. } => {}
            _ => *input = &[],
        }
    }

    /// Records the end of a connection: the body has ended or broke off, or there was no response
    /// at all. Starts the wait for the next request, or closes the client if it must not reconnect.
    ///
    /// `random` is a random number for [`jitter`](ClientConfig::jitter), which uses its full range.
    pub fn handle_end(&mut self, now: I, random: u32) {
        let minimum_from = match self.state {
            State::Open { requested, has_body: true, .. } => requested,
            State::Requested(_) | State::Open { .. } => {
                self.failures = self.failures.saturating_add(1);
                now
            }
            State::Waiting(_) | State::Due | State::Closed => return,
        };
        self.state = if self.may_repeat() {
            let minimum = self.lengthened(self.config.min_reconnection_time, random);
            State::Waiting((now + self.wait(random)).max(minimum_from + minimum))
        } else {
            State::Closed
        };
    }

    /// Handles the deadline from [`poll_timeout`](Self::poll_timeout). Returns true if the
    /// connection has been silent for too long: drop it. It then counts as
    /// [ended](Self::handle_end).
    #[must_use = "a dead connection must be dropped"]
    pub fn handle_timeout(&mut self, now: I, random: u32) -> bool {
        let silent = matches!(self.state, State::Requested(_) | State::Open { .. })
            && self.poll_timeout().is_some_and(|deadline| deadline <= now);
        if silent {
            self.handle_end(now, random);
        }
        silent
    }

    /// Returns the next time at which to call [`handle_timeout`](Self::handle_timeout) and
    /// [`poll_request`](Self::poll_request), if any. Every other call may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<I> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Requested(since) | State::Open { active: since, .. } => {
                self.config.read_timeout.map(|timeout| since + timeout.min(LONGEST_WAIT))
            }
            State::Due | State::Closed => None,
        }
    }

    /// Closes the client for good; drop the connection. No events and no requests follow.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Makes the next request due at once, without a minimum wait; drop the connection. The caller
    /// decides how often to restart.
    pub fn restart(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Due;
        }
    }

    /// Returns the connection state.
    pub const fn ready_state(&self) -> ReadyState {
        match self.state {
            State::Waiting(_) | State::Due | State::Requested(_) => ReadyState::Connecting,
            State::Open { .. } => ReadyState::Open,
            State::Closed => ReadyState::Closed,
        }
    }

    /// Returns the decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder<B> {
        &self.decoder
    }

    fn is_event_stream(&self, response: ResponseHead<'_>) -> bool {
        let is_missing = response.content_type.is_empty();
        is_missing && self.config.allow_missing_content_type
            || is_event_stream(response.content_type.iter().copied())
    }

    fn may_repeat(&self) -> bool {
        if self.config.max_attempts.is_some_and(|most| self.failures >= most) {
            return false;
        }
        match self.config.repeat {
            RequestReplay::Always => true,
            RequestReplay::WithId => !self.decoder.last_event_id().is_empty(),
            RequestReplay::Never => false,
        }
    }

    /// Returns the wait after a connection or attempt, apart from the minimum.
    fn wait(&self, random: u32) -> Duration {
        let mut wait = self.decoder.retry().unwrap_or(self.config.reconnection_time);
        if let Some(cap) = self.config.backoff_cap {
            let doublings = self.failures.saturating_sub(1).min(31);
            // The cap does not shorten a longer reconnection time, which the server or the caller
            // has chosen. Doubling starts at the minimum, because zero would never grow.
            let least = self.config.min_reconnection_time.max(Duration::from_millis(1));
            let first = if doublings == 0 { wait } else { wait.max(least) };
            wait = first.saturating_mul(1 << doublings).min(cap.max(wait));
        }
        let wait = wait.min(LONGEST_WAIT);
        wait.saturating_sub(self.jitter(wait, random))
    }

    /// Returns a wait that jitter must not shorten.
    fn lengthened(&self, wait: Duration, random: u32) -> Duration {
        let wait = wait.min(LONGEST_WAIT);
        wait + self.jitter(wait, random)
    }

    /// Returns up to half of a wait.
    fn jitter(&self, wait: Duration, random: u32) -> Duration {
        let part = if self.config.jitter { f64::from(random) / f64::from(u32::MAX) } else { 0.0 };
        (wait / 2).mul_f64(part)
    }
}
