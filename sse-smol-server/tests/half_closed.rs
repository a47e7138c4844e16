//! Clients that shut down their sending side after the request, as `nc -N` does.

mod support;

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http::StatusCode;
use smol::{Timer, future};
use sse_smol_server::{Config, Response, text};
use support::{OnDrop, Running, TIMEOUT, read_head, read_response, read_to_end, send, serve};

/// More bytes than the socket buffers of a connection hold.
const LARGE: usize = 8 << 20;

fn server() -> Running {
    serve(Config::default(), |mut request| async move {
        let response = match request.path() {
            "/large" => Response::new(vec![b'x'; LARGE]),
            "/slow" => {
                Timer::after(Duration::from_millis(200)).await;
                text(StatusCode::OK, "slow")
            }
            "/echo" => Response::new(request.body().await?),
            path => text(StatusCode::OK, path),
        };
        request.respond(response).await
    })
}

/// Connects, sends these bytes, and shuts down the sending side.
fn send_and_shut(address: SocketAddr, request: &str) -> TcpStream {
    let socket = send(address, request);
    socket.shutdown(Shutdown::Write).unwrap();
    socket
}

#[test]
fn an_ordinary_response_is_completed() {
    let server = server();
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        read_response(&mut send_and_shut(server.address, &request))
    };
    assert_eq!(get("/quick").2, "/quick");
    assert_eq!(get("/slow").2, "slow");
    let (status, _, body) = get("/large");
    assert_eq!((status, body.len()), (200, LARGE));

    let old = read_to_end(&mut send_and_shut(server.address, "GET /slow HTTP/1.0\r\n\r\n"));
    assert!(old.ends_with("\r\n\r\nslow"), "{old}");
}

#[test]
fn a_request_with_a_body_is_answered() {
    let server = server();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut socket = send_and_shut(server.address, &format!("{head}{body}"));
        assert_eq!(read_response(&mut socket).2, "hello", "{body}");
    }
}

#[test]
fn pipelined_requests_are_answered_before_the_connection_closes() {
    let server = server();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all = ["/slow", "/large", "/quick"].map(request).concat();
    let mut socket = send_and_shut(server.address, &all);
    assert_eq!(read_response(&mut socket).2, "slow");
    assert_eq!(read_response(&mut socket).2.len(), LARGE);
    assert_eq!(read_response(&mut socket).2, "/quick");
    assert_eq!(read_to_end(&mut socket), "");
}

#[test]
fn a_pipelined_request_is_answered_however_long_the_answer_before_it_takes() {
    let write_timeout = Duration::from_millis(500);
    let server = serve(Config::default().with_write_timeout(write_timeout), |request| async move {
        if request.path() == "/large" {
            return request.respond(Response::new(vec![b'x'; LARGE])).await;
        }
        Timer::after(Duration::from_millis(200)).await;
        request.respond(text(StatusCode::OK, "later")).await
    });
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut socket = send_and_shut(server.address, &(request("/large") + &request("/later")));
    read_head(&mut socket);
    let mut body = vec![0; LARGE];
    // Eight times the write timeout in all, and never that long without progress.
    for piece in body.chunks_mut(LARGE / 40) {
        thread::sleep(Duration::from_millis(100));
        socket.read_exact(piece).unwrap();
    }
    assert_eq!(read_response(&mut socket).2, "later");
}

#[test]
fn a_handler_that_waits_amid_its_answer_is_dropped() {
    let (dropped, on_drop) = mpsc::channel();
    let config = Config::default().with_write_timeout(Duration::from_millis(500));
    let server = serve(config, move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            let _guard = guard;
            let mut body = request.start_response(http::Response::new(()), 10);
            body.send(b"x".to_vec()).await?;
            future::pending().await
        }
    });
    let mut socket = send(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    read_head(&mut socket);
    drop(socket);
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
}

#[test]
fn an_incomplete_request_gets_no_response() {
    let server = server();
    for half in ["GET / HT", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"] {
        assert_eq!(read_to_end(&mut send_and_shut(server.address, half)), "", "{half}");
    }
}

#[test]
fn a_stream_that_opens_after_the_shutdown_ends_at_once() {
    let (dropped, on_drop) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            Timer::after(Duration::from_millis(200)).await;
            let _stream = request.open().await?;
            let _guard = guard;
            future::pending().await
        }
    });
    let _socket = send_and_shut(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
}

#[test]
fn a_response_to_a_closed_connection_is_abandoned() {
    let (dropped, on_drop) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            let _guard = guard;
            Timer::after(Duration::from_millis(100)).await;
            request.respond(Response::new(vec![b'x'; 4 * LARGE])).await
        }
    });
    drop(send(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
    // The server still serves other connections.
    let mut next = send(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read_response(&mut next).0, 200);
}
