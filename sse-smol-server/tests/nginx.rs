//! Tests the binary behind nginx, which buffers responses by default.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::subscriber::{Publisher, Subscriber};
use support::{Binary, TIMEOUT, get, proxy, read_response, send, unused_address};

/// The default of nginx: HTTP/1.0 to the server, and a connection for each request.
const DEFAULT: &str = "";
/// The setting that the nginx manual recommends: HTTP/1.1.
const HTTP_11: &str = "proxy_http_version 1.1; proxy_set_header Connection '';";

/// An nginx process in front of a server.
struct Nginx {
    address: SocketAddr,
    child: Child,
    directory: PathBuf,
}

impl Nginx {
    fn start(upstream: SocketAddr, settings: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("sse-nginx-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        // nginx does not report a port that the kernel chose.
        let address = unused_address();
        fs::write(directory.join("nginx.conf"), configuration(address, upstream, settings))
            .unwrap();
        // Debian installs it in a directory that is only in the PATH of root.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("nginx")
            .env("PATH", path)
            .arg("-p")
            .arg(&directory)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed: see scripts/test");
        let mut nginx = Self { address, child, directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_exited = nginx.child.try_wait().unwrap().is_some();
            let log = fs::read_to_string(nginx.directory.join("error.log")).unwrap_or_default();
            assert!(!has_exited && start.elapsed() < TIMEOUT, "nginx did not start: {log}");
            thread::sleep(Duration::from_millis(10));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns a default configuration, but with a single process, so that killing it is enough, and
/// with all files in the directory of the test.
fn configuration(address: SocketAddr, upstream: SocketAddr, settings: &str) -> String {
    format!(
        "daemon off;
        master_process off;
        pid nginx.pid;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {{
                listen {address};
                location / {{
                    proxy_pass http://{upstream};
                    {settings}
                }}
            }}
        }}\n"
    )
}

#[test]
fn events_pass_nginx_one_by_one_without_delay() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start(&["--keep-alive", "0"]);
        let nginx = Nginx::start(server.address, settings);
        proxy::passes_events_without_delay(nginx.address, &server, "");
    }
}

#[test]
fn a_client_of_nginx_that_closes_is_noticed_without_an_event() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start(&["--keep-alive", "0"]);
        let nginx = Nginx::start(server.address, settings);
        proxy::passes_the_end_of_a_client(nginx.address, server);
    }
}

#[test]
fn keep_alive_comments_pass_nginx() {
    let server = Binary::start(&["--keep-alive", "0.1"]);
    let nginx = Nginx::start(server.address, DEFAULT);
    let mut subscriber = Subscriber::open(nginx.address, "/topics/quiet");
    // No other bytes are sent that could flush the comments out of a buffer.
    subscriber.read_until("three comments", |one| one.text.ends_with(b":\n\n:\n\n:\n\n"));
    assert_eq!(subscriber.events, []);
}

#[test]
fn publishing_works_through_nginx() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start(&[]);
        let nginx = Nginx::start(server.address, settings);
        let mut direct = Subscriber::open(server.address, "/topics/news");
        let mut through = Subscriber::open(nginx.address, "/topics/news");
        let mut publisher = Publisher::open(nginx.address);
        // Larger than the memory buffer of nginx for request bodies.
        let long = "0123456789abcdef".repeat(10_000);
        let ids = ["first", &long].map(|data| publisher.publish("news", data));
        for subscriber in [&mut direct, &mut through] {
            subscriber.read_events(2);
            assert_eq!(subscriber.data(), ["first", &long]);
            assert_eq!(ids, [0, 1].map(|n: usize| subscriber.events[n].id.clone()));
        }
    }
}

/// Through a proxy on the same machine, every client has a loopback address.
#[test]
fn publishing_through_nginx_requires_the_token() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start_guarded(&[]);
        let nginx = Nginx::start(server.address, settings);
        let mut publisher = Publisher::open(nginx.address);
        publisher.send("news", "x");
        let (status, body) = publisher.receive();
        assert_eq!(status, 401, "{body}");
        let (address, token) = (nginx.address, server.token());
        let head =
            format!("POST /topics/news HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1\r\n");
        let authorization = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(read_response(&mut send(address, &format!("{head}\r\nx"))).0, 401);
        let (status, ..) =
            read_response(&mut send(address, &format!("{head}{authorization}\r\nx")));
        assert_eq!(status, 201);
    }
}

#[test]
fn other_responses_pass_nginx() {
    let server = Binary::start(&[]);
    let nginx = Nginx::start(server.address, DEFAULT);
    assert_eq!(read_response(&mut get(nginx.address, "/healthz")).0, 200);
    assert_eq!(read_response(&mut get(nginx.address, "/nowhere")).0, 404);
    assert_eq!(read_response(&mut get(nginx.address, "/topics/not%20a%20name")).0, 400);
}

#[test]
fn many_events_of_all_sizes_pass_nginx_complete_and_in_order() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start(&["--history", "10000", "--history-bytes", "100000000"]);
        let nginx = Nginx::start(server.address, settings);
        let mut subscribers: Vec<_> =
            (0..3).map(|_| Subscriber::open(nginx.address, "/topics/many")).collect();
        let mut publisher = Publisher::open(server.address);
        let mut random = fastrand::Rng::with_seed(7);
        let sent: Vec<_> = (0..1000)
            .map(|n| {
                // Most events are small, some are larger than the buffers of nginx.
                let most = if n % 20 == 0 { 100_000 } else { 300 };
                let data = format!("{n} {}", "é\n☃ ".repeat(random.usize(..most / 8)));
                let id = publisher.publish("many", &data);
                (id, data)
            })
            .collect();
        for subscriber in &mut subscribers {
            let received = subscriber.read_events(sent.len());
            assert_eq!(received.len(), sent.len());
            for ((id, data), event) in sent.iter().zip(received) {
                assert_eq!((id, data), (&event.id, &event.data));
            }
        }
    }
}

#[test]
fn a_client_resumes_through_nginx() {
    let server = Binary::start(&[]);
    let nginx = Nginx::start(server.address, DEFAULT);
    let mut publisher = Publisher::open(server.address);
    let mut first = Subscriber::open(nginx.address, "/topics/news");
    for n in 0..5 {
        publisher.publish("news", &n.to_string());
    }
    let seen = first.read_events(5)[2].id.clone();
    drop(first);
    let mut again = Subscriber::resume(nginx.address, "/topics/news", &seen);
    again.read_events(2);
    publisher.publish("news", "5");
    again.read_events(3);
    assert_eq!(again.data(), ["3", "4", "5"]);
}

#[test]
fn a_client_behind_nginx_sees_the_end_when_the_server_stops() {
    for settings in [DEFAULT, HTTP_11] {
        let server = Binary::start(&["--drain", "1"]);
        let nginx = Nginx::start(server.address, settings);
        proxy::passes_the_end_of_the_server(nginx.address, server);
    }
}
