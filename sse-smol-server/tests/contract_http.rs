//! The client of the examples, by way of the contract service: which responses it follows, which
//! it takes, which end it for good, and what is no response at all.

mod support;

use std::io::Write as _;
use std::net::TcpListener;

use serde_json::{Value, json};
use support::contract::{Followed, Origin, Service, Visit};

/// Without a wait before the next connection.
fn at_once() -> Value {
    json!({ "initialDelayMs": 0 })
}

/// Answers with a stream of one event, which arrives.
fn works(stream: &Followed<'_>, visit: &mut Visit) {
    visit.open();
    visit.write("data: it works\n\n");
    let report = stream.next();
    assert_eq!(report["event"]["data"], "it works", "{report}");
}

#[test]
fn redirects_are_followed_wherever_they_lead() {
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
            let mut visit = origin.accept();
            assert_eq!(visit.line(), format!("GET {path} HTTP/1.1"), "{location}");
            works(&stream, &mut visit);
            drop(visit);
            stream.error();
            // What is made again is the request as it has become: the next location is relative to
            // this one.
            let visit = origin.accept();
            assert_eq!(visit.line(), format!("GET {path} HTTP/1.1"), "{location}");
            drop(visit);
            stream.error();
        }
    }
    origin.accept().redirect(308, &other.url("/other"));
    let mut visit = other.accept();
    assert_eq!(visit.header("host"), Some(&*other.address.to_string()));
    works(&stream, &mut visit);
    origin.is_quiet();
}

#[test]
fn redirects_keep_the_method_or_make_it_get() {
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
        let mut visit = origin.accept();
        assert_eq!((visit.line(), &*visit.body), (&*format!("{method} / HTTP/1.1"), "{}"));
        visit.redirect(status, "/to");
        let keeps = method == then;
        // The request that follows, and the one that follows upon that.
        for _ in 0..2 {
            let visit = origin.accept();
            assert_eq!(visit.line(), format!("{then} /to HTTP/1.1"), "{method} {status}");
            assert_eq!(visit.body, if keeps { "{}" } else { "" });
            assert_eq!(visit.header("content-type").is_some(), keeps);
            assert_eq!(visit.header("content-length").is_some(), keeps);
            assert_eq!(visit.header("x-mine"), Some("1"));
            drop(visit);
            stream.error();
        }
    }
}

#[test]
fn secrets_stay_with_their_origin() {
    let (service, origin, other) = (Service::start(), Origin::start(), Origin::start());
    let headers = json!({ "authorization": "Bearer x", "cookie": "a=b", "x-mine": "1" });
    let parameters = json!({ "headers": headers, "initialDelayMs": 0 });
    let stream = service.follow(&origin.url("/"), parameters);
    origin.accept().redirect(307, "/same");
    let mut visit = origin.accept();
    assert_eq!(
        (visit.header("authorization"), visit.header("cookie")),
        (Some("Bearer x"), Some("a=b"))
    );
    visit.redirect(307, &other.url("/other"));
    drop(visit);
    for _ in 0..2 {
        let visit = other.accept();
        assert_eq!((visit.header("authorization"), visit.header("cookie")), (None, None));
        assert_eq!(visit.header("x-mine"), Some("1"));
        drop(visit);
        stream.error();
    }
}

#[test]
fn redirects_that_lead_nowhere_are_the_end() {
    let (service, origin) = (Service::start(), Origin::start());
    for status in [301, 302, 303, 307, 308] {
        for location in ["", "Location:\r\n", "Location: \t\r\n"] {
            let stream = service.follow(&origin.url("/"), at_once());
            origin.accept().write(format!("HTTP/1.1 {status} Where\r\n{location}\r\n"));
            assert!(stream.error().contains(&status.to_string()));
            stream.is_closed(&origin);
        }
        for target in [404, 204] {
            let stream = service.follow(&origin.url("/"), at_once());
            origin.accept().redirect(status, "/end");
            origin.accept().write(format!("HTTP/1.1 {target} End\r\n\r\n"));
            assert!(stream.error().contains(&target.to_string()));
            stream.is_closed(&origin);
        }
    }
}

#[test]
fn redirects_that_lead_astray_are_an_error_like_any_other() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    for n in 0..20 {
        origin.accept().redirect(307, &format!("/{n}"));
    }
    works(&stream, &mut origin.accept());
    stream.error();
    for n in 0..21 {
        origin.accept().redirect(302, &format!("/again/{n}"));
    }
    assert_eq!(stream.error(), "too many redirects");
    works(&stream, &mut origin.accept());

    for (locations, error) in [
        ("Location: http://\r\n", "empty host"),
        ("Location: ftp://127.0.0.1/\r\n", "is not http"),
        ("Location: /a\r\nLocation: /b\r\n", "several places"),
    ] {
        let origin = Origin::start();
        let stream = service.follow(&origin.url("/"), at_once());
        origin.accept().write(format!("HTTP/1.1 301 Where\r\n{locations}\r\n"));
        let said = stream.error();
        assert!(said.contains(error), "{said}");
    }
    let origin = Origin::start();
    let stream = service.follow(&origin.url("/"), at_once());
    origin.accept().write("HTTP/1.1 301 Twice\r\nLocation: /a\r\nLocation: /a\r\n\r\n");
    works(&stream, &mut origin.accept());
}

