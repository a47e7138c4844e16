//! Tests the client of the binary through the contract service: redirects, accepted responses,
//! responses that end the stream permanently, and failures that are retried.

mod support;

use std::io::Write as _;

use serde_json::{Value, json};
use support::contract::{Exchange, Followed, Origin, Service};
use support::unused_address;

/// Parameters for reconnecting without delay.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

/// Responds with a stream of one event, and asserts that the client reports it.
fn open_and_deliver(stream: &Followed<'_>, exchange: &mut Exchange) {
    exchange.open();
    exchange.write("data: it works\n\n");
    let report = stream.next_report();
    assert_eq!(report["event"]["data"], "it works", "{report}");
}

#[test]
fn redirects_are_followed_and_reconnections_use_the_final_url() {
    let (service, origin, other) = (Service::start(), Origin::start(), Origin::start());
    let stream = service.follow(&origin.url("/a/b/c?d#e"), at_once());
    for (location, path) in [
        ("/a/x", "/a/x"),
        ("y?z=1", "/a/y?z=1"),
        ("?q", "/a/y?q"),
        ("../up/./here/../there", "/up/there"),
        (&origin.url("/absolute"), "/absolute"),
        (&origin.url(""), "/"),
        (&format!("//{}/no/scheme", origin.address), "/no/scheme"),
        ("/sp ace/\u{E9}", "/sp%20ace/%C3%A9"),
        ("#fragment", "/sp%20ace/%C3%A9"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            origin.accept().redirect(status, location);
            let mut exchange = origin.accept();
            assert_eq!(exchange.line(), format!("GET {path} HTTP/1.1"), "{location}");
            open_and_deliver(&stream, &mut exchange);
            drop(exchange);
            stream.expect_error();
            // Reconnections go to the redirected URL, and the next location is relative to it.
            let exchange = origin.accept();
            assert_eq!(exchange.line(), format!("GET {path} HTTP/1.1"), "{location}");
            drop(exchange);
            stream.expect_error();
        }
    }
    origin.accept().redirect(308, &other.url("/other"));
    let mut exchange = other.accept();
    assert_eq!(exchange.header("host"), Some(&*other.address.to_string()));
    open_and_deliver(&stream, &mut exchange);
    origin.assert_no_request();
}

#[test]
fn redirects_keep_the_method_or_change_it_to_get() {
    let service = Service::start();
    for (method, status, then) in [
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
        ("REPORT", 301, "REPORT"),
        ("REPORT", 302, "REPORT"),
        ("REPORT", 303, "GET"),
        ("REPORT", 307, "REPORT"),
    ] {
        let origin = Origin::start();
        let parameters = json!({
            "method": method, "body": "{}", "initialDelayMs": 0,
            "headers": { "content-type": "application/json", "x-mine": "1" },
        });
        let stream = service.follow(&origin.url("/"), parameters);
        let mut exchange = origin.accept();
        assert_eq!((exchange.line(), &*exchange.body), (&*format!("{method} / HTTP/1.1"), "{}"));
        exchange.redirect(status, "/to");
        let keeps_method = method == then;
        // The redirected request, and the reconnection after it.
        for _ in 0..2 {
            let exchange = origin.accept();
            assert_eq!(exchange.line(), format!("{then} /to HTTP/1.1"), "{method} {status}");
            assert_eq!(exchange.body, if keeps_method { "{}" } else { "" });
            assert_eq!(exchange.header("content-type").is_some(), keeps_method);
            assert_eq!(exchange.header("content-length").is_some(), keeps_method);
            assert_eq!(exchange.header("x-mine"), Some("1"));
            drop(exchange);
            stream.expect_error();
        }
    }
}

#[test]
fn credentials_are_not_sent_to_another_origin() {
    let (service, origin, other) = (Service::start(), Origin::start(), Origin::start());
    let headers = json!({ "authorization": "Bearer x", "cookie": "a=b", "x-mine": "1" });
    let parameters = json!({ "headers": headers, "initialDelayMs": 0 });
    let stream = service.follow(&origin.url("/"), parameters);
    origin.accept().redirect(307, "/same");
    let mut exchange = origin.accept();
    assert_eq!(
        (exchange.header("authorization"), exchange.header("cookie")),
        (Some("Bearer x"), Some("a=b"))
    );
    exchange.redirect(307, &other.url("/other"));
    drop(exchange);
    for _ in 0..2 {
        let exchange = other.accept();
        assert_eq!((exchange.header("authorization"), exchange.header("cookie")), (None, None));
        assert_eq!(exchange.header("x-mine"), Some("1"));
        drop(exchange);
        stream.expect_error();
    }
}

