//! What requests get that no event stream answers.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sse_proto::Event;
use sse_smol_server::{Config, text};
use support::{PATIENCE, Running, read_head, read_to_end, send, serve};

fn server(config: Config) -> Running {
    serve(config, |request| async move {
        if request.path() == "/stream" {
            let mut stream = request.open().await?;
            return stream.send(Event::new("x")).await;
        }
        request.respond(text(http::StatusCode::NOT_FOUND, "Try /stream.")).await
    })
}

/// Status and whole answer.
fn answer(server: &Running, request: &str) -> (u16, String) {
    let answer = read_to_end(&mut send(server.address, request));
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn head_gets_the_head_and_nothing_else() {
    let server = server(Config::default());
    let (status, answer) = answer(&server, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status, 200);
    assert!(answer.contains("Content-Type: text/event-stream\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
}

#[test]
fn other_methods_get_405_and_are_told_which_are_allowed() {
    let server = server(Config::default());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let request = format!("{method} /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let (status, answer) = answer(&server, &request);
        assert_eq!(status, 405, "{method}");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{method}: {answer}");
    }
}

#[test]
fn an_accept_that_excludes_event_streams_gets_406() {
    let server = server(Config::default());
    let with = |accept: &str| {
        answer(&server, &format!("GET /stream HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).0
    };
    assert_eq!(with("application/json"), 406);
    assert_eq!(with("text/event-stream;q=0, */*"), 406);
    assert_eq!(with("text/event-stream"), 200);
    assert_eq!(with("text/html, */*;q=0.1"), 200);
}

#[test]
fn handlers_answer_with_responses_too() {
    let server = server(Config::default());
    let (status, body) = answer(&server, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status, 404);
    assert!(body.ends_with("404 Not Found\n\nTry /stream.\n"), "{body}");
    let (status, head) = answer(&server, "HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status, 404);
    assert!(head.contains("Content-Length: 28\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn malformed_heads_get_400_at_once() {
    let server = server(Config::default());
    for head in [
        "nonsense\r\n\r\n",
        "GET /stream\r\n\r\n",
        "GET /stream HTTP/3.0\r\n\r\n",
        "GET /stream HTTP/1.1\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        "GET stream HTTP/1.1\r\nHost: a\r\n\r\n",
        // The client speaks TLS and waits for an answer.
        "\x16\x03\x01\x02",
    ] {
        let start = Instant::now();
        let (status, _) = answer(&server, head);
        assert_eq!(status, 400, "{head:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{head:?} had to wait");
    }
}

#[test]
fn heads_that_are_too_large_get_431() {
    let server = server(Config { max_head: 2000, ..Config::default() });
    let head = |filler: usize| {
        format!("GET /stream HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(filler))
    };
    let overhead = head(0).len();
    assert_eq!(answer(&server, &head(2000 - overhead)).0, 200, "just fits");
    assert_eq!(answer(&server, &head(2001 - overhead)).0, 431);
    let (status, _) = answer(&server, &head(1 << 20));
    assert_eq!(status, 431, "a client that is still sending gets its answer, too");
    let fields = "a: b\r\n".repeat(65);
    assert_eq!(answer(&server, &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).0, 431);
}

#[test]
fn heads_that_are_too_slow_get_408() {
    let server = server(Config { head_timeout: Duration::from_millis(300), ..Config::default() });
    let start = Instant::now();
    let (status, _) = answer(&server, "GET /stream HTTP/1.1\r\nHost:");
    assert_eq!(status, 408);
    assert!(start.elapsed() >= Duration::from_millis(300));

    // A byte now and then does not help.
    let mut socket = send(server.address, "GET /");
    let start = Instant::now();
    while start.elapsed() < PATIENCE && socket.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
        if start.elapsed() > Duration::from_millis(600) {
            break;
        }
    }
    assert!(read_to_end(&mut socket).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_without_a_request_is_closed_without_an_answer() {
    let server = server(Config { head_timeout: Duration::from_millis(200), ..Config::default() });
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_to_end(&mut socket), "");
}

#[test]
fn a_head_may_come_byte_by_byte_and_hold_up_nobody() {
    let server = server(Config::default());
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
        assert_eq!(answer(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").0, 404);
    }
    assert!(read_head(&mut slow).starts_with("HTTP/1.1 200 "));
}
