//! Request bodies: limits in memory, time and framing; trailers; empty lines and idle time between
//! requests.

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;
use sse_smol_server::{Config, text};
use support::{Running, TIMEOUT, read_head, read_response, read_to_end, read_until, send, serve};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const GET: &str = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";

/// Starts a server that responds with the path and the size of the body.
fn server(config: Config) -> Running {
    serve(config, |mut request| async move {
        let size = request.body().await?.len();
        let line = format!("{} {size}", request.path());
        request.respond(text(StatusCode::OK, &line)).await
    })
}

fn expected_body(path: &str, size: usize) -> String {
    format!("{path} {size}")
}

fn post(body: &str) -> String {
    format!("{POST}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Sends a request on a new connection and returns the status.
fn status(server: &Running, request: &[u8]) -> u16 {
    let mut socket = send(server.address, "");
    socket.write_all(request).unwrap();
    read_response(&mut socket).0
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends `piece` every 50 ms until the server responds. Returns the response and the time it took.
fn drip(mut socket: TcpStream, piece: &str) -> (String, Duration) {
    let start = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut answer = Vec::new();
    while start.elapsed() < TIMEOUT {
        let _ = socket.write_all(piece.as_bytes());
        let mut part = [0; 1000];
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        break;
    }
    (String::from_utf8(answer).unwrap(), start.elapsed())
}

#[test]
fn the_received_bytes_of_all_bodies_together_are_limited() {
    const SIZE: usize = 100_000;
    let config = Config::default().with_max_body(SIZE).with_max_pending_body_bytes(3 * SIZE);
    let server = server(config);
    let head = format!("{POST}Content-Length: {SIZE}\r\n\r\n");
    let small = post("small");
    // Announced but not received, so not counted.
    let declared: Vec<_> = (0..20).map(|_| send(server.address, &head)).collect();
    let most = "x".repeat(SIZE - 1);
    let mut pending: Vec<_> =
        (0..3).map(|_| send(server.address, &format!("{head}{most}"))).collect();
    wait_until("a small body is refused beside three large ones", || {
        let mut socket = send(server.address, &small);
        let (status, head, _) = read_response(&mut socket);
        if status == 503 {
            let after = head.lines().find_map(|line| line.strip_prefix("Retry-After: "));
            assert!((1..=60).contains(&after.unwrap().parse::<u32>().unwrap()), "{head}");
            assert!(head.contains("Connection: close\r\n"), "{head}");
            assert_eq!(read_to_end(&mut socket), "");
        }
        status == 503
    });
    // Requests without a body are unaffected.
    assert_eq!(status(&server, GET.as_bytes()), 200);
    assert_eq!(status(&server, format!("{CHUNKED}1\r\nx").as_bytes()), 503);

    // Closing a connection returns its share, as does finishing a request.
    drop(pending.pop());
    wait_until("there is room again", || status(&server, small.as_bytes()) == 200);
    for mut socket in pending {
        socket.write_all(b"x").unwrap();
        assert_eq!(read_response(&mut socket).2, expected_body("/", SIZE));
        // The persistent connection holds no share.
        socket.write_all(small.as_bytes()).unwrap();
        assert_eq!(read_response(&mut socket).0, 200);
    }
    let again: Vec<_> = (0..3).map(|_| send(server.address, &format!("{head}{most}"))).collect();
    for mut socket in again {
        socket.write_all(b"x").unwrap();
        assert_eq!(read_response(&mut socket).0, 200);
    }
    drop(declared);
}

#[test]
fn a_body_counts_until_its_request_ends_or_opens_a_stream() {
    const SIZE: usize = 10_000;
    let (proceed, may_proceed) = smol::channel::unbounded::<()>();
    let (read, is_read) = mpsc::channel();
    let config = Config::default().with_max_body(SIZE).with_max_pending_body_bytes(SIZE);
    let server = serve(config, move |mut request| {
        let (may_proceed, read) = (may_proceed.clone(), read.clone());
        async move {
            let _body = request.body().await?;
            match request.path() {
                "/hold" => {
                    read.send(()).unwrap();
                    let _ = may_proceed.recv().await;
                }
                "/stream" => {
                    let _stream = request.open().await?;
                    let _ = may_proceed.recv().await;
                    return Ok(());
                }
                _ => {}
            }
            request.respond(text(StatusCode::OK, "done")).await
        }
    });
    let body = "x".repeat(SIZE);
    let large = |start: &str| {
        format!("{start} HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n{body}")
    };
    let mut held = send(server.address, &large("POST /hold"));
    is_read.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(
        status(&server, post("x").as_bytes()),
        503,
        "the handler still holds the other body"
    );
    proceed.send_blocking(()).unwrap();
    assert_eq!(read_response(&mut held).0, 200);
    wait_until("the request is over", || status(&server, post("x").as_bytes()) == 200);

    let mut stream = send(server.address, &large("GET /stream"));
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    assert_eq!(status(&server, large("POST /").as_bytes()), 200, "an open stream holds no share");
}

#[test]
fn a_body_larger_than_the_limit_for_all_bodies_gets_413() {
    let config = Config::default().with_max_pending_body_bytes(1000);
    let server = server(config);
    assert_eq!(status(&server, post(&"x".repeat(1000)).as_bytes()), 200);
    assert_eq!(status(&server, post(&"x".repeat(1001)).as_bytes()), 413);
}

#[test]
fn the_body_timeout_applies_to_every_framing() {
    let body_timeout = Duration::from_millis(600);
    let server = server(Config::default().with_body_timeout(body_timeout));
    let expect = format!("{POST}Expect: 100-continue\r\nContent-Length: 10000\r\n\r\n");
    for (head, piece) in [
        (format!("{POST}Content-Length: 10000\r\n\r\n"), "x"),
        (CHUNKED.to_owned(), "1\r\nx\r\n"),
        (format!("{CHUNKED}1;"), "x"),
        (format!("{CHUNKED}0\r\n"), "a: b\r\n"),
        (expect, "x"),
    ] {
        let mut socket = send(server.address, &head);
        if head.contains("Expect") {
            assert!(read_head(&mut socket).starts_with("HTTP/1.1 100 "));
        }
        let (answer, time) = drip(socket, piece);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{head:?}: {answer:?}");
        assert!(time >= Duration::from_millis(500), "{head:?}: {time:?}");
        assert!(time < Duration::from_secs(5), "{head:?}: {time:?}");
    }
    // Each body on a connection has the full timeout.
    let mut socket = send(server.address, "");
    for _ in 0..4 {
        socket.write_all(format!("{POST}Content-Length: 2\r\n\r\nx").as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(250));
        socket.write_all(b"y").unwrap();
        assert_eq!(read_response(&mut socket).2, expected_body("/", 2));
    }
}

#[test]
fn the_framing_of_a_chunked_body_is_limited() {
    let config = Config::default().with_max_body(20_000).with_max_head(1000);
    let server = server(config);
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n", "e".repeat(extension));
    let body = |chunks: &str| format!("{CHUNKED}{chunks}0\r\n\r\n");
    assert_eq!(status(&server, body(&chunk(900).repeat(20)).as_bytes()), 200);
    assert_eq!(status(&server, body(&chunk(900).repeat(30)).as_bytes()), 413);
    // The smallest chunks: five bytes of framing each.
    assert_eq!(status(&server, body(&"1\r\nx\r\n".repeat(3900)).as_bytes()), 200);
    assert_eq!(status(&server, body(&"1\r\nx\r\n".repeat(4100)).as_bytes()), 413);
    // The maximum length of a chunk-size line.
    assert_eq!(status(&server, body(&chunk(1022)).as_bytes()), 200);
    assert_eq!(status(&server, body(&chunk(1023)).as_bytes()), 400);
}

#[test]
fn a_body_of_exactly_the_limit_is_accepted() {
    for max_body in [0, 1, 4096, 4097, 70_000] {
        let server = server(Config::default().with_max_body(max_body));
        let chunked = |size: usize| {
            let chunk = |size| match size {
                0 => String::new(),
                _ => format!("{size:x}\r\n{}\r\n", "x".repeat(size)),
            };
            format!("{CHUNKED}{}{}0\r\n\r\n", chunk(size / 2), chunk(size - size / 2))
        };
        for old in [false, true] {
            let exact = post(&"x".repeat(max_body));
            let exact = if old { exact.replace("HTTP/1.1", "HTTP/1.0") } else { exact };
            let mut socket = send(server.address, &exact);
            assert_eq!(read_response(&mut socket).2, expected_body("/", max_body));
        }
        let mut socket = send(server.address, &chunked(max_body));
        assert_eq!(read_response(&mut socket).2, expected_body("/", max_body));
        assert_eq!(status(&server, post(&"x".repeat(max_body + 1)).as_bytes()), 413);
        assert_eq!(status(&server, chunked(max_body + 1).as_bytes()), 413);
    }
}

#[test]
fn trailers_are_validated_like_header_lines() {
    let server = server(Config::default().with_max_head(4000));
    let many = |count: usize| "a: b\r\n".repeat(count);
    let long = |size: usize| format!("a: {}\r\n", "x".repeat(size));
    for trailers in [
        &b""[..],
        b"a: b\r\n",
        b"a:\r\nb:\tc \r\n",
        b"a: caf\xe9\r\n",
        many(64).as_bytes(),
        long(3000).as_bytes(),
    ] {
        let mut socket = send(server.address, &format!("{CHUNKED}2\r\nxy\r\n0\r\n"));
        socket.write_all(trailers).unwrap();
        socket.write_all(format!("\r\n{GET}").as_bytes()).unwrap();
        assert_eq!(
            read_response(&mut socket).2,
            expected_body("/", 2),
            "{}",
            trailers.escape_ascii()
        );
        assert_eq!(read_response(&mut socket).2, expected_body("/get", 0));
    }
    for (trailers, expected) in [
        (&b"a: b\r\n c\r\n"[..], 400),
        (b"a: b\r\n\tc\r\n", 400),
        (b" a: b\r\n", 400),
        (b"a: b\rc: d\r\n", 400),
        (b"a: b\r\r\n", 400),
        (b"a: b\0\r\n", 400),
        (b"a: b\x7f\r\n", 400),
        (b"a: b\n", 400),
        (b": b\r\n", 400),
        (b"a : b\r\n", 400),
        (b"a b: c\r\n", 400),
        (b"a\r\n", 400),
        (b"caf\xe9: b\r\n", 400),
        (many(65).as_bytes(), 431),
        (long(5000).as_bytes(), 431),
        (long(900).repeat(6).as_bytes(), 431),
    ] {
        let request = [format!("{CHUNKED}0\r\n").as_bytes(), trailers, b"\r\n"].concat();
        assert_eq!(status(&server, &request), expected, "{}", trailers.escape_ascii());
    }
}

#[test]
fn white_space_may_follow_a_chunk_size() {
    let server = server(Config::default());
    let body = "2 \r\nab\r\n2\t;x=y\r\ncd\r\n2 \t \r\nef\r\n0 \r\n\r\n";
    let mut socket = send(server.address, &format!("{CHUNKED}{body}{GET}"));
    assert_eq!(read_response(&mut socket).2, expected_body("/", 6));
    assert_eq!(read_response(&mut socket).2, expected_body("/get", 0));
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let config = Config::default().with_idle_timeout(Duration::from_millis(500));
    let server = server(config);
    // Before the first request, after a body, and several.
    let mut socket = send(server.address, &format!("\r\n{}\r\n{GET}\r\n\r\n\n{GET}", post("x")));
    for (path, size) in [("/", 1), ("/get", 0), ("/get", 0)] {
        assert_eq!(read_response(&mut socket).2, expected_body(path, size));
    }
    for (stray, end) in [("\r\n", ""), ("\r", ""), ("\r\n\r\n\r", "")] {
        let mut socket = send(server.address, &format!("{}{stray}", post("x")));
        assert_eq!(read_response(&mut socket).0, 200);
        let start = Instant::now();
        assert_eq!(read_to_end(&mut socket), end, "closed without an answer: {stray:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{stray:?}");
    }
    // Empty lines do not extend the idle deadline.
    let mut socket = send(server.address, GET);
    assert_eq!(read_response(&mut socket).0, 200);
    let (answer, time) = drip(socket, "\r\n");
    assert_eq!(answer, "");
    assert!(time >= Duration::from_millis(300) && time < Duration::from_secs(5), "{time:?}");
    // The number of empty lines is limited.
    let mut socket = send(server.address, &"\r\n".repeat(9000));
    assert_eq!(read_response(&mut socket).0, 400);
}

#[test]
fn the_first_request_has_the_head_timeout_and_later_ones_the_idle_timeout() {
    let config = Config::default()
        .with_head_timeout(Duration::from_millis(300))
        .with_idle_timeout(Duration::from_millis(1500));
    let server = server(config);
    let start = Instant::now();
    assert_eq!(read_to_end(&mut send(server.address, "\r\n")), "");
    assert!(start.elapsed() < Duration::from_millis(1400), "{:?}", start.elapsed());

    let mut socket = send(server.address, GET);
    assert_eq!(read_response(&mut socket).0, 200);
    thread::sleep(Duration::from_millis(800));
    socket.write_all(GET.as_bytes()).unwrap();
    assert_eq!(read_response(&mut socket).0, 200);
    let start = Instant::now();
    assert_eq!(read_to_end(&mut socket), "");
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(1300) && time < Duration::from_secs(6), "{time:?}");

    // A later request has the head timeout once it has begun.
    let mut socket = send(server.address, GET);
    assert_eq!(read_response(&mut socket).0, 200);
    let start = Instant::now();
    socket.write_all(b"\r\nGET").unwrap();
    assert_eq!(read_response(&mut socket).0, 408);
    assert!(start.elapsed() < Duration::from_millis(1400), "{:?}", start.elapsed());
}

#[test]
fn a_request_answered_by_a_failed_body_read_is_not_answered_again() {
    let config = Config::default().with_max_body(10);
    let server = serve(config, |mut request| async move {
        assert!(request.body().await.is_err());
        match request.path() {
            "/open" => request.open().await.map(drop),
            "/nothing" => request.no_content().await,
            "/pieces" => {
                let mut body = request.start_response(http::Response::new(()), 7);
                body.send(b"ignored".to_vec()).await
            }
            _ => request.respond(text(StatusCode::OK, "ignored")).await,
        }
    });
    for path in ["/open", "/nothing", "/pieces", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
        let mut socket = send(server.address, &request);
        let answer = read_until(&mut socket, "\r\n\r\n") + &read_to_end(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}
