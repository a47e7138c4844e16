//! The cases of the server: publications to topics in memory, without sockets.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use smol::block_on;
use sse_smol_server::testing::TestServer;
use sse_smol_server::{Error, Request, Start, Topics, TopicsConfig};

use crate::count::counted;

/// The number of events that each case publishes.
const EVENTS: usize = 500;

/// Data of 100 bytes.
const DATA: &str = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\
                    0123456789abcdefghijklmnopqr";

/// Runs all cases once, in order, and prints their names.
pub(crate) fn run() {
    assert_eq!(DATA.len(), 100);
    without_subscribers();
    batch();
    with_subscription();
    with_parked_stream();
}

/// Returns topics of which one is full, so that each event drops another one.
fn full() -> Topics {
    let topics = Topics::new(TopicsConfig::default()).expect("the default configuration");
    publish(&topics, 2 * TopicsConfig::default().history.events);
    topics
}

fn publish(topics: &Topics, count: usize) {
    for _ in 0..count {
        now(topics.publish("news", DATA)).expect("an event within the limits");
    }
}

fn without_subscribers() {
    let topics = full();
    counted(&mut || publish(&topics, EVENTS));
    println!("publish, no subscribers");
}

fn batch() {
    let topics = full();
    let mut results = Vec::new();
    counted(&mut || results = now(topics.publish_all("news", [DATA; EVENTS])));
    assert!(results.iter().all(Result::is_ok) && results.len() == EVENTS);
    println!("publish, no subscribers, in one batch");
}

/// A subscription that waits for each event and reads it.
fn with_subscription() {
    let topics = full();
    let mut subscription = now(topics.subscribe(&["news"], Start::Latest)).expect("a valid name");
    subscription.ready();
    let mut frames = 0;
    counted(&mut || {
        for _ in 0..EVENTS {
            let mut next = pin!(subscription.next_batch());
            let mut context = Context::from_waker(Waker::noop());
            assert!(next.as_mut().poll(&mut context).is_pending());
            publish(&topics, 1);
            frames += now(next).expect("the subscriber keeps up").len();
        }
    });
    assert_eq!(frames, EVENTS);
    println!("publish, a subscription that waits for each event");
}

/// A stream that is parked. Its delivery worker does not run while events are published.
fn with_parked_stream() {
    let topics = full();
    let followed = topics.clone();
    let server = TestServer::new(move |request: Request| {
        let topics = followed.clone();
        async move {
            let subscription = topics.subscribe(&["news"], Start::Latest).await?;
            Err::<(), Error>(request.open().await?.follow(subscription).await.unwrap_err())
        }
    });
    block_on(async {
        let mut answer = server.get("/").await;
        publish(&topics, 1);
        assert!(answer.event().await.is_some());
        counted(&mut || publish(&topics, EVENTS));
        for _ in 0..EVENTS {
            assert_eq!(answer.event().await.expect("the stream is open").data(), DATA);
        }
    });
    println!("publish, a parked stream");
}

/// Returns the result of a future that is ready.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("topics in memory do not wait"),
    }
}
