//! Streams served by delivery workers get every event once and in order, however they were parked
//! and however fast the client reads.

#[path = "../support/mod.rs"]
mod support;

mod backlogs;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use smol::future::FutureExt as _;
use smol::{Executor, Timer, block_on, channel};
use sse_smol_server::{Config, History, Publication, Request, Server, Start, Topics, TopicsConfig};
use support::subscriber::{
    Publisher, StreamEnd, Subscriber, read_all_until, subscribers, wait_until,
};
use support::{Binary, Counted, TIMEOUT, get, now, read_head, read_until, send, serve};

/// Returns a number of streams that gives each delivery worker some.
fn streams_for_all_workers() -> usize {
    2 * thread::available_parallelism().map_or(1, usize::from)
}

/// An event size above the socket buffers and below the default limit of decoders, in bytes.
const LARGE: usize = 15 << 20;

/// Positions are numbers over all topics, so streams that have sent all events of their topic may
/// be at different positions.
#[test]
fn streams_park_at_different_positions() {
    let server = Binary::start(&["--keep-alive", "0"]);
    let mut publisher = Publisher::open(server.address);
    let first = publisher.publish("news", "0");
    for _ in 0..10 {
        publisher.publish("other", "x");
    }
    let path = "/topics/news";
    let mut all: Vec<_> =
        (0..streams_for_all_workers()).map(|_| Subscriber::open(server.address, path)).collect();
    publisher.publish("other", "x");
    for _ in 0..streams_for_all_workers() {
        all.push(Subscriber::resume(server.address, path, &first));
        all.push(Subscriber::resume(server.address, path, "latest"));
    }
    for n in 1..4 {
        publisher.publish("news", &n.to_string());
        read_all_until(&mut all, "an event", |one| one.events.len() >= n);
    }
    // Also after all earlier subscribers have left.
    all.clear();
    wait_until("all have left", || subscribers(server.address, "news") == 0);
    for _ in 0..streams_for_all_workers() {
        let mut earliest = Subscriber::resume(server.address, path, "earliest");
        earliest.read_events(4);
        all.push(earliest);
    }
    publisher.publish("news", "4");
    read_all_until(&mut all, "all events", |one| one.events.len() >= 5);
    for one in &all {
        assert_eq!(one.data(), ["0", "1", "2", "3", "4"]);
    }
}

fn publish(topics: &Topics, name: &str, data: &str) -> String {
    now(topics.publish(name, Publication::new(data))).unwrap().id
}

/// Returns a configuration without keep-alive, so that only published events are written.
fn silent() -> Config {
    Config::default().with_keep_alive(None)
}

/// Nested executors have their own wakers.
#[test]
fn a_stream_parks_under_a_nested_executor_and_does_not_spin() {
    let topics = Topics::new(TopicsConfig::default()).unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let (source, counter) = (topics.clone(), Arc::clone(&polls));
    let server = serve(silent(), move |request| {
        let subscription = now(source.subscribe(&["news"], Start::Latest)).unwrap();
        let counter = Arc::clone(&counter);
        async move {
            let mut stream = request.open().await?;
            let inner = Executor::new();
            let follow = async move { stream.follow(subscription).await };
            let task = inner.spawn(Counted(Box::pin(follow), counter));
            inner.run(task).await
        }
    });
    let mut subscriber = Subscriber::open(server.address, "/");
    for n in 0..10 {
        publish(&topics, "news", &n.to_string());
        subscriber.read_events(n + 1);
    }
    let before = polls.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(300));
    let while_parked = polls.load(Ordering::Relaxed) - before;
    assert!(while_parked < 10, "polled {while_parked} times");
    // The task is woken when the stream is unparked.
    publish(&topics, "news", &"x".repeat(LARGE));
    subscriber.read_events(11);
    publish(&topics, "news", "after");
    assert_eq!(subscriber.read_events(12)[11].data, "after");
}

