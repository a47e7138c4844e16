//! The binary with many clients, with clients that do not read, and at its limits: what it delivers,
//! and the resources that it takes.

#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod limits;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::resources::{descriptors, memory};
use support::subscriber::{
    Publisher, StreamEnd, Subscriber, read_all_until, subscribers, topics, wait_until,
};
use support::{Binary, connect_narrow, get, read_response, read_to_end, send};

const MIB: usize = 1 << 20;

/// Serializes the tests: they measure time and memory, and would disturb each other.
fn serialize() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // The test that poisoned the lock has already reported its failure.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Raises the soft limit of open files of this process, which runs the clients.
fn allow_descriptors(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= count, "this test opens {count} files; ulimit -Hn allows {most}");
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..limit }).unwrap();
}

fn request(server: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n")
}

/// Returns a value of `/metrics`, or 0 if the metric does not exist yet.
fn metric(server: &Binary, name: &str) -> u64 {
    let head =
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
    let answer = read_to_end(&mut send(server.address, &head));
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Asserts that the data of all events are these numbers, in order.
fn assert_numbers(subscriber: &Subscriber, expected: impl IntoIterator<Item = usize>) {
    let numbers: Vec<usize> = subscriber.data().into_iter().map(number).collect();
    assert_eq!(numbers, expected.into_iter().collect::<Vec<_>>());
}

fn number(data: &str) -> usize {
    data.split(' ').next().unwrap().parse().unwrap()
}

/// Returns a number and `length` bytes of filler.
fn numbered(number: usize, length: usize) -> String {
    format!("{number} {}", "x".repeat(length))
}

#[test]
fn two_thousand_subscribers_get_every_event_and_leave_nothing_behind() {
    const CLIENTS: usize = 2000;
    const EVENTS: usize = 50;
    let _turn = serialize();
    allow_descriptors(CLIENTS as u64 + 500);
    let server = Binary::start_with_one_heap(&["--drain", "2", "--keep-alive", "0"]);
    let mut publisher = Publisher::open(server.address);
    publisher.publish("crowd", "creates the topic");
    let at_start = (memory(&server), descriptors(&server));
    let open = || -> Vec<_> {
        (0..CLIENTS).map(|_| Subscriber::open(server.address, "/topics/crowd")).collect()
    };

    let mut after = Vec::new();
    for round in 0..3 {
        let start = Instant::now();
        let mut clients = open();
        assert_eq!(subscribers(server.address, "crowd"), CLIENTS as u64);
        let opened = start.elapsed();
        let first_sent = Instant::now();
        let ids: Vec<_> =
            (0..EVENTS).map(|n| publisher.publish("crowd", &numbered(n, 100))).collect();
        read_all_until(&mut clients, "all events", |one| one.events.len() >= EVENTS);
        let received = first_sent.elapsed();
        let with_all = memory(&server);
        for client in &clients {
            assert_numbers(client, 0..EVENTS);
            assert!(client.events.iter().map(|event| &event.id).eq(&ids));
            assert_eq!(client.end, None);
        }
        drop(clients);
        wait_until("all are gone", || subscribers(server.address, "crowd") == 0);
        // The connection of the last request may close slightly later.
        wait_until("their descriptors are closed", || descriptors(&server) <= at_start.1);
        after.push(memory(&server));
        println!(
            "round {round}: opened in {opened:?}, {EVENTS} events to all in {received:?}; memory at \
             the start {} KiB, with all open {} KiB, after {} KiB",
            at_start.0 >> 10,
            with_all >> 10,
            after[round] >> 10
        );
        assert!(with_all < at_start.0 + CLIENTS * (20 << 10), "{} KiB", with_all >> 10);
    }
    // The heap reaches its size in the first round. The limit allows for the events in the log, but
    // not for a leak of 200 bytes for each connection.
    assert!(after[2] < after[0] + MIB, "{after:?}");

    let mut clients = open();
    let start = Instant::now();
    server.signal("-TERM");
    read_all_until(&mut clients, "the end", |one| one.end.is_some());
    for client in &clients {
        assert_eq!(client.end, Some(StreamEnd::Whole));
        assert!(
            client.retry().is_some_and(|retry| retry < Duration::from_secs(10)),
            "{:?}",
            client.retry()
        );
    }
    drop(clients);
    let (_, clean, log) = server.wait();
    let time = start.elapsed();
    println!("drained in {time:?}");
    assert!(clean && time < Duration::from_secs(3), "{time:?}");
    assert_eq!(log.matches("GET /topics/crowd 200: drained, 0 events, ").count(), CLIENTS);
}

#[test]
fn only_clients_that_do_not_read_at_all_hit_the_write_timeout() {
    const STUCK: usize = 10;
    const EVENTS: usize = 320;
    let _turn = serialize();
    let server = Binary::start_for_flood("1");
    let mut publisher = Publisher::open(server.address);
    let mut stuck: Vec<_> =
        (0..STUCK).map(|_| Subscriber::open(server.address, "/topics/flood")).collect();
    let mut slow = Subscriber::open(server.address, "/topics/flood");
    let before = memory(&server);
    let most = Mutex::new(before);
    let sample_memory = || {
        let mut most = most.lock().unwrap();
        *most = memory(&server).max(*most);
    };
    let done_waiting = AtomicBool::new(false);
    let (slow, taken) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut taken = 0;
            while !done_waiting.load(Ordering::Relaxed) {
                taken += slow.take(256 << 10);
                thread::sleep(Duration::from_millis(200));
            }
            (slow, taken)
        });
        let start = Instant::now();
        for n in 0..EVENTS {
            publisher.publish("flood", &numbered(n, 64 << 10));
            sample_memory();
        }
        let all_sent = start.elapsed();
        let waited = wait_until("the stuck clients are disconnected", || {
            sample_memory();
            metric(&server, "sse_streams_ended_total{reason=\"stuck\"}") >= STUCK as u64
        });
        println!("published in {all_sent:?}, disconnected {waited:?} later");
        // Waits for several write timeouts, which must not disconnect the slow client.
        while start.elapsed() < Duration::from_secs(6) {
            sample_memory();
            thread::sleep(Duration::from_millis(100));
        }
        done_waiting.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let mut slow = slow;
    assert!(taken < EVENTS * (64 << 10) - 8 * MIB, "the slow client lags behind: {taken} bytes");
    slow.read_until("the remaining events", |one| one.events.len() >= EVENTS || one.end.is_some());
    println!("the slow client read {} KiB in that time", taken >> 10);
    assert_eq!((slow.events.len(), slow.end), (EVENTS, None));
    assert_numbers(&slow, 0..EVENTS);

    let most = *most.lock().unwrap() - before;
    println!("memory grew by {} KiB at most", most >> 10);
    // The log holds every event once, and no output queue holds a copy.
    assert!(most < EVENTS * (64 << 10) + 24 * MIB, "{} KiB", most >> 10);

    // Disconnected streams end without the last chunk.
    read_all_until(&mut stuck, "the end", |one| one.end.is_some());
    for one in &stuck {
        assert_eq!(one.end, Some(StreamEnd::Cut));
        assert!(one.events.len() < EVENTS);
        assert_numbers(one, 0..one.events.len());
    }
    let (_, _, log) = server.stop("-INT");
    let line = "GET /topics/flood 200: the peer accepted no data for too long, ";
    assert_eq!(log.matches(line).count(), STUCK, "{log}");
}

