//! An axum handler that responds with an event stream.
//!
//! ```text
//! cargo run -p sse-proto --example axum --features http-body
//! curl -N http://127.0.0.1:3000/counter
//! curl -N -H 'Last-Event-ID: 41' http://127.0.0.1:3000/counter
//! ```

use std::env;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_lite::stream;
use sse_proto::{Event, EventBody, EventId, EventType};
use tokio::net::TcpListener;
use tokio::time::sleep;

const COUNT: EventType<'static> = EventType::from_static("count");

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/counter", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/counter", get(counter))).await
}

/// Sends a counter, which continues after the client's last event ID.
async fn counter(headers: HeaderMap) -> impl IntoResponse {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let events = stream::unfold(last.unwrap_or(0_u64), async |last| {
        sleep(Duration::from_millis(200)).await;
        let text = last.checked_add(1)?.to_string();
        let event = Event::new(&text).with_type(COUNT).with_id(EventId::new(&text).ok()?);
        Some((event.into_owned(), last + 1))
    });
    EventBody::new(events, || sleep(Duration::from_secs(15))).into_response()
}
