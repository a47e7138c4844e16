//! Errors that handlers return with `?`, as the client and the metrics see them.

mod support;

use std::io::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use http::{HeaderValue, Method, StatusCode};
use smol::{Executor, channel, future};
use sse_proto::Event;
use sse_smol_server::{
    CloseReason, Config, Error, Request, Server, Start, TopicError, Topics, TopicsConfig, text,
};
use support::{TIMEOUT, dechunk, get, read_head, read_response, read_to_end, send, serve};

/// Subscribes to the topic in the path, or fails in another way.
async fn handler(topics: &Topics, request: Request) -> Result<(), Error> {
    match request.path() {
        "/json" => drop(serde_json::from_str::<String>("{")?),
        "/text" => drop(String::from_utf8(vec![0xff])?),
        "/boxed" => Err(Box::<dyn std::error::Error + Send + Sync>::from("test error"))?,
        "/fine" => return request.respond(text(StatusCode::OK, "Fine.")).await,
        _ => {}
    }
    let name = request.path()[1..].to_owned();
    let subscription = topics.subscribe(&[&name], Start::Latest).await?;
    request.open().await?.follow(subscription).await
}

#[test]
fn a_topic_error_is_answered_with_400_and_the_connection_goes_on() {
    let topics = Arc::new(Topics::new(TopicsConfig::default()).unwrap());
    let server = serve(Config::default(), move |request| {
        let topics = Arc::clone(&topics);
        async move { handler(&topics, request).await }
    });
    let mut socket = get(server.address, "/no%20spaces");
    let (status, head, body) = read_response(&mut socket);
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("topic \"no%20spaces\": names are"), "{body}");
    assert!(!head.contains("Connection: close"), "{head}");
    socket.write_all(b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut socket).0, 200);
    // A body that is not read would be taken for the next request.
    let post = "POST /no%20spaces HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    socket.write_all(post.as_bytes()).unwrap();
    let answer = read_to_end(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[test]
fn a_request_that_a_task_keeps_after_an_error_cannot_answer_the_next_one() {
    let kept = Mutex::new(None::<Request>);
    let server = serve(Config::default(), move |request| {
        let earlier = kept.lock().unwrap().replace(request);
        async move {
            if let Some(earlier) = earlier {
                return earlier.respond(text(StatusCode::OK, "Of the first request.")).await;
            }
            Err(TopicError::Name("a b".to_owned()))?
        }
    });
    let both = "GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = read_to_end(&mut send(server.address, both));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn a_request_that_a_task_keeps_after_an_answer_cannot_answer_the_next_one() {
    let kept = Mutex::new(None::<Request>);
    let server = serve(Config::default(), move |request| {
        let result = request.allow(&[Method::POST]);
        let earlier = kept.lock().unwrap().replace(request);
        async move {
            if let Some(earlier) = earlier {
                return earlier.respond(text(StatusCode::OK, "Of the first request.")).await;
            }
            result
        }
    });
    let both = "GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = read_to_end(&mut send(server.address, both));
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn other_errors_are_answered_with_500_without_their_text() {
    let topics = Arc::new(Topics::new(TopicsConfig::default()).unwrap());
    let server = serve(Config::default(), move |request| {
        let topics = Arc::clone(&topics);
        async move { handler(&topics, request).await }
    });
    for path in ["/json", "/text", "/boxed"] {
        let answer = read_to_end(&mut get(server.address, path));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let expected = "500 Internal Server Error\n\nThe server failed to answer this request.\n";
        assert_eq!(body, expected, "{path}");
    }
}

fn test_error() -> Error {
    Box::<dyn std::error::Error + Send + Sync>::from("test error").into()
}

/// Middleware that sets headers, around a handler that ends in the way of the path.
async fn with_headers(mut request: Request) -> Result<(), Error> {
    let headers = request.response_headers_mut();
    headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    headers.append("vary", HeaderValue::from_static("Origin"));
    headers.append("vary", HeaderValue::from_static("Accept"));
    headers.insert("content-type", HeaderValue::from_static("text/x-error"));
    headers.insert("content-length", HeaderValue::from_static("3"));
    match request.path() {
        "/error" => Err(TopicError::Name("a b".to_owned()))?,
        "/failed" => Err(test_error()),
        "/panic" => panic!("test panic"),
        "/without" => Ok(()),
        "/first" => {
            let first = [Ok(Event::new("1")), Err(test_error())];
            request.open_with(first).await.map(drop)
        }
        "/pieces" => request.start_response(http::Response::new(()), 2).send("ab").await,
        path => panic!("{path}"),
    }
}

#[test]
fn headers_of_middleware_are_in_answers_to_errors() {
    let server = serve(Config::default(), with_headers);
    for (path, status) in
        [("/error", 400), ("/failed", 500), ("/panic", 500), ("/without", 500), ("/first", 500)]
    {
        let (actual, head, body) = read_response(&mut get(server.address, path));
        assert_eq!(actual, status, "{head}");
        for line in [
            "Access-Control-Allow-Origin: *",
            "Vary: Origin",
            "Vary: Accept",
            "Content-Type: text/x-error",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{path}: {head}");
        }
        assert_eq!(head.matches("Content-").count(), 2, "{head}");
        assert!(body.starts_with(&status.to_string()), "{body}");
    }
    // An answer that is sent in pieces takes them, too, and the connection goes on.
    let mut socket = get(server.address, "/pieces");
    assert_eq!(read_response(&mut socket).2, "ab");
    socket.write_all(b"GET /error HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut socket).0, 400);
}

#[test]
fn headers_of_one_request_are_not_in_the_answer_to_the_next() {
    let server = serve(Config::default(), |mut request| async move {
        if request.path() == "/set" {
            let value = HeaderValue::from_static("set");
            request.response_headers_mut().insert("x-handler", value);
        }
        Err(TopicError::Name("a b".to_owned()))?
    });
    let mut socket = get(server.address, "/set");
    assert!(read_response(&mut socket).1.contains("\r\nX-Handler: set\r\n"));
    socket.write_all(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (status, head, _) = read_response(&mut socket);
    assert_eq!((status, head.contains("X-Handler")), (400, false), "{head}");
}

#[test]
fn an_error_after_the_head_cuts_the_stream_off_and_is_its_close_reason() {
    let (closed, on_close) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let closed = closed.clone();
        async move {
            let topics = Topics::new(TopicsConfig::default())?;
            let mut stream = request.open().await?;
            stream.on_close(move |end| {
                let CloseReason::Error(error) = &end.reason else { panic!("{:?}", end.reason) };
                let source = std::error::Error::source(error).unwrap().to_string();
                closed.send((end.reason.label(), end.reason.to_string(), source)).unwrap();
            });
            stream.send(Event::new("one")).await?;
            topics.subscribe(&["a b"], Start::Latest).await?;
            Ok(())
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: one\n\n", false));
    let (label, text, source) = on_close.recv_timeout(TIMEOUT).unwrap();
    assert_eq!((label, text), ("failed", format!("failed: {source}")));
    assert!(source.starts_with("topic \"a b\""), "{source}");
}

#[test]
fn a_stream_that_a_task_keeps_after_the_request_has_ended_fails_with_that_reason() {
    let (kept, streams) = mpsc::channel();
    let (closed, on_close) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let (kept, closed) = (kept.clone(), closed.clone());
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |_| closed.send(()).unwrap());
            kept.send(stream).unwrap();
            Ok(())
        }
    });
    let _socket = get(server.address, "/");
    on_close.recv_timeout(TIMEOUT).unwrap();
    let mut stream = streams.recv_timeout(TIMEOUT).unwrap();
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let subscription = future::block_on(topics.subscribe(&["a"], Start::Latest)).unwrap();
    for error in [
        future::block_on(stream.send(Event::new("late"))).unwrap_err(),
        future::block_on(stream.follow(subscription)).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Ended), "{error:?}");
    }
}

#[test]
fn metrics_count_a_client_error_as_answered_and_a_server_error_as_failed() {
    let topics = Arc::new(Topics::new(TopicsConfig::default()).unwrap());
    let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
    let (address, metrics) = (server.local_addr().unwrap(), server.metrics());
    let (stop, stopped) = channel::bounded::<()>(1);
    let thread = thread::spawn(move || {
        let executor = Executor::new();
        let serve = server.serve(&executor, move |request| {
            let topics = Arc::clone(&topics);
            async move { handler(&topics, request).await }
        });
        let stopped = async {
            let _ = stopped.recv().await;
        };
        future::block_on(executor.run(future::or(serve, stopped)));
    });
    for path in ["/no%20spaces", "/json"] {
        // The end of a request is reported before the connection is closed.
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        read_to_end(&mut send(address, &request));
    }
    drop(stop);
    thread.join().unwrap();
    let metrics = metrics.to_string();
    for line in
        ["sse_requests_total{reason=\"answered\"} 1", "sse_requests_total{reason=\"failed\"} 1"]
    {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
}
