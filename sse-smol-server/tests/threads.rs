//! The threads on which `Server::run` serves.

mod support;

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use smol::future::yield_now;
use smol::{Executor, block_on, channel};
use sse_smol_server::http::StatusCode;
use sse_smol_server::{Config, Drain, Error, Request, Server, text};
use support::{Binary, TIMEOUT, get, read_head, read_response, send};

/// Begins a server's graceful shutdown when it is dropped, also by a panic.
struct DrainOnDrop(Drain);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.begin();
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the name of each thread of a process, and how often it has begun to wait.
fn waits_by_name(server: &Binary) -> Vec<(String, usize)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let value_of = |field| status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let waits = value_of("voluntary_ctxt_switches:").trim().parse().unwrap();
        (value_of("Name:").trim().to_owned(), waits)
    };
    tasks.map(|task| of_task(task.unwrap())).collect()
}

/// Returns how often the threads of a process have begun to wait.
fn waits(server: &Binary) -> usize {
    waits_by_name(server).iter().map(|(_, waits)| waits).sum()
}

#[test]
fn an_idle_server_is_not_woken() {
    let server = Binary::start(&[]);
    let streams: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = get(server.address, "/topics/news");
            read_head(&mut stream);
            stream
        })
        .collect();
    let publication = "POST /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(read_response(&mut send(server.address, publication)).0, 201);
    // After an activity, threads look after it for a few milliseconds.
    thread::sleep(Duration::from_millis(500));
    let before = waits(&server);
    thread::sleep(Duration::from_secs(3));
    let count = waits(&server) - before;
    // Keep-alives are due after 15 seconds.
    assert!(count <= 5, "{count} wake-ups in three seconds");
    drop(streams);
}

#[test]
fn rare_publications_do_not_wake_the_thread_that_watches_the_leading_one() {
    const COUNT: usize = 24;
    if cores() == 1 {
        return;
    }
    let server = Binary::start(&[]);
    let waits = || {
        let all = waits_by_name(&server);
        all.iter().find(|(name, _)| name == "sse-watch").map(|(_, waits)| *waits)
    };
    let begin = Instant::now();
    while waits().is_none() {
        assert!(begin.elapsed() < TIMEOUT, "no thread watches the leading one");
        thread::yield_now();
    }
    let mut publisher = TcpStream::connect(server.address).unwrap();
    let publication = "POST /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx";
    let before = waits().unwrap();
    for _ in 0..COUNT {
        publisher.write_all(publication.as_bytes()).unwrap();
        assert_eq!(read_response(&mut publisher).0, 201);
        // Longer than a check takes.
        thread::sleep(Duration::from_millis(30));
    }
    // Another process may hold up the leading thread during a few of them.
    let count = waits().unwrap() - before;
    assert!(count <= COUNT / 2, "{count} wake-ups for {COUNT} publications");
}

#[test]
fn a_handler_that_blocks_its_thread_does_not_block_other_requests() {
    const BLOCKED: Duration = Duration::from_secs(5);
    if cores() == 1 {
        return;
    }
    let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
    let address = server.local_addr().unwrap();
    let drain = DrainOnDrop(server.drain());
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let shared = Arc::new((begun, released));
    let handler = move |request: Request| {
        let shared = Arc::clone(&shared);
        async move {
            if request.path() == "/block" {
                shared.0.send(()).unwrap();
                let _ = shared.1.lock().unwrap().recv_timeout(BLOCKED);
            }
            request.respond(text(StatusCode::OK, "done")).await
        }
    };
    let serving = thread::spawn(move || server.run(&Executor::new(), handler));
    let mut other = get(address, "/");
    assert_eq!(read_response(&mut other).0, 200);
    let mut blocked = get(address, "/block");
    has_begun.recv_timeout(TIMEOUT).unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut other).0, 200);
        assert_eq!(read_response(&mut get(address, "/")).0, 200);
    }
    assert!(start.elapsed() < BLOCKED / 2, "{:?}", start.elapsed());
    release.send(()).unwrap();
    assert_eq!(read_response(&mut blocked).0, 200);
    drop(drain);
    serving.join().unwrap().unwrap();
}

#[test]
fn all_cores_share_a_backlog() {
    let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
    let drain = server.drain();
    let executor = Executor::new();
    let (report, reports) = mpsc::channel();
    let tasks: Vec<_> = (0..4 * cores())
        .map(|_| {
            let report = report.clone();
            executor.spawn(async move {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(200) {
                    report.send(thread::current().id()).unwrap();
                    thread::sleep(Duration::from_millis(1));
                    yield_now().await;
                }
            })
        })
        .collect();
    drop(report);
    let all = async {
        for task in tasks {
            task.await;
        }
        drain.begin();
    };
    executor.spawn(all).detach();
    let not_called = |_: Request| async { Err(Error::Ended) };
    server.run(&executor, not_called).unwrap();
    let threads: HashSet<_> = reports.iter().collect();
    assert_eq!(threads.len(), cores());
}

#[test]
fn other_tasks_run_between_requests_that_arrive_at_once() {
    let server = Server::bind("127.0.0.1:0", Config::default()).unwrap();
    let address = server.local_addr().unwrap();
    let drain = DrainOnDrop(server.drain());
    let (wake, woken) = channel::unbounded();
    let answered = Arc::new(AtomicUsize::new(0));
    let handler = {
        let answered = Arc::clone(&answered);
        move |request: Request| {
            wake.try_send(()).unwrap();
            let count = answered.load(Ordering::SeqCst).to_string();
            async move { request.respond(text(StatusCode::OK, &count)).await }
        }
    };
    // On one thread, so that a task runs only if the connection's task lets it.
    let serving = thread::spawn(move || {
        let executor = Executor::new();
        let count = async move {
            while woken.recv().await.is_ok() {
                answered.fetch_add(1, Ordering::SeqCst);
            }
        };
        executor.spawn(count).detach();
        block_on(executor.run(server.serve(&executor, handler)));
    });
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut socket = send(address, &request.repeat(3));
    for count in ["0", "1", "2"] {
        let body = read_response(&mut socket).2;
        assert!(body.trim_end().ends_with(count), "{body:?} instead of {count}");
    }
    drop(drain);
    serving.join().unwrap();
}
