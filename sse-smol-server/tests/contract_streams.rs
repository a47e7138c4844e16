//! The client of the examples, by way of the contract service: bodies that end in all possible
//! ways, ids from one connection to the next, large values in small pieces, and a thousand cuts.

mod support;

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::contract::{Origin, Service, Visit};
use support::subscriber::Publisher;
use support::{Binary, send};

/// Without a wait before the next connection.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

const WHOLE: &str = "id: 1\ndata: whole\n\n";

/// A block that is not, with an id that nobody is to see.
const HALF: &str = "id: 2\nevent: half\ndata: half\n";

/// Answers 200, with these headers and a body that holds all of `WHOLE` and `HALF`, or more.
fn answer(visit: &mut Visit, headers: &str, body: &str) {
    visit.write(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{headers}\r\n{body}"
    ));
}

#[test]
fn however_a_body_ends_the_next_connection_begins_afresh_behind_the_last_event() {
    const CHUNKED: &str = "Transfer-Encoding: Chunked\r\n";
    /// The client sees the end by itself, or when the connection is closed.
    const SEEN: bool = true;
    const CLOSED: bool = false;
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let both = [WHOLE, HALF].concat();
    let chunks = |end: &str| {
        let chunk = |content: &str| format!("{:x}\r\n{content}\r\n", content.len());
        chunk(WHOLE) + &chunk(HALF) + end
    };
    let length = |more: usize| format!("Content-Length: {}\r\n", both.len() + more);
    let thrice = format!("Content-Length: {0}, {0}\r\nContent-Length: {0}\r\n", both.len());
    for (headers, body, seen, says) in [
        ("", both.clone(), CLOSED, "ended"),
        (CHUNKED, chunks("0\r\n\r\n"), SEEN, "ended"),
        (CHUNKED, chunks("000;last\r\nTrailer: 1\r\nAnother: 2\r\n\r\n"), SEEN, "ended"),
        (&length(0), both.clone(), SEEN, "ended"),
        (&thrice, both.clone(), SEEN, "ended"),
        // What comes behind the end is not part of it.
        (&length(0), format!("{both}\ndata: behind\n\n"), SEEN, "ended"),
        (CHUNKED, chunks("0\r\n\r\n9\r\n\ndata: a\n\n\r\n"), SEEN, "ended"),
        (&format!("{CHUNKED}Content-Length: 3\r\n"), chunks("0\r\n\r\n"), SEEN, "ended"),
        (&length(1), both.clone(), CLOSED, "cut off"),
        (CHUNKED, chunks(""), CLOSED, "cut off"),
        (CHUNKED, chunks("0"), CLOSED, "cut off"),
        (CHUNKED, chunks("5\r\ndata"), CLOSED, "cut off"),
        (CHUNKED, chunks("2\r\nid"), CLOSED, "cut off"),
        (CHUNKED, chunks("2;ext=\"v\"\r\nid\r"), CLOSED, "cut off"),
        (CHUNKED, chunks("\n\n"), SEEN, "no size"),
        (CHUNKED, chunks("-1\r\n"), SEEN, "no size"),
        (CHUNKED, chunks("11111111111111111\r\n\n"), SEEN, "no size"),
        (CHUNKED, chunks(&format!("1;{}", "x".repeat(5000))), SEEN, "no size"),
        (CHUNKED, chunks("1\r\nidata"), SEEN, "longer"),
    ] {
        let mut visit = origin.accept();
        answer(&mut visit, headers, &body);
        stream.event("1", "whole");
        let visit = seen.then_some(visit);
        let said = stream.error();
        assert!(said.contains(says), "{headers}{body:?}: {said}");
        drop(visit);
        let mut visit = origin.accept();
        assert_eq!(visit.header("last-event-id"), Some("1"), "{headers}{body:?}");
        // A blank line and data that the half block could take for its own.
        answer(&mut visit, "", "\ndata: afresh\n\nid\n\n");
        stream.event("1", "afresh");
        drop(visit);
        stream.error();
    }
    // The peer resets the connection.
    let mut visit = origin.accept();
    answer(&mut visit, "", &both);
    stream.event("1", "whole");
    visit.reset();
    stream.error();
    // Nothing at all in it.
    for headers in ["", "Content-Length: 0\r\n", "Content-Length: 10\r\n", CHUNKED] {
        let mut visit = origin.accept();
        assert_eq!(visit.header("last-event-id"), Some("1"));
        answer(&mut visit, headers, "");
        drop(visit);
        stream.error();
    }
    // HTTP/1.0 knows no chunks, and any server may end the connection when it likes.
    origin
        .accept()
        .write("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: old\n\n");
    stream.event("1", "old");
}

