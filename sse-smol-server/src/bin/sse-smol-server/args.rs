//! Command line arguments.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{self, Component, PathBuf};
use std::time::Duration;
use std::{env, fs};

use clap::{Arg, Args as _, Command, ValueEnum};
use sse_proto::EventType;
use sse_smol_server::{Config, History, TopicsConfig};

use crate::host::{AllowedOrigin, Host, allowed_host, allowed_origin};
use crate::listen::{Listen, listen, mode};
use crate::log_writer::LogFormat;
use crate::numbers::{at_least, whole_number};
use crate::storing::Storing;

/// The length in bytes of the shortest request, `GET / HTTP/1.0` with its line ends.
const SHORTEST_HEAD: usize = 18;

/// The last paragraph of `--help`.
pub(crate) const ABOUT_ENVIRONMENT: &str = "Each flag can also be set by an environment variable, such as SSE_MAX_TOPICS=5 for \
     --max-topics 5 or SSE_PUBLIC=true for --public; the command line takes precedence. RUST_LOG \
     sets the level of the log.";

/// The flags of the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: HOST:PORT, with port 0 for a free one; :PORT for all addresses; unix:PATH
    /// for a Unix socket; systemd for the socket that it passes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub(crate) listen: Listen,

    /// Permissions of the Unix socket of --listen unix:PATH, in octal [default: 600]
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) socket_mode: Option<u32>,

    /// Allow a --listen address that other machines can reach: their clients may subscribe, list
    /// the topics and read the metrics
    #[arg(long)]
    pub(crate) public: bool,

    /// Send a keep-alive comment after this time without traffic on a stream; 0 to disable
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = keep_alive)]
    keep_alive: Duration,

    /// Answer 408 if a request head takes longer than this to arrive, or if a body stalls for
    /// longer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = timeout)]
    head_timeout: Duration,

    /// Answer 408 if a whole request body takes longer than this to arrive
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = timeout)]
    body_timeout: Duration,

    /// Close a connection that is idle for longer than this between two requests
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = timeout)]
    idle_timeout: Duration,

    /// Maximum size of a request head; answer 431 to a larger one
    #[arg(long, value_name = "BYTES", default_value = "16384", value_parser = at_least(SHORTEST_HEAD, "no request is shorter"))]
    max_head: usize,

    /// Maximum size of a request body, and so of an event; answer 413 to a larger one
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = whole_number::<usize>)]
    max_body: usize,

    /// Maximum size of all request bodies that are being received or handled, together; answer 503
    /// to a body beyond it
    #[arg(long, value_name = "BYTES", default_value = "67108864", value_parser = at_least(1_usize, "with 0 no body could be received"))]
    max_pending_body_bytes: usize,

    /// Reset the connection of a client that takes no data for this long; a slow client that takes
    /// some is not reset
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    write_timeout: Duration,

    /// Maximum number of connections; answer 503 to more
    #[arg(long, value_name = "COUNT", default_value = "20000", value_parser = at_least(1_usize, "with 0 no connection would be served"))]
    max_connections: usize,

    /// Maximum number of connections from one address; answer 503 to more [default: 256, unlimited
    /// for loopback addresses]
    #[arg(long, value_name = "COUNT", value_parser = at_least(1_usize, "with 0 no connection would be served"))]
    max_connections_per_peer: Option<usize>,

    /// Maximum time of a graceful shutdown, over which open streams are closed one after another;
    /// few streams take less [default: 5, or 0 with --watch, so that a successor can start at once]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    drain: Option<Duration>,

    /// Time between the signal to stop and the graceful shutdown: /readyz answers 503, and everything
    /// else works as before
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) drain_delay: Duration,

    /// Maximum number of events held of each topic, for subscribers that reconnect
    #[arg(long, value_name = "EVENTS", default_value = "1000", value_parser = at_least(1_usize, "the newest event of a topic is always held"))]
    history: usize,

    /// Maximum memory, or size in the file, of the events held of each topic
    #[arg(long, value_name = "BYTES", default_value = "1048576", value_parser = at_least(1_usize, "the newest event of a topic is always held"))]
    history_bytes: usize,

    /// Maximum age of the events held
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = timeout)]
    history_age: Duration,

    /// Maximum memory, or size in the file, of the events of all topics together; beyond it, the
    /// oldest are dropped
    #[arg(long, value_name = "BYTES", default_value = "268435456", value_parser = at_least(1_usize, "with 0 no event could be held"))]
    max_bytes: usize,

    /// Maximum number of topics that hold events; answer 429 to a publication that needs one more.
    /// Topics that only have subscribers do not count
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = at_least(1_usize, "with 0 there could be no topic"))]
    max_topics: usize,

    #[command(flatten)]
    pub(crate) storing: Storing,

    /// Answer 503 to a publication that has not been stored and delivered after this time; it may
    /// be stored later
    #[arg(long, value_name = "SECONDS", requires = "storage", default_value = "5", value_parser = timeout)]
    publish_timeout: Duration,

    /// Type of the event that is sent to a subscriber that has missed events; not open or error,
    /// which an `EventSource` fires itself
    #[arg(long, value_name = "TYPE", default_value = "gap", value_parser = event_type)]
    gap_type: String,

    /// Begin subscriptions that do not resume with an event of this type, for clients that keep no id
    /// of a block without data; not open or error
    #[arg(long, value_name = "TYPE", value_parser = event_type)]
    hello: Option<String>,

    /// Action when a subscriber falls behind the history while connected
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = OnLag::End)]
    on_lag: OnLag,

    /// File with the bearer token for publishing, on one line. Without a token from a file or the
    /// environment, the server generates one and prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Environment variable with the token, which must be set [default: `SSE_TOKEN`, if set]
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,

    /// Allow every client that can connect to publish, without a token
    #[arg(long, conflicts_with_all = ["token_file", "token_env"])]
    pub(crate) open_publishing: bool,

    /// Web origin whose pages may subscribe and, with the token, publish, such as
    /// `https://example.org`; repeatable; * for all
    #[arg(long, value_name = "ORIGIN", value_parser = allowed_origin)]
    pub(crate) allow_origin: Vec<AllowedOrigin>,

    /// Host name to answer requests for, on any port, in addition to the names of this machine;
    /// repeatable. If given, or on a loopback address, requests for other hosts are rejected
    #[arg(long, value_name = "HOST", value_parser = allowed_host)]
    pub(crate) allow_host: Vec<Host>,

    /// Serve the files below a directory, except hidden files and symbolic links that lead out of
    /// it; the page of streams moves to /__sse, and the demos below it. The directory may be a
    /// symbolic link that is switched later
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub(crate) serve: Option<PathBuf>,

    /// File below the --serve directory to serve for paths without a file, for applications whose
    /// pages are made by scripts; not for paths whose last name contains a dot, such as a missing
    /// image
    #[arg(long, value_name = "FILE", requires = "serve", value_parser = file_below)]
    pub(crate) spa: Option<PathBuf>,

    /// Watch a directory and everything below it, and reload pages that include /__hotreload.js
    /// when something changes or a symbolic link in the path is switched; up to 1000 links to
    /// directories below it are followed; repeatable
    #[arg(long, value_name = "DIRECTORY", value_parser = directory)]
    pub(crate) watch: Vec<PathBuf>,

    /// Pattern of watched files whose changes reload no page, in the syntax of .gitignore;
    /// repeatable. With !PATTERN, files count although a .gitignore file or a default ignores them
    #[arg(long, value_name = "GLOB", requires = "watch")]
    pub(crate) ignore: Vec<String>,

    /// Form of the lines of the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,

    /// Open the served files, or else the page of streams, in the browser. The page does not get
    /// the token, which other users could see: the link that is printed passes it
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnLag {
    /// End its stream, so that it reconnects and resumes
    End,
    /// Send it the gap event, and continue
    Gap,
}

