//! The API for handlers beyond sending: hooks, cancellation, forwarding, topics, and `Polled`.

mod support;

use std::error::Error as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode};
use smol::stream::StreamExt as _;
use smol::{Timer, channel, future};
use sse_proto::{Event, EventId, OwnedEvent};
use sse_smol_server::testing::TestServer;
use sse_smol_server::{
    Config, Error, Frame, Polled, PolledConfig, Publication, Request, Start, Topics, TopicsConfig,
    text,
};
use support::{
    TIMEOUT, dechunk, events, get, now, read_head, read_response, read_to_end, read_until, serve,
};

fn with_id(n: usize) -> Frame {
    let id = n.to_string();
    Event::new(&id).with_id(EventId::new(&id).unwrap()).into()
}

/// Returns the calls of `on_close` (reason, last event ID, events) by a handler chosen by `path`.
fn closed(
    path: &'static str,
    client: impl FnOnce(TcpStream) -> Option<TcpStream>,
) -> Vec<(String, String, u64)> {
    let (closed, on_close) = mpsc::channel();
    let config =
        Config::default().with_keep_alive(None).with_write_timeout(Duration::from_millis(300));
    let server = serve(config, move |request| {
        let closed = closed.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |end| {
                let id = end.last_event_id.as_deref().unwrap_or_default().to_owned();
                closed.send((end.reason.label().to_owned(), id, end.events)).unwrap();
            });
            stream.send_all((1..=3).map(with_id)).await?;
            match path {
                "/return" => Ok(()),
                "/fail" => Err(Error::Failed("test error".into())),
                "/panic" => panic!("test error"),
                "/stuck" => {
                    let big = "x".repeat(16 << 20);
                    stream.send(Event::new(&big).with_id(EventId::from_static("big"))).await
                }
                _ => future::pending().await,
            }
        }
    });
    let mut socket = get(server.address, path);
    read_head(&mut socket);
    read_until(&mut socket, "data: 3\n\n\r\n");
    // A socket that the client returns stays open until the hook has run.
    let kept = client(socket);
    let mut all = vec![on_close.recv_timeout(TIMEOUT).expect("the hook is called")];
    drop(kept);
    drop(server);
    all.extend(on_close.try_iter());
    all
}

#[test]
fn on_close_is_called_once_with_the_reason_and_the_last_id() {
    let wait = |mut socket: TcpStream| {
        let _ = std::io::Read::read_to_end(&mut socket, &mut Vec::new());
        None
    };
    let leave = |socket| {
        drop(socket);
        None
    };
    let expected = |reason: &str| vec![(reason.to_owned(), "3".to_owned(), 3)];
    assert_eq!(closed("/return", wait), expected("finished"));
    assert_eq!(closed("/fail", wait), expected("failed"));
    assert_eq!(closed("/panic", wait), expected("failed"));
    assert_eq!(closed("/wait", leave), expected("peer_closed"));
    // An event that the kernel took only in part does not count as sent.
    assert_eq!(closed("/stuck", Some), expected("stuck"));
}

#[test]
fn the_token_cancels_work_elsewhere_within_milliseconds() {
    let (cancelled, on_cancel) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let cancelled = cancelled.clone();
        async move {
            let mut stream = request.open().await?;
            let token = stream.token();
            assert!(!token.is_cancelled());
            smol::spawn(async move {
                token.cancelled().await;
                assert!(token.is_cancelled());
                cancelled.send(Instant::now()).unwrap();
            })
            .detach();
            stream.send(Event::new("x")).await?;
            future::pending().await
        }
    });
    let mut socket = get(server.address, "/");
    read_until(&mut socket, "data: x\n\n\r\n");
    let left = Instant::now();
    drop(socket);
    let time = on_cancel.recv_timeout(TIMEOUT).unwrap() - left;
    assert!(time < Duration::from_millis(500), "{time:?}");
}

#[test]
fn a_forwarded_channel_sees_backpressure_and_then_the_close_of_the_client() {
    let (senders, receive) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let (sender, receiver) = channel::bounded::<Frame>(2);
        senders.send(sender).unwrap();
        async move { request.open().await?.forward(receiver).await }
    });
    // Closing the channel ends the response.
    let mut socket = get(server.address, "/");
    let sender: channel::Sender<Frame> = receive.recv_timeout(TIMEOUT).unwrap();
    for n in 0..5 {
        sender.send_blocking(with_id(n)).unwrap();
    }
    drop(sender);
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((events(&body).len(), whole), (5, true));

    // A client that does not read fills the socket, then the channel.
    let socket = get(server.address, "/");
    let sender: channel::Sender<Frame> = receive.recv_timeout(TIMEOUT).unwrap();
    let big = Frame::from(Event::new(&"x".repeat(1 << 20)));
    let start = Instant::now();
    while sender.try_send(big.clone()).is_ok() || sender.len() < 2 {
        assert!(start.elapsed() < TIMEOUT, "the channel fills up");
        thread::sleep(Duration::from_millis(5));
    }
    drop(socket);
    smol::block_on(async {
        let closed = async {
            while sender.send(big.clone()).await.is_ok() {}
            true
        };
        let late = async {
            Timer::after(TIMEOUT).await;
            false
        };
        assert!(future::or(closed, late).await, "the channel is closed");
    });
}

