//! `tail -f` for event streams: prints events as they arrive, and reconnects when the stream breaks
//! off.
//!
//! ```text
//! cargo run -p sse-smol-server --example tail -- http://127.0.0.1:8080/topics/news
//! cargo run -p sse-smol-server --example tail -- --json --last-event-id earliest URL
//! ```
//!
//! Exit codes: 0 if the server ended the stream with status 204, or the reader of the output closed
//! it; 1 if the server rejected the request or sent something other than an event stream, or the
//! output could not be written; 2 for an invalid command line.

#![forbid(unsafe_code)]

mod client;

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{CommandFactory as _, Parser, error, value_parser};
use http::{HeaderMap, Method};
use smol::block_on;
use sse_proto::{ClientConfig, Rejected};
use url::Url;

use crate::client::{EventSource, Item, Request, Result};

/// Prints the events of a stream as they arrive.
///
/// Reconnects until the server answers with status 204 (exit code 0) or rejects the request (exit
/// code 1).
#[derive(Parser)]
struct Args {
    /// URL of the stream; only `http` is supported
    url: Url,
    /// Print each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// ID of the event to begin after
    #[arg(long, value_name = "ID", default_value = "")]
    last_event_id: String,
    /// Reconnect after this number of seconds without a byte
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = value_parser!(u64).range(1..))]
    read_timeout: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (url, json) = (args.url.clone(), args.json);
    let source = source(args).unwrap_or_else(|error| {
        Args::command().error(error::ErrorKind::ValueValidation, error).exit()
    });
    match block_on(follow(source, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("error: {url}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn source(args: Args) -> Result<EventSource> {
    let config = ClientConfig::default()
        .with_read_timeout(Some(Duration::from_secs(args.read_timeout)))
        .with_backoff_cap(Some(Duration::from_secs(30)))
        .with_jitter(true)
        .with_honour_retry_after(true);
    let request = Request::new(args.url, Method::GET, HeaderMap::new(), Vec::new())?;
    Ok(EventSource::new(request, config, &args.last_event_id)?)
}

/// Prints events until the server ends the stream, or the reader of the output closes it.
async fn follow(mut source: EventSource, json: bool) -> Result<()> {
    while let Some(item) = source.next().await {
        match item {
            Item::Open => report(format_args!("open")),
            Item::Error(error) if source.is_closed() => {
                if !matches!(error.downcast_ref(), Some(Rejected::Status(204))) {
                    return Err(error);
                }
                report(format_args!("the stream has ended: {error}"));
            }
            Item::Error(error) => report(format_args!("{error}")),
            Item::Comment(_) => {}
            Item::Event { event_type, data, last_event_id } => {
                match print(json, &event_type, &data, &last_event_id) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(format!("cannot write the output: {error}").into()),
                }
            }
        }
    }
    Ok(())
}

fn print(json: bool, event_type: &str, data: &str, id: &str) -> io::Result<()> {
    let time = httpdate::fmt_http_date(SystemTime::now());
    let mut out = io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "time": time, "type": event_type, "id": id, "data": data,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{time} {event_type} [{id}] {data}")?;
    }
    out.flush()
}

/// Writes a line to standard error. If that is closed, there is no other place for it.
fn report(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