/// The number of 512 KiB events that exceeds the socket buffers of a connection.
const TOO_MUCH: usize = 48;
const HELD: usize = 10;

/// Returns a subscriber that has read only the first of `TOO_MUCH + 1` events. The log holds the
/// last `HELD` of them.
fn lagging(server: &Binary, publisher: &mut Publisher) -> Subscriber {
    let mut socket = connect_narrow(server.address, 64 << 10);
    socket.write_all(request(server.address, "/topics/news").as_bytes()).unwrap();
    let mut subscriber = Subscriber::on(socket);
    publisher.publish("news", &numbered(0, 0));
    subscriber.read_events(1);
    for n in 1..=TOO_MUCH {
        publisher.publish("news", &numbered(n, 512 << 10));
    }
    subscriber
}

fn gap(subscriber: &Subscriber, index: usize) -> serde_json::Value {
    let event = &subscriber.events[index];
    assert_eq!(event.event_type, "gap", "event {index}");
    serde_json::from_str(&event.data).unwrap()
}

const SMALL_HISTORY: [&str; 8] =
    ["--history", "10", "--history-bytes", "100000000", "--keep-alive", "0", "--drain", "0.2"];

#[test]
fn a_lagging_stream_ends_and_gets_a_gap_event_on_resuming() {
    let _turn = serialize();
    let server = Binary::start(&SMALL_HISTORY);
    let mut publisher = Publisher::open(server.address);
    let mut subscriber = lagging(&server, &mut publisher);
    subscriber.read_until("the end", |one| one.end.is_some());
    assert_eq!(subscriber.end, Some(StreamEnd::Whole));
    let seen = subscriber.events.len();
    println!("{seen} events before the end");
    assert!(seen <= TOO_MUCH - HELD, "the socket buffers held {seen} events: publish more");
    assert_numbers(&subscriber, 0..seen);

    let last = &subscriber.events[seen - 1].id;
    let mut again = Subscriber::resume(server.address, "/topics/news", last);
    again.read_events(1 + HELD);
    let gap_data = gap(&again, 0);
    assert_eq!(
        (&gap_data["reason"], &gap_data["requested"]),
        (&"evicted".into(), &last.as_str().into())
    );
    assert_eq!(gap_data["earliest"], again.events[1].id);
    assert_eq!(gap_data["latest"], again.events[HELD].id);
    let gap_id = again.events.remove(0).id;
    assert_numbers(&again, TOO_MUCH - HELD + 1..=TOO_MUCH);

    // A client that resumes with the ID of the gap event continues after the gap.
    let mut after_gap = Subscriber::resume(server.address, "/topics/news", &gap_id);
    after_gap.read_events(HELD);
    assert_numbers(&after_gap, TOO_MUCH - HELD + 1..=TOO_MUCH);
    let (_, _, log) = server.stop("-INT");
    assert!(log.contains("GET /topics/news 200: fell behind the log, "), "{log}");
}