#[test]
fn redirects_without_a_location_or_to_a_rejected_response_are_permanent() {
    let (service, origin) = (Service::start(), Origin::start());
    for status in [301, 302, 303, 307, 308] {
        for location in ["", "Location:\r\n", "Location: \t\r\n"] {
            let stream = service.follow(&origin.url("/"), at_once());
            origin.accept().write(format!("HTTP/1.1 {status} Where\r\n{location}\r\n"));
            assert!(stream.expect_error().contains(&status.to_string()));
            stream.assert_closed(&origin);
        }
        for target in [404, 204] {
            let stream = service.follow(&origin.url("/"), at_once());
            origin.accept().redirect(status, "/end");
            origin.accept().write(format!("HTTP/1.1 {target} End\r\n\r\n"));
            assert!(stream.expect_error().contains(&target.to_string()));
            stream.assert_closed(&origin);
        }
    }
}

#[test]
fn unusable_redirects_are_retried() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    for n in 0..20 {
        origin.accept().redirect(307, &format!("/{n}"));
    }
    open_and_deliver(&stream, &mut origin.accept());
    stream.expect_error();
    for n in 0..21 {
        origin.accept().redirect(302, &format!("/again/{n}"));
    }
    assert_eq!(stream.expect_error(), "too many redirects");
    open_and_deliver(&stream, &mut origin.accept());

    for (locations, error) in [
        ("Location: http://\r\n", "empty host"),
        ("Location: ftp://127.0.0.1/\r\n", "is not http"),
        ("Location: /a\r\nLocation: /b\r\n", "several places"),
    ] {
        let origin = Origin::start();
        let stream = service.follow(&origin.url("/"), at_once());
        origin.accept().write(format!("HTTP/1.1 301 Where\r\n{locations}\r\n"));
        let said = stream.expect_error();
        assert!(said.contains(error), "{said}");
    }
    let origin = Origin::start();
    let stream = service.follow(&origin.url("/"), at_once());
    origin.accept().write("HTTP/1.1 301 Twice\r\nLocation: /a\r\nLocation: /a\r\n\r\n");
    open_and_deliver(&stream, &mut origin.accept());
}

#[test]
fn any_status_other_than_200_is_permanent() {
    let (service, origin) = (Service::start(), Origin::start());
    for status in [
        201, 202, 203, 204, 205, 206, 210, 226, 299, 300, 304, 305, 306, 400, 401, 403, 404, 407,
        410, 429, 500, 501, 502, 503, 504, 599,
    ] {
        let answer = format!(
            "HTTP/1.1 {status} So\r\nContent-Type: text/event-stream\r\nRetry-After: 0\r\n\r\n\
             data: no event\n\n"
        );
        let stream = service.follow(&origin.url("/"), at_once());
        origin.accept().write(&answer);
        assert!(stream.expect_error().contains(&status.to_string()));
        stream.assert_closed(&origin);
        // The same applies to reconnections.
        let stream = service.follow(&origin.url("/"), at_once());
        open_and_deliver(&stream, &mut origin.accept());
        stream.expect_error();
        origin.accept().write(&answer);
        assert!(stream.expect_error().contains(&status.to_string()));
        stream.assert_closed(&origin);
    }
}

