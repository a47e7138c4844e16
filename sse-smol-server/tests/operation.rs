//! Operating the binary: the log, signals, file descriptors, and standard streams that are blocked
//! or closed.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Binary, TIMEOUT, dechunk, get, read_head, read_response, read_to_end, read_until, send,
    unused_address,
};

const BINARY: &str = env!("CARGO_BIN_EXE_sse-smol-server");

/// A process of the binary with standard streams chosen by the test, on an address that no other
/// process of the tests uses.
struct Bare {
    address: SocketAddr,
    child: Child,
}

impl Bare {
    fn start(mut command: Command, stdout: Stdio, stderr: Stdio) -> Self {
        // Standard output may be blocked, so the server cannot report a port that the kernel chose.
        let address = unused_address();
        command.args(["--listen", &address.to_string()]).env_remove("RUST_LOG");
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        Self { address, child }
    }

    fn wait_until_it_serves(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(start.elapsed() < TIMEOUT, "the server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(read_response(&mut get(self.address, "/healthz")).0, 200);
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "the server does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> Command {
    Command::new(BINARY)
}

/// Returns a shell that runs some commands and then the binary.
fn after(commands: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{commands} exec \"$0\" \"$@\""), BINARY]);
    shell
}

/// Returns a stream whose buffer is full, and its other end.
fn full() -> (Stdio, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let end = theirs.try_clone().unwrap();
    end.set_nonblocking(true).unwrap();
    while let Ok(1..) = (&end).write(&[b'\n'; 4096]) {}
    while let Ok(1..) = (&end).write(b"\n") {}
    end.set_nonblocking(false).unwrap();
    (OwnedFd::from(theirs).into(), ours)
}

/// Returns a stream whose other end is closed.
fn broken() -> Stdio {
    let (_, theirs) = UnixStream::pair().unwrap();
    OwnedFd::from(theirs).into()
}

/// Makes the server log this number of requests, about 300 bytes each.
fn fill_log(address: SocketAddr, requests: usize) {
    let filler = "x".repeat(190);
    let request = format!("GET /healthz?{filler} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut socket = send(address, "");
    for _ in 0..requests / 10 {
        socket.write_all(request.repeat(10).as_bytes()).unwrap();
        for _ in 0..10 {
            assert_eq!(read_response(&mut socket).0, 200);
        }
    }
}

#[test]
fn an_unread_log_blocks_neither_requests_nor_signals() {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut server = Bare::start(binary(), Stdio::null(), Stdio::piped());
        server.wait_until_it_serves();
        fill_log(server.address, 1000);
        assert_eq!(read_response(&mut get(server.address, "/healthz")).0, 200);
        let start = Instant::now();
        assert!(server.stop(signal).success());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn dropped_log_lines_are_counted_when_the_log_is_read_again() {
    const REQUESTS: usize = 8000;
    let mut server = Bare::start(binary(), Stdio::null(), Stdio::piped());
    server.wait_until_it_serves();
    fill_log(server.address, REQUESTS);
    let mut stderr = server.child.stderr.take().unwrap();
    let (sender, parts) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut part = [0; 10_000];
        while let Ok(count @ 1..) = stderr.read(&mut part) {
            let _ = sender.send(String::from_utf8_lossy(&part[..count]).into_owned());
        }
    });
    let mut log = String::new();
    let dropped: usize = loop {
        log += &parts.recv_timeout(TIMEOUT).expect("a line with the number of dropped lines");
        let line = log
            .lines()
            .find(|line| line.ends_with("log lines dropped: standard error was blocked"));
        if let Some(line) = line {
            break line.split(' ').find_map(|word| word.parse().ok()).unwrap();
        }
    };
    // New lines are written again.
    assert_eq!(read_response(&mut get(server.address, "/healthz?again")).0, 200);
    assert!(server.stop("-TERM").success());
    reader.join().unwrap();
    log.extend(parts);
    assert!(log.contains("GET /healthz?again 200: "), "later requests are logged");
    let logged = log.matches("GET /healthz?xxx").count();
    assert!(logged > 1000 && dropped > 1000, "{logged} {dropped}");
    assert!((REQUESTS..REQUESTS + 10).contains(&(logged + dropped)), "{logged} {dropped}");
    let cut = log.lines().find(|line| !line.starts_with('[') || line.matches("GET").count() > 1);
    assert_eq!(cut, None, "log lines are complete");
}