#[test]
fn with_on_lag_gap_a_lagging_stream_gets_a_gap_event_and_continues() {
    let _turn = serialize();
    let server = Binary::start(&[&SMALL_HISTORY[..], &["--on-lag", "gap"]].concat());
    let mut publisher = Publisher::open(server.address);
    let mut subscriber = lagging(&server, &mut publisher);
    let last = numbered(TOO_MUCH, 512 << 10);
    let arrived = |one: &Subscriber| one.events.last().is_some_and(|event| event.data == last);
    subscriber.read_until("the last event", |one| arrived(one) || one.end.is_some());
    publisher.publish("news", &numbered(TOO_MUCH + 1, 0));
    let count = subscriber.events.len() + 1;
    subscriber.read_events(count);
    let at = subscriber.events.iter().position(|event| event.event_type == "gap");
    let at = at.expect("a gap event");
    assert_eq!(gap(&subscriber, at)["reason"], "lagged");
    println!("{at} events before the gap");
    assert!(at <= TOO_MUCH - HELD, "the socket buffers held {at} events: publish more");
    subscriber.events.remove(at);
    assert_numbers(&subscriber, (0..at).chain(TOO_MUCH - HELD + 1..=TOO_MUCH + 1));
}

#[test]
fn a_thousand_topics_stay_within_the_memory_limit() {
    const TOPICS: usize = 1000;
    const MAX_BYTES: usize = 8 * MIB;
    const AT_ONCE: usize = 4;
    let _turn = serialize();
    let server = Binary::start(&["--max-bytes", &MAX_BYTES.to_string()]);
    let mut publishers: Vec<_> = (0..AT_ONCE).map(|_| Publisher::open(server.address)).collect();
    let before = memory(&server);
    let data = "x".repeat(10_000);
    let start = Instant::now();
    let mut most = before;
    for round in 0..40 {
        for first in (0..TOPICS).step_by(AT_ONCE) {
            for (n, publisher) in publishers.iter_mut().enumerate() {
                publisher.send(&format!("topic-{}", first + n), &data);
            }
            for publisher in &mut publishers {
                let (status, body) = publisher.receive();
                assert_eq!(status, 201, "{round}: {body}");
            }
        }
        most = memory(&server).max(most);
    }
    let rows = topics(server.address);
    let bytes: u64 = rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    println!(
        "400 MB published in {:?}; {bytes} bytes held; memory grew by {} KiB at most",
        start.elapsed(),
        (most - before) >> 10
    );
    // Topics whose events were all evicted are removed.
    assert!(rows.len() < TOPICS && rows.iter().all(|row| row["events"] == 1), "{rows:?}");
    assert_eq!(metric(&server, "sse_topics"), rows.len() as u64);
    assert!((1..=MAX_BYTES as u64).contains(&bytes), "{bytes}");
    assert!(bytes > MAX_BYTES as u64 - 20_000, "the limit is used: {bytes}");
    assert!(most - before < 64 * MIB, "{} KiB", (most - before) >> 10);

    // Removed topics free their places; topics with events keep theirs.
    let [publisher, ..] = &mut publishers[..] else { unreachable!() };
    publisher.publish("one-more", "x");
    for n in 1..TOPICS {
        publisher.publish(&format!("topic-{n}"), "x");
    }
    let held = topics(server.address);
    assert_eq!(held.iter().filter(|row| row["events"].as_u64().unwrap() > 0).count(), TOPICS);
    publisher.send("one-too-many", "x");
    let (status, body) = publisher.receive();
    assert_eq!(status, 429, "{body}");
    publisher.publish("topic-1", "existing topics accept events");
}

