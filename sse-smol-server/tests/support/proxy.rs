//! What has to work through every proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::subscriber::{Publisher, StreamEnd, Subscriber, subscribers, wait_until};
use super::{Binary, send};

/// Waits until the topic has `count` subscribers by the list of the server. Returns the time taken.
fn wait_for_subscribers(server: &Binary, topic: &str, count: u64) -> Duration {
    let what = format!("{topic} has {count} subscribers");
    wait_until(&what, || subscribers(server.address, topic) == count)
}

/// Checks that events arrive one by one. `headers` are those of the subscriber. The server must send
/// no keep-alives, since later bytes could flush an event out of a buffer.
pub(crate) fn passes_events_without_delay(proxy: SocketAddr, server: &Binary, headers: &str) {
    // The head arrives before any event is published.
    let head = format!("GET /topics/news HTTP/1.1\r\nHost: {proxy}\r\n{headers}\r\n");
    let mut subscriber = Subscriber::on(send(proxy, &head));
    let mut publisher = Publisher::open(server.address);
    for n in 0..20 {
        let start = Instant::now();
        let id = publisher.publish("news", &n.to_string());
        let event = subscriber.read_events(n + 1)[n].clone();
        assert_eq!((event.id, event.data), (id, n.to_string()));
        assert!(start.elapsed() < Duration::from_secs(1), "{n}: {:?}", start.elapsed());
    }
}

/// Checks that the server notices a client that closes. The server must send no keep-alives.
pub(crate) fn passes_the_end_of_a_client(proxy: SocketAddr, server: Binary) {
    let subscriber = Subscriber::open(proxy, "/topics/quiet");
    wait_for_subscribers(&server, "quiet", 1);
    drop(subscriber);
    let time = wait_for_subscribers(&server, "quiet", 0);
    assert!(time < Duration::from_secs(2), "{time:?}");
    let (_, _, log) = server.stop("-INT");
    assert!(log.contains("GET /topics/quiet 200: closed by the peer, 0 events, "), "{log}");
}

/// Checks that a client sees the end of its stream when a server with a short `--drain` stops.
pub(crate) fn passes_the_end_of_the_server(proxy: SocketAddr, server: Binary) {
    let mut subscriber = Subscriber::open(proxy, "/topics/news");
    Publisher::open(server.address).publish("news", "last");
    subscriber.read_events(1);
    let start = Instant::now();
    server.signal("-TERM");
    subscriber.read_until("the end", |one| one.end.is_some());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(subscriber.end, Some(StreamEnd::Whole));
    assert!(
        subscriber.retry().is_some_and(|retry| retry < Duration::from_secs(10)),
        "{:?}",
        subscriber.retry()
    );
    let (_, clean, log) = server.wait();
    assert!(clean && log.contains("GET /topics/news 200: drained, 1 event, "), "{log}");
}