#[test]
fn ids_last_until_another_comes() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    for (body, id, header) in [
        ("data: a\n\n", "", None),
        ("id: 1\ndata: a\n\n", "1", Some("1")),
        ("data: a\n\n", "1", Some("1")),
        ("id: 2\n\ndata: a\n\n", "2", Some("2")),
        ("data: a\nid: n\0l\n\n", "2", Some("2")),
        (
            "data: a\nid: caf\u{E9} <\u{1F980}>\n\n",
            "caf\u{E9} <\u{1F980}>",
            Some("caf\u{E9} <\u{1F980}>"),
        ),
        ("id:  b \ndata: a\n\n", " b ", Some("b")),
        ("id:  \ndata: a\n\n", " ", Some("")),
        ("id\ndata: a\n\n", "", None),
        ("id: 3\ndata: a\n\nid: 4\n\nid: 5\n", "3", Some("4")),
        ("id: \ndata: a\n\n", "", None),
    ] {
        let mut visit = origin.accept();
        answer(&mut visit, "", body);
        stream.event(id, "a");
        drop(visit);
        stream.error();
        let visit = origin.accept();
        assert_eq!(visit.header("last-event-id"), header, "{body:?}");
        drop(visit);
        stream.error();
    }
    let mut visit = origin.accept();
    visit.open();
    visit.write(b"id: \xFF\ndata: a\n\n");
    stream.event("\u{FFFD}", "a");
    drop(visit);
    stream.error();
    let mut visit = origin.accept();
    assert_eq!(visit.header("last-event-id"), Some("\u{FFFD}"));
    answer(&mut visit, "", "id: \x07\ndata: a\n\n");
    stream.event("\x07", "a");
    drop(visit);
    stream.error();
    assert!(stream.error().contains("no header can hold"), "it is told, and");
    assert_eq!(origin.accept().header("last-event-id"), None);
}

#[test]
fn the_reconnection_time_is_that_of_the_stream_and_stays() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({ "initialDelayMs": 600_000 }));
    let mut visit = origin.accept();
    answer(&mut visit, "", "retry: 200\nretry: soon\nretry: 5s\n");
    let mut cut = Instant::now();
    drop(visit);
    for _ in 0..2 {
        stream.error();
        drop(origin.accept());
        assert!(cut.elapsed() >= Duration::from_millis(200));
        cut = Instant::now();
    }
    stream.error();
    answer(&mut origin.accept(), "", "retry: 0\n");
    for _ in 0..10 {
        stream.error();
        drop(origin.accept());
    }
}

#[test]
fn many_events_in_one_piece_are_reported_in_order() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({}));
    let mut visit = origin.accept();
    visit.open_chunked();
    let events: Vec<String> = (0..1000).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    visit.chunk(&events.concat());
    for n in 0..1000 {
        stream.event(&n.to_string(), &n.to_string());
    }
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut visit = origin.accept();
    for byte in b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n0a;e=f\r\nid: 1\r\ndat\r\n00e\r\na: \xF0\x9F\xA6\x80\r\n\r\n:c\r\r\n"
    {
        visit.write([*byte]);
    }
    stream.event("1", "\u{1F980}");
    assert_eq!(stream.next()["comment"], "c");
}

#[test]
fn a_restart_forgets_what_was_not_yet_read() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut visit = origin.accept();
    visit.open();
    let events: Vec<String> = (0..500).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    visit.write(events.concat());
    stream.event("0", "0");
    assert_eq!(stream.restart(), 204);
    // The last one reported is the one that the next connection begins behind.
    let mut visit = origin.accept();
    let last = visit.header("last-event-id").unwrap().to_owned();
    answer(&mut visit, "", "data: after\n\n");
    for n in 1..=last.parse().unwrap() {
        stream.event(&n.to_string(), &n.to_string());
    }
    stream.event(&last, "after");
}

#[test]
fn large_values_arrive_in_pieces_of_any_size() {
    const SIZE: usize = 5 << 20;
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({}));
    let value: String = ('a'..='w').cycle().take(SIZE).collect();
    let event = format!("data: {value}\n\n");
    let mut visit = origin.accept();
    visit.open_chunked();
    visit.chunk(&event);
    assert!(stream.next()["event"]["data"] == *value);
    let (one, two) = event.split_at(SIZE / 3);
    visit.chunk(one);
    visit.chunk(two);
    assert!(stream.next()["event"]["data"] == *value);
    let bytes: String =
        event.chars().flat_map(|byte| ['1', '\r', '\n', byte, '\r', '\n']).collect();
    // If that were not linear in the size, it would take hours.
    visit.write(&bytes);
    assert!(stream.next()["event"]["data"] == *value);
}

/// Passes requests on, and of each answer no more than some bytes, which may end in its head, in an
/// event, or between two. When that was done so often, answers are passed on as they are.
fn cut_off(origin: Origin, upstream: SocketAddr, times: usize) {
    thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        for n in 0..=times {
            let mut visit = origin.accept();
            let answer = send(upstream, &visit.head);
            let most = if n == times { u64::MAX } else { random.u64(..500) };
            let _ = io::copy(&mut answer.take(most), &mut visit.socket);
            if random.bool() {
                visit.reset();
            }
        }
    });
}

#[test]
fn a_thousand_cuts_lose_nothing_and_bring_nothing_twice() {
    const CUTS: usize = 1000;
    let (server, service, origin) = (Binary::start(&[]), Service::start(), Origin::start());
    let url = origin.url("/topics/cut");
    cut_off(origin, server.address, CUTS);
    let mut publisher = Publisher::open(server.address);
    let mut ids = vec![publisher.publish("cut", "0")];
    let parameters = json!({ "initialDelayMs": 0, "lastEventId": "earliest" });
    let stream = service.follow(&url, parameters);
    let (mut cuts, mut seen) = (0, 0);
    while cuts < CUTS || seen < ids.len() {
        // So much is always on its way that no answer is too short to be cut.
        while cuts < CUTS && ids.len() < seen + 20 {
            ids.push(publisher.publish("cut", &ids.len().to_string()));
        }
        let report = stream.next();
        if report["kind"] == "error" {
            cuts += 1;
        } else {
            let event = json!({ "type": "message", "data": seen.to_string(), "id": ids[seen] });
            assert_eq!(report["event"], event, "after {cuts} cuts");
            seen += 1;
        }
    }
    assert!(cuts == CUTS && seen > CUTS, "{cuts} cuts, {seen} events");
}
