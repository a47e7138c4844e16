//! The binary with `--data`: kills, restarts, and a full disk.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dir::Dir;
use support::resuming::{Log, Outcome, RetryingPublisher};
use support::subscriber::{Publisher, Subscriber, read_all_until, wait_until};
use support::{Binary, TIMEOUT, get, read_response, send};

/// Publishes until the server is gone.
fn publish_until_gone(publisher: &mut RetryingPublisher, address: SocketAddr) {
    let Some(mut socket) = RetryingPublisher::connect(address, TIMEOUT) else { return };
    let last = loop {
        match publisher.publish(&mut socket) {
            Outcome::Acknowledged => {}
            last => break last,
        }
    };
    assert_eq!(last, Outcome::Gone);
}

/// Opens the stream of a client, which resumes after the last event that it has seen.
fn open(log: &Log, address: SocketAddr, client: usize) -> Subscriber {
    match log.last_id(client) {
        None => Subscriber::open(address, "/topics/news?lastEventId=earliest"),
        Some(id) => Subscriber::resume(address, "/topics/news", id),
    }
}

/// Starts the binary without waiting until it is ready.
fn start_unready(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(["--listen", "127.0.0.1:0", "--open-publishing"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the server again and again, at random moments: while it starts, and while these numbers of
/// publishers and clients use it.
fn kill_and_resume(rounds: usize, publishers: usize, clients: usize) {
    let dir = Dir::new();
    let arguments = ["--data", dir.path(), "--history", "10000000", "--window", "10"];
    let bounds = ["--history-bytes", "4000000000", "--max-bytes", "4000000000"];
    let arguments = [&arguments[..], &bounds].concat();
    let mut rng = fastrand::Rng::with_seed(7);
    let started = Instant::now();
    let mut publishers: Vec<_> =
        (0..publishers).map(|number| RetryingPublisher::new(number, "news")).collect();
    let mut log = Log::new(clients);
    for round in 0..rounds {
        let mut starting = start_unready(&arguments);
        thread::sleep(Duration::from_millis(rng.u64(..100)));
        starting.kill().unwrap();
        starting.wait().unwrap();

        let server = Binary::start(&arguments);
        // The others resume in a later round.
        let resuming: Vec<_> = (0..clients).filter(|_| round == 0 || rng.u8(..4) > 0).collect();
        let mut streams: Vec<_> =
            resuming.iter().map(|client| open(&log, server.address, *client)).collect();
        thread::scope(|scope| {
            for publisher in &mut publishers {
                scope.spawn(|| publish_until_gone(publisher, server.address));
            }
            scope.spawn(|| read_all_until(&mut streams, "the end", |one| one.end.is_some()));
            thread::sleep(Duration::from_millis(rng.u64(50..400)));
            server.signal("-KILL");
        });
        for (client, stream) in resuming.into_iter().zip(streams) {
            log.add(client, &stream.events);
        }
    }
    let server = Binary::start(&arguments);
    let mut streams: Vec<_> =
        (0..clients).map(|client| open(&log, server.address, client)).collect();
    let end = Publisher::open(server.address).publish("news", "end");
    read_all_until(&mut streams, "the last event", |stream| {
        stream.events.last().is_some_and(|event| event.data == "end")
    });
    for (client, stream) in streams.into_iter().enumerate() {
        log.add(client, &stream.events);
    }

    let answered: usize = publishers.iter().map(|publisher| publisher.ids.len()).sum();
    let events = log.events.len();
    println!("{rounds} kills, {answered} answered, {events} events, {:?}", started.elapsed());
    assert!(answered > rounds);
    assert_eq!(log.events.pop().map(|event| event.id), Some(end));
    log.check(&publishers.iter().collect::<Vec<_>>());
}

#[test]
fn no_answered_event_is_lost_when_the_server_is_killed_and_clients_resume_without_a_gap() {
    kill_and_resume(5, 4, 3);
}

/// The long form, which takes a minute: `cargo test --release -p sse-smol-server --test durable --
/// --ignored --nocapture`.
#[test]
#[ignore = "takes a minute"]
fn nothing_is_lost_or_repeated_in_a_hundred_kills_under_load() {
    kill_and_resume(100, 64, 20);
}

/// The moment of the kill is that at which the directory gets its first file.
#[test]
fn a_server_that_is_killed_while_it_creates_the_file_starts_again() {
    for _ in 0..10 {
        let dir = Dir::new();
        let mut starting = start_unready(&["--data", dir.path()]);
        let start = Instant::now();
        while fs::read_dir(&dir.0).unwrap().next().is_none() {
            assert!(start.elapsed() < TIMEOUT, "no file is created");
        }
        starting.kill().unwrap();
        starting.wait().unwrap();
        let server = Binary::start(&["--data", dir.path()]);
        Publisher::open(server.address).publish("news", "x");
        let files = fs::read_dir(&dir.0).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(files.collect::<Vec<_>>(), ["events.redb"]);
    }
}

#[test]
fn a_second_server_on_the_same_directory_does_not_start() {
    let dir = Dir::new();
    let server = Binary::start(&["--data", dir.path()]);
    // At the same address, too: a server opens the file before it listens, so that clients do not
    // wait for one that still reads it.
    for listen in ["127.0.0.1:0", &server.address.to_string()] {
        let second = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args(["--listen", listen, "--data", dir.path()])
            .output()
            .unwrap();
        assert!(!second.status.success());
        let errors = String::from_utf8(second.stderr).unwrap();
        assert!(errors.contains("is in use by another process"), "{errors}");
    }
}

#[test]
fn a_damaged_file_is_replaced_on_request_and_the_log_says_what_was_kept() {
    let dir = Dir::new();
    let file = dir.0.join("events.redb");
    let arguments = ["--data", dir.path(), "--recover"];
    let recover = || Binary::start(&arguments).stop("-TERM").2;
    fs::write(&file, "not a file of events").unwrap();
    let log = recover();
    assert!(log.contains("events.redb: no intact event was found; events on pages"), "{log}");

    let server = Binary::start(&arguments);
    for topic in ["news", "news", "more"] {
        Publisher::open(server.address).publish(topic, "x");
    }
    let (_, _, log) = server.stop("-TERM");
    assert!(!log.contains("found"), "the new file is intact: {log}");
    let mut bytes = fs::read(&file).unwrap();
    // The magic number of the engine.
    bytes[..8].fill(0);
    fs::write(&file, bytes).unwrap();
    let log = recover();
    assert!(log.contains("kept events: 3 (positions "), "{log}");
    assert!(log.contains("; topics more, news); events on pages"), "{log}");
}

#[test]
fn the_metrics_of_the_file_are_in_both_formats() {
    let dir = Dir::new();
    let server = Binary::start(&["--data", dir.path()]);
    Publisher::open(server.address).publish("a", "x");
    let host = server.address;
    for accept in ["text/plain", "application/openmetrics-text"] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n");
        let (_, head, metrics) = read_response(&mut send(server.address, &request));
        assert!(head.contains(&format!("Content-Type: {accept}")), "{head}");
        for line in [
            "# TYPE sse_storage_append_seconds histogram",
            "sse_storage_append_seconds_count 1",
            "sse_storage_pages_read_total 0",
            "sse_storage_feed_lag 0",
        ] {
            assert!(metrics.lines().any(|have| have == line), "{line} in {metrics}");
        }
    }
}

#[test]
fn the_flags_are_checked() {
    for (arguments, part) in [
        (&["--window", "5"][..], "--data"),
        (&["--sync", "always"], "--data"),
        (&["--publish-timeout", "1"], "--data"),
        (&["--data", "/tmp/x", "--publish-timeout", "0"], "must be at least 0.001"),
        (&["--data", "/tmp/x", "--sync", "interval=0"], "1 to 3600000 milliseconds"),
        (&["--data", "/tmp/x", "--sync", "sometimes"], "must be always, or interval="),
        (&["--data", "/dev/null/x"], "/dev/null/x"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!run.status.success());
        let errors = String::from_utf8(run.stderr).unwrap();
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
}

/// With an interval, publications are answered before they are written.
#[test]
fn a_write_at_an_interval_that_fails_is_repeated_and_loses_nothing() {
    let dir = Dir::new();
    let arguments =
        ["--data", dir.path(), "--sync", "interval=3600000", "--history-bytes", "100000000"];
    let server = Binary::start_with_small_files(&arguments);
    let mut subscriber = Subscriber::open(server.address, "/topics/news");
    let post = |body: &str| {
        let head = format!("POST /topics/news HTTP/1.1\r\nHost: {}\r\n", server.address);
        let head = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        read_response(&mut send(server.address, &format!("{head}{body}"))).0
    };
    let large = "x".repeat(100_000);
    let mut stored = 0;
    let refused = loop {
        match post(&large) {
            201 => stored += 1,
            status => break status,
        }
        assert!(stored < 100);
    };
    assert_eq!(refused, 507);
    assert!(stored > 30, "more events than the file has room for: {stored}");
    let first = subscriber.read_events(stored)[0].id.clone();
    // As long as the disk is full.
    wait_until("the next attempt", || post("refused") == 507);
    let status = Command::new("prlimit")
        .args(["--fsize=unlimited", "--pid", &server.pid().to_string()])
        .status();
    assert!(status.unwrap().success());
    wait_until("publishing continues", || post("after") == 201);
    assert_eq!(subscriber.read_events(stored + 1)[stored].data, "after");
    let mut resumed = Subscriber::resume(server.address, "/topics/news", &first);
    assert_eq!(resumed.read_events(stored)[stored - 1].data, "after");
    // What was not written at first is in the file.
    drop((subscriber, resumed));
    server.stop("-TERM");
    let server = Binary::start(&arguments);
    let mut resumed = Subscriber::resume(server.address, "/topics/news", &first);
    let events = resumed.read_events(stored);
    assert!(events.iter().all(|event| event.event_type == "message"));
}

/// A file that must not grow any more stands for a full disk.
#[test]
fn publishers_get_507_when_the_disk_is_full_and_subscribers_keep_what_they_have() {
    let dir = Dir::new();
    let arguments = ["--data", dir.path(), "--history-bytes", "100000000"];
    let server = Binary::start_with_small_files(&arguments);
    let mut subscriber = Subscriber::open(server.address, "/topics/news?lastEventId=earliest");
    let body = "x".repeat(100_000);
    let post = format!(
        "POST /topics/news HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    let mut stored = 0;
    let (status, response) = loop {
        let (status, _, response) = read_response(&mut send(server.address, &post));
        if status != 201 {
            break (status, response);
        }
        stored += 1;
        assert!(stored < 100);
    };
    assert_eq!(status, 507, "{response}");
    assert!(response.contains("the storage is full"), "{response}");
    assert!(stored > 3);
    assert_eq!(subscriber.read_events(stored).len(), stored);
    // The list still shows what is there, and the server answers.
    let (status, _, list) = read_response(&mut get(server.address, "/topics"));
    assert_eq!(status, 200);
    assert!(list.contains(&format!("\"events\":{stored}")), "{list}");
    // A subscriber that reconnects gets everything from the file.
    let mut again = Subscriber::open(server.address, "/topics/news?lastEventId=earliest");
    assert_eq!(again.read_events(stored).len(), stored);
}

/// The first events of a batch do not fit in the file, and the last ones would.
#[test]
fn no_event_of_a_batch_is_published_after_one_that_the_disk_has_no_room_for() {
    let dir = Dir::new();
    let arguments = ["--data", dir.path(), "--history-bytes", "100000000"];
    let arguments = [&arguments[..], &["--history", "10000", "--max-body", "10000000"]].concat();
    let server = Binary::start_with_small_files(&arguments);
    let large = format!("{{\"data\":\"{}\"}}\n", "x".repeat(8000)).repeat(600);
    let body = large + &"{\"data\":\"small\"}\n".repeat(600);
    let head = format!(
        "POST /topics/news HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        server.address,
        body.len()
    );
    let (status, _, response) = read_response(&mut send(server.address, &(head + &body)));
    assert_eq!(status, 507, "{response}");
    let is_published = |line: &&str| line.contains("\"duplicate\":false");
    let published = response.lines().take_while(is_published).count();
    assert_eq!(response.lines().filter(is_published).count(), published, "{response}");
    assert!(published < 600, "{published}");
    let (_, _, list) = read_response(&mut get(server.address, "/topics"));
    let count = list.split_once("\"events\":").map_or("0", |(_, rest)| rest);
    assert!(count.starts_with(&published.to_string()), "{published} of {list}");
}
