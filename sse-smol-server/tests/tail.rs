//! The command `tail`: output, reconnecting, resuming, and exit codes.

mod support;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::contract::Origin;
use support::{Binary, read_response, send};

struct Tail {
    child: Child,
    lines: BufReader<Box<dyn Read>>,
}

impl Tail {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .arg("tail")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Box<dyn Read> = Box::new(child.stdout.take().unwrap());
        let lines = BufReader::new(lines);
        Self { child, lines }
    }

    /// Waits for the process to exit. Returns the exit code and the standard error.
    fn end(&mut self) -> (i32, String) {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().expect("no signal"), errors)
    }

    /// Returns type, ID and data of the next event. Needs `--json`.
    fn next(&mut self) -> (String, String, String) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("type"), text("id"), text("data"))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn publish(server: &Binary, data: &str) -> String {
    let (address, length) = (server.address, data.len());
    let mut socket = send(
        address,
        &format!(
            "POST /topics/a HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{data}"
        ),
    );
    let (status, _, body) = read_response(&mut socket);
    assert_eq!(status, 201);
    let answer: Value = serde_json::from_str(&body).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

#[test]
fn it_resumes_after_the_last_event_when_the_server_restarts() {
    let server = Binary::start(&["--drain", "0"]);
    let listen = server.address.to_string();
    let url = format!("http://{listen}/topics/a");
    let first = publish(&server, "one");
    let mut tail = Tail::start(&["--json", "--last-event-id", "earliest", &url]);
    assert_eq!(tail.next(), ("message".to_owned(), first, "one".to_owned()));
    let second = publish(&server, "two");
    assert_eq!(tail.next(), ("message".to_owned(), second.clone(), "two".to_owned()));

    // The next run of the server does not know the IDs of this one, and sends a gap.
    let (_, clean, log) = server.stop("-TERM");
    assert!(clean, "{log}");
    let server = Binary::start_on(&listen, &[]);
    let (event_type, _, data) = tail.next();
    assert_eq!(event_type, "gap");
    let gap: Value = serde_json::from_str(&data).unwrap();
    assert_eq!((&gap["reason"], &gap["requested"]), (&"unknown".into(), &second.into()));
    for n in 0..10 {
        let id = publish(&server, &n.to_string());
        assert_eq!(tail.next(), ("message".to_owned(), id, n.to_string()));
    }
}

#[test]
fn it_ends_when_the_server_responds_with_204() {
    let server = Binary::start(&[]);
    let mut tail =
        Tail::start(&["--last-event-id", "8", &format!("http://{}/counter", server.address)]);
    let mut printed = String::new();
    tail.lines.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "counter [9] 9\n");
    let (code, errors) = tail.end();
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("the stream has ended: the status is 204"), "{errors}");
    assert!(!errors.contains("error:"), "{errors}");
}

#[test]
fn it_retries_after_a_503_with_retry_after() {
    let origin = Origin::start();
    let mut tail = Tail::start(&["--json", &origin.url("/")]);
    origin.accept().write("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n");
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: a\n\n");
    assert_eq!(tail.next(), ("message".to_owned(), String::new(), "a".to_owned()));
}

#[test]
fn it_fails_when_the_response_is_rejected() {
    let origin = Origin::start();
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n";
    let untyped = "HTTP/1.1 200 OK\r\n\r\n";
    let mut answers = vec![
        (html.to_owned(), "the content type is not text/event-stream".to_owned()),
        (untyped.to_owned(), "the content type is not text/event-stream".to_owned()),
    ];
    // Includes a 503 without `Retry-After` and redirects without `Location`.
    for status in [201, 205, 206, 302, 304, 400, 401, 403, 404, 410, 429, 500, 502, 503] {
        let type_of_stream = "Content-Type: text/event-stream\r\n";
        let answer = format!("HTTP/1.1 {status} X\r\n{type_of_stream}Content-Length: 0\r\n\r\n");
        answers.push((answer, format!("the status is {status}, not 200")));
    }
    // A reason is read if it is a short plain text, and as far as it arrives.
    for (body, reason) in [
        (
            "Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nno\x1b\n   more",
            ": no\\u{1b} more",
        ),
        ("Content-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>", ""),
        ("Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nno more", ": no more"),
        (&format!("Content-Type: text/plain\r\n\r\n{}", "x".repeat(5000)), ""),
    ] {
        let answer = format!("HTTP/1.1 400 Bad Request\r\n{body}");
        answers.push((answer, format!("the status is 400, not 200{reason}")));
    }
    for (answer, reason) in answers {
        let url = origin.url("/a");
        let mut tail = Tail::start(&[&url]);
        origin.accept().write(&answer);
        let (code, errors) = tail.end();
        assert_eq!((code, errors), (1, format!("error: {url}: {reason}\n")));
    }
}

