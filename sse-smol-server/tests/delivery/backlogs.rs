//! Events that a worker cannot write at once, because they are large or many or the client is slow.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sse_smol_server::{Config, History, Start, Topics, TopicsConfig};

use super::support::subscriber::{StreamEnd, Subscriber, read_all_until};
use super::support::{Running, TIMEOUT, get, now, read_head, serve};
use super::{LARGE, flood, publish, serve_topics, silent, streams_for_all_workers, unbounded};

/// The stream task sends what a worker could not write, and the stream is parked again.
#[test]
fn events_that_a_worker_could_not_write_arrive_once_and_complete() {
    for keep_alive in [None, Some(Duration::from_millis(50))] {
        let topics = unbounded();
        let (server, on_end) = serve_topics(Config::default().with_keep_alive(keep_alive), &topics);
        let mut clients: Vec<_> = (0..streams_for_all_workers())
            .map(|_| Subscriber::open(server.address, "/news"))
            .collect();
        let mut all: Vec<_> = flood(&topics, "news").into_iter().map(|(_, data)| data).collect();
        read_all_until(&mut clients, "all events", |one| one.events.len() >= all.len());
        let mut last_id = String::new();
        for n in 0..20 {
            last_id = publish(&topics, "news", &n.to_string());
            all.push(n.to_string());
            read_all_until(&mut clients, "an event", |one| one.events.len() >= all.len());
        }
        for client in &clients {
            assert!(client.data() == all, "every event once and in order");
            assert_eq!(client.end, None);
        }
        // A client that closes a parked stream is noticed at once.
        let (count, events) = (clients.len(), all.len() as u64);
        drop(clients);
        for _ in 0..count {
            let closed = on_end.recv_timeout(TIMEOUT).expect("the end is reported");
            // Closing with an unread comment resets the connection.
            assert!(closed.0.starts_with("peer_"), "{closed:?}");
            assert_eq!((closed.1.as_ref(), closed.2), (Some(&last_id), events));
        }
    }
}

/// Starts a server and subscribers, and publishes `count` events before any worker runs.
fn at_once(topics: &Topics, count: usize) -> (Running, Vec<Subscriber>) {
    let topics = topics.clone();
    let server = serve(silent(), move |request| {
        let topics = topics.clone();
        async move {
            if request.path() == "/publish" {
                (0..count).for_each(|n| drop(publish(&topics, "news", &n.to_string())));
                return request.no_content().await;
            }
            let subscription = now(topics.subscribe(&["news"], Start::Latest)).unwrap();
            request.open().await?.follow(subscription).await
        }
    });
    // More streams than a worker serves before it yields.
    let crowd = 20 * streams_for_all_workers();
    let mut clients: Vec<_> = (0..crowd).map(|_| Subscriber::open(server.address, "/")).collect();
    read_all_until(&mut clients, "the start of the stream", |one| !one.text.is_empty());
    read_head(&mut get(server.address, "/publish"));
    (server, clients)
}

#[test]
fn many_events_at_once_are_delivered_in_several_batches() {
    const EVENTS: usize = 1000;
    let (_server, mut clients) = at_once(&unbounded(), EVENTS);
    read_all_until(&mut clients, "all events", |one| one.events.len() >= EVENTS);
    let expected: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
    for one in &clients {
        assert!(one.data() == expected, "every event once and in order");
    }
}

/// The log drops events before the worker has read them.
#[test]
fn parked_streams_lag_like_others() {
    let history = History::default().with_events(10);
    let config = TopicsConfig::default().with_history(history);
    let (_server, mut clients) = at_once(&Topics::new(config.clone()).unwrap(), 100);
    read_all_until(&mut clients, "the end", |one| one.end.is_some());
    for one in &clients {
        assert_eq!((one.end, one.events.len()), (Some(StreamEnd::Whole), 0));
    }

    let topics = Topics::new(config.with_gap_on_lag(true)).unwrap();
    let (_server, mut clients) = at_once(&topics, 100);
    read_all_until(&mut clients, "the gap", |one| one.events.len() >= 11);
    publish(&topics, "news", "100");
    read_all_until(&mut clients, "the next event", |one| one.events.len() >= 12);
    let expected: Vec<_> = (90..=100).map(|n| n.to_string()).collect();
    for one in &clients {
        assert_eq!(one.events[0].event_type, "gap");
        assert_eq!(one.data()[1..], expected);
    }
}

/// The stream task sends the rest of the event, although nothing else is published.
#[test]
fn an_event_larger_than_the_socket_buffers_arrives_complete() {
    let topics = unbounded();
    let (server, _on_end) = serve_topics(silent(), &topics);
    let mut clients: Vec<_> =
        (0..streams_for_all_workers()).map(|_| Subscriber::open(server.address, "/news")).collect();
    let large = "x".repeat(LARGE);
    publish(&topics, "news", "small");
    read_all_until(&mut clients, "an event", |one| one.events.len() == 1);
    publish(&topics, "news", &large);
    thread::sleep(Duration::from_millis(100));
    for client in &mut clients {
        client.read_until("the large event", |one| one.events.len() == 2);
        assert!(client.data() == ["small", &large]);
    }
}

/// The write timeout applies to data that a worker wrote.
#[test]
fn a_client_that_does_not_read_from_a_worker_is_disconnected() {
    let topics = unbounded();
    let config = silent().with_write_timeout(Duration::from_millis(300));
    let (server, on_end) = serve_topics(config, &topics);
    let client = Subscriber::open(server.address, "/news");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(
        on_end.try_recv(),
        Err(mpsc::TryRecvError::Empty),
        "without an event the timeout does not run"
    );
    for _ in 0..2 {
        publish(&topics, "news", &"x".repeat(LARGE));
    }
    let start = Instant::now();
    let (reason, _, events) = on_end.recv_timeout(TIMEOUT).expect("the end is reported");
    assert_eq!((reason, events), ("stuck", 0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(client);
}