#[test]
fn any_status_but_200_is_the_end() {
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
        assert!(stream.error().contains(&status.to_string()));
        stream.is_closed(&origin);
        // On reconnection as well.
        let stream = service.follow(&origin.url("/"), at_once());
        works(&stream, &mut origin.accept());
        stream.error();
        origin.accept().write(&answer);
        assert!(stream.error().contains(&status.to_string()));
        stream.is_closed(&origin);
    }
}

#[test]
fn the_last_content_type_that_is_one_decides() {
    let service = Service::start();
    let answer = |origin: &Origin, types: &[&str]| {
        let stream = service.follow(&origin.url("/"), at_once());
        let headers: Vec<String> =
            types.iter().map(|one| format!("Content-Type:{one}\r\n")).collect();
        let headers = headers.concat();
        let mut visit = origin.accept();
        visit.write(format!("HTTP/1.1 200 OK\r\n{headers}\r\ndata: caf\u{E9}\n\n"));
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
        answer(&Origin::start(), good).event("", "caf\u{E9}");
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
        assert!(stream.error().contains("content type"));
        stream.is_closed(&origin);
    }
}

#[test]
fn interim_responses_are_as_if_they_were_not_there() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let early =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Type: text/html\r\n\r\n";
    let mut visit = origin.accept();
    visit.write(early);
    visit.write("HTTP/1.1 100 Continue\r\n\r\n");
    works(&stream, &mut visit);
    drop(visit);
    stream.error();
    let mut visit = origin.accept();
    visit.write(format!(
        "{early}{early}HTTP/1.1 200\r\nContent-Type: text/event-stream\r\n\r\ndata: at once\n\n"
    ));
    stream.event("", "at once");
    drop(visit);
    stream.error();
    origin.accept().write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\n");
    assert!(stream.error().contains("101"));
    stream.is_closed(&origin);
}

#[test]
fn lines_of_a_head_that_mean_nothing_do_no_harm() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    let mut visit = origin.accept();
    visit.write(
        "HTTP/1.1 200 All is well\r\nno header\r\nServer: caf\u{E9}\r\nbad name: 1\r\n\
         Content-Type : text/event-stream\r\n\r\ndata: a\n\n",
    );
    stream.event("", "a");
}

#[test]
fn an_answer_counts_though_the_request_was_not_read() {
    let (service, origin) = (Service::start(), Origin::start());
    let body = "x".repeat(700 << 10);
    let parameters = json!({ "method": "POST", "body": body, "initialDelayMs": 600_000 });
    let stream = service.follow(&origin.url("/"), parameters);
    let mut connection = origin.connection();
    connection.write_all(b"HTTP/1.1 413 Content Too Large\r\n\r\n").unwrap();
    drop(connection);
    assert!(stream.error().contains("413"));
    stream.is_closed(&origin);
}

#[test]
fn what_is_no_response_is_tried_again() {
    let (service, origin) = (Service::start(), Origin::start());
    let stream = service.follow(&origin.url("/"), at_once());
    drop(origin.connection());
    stream.error();
    drop(origin.accept());
    stream.error();
    origin.accept().reset();
    stream.error();
    for no_response in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "data: a\n\n",
        "HTTP/1.1 000 None\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n",
    ] {
        origin.accept().write(no_response);
        stream.error();
    }
    // Streams that nobody can read.
    for (header, what) in [
        ("Transfer-Encoding: gzip, chunked", "transfer coding"),
        ("Content-Encoding: gzip", "content coding"),
        ("Content-Length: 1\r\nContent-Length: 2", "content length"),
        ("Content-Length: 1, 2", "content length"),
        ("Content-Length: -1", "content length"),
        ("Content-Length: +1", "content length"),
    ] {
        let mut visit = origin.accept();
        visit.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{header}\r\n\r\n"
        ));
        let said = stream.error();
        assert!(said.contains(what), "{said}");
    }
    // Heads have an end; this one would have none.
    let mut visit = origin.accept();
    visit.write("HTTP/1.1 200 OK\r\n");
    while visit.socket.write_all(&[b'a'; 4096]).is_ok() {}
    assert!(stream.error().contains("too large"));
    works(&stream, &mut origin.accept());
    assert_eq!(stream.stop(), 204);

    // Nobody listens there, and then somebody does.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let parameters = json!({ "initialDelayMs": 20 });
    let stream = service.follow(&format!("http://{address}/"), parameters);
    stream.error();
    let origin = Origin::on(&address.to_string());
    let mut visit = origin.accept();
    visit.open();
    visit.write("data: there\n\n");
    while stream.next()["event"]["data"] != "there" {}
}
