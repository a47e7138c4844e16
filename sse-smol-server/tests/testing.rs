//! Handlers tested without a network, and what such a test sees.

use std::time::Duration;

use http::{Method, StatusCode};
use smol::{block_on, future};
use sse_proto::Event;
use sse_smol_server::testing::TestServer;
use sse_smol_server::{
    CloseReason, Config, Error, Publication, Request, Start, Topics, TopicsConfig, text,
};

/// Publishes the body of a `POST`, and follows the topic otherwise.
async fn room(topics: Topics, mut request: Request) -> Result<(), Error> {
    if *request.method() == Method::POST {
        let data = String::from_utf8(request.body().await?)?;
        topics.publish("room", Publication::new(&data)).await?;
        return request.no_content().await;
    }
    let subscription = topics.subscribe(&["room"], Start::Latest).await?;
    request.open().await?.follow(subscription).await
}

#[test]
fn a_handler_with_topics_is_tested_without_a_network() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let server = TestServer::new(move |request| room(topics.clone(), request));
    block_on(async {
        let mut first = server.get("/").await;
        let mut second = server.get("/").await;
        for data in ["hello", "again"] {
            let answer = server.send(http::Request::post("/").body(data).unwrap()).await;
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            // The streams are parked by now, or not: both get the event.
            for stream in [&mut first, &mut second] {
                assert_eq!(stream.event().await.unwrap().data(), data);
            }
        }
        let closed = first.leave().await;
        assert!(matches!(closed.reason, CloseReason::Error(Error::PeerClosed)), "{closed:?}");
        assert_eq!(closed.events, 2);
    });
}

#[test]
fn a_stream_that_fails_is_not_complete_and_its_reason_is_seen() {
    let server = TestServer::new(|request| async move {
        let mut stream = request.open().await?;
        stream.send(Event::new("one")).await?;
        Err(Error::Failed("no more".into()))
    });
    block_on(async {
        let mut answer = server.get("/").await;
        assert_eq!(answer.event().await.unwrap().data(), "one");
        assert!(answer.event().await.is_none());
        assert!(!answer.is_complete());
        assert_eq!(answer.closed().await.reason.to_string(), "failed: no more");
    });
}

#[test]
fn the_limits_of_the_configuration_apply() {
    let config = Config::default().with_max_body(10).with_max_connections(2);
    let server = TestServer::with_config(config, |mut request| async move {
        let body = String::from_utf8(request.body().await?)?;
        if body.is_empty() {
            let _stream = request.open().await?;
            return future::pending().await;
        }
        request.respond(text(StatusCode::OK, &body)).await
    });
    block_on(async {
        let post = |size| http::Request::post("/").body("x".repeat(size)).unwrap();
        let mut answer = server.send(post(10)).await;
        assert_eq!(answer.text().await, "xxxxxxxxxx");
        drop(answer);
        // Larger than the buffers of the socket.
        let answer = server.send(post(1 << 20)).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        answer.leave().await;

        let first = server.get("/").await;
        let second = server.get("/").await;
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(server.get("/").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn a_drain_and_keep_alives_reach_the_handler() {
    let keep_alive = Some(Duration::from_millis(50));
    let config = Config::default().with_keep_alive(keep_alive);
    let server = TestServer::with_config(config, |request| async move {
        let _stream = request.open().await?;
        future::pending().await
    });
    block_on(async {
        let mut answer = server.get("/").await;
        server.drain().begin();
        assert!(matches!(answer.closed().await.reason, CloseReason::Error(Error::Drained)));
        assert!(answer.text().await.starts_with("retry: "));
        assert!(answer.is_complete());
    });
}
