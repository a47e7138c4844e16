//! Streams of a server whose topics have a storage.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use smol::Executor;
use smol::future::block_on;
use sse_smol_server::storage::Storage as _;
use sse_smol_server::{Config, Start};

use super::support::storage::Unreliable;
use super::support::subscriber::{StreamEnd, Subscriber};
use super::support::{TIMEOUT, serve};
use super::{event, open, poll, run, small_window};

/// Streams get what they missed from the storage, and new events from memory, also across a restart.
#[test]
fn streams_resume_from_the_storage_and_continue_live() {
    let storage = Arc::new(Unreliable::new(1000, 7));
    let mut last = None::<String>;
    for run in 0..2 {
        let executor = Arc::new(Executor::new());
        let topics = open(&executor, &storage, small_window());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let feeding = Arc::clone(&executor);
        let feeder = thread::spawn(move || block_on(feeding.run(stopped.recv())));
        let publish =
            |n: usize| block_on(topics.publish("news", event(&n.to_string()))).unwrap().id;
        let source = topics.clone();
        let server = serve(Config::default(), move |request| {
            let source = source.clone();
            async move {
                let id = request
                    .headers()
                    .get("last-event-id")
                    .map(|id| id.to_str().unwrap().to_owned());
                let start = id.as_deref().map_or(Start::Earliest, Start::After);
                let subscription = source.subscribe(&["news"], start).await.unwrap();
                request.open().await?.follow(subscription).await
            }
        });
        let first = run * 60;
        (first..first + 50).for_each(|n| drop(publish(n)));
        let mut subscriber = match &last {
            None => Subscriber::open(server.address, "/"),
            Some(id) => Subscriber::resume(server.address, "/", id),
        };
        let start = last.as_ref().map_or(0, |_| 30);
        subscriber.read_events(first + 50 - start);
        (first + 50..first + 60).for_each(|n| drop(publish(n)));
        subscriber.read_events(first + 60 - start);
        let expected: Vec<String> = (start..first + 60).map(|n| n.to_string()).collect();
        assert_eq!(subscriber.data(), expected);
        last = Some(subscriber.events[29].id.clone());
        drop(stop);
        drop(feeder.join());
    }
}

#[test]
fn a_stream_ends_with_a_reason_when_the_storage_fails() {
    let storage = Arc::new(Unreliable::new(1000, 8));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    let feeding = Arc::clone(&executor);
    thread::spawn(move || block_on(feeding.run(stopped.recv())));
    for n in 0..10 {
        block_on(topics.publish("news", event(&n.to_string()))).unwrap();
    }
    let subscriptions = [Start::Latest, Start::Earliest]
        .map(|start| block_on(topics.subscribe(&["news"], start)).unwrap());
    let subscriptions = Mutex::new(VecDeque::from(subscriptions));
    let (ended, reasons) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let subscription = subscriptions.lock().unwrap().pop_front().unwrap();
        let ended = ended.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |closed| {
                ended.send((closed.reason.label(), closed.reason.to_string())).unwrap();
            });
            stream.follow(subscription).await
        }
    });
    let reason = ("storage", "the storage is unavailable: a failure of the test".to_owned());
    let mut live = Subscriber::open(server.address, "/");
    block_on(topics.publish("news", event("10"))).unwrap();
    live.read_events(1);

    // A stream that has to read from the storage.
    storage.fail(100);
    let mut behind = Subscriber::open(server.address, "/");
    behind.read_until("the end", |behind| behind.end.is_some());
    assert_eq!((behind.end, behind.data()), (Some(StreamEnd::Whole), vec![]));
    assert_eq!(reasons.recv_timeout(TIMEOUT).unwrap(), reason);

    // A parked stream, when the feed fails.
    storage.fail(0);
    storage.fail_feed();
    block_on(topics.publish("news", event("lost"))).unwrap_err();
    live.read_until("the end", |live| live.end.is_some());
    assert_eq!((live.end, live.data()), (Some(StreamEnd::Whole), vec!["10"]));
    assert_eq!(reasons.recv_timeout(TIMEOUT).unwrap(), reason);
}

