//! Event streams as answers to other methods than `GET`, and the methods that handlers allow.

mod support;

use std::io::Write as _;
use std::sync::mpsc;

use http::{HeaderValue, Method};
use sse_proto::Event;
use sse_smol_server::{Config, Error, Request};
use support::{TIMEOUT, dechunk, read_head, read_to_end, read_until, send, serve};

/// Streams the words of the body.
async fn words(mut request: Request) -> Result<(), Error> {
    let value = HeaderValue::from_static("words");
    request.response_headers_mut().insert("x-handler", value);
    request.allow(&[Method::POST, Method::PUT])?;
    let body = String::from_utf8(request.body().await?)?;
    let mut stream = request.open().await?;
    for word in body.split(' ') {
        stream.send(Event::new(word)).await?;
    }
    Ok(())
}

#[test]
fn a_post_with_a_body_is_answered_by_a_stream() {
    let server = serve(Config::default(), words);
    for (method, framing, body) in [
        ("POST", "Content-Length: 11", "hello world"),
        ("PUT", "Transfer-Encoding: chunked", "b\r\nhello world\r\n0\r\n\r\n"),
    ] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let mut socket = send(server.address, &request);
        let head = read_head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
        let (events, whole) = dechunk(&read_to_end(&mut socket));
        assert_eq!((events.as_str(), whole), ("data: hello\n\ndata: world\n\n", true), "{method}");
    }
}

#[test]
fn a_method_that_is_not_allowed_gets_405_with_the_headers_of_the_handler() {
    let server = serve(Config::default(), words);
    for method in ["GET", "HEAD", "OPTIONS", "BREW"] {
        let request = format!("{method} / HTTP/1.0\r\n\r\n");
        let answer = read_to_end(&mut send(server.address, &request));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("\r\nAllow: POST, PUT\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-Handler: words\r\n"), "{answer}");
    }
}

#[test]
fn head_is_allowed_and_listed_where_get_is() {
    let server = serve(Config::default(), |request| async move {
        request.allow(&[Method::GET, Method::POST])?;
        request.open().await.map(drop)
    });
    for (method, status) in [("GET", 200), ("HEAD", 200), ("POST", 200), ("PUT", 405)] {
        let answer =
            read_to_end(&mut send(server.address, &format!("{method} / HTTP/1.0\r\n\r\n")));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("\r\nAllow: GET, HEAD, POST\r\n"), status == 405, "{answer}");
    }
}

#[test]
fn a_body_that_is_not_read_is_ignored_up_to_64_kib() {
    let (close, on_close) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let close = close.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |closed| close.send(closed.reason.label()).unwrap());
            stream.send(Event::new("open")).await?;
            smol::future::pending().await
        }
    });
    for (size, reason) in [(60 << 10, "peer_closed"), (1 << 20, "unasked")] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        let mut socket = send(server.address, &head);
        // The stream opens before the body has arrived.
        read_until(&mut socket, "data: open\n\n\r\n");
        let sent = socket.write_all(&vec![b'x'; size]);
        assert!(sent.is_ok() || reason == "unasked", "{sent:?}");
        drop(socket);
        assert_eq!(on_close.recv_timeout(TIMEOUT).unwrap(), reason);
    }
}
