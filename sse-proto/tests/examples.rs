//! End-to-end tests of the examples, with real processes and real sockets.
//!
//! `scripts/test` builds and runs `no_std`. The tests of the server run `wasm` in Chromium.

#![cfg(all(feature = "http-body", feature = "serde_json"))]

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The timeout of reads, longer than any successful read takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A running example.
struct Example {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        // Examples are built beside the tests: target/PROFILE/deps/this, target/PROFILE/examples.
        let mut path = env::current_exe().unwrap();
        path.pop();
        path.pop();
        let mut child = Command::new(path.join("examples").join(name))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`cargo test` without filters builds the examples");
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Returns the address that a server prints in its first line.
    fn address(&mut self) -> SocketAddr {
        let url = self.line();
        let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        authority.and_then(|authority| authority.parse().ok()).expect(&url)
    }

    /// Waits for a successful exit, and returns the rest of standard output.
    fn finish(self) -> String {
        let (code, rest, errors) = self.end();
        assert_eq!(code, 0, "{errors}");
        rest
    }

    /// Waits for the exit. Returns the exit code, the rest of standard output, and standard error.
    fn end(mut self) -> (i32, String, String) {
        let (mut rest, mut errors) = (String::new(), String::new());
        self.output.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code().expect("exited without a signal"), rest, errors)
    }

    /// Returns the next line of standard error.
    fn error_line(&mut self) -> String {
        let mut line = Vec::new();
        let errors = self.child.stderr.as_mut().unwrap();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            errors.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a listener on a free port, and its address.
fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Accepts a connection. Returns it, and the head of its request.
fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = read_head(&socket);
    (socket, head)
}

