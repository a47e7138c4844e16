//! The test service for the SSE contract tests (github.com/launchdarkly/sse-contract-tests). A test
//! harness requests by HTTP which streams to follow, and receives their events by callback
//! requests.
//!
//! ```text
//! cargo run -p sse-smol-server --example contract_service -- 8000
//! sse-test-harness --url http://localhost:8000
//! ```

#![forbid(unsafe_code)]

#[path = "../src/bin/sse-smol-server/client/mod.rs"]
mod client;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::FutureExt as _;
use smol::{Executor, Task};
use sse_smol_server::http::header::{CONTENT_TYPE, LOCATION};
use sse_smol_server::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sse_smol_server::sse_proto::ClientConfig;
use sse_smol_server::{Config, Drain, Error, Request, RequestError, Response, Server, not_allowed};

use crate::client::{EventSource, Item, Result, Url, fetch};

/// Follows event streams for the SSE contract tests.
#[derive(Parser)]
struct Args {
    /// Port to listen on; 0 selects a free port
    #[arg(default_value = "8000")]
    port: u16,
}

/// The capabilities by which the harness selects its tests. Events of all types are reported
/// without a request, so `event-type-listeners` is not among them.
const CAPABILITIES: [&str; 9] = [
    "bom",
    "comments",
    "headers",
    "last-event-id",
    "post",
    "read-timeout",
    "report",
    "restart",
    "server-directed-shutdown-request",
];

/// The parameters of a stream. Those that the harness does not set are missing or null.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    stream_url: String,
    callback_url: String,
    initial_delay_ms: Option<u64>,
    read_timeout_ms: Option<u64>,
    last_event_id: Option<String>,
    headers: Option<HashMap<String, String>>,
    method: Option<String>,
    body: Option<String>,
}

/// A command for an existing stream.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
enum Command {
    Listen,
    Restart,
}

struct Service {
    streams: Mutex<Streams>,
    drain: Drain,
}

#[derive(Default)]
struct Streams {
    created: u64,
    /// Open streams by the path of their resource.
    open: HashMap<String, Stream>,
}

struct Stream {
    restarts: Sender<()>,
    follower: Task<()>,
}

fn main() -> io::Result<()> {
    let config = Config::default().with_drain(Duration::ZERO);
    let server = Server::bind((Ipv4Addr::LOCALHOST, Args::parse().port), config)?;
    println!("Listening on http://{}/", server.local_addr()?);
    let service = Arc::new(Service { streams: Mutex::default(), drain: server.drain() });
    server.run(&Executor::new(), move |request| {
        let service = Arc::clone(&service);
        async move { service.handle(request).await }
    })
}

impl Service {
    async fn handle(&self, mut request: Request) -> Result<(), Error> {
        let body = request.body().await?;
        let answer = match (request.method().as_str(), request.path()) {
            ("GET", "/") => about(),
            ("POST", "/") => self.create(&body).unwrap_or_else(|error| bad(&*error)),
            ("DELETE", "/") => {
                request.no_content().await?;
                self.drain.begin();
                return Ok(());
            }
            ("POST", path) => self.command(path, &body),
            ("DELETE", path) => {
                let stream = self.streams().open.remove(path);
                match stream {
                    None => no_stream(),
                    Some(stream) => {
                        // After the response, nothing more is reported.
                        stream.follower.cancel().await;
                        no_content()
                    }
                }
            }
            _ => not_allowed("POST, DELETE"),
        };
        request.respond(answer).await
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, parameters: &[u8]) -> Result<Response> {
        let parameters: Parameters = serde_json::from_slice(parameters)?;
        let callback = Url::parse(&parameters.callback_url)?.to_string();
        let source = parameters.source()?;
        let (restarts, restarted) = bounded(1);
        let follower = smol::spawn(follow(source, callback, restarted));
        let mut streams = self.streams();
        streams.created += 1;
        let path = format!("/streams/{}", streams.created);
        let mut response = Response::new(Vec::new());
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(LOCATION, HeaderValue::from_str(&path)?);
        streams.open.insert(path, Stream { restarts, follower });
        Ok(response)
    }

    fn command(&self, path: &str, command: &[u8]) -> Response {
        let streams = self.streams();
        let Some(stream) = streams.open.get(path) else {
            return no_stream();
        };
        match serde_json::from_slice(command) {
            Ok(Command::Listen) => {}
            Ok(Command::Restart) if stream.restarts.is_closed() => {
                return RequestError::new(StatusCode::CONFLICT, "The stream is closed for good.")
                    .response();
            }
            // If the channel is full, a restart is pending already, and a second has no effect.
            Ok(Command::Restart) => drop(stream.restarts.try_send(())),
            Err(error) => return bad(&error),
        }
        no_content()
    }
}

impl Parameters {
    fn source(self) -> Result<EventSource> {
        let url = Url::parse(&self.stream_url)?;
        let method = self.method.map_or(Ok(Method::GET), |method| method.parse())?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.unwrap_or_default() {
            headers.insert(name.parse::<HeaderName>()?, HeaderValue::from_str(&value)?);
        }
        let body = self.body.unwrap_or_default().into_bytes();
        let mut config = ClientConfig::default()
            .with_read_timeout(self.read_timeout_ms.map(Duration::from_millis))
            // The harness sets the delays and measures them.
            .with_min_reconnection_time(Duration::ZERO);
        if let Some(delay) = self.initial_delay_ms {
            config.reconnection_time = Duration::from_millis(delay);
        }
        let request = client::Request::new(url, method, headers, body);
        Ok(EventSource::new(request, config, &self.last_event_id.unwrap_or_default())?)
    }
}

/// Reports the messages of a stream, one after the other, until it is closed for good.
async fn follow(mut source: EventSource, callback: String, restarts: Receiver<()>) {
    let callback = callback.trim_end_matches('/');
    let mut count = 0;
    loop {
        let restarted = async { Err(restarts.recv().await) };
        let message = match restarted.or(async { Ok(source.next().await) }).await {
            Err(Ok(())) => {
                source.restart();
                continue;
            }
            Ok(None) | Err(Err(_)) => return,
            Ok(Some(Item::Open)) => continue,
            Ok(Some(Item::Event { event_type, data, last_event_id: id })) => {
                json!({ "kind": "event", "event": { "type": event_type, "data": data, "id": id } })
            }
            Ok(Some(Item::Comment(comment))) => json!({ "kind": "comment", "comment": comment }),
            Ok(Some(Item::Error(error))) => json!({ "kind": "error", "error": error.to_string() }),
        };
        count += 1;
        if let Err(error) = report(format!("{callback}/{count}"), &message).await {
            eprintln!("{callback}/{count}: {error}");
        }
    }
}

async fn report(url: String, message: &Value) -> Result<()> {
    let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = message.to_string().into_bytes();
    let mut request =
        client::Request::new(Url::parse(&url)?, Method::POST, HeaderMap::from_iter([json]), body);
    let status = fetch(&mut request).await?.status();
    if status.is_success() { Ok(()) } else { Err(status.to_string().into()) }
}

fn about() -> Response {
    let about = json!({ "name": "sse-proto", "capabilities": CAPABILITIES });
    let mut response = Response::new(about.to_string().into_bytes());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn no_content() -> Response {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn no_stream() -> Response {
    RequestError::new(StatusCode::NOT_FOUND, "There is no stream at this path.").response()
}

fn bad(error: &dyn std::error::Error) -> Response {
    RequestError::new(StatusCode::BAD_REQUEST, error.to_string()).response()
}
