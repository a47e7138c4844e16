//! Failures of the engine and of servers.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::engine::with_each;
use super::nodes::{node, request};
use super::support::subscriber::{Publisher, Subscriber};
use super::support::{Binary, TIMEOUT};

/// Checks that a subscriber got all numbers once and in order.
fn assert_numbers(subscriber: &Subscriber, count: usize) {
    for (n, event) in subscriber.events.iter().enumerate() {
        assert_eq!((event.event_type.as_str(), event.data.as_str()), ("message", &*n.to_string()));
    }
    assert_eq!(subscriber.events.len(), count);
}

/// Opens a stream and waits for the ID of its start.
pub(crate) fn subscribe(address: SocketAddr, topic: &str) -> Subscriber {
    let mut subscriber = Subscriber::open(address, &format!("/topics/{topic}"));
    subscriber.read_until("the start", |one| one.text.ends_with(b"\n\n"));
    subscriber
}

#[test]
fn publishers_get_503_in_time_and_streams_stay_open_while_the_engine_does_not_answer() {
    with_each(|engine| {
        let url = engine.url();
        let arguments = ["--nats", &url, "--publish-timeout", "1", "--keep-alive", "0.5"];
        let node = Binary::start(&arguments);
        let mut subscriber = subscribe(node.address, "a");
        let mut publisher = Publisher::open(node.address);
        publisher.publish("a", "before");
        engine.stop();
        let start = Instant::now();
        publisher.send("a?key=k", "meanwhile");
        let (status, body) = publisher.receive();
        assert_eq!(status, 503, "{body}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let before = subscriber.text.len();
        subscriber.read_until("keep-alives", |one| one.text.len() > before + 3);
        assert_eq!(subscriber.end, None);
        engine.signal("-CONT");
        // The publication may have been stored meanwhile. It is published once.
        let start = Instant::now();
        loop {
            publisher.send("a?key=k", "meanwhile");
            if matches!(publisher.receive().0, 200 | 201) {
                break;
            }
            assert!(start.elapsed() < TIMEOUT);
        }
        publisher.publish("a", "after");
        subscriber.read_events(3);
        assert_eq!(subscriber.data(), ["before", "meanwhile", "after"]);
    });
}

#[test]
fn a_stopped_server_continues_where_it_was() {
    with_each(|engine| {
        let [a, b] = [(); 2].map(|()| node(&engine));
        let mut subscriber = subscribe(b.address, "a");
        b.signal("-STOP");
        let mut publisher = Publisher::open(a.address);
        for n in 0..2000 {
            publish_with_key(&mut publisher, "a", n);
        }
        b.signal("-CONT");
        subscriber.read_events(2000);
        assert_numbers(&subscriber, 2000);
    });
}

/// The stream has dropped events before the server saw them. Only subscribers of their topic miss
/// something.
#[test]
fn subscribers_get_a_gap_event_when_events_were_dropped_while_their_server_was_stopped() {
    with_each(|engine| {
        let url = engine.url();
        let arguments = ["--nats", &url, "--history", "50", "--on-lag", "gap"];
        let [a, b] = [(); 2].map(|()| Binary::start(&arguments));
        let mut busy = subscribe(b.address, "busy");
        let mut quiet = subscribe(b.address, "quiet");
        let mut deleted = subscribe(b.address, "deleted");
        let mut publisher = Publisher::open(a.address);
        publisher.publish("quiet", "0");
        quiet.read_events(1);
        publisher.publish("deleted", "0");
        deleted.read_events(1);
        b.signal("-STOP");
        publish_with_key(&mut publisher, "quiet", 1);
        for n in 0..3000 {
            publish_with_key(&mut publisher, "busy", n);
        }
        publish_with_key(&mut publisher, "quiet", 2);
        publish_with_key(&mut publisher, "deleted", 1);
        let (status, _) = request(&a, "DELETE", "/topics/deleted", "");
        assert!((200..300).contains(&status));
        publish_with_key(&mut publisher, "deleted", 2);
        b.signal("-CONT");
        deleted.read_events(3);
        assert_eq!(deleted.events[1].event_type, "gap");
        assert_eq!(deleted.events[2].data, "2");
        quiet.read_events(3);
        assert_numbers(&quiet, 3);
        busy.read_until("the last event", |one| {
            one.events.last().is_some_and(|event| event.data == "2999")
        });
        // Until the gap events, and after the last, there are no omissions.
        let mut next = 0;
        for event in &busy.events {
            if event.event_type == "gap" {
                next = usize::MAX;
                continue;
            }
            let number: usize = event.data.parse().unwrap();
            assert!(number == next || next == usize::MAX, "{number} in place of {next}");
            next = number + 1;
        }
        let gaps = busy.events.iter().filter(|event| event.event_type == "gap").count();
        assert!(gaps > 0 && busy.events.len() < 3000);
    });
}

/// An event is dropped unseen, then events of another topic, and then the topic is deleted.
#[test]
fn subscribers_get_a_gap_event_for_what_was_dropped_before_a_later_hole() {
    with_each(|engine| {
        let url = engine.url();
        let arguments = ["--nats", &url, "--history", "50", "--on-lag", "gap"];
        let [a, b] = [(); 2].map(|()| Binary::start(&arguments));
        let mut deleted = subscribe(b.address, "deleted");
        let mut publisher = Publisher::open(a.address);
        publisher.publish("kept", "first");
        publisher.publish("deleted", "0");
        deleted.read_events(1);
        b.signal("-STOP");
        for n in 0..1000 {
            publish_with_key(&mut publisher, "busy", n);
        }
        publish_with_key(&mut publisher, "deleted", 1);
        // Between the holes.
        publish_with_key(&mut publisher, "kept", 1);
        for n in 1000..2000 {
            publish_with_key(&mut publisher, "busy", n);
        }
        let (status, _) = request(&a, "DELETE", "/topics/deleted", "");
        assert!((200..300).contains(&status));
        publisher.publish("deleted", "2");
        b.signal("-CONT");
        deleted.read_events(3);
        let seen = deleted.events.iter().map(|event| (&*event.event_type, &*event.data));
        let seen: Vec<_> = seen.collect();
        assert_eq!((seen[0], seen[1].0, seen[2]), (("message", "0"), "gap", ("message", "2")));
    });
}

/// Publishes a number until it is answered. While a server is stopped, the engine may answer no
/// request for up to 10 seconds: it waits for that server to read, and then closes its connection.
pub(crate) fn publish_with_key(publisher: &mut Publisher, topic: &str, number: usize) {
    let number = number.to_string();
    publish_at_last(publisher, &format!("{topic}?key={number}"), &number);
}

/// Publishes until it is answered. Returns the ID.
pub(crate) fn publish_at_last(publisher: &mut Publisher, topic: &str, data: &str) -> String {
    let start = Instant::now();
    loop {
        publisher.send(topic, data);
        let (status, body) = publisher.receive();
        if matches!(status, 200 | 201) {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            return body["id"].as_str().unwrap().to_owned();
        }
        assert!(status == 503 && start.elapsed() < TIMEOUT, "{status} {body}");
    }
}

#[test]
fn subscribers_that_resume_get_a_gap_event_after_the_stream_was_purged() {
    with_each(|engine| {
        let first = node(&engine);
        let mut publisher = Publisher::open(first.address);
        let ids: Vec<_> = (0..3).map(|n| publisher.publish("a", &n.to_string())).collect();
        engine.api("STREAM.PURGE.sse", "");
        // In memory here, and gone there.
        let mut resumed = Subscriber::resume(first.address, "/topics/a", &ids[0]);
        assert_eq!(resumed.read_events(2)[1].data, "2");
        let second = node(&engine);
        let mut resumed = Subscriber::resume(second.address, "/topics/a", &ids[0]);
        let gap = resumed.read_events(1)[0].clone();
        assert_eq!(gap.event_type, "gap");
        // The last event is the end of the stream still.
        let mut at_the_end = Subscriber::resume(second.address, "/topics/a", &ids[2]);
        let mut after_the_gap = Subscriber::resume(second.address, "/topics/a", &gap.id);
        publisher.publish("a", "3");
        assert_eq!(at_the_end.read_events(1)[0].data, "3");
        assert_eq!(after_the_gap.read_events(1)[0].data, "3");
    });
}

#[test]
fn subscribers_get_a_gap_event_when_the_stream_is_another_one() {
    with_each(|engine| {
        let node = node(&engine);
        let mut publisher = Publisher::open(node.address);
        let mut subscriber = subscribe(node.address, "a");
        let before = publisher.publish("a", "before");
        subscriber.read_events(1);
        engine.api("STREAM.DELETE.sse", "");
        let after = publish_at_last(&mut publisher, "a?key=k", "after");
        subscriber.read_until("the end", |one| one.end.is_some());
        assert_eq!(subscriber.events.len(), 1, "a subscriber that lags is cut off by default");
        assert_ne!(before.split('-').next(), after.split('-').next());
        let mut resumed = Subscriber::resume(node.address, "/topics/a", &before);
        let events = resumed.read_events(2);
        assert_eq!((events[0].event_type.as_str(), events[1].id.as_str()), ("gap", &*after));
    });
}

/// An older copy of the data is restored: the IDs of the events that are lost are unknown, although
/// their sequences are assigned again.
#[test]
fn the_ids_of_events_that_the_engine_has_lost_are_unknown() {
    with_each(|mut engine| {
        let node = node(&engine);
        let mut publisher = Publisher::open(node.address);
        let kept: Vec<_> = (0..5).map(|n| publisher.publish("a", &n.to_string())).collect();
        engine.kill();
        let copy = engine.save();
        engine.restart();
        let mut subscriber = Subscriber::resume(node.address, "/topics/a", &kept[4]);
        let mut publish =
            |n: u32| publish_at_last(&mut publisher, &format!("a?key={n}"), &n.to_string());
        let lost: Vec<_> = (5..10).map(&mut publish).collect();
        subscriber.read_events(5);
        engine.kill();
        engine.restore(&copy);
        engine.restart();
        let other = super::nodes::node(&engine);
        let mut publisher = Publisher::open(other.address);
        for n in 100..110 {
            publisher.publish("a", &n.to_string());
        }
        // Connected subscribers get a gap event or the end of the stream, and those that resume get a
        // gap event, on each server.
        subscriber.read_until("a gap or the end", |one| one.events.len() > 5 || one.end.is_some());
        for server in [&node, &other] {
            let mut resumed = Subscriber::resume(server.address, "/topics/a", &lost[2]);
            let events = resumed.read_events(16);
            assert_eq!(events[0].event_type, "gap");
            assert_eq!(events[15].data, "109");
            let mut resumed = Subscriber::resume(server.address, "/topics/a", &kept[3]);
            assert_eq!(resumed.read_events(11)[1].data, "100");
        }
    });
}

#[test]
fn a_server_without_an_engine_does_not_start_and_secrets_are_not_shown() {
    let unused = super::support::unused_address();
    let url = format!("nats://user:hidden@{unused}");
    let start = Instant::now();
    for (arguments, part) in [
        (vec!["--nats", &*url], "cannot connect to"),
        (vec!["--nats", "http://hidden@a"], "scheme"),
        (vec!["--nats", &url, "--nats-stream", "a.b"], "1 to 32 characters"),
        (vec!["--nats", &url, "--data", "/tmp/x"], "cannot be used with"),
        (vec!["--nats", &url, "--nats-creds", "/nowhere"], "/nowhere"),
        (vec!["--nats-stream", "a"], "--nats"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(&arguments)
            .output()
            .unwrap();
        assert!(!run.status.success());
        let errors = String::from_utf8(run.stderr).unwrap();
        assert!(errors.contains(part) && !errors.contains("hidden"), "{arguments:?}: {errors}");
    }
    assert!(start.elapsed() < TIMEOUT);
}
