//! Tests the client of the binary through the contract service: every way in which a body can end,
//! event IDs across connections, large values in small pieces, and a thousand cut connections.

mod support;

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::contract::{Exchange, Origin, Service};
use support::subscriber::Publisher;
use support::{Binary, send};

/// Parameters for reconnecting without delay.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

const COMPLETE: &str = "id: 1\ndata: whole\n\n";

/// An incomplete block. Its ID must not be used.
const INCOMPLETE: &str = "id: 2\nevent: half\ndata: half\n";

/// Responds with status 200, these headers and this body.
fn answer(exchange: &mut Exchange, headers: &str, body: &str) {
    exchange.write(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{headers}\r\n{body}"
    ));
}

#[test]
fn a_reconnection_starts_clean_after_the_last_event_however_the_body_ended() {
    const CHUNKED: &str = "Transfer-Encoding: Chunked\r\n";
    // Whether the framing ends the body, or only the close of the connection does.
    const FRAMED: bool = true;
    const CLOSED: bool = false;
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let both = [COMPLETE, INCOMPLETE].concat();
    let chunks = |end: &str| {
        let chunk = |content: &str| format!("{:x}\r\n{content}\r\n", content.len());
        chunk(COMPLETE) + &chunk(INCOMPLETE) + end
    };
    let length = |more: usize| format!("Content-Length: {}\r\n", both.len() + more);
    let thrice = format!("Content-Length: {0}, {0}\r\nContent-Length: {0}\r\n", both.len());
    for (headers, body, framed, reason) in [
        ("", both.clone(), CLOSED, "ended"),
        (CHUNKED, chunks("0\r\n\r\n"), FRAMED, "ended"),
        (CHUNKED, chunks("000;last\r\nTrailer: 1\r\nAnother: 2\r\n\r\n"), FRAMED, "ended"),
        (&length(0), both.clone(), FRAMED, "ended"),
        (&thrice, both.clone(), FRAMED, "ended"),
        // Bytes after the end of the body are ignored.
        (&length(0), format!("{both}\ndata: behind\n\n"), FRAMED, "ended"),
        (CHUNKED, chunks("0\r\n\r\n9\r\n\ndata: a\n\n\r\n"), FRAMED, "ended"),
        (&format!("{CHUNKED}Content-Length: 3\r\n"), chunks("0\r\n\r\n"), FRAMED, "ended"),
        (&length(1), both.clone(), CLOSED, "cut off"),
        (CHUNKED, chunks(""), CLOSED, "cut off"),
        (CHUNKED, chunks("0"), CLOSED, "cut off"),
        (CHUNKED, chunks("5\r\ndata"), CLOSED, "cut off"),
        (CHUNKED, chunks("2\r\nid"), CLOSED, "cut off"),
        (CHUNKED, chunks("2;ext=\"v\"\r\nid\r"), CLOSED, "cut off"),
        (CHUNKED, chunks("\n\n"), FRAMED, "no size"),
        (CHUNKED, chunks("-1\r\n"), FRAMED, "no size"),
        (CHUNKED, chunks("11111111111111111\r\n\n"), FRAMED, "no size"),
        (CHUNKED, chunks(&format!("1;{}", "x".repeat(5000))), FRAMED, "no size"),
        (CHUNKED, chunks("1\r\nidata"), FRAMED, "longer"),
    ] {
        let mut exchange = origin.accept();
        answer(&mut exchange, headers, &body);
        stream.expect_event("1", "whole");
        let exchange = framed.then_some(exchange);
        let error = stream.expect_error();
        assert!(error.contains(reason), "{headers}{body:?}: {error}");
        drop(exchange);
        let mut exchange = origin.accept();
        assert_eq!(exchange.header("last-event-id"), Some("1"), "{headers}{body:?}");
        // A blank line and data that would complete the block of the earlier connection.
        answer(&mut exchange, "", "\ndata: afresh\n\nid\n\n");
        stream.expect_event("1", "afresh");
        drop(exchange);
        stream.expect_error();
    }
    // The peer resets the connection.
    let mut exchange = origin.accept();
    answer(&mut exchange, "", &both);
    stream.expect_event("1", "whole");
    exchange.reset();
    stream.expect_error();
    // An empty body.
    for headers in ["", "Content-Length: 0\r\n", "Content-Length: 10\r\n", CHUNKED] {
        let mut exchange = origin.accept();
        assert_eq!(exchange.header("last-event-id"), Some("1"));
        answer(&mut exchange, headers, "");
        drop(exchange);
        stream.expect_error();
    }
    // An HTTP/1.0 response: no chunks, and the close of the connection ends the body.
    origin
        .accept()
        .write("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: old\n\n");
    stream.expect_event("1", "old");
}

#[test]
fn the_last_event_id_stays_until_the_stream_sets_another() {
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
        let mut exchange = origin.accept();
        answer(&mut exchange, "", body);
        stream.expect_event(id, "a");
        drop(exchange);
        stream.expect_error();
        let exchange = origin.accept();
        assert_eq!(exchange.header("last-event-id"), header, "{body:?}");
        drop(exchange);
        stream.expect_error();
    }
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write(b"id: \xFF\ndata: a\n\n");
    stream.expect_event("\u{FFFD}", "a");
    drop(exchange);
    stream.expect_error();
    let mut exchange = origin.accept();
    assert_eq!(exchange.header("last-event-id"), Some("\u{FFFD}"));
    answer(&mut exchange, "", "id: \x07\ndata: a\n\n");
    stream.expect_event("\x07", "a");
    drop(exchange);
    stream.expect_error();
    assert!(stream.expect_error().contains("no header can hold"), "the error is reported");
    assert_eq!(origin.accept().header("last-event-id"), None);
}

