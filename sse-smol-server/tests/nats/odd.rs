//! What other programs, clients and a bad moment may do to a server.

use std::time::{Duration, Instant};

use super::engine::with_each;
use super::failures::subscribe;
use super::nodes::{node, request};
use super::support::subscriber::{Publisher, Subscriber, wait_until};

/// Messages on the subjects of the stream that are no events, or begin like a status of the engine.
#[test]
fn messages_of_other_programs_stop_neither_the_feed_nor_pages() {
    with_each(|engine| {
        let node = node(&engine);
        let mut connected = subscribe(node.address, "a");
        let mut publisher = Publisher::open(node.address);
        publisher.publish("a", "first");
        let is_ready = || {
            let start = Instant::now();
            let (status, body) = request(&node, "GET", "/readyz", "");
            assert_eq!(status, 200, "{body}");
            assert!(start.elapsed() < Duration::from_secs(3));
        };
        engine.publish("sse.no=topic", "of no topic");
        is_ready();
        engine.publish_with_headers("sse.a", "NATS/1.0\r\nSse-Salt: none", "unreadable");
        is_ready();
        let deletion = format!("NATS/1.0\r\nSse-Salt: 1\r\nSse-Deleted: {}", u64::MAX >> 8);
        engine.publish_with_headers("sse.a", &deletion, "");
        is_ready();
        for status in ["404 No Messages", "503", "100 Idle Heartbeat", "409 Consumer Deleted"] {
            engine.publish_with_headers("sse.a", &format!("NATS/1.0 {status}"), status);
            is_ready();
        }
        let headers = "NATS/1.0\r\nNats-Stream: b\r\nNats-Sequence: 1\r\nNats-Subject: b";
        engine.publish_with_headers("sse.a", headers, "republished");
        let id = "NATS/1.0\r\nSse-Id: x%0Adata: injected";
        engine.publish_with_headers("sse.a", id, "an ID with a line end");
        is_ready();
        publisher.publish("a", "last");
        let expected = [
            "first",
            "404 No Messages",
            "503",
            "100 Idle Heartbeat",
            "409 Consumer Deleted",
            "republished",
            "an ID with a line end",
            "last",
        ];
        connected.read_events(expected.len());
        assert_eq!(connected.data(), expected);
        // Without a window.
        let other = super::nodes::node(&engine);
        let mut resumed = Subscriber::resume(other.address, "/topics/a", &connected.events[0].id);
        assert_eq!(resumed.read_events(expected.len() - 1), &connected.events[1..]);
        let mut earliest = Subscriber::open(other.address, "/topics/a?lastEventId=earliest");
        assert_eq!(earliest.read_events(expected.len()), &connected.events[..]);
    });
}

/// The engine accepts headers that a client cannot receive.
#[test]
fn messages_with_headers_that_are_not_valid_are_events() {
    with_each(|engine| {
        let [node, other] = [(); 2].map(|()| node(&engine));
        let mut connected = subscribe(node.address, "a");
        let mut publisher = Publisher::open(node.address);
        publisher.publish("a", "first");
        let odd = ["NATS/1.0\r\nno colon", "NATS/1.0\r\na name: 1", "NATS/1.0 x", "HTTP/1.0"];
        let mut expected = vec!["first".to_owned()];
        for headers in odd {
            engine.publish_with_headers("sse.a", headers, headers.lines().last().unwrap());
            expected.push(headers.lines().last().unwrap().to_owned());
            connected.read_events(expected.len());
            expected.push(format!("after {headers:?}"));
            publisher.publish("a", expected.last().unwrap());
        }
        for n in 0..20 {
            expected.push(n.to_string());
            publisher.publish("a", expected.last().unwrap());
        }
        connected.read_events(expected.len());
        assert_eq!(connected.data(), expected);
        // One server that has received them, and one that starts now.
        for server in [&other, &super::nodes::node(&engine)] {
            let id = &connected.events[0].id;
            let mut resumed = Subscriber::resume(server.address, "/topics/a", id);
            assert_eq!(resumed.read_events(expected.len() - 1), &connected.events[1..]);
            assert_eq!(request(server, "GET", "/readyz", "").0, 200);
        }
    });
}

/// IDs of the epoch with positions that the log cannot have.
#[test]
fn ids_that_were_never_assigned_are_unknown_at_once() {
    with_each(|engine| {
        let node = node(&engine);
        let id = Publisher::open(node.address).publish("a", "first");
        let epoch = id.split('-').next().unwrap();
        let start = Instant::now();
        for position in [1, 2, 3, 32_767, 32_768 * 1000, (1 << 56) - 1, 1 << 56, u64::MAX] {
            let id = format!("{epoch}-{position:012}");
            let mut resumed = Subscriber::resume(node.address, "/topics/a", &id);
            let events = resumed.read_events(2);
            assert_eq!((&*events[0].event_type, &*events[1].data), ("gap", "first"), "{id}");
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    });
}

/// After an older copy was restored, sequences are assigned again. IDs of events with them are found
/// nevertheless.
#[test]
fn ids_are_unique_after_the_engine_has_lost_its_last_events() {
    with_each(|mut engine| {
        let node = node(&engine);
        let mut publisher = Publisher::open(node.address);
        publisher.publish("a?id=kept", "0");
        engine.kill();
        let copy = engine.save();
        engine.restart();
        wait_until("a connection", || {
            publisher.send("a?id=lost-0", "");
            matches!(publisher.receive().0, 201 | 409)
        });
        for n in 1..20 {
            publisher.publish(&format!("a?id=lost-{n}"), "");
        }
        let mut subscriber = subscribe(node.address, "a");
        engine.kill();
        engine.restore(&copy);
        engine.restart();
        subscriber.read_until("a gap or the end", |one| one.events.len() > 1 || one.end.is_some());
        // By another server, so that this one has to read the ID.
        let other = super::nodes::node(&engine);
        Publisher::open(other.address).publish("a?id=new", "1");
        let mut publisher = Publisher::open(node.address);
        for id in ["new", "kept"] {
            publisher.send(&format!("a?id={id}"), "2");
            assert_eq!(publisher.receive().0, 409, "{id}");
        }
        publisher.publish("a?id=lost-3", "2");
        let mut resumed = Subscriber::resume(node.address, "/topics/a", "new");
        assert_eq!(resumed.read_events(1)[0].id, "lost-3");
    });
}
