//! What a handler can rely on, over real sockets.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderValue;
use smol::{Timer, channel, future};
use sse_proto::{Comment, Event, EventId, EventType};
use sse_smol_server::{Config, End, Request, text};
use support::{
    Counted, OnDrop, TIMEOUT, dechunk, events, get, read_head, read_response, read_to_end,
    read_until, send, serve,
};

/// No keep-alive, so that nothing is written but what the handler writes.
fn silent() -> Config {
    Config { keep_alive: None, ..Config::default() }
}

#[test]
fn the_head_is_there_before_the_handler_has_anything_to_say() {
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
    // The handler is still waiting, and only now it gets what it waits for.
    go.send_blocking("at last").unwrap();
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: at last\n\n", true));
}

#[test]
fn code_after_open_runs_with_the_head_sent_and_no_event_needed() {
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
    on_open.recv_timeout(TIMEOUT).expect("the handler runs on");
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
        stream.send(Event::without_data().with_retry(100)).await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let raw = read_to_end(&mut socket);
    assert!(raw.starts_with("9\r\n: first\n\n\r\n"), "one chunk for each: {raw:?}");
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
fn handlers_may_set_headers_of_their_own() {
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
fn silence_is_broken_by_keep_alives() {
    let interval = Duration::from_millis(150);
    let config = Config { keep_alive: Some(interval), ..Config::default() };
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
fn keep_alives_as_often_as_can_be_hold_up_nobody() {
    let config = Config { keep_alive: Some(Duration::from_nanos(1)), ..Config::default() };
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
    assert!((1..=10).contains(&count), "no more than twenty a second: {count}");
}

#[test]
fn traffic_puts_keep_alives_off() {
    let config = Config { keep_alive: Some(Duration::from_secs(1)), ..Config::default() };
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
    assert_eq!(body, "data: x\n\n".repeat(20), "no comment in two seconds of traffic");
}

#[test]
fn to_send_nothing_is_no_traffic() {
    let config = Config { keep_alive: Some(Duration::from_millis(200)), ..Config::default() };
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        loop {
            stream.send_all(None).await?;
            Timer::after(Duration::from_millis(50)).await;
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    assert_eq!(read_until(&mut socket, "\n\n\r\n"), "3\r\n:\n\n\r\n");
}

/// How long it takes until the handler of a client that leaves is dropped. Nothing is written
/// meanwhile.
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
    // The event is on its way, and the handler waits.
    let mut first = [0];
    socket.peek(&mut first).unwrap();
    assert!(on_drop.recv_timeout(Duration::from_millis(200)).is_err(), "it still runs");
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
fn a_client_whose_request_had_a_body_is_noticed_too() {
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
    // Closing with bytes unread resets it.
    let time = time_to_notice(drop);
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[test]
fn a_client_that_leaves_before_the_stream_is_open_is_noticed_too() {
    let (dropped, on_drop) = mpsc::channel();
    let config = Config { write_timeout: Duration::from_millis(500), ..silent() };
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
fn what_the_client_says_meanwhile_is_ignored() {
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

/// The client does not read, so the socket fills up and the handler loses patience in the middle
/// of an event. The stream is whole all the same.
#[test]
fn a_send_that_is_dropped_tears_nothing() {
    const LEN: usize = 16 << 20;
    let (gave_up, on_give_up) = mpsc::channel();
    let config = Config { keep_alive: Some(Duration::from_millis(20)), ..Config::default() };
    let server = serve(config, move |request| {
        let gave_up = gave_up.clone();
        async move {
            let mut stream = request.open().await?;
            let big = "x".repeat(LEN);
            let patience = async {
                Timer::after(Duration::from_millis(200)).await;
                gave_up.send(()).unwrap();
                Ok(())
            };
            future::or(stream.send(Event::new(&big)), patience).await?;
            stream.send(Event::new("after")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    on_give_up.recv_timeout(TIMEOUT).expect("16 MiB do not fit into a socket");
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert!(whole);
    let events = events(&body);
    let lengths: Vec<usize> = events.iter().map(|(_, data)| data.len()).collect();
    assert_eq!(lengths, [LEN, "after".len()]);
}

/// A client that does not read, and a handler that tries again and again: what piles up is bounded.
#[test]
fn sends_that_are_dropped_do_not_pile_up() {
    const LEN: usize = 1 << 20;
    let (tried, on_tried) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let tried = tried.clone();
        async move {
            let mut stream = request.open().await?;
            let big = "x".repeat(LEN);
            for _ in 0..200 {
                let patience = async {
                    Timer::after(Duration::from_millis(1)).await;
                    Ok(())
                };
                future::or(stream.send(Event::new(&big)), patience).await?;
            }
            tried.send(()).unwrap();
            stream.send(Event::new("after")).await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    on_tried.recv_timeout(TIMEOUT).expect("nobody waits for the client");
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    let events = events(&body);
    assert!(whole && events.len() < 50, "{} events were waiting", events.len());
    assert_eq!(events.last().unwrap().1, "after");
    assert!(events[..events.len() - 1].iter().all(|(_, data)| data.len() == LEN));
}

/// Executors within executors, and the like, have wakers of their own. A socket wakes but one.
#[test]
fn a_send_may_be_polled_by_anything_and_does_not_spin() {
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
            // And on another task altogether.
            let task = smol::spawn(async move { stream.send(Event::new("elsewhere")).await });
            task.await
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // The kernel takes a part of it, in steps that are its own. Then there is nothing to be done.
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
        assert!(start.elapsed() < TIMEOUT, "it is listened to for ever");
    }
    assert_eq!(on_close.recv_timeout(TIMEOUT), Ok("unasked"));
}

#[test]
fn a_handler_that_fails_cuts_the_stream_off() {
    let server = serve(silent(), |request| async move {
        let mut stream = request.open().await?;
        stream.send(Event::new("one")).await?;
        Err(End::Failed("the source dried up".into()))
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    let (body, whole) = dechunk(&read_to_end(&mut socket));
    assert_eq!((body.as_str(), whole), ("data: one\n\n", false), "the client can tell");
}

#[test]
fn a_handler_that_does_not_answer_is_an_error_and_no_end_of_the_server() {
    let server = serve(silent(), |request| async move {
        match request.path() {
            "/panic" => panic!("as the test wants it"),
            "/stopped" => Err(End::Stopped),
            "/fail" => Err(std::io::Error::other("no luck").into()),
            "/forget" => Ok(()),
            _ => request.respond(text(http::StatusCode::OK, "Fine.")).await,
        }
    });
    for path in ["/panic", "/fail", "/forget", "/stopped"] {
        let answer = read_to_end(&mut get(server.address, path));
        assert!(answer.starts_with("HTTP/1.1 500 "), "{path}: {answer}");
    }
    assert_eq!(read_response(&mut get(server.address, "/")).0, 200);
}

#[test]
fn a_handler_that_panics_before_it_has_a_future_is_an_error_too() {
    fn handler(_: Request) -> std::future::Ready<Result<(), End>> {
        panic!("as the test wants it")
    }
    let server = serve(silent(), handler);
    let mut socket = send(server.address, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = read_to_end(&mut socket);
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn many_streams_at_once_each_get_their_own() {
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

/// The system calls a socket writable when much of its buffer is free, which takes a slow reader
/// long. That is not the same as to take nothing.
#[test]
fn a_client_that_reads_slowly_is_not_given_up() {
    let config = Config { write_timeout: Duration::from_millis(700), ..silent() };
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
    // And one that reads nothing more is.
    assert_eq!(on_end.recv_timeout(TIMEOUT), Ok("stuck"));
}

#[test]
fn whoever_comes_late_is_told_at_once_that_the_stream_is_over() {
    let (told, on_told) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let told = told.clone();
        async move {
            let mut stream = request.open().await?;
            let token = stream.token();
            smol::spawn(async move {
                token.cancelled().await;
                assert!(stream.token().is_cancelled());
                assert!(stream.send(Event::new("late")).await.is_err());
                stream.on_close(move |end| told.send(end.reason.label()).unwrap());
            })
            .detach();
            Err(End::Failed("as the test wants it".into()))
        }
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    // Although somebody still held the stream.
    assert_eq!(read_to_end(&mut socket), "");
    assert_eq!(on_told.recv_timeout(TIMEOUT), Ok("failed"));
}

#[test]
fn a_hook_that_panics_keeps_nobody_else_from_being_told() {
    let (told, on_told) = mpsc::channel();
    let server = serve(silent(), move |request| {
        let told = told.clone();
        async move {
            let mut stream = request.open().await?;
            stream.on_close(|_| panic!("as the test wants it"));
            stream.on_close(move |_| told.send(()).unwrap());
            Ok(())
        }
    });
    let (_, whole) = {
        let mut socket = get(server.address, "/");
        read_head(&mut socket);
        dechunk(&read_to_end(&mut socket))
    };
    assert!(whole);
    on_told.recv_timeout(TIMEOUT).expect("the second hook is called");
}

#[test]
fn times_without_end_are_times_like_any_other() {
    let config = Config {
        keep_alive: Some(Duration::MAX),
        head_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        drain: Duration::MAX,
        ..Config::default()
    };
    let server = serve(config, |request| async move {
        let mut stream = request.open().await?;
        Timer::after(Duration::from_millis(50)).await;
        stream.send(Event::new("x")).await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    assert_eq!(dechunk(&read_to_end(&mut socket)), ("data: x\n\n".to_owned(), true));
}
