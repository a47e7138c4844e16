//! The contract service: what the contract asks of it, and what each of its capabilities means.

mod support;

use std::mem;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::PATIENCE;
use support::contract::{Origin, Service};

/// Without a wait before the next connection.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

#[test]
fn it_says_what_it_can_do_and_refuses_what_it_cannot() {
    let service = Service::start();
    let (status, _, body) = service.ask("GET", "/", "");
    assert_eq!(status, 200);
    let about: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(about["name"], "sse-proto");
    let capabilities = about["capabilities"].as_array().unwrap();
    for name in [
        "bom",
        "comments",
        "headers",
        "last-event-id",
        "post",
        "read-timeout",
        "report",
        "restart",
        "server-directed-shutdown-request",
    ] {
        assert!(capabilities.contains(&name.into()), "{name}");
    }
    assert!(!capabilities.contains(&"event-type-listeners".into()));

    let url = "http://127.0.0.1:1/";
    let with = |name: &str, value: Value| {
        let mut parameters = json!({ "streamUrl": url, "callbackUrl": url });
        parameters[name] = value;
        parameters.to_string()
    };
    for bad in [
        "",
        "{",
        "[]",
        r#"{"streamUrl":"http://127.0.0.1:1/"}"#,
        r#"{"callbackUrl":"http://127.0.0.1:1/"}"#,
        &with("streamUrl", "not a URL".into()),
        &with("streamUrl", "https://127.0.0.1/".into()),
        &with("callbackUrl", Value::Null),
        &with("initialDelayMs", (-1).into()),
        &with("readTimeoutMs", "soon".into()),
        &with("lastEventId", "a\nb".into()),
        &with("headers", json!({ "a b": "c" })),
        &with("headers", json!({ "a": "b\r\nc: d" })),
        &with("method", "GE T".into()),
    ] {
        assert_eq!(service.ask("POST", "/", bad).0, 400, "{bad}");
    }
    for method in ["POST", "DELETE"] {
        assert_eq!(service.ask(method, "/streams/1", r#"{"command":"restart"}"#).0, 404);
    }
    assert_eq!(service.ask("PUT", "/", "").0, 405);
}

#[test]
fn a_stream_lives_from_its_creation_to_its_deletion() {
    let (service, origin) = (Service::start(), Origin::start());
    let unset = json!({
        "tag": "a test", "initialDelayMs": null, "readTimeoutMs": null, "lastEventId": null,
        "headers": null, "method": null, "body": null,
    });
    let stream = service.follow(&origin.url("/"), unset);
    let mut visit = origin.accept();
    visit.open();
    visit.write("event: a\ndata: 1\nid: x\n\n");
    let event = json!({ "type": "a", "data": "1", "id": "x" });
    assert_eq!(stream.next(), json!({ "kind": "event", "event": event }));
    let command = |command| service.ask("POST", &stream.path, command).0;
    assert_eq!(command(r#"{"command":"listen","listen":{"type":"a"}}"#), 204);
    for bad in ["", "{}", r#"{"command":"dance"}"#, "null"] {
        assert_eq!(command(bad), 400, "{bad}");
    }
    visit.write("data: 2\n\n");
    stream.event("x", "2");
    assert_eq!(stream.stop(), 204);
    visit.is_gone();
    assert_eq!((stream.stop(), stream.restart()), (404, 404));

    let other = service.follow(&origin.url("/"), at_once());
    assert_ne!(other.path, stream.path);
    drop(origin.accept());
    other.error();
    assert!(service.ask("DELETE", "/", "").0 < 300);
    // It is gone with the service, and the other one already was.
    mem::forget((stream, other));
    assert!(service.wait());
}

#[test]
fn requests_say_what_an_event_source_says() {
    let (service, origin) = (Service::start(), Origin::start());
    let plain = service.follow(&origin.url("/a?b=c#d"), json!({}));
    let visit = origin.accept();
    assert_eq!(visit.line(), "GET /a?b=c HTTP/1.1");
    assert_eq!(visit.header("accept"), Some("text/event-stream"));
    assert_eq!(visit.header("cache-control"), Some("no-cache"));
    assert_eq!(visit.header("pragma"), Some("no-cache"));
    assert_eq!(visit.header("host"), Some(&*origin.address.to_string()));
    for none in ["last-event-id", "content-length", "content-type", "transfer-encoding"] {
        assert_eq!(visit.header(none), None);
    }
    assert_eq!(plain.stop(), 204);

    let headers = json!({ "header-name-1": "value-1", "accept": "nothing", "connection": "odd" });
    let preset = json!({ "headers": headers, "lastEventId": "abc" });
    let preset = service.follow(&origin.url("/"), preset);
    let visit = origin.accept();
    assert_eq!(visit.header("header-name-1"), Some("value-1"));
    assert_eq!(visit.header("accept"), Some("text/event-stream"));
    assert_eq!(visit.header("connection"), Some("close"));
    assert_eq!(visit.header("last-event-id"), Some("abc"));
    assert_eq!(preset.stop(), 204);
}

#[test]
fn post_and_report_send_their_body_with_each_request() {
    let service = Service::start();
    for method in ["POST", "REPORT"] {
        let origin = Origin::start();
        let body = r#"{"hello": "wörld"}"#;
        let parameters = json!({
            "method": method, "body": body, "initialDelayMs": 0,
            "headers": { "content-type": "application/json; charset=utf-8" },
        });
        let stream = service.follow(&origin.url("/"), parameters);
        for n in 0..3 {
            let mut visit = origin.accept();
            assert_eq!(visit.line(), format!("{method} / HTTP/1.1"));
            assert_eq!(visit.body, body);
            assert_eq!(visit.header("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(visit.header("last-event-id").is_some(), n > 0);
            visit.open();
            visit.write(format!("id: {n}\ndata: {method}\n\n"));
            stream.event(&n.to_string(), method);
            drop(visit);
            stream.error();
        }
    }
}

#[test]
fn comments_are_reported_as_soon_as_their_line_ends() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let comment = |text: &str| {
        assert_eq!(stream.next(), json!({ "kind": "comment", "comment": text }));
    };
    let mut visit = origin.accept();
    visit.open_chunked();
    visit.chunk("\u{FEFF}:Hello\n");
    comment("Hello");
    visit.chunk(": one ");
    visit.chunk("in two\r");
    comment(" one in two");
    visit.chunk("\n:\n:b\ndata: c\n:d\n\n:e\ndata: f\n\n");
    comment("");
    comment("b");
    comment("d");
    stream.event("", "c");
    comment("e");
    stream.event("", "f");
    visit.chunk(":half of ");
    drop(visit);
    stream.error();
    let mut visit = origin.accept();
    visit.open();
    visit.write(":one\n");
    comment("one");
}

#[test]
fn one_byte_order_mark_is_no_part_of_the_stream() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let connect = |chunks: &[&[u8]]| {
        let mut visit = origin.accept();
        visit.open();
        for chunk in chunks {
            visit.write(chunk);
        }
    };
    let first = |data| {
        stream.event("", data);
        stream.error();
    };
    connect(&[b"\xEF\xBB\xBFdata: whole\n\n"]);
    first("whole");
    connect(&[b"\xEF", b"\xBB", b"\xBF", b"d", b"ata: bytes\n\n"]);
    first("bytes");
    connect(&[b"\xEF\xBB\xBF\xEF\xBB\xBFdata: lost\n\ndata: second\n\n"]);
    first("second");
    connect(&[b"\xEF\xBBdata: lost\n\ndata: half\n\n"]);
    first("half");
    connect(&[b"data: a\n\n\xEF\xBB\xBFdata: lost\n\ndata: \xEF\xBB\xBFb\n\n"]);
    stream.event("", "a");
    first("\u{FEFF}b");
    // What an earlier connection broke off in does not count.
    connect(&[b"\xEF\xBB"]);
    stream.error();
    connect(&[b"\xEF\xBB\xBFdata: again\n\n"]);
    first("again");
    connect(&[b"data: a\r"]);
    stream.error();
    connect(&[b"\ndata: b\n\n"]);
    first("b");
}

#[test]
fn a_restart_is_another_connection_and_no_error() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({ "initialDelayMs": 600_000 }));
    let mut visit = origin.accept();
    visit.open();
    visit.write("id: 1\ndata: a\n\nid: 2\ndata: b");
    stream.event("1", "a");
    assert_eq!(stream.restart(), 204);
    visit.is_gone();
    let mut visit = origin.accept();
    assert_eq!(visit.header("last-event-id"), Some("1"));

    // Also before the response, and while it waits.
    assert_eq!(stream.restart(), 204);
    visit.is_gone();
    let mut visit = origin.accept();
    visit.open();
    visit.write("data: c\n\n");
    stream.event("1", "c");
    drop(visit);
    stream.error();
    assert_eq!(stream.restart(), 204);
    origin.accept().open();
}

#[test]
fn silence_for_too_long_is_an_error_wherever_it_falls() {
    let (service, origin) = (Service::start(), Origin::start());
    let timeout = Duration::from_millis(500);
    let parameters = json!({ "initialDelayMs": 0, "readTimeoutMs": 500 });
    let stream = service.follow(&origin.url("/"), parameters.clone());
    let mut visit = origin.accept();
    visit.open();
    visit.write("data: a\n\n");
    stream.event("", "a");
    // Bytes that are no event count, also those of comments: together this is longer than allowed.
    let mut last = Instant::now();
    for _ in 0..15 {
        thread::sleep(timeout / 10);
        last = Instant::now();
        visit.write(":\n");
        assert_eq!(stream.next()["kind"], "comment");
    }
    assert!(stream.error().contains("too long"));
    assert!(last.elapsed() >= timeout && last.elapsed() < PATIENCE);
    visit.is_gone();

    // No response, half of one, and one whose redirect leads nowhere.
    let mut unanswered = origin.accept();
    stream.error();
    unanswered.is_gone();
    let mut half = origin.accept();
    half.write("HTTP/1.1 200 OK\r\nContent-Type: text/ev");
    stream.error();
    half.is_gone();
    origin.accept().redirect(307, "/elsewhere");
    let mut elsewhere = origin.accept();
    assert_eq!(elsewhere.line(), "GET /elsewhere HTTP/1.1");
    stream.error();
    elsewhere.is_gone();
    assert_eq!(stream.stop(), 204);

    // A connection that is never made: those before it fill the queue of whoever does not accept.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let address = deaf.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let stream = service.follow(&format!("http://{address}/"), parameters);
    assert!(stream.error().contains("too long"));
}