#[test]
fn the_log_is_flushed_on_exit() {
    let server = Binary::start(&["--drain", "0"]);
    let mut streams: Vec<_> = (0..100).map(|_| get(server.address, "/clock")).collect();
    for stream in &mut streams {
        read_head(stream);
    }
    let (_, clean, log) = server.stop("-TERM");
    assert!(clean, "{log}");
    assert_eq!(log.matches("GET /clock 200: ").count(), 100, "{log}");
}

#[test]
fn blocked_or_closed_standard_streams_do_not_stop_the_server() {
    let (full_out, _out) = full();
    let (full_err, _err) = full();
    for (what, command, stdout, stderr) in [
        ("full", binary(), full_out, full_err),
        ("broken", binary(), broken(), broken()),
        ("closed", after("exec >&- 2>&-;"), Stdio::null(), Stdio::null()),
    ] {
        let mut server = Bare::start(command, stdout, stderr);
        server.wait_until_it_serves();
        fill_log(server.address, 500);
        assert!(server.stop("-TERM").success(), "{what}");
    }
}

#[test]
fn a_failed_start_exits_with_status_1_even_if_stderr_is_blocked_or_closed() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (full_err, _err) = full();
    for stderr in [Stdio::null(), full_err, broken()] {
        let child = binary().args(["--listen", &address]).stderr(stderr).spawn().unwrap();
        let mut server = Bare { address: taken.local_addr().unwrap(), child };
        assert_eq!(server.wait().code(), Some(1));
    }
}

#[test]
fn a_variable_that_sets_no_flag_is_logged() {
    for (name, is_logged) in [("SSE_MAX_TOPIC", true), ("SSE_MAX_TOPICS", false)] {
        let server = Binary::start_with_variable(name, "5", &[]);
        let (_, _, log) = server.stop("-INT");
        let line = format!("the environment variable {name} sets no flag");
        assert_eq!(log.contains(&line), is_logged, "{log}");
    }
}

#[test]
fn sighup_drains() {
    let server = Binary::start(&["--drain", "5"]);
    let mut stream = get(server.address, "/topics/news");
    read_head(&mut stream);
    server.signal("-HUP");
    let (body, whole) = dechunk(&read_to_end(&mut stream));
    assert!(whole && body.contains("retry: "), "{body}");
    let (_, clean, log) = server.wait();
    assert!(clean && log.contains("GET /topics/news 200: drained, 0 events, "), "{log}");
}

#[test]
fn an_ignored_sighup_stays_ignored() {
    let mut server = Bare::start(after("trap '' HUP;"), Stdio::null(), Stdio::null());
    server.wait_until_it_serves();
    let mut stream = get(server.address, "/clock");
    read_head(&mut stream);
    server.signal("-HUP");
    // One clock event later, the server still serves.
    read_until(&mut stream, "data: ");
    read_until(&mut stream, "data: ");
    assert_eq!(read_response(&mut get(server.address, "/healthz")).0, 200);
    assert!(server.child.try_wait().unwrap().is_none());
    drop(stream);
    assert!(server.stop("-TERM").success());
}

#[test]
fn a_few_streams_drain_quickly() {
    for (streams, most) in [(1, 1000), (3, 1500)] {
        let server = Binary::start(&["--drain", "30"]);
        let mut sockets: Vec<_> = (0..streams).map(|_| get(server.address, "/topics/a")).collect();
        for socket in &mut sockets {
            read_head(socket);
        }
        let (time, clean, log) = server.stop("-TERM");
        assert!(clean && time < Duration::from_millis(most), "{streams}: {time:?} {log}");
        assert_eq!(log.matches("200: drained, ").count(), streams, "{log}");
    }
}

