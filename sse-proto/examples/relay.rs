//! A relay on hyper: decodes the event stream of another server, and encodes it for each client.
//!
//! ```text
//! cargo run -p sse-proto --example relay --features http-body -- 127.0.0.1:3001 127.0.0.1:8080
//! curl -N http://127.0.0.1:3001/clock
//! ```
//!
//! Unlike a relay of bytes, it forwards each event completely or not at all, sends keep-alive
//! comments of its own, and could inspect or drop events.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io};

use futures_lite::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sse_proto::{EventBody, Events, Rejected, is_event_stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: relay LISTEN_ADDRESS UPSTREAM_ADDRESS");
        return ExitCode::from(2);
    };
    let Err(error) = serve(&listen, upstream).await;
    eprintln!("error: {listen}: {error}");
    ExitCode::FAILURE
}

async fn serve(listen: &str, upstream: String) -> io::Result<Infallible> {
    let listener = TcpListener::bind(listen).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request| {
                Ok::<_, io::Error>(relay(request, &upstream).await.unwrap_or_else(|error| {
                    eprintln!("{upstream}: {error}");
                    status(StatusCode::BAD_GATEWAY)
                }))
            });
            // A client that disconnects is not a failure.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn relay(
    request: Request<Incoming>,
    upstream: &str,
) -> Result<Response<Body>, Box<dyn Error + Send + Sync>> {
    let socket = TcpStream::connect(upstream).await?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    // Only the last event ID is forwarded. Other headers may apply to a single connection, and with
    // `Accept-Encoding` events could come compressed.
    let mut forwarded = Request::get(request.uri().clone()).header(HOST, upstream);
    if let Some(id) = request.headers().get("last-event-id") {
        forwarded = forwarded.header("last-event-id", id);
    }
    let response = sender.send_request(forwarded.body(Empty::<Bytes>::new())?).await?;
    if response.status() != 200 {
        // 204 ends a stream normally. Any other status is logged, and the client decides about it.
        if response.status() != 204 {
            let rejected = Rejected::Status(response.status().as_u16());
            eprintln!("{upstream}: {rejected}");
        }
        return Ok(status(response.status()));
    }
    let content_type = response.headers().get_all(CONTENT_TYPE);
    if !is_event_stream(content_type.iter().map(HeaderValue::as_bytes)) {
        return Err(Rejected::ContentType.into());
    }
    if let Some(coding) = response.headers().get(CONTENT_ENCODING) {
        return Err(format!("the content coding {coding:?} is not supported").into());
    }
    let events = Events::from_body(response.into_body()).filter_map(|event| {
        // An event that is too large is left out. A failure of the body ends the stream.
        event.inspect_err(|error| eprintln!("{error}")).ok()
    });
    let body = EventBody::new(events, || sleep(Duration::from_secs(15)));
    Ok(body.into_response().map(BodyExt::boxed_unsync))
}

/// Returns a response with this status and an empty body.
fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = status;
    response
}