#[test]
fn the_reconnection_time_of_the_stream_is_kept_across_connections() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({ "initialDelayMs": 600_000 }));
    let mut exchange = origin.accept();
    answer(&mut exchange, "", "retry: 200\nretry: soon\nretry: 5s\n");
    let mut cut = Instant::now();
    drop(exchange);
    for _ in 0..2 {
        stream.expect_error();
        drop(origin.accept());
        assert!(cut.elapsed() >= Duration::from_millis(200));
        cut = Instant::now();
    }
    stream.expect_error();
    answer(&mut origin.accept(), "", "retry: 0\n");
    for _ in 0..10 {
        stream.expect_error();
        drop(origin.accept());
    }
}

#[test]
fn many_events_in_one_piece_are_reported_in_order() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({}));
    let mut exchange = origin.accept();
    exchange.open_chunked();
    let events: Vec<String> = (0..1000).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    exchange.chunk(&events.concat());
    for n in 0..1000 {
        stream.expect_event(&n.to_string(), &n.to_string());
    }
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut exchange = origin.accept();
    for byte in b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n0a;e=f\r\nid: 1\r\ndat\r\n00e\r\na: \xF0\x9F\xA6\x80\r\n\r\n:c\r\r\n"
    {
        exchange.write([*byte]);
    }
    stream.expect_event("1", "\u{1F980}");
    assert_eq!(stream.next_report()["comment"], "c");
}

#[test]
fn a_restart_discards_unread_events() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut exchange = origin.accept();
    exchange.open();
    let events: Vec<String> = (0..500).map(|n| format!("id: {n}\ndata: {n}\n\n")).collect();
    exchange.write(events.concat());
    stream.expect_event("0", "0");
    assert_eq!(stream.restart(), 204);
    // The new connection resumes after the last event that is reported.
    let mut exchange = origin.accept();
    let last = exchange.header("last-event-id").unwrap().to_owned();
    answer(&mut exchange, "", "data: after\n\n");
    for n in 1..=last.parse().unwrap() {
        stream.expect_event(&n.to_string(), &n.to_string());
    }
    stream.expect_event(&last, "after");
}

#[test]
fn large_values_arrive_in_pieces_of_any_size() {
    const SIZE: usize = 5 << 20;
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({}));
    let value: String = ('a'..='w').cycle().take(SIZE).collect();
    let event = format!("data: {value}\n\n");
    let mut exchange = origin.accept();
    exchange.open_chunked();
    exchange.chunk(&event);
    assert!(stream.next_report()["event"]["data"] == *value);
    let (one, two) = event.split_at(SIZE / 3);
    exchange.chunk(one);
    exchange.chunk(two);
    assert!(stream.next_report()["event"]["data"] == *value);
    let bytes: String =
        event.chars().flat_map(|byte| ['1', '\r', '\n', byte, '\r', '\n']).collect();
    // Decoding that is not linear in the size would take hours.
    exchange.write(&bytes);
    assert!(stream.next_report()["event"]["data"] == *value);
}

/// Forwards requests to `upstream`, and the first 0 to 499 bytes of each response: the cut may be in
/// the head, in an event, or between events. After `times` cuts, forwards the whole response.
fn cut_off(origin: Origin, upstream: SocketAddr, times: usize) {
    thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        for n in 0..=times {
            let mut exchange = origin.accept();
            let answer = send(upstream, &exchange.head);
            let most = if n == times { u64::MAX } else { random.u64(..500) };
            let _ = io::copy(&mut answer.take(most), &mut exchange.socket);
            if random.bool() {
                exchange.reset();
            }
        }
    });
}

#[test]
fn a_thousand_cut_connections_neither_lose_nor_repeat_an_event() {
    const CUTS: usize = 1000;
    let (server, service, origin) = (Binary::start(&[]), Service::start(), Origin::start());
    let url = origin.url("/topics/cut");
    cut_off(origin, server.address, CUTS);
    let mut publisher = Publisher::open(server.address);
    let mut ids = vec![publisher.publish("cut", "0")];
    let parameters = json!({ "initialDelayMs": 0, "lastEventId": "earliest" });
    let stream = service.follow(&url, parameters);
    let (mut cuts, mut received) = (0, 0);
    while cuts < CUTS || received < ids.len() {
        // Keeps enough events unread that every response can be cut.
        while cuts < CUTS && ids.len() < received + 20 {
            ids.push(publisher.publish("cut", &ids.len().to_string()));
        }
        let report = stream.next_report();
        if report["kind"] == "error" {
            cuts += 1;
        } else {
            let event =
                json!({ "type": "message", "data": received.to_string(), "id": ids[received] });
            assert_eq!(report["event"], event, "after {cuts} cuts");
            received += 1;
        }
    }
    assert!(cuts == CUTS && received > CUTS, "{cuts} cuts, {received} events");
}