#[test]
fn a_stream_opened_by_another_task_gets_keep_alives() {
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(100)));
    let server = serve(config, |request| async move {
        let task = smol::spawn(async move {
            Timer::after(Duration::from_millis(50)).await;
            let _stream = request.open().await?;
            std::future::pending().await
        });
        task.await
    });
    let mut socket = get(server.address, "/");
    read_head(&mut socket);
    for _ in 0..2 {
        assert_eq!(read_until(&mut socket, "\n\n\r\n"), "3\r\n:\n\n\r\n");
    }
}

/// The end of a stream: its reason, its last event ID, and the number of events sent.
type Closed = (&'static str, Option<String>, u64);

/// A server on several threads, so that workers and stream tasks run concurrently.
struct Threads {
    address: SocketAddr,
    stop: Option<channel::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.take();
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

/// Starts a server whose paths are topic names joined by `+`. Reports the streams that end.
fn serve_topics(config: Config, topics: &Topics) -> (Threads, mpsc::Receiver<Closed>) {
    let (ended, on_end) = mpsc::channel();
    let topics = topics.clone();
    let handler = move |request: Request| {
        let id = request.headers().get("last-event-id");
        let id = id.map(|id| id.to_str().unwrap().to_owned());
        let start = id.as_deref().map_or(Start::Latest, Start::After);
        let names: Vec<&str> = request.path()[1..].split('+').collect();
        let mut subscription = now(topics.subscribe(&names, start)).unwrap();
        let ended = ended.clone();
        async move {
            let mut stream = request.open_with(subscription.ready()).await?;
            stream.on_close(move |closed| {
                let id = closed.last_event_id.as_deref().map(str::to_owned);
                let _ = ended.send((closed.reason.label(), id, closed.events));
            });
            stream.follow(subscription).await
        }
    };
    let server = Server::bind("127.0.0.1:0", config).unwrap();
    let address = server.local_addr().unwrap();
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = channel::bounded::<()>(1);
    let mut threads = Vec::new();
    for _ in 0..2 {
        let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
        threads.push(thread::spawn(move || {
            let _ = block_on(executor.run(stopped.recv()));
        }));
    }
    threads.push(thread::spawn(move || {
        let stopped = async {
            let _ = stopped.recv().await;
        };
        block_on(executor.run(server.serve(&executor, handler).or(stopped)));
    }));
    (Threads { address, stop: Some(stop), threads }, on_end)
}

/// Returns topics without limits on their logs.
fn unbounded() -> Topics {
    let history = History::default().with_events(usize::MAX).with_bytes(usize::MAX);
    Topics::new(TopicsConfig::default().with_history(history).with_max_bytes(usize::MAX)).unwrap()
}

/// Returns a number and up to `most` bytes of filler, so that events end anywhere in a buffer.
fn filled(number: usize, most: usize) -> String {
    format!("{number} {}", "x".repeat(number * 7919 % most))
}

/// More bytes than the socket buffers of a connection hold.
const TOO_MUCH: usize = 24 << 20;

/// Publishes until the socket buffers of idle clients are full. Returns the IDs and data.
fn flood(topics: &Topics, name: &str) -> Vec<(String, String)> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    while bytes < TOO_MUCH {
        let data = filled(all.len(), 30_000);
        bytes += data.len();
        all.push((publish(topics, name, &data), data));
        if all.len() % 8 == 0 {
            // Gives the workers time to deliver.
            thread::sleep(Duration::from_millis(1));
        }
    }
    all
}

/// Opens a stream over HTTP/1.0, so without chunks.
fn open_http_1_0(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = send(address, &format!("GET {path} HTTP/1.0\r\n\r\n"));
    let head = read_head(&mut socket);
    assert!(!head.contains("Transfer-Encoding"), "{head}");
    socket
}

#[test]
fn workers_write_http_1_0_streams_without_chunks() {
    let topics = unbounded();
    let (server, on_end) = serve_topics(silent(), &topics);
    let mut clients: Vec<_> =
        (0..streams_for_all_workers()).map(|_| open_http_1_0(server.address, "/news")).collect();
    let mut new = Subscriber::open(server.address, "/news");
    for client in &mut clients {
        assert!(read_until(client, "\n\n").starts_with("id: "));
    }
    let mut id = String::new();
    for n in 0..10 {
        id = publish(&topics, "news", &n.to_string());
        let event = format!("id: {id}\ndata: {n}\n\n");
        for client in &mut clients {
            assert_eq!(read_until(client, "\n\n"), event);
        }
        new.read_events(n + 1);
    }
    drop(new);
    assert_eq!(on_end.recv_timeout(TIMEOUT), Ok(("peer_closed", Some(id), 10)));
    // Also when the socket buffers are full.
    let mut expected = String::new();
    for (id, data) in flood(&topics, "news") {
        expected.extend(["id: ", &id, "\ndata: ", &data, "\n\n"]);
    }
    for client in &mut clients {
        let mut seen = vec![0; expected.len()];
        client.read_exact(&mut seen).unwrap();
        assert!(seen == expected.as_bytes(), "every event once and in order, without framing");
    }
}

/// Writes by workers count as traffic.
#[test]
fn deliveries_by_workers_postpone_keep_alives() {
    let topics = unbounded();
    let config = Config::default().with_keep_alive(Some(Duration::from_secs(1)));
    let (server, _on_end) = serve_topics(config, &topics);
    let mut client = Subscriber::open(server.address, "/news");
    for n in 0..20 {
        publish(&topics, "news", &n.to_string());
        client.read_events(n + 1);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!client.text.windows(3).any(|bytes| bytes == b":\n\n"), "no comment between events");
    client.read_until("a comment after the events", |one| one.text.ends_with(b"\n\n:\n\n"));
}

/// Slow and fast clients, of one topic and of several, that reconnect at random times: each gets
/// every event once and in order, whether a worker or the stream task wrote it.
#[test]
fn clients_that_reconnect_get_every_event_once_and_in_order() {
    const EVENTS: usize = 3000;
    let topics = unbounded();
    let config = Config::default().with_keep_alive(Some(Duration::from_millis(50)));
    let (server, _on_end) = serve_topics(config, &topics);
    let address = server.address;
    let before = publish(&topics, "other", "first");
    thread::scope(|scope| {
        let publishing: Vec<_> = ["a", "b"]
            .map(|name| {
                let topics = &topics;
                scope.spawn(move || {
                    for n in 0..EVENTS {
                        publish(topics, name, &filled(n, 2000));
                        if n % 50 < 10 {
                            thread::sleep(Duration::from_micros(n as u64 % 500));
                        }
                    }
                })
            })
            .into();
        let clients: Vec<_> = (0..12)
            .map(|number| {
                let before = &before;
                let path = ["/a", "/b", "/a+b"][number % 3];
                scope.spawn(move || {
                    let mut last = before.clone();
                    let mut seen: Vec<String> = Vec::new();
                    let count = if number % 3 == 2 { 2 * EVENTS } else { EVENTS };
                    let start = Instant::now();
                    while seen.len() < count {
                        assert!(start.elapsed() < 3 * TIMEOUT, "{} of {count}", seen.len());
                        let mut client = Subscriber::resume(address, path, &last);
                        // Half of the clients reconnect after a few hundred events.
                        let enough = if number < 6 { count } else { 1 + seen.len() % 300 };
                        while client.events.len() < enough
                            && seen.len() + client.events.len() < count
                        {
                            let most = if number % 2 == 0 { 1000 } else { usize::MAX };
                            if client.take(most) == 0 || number % 4 == 0 {
                                thread::sleep(Duration::from_micros(200));
                            }
                            assert_eq!(client.end, None);
                            assert!(start.elapsed() < 3 * TIMEOUT, "{} of {count}", seen.len());
                        }
                        last = client.events.last().unwrap().id.clone();
                        seen.extend(client.events.into_iter().map(|event| event.data));
                    }
                    (number, seen)
                })
            })
            .collect();
        for publisher in publishing {
            publisher.join().unwrap();
        }
        let expected: Vec<String> = (0..EVENTS).map(|n| filled(n, 2000)).collect();
        for client in clients {
            let (number, mut seen) = client.join().unwrap();
            if number % 3 == 2 {
                // Each topic is complete and in order.
                let mut next = [0, 0];
                for data in &seen {
                    let topic = usize::from(expected.get(next[0]) != Some(data));
                    assert!(expected.get(next[topic]) == Some(data), "{number}: {next:?}");
                    next[topic] += 1;
                }
                seen.clear();
            } else {
                assert!(seen == expected, "{number}: every event once and in order");
            }
        }
    });
}

/// Streams park and leave while a worker iterates over a large group, both behind and ahead of the
/// worker's position in the group.
#[test]
fn streams_that_reconnect_during_a_delivery_get_every_event_once_and_in_order() {
    const EVENTS: usize = 1000;
    let topics = unbounded();
    let (server, _on_end) = serve_topics(silent(), &topics);
    let address = server.address;
    let first = publish(&topics, "news", "0");
    // More streams than a worker serves before it yields.
    let mut crowd: Vec<_> = (0..40 * streams_for_all_workers())
        .map(|_| Subscriber::resume(address, "/news", &first))
        .collect();
    thread::scope(|scope| {
        let reconnecting: Vec<_> = (0..6)
            .map(|number| {
                let first = &first;
                scope.spawn(move || {
                    let (mut last, mut seen) = (first.clone(), vec!["0".to_owned()]);
                    while seen.len() < EVENTS {
                        let mut client = Subscriber::resume(address, "/news", &last);
                        let enough = (1 + number * seen.len() % 7).min(EVENTS - seen.len());
                        client.read_events(enough);
                        last = client.events.last().unwrap().id.clone();
                        seen.extend(client.events.into_iter().map(|event| event.data));
                    }
                    seen
                })
            })
            .collect();
        for n in 1..EVENTS {
            publish(&topics, "news", &n.to_string());
            if n % 10 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let expected: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
        for one in reconnecting {
            assert!(one.join().unwrap() == expected, "every event once and in order");
        }
        read_all_until(&mut crowd, "all events", |one| one.events.len() >= EVENTS - 1);
        for one in &crowd {
            assert!(one.data() == expected[1..], "every event once and in order");
        }
    });
}

/// During drain, the reconnection time and the last chunk follow complete events.
#[test]
fn streams_that_drain_in_traffic_end_after_a_complete_event() {
    const CLIENTS: usize = 20;
    let topics = unbounded();
    let config = silent().with_drain(Duration::from_secs(1));
    let server = Server::bind("127.0.0.1:0", config).unwrap();
    let (address, drain) = (server.local_addr().unwrap(), server.drain());
    let source = topics.clone();
    let serving = thread::spawn(move || {
        let executor = Executor::new();
        let serve = server.serve(&executor, move |request| {
            let subscription = now(source.subscribe(&["news"], Start::Latest)).unwrap();
            async move { request.open().await?.follow(subscription).await }
        });
        block_on(executor.run(serve));
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Subscriber::open(address, "/")).collect();
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut all = Vec::new();
            while !serving.is_finished() {
                let data = filled(all.len(), 2000);
                publish(&topics, "news", &data);
                all.push(data);
                thread::sleep(Duration::from_micros(300));
            }
            all
        });
        thread::sleep(Duration::from_millis(100));
        drain.begin();
        read_all_until(&mut clients, "the end", |one| one.end.is_some());
        let all = publishing.join().unwrap();
        for client in &clients {
            let seen = client.data();
            assert_eq!(client.end, Some(StreamEnd::Whole));
            assert!(!seen.is_empty() && seen == all[..seen.len()], "every event once and in order");
            assert!(client.retry().is_some(), "the stream sets a reconnection time");
        }
    });
    serving.join().unwrap();
}