/// The environment variable that is read if no flag names another source of the token.
pub(crate) const DEFAULT_VARIABLE: &str = "SSE_TOKEN";

/// The prefix of the environment variables that set flags.
const ENVIRONMENT: &str = "SSE_";

impl Args {
    /// Lets the environment set the flags that the command line does not contain.
    pub(crate) fn with_environment(command: Command) -> Command {
        command.mut_args(|flag| {
            let Some(name) = flag.get_long().map(|long| long.replace('-', "_").to_uppercase())
            else {
                return flag;
            };
            // Shown once below the flags instead of with each of them.
            flag.env(format!("{ENVIRONMENT}{name}")).hide_env(true)
        })
    }

    /// Returns the names of environment variables that look as if they set a flag, and do not.
    pub(crate) fn unknown_variables(&self) -> Vec<String> {
        let command = Self::with_environment(Self::augment_args(Command::new("")));
        let known: HashSet<_> = command.get_arguments().filter_map(Arg::get_env).collect();
        let is_token =
            |name: &str| name == DEFAULT_VARIABLE || self.token_env.as_deref() == Some(name);
        let set = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let like_flags = set.filter(|name| name.starts_with(ENVIRONMENT) && !is_token(name));
        like_flags.filter(|name| !known.contains(OsStr::new(name))).collect()
    }

