//! Tests the contract service: its HTTP interface, and each capability that it announces.

mod support;

use std::mem;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::TIMEOUT;
use support::contract::{Origin, Service};

/// Parameters for reconnecting without delay.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

#[test]
fn capabilities_are_listed_and_invalid_requests_are_rejected() {
    let service = Service::start();
    let (status, _, body) = service.request("GET", "/", "");
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
        assert_eq!(service.request("POST", "/", bad).0, 400, "{bad}");
    }
    for method in ["POST", "DELETE"] {
        assert_eq!(service.request(method, "/streams/1", r#"{"command":"restart"}"#).0, 404);
    }
    assert_eq!(service.request("PUT", "/", "").0, 405);
}

#[test]
fn a_stream_is_followed_until_it_is_deleted() {
    let (service, origin) = (Service::start(), Origin::start());
    let unset = json!({
        "tag": "a test", "initialDelayMs": null, "readTimeoutMs": null, "lastEventId": null,
        "headers": null, "method": null, "body": null,
    });
    let stream = service.follow(&origin.url("/"), unset);
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("event: a\ndata: 1\nid: x\n\n");
    let event = json!({ "type": "a", "data": "1", "id": "x" });
    assert_eq!(stream.next_report(), json!({ "kind": "event", "event": event }));
    let command = |command| service.request("POST", &stream.path, command).0;
    assert_eq!(command(r#"{"command":"listen","listen":{"type":"a"}}"#), 204);
    for bad in ["", "{}", r#"{"command":"dance"}"#, "null"] {
        assert_eq!(command(bad), 400, "{bad}");
    }
    exchange.write("data: 2\n\n");
    stream.expect_event("x", "2");
    assert_eq!(stream.stop(), 204);
    exchange.assert_closed();
    assert_eq!((stream.stop(), stream.restart()), (404, 404));

    let other = service.follow(&origin.url("/"), at_once());
    assert_ne!(other.path, stream.path);
    drop(origin.accept());
    other.expect_error();
    assert!(service.request("DELETE", "/", "").0 < 300);
    // Skips deletion on drop: one stream is deleted already, the other ended with the service.
    mem::forget((stream, other));
    assert!(service.wait());
}

#[test]
fn requests_have_the_headers_of_an_event_source() {
    let (service, origin) = (Service::start(), Origin::start());
    let plain = service.follow(&origin.url("/a?b=c#d"), json!({}));
    let exchange = origin.accept();
    assert_eq!(exchange.line(), "GET /a?b=c HTTP/1.1");
    assert_eq!(exchange.header("accept"), Some("text/event-stream"));
    assert_eq!(exchange.header("cache-control"), Some("no-cache"));
    assert_eq!(exchange.header("pragma"), Some("no-cache"));
    assert_eq!(exchange.header("host"), Some(&*origin.address.to_string()));
    for none in ["last-event-id", "content-length", "content-type", "transfer-encoding"] {
        assert_eq!(exchange.header(none), None);
    }
    assert_eq!(plain.stop(), 204);

    let headers = json!({ "header-name-1": "value-1", "accept": "nothing", "connection": "odd" });
    let preset = json!({ "headers": headers, "lastEventId": "abc" });
    let preset = service.follow(&origin.url("/"), preset);
    let exchange = origin.accept();
    assert_eq!(exchange.header("header-name-1"), Some("value-1"));
    assert_eq!(exchange.header("accept"), Some("text/event-stream"));
    assert_eq!(exchange.header("connection"), Some("close"));
    assert_eq!(exchange.header("last-event-id"), Some("abc"));
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
            let mut exchange = origin.accept();
            assert_eq!(exchange.line(), format!("{method} / HTTP/1.1"));
            assert_eq!(exchange.body, body);
            assert_eq!(exchange.header("content-type"), Some("application/json; charset=utf-8"));
            assert_eq!(exchange.header("last-event-id").is_some(), n > 0);
            exchange.open();
            exchange.write(format!("id: {n}\ndata: {method}\n\n"));
            stream.expect_event(&n.to_string(), method);
            drop(exchange);
            stream.expect_error();
        }
    }
}

#[test]
fn comments_are_reported_as_soon_as_their_line_ends() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let comment = |text: &str| {
        assert_eq!(stream.next_report(), json!({ "kind": "comment", "comment": text }));
    };
    let mut exchange = origin.accept();
    exchange.open_chunked();
    exchange.chunk("\u{FEFF}:Hello\n");
    comment("Hello");
    exchange.chunk(": one ");
    exchange.chunk("in two\r");
    comment(" one in two");
    exchange.chunk("\n:\n:b\ndata: c\n:d\n\n:e\ndata: f\n\n");
    comment("");
    comment("b");
    comment("d");
    stream.expect_event("", "c");
    comment("e");
    stream.expect_event("", "f");
    exchange.chunk(":half of ");
    drop(exchange);
    stream.expect_error();
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write(":one\n");
    comment("one");
}

