//! `/readyz`, and the delay before a graceful shutdown.

#[path = "support/dir.rs"]
mod dir;
mod support;

use std::time::{Duration, Instant};

use dir::Dir;
use support::subscriber::{Publisher, Subscriber, wait_until};
use support::{Binary, get, read_response, send};

/// Returns status and body.
fn ask(server: &Binary, path: &str) -> (u16, String) {
    let (status, _, body) = read_response(&mut get(server.address, path));
    (status, body)
}

#[test]
fn a_server_that_runs_is_ready_with_and_without_a_file() {
    let dir = Dir::new();
    for arguments in [&[][..], &["--data", dir.path()]] {
        let server = Binary::start(arguments);
        Publisher::open(server.address).publish("a", "x");
        assert_eq!(ask(&server, "/readyz"), (200, "ok\n".to_owned()));
        let put = format!("PUT /readyz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        assert_eq!(read_response(&mut send(server.address, &put)).0, 405);
    }
    // Load balancers do not know the name of the server.
    let named = ["--public", "--allow-host", "sse.example"];
    let server = Binary::start_on("0.0.0.0:0", &named);
    for (path, status) in [("/readyz", 200), ("/topics", 421)] {
        let by_address = format!("GET {path} HTTP/1.1\r\nHost: 203.0.113.7:8080\r\n\r\n");
        assert_eq!(read_response(&mut send(server.address, &by_address)).0, status, "{path}");
    }
}

#[test]
fn a_server_is_not_ready_before_it_refuses_clients() {
    let server = Binary::start(&["--drain-delay", "3600"]);
    let mut subscriber = Subscriber::open(server.address, "/topics/a");
    server.signal("-TERM");
    let stopping = "503 Service Unavailable\n\nThe server is shutting down.\n";
    wait_until("not ready", || ask(&server, "/readyz") == (503, stopping.to_owned()));
    assert_eq!(ask(&server, "/healthz"), (200, "ok\n".to_owned()));
    // New clients, publications and streams work.
    Publisher::open(server.address).publish("a", "late");
    assert_eq!(subscriber.read_events(1)[0].data, "late");
    let mut resumed = Subscriber::open(server.address, "/topics/a?lastEventId=earliest");
    resumed.read_events(1);
    // A second signal ends it at once.
    let (time, success, log) = server.stop("-TERM");
    assert!(success && time < Duration::from_secs(5), "{time:?}: {log}");
    assert!(log.contains("shutting down in 3600s: /readyz answers 503"), "{log}");
}

#[test]
fn the_shutdown_begins_after_the_delay() {
    let server = Binary::start(&["--drain-delay", "0.5"]);
    let mut subscriber = Subscriber::open(server.address, "/topics/a");
    Publisher::open(server.address).publish("a", "x");
    subscriber.read_events(1);
    let start = Instant::now();
    server.signal("-TERM");
    subscriber.read_until("the end", |subscriber| subscriber.end.is_some());
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(subscriber.retry().is_some(), "it is drained");
    let (_, success, log) = server.wait();
    assert!(success, "{log}");
}

/// A file that must not grow any more stands for a full disk.
#[test]
fn a_server_that_cannot_write_is_not_ready_until_the_file_is_open_again() {
    let dir = Dir::new();
    let arguments = ["--data", dir.path(), "--history-bytes", "100000000"];
    let server = Binary::start_with_small_files(&arguments);
    let body = "x".repeat(100_000);
    let mut publisher = Publisher::open(server.address);
    wait_until("not ready", || {
        publisher.send("news", &body);
        let (status, _) = publisher.receive();
        let (ready, reason) = ask(&server, "/readyz");
        ready == 503 && status == 507 && reason.contains("the storage is full: ")
    });
    assert_eq!(ask(&server, "/healthz").0, 200);
    // Without another publication.
    wait_until("ready", || ask(&server, "/readyz").0 == 200);
}
