//! Follows an event stream with reqwest, and reconnects when the connection ends.
//!
//! ```text
//! cargo run -p sse-proto --example reqwest -- http://127.0.0.1:8080/clock
//! ```
//!
//! Exit codes: 0 if the server ended the stream with status 204, 1 if it rejected the request or sent
//! something other than an event stream, 2 for an invalid command line.
//!
//! reqwest handles redirects, proxies, TLS and compression. `Client` decides when to connect, with
//! which headers, and what a response means.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use sse_proto::{Client, ClientConfig, ReadyState, Rejected, ResponseHead};
use tokio::time::{sleep_until, timeout_at};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = env::args().nth(1).unwrap_or_default();
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
    let Some(url) = Url::parse(&url).ok().filter(is_http) else {
        eprintln!("error: {url:?} is not a URL of the form http://HOST/PATH or https://HOST/PATH");
        return ExitCode::from(2);
    };
    match follow(&url).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {url}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Follows the stream until the client is closed. Returns the error that closed it; status 204 is
/// not an error.
async fn follow(url: &Url) -> Result<()> {
    let config = ClientConfig {
        read_timeout: Some(Duration::from_secs(60)),
        backoff_cap: Some(Duration::from_secs(30)),
        jitter: true,
        honour_retry_after: true,
        ..ClientConfig::default()
    };
    let (http, mut client) = (reqwest::Client::new(), Client::new(config));
    loop {
        if let Some(request) = client.poll_request(Instant::now()) {
            let mut headers = HeaderMap::new();
            for (name, value) in request.headers() {
                headers.insert(name, HeaderValue::from_bytes(value)?);
            }
            let result = attempt(http.get(url.clone()).headers(headers), &mut client).await;
            client.handle_end(Instant::now(), fastrand::u32(..));
            match result {
                Err(error) if client.ready_state() != ReadyState::Closed => eprintln!("{error}"),
                Err(error) if error.downcast_ref() == Some(&Rejected::Status(204)) => return Ok(()),
                result => return result,
            }
        } else if let Some(deadline) = client.poll_timeout() {
            sleep_until(deadline.into()).await;
        }
    }
}

/// Makes one connection, from the request to the end of the body.
async fn attempt(request: reqwest::RequestBuilder, client: &mut Client<Instant>) -> Result<()> {
    let mut response = within(client, request.send()).await??;
    let headers = response.headers();
    let content_type: Vec<&[u8]> =
        headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes).collect();
    let retry_after = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    let head = ResponseHead {
        status: response.status().as_u16(),
        content_type: &content_type,
        retry_after: retry_after.map(Duration::from_secs),
    };
    client.handle_response(head, Instant::now(), fastrand::u32(..))?;
    while let Some(chunk) = within(client, response.chunk()).await?? {
        let mut input = &chunk[..];
        loop {
            match client.next_event(&mut input, Instant::now()) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    println!("{} [{}] {}", event.event_type(), event.last_event_id(), event.data());
                }
                // The event is dropped; the connection continues.
                Err(too_large) => eprintln!("{too_large}"),
            }
        }
    }
    Err("the stream ended; reconnecting".into())
}

/// Waits for a future, until the client's deadline for a silent connection.
async fn within<T>(client: &Client<Instant>, future: impl Future<Output = T>) -> Result<T> {
    let Some(deadline) = client.poll_timeout() else {
        return Ok(future.await);
    };
    Ok(timeout_at(deadline.into(), future).await?)
}