#[test]
fn a_low_descriptor_limit_is_an_error_or_a_warning() {
    for limit in [8, 12, 20, 39] {
        let mut server = after(&format!("ulimit -n {limit} &&"));
        let output = server.args(["--listen", "127.0.0.1:0"]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {errors}");
        let expected = format!("is {limit}, and at least 40 are needed");
        assert!(errors.contains(&expected) && !errors.contains("panicked"), "{limit}: {errors}");
    }
    let log_with = |limit, connections| {
        let arguments = ["--max-connections", connections];
        let server = Binary::start_with_descriptors(limit, &arguments);
        assert_eq!(read_response(&mut get(server.address, "/healthz")).0, 200);
        server.stop("-TERM").2
    };
    let log = log_with(40, "100");
    assert!(log.contains("enough for 16 connections"), "{log}");
    assert!(log.contains("raise it to 124, or lower the maximum of 100 connections"), "{log}");
    assert!(!log_with(300, "200").contains("limit of open files"));
}

#[test]
fn the_log_has_the_bytes_of_bodies_and_the_events_of_streams() {
    const LARGE: usize = 8_000_000;
    let directory = std::env::temp_dir().join(format!("sse-operation-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("large.bin"), vec![b'x'; LARGE]).unwrap();
    fs::write(directory.join("one.txt"), "1").unwrap();
    fs::write(directory.join("none.txt"), "").unwrap();
    let server = Binary::start(&["--serve", directory.to_str().unwrap()]);
    let request = |start: &str, body: &str| {
        let length = body.len();
        let head =
            format!("{start}\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n");
        let head = head.replace("Host: a", &format!("Host: {}", server.address));
        read_to_end(&mut send(server.address, &format!("{head}\r\n{body}")))
    };
    for path in ["/large.bin", "/one.txt", "/none.txt"] {
        request(&format!("GET {path} HTTP/1.1"), "");
    }
    request("HEAD /large.bin HTTP/1.1", "");
    let published = request("POST /topics/a HTTP/1.1", "hello");
    let published = published.split_once("\r\n\r\n").unwrap().1.len();
    read_to_end(&mut send(server.address, "nonsense\r\n\r\n"));

    // A stream with one event, chunked and not, and a file whose download is cut off.
    for (version, end) in [("1.1", "\n\n\r\n"), ("1.0", "\n\n")] {
        let query = format!("/topics/a?lastEventId=earliest&v={version}");
        let head = format!("GET {query} HTTP/{version}\r\nHost: {}\r\n\r\n", server.address);
        let mut stream = send(server.address, &head);
        read_until(&mut stream, &format!("data: hello{end}"));
    }
    let mut cut = send(server.address, "");
    let large = format!("GET /large.bin?cut HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    cut.write_all(large.as_bytes()).unwrap();
    cut.read_exact(&mut [0; 10_000]).unwrap();
    cut.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(matches!(cut.peek(&mut [0]), Ok(1)), "the response is not complete");
    drop(cut);
    // Gives the server time to notice the closed connection before it stops.
    thread::sleep(Duration::from_millis(500));
    let metrics = request("GET /metrics HTTP/1.1", "");
    let (_, _, log) = server.stop("-TERM");
    fs::remove_dir_all(&directory).unwrap();

    let line = |request: &str| {
        let line = log.lines().find(|line| line.contains(request)).expect(request);
        line.split_once(request).unwrap().1.to_owned()
    };
    for (request, expected) in [
        ("GET /large.bin ", "200: answered, 8000000 bytes, "),
        ("GET /one.txt ", "200: answered, 1 byte, "),
        ("GET /none.txt ", "200: answered, 0 bytes, "),
        ("HEAD /large.bin ", "200: answered, 0 bytes, "),
        ("POST /topics/a ", &format!("201: answered, {published} bytes, ")),
        ("(no request) 400", ": answered, "),
        ("earliest&v=1.1 ", "200: closed by the peer, 1 event, "),
        ("earliest&v=1.0 ", "200: closed by the peer, 1 event, "),
    ] {
        let rest = line(request);
        assert!(rest.starts_with(expected), "{request}: {rest}");
    }
    assert!(!line("(no request) 400").contains("event"), "{log}");
    assert!(!line("(no request) 400").contains(" 0 bytes"), "an error response has a body: {log}");
    let bytes = |rest: &str| -> usize {
        let (rest, _) = rest.split_once(" bytes, ").expect("bytes");
        rest.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // Framing is not counted. A response that is cut off counts the bytes that the kernel took.
    assert_eq!(bytes(&line("v=1.1 ")), bytes(&line("v=1.0 ")));
    let cut = bytes(&line("?cut "));
    assert!((10_000 - 500..LARGE).contains(&cut), "{cut}");

    let metric = |name: &str| -> usize {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect(name);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(metric("sse_events_sent_total "), 2, "{metrics}");
    assert!(metric("sse_event_bytes_sent_total ") < 1000, "only bytes of events count: {metrics}");
}

/// This includes the last error, at every level of the log.
#[test]
fn a_log_in_json_has_an_object_on_each_line() {
    let server = Binary::start(&["--log-format", "json"]);
    read_response(&mut get(server.address, "/no\"quotes\\"));
    let (_, clean, log) = server.stop("-TERM");
    assert!(clean);
    let records: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let message = |record: &serde_json::Value| record["message"].as_str().unwrap().to_owned();
    assert!(records.iter().any(|record| {
        record["level"] == "INFO"
            && message(record).contains("GET /no")
            && record["time"].is_string()
    }));

    let refused = Command::new(env!("CARGO_BIN_EXE_sse-smol-server"))
        .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--token-env", "NOT_SET"])
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(record["level"], "ERROR");
    assert!(message(&record).contains("NOT_SET"), "{record}");
}
