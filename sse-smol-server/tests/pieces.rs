//! Responses whose body is sent in pieces by the handler.

mod support;

use std::io::Read as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use http::StatusCode;
use smol::Timer;
use smol::future::FutureExt as _;
use sse_smol_server::{Config, Error, Request};
use support::{Running, TIMEOUT, get, read_head, read_response, read_to_end, send, serve};

/// Sends a body in pieces. The path has its length and those of the pieces, in bytes: `/10/4/6`.
async fn in_pieces(request: Request) -> Result<(), Error> {
    let mut numbers = request.path()[1..].split('/').map(|n| n.parse().unwrap());
    let length = numbers.next().unwrap();
    let pieces: Vec<u64> = numbers.collect();
    let mut head = http::Response::new(());
    if request.query() == Some("304") {
        *head.status_mut() = StatusCode::NOT_MODIFIED;
    }
    head.headers_mut().insert("content-length", 7.into());
    head.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    let mut body = request.start_response(head, length);
    for length in pieces {
        body.send(vec![b'x'; usize::try_from(length).unwrap()]).await?;
    }
    Ok(())
}

fn server() -> Running {
    serve(Config::default(), in_pieces)
}

#[test]
fn pieces_form_a_body_and_the_connection_is_reused() {
    let server = server();
    let mut socket = get(server.address, "/10/4/0/6");
    for path in ["/10/10", "/0", "/0/0", "/200000/100000/1/99999"] {
        let (status, head, body) = read_response(&mut socket);
        let length = body.len();
        assert_eq!((status, body), (200, "x".repeat(length)));
        assert_eq!(head.matches("Content-Length").count(), 1, "{head}");
        assert!(!head.contains("Transfer-Encoding") && head.contains("Date: "), "{head}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        std::io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
    }
    let (_, _, body) = read_response(&mut socket);
    assert_eq!(body.len(), 200_000);

    let answer = read_to_end(&mut send(server.address, "GET /10/4/6 HTTP/1.0\r\n\r\n"));
    assert!(answer.contains("Content-Length: 10\r\n") && answer.ends_with("\r\n\r\nxxxxxxxxxx"));
}

#[test]
fn responses_without_a_body_are_a_head() {
    let server = server();
    for (request, length) in [
        ("HEAD /10/4/6 HTTP/1.1", Some("Content-Length: 10\r\n")),
        ("HEAD /10 HTTP/1.1", Some("Content-Length: 10\r\n")),
        ("HEAD /10/11 HTTP/1.1", Some("Content-Length: 10\r\n")),
        ("GET /10/4/6?304 HTTP/1.1", None),
    ] {
        // The response to a pipelined request follows the head.
        let two = format!(
            "{request}\r\nHost: a\r\n\r\nGET /3/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        );
        let mut socket = send(server.address, &two);
        let head = read_head(&mut socket);
        match length {
            Some(length) => assert!(head.contains(length), "{request}: {head}"),
            None => assert!(!head.contains("Content-Length"), "{request}: {head}"),
        }
        let next = read_to_end(&mut socket);
        assert!(next.starts_with("HTTP/1.1 200") && next.ends_with("\r\n\r\nxxx"), "{next}");
    }
}

#[test]
fn a_body_that_is_too_short_or_too_long_closes_the_connection() {
    let server = server();
    for (path, sent) in [("/10/4", 4), ("/10", 0), ("/10/4/7", 4), ("/10/4/6/1", 10)] {
        let mut socket = get(server.address, path);
        let request = "GET /1/1 HTTP/1.1\r\nHost: a\r\n\r\n";
        std::io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
        let answer = read_to_end(&mut socket);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Length: 10"), "{path}: {head}");
        assert_eq!(body, "x".repeat(sent), "{path}");
    }
}

#[test]
fn a_short_body_counts_as_failed() {
    let (sender, metrics) = mpsc::channel();
    let server = sse_smol_server::Server::bind("127.0.0.1:0", Config::default());
    let server = server.unwrap();
    let address = server.local_addr().unwrap();
    sender.send(server.metrics()).unwrap();
    let metrics = metrics.recv().unwrap();
    let client = thread::spawn(move || read_to_end(&mut get(address, "/10/4")));
    let executor = smol::Executor::new();
    let done = async {
        smol::unblock(move || client.join().unwrap()).await;
        let start = Instant::now();
        while !metrics.to_string().contains("sse_requests_total{reason=\"failed\"} 1\n") {
            assert!(start.elapsed() < TIMEOUT, "{metrics}");
            Timer::after(Duration::from_millis(10)).await;
        }
    };
    smol::block_on(executor.run(server.serve(&executor, in_pieces).or(done)));
}

#[test]
fn pieces_wait_for_the_client_and_a_client_that_does_not_read_is_disconnected() {
    const PIECE: usize = 64 << 10;
    let (sender, sent) = mpsc::channel();
    let config = Config::default().with_write_timeout(Duration::from_millis(500));
    let server = serve(config, move |request| {
        let sender = sender.clone();
        async move {
            let mut body = request.start_response(http::Response::new(()), 1 << 30);
            while body.remaining() > 0 {
                body.send(vec![0; PIECE]).await?;
                let _ = sender.send(());
            }
            Ok(())
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // The sender is dropped with the handler when the client is disconnected.
    let mut count = 0;
    while sent.recv_timeout(Duration::from_secs(3)).is_ok() {
        count += 1;
    }
    assert!(count > 0 && count * PIECE < 100 << 20, "{count} pieces were sent");
    let mut received = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(1..) = socket.read(&mut piece).inspect(|count| received += count) {}
    assert!(received < 100 << 20, "{received} bytes");
}

#[test]
fn a_dropped_send_leaves_the_body_intact() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 16;
    let server = serve(Config::default(), |request| async move {
        let mut body = request.start_response(http::Response::new(()), (PIECES * PIECE) as u64);
        while body.remaining() > 0 {
            // Less time than the client takes to read a piece.
            let number = PIECES - usize::try_from(body.remaining()).unwrap() / PIECE;
            let sent = async { Some(body.send(vec![u8::try_from(number).unwrap(); PIECE]).await) };
            let dropped = async {
                Timer::after(Duration::from_millis(5)).await;
                None
            };
            sent.or(dropped).await.transpose()?;
        }
        Ok(())
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let mut body = vec![0; PIECES * PIECE];
    for piece in body.chunks_mut(PIECE / 4) {
        thread::sleep(Duration::from_millis(10));
        socket.read_exact(piece).unwrap();
    }
    for (number, piece) in body.chunks(PIECE).enumerate() {
        assert!(piece.iter().all(|byte| usize::from(*byte) == number), "piece {number}");
    }
    std::io::Write::write_all(&mut socket, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 200"));
}
