//! The client example against the binary: it reconnects, resumes, and knows when there is no more.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use support::contract::Origin;
use support::{Binary, read_response, send};

struct Tail {
    child: Child,
    lines: BufReader<ChildStdout>,
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
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Type, id and data of the next event, with `--json`.
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
fn it_resumes_where_it_was_when_the_server_ends_its_stream() {
    let server = Binary::start(&["--drain", "0"]);
    let listen = server.address.to_string();
    let url = format!("http://{listen}/topics/a");
    let first = publish(&server, "one");
    let mut tail = Tail::start(&["--json", "--last-event-id", "earliest", &url]);
    assert_eq!(tail.next(), ("message".to_owned(), first, "one".to_owned()));
    let second = publish(&server, "two");
    assert_eq!(tail.next(), ("message".to_owned(), second.clone(), "two".to_owned()));

    // The next run knows nothing of this one's ids, and says so.
    let (_, clean, log) = server.stop("-TERM");
    assert!(clean, "{log}");
    let server = Binary::start_on(&listen, &[]);
    let (event_type, _, data) = tail.next();
    assert_eq!(event_type, "gap");
    let told: Value = serde_json::from_str(&data).unwrap();
    assert_eq!((&told["reason"], &told["requested"]), (&"unknown".into(), &second.into()));
    for n in 0..10 {
        let id = publish(&server, &n.to_string());
        assert_eq!(tail.next(), ("message".to_owned(), id, n.to_string()));
    }
}

#[test]
fn it_ends_when_the_server_says_that_there_is_no_more() {
    let server = Binary::start(&[]);
    let mut tail =
        Tail::start(&["--last-event-id", "8", &format!("http://{}/counter", server.address)]);
    let mut printed = String::new();
    tail.lines.read_to_string(&mut printed).unwrap();
    assert!(printed.ends_with(" counter [9] 9\n") && printed.lines().count() == 1, "{printed}");
    let mut errors = String::new();
    tail.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("the status is 204"), "{errors}");
    assert!(tail.child.wait().unwrap().success());
}

#[test]
fn it_comes_back_when_a_busy_server_told_it_to() {
    let origin = Origin::start();
    let mut tail = Tail::start(&["--json", &origin.url("/")]);
    origin.accept().write("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n");
    let mut visit = origin.accept();
    visit.open();
    visit.write("data: a\n\n");
    assert_eq!(tail.next(), ("message".to_owned(), String::new(), "a".to_owned()));
}

#[test]
fn it_refuses_what_it_cannot_follow() {
    for arguments in [&["https://127.0.0.1/"][..], &["a"], &["--last-event-id=\n", "http://a/"]] {
        assert!(!Tail::start(arguments).child.wait().unwrap().success(), "{arguments:?}");
    }
}