#[test]
fn one_leading_byte_order_mark_is_skipped() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let connect = |chunks: &[&[u8]]| {
        let mut exchange = origin.accept();
        exchange.open();
        for chunk in chunks {
            exchange.write(chunk);
        }
    };
    let first = |data| {
        stream.expect_event("", data);
        stream.expect_error();
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
    stream.expect_event("", "a");
    first("\u{FEFF}b");
    // A partial byte order mark or line end of an earlier connection has no effect.
    connect(&[b"\xEF\xBB"]);
    stream.expect_error();
    connect(&[b"\xEF\xBB\xBFdata: again\n\n"]);
    first("again");
    connect(&[b"data: a\r"]);
    stream.expect_error();
    connect(&[b"\ndata: b\n\n"]);
    first("b");
}

#[test]
fn a_restart_reconnects_without_reporting_an_error() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), json!({ "initialDelayMs": 600_000 }));
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("id: 1\ndata: a\n\nid: 2\ndata: b");
    stream.expect_event("1", "a");
    assert_eq!(stream.restart(), 204);
    exchange.assert_closed();
    let mut exchange = origin.accept();
    assert_eq!(exchange.header("last-event-id"), Some("1"));

    // Also before the response, and during the reconnection delay.
    assert_eq!(stream.restart(), 204);
    exchange.assert_closed();
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: c\n\n");
    stream.expect_event("1", "c");
    drop(exchange);
    stream.expect_error();
    assert_eq!(stream.restart(), 204);
    origin.accept().open();
}

#[test]
fn the_read_timeout_applies_to_every_phase_of_a_connection() {
    let (service, origin) = (Service::start(), Origin::start());
    let timeout = Duration::from_millis(500);
    let parameters = json!({ "initialDelayMs": 0, "readTimeoutMs": 500 });
    let stream = service.follow(&origin.url("/"), parameters.clone());
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: a\n\n");
    stream.expect_event("", "a");
    // Comments reset the timeout. Together, these pauses are longer than the timeout.
    let mut last = Instant::now();
    for _ in 0..15 {
        thread::sleep(timeout / 10);
        last = Instant::now();
        exchange.write(":\n");
        assert_eq!(stream.next_report()["kind"], "comment");
    }
    assert!(stream.expect_error().contains("too long"));
    assert!(last.elapsed() >= timeout && last.elapsed() < TIMEOUT);
    exchange.assert_closed();

    // No response, half of a response head, and a redirect to a server that does not respond.
    let mut unanswered = origin.accept();
    stream.expect_error();
    unanswered.assert_closed();
    let mut half = origin.accept();
    half.write("HTTP/1.1 200 OK\r\nContent-Type: text/ev");
    stream.expect_error();
    half.assert_closed();
    origin.accept().redirect(307, "/elsewhere");
    let mut elsewhere = origin.accept();
    assert_eq!(elsewhere.line(), "GET /elsewhere HTTP/1.1");
    stream.expect_error();
    elsewhere.assert_closed();
    assert_eq!(stream.stop(), 204);

    // A connection that is never established: the backlog of the listener is full.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let stream = service.follow(&format!("http://{address}/"), parameters);
    assert!(stream.expect_error().contains("too long"));
}