/// Parked streams have no task that waits for events of their topic.
#[test]
fn parked_streams_get_a_gap_event_when_the_log_is_replaced() {
    let storage = Arc::new(Unreliable::new(1000, 9));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window().with_gap_on_lag(true));
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    let feeding = Arc::clone(&executor);
    thread::spawn(move || block_on(feeding.run(stopped.recv())));
    let source = topics.clone();
    let server = serve(Config::default(), move |request| {
        let source = source.clone();
        async move {
            let subscription = source.subscribe(&["news"], Start::Latest).await.unwrap();
            request.open().await?.follow(subscription).await
        }
    });
    let mut all: Vec<_> = (0..3).map(|_| Subscriber::open(server.address, "/")).collect();
    block_on(topics.publish("news", event("old"))).unwrap();
    for subscriber in &mut all {
        subscriber.read_events(1);
    }
    storage.replace(0);
    for subscriber in &mut all {
        assert_eq!(subscriber.read_events(2)[1].event_type, "gap");
    }
    block_on(topics.publish("news", event("new"))).unwrap();
    for subscriber in &mut all {
        assert_eq!(subscriber.read_events(3)[2].data, "new");
    }
}

/// Another server on the same storage may have sent events that are not in memory here yet.
#[test]
fn a_stream_with_a_position_ahead_of_the_feed_hides_no_event_from_others() {
    let storage = Arc::new(Unreliable::new(1000, 11));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    run(&executor, topics.publish("news", event("0"))).unwrap();
    let permit = storage.stall_feed();
    for data in ["1", "2"] {
        let mut publish = Box::pin(topics.publish("news", event(data)));
        assert!(poll(&executor, publish.as_mut()).is_none());
    }
    let ahead = block_on(async { storage.last_position().await.unwrap() });
    assert_eq!(ahead, 3);
    let source = topics.clone();
    let server = serve(Config::default(), move |request| {
        let source = source.clone();
        async move {
            let id =
                request.headers().get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
            let start = id.as_deref().map_or(Start::Latest, Start::After);
            let subscription = source.subscribe(&["news"], start).await.unwrap();
            request.open().await?.follow(subscription).await
        }
    });
    // One of each kind with each delivery worker.
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut streams: Vec<Subscriber> = (0..workers)
        .map(|_| Subscriber::resume(server.address, "/", "memory-000000000003"))
        .collect();
    streams.extend((0..workers).map(|_| Subscriber::open(server.address, "/")));
    drop(permit);
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    let feeding = Arc::clone(&executor);
    thread::spawn(move || block_on(feeding.run(stopped.recv())));
    block_on(topics.publish("news", event("3"))).unwrap();
    for (n, stream) in streams.iter_mut().enumerate() {
        let expected: &[&str] = if n < workers { &["3"] } else { &["1", "2", "3"] };
        stream.read_until("the last event", |stream| stream.data().contains(&"3"));
        assert_eq!(stream.data(), expected);
    }
}

/// Keep-alives are sent while a stream waits for a stalled storage.
#[test]
fn a_stream_that_waits_for_the_storage_gets_keep_alives() {
    let storage = Arc::new(Unreliable::new(1000, 10));
    let executor = Arc::new(Executor::new());
    let topics = open(&executor, &storage, small_window());
    let (_stop, stopped) = smol::channel::bounded::<()>(1);
    thread::spawn(move || block_on(executor.run(stopped.recv())));
    for n in 0..10 {
        block_on(topics.publish("news", event(&n.to_string()))).unwrap();
    }
    let subscription = block_on(topics.subscribe(&["news"], Start::Earliest)).unwrap();
    let permit = storage.stall();
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(50)));
    let subscription = Mutex::new(Some(subscription));
    let server = serve(config, move |request| {
        let subscription = subscription.lock().unwrap().take().unwrap();
        async move { request.open().await?.follow(subscription).await }
    });
    let mut subscriber = Subscriber::open(server.address, "/");
    subscriber.read_until("keep-alives", |subscriber| subscriber.text.ends_with(b":\n\n:\n\n"));
    assert_eq!(subscriber.events, []);
    drop(permit);
    subscriber.read_events(10);
}
