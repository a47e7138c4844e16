//! Ends of streams: clients that leave, and handlers that fail.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use smol::{Timer, channel, future};
use sse_proto::Event;
use sse_smol_server::{Error, Request, text};

use super::silent;
use super::support::{
    OnDrop, TIMEOUT, dechunk, get, read_head, read_response, read_to_end, read_until, send, serve,
};

/// Returns the time from a client's departure until its handler is dropped. The server writes
/// nothing in that time.
fn time_to_notice(leave: impl FnOnce(TcpStream)) -> Duration {
    let (dropped, on_drop) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            let mut stream = request.open().await?;
            stream.send(Event::new("hello")).await?;
            let _guard = guard;
            future::pending().await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // The event has arrived, and the handler waits.
    let mut first = [0];
    socket.peek(&mut first).unwrap();
    assert!(on_drop.recv_timeout(Duration::from_millis(200)).is_err(), "the handler still runs");
    let start = Instant::now();
    leave(socket);
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
    start.elapsed()
}

#[test]
fn a_client_that_closes_is_noticed_at_once() {
    let time = time_to_notice(|mut socket| {
        read_until(&mut socket, "data: hello\n\n\r\n");
        drop(socket);
    });
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[test]
fn a_client_that_closes_during_its_request_body_is_noticed() {
    let (dropped, on_drop) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            let _stream = request.open().await?;
            let _guard = guard;
            future::pending().await
        }
    });
    let request = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx";
    let mut socket = send(server.address, request);
    read_head(&mut socket);
    drop(socket);
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
}

#[test]
fn a_client_that_shuts_down_its_side_is_noticed_at_once() {
    let time = time_to_notice(|socket| socket.shutdown(Shutdown::Write).unwrap());
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[test]
fn a_connection_that_is_reset_is_noticed_at_once() {
    // Closing with unread bytes resets the connection.
    let time = time_to_notice(drop);
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[test]
fn a_client_that_closes_before_the_stream_opens_is_noticed() {
    let (dropped, on_drop) = mpsc::channel();
    let config = silent().with_write_timeout(Duration::from_millis(500));
    let server = serve(config, move |request| {
        let guard = OnDrop(dropped.clone());
        async move {
            let _guard = guard;
            Timer::never().await;
            request.open().await.map(drop)
        }
    });
    drop(get(server.address, "/"));
    on_drop.recv_timeout(TIMEOUT).expect("the handler is dropped");
}

#[test]
fn further_requests_on_an_open_stream_are_ignored() {
    let (go, wait) = channel::bounded::<()>(1);
    let server = serve(silent(), move |request| {
        let wait = wait.clone();
        async move {
            let mut stream = request.open().await?;
            wait.recv().await.unwrap();
            stream.send(Event::new("still here")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    for _ in 0..100 {
        socket.write_all(b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    go.send_blocking(()).unwrap();
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: still here\n\n", true));
}

#[test]
fn a_client_that_keeps_sending_is_cut_off() {
    let (closed, on_close) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let closed = closed.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |end| closed.send(end.reason.label()).unwrap());
            future::pending().await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let start = Instant::now();
    while socket.write_all(&[b'x'; 4096]).is_ok() {
        assert!(start.elapsed() < TIMEOUT, "the client is disconnected");
    }
    assert_eq!(on_close.recv_timeout(TIMEOUT), Ok("unasked"));
}

#[test]
fn a_failed_handler_ends_the_stream_without_the_last_chunk() {
    let server = serve(silent(), |request| async move {
        let mut stream = request.open().await?;
        stream.send(Event::new("one")).await?;
        Err(Error::Failed("the source dried up".into()))
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: one\n\n", false), "the last chunk is missing");
}

#[test]
fn a_handler_that_does_not_respond_gets_500_and_the_server_continues() {
    let server = serve(silent(), |request| async move {
        match request.path() {
            "/panic" => panic!("test error"),
            "/drained" => Err(Error::Drained),
            "/fail" => Err(std::io::Error::other("test error").into()),
            "/forget" => Ok(()),
            _ => request.respond(text(http::StatusCode::OK, "Fine.")).await,
        }
    });
    for path in ["/panic", "/fail", "/forget", "/drained"] {
        let answer = read_to_end(&mut get(server.address, path));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path}: {answer}");
    }
    assert_eq!(read_response(&mut get(server.address, "/")).0, 200);
}

#[test]
fn a_handler_that_panics_before_returning_a_future_gets_500() {
    fn handler(_: Request) -> std::future::Ready<Result<(), Error>> {
        panic!("test error")
    }
    let server = serve(silent(), handler);
    let mut socket = send(server.address, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = read_to_end(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_stream_that_outlives_its_handler_reports_its_end_at_once() {
    let (reported, on_report) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let reported = reported.clone();
        async move {
            let mut stream = request.open().await?;
            let token = stream.token();
            smol::spawn(async move {
                token.cancelled().await;
                assert!(stream.token().is_cancelled());
                assert!(stream.send(Event::new("late")).await.is_err());
                stream.on_close(move |end| reported.send(end.reason.label()).unwrap());
            })
            .detach();
            Err(Error::Failed("test error".into()))
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // The connection closes although another task still held the stream.
    assert_eq!(read_to_end(&mut socket), "");
    assert_eq!(on_report.recv_timeout(TIMEOUT), Ok("failed"));
}

#[test]
fn a_hook_that_panics_does_not_prevent_other_hooks() {
    let (reported, on_report) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let reported = reported.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(|_| panic!("test error"));
            stream.on_close(move |_| reported.send(()).unwrap());
            Ok(())
        }
    });
    let (_, whole) = {
        let mut socket = get(server.address, "/");
        read_head(&mut socket);
        dechunk(&read_to_end(&mut socket))
    };
    assert!(whole);
    on_report.recv_timeout(TIMEOUT).expect("the second hook is called");
}
