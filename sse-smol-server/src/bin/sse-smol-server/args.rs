//! The command line.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sse_proto::EventType;
use sse_smol_server::{Config, History, TopicsConfig};

use crate::host::{AllowedOrigin, Host, allowed_host, allowed_origin};

/// The length of `GET / HTTP/1.0` with its line ends, the shortest request there is.
const SHORTEST_HEAD: usize = 18;

/// A small server for server-sent events: topics with publish, subscribe and replay.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Address and port to listen on; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Allow a --listen address that other machines can reach: anyone there may subscribe, list the
    /// topics and read the metrics
    #[arg(long)]
    pub(crate) public: bool,

    /// Send a comment after so many seconds without traffic on a stream; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = keep_alive)]
    keep_alive: Duration,

    /// Answer 408 to a request head that takes longer to arrive, or to a body that stalls for longer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    head_timeout: Duration,

    /// Answer 408 to a request body that takes longer to arrive as a whole
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    body_timeout: Duration,

    /// Close a connection that is idle for longer between two requests
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = timeout)]
    idle_timeout: Duration,

    /// Answer 431 to a request head that is larger
    #[arg(long, value_name = "BYTES", default_value = "16384", value_parser = at_least(SHORTEST_HEAD, "no request is shorter"))]
    max_head: usize,

    /// Answer 413 to a request body that is larger, and so to larger events
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    max_body: usize,

    /// Answer 503 to a request body if all bodies that are being received or handled would occupy
    /// more bytes together
    #[arg(long, value_name = "BYTES", default_value = "67108864", value_parser = at_least(1, "with 0 no body could be received"))]
    max_pending_body_bytes: usize,

    /// Reset the connection of a client that takes nothing for this long; a slow client is waited for
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    write_timeout: Duration,

    /// Answer 503 to more connections
    #[arg(long, value_name = "COUNT", default_value = "20000", value_parser = at_least(1, "with 0 no connection would be served"))]
    max_connections: usize,

    /// Answer 503 to more connections from one address [default: 256, loopback addresses unlimited]
    #[arg(long, value_name = "COUNT", value_parser = at_least(1, "with 0 no connection would be served"))]
    max_connections_per_peer: Option<usize>,

    /// Maximum time to stop, over which open streams end one after the other; few end sooner
    /// [default: 5; with --watch 0, so that a successor can start at once]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    drain: Option<Duration>,

    /// Hold so many events of each topic for those who come back
    #[arg(long, value_name = "EVENTS", default_value = "1000", value_parser = at_least(1, "the newest event of a topic is always held"))]
    history: usize,

    /// Hold events of each topic that take up to this many bytes of memory
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = at_least(1, "the newest event of a topic is always held"))]
    history_bytes: usize,

    /// Hold events for so long
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = timeout)]
    history_age: Duration,

    /// Hold events of all topics that take up to this many bytes of memory together
    #[arg(long, value_name = "BYTES", default_value = "268435456", value_parser = at_least(1, "with 0 no event could be held"))]
    max_bytes: usize,

    /// Answer 429 to a publication that needs one more topic with events; subscribers need no place
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = at_least(1, "with 0 there could be no topic"))]
    max_topics: usize,

    /// Type of the event that is sent to a subscriber that has missed events; neither open nor error,
    /// which an `EventSource` fires itself
    #[arg(long, value_name = "TYPE", default_value = "gap", value_parser = gap_type)]
    gap_type: String,

    /// What happens to a subscriber that falls behind the history while connected
    #[arg(long, value_enum, default_value_t = OnLag::End)]
    on_lag: OnLag,

    /// File that holds the bearer token for publishing, in one line. Without a token from a file or
    /// the environment the server makes one and prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Environment variable that holds the token, and has to be set [default: `SSE_TOKEN`, if set]
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,

    /// Let everyone publish who can connect, without a token
    #[arg(long, conflicts_with_all = ["token_file", "token_env"])]
    pub(crate) open_publishing: bool,

    /// Web origin whose pages may subscribe and, with the token, publish, such as
    /// `https://example.org`; repeatable; * for all
    #[arg(long, value_name = "ORIGIN", value_parser = allowed_origin)]
    pub(crate) allow_origin: Vec<AllowedOrigin>,

    /// Host name that requests may come for, whatever the port, beside those of this machine;
    /// repeatable. If given, or on a loopback address, requests for other hosts are refused
    #[arg(long, value_name = "HOST", value_parser = allowed_host)]
    pub(crate) allow_host: Vec<Host>,

    /// Serve the files below a directory, without hidden ones and what links elsewhere; the page of
    /// streams moves to /__sse. The directory may be a symbolic link that is switched
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub(crate) serve: Option<PathBuf>,

    /// Watch a directory and all below it, and have pages that include /__hotreload.js reload when
    /// something changes, or a symbolic link in the path is switched; repeatable
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub(crate) watch: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnLag {
    /// Its stream ends, so that it resumes
    End,
    /// It gets the gap event, and goes on
    Gap,
}

impl Args {
    /// Whether other machines cannot reach the server.
    pub(crate) fn listens_on_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    pub(crate) fn server_config(&self) -> Config {
        Config {
            keep_alive: (!self.keep_alive.is_zero()).then_some(self.keep_alive),
            head_timeout: self.head_timeout,
            body_timeout: self.body_timeout,
            idle_timeout: self.idle_timeout,
            max_head: self.max_head,
            max_body: self.max_body,
            max_pending_body_bytes: self.max_pending_body_bytes,
            write_timeout: self.write_timeout,
            max_connections: self.max_connections,
            max_connections_per_peer: self.max_connections_per_peer,
            drain: self.drain.unwrap_or(Duration::from_secs(if self.watch.is_empty() {
                5
            } else {
                0
            })),
        }
    }

    pub(crate) fn topics_config(&self) -> TopicsConfig {
        TopicsConfig {
            history: History {
                events: self.history,
                bytes: self.history_bytes,
                age: self.history_age,
            },
            max_topics: self.max_topics,
            max_bytes: self.max_bytes,
            gap_type: self.gap_type.clone(),
            gap_on_lag: self.on_lag == OnLag::Gap,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        // A deadline has to be a point in time.
        .filter(|duration| *duration <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| "must be between 0 and the seconds of a year".to_owned())
}

/// Parses a time after which something is given up. Without any time everything would be.
fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = seconds(text)?;
    if timeout < Duration::from_millis(1) {
        return Err("must be at least 0.001: with less, nothing could be done in time".to_owned());
    }
    Ok(timeout)
}

/// Returns a parser of numbers from `least` on, which gives `why` as the reason for that limit.
fn at_least(
    least: usize,
    why: &'static str,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| match text.parse::<usize>() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err(format!("must be at least {least}: {why}")),
        Err(error) => Err(error.to_string()),
    }
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if !interval.is_zero() && interval < Duration::from_millis(50) {
        return Err("must be 0, for never, or at least 0.05".to_owned());
    }
    Ok(interval)
}

/// The absolute path of a directory. Symbolic links stay in it, so that they can be switched to
/// another directory later.
fn directory(text: &str) -> io::Result<PathBuf> {
    let path = path::absolute(text)?;
    if fs::metadata(&path)?.is_dir() { Ok(path) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Parses the type of gap events. `EventSource` fires events of the types `open` and `error` itself:
/// a page would take a gap for a change of the connection.
fn gap_type(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty: an event without a type is a message".to_owned()),
        "open" | "error" => {
            Err(format!("must not be {text}: an EventSource fires that type itself"))
        }
        _ => EventType::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string()),
    }
}
