//! Responses to requests other than event streams: status codes, limits, and persistent connections.

mod support;

use std::future;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use sse_proto::Event;
use sse_smol_server::{Config, RequestError, text};
use support::{Running, TIMEOUT, read_head, read_response, read_to_end, send, serve};

fn server(config: Config) -> Running {
    serve(config, |mut request| async move {
        if request.path() == "/stream" {
            request.allow(&[Method::GET])?;
            let mut stream = request.open().await?;
            return stream.send(Event::new("x")).await;
        }
        if request.path() == "/echo" {
            let body = request.body().await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            return request.respond(text(http::StatusCode::OK, &body)).await;
        }
        request
            .respond(RequestError::new(http::StatusCode::NOT_FOUND, "Try /stream.").response())
            .await
    })
}

/// Sends a request on a new connection. Returns the status and the whole response.
fn answer(server: &Running, request: &str) -> (u16, String) {
    let request = request.replacen("Host: a\r\n", "Host: a\r\nConnection: close\r\n", 1);
    let answer = read_to_end(&mut send(server.address, &request));
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn head_gets_a_head_without_a_body() {
    let server = server(Config::default());
    let (status, answer) = answer(&server, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status, 200);
    assert!(answer.contains("Content-Type: text/event-stream\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
}

#[test]
fn other_methods_get_405_with_the_allowed_methods() {
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
fn handlers_can_send_plain_responses() {
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
        "GET /stream HTTP/1.x\r\n\r\n",
        "GET /stream HTTP/1.1\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        "GET stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://a/stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://user@a/stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: [[[localhost]]]\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: localhost:99999\r\n\r\n",
        "GET http://a/stream HTTP/1.1\r\nHost: a@b\r\n\r\n",
        // The start of a TLS handshake, whose sender waits for an answer.
        "\x16\x03\x01\x02",
    ] {
        let start = Instant::now();
        let (status, _) = answer(&server, head);
        assert_eq!(status, 400, "{head:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{head:?}: the response is immediate");
    }
}

#[test]
fn heads_that_are_too_large_get_431() {
    let server = server(Config::default().with_max_head(2000));
    let head = |filler: usize| {
        format!("GET /stream HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(filler))
    };
    let overhead = head(0).len() + "Connection: close\r\n".len();
    assert_eq!(answer(&server, &head(2000 - overhead)).0, 200, "a head of exactly the limit");
    assert_eq!(answer(&server, &head(2001 - overhead)).0, 431);
    let (status, _) = answer(&server, &head(1 << 20));
    assert_eq!(status, 431, "a client that is still sending gets the response");
}

#[test]
fn a_hundred_header_fields_are_accepted_and_one_more_gets_431() {
    let server = server(Config::default().with_max_head(1_000_000));
    let head = |count: usize| {
        let fields = "a: b\r\n".repeat(count - "Host, Connection".split(',').count());
        format!("GET /stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    assert_eq!(answer(&server, &head(100)).0, 200);
    let (status, body) = answer(&server, &head(101));
    assert!(status == 431 && body.contains("more than 100 header fields"), "{body}");
    assert!(!body.contains("--"), "the text names no flag: {body}");
}

#[test]
fn other_versions_of_http_get_505() {
    let server = server(Config::default());
    for version in ["1.2", "1.9", "2.0", "3.0"] {
        let (status, body) =
            answer(&server, &format!("GET /stream HTTP/{version}\r\nHost: a\r\n\r\n"));
        assert!(status == 505 && body.contains("HTTP/1.1 and HTTP/1.0"), "{version}: {body}");
    }
}

#[test]
fn expectations_other_than_100_continue_get_417() {
    let server = server(Config::default());
    for expect in ["200-ok", "100-continue, x"] {
        let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\n");
        let (status, body) = answer(&server, &format!("{head}Content-Length: 2\r\n\r\nok"));
        assert!(status == 417 && body.contains("100-continue"), "{expect}: {body}");
    }
}

#[test]
fn the_authority_comes_from_the_target_or_else_the_host_header() {
    let server = serve(Config::default(), |request| async move {
        let authority =
            request.authority().map(|authority| (authority.host().to_owned(), authority.port()));
        request.respond(text(http::StatusCode::OK, format!("{authority:?}"))).await
    });
    for (target, version, host, expected) in [
        ("/", "1.1", "Host: a:1\r\n", "Some((\"a\", Some(1)))"),
        ("/", "1.1", "Host: [::1]\r\n", "Some((\"::1\", None))"),
        ("http://b:2/", "1.1", "Host: a:1\r\n", "Some((\"b\", Some(2)))"),
        ("http://b", "1.0", "", "Some((\"b\", None))"),
        ("/", "1.1", "Host:\r\n", "None"),
        ("/", "1.0", "", "None"),
    ] {
        let head = format!("GET {target} HTTP/{version}\r\n{host}Connection: close\r\n\r\n");
        let answer = read_to_end(&mut send(server.address, &head));
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{head}{answer}");
    }
}

#[test]
fn heads_that_are_too_slow_get_408() {
    let server = server(Config::default().with_head_timeout(Duration::from_millis(300)));
    let start = Instant::now();
    let (status, _) = answer(&server, "GET /stream HTTP/1.1\r\nHost:");
    assert_eq!(status, 408);
    assert!(start.elapsed() >= Duration::from_millis(300));

    // Slowly sent bytes do not extend the deadline.
    let mut socket = send(server.address, "GET /");
    let start = Instant::now();
    while start.elapsed() < TIMEOUT && socket.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
        if start.elapsed() > Duration::from_millis(600) {
            break;
        }
    }
    assert!(read_to_end(&mut socket).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_response() {
    let server = server(Config::default().with_head_timeout(Duration::from_millis(200)));
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(read_to_end(&mut socket), "");
}

#[test]
fn a_head_that_arrives_byte_by_byte_does_not_delay_other_connections() {
    let server = server(Config::default());
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(TIMEOUT)).unwrap();
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

#[test]
fn a_connection_serves_several_requests_in_sequence() {
    let server = server(Config::default());
    let mut socket = send(server.address, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..3 {
        let (status, head, _) = read_response(&mut socket);
        assert_eq!(status, 404);
        assert!(!head.contains("Connection"), "{head}");
        socket
            .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        assert_eq!(read_response(&mut socket).2, "hello");
        socket.write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    assert_eq!(read_response(&mut socket).0, 404);
    // A stream is the last response: it closes the connection.
    socket.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_to_end(&mut socket).ends_with("data: x\n\n\r\n0\r\n\r\n"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = server(Config::default());
    let post = |body: &str| {
        let length = body.len();
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let many: String = (0..200).map(|n| post(&n.to_string())).collect();
    let mut socket = send(server.address, &many);
    for n in 0..200 {
        assert_eq!(read_response(&mut socket).2, n.to_string());
    }
}

#[test]
fn the_connection_is_closed_on_request_and_after_an_unread_body() {
    let server = server(Config::default());
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        // The body was not read, so the start of a next request is unknown.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let answer = read_to_end(&mut send(server.address, request));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn chunked_bodies_are_decoded_and_malformed_ones_get_400() {
    let server = server(Config::default());
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut socket = send(server.address, head);
    for byte in b"3;ext=1\r\nabc\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n" {
        socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_response(&mut socket).2, "abc0123456789");
    for broken in [
        "z\r\n",
        "-1\r\n\r\n",
        "+1\r\nx\r\n",
        "3\r\nabcd\r\n",
        "fffffffffffffffff\r\n",
        // Forms that another parser could read differently (request smuggling).
        "1\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "0\r\n \r\n",
        "0\r\n\n",
        "0\r\nno header\r\n\r\n",
    ] {
        let (status, _) = answer(&server, &format!("{head}{broken}"));
        assert_eq!(status, 400, "{broken:?}");
    }
    let old = head.replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(
        answer(&server, &format!("{old}0\r\n\r\n")).0,
        400,
        "HTTP/1.0 has no transfer codings"
    );
}

#[test]
fn bodies_that_are_too_large_get_413_and_stalled_bodies_get_408() {
    let head_timeout = Duration::from_millis(300);
    let server = server(Config::default().with_max_body(10).with_head_timeout(head_timeout));
    let post = |rest: &str| answer(&server, &format!("POST /echo HTTP/1.1\r\nHost: a\r\n{rest}"));
    assert_eq!(post("Content-Length: 10\r\n\r\n0123456789").0, 200);
    assert_eq!(post("Content-Length: 11\r\n\r\n").0, 413, "rejected by its announced length");
    assert_eq!(post("Content-Length: 18446744073709551615\r\n\r\n").0, 413);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(post(&format!("{chunked}5\r\n01234\r\n6\r\n")).0, 413);
    assert_eq!(post("Content-Length: 5\r\n\r\n0123").0, 408);
    assert_eq!(post(&format!("{chunked}5\r\n0123")).0, 408);
}

#[test]
fn expect_100_continue_gets_an_interim_response() {
    let server = server(Config::default());
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut socket = send(server.address, head);
    assert_eq!(read_head(&mut socket), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ok").unwrap();
    assert_eq!(read_response(&mut socket).2, "ok");
}

#[test]
fn later_requests_on_a_connection_are_rejected_with_a_status() {
    let head_timeout = Duration::from_millis(300);
    let server = server(Config::default().with_head_timeout(head_timeout).with_max_head(2000));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(3000));
    for (second, status) in [("GARBAGE\r\n\r\n", 400), ("GET / HT", 408), (&large, 431)] {
        let mut socket = send(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read_response(&mut socket).0, 404);
        socket.write_all(second.as_bytes()).unwrap();
        assert_eq!(read_response(&mut socket).0, status, "{second:?}");
        assert_eq!(read_to_end(&mut socket), "");
    }
}

#[test]
fn the_head_timeout_starts_with_the_first_byte_of_a_request() {
    let server = server(Config::default().with_head_timeout(Duration::from_secs(1)));
    let mut socket = send(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    read_response(&mut socket);
    for piece in ["GET / HT", "TP/1.1\r\nHost: a\r\n\r\n"] {
        std::thread::sleep(Duration::from_millis(700));
        socket.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(read_response(&mut socket).0, 404);
}

/// An unread body that contains a request must not be parsed as one.
#[test]
fn an_unread_body_is_not_parsed_as_requests() {
    let server = server(Config::default());
    let inner = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inner.len();
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}");
    let answers = read_to_end(&mut send(server.address, &request));
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

#[test]
fn reading_a_body_again_after_a_dropped_read_fails() {
    let server = serve(Config::default(), |mut request| async move {
        let begun = smol::future::poll_once(request.body()).await;
        assert!(begun.is_none(), "the body is incomplete");
        let again = request.body().await;
        assert!(again.is_err());
        request.respond(text(http::StatusCode::OK, "Half.")).await
    });
    let mut socket =
        send(server.address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let (status, head, _) = read_response(&mut socket);
    assert!(status == 200 && head.contains("Connection: close\r\n"), "{head}");
    let _ = socket.write_all(b"worldGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read_to_end(&mut socket), "");
}

#[test]
fn a_client_that_is_still_sending_gets_the_500() {
    let server =
        serve(
            Config::default(),
            |_| async move { Err(std::io::Error::other("test error").into()) },
        );
    for _ in 0..10 {
        let body = "x".repeat(300_000);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = read_to_end(&mut send(server.address, &(head + &body)));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
}

#[test]
fn the_100_response_is_sent_only_if_the_body_is_needed_and_allowed() {
    let server = server(Config::default().with_max_body(10));
    let expect = |version: &str, length: usize, body: &str| {
        let head = format!("POST /echo HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        read_head(&mut send(server.address, &request)).split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(expect("1.1", 2, ""), "100");
    assert_eq!(expect("1.1", 11, ""), "413");
    assert_eq!(expect("1.1", 2, "ok"), "200", "the body has arrived already");
    assert_eq!(expect("1.0", 2, "ok"), "200");
}

#[test]
fn head_on_a_stream_closes_the_connection() {
    let server = server(Config::default());
    let head = "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    let answers = read_to_end(&mut send(server.address, &format!("{head}{head}")));
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1, "{answers}");
}

#[test]
fn answers_have_the_date_of_their_time() {
    let server = server(Config::default());
    let mut socket = TcpStream::connect(server.address).unwrap();
    let begun = Instant::now();
    let mut dates = Vec::new();
    // Until the second has changed twice.
    while dates.len() < 3 {
        assert!(begun.elapsed() < TIMEOUT, "{dates:?}");
        let before = SystemTime::now() - Duration::from_secs(1);
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (_, head, _) = read_response(&mut socket);
        let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap();
        let date = httpdate::parse_http_date(date).unwrap();
        assert!((before..=SystemTime::now()).contains(&date), "{date:?}");
        if dates.last() != Some(&date) {
            dates.push(date);
        }
    }
}

#[test]
fn answers_to_pipelined_requests_do_not_wait_for_the_next_request() {
    let server = serve(Config::default(), |request| async move {
        let waits = request.path() == "/wait";
        request.respond(text(http::StatusCode::OK, "done")).await?;
        if waits {
            // Ends with the connection.
            future::pending::<()>().await;
        }
        Ok(())
    });
    let begun = Instant::now();
    for _ in 0..10 {
        // The last request is incomplete, or comes after one whose handler does not return.
        for (last, answers) in [("GET / HT", 3), ("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET", 4)] {
            let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3) + last;
            let mut socket = send(server.address, &request);
            for _ in 0..answers {
                assert_eq!(read_response(&mut socket).2, "done");
            }
        }
    }
    // The kernel holds data back for 200 ms at most.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