#[test]
fn the_last_valid_content_type_decides() {
    let service = Service::start();
    let answer = |origin: &Origin, types: &[&str]| {
        let stream = service.follow(&origin.url("/"), at_once());
        let headers: Vec<String> =
            types.iter().map(|one| format!("Content-Type:{one}\r\n")).collect();
        let headers = headers.concat();
        let mut exchange = origin.accept();
        exchange.write(format!("HTTP/1.1 200 OK\r\n{headers}\r\ndata: caf\u{E9}\n\n"));
        stream
    };
    for good in [
        &["text/event-stream"][..],
        &[" Text/EVENT-Stream;"],
        &[" text/event-stream ; charset=UTF-8"],
        &[" text/event-stream;charset=\"utf8\";x"],
        &[" text/event-stream; charset=windows-1252"],
        &[" text/html, text/event-stream"],
        &[" text/html", " text/event-stream"],
        &[" text/event-stream, bogus"],
        &[" text/event-stream", ""],
    ] {
        answer(&Origin::start(), good).expect_event("", "caf\u{E9}");
    }
    for bad in [
        &[][..],
        &[""],
        &[" text/event-stream, text/html"],
        &[" text/event-stream", " text/html"],
        &[" text/event-stream bla"],
        &[" text/event-streambla"],
        &[" text / event-stream"],
        &[" x bogus"],
        &[" */*"],
        &[" text/plain"],
    ] {
        let origin = Origin::start();
        let stream = answer(&origin, bad);
        assert!(stream.expect_error().contains("content type"));
        stream.assert_closed(&origin);
    }
}

#[test]
fn interim_responses_are_skipped() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let early =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Type: text/html\r\n\r\n";
    let mut exchange = origin.accept();
    exchange.write(early);
    exchange.write("HTTP/1.1 100 Continue\r\n\r\n");
    open_and_deliver(&stream, &mut exchange);
    drop(exchange);
    stream.expect_error();
    let mut exchange = origin.accept();
    exchange.write(format!(
        "{early}{early}HTTP/1.1 200\r\nContent-Type: text/event-stream\r\n\r\ndata: at once\n\n"
    ));
    stream.expect_event("", "at once");
    drop(exchange);
    stream.expect_error();
    origin.accept().write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n");
    assert!(stream.expect_error().contains("101"));
    stream.assert_closed(&origin);
}

#[test]
fn malformed_header_lines_are_ignored() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut exchange = origin.accept();
    exchange.write(
        "HTTP/1.1 200 All is well\r\nno header\r\nServer: caf\u{E9}\r\nbad name: 1\r\n\
         Content-Type : text/event-stream\r\n\r\ndata: a\n\n",
    );
    stream.expect_event("", "a");
}

#[test]
fn a_response_is_used_even_if_the_request_was_not_read() {
    let (service, origin) = (Service::start(), Origin::start());
    let body = "x".repeat(700 << 10);
    let parameters = json!({ "method": "POST", "body": body, "initialDelayMs": 600_000 });
    let stream = service.follow(&origin.url("/"), parameters);
    let mut connection = origin.connection();
    connection.write_all(b"HTTP/1.1 413 Content Too Large\r\n\r\n").unwrap();
    drop(connection);
    assert!(stream.expect_error().contains("413"));
    stream.assert_closed(&origin);
}

#[test]
fn failed_and_malformed_responses_are_retried() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    drop(origin.connection());
    stream.expect_error();
    drop(origin.accept());
    stream.expect_error();
    origin.accept().reset();
    stream.expect_error();
    for no_response in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "data: a\n\n",
        "HTTP/1.1 000 None\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n",
    ] {
        origin.accept().write(no_response);
        stream.expect_error();
    }
    // Bodies with a framing or coding that the client does not support.
    for (header, what) in [
        ("Transfer-Encoding: gzip, chunked", "transfer coding"),
        ("Content-Encoding: gzip", "content coding"),
        ("Content-Length: 1\r\nContent-Length: 2", "content length"),
        ("Content-Length: 1, 2", "content length"),
        ("Content-Length: -1", "content length"),
        ("Content-Length: +1", "content length"),
    ] {
        let mut exchange = origin.accept();
        exchange.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{header}\r\n\r\n"
        ));
        let said = stream.expect_error();
        assert!(said.contains(what), "{said}");
    }
    // A head that never ends.
    let mut exchange = origin.accept();
    exchange.write("HTTP/1.1 200 OK\r\n");
    while exchange.socket.write_all(&[b'a'; 4096]).is_ok() {}
    assert!(stream.expect_error().contains("too large"));
    open_and_deliver(&stream, &mut origin.accept());
    assert_eq!(stream.stop(), 204);

    // A refused connection, and then a server that listens on the address.
    let address = unused_address();
    let parameters = json!({ "initialDelayMs": 20 });
    let stream = service.follow(&format!("http://{address}/"), parameters);
    stream.expect_error();
    let origin = Origin::on(&address.to_string());
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: there\n\n");
    while stream.next_report()["event"]["data"] != "there" {}
}