#[test]
fn an_error_among_the_items_is_returned_after_the_items_before_it() {
    let (results, on_result) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let results = results.clone();
        async move {
            let all = request.path() == "/all";
            let mut stream = request.open().await?;
            let error = || std::io::Error::other("broken source");
            let items = [Ok(OwnedEvent::new("a")), Ok(OwnedEvent::new("b")), Err(error())];
            let items = items.into_iter().chain([Ok(OwnedEvent::new("never sent"))]);
            let result = if all {
                stream.send_all(items).await
            } else {
                stream.forward(smol::stream::iter(items)).await
            };
            let error = result.unwrap_err();
            results.send(error.source().unwrap().to_string()).unwrap();
            Err(error)
        }
    });
    for path in ["/all", "/forward"] {
        let mut socket = get(server.address, path);
        read_head(&mut socket);
        let (body, whole) = dechunk(&read_to_end(&mut socket));
        assert_eq!((body.as_str(), whole), ("data: a\n\ndata: b\n\n", false), "{path}");
        assert_eq!(on_result.recv_timeout(TIMEOUT).unwrap(), "broken source");
    }
}

#[test]
fn the_last_id_of_a_closed_stream_is_the_one_that_the_client_has() {
    let (ids, on_close) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let ids = ids.clone();
        async move {
            let id: &[u8] =
                if request.path() == "/text" { "caf\u{e9}".as_bytes() } else { b"caf\xC3" };
            let mut stream = request.open().await?;
            stream.on_close(move |closed| ids.send(closed.last_event_id.clone()).unwrap());
            stream.send(Event::new("x").with_id(EventId::new(id).unwrap())).await
        }
    });
    for (path, id) in [("/text", "caf\u{e9}"), ("/broken", "caf\u{FFFD}")] {
        std::io::copy(&mut get(server.address, path), &mut std::io::sink()).unwrap();
        assert_eq!(on_close.recv_timeout(TIMEOUT).unwrap().as_deref(), Some(id));
    }
}

#[test]
fn a_periodic_stream_can_be_forwarded() {
    let server = serve(Config::default(), |request| async move {
        let mut n = 0;
        let ticks = Timer::interval(Duration::from_millis(50)).take(3).map(move |_| {
            n += 1;
            with_id(n)
        });
        request.open().await?.forward(ticks).await
    });
    let start = Instant::now();
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    let data: Vec<String> = events(&body).into_iter().map(|(_, data)| data).collect();
    assert_eq!((data.join(" "), whole), ("1 2 3".to_owned(), true));
    assert!(start.elapsed() >= Duration::from_millis(140));
}

#[test]
fn middleware_runs_before_the_head_is_sent() {
    async fn handler(request: Request) -> Result<(), Error> {
        request.open().await.map(drop)
    }
    async fn wrapped(mut request: Request) -> Result<(), Error> {
        if request.query() == Some("forbidden") {
            return request.respond(text(StatusCode::FORBIDDEN, "No.")).await;
        }
        request.response_headers_mut().insert("x-wrapped", HeaderValue::from_static("yes"));
        let result = handler(request).await;
        assert!(matches!(result, Ok(())), "{result:?}");
        result
    }
    let server = serve(Config::default(), wrapped);
    assert!(read_head(&mut get(server.address, "/")).contains("\r\nX-Wrapped: yes\r\n"));
    assert_eq!(read_response(&mut get(server.address, "/?forbidden")).0, 403);
}

