//! The guarantees for handlers of event streams, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod ends;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderValue;
use smol::{Timer, channel, future};
use sse_proto::{Comment, Event, EventId, EventType};
use sse_smol_server::{Config, Frame};
use support::{
    Counted, TIMEOUT, dechunk, events, get, read_head, read_to_end, read_until, send, serve,
};

/// Returns a configuration without keep-alive, so that only the handler writes.
fn silent() -> Config {
    Config::default().with_keep_alive(None)
}

#[test]
fn the_head_is_sent_before_the_first_event() {
    let (go, wait) = channel::bounded::<&'static str>(1);
    let server = serve(silent(), move |request| {
        let wait = wait.clone();
        async move {
            let mut stream = request.open().await?;
            let word = wait.recv().await.unwrap();
            stream.send(Event::new(word)).await
        }
    });
    let mut socket = get(server.address, "/");
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in [
        "\r\nContent-Type: text/event-stream\r\n",
        "\r\nCache-Control: no-cache, no-transform\r\n",
        "\r\nX-Accel-Buffering: no\r\n",
        "\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert!(head.contains(header), "{header:?} in {head}");
    }
    assert!(!head.contains("Content-Length"), "{head}");
    // The handler was still waiting when the head arrived.
    go.send_blocking("first").unwrap();
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: first\n\n", true));
}

#[test]
fn code_after_open_runs_without_an_event() {
    let (opened, on_open) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let opened = opened.clone();
        async move {
            let _stream = request.open().await?;
            opened.send(()).unwrap();
            future::pending().await
        }
    });
    let mut socket = get(server.address, "/");
    on_open.recv_timeout(TIMEOUT).expect("the handler continues");
    read_head(&mut socket);
}

