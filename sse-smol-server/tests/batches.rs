//! Batches of publications: one request, an event on each line.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::thread;

use dir::Dir;
use serde_json::{Value, json};
use support::subscriber::Subscriber;
use support::{Binary, read_response, send};

/// Publishes a batch. Returns the status, the head and the lines of the response.
fn publish(server: &Binary, target: &str, headers: &str, body: &str) -> (u16, String, Vec<Value>) {
    let (address, length) = (server.address, body.len());
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\n\
         {headers}Content-Length: {length}\r\n\r\n"
    );
    let (status, head, body) = read_response(&mut send(address, &(head + body)));
    let lines = body.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into()));
    (status, head, lines.collect())
}

/// Returns the IDs of published events.
fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().unwrap()).collect()
}

#[test]
fn a_batch_is_published_in_its_order_and_answered_line_by_line() {
    let directory = Dir::new();
    let data = ["--data", directory.path()];
    for flags in [&[][..], &data] {
        let server = Binary::start(flags);
        let mut subscriber = Subscriber::open(server.address, "/topics/news");
        // Line ends of either kind, and blank lines.
        let body = "{\"data\":\"one\"}\n\n{\"data\":{\"n\":2},\"type\":\"count\"}\r\n\
                    {\"data\":\"three\",\"id\":\"own\",\"key\":\"k\"}";
        let (status, head, lines) = publish(&server, "/topics/news?type=other", "", body);
        assert_eq!(status, 201, "{lines:?}");
        assert!(head.to_lowercase().contains("content-type: application/x-ndjson\r\n"), "{head}");
        let events = subscriber.read_events(3);
        let received: Vec<_> = events.iter().map(|event| &*event.id).collect();
        assert_eq!(received, ids(&lines));
        let data: Vec<_> = events.iter().map(|event| &*event.data).collect();
        assert_eq!(data, ["one", "{\"n\":2}", "three"]);
        let types: Vec<_> = events.iter().map(|event| &*event.event_type).collect();
        assert_eq!(types, ["other", "count", "other"]);

        // Again: the last line has a key.
        let again = "{\"data\":\"three\",\"id\":\"own\",\"key\":\"k\",\"type\":\"other\"}\n";
        let (status, _, lines) = publish(&server, "/topics/news", "", again);
        assert_eq!((status, &lines[..]), (200, &[json!({"duplicate": true, "id": "own"})][..]));
        assert_eq!(publish(&server, "/topics/news", "", "\n").0, 200);
    }
}

/// More events than the queue of the file takes, from several publishers.
#[test]
fn batches_that_are_published_at_once_keep_their_order() {
    const PUBLISHERS: usize = 4;
    const BATCHES: usize = 3;
    const EVENTS: usize = 1000;
    let directory = Dir::new();
    let all = (PUBLISHERS * BATCHES * EVENTS).to_string();
    let held = ["--history", &all, "--history-bytes", "16777216"];
    let data = ["--data", directory.path()];
    for flags in [held.to_vec(), [&held[..], &data].concat()] {
        let server = Binary::start(&flags);
        thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let server = &server;
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let numbers = batch * EVENTS..(batch + 1) * EVENTS;
                        let line = |n| format!("{{\"data\":\"{publisher} {n}\"}}\n");
                        let body: String = numbers.map(line).collect();
                        assert_eq!(publish(server, "/topics/news", "", &body).0, 201);
                    }
                });
            }
        });
        let target = "/topics/news?lastEventId=earliest";
        let mut subscriber = Subscriber::open(server.address, target);
        let mut next = [0; PUBLISHERS];
        for event in subscriber.read_events(PUBLISHERS * BATCHES * EVENTS) {
            let (publisher, number) = event.data.split_once(' ').unwrap();
            let next = &mut next[publisher.parse::<usize>().unwrap()];
            assert_eq!(number.parse::<usize>().unwrap(), *next, "of publisher {publisher}");
            *next += 1;
        }
    }
}

/// The event with the key is dropped within the batch.
#[test]
fn a_key_can_be_used_again_in_the_batch_in_which_its_event_was_dropped() {
    let directory = Dir::new();
    let history = ["--history", "1"];
    let data = ["--data", directory.path()];
    for flags in [history.to_vec(), [&history[..], &data].concat()] {
        let server = Binary::start(&flags);
        let line = |key: &str, n: usize| format!("{{\"data\":{n},\"key\":\"{key}\"}}\n");
        let keys = ["a", "b", "a", "b"];
        let body: String = keys.iter().enumerate().map(|(n, key)| line(key, n)).collect();
        let (status, _, lines) = publish(&server, "/topics/news", "", &body);
        assert_eq!(status, 201, "{lines:?}");
        assert!(lines.iter().all(|line| line["duplicate"] == false), "{lines:?}");
        // In their order.
        assert!(ids(&lines).is_sorted() && lines.len() == keys.len(), "{lines:?}");
    }
}

#[test]
fn an_event_that_is_not_published_does_not_prevent_the_others() {
    let server = Binary::start(&[]);
    let mut subscriber = Subscriber::open(server.address, "/topics/news");
    let body = "{\"data\":\"1\",\"id\":\"a\"}\n{\"data\":\"2\",\"id\":\"a\"}\n{\"data\":\"3\"}\n";
    let (status, _, lines) = publish(&server, "/topics/news", "", body);
    assert_eq!(status, 409);
    assert_eq!(lines[0], json!({"duplicate": false, "id": "a"}));
    assert_eq!(lines[1]["status"], 409);
    assert!(lines[1]["error"].as_str().unwrap().contains("\"a\""), "{lines:?}");
    assert_eq!(lines.len(), 3);
    subscriber.read_events(2);
    assert_eq!(subscriber.data(), ["1", "3"]);
}

#[test]
fn a_batch_with_an_invalid_line_is_refused_as_a_whole() {
    let server = Binary::start(&[]);
    let good = "{\"data\":\"x\"}\n";
    let many = good.repeat(10_001);
    for (target, headers, body, why) in [
        ("/topics/news", "", "{\"data\":\"x\"}\n\n{\"data\":1,}\n", "Line 3 "),
        ("/topics/news", "", "{\"data\":\"x\"}\n[1]\n", "Line 2 "),
        ("/topics/news", "", "{\"data\":\"x\",\"kind\":1}\n", "Line 1 "),
        ("/topics/news?id=1", "", good, "of its own"),
        ("/topics/news", "Idempotency-Key: k\r\n", good, "of its own"),
        ("/topics/news", "", &many, "at most 10000 events"),
    ] {
        let (status, _, lines) = publish(&server, target, headers, body);
        assert_eq!(status, 400, "{lines:?}");
        let text = format!("{lines:?}");
        assert!(text.contains(why), "{text}");
    }
    let request = format!("GET /topics HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let (_, _, list) = read_response(&mut send(server.address, &request));
    assert!(list.contains("\"topics\":[]"), "{list}");
}