/// List pages and metrics must not block publishers for a time proportional to the number of topics.
#[test]
fn lists_and_metrics_of_many_topics_do_not_delay_publishers() {
    const TOPICS: usize = 20_000;
    const AT_ONCE: usize = 4;
    let _turn = serialize();
    let server = Binary::start(&["--max-topics", &TOPICS.to_string()]);
    let mut publishers: Vec<_> = (0..AT_ONCE).map(|_| Publisher::open(server.address)).collect();
    for first in (0..TOPICS).step_by(AT_ONCE) {
        for (n, publisher) in publishers.iter_mut().enumerate() {
            publisher.send(&format!("topic-{}", first + n), "x");
        }
        for publisher in &mut publishers {
            assert_eq!(publisher.receive().0, 201);
        }
    }
    assert_eq!(metric(&server, "sse_topics"), TOPICS as u64);
    assert_eq!(topics(server.address).len(), TOPICS);
    let [publisher, rejected, ..] = &mut publishers[..] else { unreachable!() };
    let done = AtomicBool::new(false);
    let (mut times, requests) = thread::scope(|scope| {
        let clients = ["/topics", "/metrics", "/metrics.json"].map(|path| {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(read_response(&mut get(server.address, path)).0, 200);
                    count += 1;
                }
                count
            })
        });
        let times: Vec<Duration> = (0..500)
            .map(|n| {
                let start = Instant::now();
                publisher.publish(&format!("topic-{n}"), "y");
                rejected.send("one-more", "x");
                assert_eq!(rejected.receive().0, 429);
                start.elapsed()
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        (times, clients.map(|one| one.join().unwrap()))
    });
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "a publication and a rejection: median {median:?}, p99 {p99:?}; meanwhile {requests:?} \
         requests"
    );
    assert!(requests.iter().all(|count: &u32| *count > 0), "{requests:?}");
    assert!(p99 < Duration::from_millis(250), "{p99:?}");
}
