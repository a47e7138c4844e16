//! The settings of a client.

use core::time::Duration;

use crate::setters::setters;

/// The settings of a [`Client`](crate::Client), where the standard leaves the behaviour open.
///
/// ```
/// use std::time::Duration;
///
/// use sse_proto::ClientConfig;
///
/// let config = ClientConfig::default().with_jitter(true).with_max_attempts(Some(5));
/// assert!(config.jitter && config.reconnection_time == Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The reconnection time until the stream sets one. Default: 3 s, as in Chromium.
    pub reconnection_time: Duration,
    /// The minimum wait before a reconnection, which bounds the rate of requests. A shorter
    /// reconnection time, `retry` field, `Retry-After` or [`backoff_cap`](Self::backoff_cap) is
    /// raised to this. Default: 500 ms, as in Firefox.
    ///
    /// After a failed attempt, which is one without a single byte of a body, the minimum is
    /// measured from the end of the attempt. After a connection with a body, it is measured from
    /// the *request*. So a client whose stream was open for longer than this may reconnect at once,
    /// as in live reload with `retry: 25`. A client whose connections are closed right away has to
    /// wait.
    pub min_reconnection_time: Duration,
    /// The maximum wait of an exponential backoff, which doubles the wait with each consecutive
    /// failed attempt after the first. A longer reconnection time is not shortened. Default:
    /// `None`, which waits for the reconnection time only.
    pub backoff_cap: Option<Duration>,
    /// Whether each wait is shortened by up to half, in proportion to the random number that the
    /// caller passes, so that clients that were disconnected together do not reconnect together.
    /// The waits of `Retry-After` and [`min_reconnection_time`](Self::min_reconnection_time) are
    /// lengthened by up to half instead. Default: false.
    pub jitter: bool,
    /// The number of consecutive failed attempts after which the client closes. Zero disables
    /// reconnection. Default: `None`, no limit.
    pub max_attempts: Option<u32>,
    /// The period of silence after which a connection counts as dead. It is measured from the
    /// request, the response head or the last byte of the body, including comments. Default:
    /// `None`, never.
    pub read_timeout: Option<Duration>,
    /// Whether the client reconnects after a 429 or 503 response with `Retry-After`, at that time.
    /// Default: false; by the standard, any status other than 200 closes the client.
    pub honour_retry_after: bool,
    /// When the request may be repeated. Default: always, as in `EventSource`.
    pub repeat: RequestReplay,
    /// Whether a response without any `Content-Type` is accepted, for servers that send none. One
    /// with another type is rejected in any case. Default: false; by the standard, it is rejected.
    pub allow_missing_content_type: bool,
}

setters!(ClientConfig {
    with_reconnection_time => reconnection_time: Duration,
    with_min_reconnection_time => min_reconnection_time: Duration,
    with_backoff_cap => backoff_cap: Option<Duration>,
    with_jitter => jitter: bool,
    with_max_attempts => max_attempts: Option<u32>,
    with_read_timeout => read_timeout: Option<Duration>,
    with_honour_retry_after => honour_retry_after: bool,
    with_repeat => repeat: RequestReplay,
    with_allow_missing_content_type => allow_missing_content_type: bool,
});

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
            allow_missing_content_type: false,
        }
    }
}

/// When a request may be repeated. A request that could not be sent counts as made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestReplay {
    /// Always: for a `GET` that changes nothing.
    Always,
    /// Only with a last event ID, to resume: for a `POST` whose response can be resumed.
    WithId,
    /// Never: for a `POST` that has a cost each time.
    Never,
}