/// Reads a head byte by byte, so that nothing after it is consumed. Returns it in lower case.
fn read_head(mut socket: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Makes a request, and reads the response's head.
fn get(server: SocketAddr, path: &str, headers: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {server}\r\n{headers}\r\n").unwrap();
    let head = read_head(&socket);
    (socket, head)
}

/// Reads chunks of a chunked body until it is as long as `wanted`, and asserts that it is equal.
fn expect_chunks(socket: &TcpStream, wanted: &str) {
    let mut socket = BufReader::new(socket);
    let mut body = Vec::new();
    while body.len() < wanted.len() {
        let mut size = String::new();
        socket.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        socket.read_exact(&mut body[start..]).unwrap();
        body.truncate(start + size);
    }
    assert_eq!(String::from_utf8(body).unwrap(), wanted);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// Tests that an example resumes its stream, and exits after status 204.
fn resumes_and_stops_after_status_204(name: &str) {
    let (server, address) = listen();
    let mut example = Example::start(name, &[&format!("http://{address}/a?b")]);
    let (mut socket, head) = accept(&server);
    assert!(head.starts_with("get /a?b http/1."), "{head}");
    assert!(head.contains("\r\naccept: text/event-stream\r\n"), "{head}");
    assert!(!head.contains("last-event-id"), "{head}");
    socket.write_all(OK).unwrap();
    socket.write_all("retry: 5\nid: 7\nevent: tick\ndata: é\n\n".as_bytes()).unwrap();
    assert_eq!(example.line(), "tick [7] é", "while the connection is open");
    // An event that is too large is dropped, and the connection continues.
    let line = [b"data: ".to_vec(), vec![b'x'; 1 << 20], b"\n".to_vec()].concat();
    for _ in 0..17 {
        socket.write_all(&line).unwrap();
    }
    socket.write_all(b"\ndata: next\n\nid: 8\ndata: cut off").unwrap();
    assert_eq!(example.line(), "message [7] next");
    drop(socket);

    let (mut socket, head) = accept(&server);
    assert!(head.contains("\r\nlast-event-id: 7\r\n"), "{head}");
    socket
        .write_all(b"HTTP/1.1 200 OK\r\nX: caf\xE9\r\nContent-Type: text/event-stream\r\n\r\n")
        .unwrap();
    socket.write_all(b"data: b\n\n").unwrap();
    drop(socket);

    let (mut socket, _) = accept(&server);
    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(example.finish(), "message [7] b\n");
}

#[test]
fn blocking_resumes_and_stops_after_status_204() {
    resumes_and_stops_after_status_204("blocking");
}

#[test]
fn reqwest_resumes_and_stops_after_status_204() {
    resumes_and_stops_after_status_204("reqwest");
}

/// Returns responses that close a client, each with the error that it prints.
fn rejections() -> Vec<(String, String)> {
    let end = "Content-Length: 0\r\n\r\n";
    let content_type = "the content type is not text/event-stream";
    let mut rejections = vec![
        (format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{end}"), content_type.to_owned()),
        (format!("HTTP/1.1 200 OK\r\n{end}"), content_type.to_owned()),
    ];
    for status in [201, 206, 304, 400, 401, 404, 429, 500, 503] {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: text/event-stream\r\n{end}");
        rejections.push((head, format!("the status is {status}, not 200")));
    }
    rejections
}

/// Tests that an example fails if a response is rejected.
fn fails_if_the_response_is_rejected(name: &str) {
    let (server, address) = listen();
    let url = format!("http://{address}/a");
    for (answer, reason) in rejections() {
        let example = Example::start(name, &[&url]);
        accept(&server).0.write_all(answer.as_bytes()).unwrap();
        let (code, output, errors) = example.end();
        assert_eq!((code, &*output), (1, ""), "{errors}");
        assert_eq!(errors, format!("error: {url}: {reason}\n"));
    }
    // The same after a connection that was open.
    let example = Example::start(name, &[&url]);
    let (mut socket, _) = accept(&server);
    socket.write_all(OK).unwrap();
    socket.write_all(b"retry: 5\ndata: a\n\n").unwrap();
    drop(socket);
    let (answer, reason) = rejections().swap_remove(0);
    accept(&server).0.write_all(answer.as_bytes()).unwrap();
    let (code, output, errors) = example.end();
    assert_eq!((code, &*output), (1, "message [] a\n"), "{errors}");
    assert_eq!(errors.lines().last(), Some(&*format!("error: {url}: {reason}")));
}

/// Asserts that an example rejects each of these command lines.
fn rejects_arguments(name: &str, bad: &[&[&str]]) {
    for arguments in bad {
        let (code, output, errors) = Example::start(name, arguments).end();
        assert_eq!((code, &*output), (2, ""), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    }
}

#[test]
fn blocking_fails_if_the_response_is_rejected() {
    fails_if_the_response_is_rejected("blocking");
    let bad: [&[&str]; 7] = [
        &[],
        &["a"],
        &["https://127.0.0.1:1/"],
        &["http://127.0.0.1/"],
        &["http://:80/"],
        &["http://127.0.0.1:port/"],
        &["http://127.0.0.1:65536/"],
    ];
    rejects_arguments("blocking", &bad);
}

#[test]
fn reqwest_fails_if_the_response_is_rejected() {
    fails_if_the_response_is_rejected("reqwest");
    let bad: [&[&str]; 4] = [&[], &["a"], &["ftp://127.0.0.1/"], &["http://"]];
    rejects_arguments("reqwest", &bad);
}

#[test]
fn llm_fails_if_the_response_is_rejected() {
    let (server, address) = listen();
    let base = format!("http://{address}");
    let mut cases = rejections();
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    cases.push((no_content.to_owned(), "the status is 204, not 200".to_owned()));
    let body = "HTTP/1.1 401 X\r\nContent-Length: 7\r\n\r\nbad key";
    cases.push((body.to_owned(), "the status is 401, not 200: bad key".to_owned()));
    let cut = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\n:\n";
    cases.push((cut.to_owned(), "the response ended early".to_owned()));
    for (answer, reason) in cases {
        let example = Example::start("llm", &[&base]);
        accept(&server).0.write_all(answer.as_bytes()).unwrap();
        let (code, _, errors) = example.end();
        assert_eq!(code, 1, "{errors}");
        assert!(errors.starts_with("error: ") && errors.contains(&reason), "{reason}: {errors}");
    }
}

#[test]
fn llm_prints_the_output_of_both_vendors() {
    let output = "Hello, wörld: 世界 🦀\n“done”\n";
    let wanted = format!("v1/chat/completions: {output}v1/messages: {output}");
    assert_eq!(Example::start("llm", &[]).finish(), wanted);
}

#[test]
fn axum_continues_after_the_last_event_id() {
    let mut example = Example::start("axum", &["127.0.0.1:0"]);
    let (socket, head) = get(example.address(), "/counter", "Last-Event-ID: 41\r\n");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
    expect_chunks(&socket, "event: count\nid: 42\ndata: 42\n\nevent: count\nid: 43\ndata: 43\n\n");
}

#[test]
fn relay_forwards_complete_events_only() {
    let (server, upstream) = listen();
    let mut example = Example::start("relay", &["127.0.0.1:0", &upstream]);
    let relay = example.address();
    let headers = "Last-Event-ID: 6\r\nAccept-Encoding: gzip\r\nTE: trailers\r\n";
    let client = std::thread::spawn(move || get(relay, "/x", headers));
    let (mut socket, head) = accept(&server);
    assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nlast-event-id: 6\r\n"), "{head}");
    assert!(!head.contains("gzip") && !head.contains("\r\nte:"), "{head}");
    socket.write_all(OK).unwrap();
    let (client, head) = client.join().unwrap();
    assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "before any event: {head}");
    for byte in "\u{FEFF}: comment\r\nid:7\r\nretry: 5\r\r\ndata:ä\rdata\r\n\nevent: t\r\n".bytes()
    {
        socket.write_all(&[byte]).unwrap();
    }
    expect_chunks(&client, "id: 7\nretry: 5\ndata: ä\ndata: \n\n");
    socket.write_all(b"data: z\n\ndata: cut of").unwrap();
    expect_chunks(&client, "event: t\ndata: z\n\n");
    drop(socket);
    let mut rest = [0; 5];
    (&client).read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"0\r\n\r\n", "an incomplete event is not forwarded");

    for (answer, status, reason) in [
        ("404 X\r\n", "404", "the status is 404, not 200"),
        ("503 X\r\n", "503", "the status is 503, not 200"),
        (
            "200 OK\r\nContent-Type: text/html\r\n",
            "502",
            "the content type is not text/event-stream",
        ),
        (
            "200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\n",
            "502",
            "the content coding \"br\" is not supported",
        ),
    ] {
        let client = std::thread::spawn(move || get(relay, "/x", ""));
        let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        accept(&server).0.write_all(answer.as_bytes()).unwrap();
        let (_, head) = client.join().unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        assert_eq!(example.error_line(), format!("{upstream}: {reason}\n"));
    }

    let client = std::thread::spawn(move || get(relay, "/x", ""));
    accept(&server).0.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    let (_, head) = client.join().unwrap();
    assert!(head.starts_with("http/1.1 204 "), "status 204 is forwarded: {head}");

    drop(server);
    let (_, head) = get(relay, "/x", "");
    assert!(head.starts_with("http/1.1 502 "), "{head}");
    assert!(example.error_line().starts_with(&format!("{upstream}: ")));
}

#[test]
fn relay_fails_when_it_cannot_listen() {
    rejects_arguments("relay", &[&[], &["127.0.0.1:0"]]);
    let (_server, address) = listen();
    let (code, _, errors) = Example::start("relay", &[&address, &address]).end();
    assert_eq!(code, 1, "{errors}");
    assert!(errors.starts_with(&format!("error: {address}: ")), "{errors}");
}
