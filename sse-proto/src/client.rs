//! `EventSource` without the fetch (HTML Standard, 9.2.2 and 9.2.3).

use core::fmt;
use core::iter;
use core::ops::Add;
use core::time::Duration;

use crate::mime::is_event_stream;
use crate::{DecodeBuffer, Decoder, Event, EventTooLarge, GrowableBuffer, Text};

/// How a [`Client`] behaves where the standard leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The reconnection time until the stream sets one. Default: 3 s, as in Chromium.
    pub reconnection_time: Duration,
    /// The minimum wait before a reconnection, which bounds the rate of requests: a shorter
    /// reconnection time, `retry` field, `Retry-After` or [`backoff_cap`](Self::backoff_cap) is
    /// raised to this. Default: 500 ms, as in Firefox.
    ///
    /// After a failed attempt, which is one without a single byte of a body, the minimum is measured
    /// from its end. After a connection with a body it is measured from the *request*: the server of
    /// a stream that was open for longer than this can have its client back at once, as live reload
    /// does with `retry: 25`, but one that closes each connection right away cannot.
    pub min_reconnection_time: Duration,
    /// Doubles the wait with each failed attempt in a row after the first, up to this. `None`, the
    /// default: the wait is always the reconnection time.
    pub backoff_cap: Option<Duration>,
    /// Shortens each wait by up to half of it, by the random number that the caller passes, so that
    /// clients that were disconnected together do not reconnect together. The waits of `Retry-After`
    /// and [`min_reconnection_time`](Self::min_reconnection_time) are lengthened instead, by up to
    /// half. Default: no.
    pub jitter: bool,
    /// Gives up after this number of failed attempts in a row; with zero there is no reconnection at
    /// all. Default: never.
    pub max_attempts: Option<u32>,
    /// Takes a connection that has been silent for so long for dead, from the request on; any byte
    /// counts, those of comments too. Default: never.
    pub read_timeout: Option<Duration>,
    /// Connects again after a 429 or 503 that says by `Retry-After` when. Default: no; by the
    /// standard any status but 200 is the end.
    pub honour_retry_after: bool,
    /// Whether the request may be made again. Default: always, as an `EventSource` does.
    pub repeat: RequestReplay,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            reconnection_time: Duration::from_secs(3),
            min_reconnection_time: Duration::from_millis(500),
            backoff_cap: None,
            jitter: false,
            max_attempts: None,
            read_timeout: None,
            honour_retry_after: false,
            repeat: RequestReplay::Always,
        }
    }
}

/// Whether a request may be made again. One that could not be sent counts as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestReplay {
    /// A `GET` that changes nothing.
    Always,
    /// Only to resume: with a last event ID. For a `POST` whose answer can be resumed.
    WithId,
    /// Never. For a `POST` that costs something each time.
    Never,
}

/// Where a client is (9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyState {
    /// Not connected, and about to be.
    Connecting,
    /// Connected.
    Open,
    /// Not connected, and not to be again.
    Closed,
}

/// A response that ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejected {
    /// The status is not 200. 204 is how a server says that there is no more.
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

/// What there is to know of a response's head. Redirects are not among it: whoever fetches follows
/// them, and tells of the last response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'r> {
    /// The status.
    pub status: u16,
    /// The value of each `Content-Type` header, in order.
    pub content_type: &'r [&'r [u8]],
    /// How long `Retry-After` says to wait, if it is there and understood.
    pub retry_after: Option<Duration>,
}

/// A request to be made: `GET` unless the caller knows better, with these headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'c> {
    last_event_id: Text<'c>,
}

impl<'c> ConnectRequest<'c> {
    /// Names and values of the headers: `Accept`, those of Fetch's cache mode `no-store`, and, if
    /// there is a last event ID that can be sent, `Last-Event-ID` (9.2.4).
    ///
    /// A space or tab at the ends of the id is not part of a header's value, and does not arrive.
    /// An id that is no UTF-8 is here as it came; the standard would send it as
    /// [`Text::to_str_lossy`] reads it.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'c [u8])> + use<'c> {
        let id = self.last_event_id.as_bytes();
        let id =
            (!id.is_empty() && self.unsendable_id().is_none()).then_some(("Last-Event-ID", id));
        let accept = ("Accept", &b"text/event-stream"[..]);
        let no_store = [("Cache-Control", &b"no-cache"[..]), ("Pragma", b"no-cache")];
        iter::once(accept).chain(no_store).chain(id)
    }

    /// The last event ID, if it cannot be the value of a header: it has a control character. It is
    /// left out of the headers then, and the stream will not resume behind it.
    pub fn unsendable_id(&self) -> Option<Text<'c>> {
        let control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7F;
        self.last_event_id.iter().any(control).then_some(self.last_event_id)
    }
}