#[test]
fn events_arrive_as_they_are_sent() {
    let server = serve(silent(), |request| async move {
        let mut stream = request.open().await?;
        stream.send(Comment::new(" first")).await?;
        let tick = EventType::from_static("tick");
        for n in 0..3 {
            let (data, id) = (format!("line {n}\nand more"), n.to_string());
            let id = EventId::new(&id).unwrap();
            stream.send(Event::new(&data).with_type(tick).with_id(id)).await?;
        }
        stream.send(Event::without_data().with_retry(Duration::from_millis(100))).await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let raw = read_to_end(&mut socket);
    assert!(raw.starts_with("9\r\n: first\n\n\r\n"), "each frame is one chunk: {raw:?}");
    let (body, whole) = dechunk(&raw);
    assert!(whole && body.ends_with("retry: 100\n\n"), "{body}");
    let expected = [0, 1, 2].map(|n| ("tick".to_owned(), format!("line {n}\nand more")));
    assert_eq!(events(&body), expected);
}

#[test]
fn http_1_0_gets_the_stream_without_chunks() {
    let server = serve(silent(), |request| async move {
        let mut stream = request.open().await?;
        stream.send(Event::new("old")).await
    });
    let mut socket = send(server.address, "GET / HTTP/1.0\r\n\r\n");
    let head = read_head(&mut socket);
    assert!(head.contains("Connection: close") && !head.contains("Transfer-Encoding"), "{head}");
    assert_eq!(read_to_end(&mut socket), "data: old\n\n");
}

#[test]
fn handlers_can_set_response_headers() {
    let server = serve(silent(), |mut request| async move {
        let headers = request.response_headers_mut();
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.insert("x-stream", HeaderValue::from_static("7"));
        headers.append("x-stream", HeaderValue::from_static("8"));
        headers.insert("content-length", HeaderValue::from_static("7"));
        request.open().await.map(drop)
    });
    let head = read_head(&mut get(server.address, "/"));
    assert!(
        head.contains("Cache-Control: no-store\r\n")
            && head.contains("X-Stream: 7\r\nX-Stream: 8\r\n")
    );
    assert!(!head.contains("no-transform"), "{head}");
    assert!(!head.contains("Content-Length") && head.contains("chunked"), "{head}");
}

#[test]
fn idle_streams_get_keep_alives() {
    let interval = Duration::from_millis(150);
    let config = Config::default().with_keep_alive(Some(interval));
    let (go, wait) = channel::bounded::<()>(1);
    let server = serve(config, move |request| {
        let wait = wait.clone();
        async move {
            let mut stream = request.open().await?;
            wait.recv().await.unwrap();
            stream.send(Event::new("after")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let start = Instant::now();
    for n in 1..=4 {
        assert_eq!(read_until(&mut socket, "\n\n\r\n"), "3\r\n:\n\n\r\n");
        let (time, due) = (start.elapsed(), interval * n);
        assert!(time + interval / 2 > due, "number {n} is early: {time:?}");
        assert!(time < due + Duration::from_secs(2), "number {n} is late: {time:?}");
    }
    go.send_blocking(()).unwrap();
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.trim_start_matches(":\n\n"), whole), ("data: after\n\n", true));
}

#[test]
fn the_shortest_keep_alive_interval_does_not_starve_the_handler() {
    let config = Config::default().with_keep_alive(Some(Duration::from_nanos(1)));
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        Timer::after(Duration::from_millis(500)).await;
        stream.send(Event::new("after")).await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert!(whole && body.ends_with("data: after\n\n"));
    let count = body.matches(":\n\n").count();
    assert!((1..=10).contains(&count), "at most twenty keep-alives a second: {count}");
}

#[test]
fn traffic_postpones_keep_alives() {
    let config = Config::default().with_keep_alive(Some(Duration::from_secs(1)));
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        for _ in 0..20 {
            Timer::after(Duration::from_millis(100)).await;
            stream.send(Event::new("x")).await?;
        }
        Ok(())
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, _) = dechunk(&read_to_end(&mut socket));
    assert_eq!(body, "data: x\n\n".repeat(20), "no keep-alive in two seconds of traffic");
}

#[test]
fn an_empty_send_does_not_postpone_keep_alives() {
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(200)));
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        loop {
            stream.send_all(None::<Frame>).await?;
            Timer::after(Duration::from_millis(50)).await;
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    assert_eq!(read_until(&mut socket, "\n\n\r\n"), "3\r\n:\n\n\r\n");
}

/// The client does not read, so the socket buffers fill up and the handler drops the send in the
/// middle of an event.
#[test]
fn a_dropped_send_leaves_the_stream_intact() {
    const LEN: usize = 16 << 20;
    let (gave_up, on_give_up) = mpsc::channel();
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(20)));
    let server = serve(config, move |request| {
        let gave_up = gave_up.clone();
        async move {
            let mut stream = request.open().await?;
            let big = "x".repeat(LEN);
            let timeout = async {
                Timer::after(Duration::from_millis(200)).await;
                gave_up.send(()).unwrap();
                Ok(())
            };
            future::or(stream.send(Event::new(&big)), timeout).await?;
            stream.send(Event::new("after")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    on_give_up.recv_timeout(TIMEOUT).expect("16 MiB do not fit into the socket buffers");
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert!(whole);
    let events = events(&body);
    let lengths: Vec<usize> = events.iter().map(|(_, data)| data.len()).collect();
    assert_eq!(lengths, [LEN, "after".len()]);
}

/// The client does not read, and the handler sends repeatedly: the output queue stays limited.
#[test]
fn dropped_sends_do_not_accumulate() {
    const LEN: usize = 1 << 20;
    let (tried, on_tried) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let tried = tried.clone();
        async move {
            let mut stream = request.open().await?;
            let big = "x".repeat(LEN);
            for _ in 0..200 {
                let timeout = async {
                    Timer::after(Duration::from_millis(1)).await;
                    Ok(())
                };
                future::or(stream.send(Event::new(&big)), timeout).await?;
            }
            tried.send(()).unwrap();
            stream.send(Event::new("after")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    on_tried.recv_timeout(TIMEOUT).expect("dropped sends do not wait for the client");
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    let events = events(&body);
    assert!(whole && events.len() < 50, "{} events were queued", events.len());
    assert_eq!(events.last().unwrap().1, "after");
    assert!(events[..events.len() - 1].iter().all(|(_, data)| data.len() == LEN));
}

/// Nested executors have their own wakers, and a socket wakes only one task.
#[test]
fn a_send_under_a_nested_executor_does_not_spin() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let server = serve(silent(), move |request| {
        let counter = Arc::clone(&counter);
        async move {
            let mut stream = request.open().await?;
            let inner = smol::Executor::new();
            let send = async {
                let big = "x".repeat(16 << 20);
                Counted(Box::pin(stream.send(Event::new(&big))), counter).await
            };
            inner.run(send).await?;
            // Also on another task.
            let task = smol::spawn(async move { stream.send(Event::new("elsewhere")).await });
            task.await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // The kernel takes a part of the event in several steps. After that, no poll can make progress.
    let start = Instant::now();
    let mut before = 0;
    while before == 0 || polls.load(Ordering::Relaxed) != before {
        assert!(start.elapsed() < TIMEOUT, "polled {before} times so far");
        before = polls.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
    }
    socket.write_all(b"x").unwrap();
    thread::sleep(Duration::from_millis(300));
    let while_blocked = polls.load(Ordering::Relaxed) - before;
    assert!(while_blocked < 10, "polled {while_blocked} times");
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert!(whole && body.ends_with("\n\ndata: elsewhere\n\n"));
}

#[test]
fn concurrent_streams_get_their_own_events() {
    let server = serve(silent(), |request| async move {
        let name = Arc::new(request.path().to_owned());
        let mut stream = request.open().await?;
        for _ in 0..50 {
            stream.send(Event::new(&*name)).await?;
            future::yield_now().await;
        }
        Ok(())
    });
    let clients: Vec<_> = (0..40)
        .map(|n| {
            let address = server.address;
            thread::spawn(move || {
                let mut socket = get(address, &format!("/{n}"));
                read_head(&mut socket);
                let (body, whole) = dechunk(&read_to_end(&mut socket));
                assert!(whole);
                assert_eq!(body, format!("data: /{n}\n\n").repeat(50));
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

/// The kernel reports a socket writable only when much of its buffer is free, which takes long with
/// a slow reader. The write timeout must not fire as long as data is acknowledged.
#[test]
fn a_client_that_reads_slowly_is_not_disconnected() {
    let config = silent().with_write_timeout(Duration::from_millis(700));
    let (ended, on_end) = mpsc::channel();
    let server = serve(config, move |request| {
        let ended = ended.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(move |end| ended.send(end.reason.label()).unwrap());
            let big = "x".repeat(64 << 20);
            stream.send(Event::new(&big)).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let start = Instant::now();
    let mut piece = vec![0; 64 << 10];
    while start.elapsed() < Duration::from_secs(5) {
        socket.read_exact(&mut piece).unwrap();
        assert_eq!(on_end.try_recv(), Err(mpsc::TryRecvError::Empty), "{:?}", start.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    // When the client stops reading, the timeout fires.
    assert_eq!(on_end.recv_timeout(TIMEOUT), Ok("stuck"));
}

#[test]
fn infinite_durations_are_accepted() {
    let config = Config::default()
        .with_keep_alive(Some(Duration::MAX))
        .with_head_timeout(Duration::MAX)
        .with_write_timeout(Duration::MAX)
        .with_drain(Duration::MAX);
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        Timer::after(Duration::from_millis(50)).await;
        stream.send(Event::new("x")).await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    assert_eq!(dechunk(&read_to_end(&mut socket)), ("data: x\n\n".to_owned(), true));
}
