//! The binary with `--data`: kills, restarts, and a full disk.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::process::Command;
use std::thread;
use std::time::Duration;

use dir::Dir;
use support::subscriber::{Publisher, Subscriber, wait_until};
use support::{Binary, get, read_response, send};

/// Publishes until the server is gone, and returns the data of the publications that it answered.
fn publish_until_killed(server: &Binary, next: &mut usize) -> Vec<String> {
    let mut answered = Vec::new();
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut answered = Vec::new();
            loop {
                let data = next.to_string();
                *next += 1;
                let request = format!(
                    "POST /topics/news HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{data}",
                    server.address,
                    data.len()
                );
                let Some((201, ..)) = try_send(server, &request) else {
                    return answered;
                };
                answered.push(data);
            }
        });
        thread::sleep(Duration::from_millis(150));
        server.signal("-KILL");
        answered = publisher.join().unwrap();
    });
    answered
}

/// Sends a request, and returns the response unless the server is gone.
fn try_send(server: &Binary, request: &str) -> Option<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect(server.address).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    let mut response = String::new();
    socket.read_to_string(&mut response).ok()?;
    let status = response.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, response))
}

#[test]
fn no_answered_event_is_lost_when_the_server_is_killed_and_clients_resume_without_a_gap() {
    let dir = Dir::new();
    let data = dir.path();
    let arguments = ["--data", data, "--history", "100000", "--window", "10"];
    let mut next = 0;
    let mut expected: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut last_id = String::new();
    for _ in 0..5 {
        let server = Binary::start(&arguments);
        let mut subscriber = match last_id.as_str() {
            "" => Subscriber::open(server.address, "/topics/news?lastEventId=earliest"),
            id => Subscriber::resume(server.address, "/topics/news", id),
        };
        let answered = publish_until_killed(&server, &mut next);
        assert!(!answered.is_empty());
        expected.extend(answered);
        subscriber.read_until("the end", |subscriber| subscriber.end.is_some());
        for event in &subscriber.events {
            assert_eq!(event.event_type, "message", "{}", event.data);
            seen.push(event.data.clone());
            last_id.clone_from(&event.id);
        }
    }
    let server = Binary::start(&arguments);
    let mut subscriber = Subscriber::resume(server.address, "/topics/news", &last_id);
    Publisher::open(server.address).publish("news", "end");
    subscriber.read_until("all events", |subscriber| {
        subscriber.events.last().is_some_and(|event| event.data == "end")
    });
    seen.extend(subscriber.events.iter().map(|event| event.data.clone()));
    // An event whose answer was lost may have been stored: it is seen once, in its place.
    let numbers: Vec<usize> = seen[..seen.len() - 1].iter().map(|n| n.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "once, and in order");
    let missing: Vec<_> = expected.iter().filter(|data| !seen.contains(data)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_second_server_on_the_same_directory_does_not_start() {
    let dir = Dir::new();
    let _server = Binary::start(&["--data", dir.path()]);
    let second = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(["--listen", "127.0.0.1:0", "--data", dir.path()])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let errors = String::from_utf8(second.stderr).unwrap();
    assert!(errors.contains("is in use by another process"), "{errors}");
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

/// Writes that are not durable yet are lost when the file is opened again after a failure.
#[test]
fn a_failed_write_that_loses_events_is_a_gap_and_publishing_continues() {
    let dir = Dir::new();
    let mut shell = Command::new("sh");
    let limited = "ulimit -f 6000; trap '' XFSZ; exec \"$@\"";
    shell.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_sse-smol-server"), "--open-publishing"]);
    let arguments =
        ["--data", dir.path(), "--sync", "interval=3600000", "--history-bytes", "100000000"];
    let server =
        Binary::start_by(shell, "127.0.0.1:0", &[&arguments[..], &["--on-lag", "gap"]].concat());
    let mut subscriber = Subscriber::open(server.address, "/topics/news");
    let post = |body: &str| {
        let head = format!("POST /topics/news HTTP/1.1\r\nHost: {}\r\n", server.address);
        let head = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        read_response(&mut send(server.address, &format!("{head}{body}"))).0
    };
    let large = "x".repeat(100_000);
    let mut stored = 0;
    while post(&large) == 201 {
        stored += 1;
        assert!(stored < 100);
    }
    let old = subscriber.read_events(stored)[0].id.clone();
    // The log was replaced while the event was appended, or the next attempt is too early.
    wait_until("publishing continues", || post("after") == 201);
    subscriber.read_until("the new event", |subscriber| {
        subscriber.events.last().is_some_and(|event| event.data == "after")
    });
    assert_eq!(subscriber.events[stored].event_type, "gap");
    let mut resumed = Subscriber::resume(server.address, "/topics/news", &old);
    let first = &resumed.read_events(1)[0];
    assert!(first.data.contains("\"reason\":\"unknown\""), "{}", first.data);
}

/// A file that must not grow any more stands for a full disk.
#[test]
fn publishers_get_507_when_the_disk_is_full_and_subscribers_keep_what_they_have() {
    let dir = Dir::new();
    let mut shell = Command::new("sh");
    // In blocks of 512 bytes. The signal for an exceeded limit is ignored, so writes fail.
    let limited = "ulimit -f 6000; trap '' XFSZ; exec \"$@\"";
    shell.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_sse-smol-server"), "--open-publishing"]);
    let server = Binary::start_by(
        shell,
        "127.0.0.1:0",
        &["--data", dir.path(), "--history-bytes", "100000000"],
    );
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
