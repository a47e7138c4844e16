//! Topics: `GET /news` subscribes and resumes, `POST /news` publishes with the token `secret`.
//!
//! ```text
//! cargo run -p sse-smol-server --example topics
//! curl -N http://127.0.0.1:8080/news
//! curl -H 'Authorization: Bearer secret' -d hello http://127.0.0.1:8080/news
//! ```
//!
//! An argument is the address to listen on, instead of `127.0.0.1:8080`.

use std::{env, io};

use smol::Executor;
use sse_smol_server::http::{HeaderValue, Method, StatusCode, header};
use sse_smol_server::{
    Config, Error, Publication, Request, RequestError, Server, Start, Topics, TopicsConfig, text,
};

async fn news(mut request: Request, topics: Topics) -> Result<(), Error> {
    if request.path() != "/news" {
        Err(RequestError::new(StatusCode::NOT_FOUND, "There is only /news."))?;
    }
    request.allow(&[Method::GET, Method::POST])?; // answers others with 405
    if request.method() == Method::POST {
        let body = request.body().await?;
        let published = topics.publish("news", Publication::new(&body[..])).await?;
        return request.respond(text(StatusCode::CREATED, &published.id)).await;
    }
    let last_event_id = request.last_event_id()?; // from the header, or from the query
    let start = match last_event_id.as_str() {
        "" => Start::Latest,
        id => Start::After(id),
    };
    let subscription = topics.subscribe(&["news"], start).await?;
    let mut stream = request.open().await?;
    stream.on_close(|closed| println!("a subscriber has left: {}", closed.reason));
    stream.follow(subscription).await
}

/// Middleware: a header for all answers, also to errors, and a token for publishers.
async fn guarded(mut request: Request, topics: Topics) -> Result<(), Error> {
    let any = HeaderValue::from_static("*");
    request.response_headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    let is_authorized =
        request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer secret");
    if request.method() == Method::POST && !is_authorized {
        Err(RequestError::new(StatusCode::UNAUTHORIZED, "Publishers need the token."))?;
    }
    news(request, topics).await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topics = Topics::new(TopicsConfig::default())?;
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let server = Server::bind(address, Config::default())?;
    println!("listening on http://{}/news", server.local_addr()?);
    let executor = Executor::new();

    // Shuts down when Enter is pressed. A service would wait for a signal instead.
    let drain = server.drain();
    let shutdown = async move {
        smol::unblock(|| io::stdin().read_line(&mut String::new())).await?;
        drain.begin(); // ends open streams, which lets `run` return
        Ok::<(), io::Error>(())
    };
    executor.spawn(shutdown).detach();

    server.run(&executor, move |request| guarded(request, topics.clone()))?;
    Ok(())
}