#[test]
fn follow_sends_the_events_of_topics() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let shared = topics.clone();
    let server = serve(Config::default(), move |request| {
        let subscription = now(shared.subscribe(&["news"], Start::Earliest)).unwrap();
        async move { request.open().await?.follow(subscription).await }
    });
    let publish = |data: &str| now(topics.publish("news", Publication::new(data))).unwrap();
    publish("before");
    let mut socket = get(server.address, "/");
    read_until(&mut socket, "data: before\n\n\r\n");
    for n in 0..10 {
        publish(&n.to_string());
        read_until(&mut socket, &format!("data: {n}\n\n\r\n"));
    }
    assert_eq!(now(topics.list(None, 1)).unwrap().topics[0].subscribers, 1);
    drop(socket);
    let start = Instant::now();
    while topics.totals().subscriptions > 0 {
        assert!(start.elapsed() < TIMEOUT, "the subscription ends");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Serves a `Polled` source that counts its calls and returns each number twice.
fn polled(config: PolledConfig) -> (Arc<AtomicUsize>, support::Running) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let source = Arc::new(Polled::new(config, move || {
        let n = counter.fetch_add(1, Ordering::Relaxed) / 2;
        async move { Ok(text(StatusCode::OK, format!("load\n{n}"))) }
    }));
    let server = serve(Config::default(), move |request| {
        let source = Arc::clone(&source);
        async move { source.serve(request).await }
    });
    (calls, server)
}

#[test]
fn a_polled_source_is_called_once_for_all_streams_and_never_without_one() {
    let interval = Duration::from_millis(100);
    let (calls, server) = polled(PolledConfig::default().with_interval(interval));
    for plain in ["/", "/?upstream=true", "/?stream=truely", "/?stream=1"] {
        let (status, head, body) = read_response(&mut get(server.address, plain));
        assert!(
            status == 200 && head.contains("text/plain") && body.starts_with("load\n"),
            "{plain}"
        );
    }
    thread::sleep(2 * interval);
    assert_eq!(calls.swap(0, Ordering::Relaxed), 4, "one call for each plain request");

    let start = Instant::now();
    let mut sockets: Vec<_> = (0..5).map(|_| get(server.address, "/?a=b&stream=true")).collect();
    for socket in &mut sockets {
        for n in 0..4 {
            // A body of several lines is one event.
            let event = read_until(socket, "\n\n\r\n");
            assert!(event.ends_with(&format!("data: load\ndata: {n}\n\n\r\n")), "{event}");
        }
    }
    let (times, calls_now) = (start.elapsed().as_millis() / 100 + 2, calls.load(Ordering::Relaxed));
    assert!(calls_now >= 7 && calls_now <= usize::try_from(times).unwrap(), "{calls_now} times");

    // When the stream that polls closes, another one takes over.
    for _ in 0..4 {
        drop(sockets.remove(0));
        read_until(&mut sockets[0], "\n\n\r\n");
    }
    drop(sockets);
    thread::sleep(3 * interval);
    let before = calls.load(Ordering::Relaxed);
    thread::sleep(3 * interval);
    assert_eq!(calls.load(Ordering::Relaxed), before, "no calls without a stream");
}

#[test]
fn a_polled_source_obeys_its_configuration() {
    let config = PolledConfig::default()
        .with_initial(Duration::from_millis(300))
        .with_interval(Duration::from_millis(20))
        .with_repeat_unchanged(true)
        .with_max_streams(2);
    let (calls, server) = polled(config);
    let start = Instant::now();
    let mut first = get(server.address, "/?stream=true");
    read_until(&mut first, "data: 0\n");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    read_until(&mut first, "data: 0\n");
    read_until(&mut first, "data: 1\n");
    assert!(calls.load(Ordering::Relaxed) >= 3);
    let mut second = get(server.address, "/?stream=true");
    read_until(&mut second, "data: ");
    let (status, head, _) = read_response(&mut get(server.address, "/?stream=true"));
    assert!(status == 503 && head.contains("Retry-After: "), "{head}");
    drop(second);
    let start = Instant::now();
    while read_head(&mut get(server.address, "/?stream=true")).starts_with("HTTP/1.1 503") {
        assert!(start.elapsed() < TIMEOUT, "a closed stream frees its place");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_streams_of_a_polled_source_are_selected_by_the_caller() {
    let source = Polled::new(PolledConfig::default(), || async {
        Ok(http::Response::new(b"body".to_vec()))
    });
    let select = |request: &Request| {
        *request.method() == Method::POST || request.path().ends_with("/stream")
    };
    let source = Arc::new(source.stream_if(select));
    let server = TestServer::new(move |request| {
        let source = Arc::clone(&source);
        async move { source.serve(request).await }
    });
    let ask = |method: &str, target: &str| {
        server.send(http::Request::builder().method(method).uri(target).body("").unwrap())
    };
    future::block_on(async {
        for (method, target) in [("GET", "/a/stream"), ("POST", "/a")] {
            let event = ask(method, target).await.event().await.unwrap();
            assert_eq!(event.data(), "body", "{method} {target}");
        }
        assert_eq!(ask("GET", "/a?stream=true").await.text().await, "body");
        assert_eq!(ask("HEAD", "/a").await.status(), StatusCode::OK);
        assert_eq!(ask("PUT", "/a").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    });
}
