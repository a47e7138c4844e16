//! A typical hub with axum: a broadcast channel, and a stream of its messages for each client.
//!
//!     axum-hub PORT

use std::convert::Infallible;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use servers::message::{LEN, Message};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt, iter, once, pending};

type Hub = broadcast::Sender<String>;
type Sent = Result<Event, Infallible>;

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("axum-hub PORT");
    let app = Router::new()
        .route("/events", get(subscribe))
        .route("/publish", post(publish))
        .route("/hello", get(hello))
        .route("/stream", get(stream))
        .with_state(Hub::new(1024));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    axum::serve(listener, app).await.expect("the server runs");
}

async fn subscribe(State(hub): State<Hub>) -> Sse<impl Stream<Item = Sent>> {
    // A client that lags misses messages without notice.
    let events = BroadcastStream::new(hub.subscribe()).filter_map(Result::ok);
    Sse::new(events.map(|data| Ok(Event::default().data(data)))).keep_alive(KeepAlive::default())
}

async fn publish(State(hub): State<Hub>, data: String) -> StatusCode {
    // Sending fails without subscribers, which is fine.
    let _ = hub.send(data);
    StatusCode::NO_CONTENT
}

async fn hello() -> Sse<impl Stream<Item = Sent>> {
    let first = once(Ok(Event::default().data("hello")));
    Sse::new(first.chain(pending())).keep_alive(KeepAlive::default())
}

async fn stream() -> Sse<impl Stream<Item = Sent>> {
    let data = Message::sample(LEN);
    Sse::new(iter(std::iter::repeat_with(move || Ok(Event::default().data(&data)))))
}
