//! Clients that read the log of a topic, most of which is in segments: whole, from any event on, and
//! while its oldest events are dropped.

mod support;

use std::io::Read as _;

use sse_proto::{Decoder, Text};
use sse_smol_server::{Config, History, Publication, Request, Start, Topics, TopicsConfig};
use support::subscriber::{Received, Subscriber};
use support::{Running, now, read_head, send, serve};

/// Returns topics that hold this number of events each.
fn topics(events: usize) -> Topics {
    let history = History::default().with_events(events).with_bytes(usize::MAX);
    let config = TopicsConfig::default().with_history(history).with_gap_on_lag(true);
    Topics::new(config.with_max_bytes(usize::MAX)).unwrap()
}

/// Publishes an event: some with an ID or a key of the publisher, and some that are large. Its data
/// begin with the number.
fn publish(topics: &Topics, number: usize) -> Received {
    let len = if number % 101 == 7 { 20_000 } else { number * 7919 % 300 };
    let data = format!("{number} {}", "x".repeat(len));
    let (id, key) = (format!("own {number}"), format!("key {number}"));
    let mut new = Publication::new(&data).with_type("t");
    new.id = (number % 10 == 3).then_some(Text::from(&id));
    new.key = (number % 6 == 1).then_some(&key);
    let published = now(topics.publish("news", new)).unwrap();
    assert!(!published.duplicate);
    Received { event_type: "t".to_owned(), id: published.id, data }
}

/// Serves topics, whose names are joined by `+` in the path, until the client has all events.
fn serve_topics(topics: &Topics) -> Running {
    let topics = topics.clone();
    serve(Config::default().with_keep_alive(None), move |request: Request| {
        let id = request.headers().get("last-event-id");
        let start = id.map_or(Start::Earliest, |id| Start::After(id.to_str().unwrap()));
        let names: Vec<&str> = request.path()[1..].split('+').collect();
        let subscription = now(topics.subscribe(&names, start)).unwrap();
        async move { request.open().await?.follow(subscription).await }
    })
}

const EVENTS: usize = 3000;

#[test]
fn a_client_resumes_after_any_event() {
    let topics = topics(EVENTS);
    let all: Vec<_> = (0..EVENTS).map(|number| publish(&topics, number)).collect();
    let server = serve_topics(&topics);
    // With another topic, events are merged one by one.
    for path in ["/news", "/news+other"] {
        for last in (0..EVENTS - 1).step_by(97).chain(EVENTS - 20..EVENTS - 1) {
            let mut client = Subscriber::resume(server.address, path, &all[last].id);
            let expected = &all[last + 1..];
            assert!(client.read_events(expected.len()) == expected, "after event {last}");
        }
    }
    let mut client = Subscriber::open(server.address, "/news");
    assert!(client.read_events(EVENTS) == all, "from the beginning");
}

#[test]
fn http_1_0_has_no_chunks() {
    let topics = topics(EVENTS);
    let all: Vec<_> = (0..EVENTS).map(|number| publish(&topics, number)).collect();
    let server = serve_topics(&topics);
    for last in [0, 500, 1234, EVENTS - 2] {
        let id = &all[last].id;
        let head = format!("GET /news HTTP/1.0\r\nLast-Event-ID: {id}\r\n\r\n");
        let mut socket = send(server.address, &head);
        assert!(!read_head(&mut socket).contains("Transfer-Encoding"));
        let expected = &all[last + 1..];
        let (mut decoder, mut piece, mut count) = (Decoder::new(), vec![0; 10_000], 0);
        while count < expected.len() {
            let read = socket.read(&mut piece).unwrap();
            assert_ne!(read, 0, "the stream stays open");
            let mut bytes = &piece[..read];
            while let Some(event) = decoder.next_event(&mut bytes).unwrap() {
                assert!(event.data() == *expected[count].data, "event {count} after {last}");
                count += 1;
            }
        }
    }
}

/// A client that is slower than the publisher gets every event once and in order, or a gap event.
#[test]
fn events_are_dropped_while_a_client_reads() {
    // A client is behind by more than the buffers of its socket before the first of its events are
    // dropped.
    const HELD: usize = 20_000;
    let topics = topics(HELD);
    let mut all: Vec<_> = (0..HELD).map(|number| publish(&topics, number)).collect();
    let server = serve_topics(&topics);
    let mut clients = [0, HELD / 3, HELD / 2]
        .map(|last| (last + 1, Subscriber::resume(server.address, "/news", &all[last].id)));
    for round in 0..200 {
        all.extend((0..HELD / 100).map(|n| publish(&topics, HELD + round * HELD / 100 + n)));
        for (_, client) in &mut clients {
            client.take(30_000);
        }
    }
    let is_last = |event: &Received| event.id == all.last().unwrap().id;
    for (first, client) in &mut clients {
        client.read_until("the last event", |one| one.events.last().is_some_and(is_last));
        let (mut next, mut gaps, mut events) = (*first, 0, client.events.iter());
        while let Some(mut event) = events.next() {
            if event.event_type == "gap" {
                // Another gap may follow, if more events are dropped before the client reads any.
                while event.event_type == "gap" {
                    gaps += 1;
                    event = events.next().expect("an event follows the gap");
                }
                let number = event.data.split(' ').next().unwrap().parse().unwrap();
                assert!(next < number, "events are missing in the gap");
                next = number;
            }
            assert!(*event == all[next], "event {next}");
            next += 1;
        }
        assert_eq!(next, all.len());
        assert!(gaps > 0, "the client was too fast for this test");
    }
}