#[test]
fn it_does_not_wait_for_a_reason_that_does_not_arrive() {
    let origin = Origin::start();
    let url = origin.url("/a");
    let mut tail = Tail::start(&[&url]);
    let mut exchange = origin.accept();
    exchange.write("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno");
    // The connection stays open.
    assert_eq!(tail.end(), (1, format!("error: {url}: the status is 404, not 200\n")));
    drop(exchange);
}

#[test]
fn it_fails_when_a_later_response_is_rejected() {
    let origin = Origin::start();
    let mut tail = Tail::start(&["--json", &origin.url("/")]);
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("retry: 1\ndata: a\n\n");
    assert_eq!(tail.next().2, "a");
    drop(exchange);
    origin.accept().write("HTTP/1.1 404 Not Found\r\n\r\n");
    let (code, errors) = tail.end();
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.starts_with("connected\nthe stream has ended; reconnecting\nerror: "),
        "{errors}"
    );
}

#[test]
fn it_prints_the_reason_of_a_first_response_with_404() {
    let server = Binary::start(&[]);
    let url = format!("http://{}/no/such/route", server.address);
    let (code, errors) = Tail::start(&[&url]).end();
    let reason = "There is nothing at this path. The page / lists the routes.";
    let expected = format!("error: {url}: the status is 404, not 200: {reason}\n");
    assert_eq!((code, errors), (1, expected));
}

#[test]
fn it_does_not_spin_when_the_reconnection_time_is_zero() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 0\n\n",
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n",
    ] {
        let origin = Origin::start();
        let _tail = Tail::start(&[&origin.url("/")]);
        origin.accept().write(answer);
        let begun = Instant::now();
        for _ in 0..3 {
            origin.accept().write(answer);
        }
        assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    }
}

#[test]
fn it_ends_when_its_output_is_closed() {
    let origin = Origin::start();
    let mut tail = Tail::start(&[&origin.url("/")]);
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: a\n\n");
    let mut line = String::new();
    tail.lines.read_line(&mut line).unwrap();
    // Closes the output, as `head -1` does.
    let child = &mut tail.child;
    drop(std::mem::replace(&mut tail.lines, BufReader::new(Box::new(io::empty()))));
    while child.try_wait().unwrap().is_none() {
        if exchange.socket.write_all(b"data: b\n\n").is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(tail.end(), (0, "connected\n".to_owned()));
}

/// Serves one stream with this body, and returns what is printed of it.
fn printed(arguments: &[&str], body: &str) -> String {
    let origin = Origin::start();
    let mut tail = Tail::start(&[arguments, &[&origin.url("/")]].concat());
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write(body);
    drop(exchange);
    origin.accept().write("HTTP/1.1 204 No Content\r\n\r\n");
    let mut printed = String::new();
    tail.lines.read_to_string(&mut printed).unwrap();
    assert_eq!(tail.end().0, 0);
    printed
}

#[test]
fn events_are_printed_in_the_chosen_form() {
    let body = "retry: 1\ndata: a\n\nevent: t\nid: 7\ndata: two\ndata: \"lines\"\n\ndata: \x1b[31m\tred\n\n";
    assert_eq!(
        printed(&[], body),
        "message a\nt [7] two\n  \"lines\"\nmessage [7] \\u{1b}[31m\tred\n"
    );
    assert_eq!(printed(&["--raw"], body), "a\ntwo\n\"lines\"\n\x1b[31m\tred\n");
    let lines = [
        r#"{"type":"message","id":"","data":"a"}"#,
        r#"{"type":"t","id":"7","data":"two\n\"lines\""}"#,
        r#"{"type":"message","id":"7","data":"\u001b[31m\tred"}"#,
    ];
    assert_eq!(printed(&["--json"], body), lines.join("\n") + "\n");
}

#[test]
fn an_event_that_is_too_large_is_reported_and_left_out() {
    let origin = Origin::start();
    let mut tail = Tail::start(&["--raw", "--count", "1", &origin.url("/")]);
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write(format!("data: {}\n\ndata: a\n\n", "x".repeat(17 << 20)));
    let (code, errors) = tail.end();
    assert_eq!((code, errors.lines().count()), (0, 2), "{errors}");
    assert!(!errors.contains("reconnecting"), "{errors}");
    let mut printed = String::new();
    tail.lines.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "a\n");
}

#[test]
fn it_ends_after_a_number_of_events() {
    let origin = Origin::start();
    let mut tail = Tail::start(&["--raw", "--count", "2", &origin.url("/")]);
    let mut exchange = origin.accept();
    exchange.open();
    exchange.write("data: a\n\ndata: b\n\ndata: c\n\n");
    assert_eq!(tail.end(), (0, "connected\n".to_owned()));
    let mut printed = String::new();
    tail.lines.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "a\nb\n");
}