/// An `EventSource` without the fetch: says when to connect and with which headers, judges the
/// response, decodes the body, and says when to connect again.
///
/// It makes no request, reads no clock and makes no random number. The loop around it:
///
/// 1. [`poll_request`](Self::poll_request): if there is a request, make it.
/// 2. When its response is there, [`handle_response`](Self::handle_response).
/// 3. With each chunk of the body, [`next_event`](Self::next_event) until there is none.
/// 4. When the body ends, however, or there is no response, [`handle_end`](Self::handle_end).
/// 5. At [`poll_timeout`](Self::poll_timeout), [`handle_timeout`](Self::handle_timeout); if it says
///    so, drop the connection.
///
/// ```
/// use core::time::Duration;
/// use sse_proto::{Client, ClientConfig, ReadyState, ResponseHead};
///
/// let now = Duration::from_secs(0); // of a clock of your own
/// let ok = ResponseHead { status: 200, content_type: &[b"text/event-stream"], retry_after: None };
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
    /// Attempts in a row that ended without a byte of a body.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
enum State<I> {
    /// The next request is due at this time.
    Waiting(I),
    /// The next request is due now.
    Due,
    /// No response yet to the request made at this time.
    Requested(I),
    Open {
        requested: I,
        /// When the head or the last byte of the body arrived.
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
    /// A client that is to connect at once.
    pub fn new(config: ClientConfig) -> Self {
        Self::with_decoder(config, Decoder::new())
    }
}

impl<I: Copy + Ord + Add<Duration, Output = I>, B: DecodeBuffer> Client<I, B> {
    /// A client with a decoder of your own: with limits, over lent memory, or with a last event ID
    /// to begin with.
    pub const fn with_decoder(config: ClientConfig, decoder: Decoder<B>) -> Self {
        Self { config, decoder, state: State::Due, failures: 0 }
    }

    /// The request to be made now, if there is one. It counts as made.
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

    /// Judges the head of the response. When this is `Ok`, the source is open, unless it was
    /// closed meanwhile.
    ///
    /// `random` is any number, for [`jitter`](ClientConfig::jitter).
    ///
    /// # Errors
    ///
    /// [`Rejected`] if it is no event stream; drop the connection. The client is then
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
        } else if !is_event_stream(response.content_type.iter().copied()) {
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

    /// Takes bytes of the body off the front of `input`, as [`Decoder::next_event`] does.
    ///
    /// When the client is closed, there are no more events, not even in what has arrived.
    ///
    /// # Errors
    ///
    /// [`EventTooLarge`], once for each event beyond the decoder's limits.
    pub fn next_event<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i [u8],
        now: I,
    ) -> Result<Option<Event<'e>>, EventTooLarge> {
        self.next_event_with_comments(input, now, |_, _| {})
    }

    /// The same, and comments on the way: see [`Decoder::next_event_with_comments`].
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
        let State::Open { requested, .. } = self.state else {
            *input = &[];
            return Ok(None);
        };
        if !input.is_empty() {
            self.state = State::Open { requested, active: now, has_body: true };
            self.failures = 0;
        }
        self.decoder.next_event_with_comments(input, on_comment)
    }

    /// Records the end of a connection: the body has ended or broke off, or there was no response
    /// at all. Starts the wait for the next request, or closes the client if it must not reconnect.
    ///
    /// `random` is any number, for [`jitter`](ClientConfig::jitter).
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

    /// Time has come to [`poll_timeout`](Self::poll_timeout). True if the connection has been silent
    /// for too long, and is to be dropped; it counts as [ended](Self::handle_end).
    #[must_use = "a connection that is dead is to be dropped"]
    pub fn handle_timeout(&mut self, now: I, random: u32) -> bool {
        let silent = matches!(self.state, State::Requested(_) | State::Open { .. })
            && self.poll_timeout().is_some_and(|deadline| deadline <= now);
        if silent {
            self.handle_end(now, random);
        }
        silent
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and
    /// [`poll_request`](Self::poll_request). Changes with every other call.
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

    /// Closes the source for good; drop the connection. No event comes after this, and no request.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Drops the connection and makes the next request due at once, without a minimum wait: the
    /// caller decides how often to restart.
    pub fn restart(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Due;
        }
    }

    /// Where the client is.
    pub const fn ready_state(&self) -> ReadyState {
        match self.state {
            State::Waiting(_) | State::Due | State::Requested(_) => ReadyState::Connecting,
            State::Open { .. } => ReadyState::Open,
            State::Closed => ReadyState::Closed,
        }
    }

    /// The decoder, for its [`last_event_id`](Decoder::last_event_id) and
    /// [`retry`](Decoder::retry).
    pub const fn decoder(&self) -> &Decoder<B> {
        &self.decoder
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
        let retry = self.decoder.retry().map(Duration::from_millis);
        let mut wait = retry.unwrap_or(self.config.reconnection_time);
        if let Some(cap) = self.config.backoff_cap {
            let doublings = self.failures.saturating_sub(1).min(31);
            // A reconnection time above the cap is what the server asked for, so the cap does not
            // shorten it. Doubling starts at the minimum: zero would never grow.
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
