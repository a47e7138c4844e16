//! Follows an event stream with reqwest, and reconnects when the connection ends.
//!
//! ```text
//! cargo run -p sse-proto --example reqwest --features http-body -- http://127.0.0.1:8080/clock
//! ```
//!
//! Exit codes: 0 if the server ended the stream with status 204, 1 if it rejected the request or sent
//! something other than an event stream, 2 for an invalid command line.
//!
//! reqwest handles redirects, proxies, TLS and compression. `EventSource` decides when to connect,
//! with which headers, and what a response means.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::StreamExt as _;
use reqwest::Url;
use sse_proto::{ClientConfig, ConnectRequest, EventSource, EventSourceError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = env::args().nth(1).unwrap_or_default();
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
    let Some(url) = Url::parse(&url).ok().filter(is_http) else {
        eprintln!("error: {url:?} is not a URL of the form http://HOST/PATH or https://HOST/PATH");
        return ExitCode::from(2);
    };
    let config = ClientConfig::default()
        .with_read_timeout(Some(Duration::from_secs(60)))
        .with_backoff_cap(Some(Duration::from_secs(30)))
        .with_jitter(true)
        .with_honour_retry_after(true);
    let client = reqwest::Client::new();
    let connect = |request: ConnectRequest<'_>| {
        let request = client.get(url.clone()).headers(request.header_map());
        async { Ok::<_, reqwest::Error>(http::Response::from(request.send().await?).into()) }
    };
    let mut source = EventSource::new(config, connect, tokio::time::sleep);
    let mut code = ExitCode::SUCCESS;
    while let Some(event) = source.next().await {
        match event {
            Ok(event) => {
                println!("{} [{}] {}", event.event_type(), event.last_event_id(), event.data());
            }
            // The next event comes from the next connection, if one follows.
            Err(error) => {
                eprintln!("error: {url}: {error}");
                let is_rejected = matches!(error, EventSourceError::Rejected(_));
                code = if is_rejected { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            }
        }
    }
    code
}