#[test]
fn it_ends_by_sigint_as_other_programs_do() {
    let origin = Origin::start();
    let mut tail = Tail::start(&[&origin.url("/")]);
    origin.accept().open();
    let pid = tail.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(tail.child.wait().unwrap().signal(), Some(2));
}

#[test]
fn it_fails_when_the_first_connection_fails() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/");
    let (code, errors) = Tail::start(&[&url]).end();
    let reason = format!("error: {url}: cannot connect to {free}: Connection refused");
    assert!(code == 3 && errors.starts_with(&reason), "{code} {errors}");

    let (code, errors) = Tail::start(&["unix:/no/such/socket:/"]).end();
    let reason = "error: unix:/no/such/socket:/: cannot connect to /no/such/socket: No such file";
    assert!(code == 3 && errors.starts_with(reason), "{code} {errors}");

    // A response that is not one of HTTP.
    let origin = Origin::start();
    let mut tail = Tail::start(&[&origin.url("/")]);
    origin.accept().write("SSH-2.0-x\r\n\r\n");
    let (code, errors) = tail.end();
    assert_eq!(code, 3, "{errors}");

    // No response.
    let origin = Origin::start();
    let mut tail = Tail::start(&["--read-timeout", "1", &origin.url("/")]);
    let _open = origin.accept();
    let (code, errors) = tail.end();
    assert!(code == 3 && errors.ends_with("no data has come for too long\n"), "{code} {errors}");
}

#[test]
fn it_sends_headers() {
    let origin = Origin::start();
    let url = origin.url("/a?b#c");
    let _tail = Tail::start(&["-H", "A:b", "--header", "Authorization: Bearer c", "-H=A: d", &url]);
    let exchange = origin.accept();
    assert_eq!(exchange.line(), "GET /a?b HTTP/1.1");
    assert_eq!(exchange.header("authorization"), Some("Bearer c"));
    let values: Vec<_> = exchange.head.lines().filter(|line| line.starts_with("a: ")).collect();
    assert_eq!(values, ["a: b", "a: d"]);
}

#[test]
fn redirects_do_not_lead_to_unix_sockets() {
    let origin = Origin::start();
    let mut tail = Tail::start(&[&origin.url("/")]);
    origin.accept().redirect(307, "unix:/run/x:/");
    let (code, errors) = tail.end();
    assert!(code == 3 && errors.contains("unix:/run/x:/ is not http"), "{code} {errors}");
}

#[test]
fn it_rejects_invalid_arguments() {
    for (arguments, reason) in [
        (&["https://127.0.0.1/"][..], "there is no TLS here: use `curl -N`"),
        (&["file:///a"], "file:///a is not http"),
        (&["http:///a"], "empty host"),
        (&["http://a:99999/"], "the host or the port is invalid"),
        (&["http://user:password@a/"], "send a header Authorization"),
        (&["http://b\u{fc}cher.example/"], "Punycode"),
        (&["unix:/a"], "unix:SOCKET:/PATH"),
        (&["a b"], "must be a topic"),
        (&[""], "must be a topic"),
        (&[], "<URL>"),
        (&["http://a/", "b"], "unexpected argument 'b'"),
        (&["--no-such", "http://a/"], "--no-such"),
        (&["--last-event-id=\n", "http://a/"], "event id holds a line feed at byte 0"),
        (&["--last-event-id=\u{1}", "http://a/"], "control character"),
        (&["--last-event-id", &"x".repeat(9000), "http://a/"], "8192 bytes"),
        (&["--read-timeout=0", "http://a/"], "--read-timeout"),
        (&["--read-timeout=-1", "http://a/"], "--read-timeout"),
        (&["--count=0", "http://a/"], "must be at least 1"),
        (&["--count", "-1", "http://a/"], "whole number"),
        (&["--json", "--raw", "http://a/"], "cannot be used with"),
        (&["--header", "a", "http://a/"], "there is no colon"),
        (&["--header", "a b: c", "http://a/"], "no name of a header"),
        (&["--header", "a: b\nc", "http://a/"], "the value of a is invalid"),
        (&["--header", "Last-Event-ID: 7", "http://a/"], "use --last-event-id"),
        (&["--header", "Host: a", "http://a/"], "host is set by this command"),
    ] {
        let (code, errors) = Tail::start(arguments).end();
        assert_eq!(code, 2, "{arguments:?}: {errors}");
        assert!(
            errors.starts_with("error: ") && errors.contains(reason),
            "{arguments:?}: {errors}"
        );
    }
    assert_eq!(Tail::start(&["--help"]).end(), (0, String::new()));
}