    /// Returns whether the server listens on a loopback address or a Unix socket, which other
    /// machines cannot reach.
    pub(crate) fn listens_on_loopback(&self) -> bool {
        self.listen.is_local()
    }

    pub(crate) fn server_config(&self) -> Config {
        let drain = Duration::from_secs(if self.watch.is_empty() { 5 } else { 0 });
        Config::default()
            .with_keep_alive((!self.keep_alive.is_zero()).then_some(self.keep_alive))
            .with_head_timeout(self.head_timeout)
            .with_body_timeout(self.body_timeout)
            .with_idle_timeout(self.idle_timeout)
            .with_max_head(self.max_head)
            .with_max_body(self.max_body)
            .with_max_pending_body_bytes(self.max_pending_body_bytes)
            .with_write_timeout(self.write_timeout)
            .with_max_connections(self.max_connections)
            .with_max_connections_per_peer(self.max_connections_per_peer)
            .with_drain(self.drain.unwrap_or(drain))
    }

    pub(crate) fn topics_config(&self) -> TopicsConfig {
        let history = History::default()
            .with_events(self.history)
            .with_bytes(self.history_bytes)
            .with_age(self.history_age);
        TopicsConfig::default()
            .with_history(history)
            .with_max_topics(self.max_topics)
            .with_max_bytes(self.max_bytes)
            .with_gap_type(self.gap_type.as_str())
            .with_hello_type(self.hello.clone())
            .with_publish_timeout(self.publish_timeout)
            .with_gap_on_lag(self.on_lag == OnLag::Gap)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        // The bound keeps deadlines in the range of `Instant`.
        .filter(|duration| *duration <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| "must be between 0 and 31536000 (one year)".to_owned())
}

/// Parses a timeout, which must not be so short that it always expires.
fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = seconds(text)?;
    if timeout < Duration::from_millis(1) {
        return Err("must be at least 0.001: a shorter timeout would always expire".to_owned());
    }
    Ok(timeout)
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if !interval.is_zero() && interval < Duration::from_millis(50) {
        return Err("must be 0, to disable keep-alives, or at least 0.05".to_owned());
    }
    Ok(interval)
}

/// Returns the absolute path of a directory that can be searched. Symbolic links are not resolved,
/// so that they can be switched to another directory later.
fn directory(text: &str) -> io::Result<PathBuf> {
    let path = path::absolute(text)?;
    if !fs::metadata(&path)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    // Looking up a name in a directory requires search permission.
    fs::metadata(path.join("."))?;
    Ok(path)
}

/// Returns the relative path of a file that can be served.
fn file_below(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_name = |name: Component<'_>| match name {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        name => name == Component::CurDir,
    };
    if text.is_empty() || !path.components().all(is_name) {
        return Err("must be a path relative to the --serve directory, without hidden names".into());
    }
    Ok(path)
}

/// Parses the type of events that the server itself sends. `open` and `error` are rejected: an
/// `EventSource` fires events of these types itself, so a page would mistake them for a change of
/// the connection.
fn event_type(text: &str) -> Result<String, String> {
    match text {
        "" => {
            Err("must not be empty: an event without a type is dispatched as `message`".to_owned())
        }
        "open" | "error" => {
            Err(format!("must not be {text}: an EventSource fires that type itself"))
        }
        _ => EventType::new(text).map(|_| text.to_owned()).map_err(|error| error.to_string()),
    }
}
