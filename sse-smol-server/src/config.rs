//! The configuration of a server.

use std::time::Duration;

use crate::setters::setters;

/// The limits and timeouts of a server's connections.
///
/// ```
/// use std::time::Duration;
///
/// use sse_smol_server::Config;
///
/// let mut config = Config::default().with_max_body(10 << 20).with_keep_alive(None);
/// config.drain = Duration::from_secs(1);
/// assert_eq!((config.max_body, config.max_head), (10 << 20, 16 << 10));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The time without events after which a keep-alive comment is sent on a stream. The minimum is
    /// 50 ms. `None` or zero disables keep-alive comments. Default: 15 s.
    pub keep_alive: Option<Duration>,
    /// The maximum time until the first request of a connection begins, until a request head is
    /// complete, and between two parts of a body. Later ones are answered with 408; a connection
    /// that has sent nothing is closed without an answer. Default: 10 s.
    pub head_timeout: Duration,
    /// The maximum time until a request body is complete. Later ones are answered with 408.
    /// Default: 60 s.
    pub body_timeout: Duration,
    /// The maximum time between two requests, after which an idle connection is closed. A proxy in
    /// front should close idle connections earlier; most do after 60 s. Default: 75 s.
    pub idle_timeout: Duration,
    /// The maximum size of a request head in bytes. Larger ones are answered with 431.
    /// Default: 16 KiB.
    pub max_head: usize,
    /// The maximum size of a request body in bytes. Larger ones are answered with 413, as is a
    /// chunked body whose framing (chunk sizes, extensions, line ends and trailers) exceeds both
    /// this and `max_head`. Default: 1 MiB.
    pub max_body: usize,
    /// The maximum number of bytes that the bodies of all requests in progress occupy together. A
    /// body that exceeds it is answered with 503 and a `Retry-After`, or with 413 if it does so by
    /// itself. Bytes count from their arrival until the request ends or its event stream is opened;
    /// a declared length does not count. Default: 64 MiB.
    pub max_pending_body_bytes: usize,
    /// The time after which a connection is reset whose peer accepts none of the pending data. A
    /// peer that accepts some data now and then is slow, and keeps its connection.
    ///
    /// A peer that has vanished from a quiet stream is detected within twice this time, by
    /// keep-alive comments or TCP probes that it does not acknowledge. A peer that has shut down
    /// its sending side gets an ordinary answer if that begins within this time. Default: 30 s.
    pub write_timeout: Duration,
    /// The maximum number of connections. Further ones are answered with 503 and a `Retry-After`.
    /// The table of file descriptors is grown to this size in advance, up to about a million.
    /// Default: 20,000.
    pub max_connections: usize,
    /// The maximum number of connections from one IPv4 address or one IPv6 /64 network. Further
    /// ones are answered in the same way. Default (`None`): 256, and no limit for loopback
    /// addresses, from which proxies connect.
    pub max_connections_per_peer: Option<usize>,
    /// The maximum duration of a graceful shutdown. Open streams are closed at random times within
    /// the first four fifths of it, or within 50 ms for each other stream if that is shorter; a
    /// single stream is closed at once. Default: 5 s.
    pub drain: Duration,
}

setters!(Config {
    with_keep_alive => keep_alive: Option<Duration>,
    with_head_timeout => head_timeout: Duration,
    with_body_timeout => body_timeout: Duration,
    with_idle_timeout => idle_timeout: Duration,
    with_max_head => max_head: usize,
    with_max_body => max_body: usize,
    with_max_pending_body_bytes => max_pending_body_bytes: usize,
    with_write_timeout => write_timeout: Duration,
    with_max_connections => max_connections: usize,
    with_max_connections_per_peer => max_connections_per_peer: Option<usize>,
    with_drain => drain: Duration,
});

impl Config {
    pub(crate) const PER_PEER: usize = 256;

    /// Clamps durations so that each can be added to any point in time, and keep-alive intervals to
    /// at least [`SHORTEST_KEEP_ALIVE`], or `None` for zero.
    pub(crate) fn in_range(self) -> Self {
        Self {
            keep_alive: self
                .keep_alive
                .filter(|interval| !interval.is_zero())
                .map(|interval| interval.clamp(SHORTEST_KEEP_ALIVE, LONGEST)),
            head_timeout: self.head_timeout.min(LONGEST),
            body_timeout: self.body_timeout.min(LONGEST),
            idle_timeout: self.idle_timeout.min(LONGEST),
            write_timeout: self.write_timeout.min(LONGEST),
            drain: self.drain.min(LONGEST),
            ..self
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(15)),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            max_head: 16 << 10,
            max_body: 1 << 20,
            max_pending_body_bytes: 64 << 20,
            write_timeout: Duration::from_secs(30),
            max_connections: 20_000,
            max_connections_per_peer: None,
            drain: Duration::from_secs(5),
        }
    }
}

/// The maximum of all timeouts.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The minimum interval between keep-alive comments.
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_millis(50);
