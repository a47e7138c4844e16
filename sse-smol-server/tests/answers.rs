//! What requests get that no event stream answers.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sse_proto::Event;
use sse_smol_server::{Config, text};
use support::{PATIENCE, Running, read_head, read_response, read_to_end, send, serve};

fn server(config: Config) -> Running {
    serve(config, |mut request| async move {
        if request.path() == "/stream" {
            let mut stream = request.open().await?;
            return stream.send(Event::new("x")).await;
        }
        if request.path() == "/echo" {
            let body = request.body().await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            return request.respond(text(http::StatusCode::OK, &body)).await;
        }
        request.respond(text(http::StatusCode::NOT_FOUND, "Try /stream.")).await
    })
}

/// Status and whole answer, on a connection of its own.
fn answer(server: &Running, request: &str) -> (u16, String) {
    let request = request.replacen("Host: a\r\n", "Host: a\r\nConnection: close\r\n", 1);
    let answer = read_to_end(&mut send(server.address, &request));
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
    let overhead = head(0).len() + "Connection: close\r\n".len();
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

#[test]
fn a_204_has_no_body() {
    let server = serve(Config::default(), |request| async move {
        match request.path() {
            "/" => request.no_content().await,
            _ => request.respond(text(http::StatusCode::NO_CONTENT, "But...")).await,
        }
    });
    for path in ["/", "/but"] {
        let (status, answer) = answer(&server, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status, 204);
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("Content-Length"), "{answer}");
    }
}

fn echoed(body: &str) -> String {
    format!("200 OK\n\n{body}\n")
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let server = server(Config::default());
    let mut socket = send(server.address, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..3 {
        let (status, head, _) = read_response(&mut socket);
        assert_eq!(status, 404);
        assert!(!head.contains("Connection"), "{head}");
        socket
            .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        assert_eq!(read_response(&mut socket).2, echoed("hello"));
        socket.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    assert_eq!(read_response(&mut socket).0, 404);
    // And a stream at last, with which it ends.
    socket.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_to_end(&mut socket).ends_with("data: x\n\n\r\n0\r\n\r\n"));
}

#[test]
fn requests_sent_ahead_are_answered_in_turn() {
    let server = server(Config::default());
    let post = |body: &str| {
        let length = body.len();
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let many: String = (0..200).map(|n| post(&n.to_string())).collect();
    let mut socket = send(server.address, &many);
    for n in 0..200 {
        assert_eq!(read_response(&mut socket).2, echoed(&n.to_string()));
    }
}

#[test]
fn a_client_that_wants_the_connection_closed_has_it_closed() {
    let server = server(Config::default());
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        // Its body was not read, so nobody knows where the next request would begin.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let answer = read_to_end(&mut send(server.address, request));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn bodies_come_in_chunks_too() {
    let server = server(Config::default());
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut socket = send(server.address, head);
    for byte in b"3;ext=1\r\nabc\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n" {
        socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_response(&mut socket).2, echoed("abc0123456789"));
    for broken in ["z\r\n", "-1\r\n\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n"] {
        let (status, _) = answer(&server, &format!("{head}{broken}"));
        assert_eq!(status, 400, "{broken:?}");
    }
}

#[test]
fn bodies_that_are_too_large_get_413_and_those_that_stall_408() {
    let head_timeout = Duration::from_millis(300);
    let server = server(Config { max_body: 10, head_timeout, ..Config::default() });
    let post = |rest: &str| answer(&server, &format!("POST /echo HTTP/1.1\r\nHost: a\r\n{rest}"));
    assert_eq!(post("Content-Length: 10\r\n\r\n0123456789").0, 200);
    assert_eq!(post("Content-Length: 11\r\n\r\n").0, 413, "before it is sent");
    assert_eq!(post("Content-Length: 18446744073709551615\r\n\r\n").0, 413);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(post(&format!("{chunked}5\r\n01234\r\n6\r\n")).0, 413);
    assert_eq!(post("Content-Length: 5\r\n\r\n0123").0, 408);
    assert_eq!(post(&format!("{chunked}5\r\n0123")).0, 408);
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let server = server(Config::default());
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut socket = send(server.address, head);
    assert_eq!(read_head(&mut socket), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ok").unwrap();
    assert_eq!(read_response(&mut socket).2, echoed("ok"));
}
