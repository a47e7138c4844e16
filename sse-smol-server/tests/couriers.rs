//! Streams that couriers serve: every event once and in order, however a stream came to rest, and
//! whatever the client takes.

mod support;

use std::thread;

use support::Binary;
use support::subscriber::{Publisher, Subscriber, read_all_until, subscribers, wait_until};

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
