//! Tests the client example `tail`: reconnecting, resuming, and ending.

mod support;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
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
        // Examples are built beside the tests.
        let mut path = PathBuf::from(env!("CARGO_BIN_EXE_sse-smol-server"));
        path.pop();
        let mut child = Command::new(path.join("examples/tail"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example is built");
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
    assert!(printed.ends_with(" counter [9] 9\n") && printed.lines().count() == 1, "{printed}");
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
    for (answer, reason) in answers {
        let url = origin.url("/a");
        let mut tail = Tail::start(&[&url]);
        origin.accept().write(&answer);
        let (code, errors) = tail.end();
        assert_eq!((code, errors), (1, format!("error: {url}: {reason}\n")));
    }
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
    assert!(errors.starts_with("open\nthe stream has ended\nerror: "), "{errors}");
}

#[test]
fn it_fails_when_the_first_response_is_404() {
    let server = Binary::start(&[]);
    let url = format!("http://{}/no/such/route", server.address);
    let (code, errors) = Tail::start(&[&url]).end();
    assert_eq!((code, errors), (1, format!("error: {url}: the status is 404, not 200\n")));
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
    assert_eq!(tail.end(), (0, "open\n".to_owned()));
}

#[test]
fn it_rejects_invalid_arguments() {
    for (arguments, reason) in [
        (&["https://127.0.0.1/"][..], "https://127.0.0.1/ is not http"),
        (&["file:///a"], "file:///a is not http"),
        (&["a"], "relative URL without a base"),
        (&[], "<URL>"),
        (&["http://a/", "b"], "unexpected argument 'b'"),
        (&["--no-such", "http://a/"], "--no-such"),
        (&["--last-event-id=\n", "http://a/"], "event id holds a line feed at byte 0"),
        (&["--last-event-id", &"x".repeat(9000), "http://a/"], "8192 bytes"),
        (&["--read-timeout=0", "http://a/"], "--read-timeout"),
        (&["--read-timeout=-1", "http://a/"], "--read-timeout"),
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
