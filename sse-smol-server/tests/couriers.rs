//! Streams that couriers serve: every event once and in order, however a stream came to rest, and
//! whatever the client takes.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use smol::Timer;
use sse_smol_server::{Config, Publication, Start, Topics, TopicsConfig};
use support::subscriber::{Publisher, Subscriber, read_all_until, subscribers, wait_until};
use support::{Binary, get, read_head, read_until, serve};

/// So many streams that each courier has some.
fn some_for_each() -> usize {
    2 * thread::available_parallelism().map_or(1, usize::from)
}

/// Positions are numbers over all topics: of two streams that have got everything, one may be
/// behind the other.
#[test]
fn who_comes_to_rest_behind_others_rests_all_the_same() {
    let server = Binary::start(&["--keep-alive", "0"]);
    let mut publisher = Publisher::open(server.address);
    let first = publisher.publish("news", "0");
    for _ in 0..10 {
        publisher.publish("other", "x");
    }
    let path = "/topics/news";
    let mut all: Vec<_> =
        (0..some_for_each()).map(|_| Subscriber::open(server.address, path)).collect();
    publisher.publish("other", "x");
    for _ in 0..some_for_each() {
        all.push(Subscriber::resume(server.address, path, &first));
        all.push(Subscriber::resume(server.address, path, "latest"));
    }
    for n in 1..4 {
        publisher.publish("news", &n.to_string());
        read_all_until(&mut all, "an event", |one| one.events.len() >= n);
    }
    // And when those before them have left.
    all.clear();
    wait_until("all have left", || subscribers(server.address, "news") == 0);
    for _ in 0..some_for_each() {
        let mut earliest = Subscriber::resume(server.address, path, "earliest");
        earliest.read_events(4);
        all.push(earliest);
    }
    publisher.publish("news", "4");
    read_all_until(&mut all, "all events", |one| one.events.len() >= 5);
    for one in &all {
        assert_eq!(one.data(), ["0", "1", "2", "3", "4"]);
    }
}

/// Counts how often a future is polled.
struct Counted<F>(F, Arc<AtomicUsize>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll(cx)
    }
}

fn publish(topics: &Topics, name: &str, data: &str) -> String {
    topics.publish(name, Publication { data, ..Publication::default() }).unwrap().id
}

/// No keep-alive, so that nothing is written but what is published.
fn silent() -> Config {
    Config { keep_alive: None, ..Config::default() }
}

/// Executors within executors, and the like, have wakers of their own.
#[test]
fn a_stream_may_rest_under_anything_and_does_not_spin() {
    let topics = Topics::new(TopicsConfig::default());
    let polls = Arc::new(AtomicUsize::new(0));
    let (source, counter) = (topics.clone(), Arc::clone(&polls));
    let server = serve(silent(), move |request| {
        let subscription = source.subscribe(&["news"], Start::Latest).unwrap();
        let counter = Arc::clone(&counter);
        async move {
            let mut stream = request.open().await?;
            let inner = smol::Executor::new();
            let follow = async move { stream.follow(subscription).await };
            let task = inner.spawn(Counted(Box::pin(follow), counter));
            inner.run(task).await
        }
    });
    let mut subscriber = Subscriber::open(server.address, "/");
    for n in 0..10 {
        publish(&topics, "news", &n.to_string());
        subscriber.read_events(n + 1);
    }
    let before = polls.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(300));
    let at_rest = polls.load(Ordering::Relaxed) - before;
    assert!(at_rest < 10, "polled {at_rest} times");
}

#[test]
fn a_stream_that_another_task_opens_is_kept_alive() {
    let config = Config { keep_alive: Some(Duration::from_millis(100)), ..Config::default() };
    let server = serve(config, |request| async move {
        let task = smol::spawn(async move {
            Timer::after(Duration::from_millis(50)).await;
            let _stream = request.open().await?;
            std::future::pending().await
        });
        task.await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    for _ in 0..2 {
        assert_eq!(read_until(&mut socket, "\n\n\r\n"), "3\r\n:\n\n\r\n");
    }
}
