//! `tail -f` for event streams: prints what comes, and connects again when the stream breaks off.
//!
//! ```text
//! cargo run -p sse-smol-server --example tail -- http://127.0.0.1:8080/topics/news
//! cargo run -p sse-smol-server --example tail -- --json --last-event-id earliest URL
//! ```

#![forbid(unsafe_code)]

mod client;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use http::{HeaderMap, Method};
use smol::block_on;
use sse_proto::ClientConfig;
use url::Url;

use crate::client::{EventSource, News, Request, Result};

/// Prints the events of a stream as they come.
#[derive(Parser)]
struct Args {
    /// Where the stream is; `http` only
    url: Url,
    /// Print each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Begin behind this event
    #[arg(long, value_name = "ID", default_value = "")]
    last_event_id: String,
    /// Connect again after so many seconds without a byte
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    read_timeout: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let config = ClientConfig {
        read_timeout: Some(Duration::from_secs(args.read_timeout)),
        backoff_cap: Some(Duration::from_secs(30)),
        jitter: true,
        honour_retry_after: true,
        ..ClientConfig::default()
    };
    let request = Request::new(args.url, Method::GET, HeaderMap::new(), Vec::new())?;
    let source = EventSource::new(request, config, &args.last_event_id)?;
    Ok(block_on(follow(source, args.json))?)
}

async fn follow(mut source: EventSource, json: bool) -> io::Result<()> {
    while let Some(news) = source.next().await {
        match news {
            News::Open => eprintln!("open"),
            News::Error(error) => eprintln!("{error}"),
            News::Comment(_) => {}
            News::Event { event_type, data, last_event_id: id } => {
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
                out.flush()?;
            }
        }
    }
    Ok(())
}
