//! Tests the binary behind Caddy, with the site of `docs/operations.md`.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::subscriber::{Publisher, Subscriber};
use support::{Binary, TIMEOUT, get, proxy, read_response, send, unused_address};

/// A Caddy process in front of a server.
struct Caddy {
    address: SocketAddr,
    child: Child,
    directory: PathBuf,
}

impl Caddy {
    fn start(upstream: SocketAddr) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("sse-caddy-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        // Caddy does not report a port that the kernel chose.
        let address = unused_address();
        let admin = directory.join("admin.sock");
        let global = format!(
            "{{
                admin unix/{}
                auto_https off
                default_bind {}
            }}\n",
            admin.display(),
            address.ip()
        );
        let hosts = format!("http://{address}, http://sse.example:{}", address.port());
        let site = documented_site()
            .replace("sse.example", &hosts)
            .replace("127.0.0.1:8080", &upstream.to_string())
            // Many sites have compression.
            .replacen('{', "{\nencode gzip", 1);
        fs::write(directory.join("Caddyfile"), global + &site).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = caddy(&directory).arg("run").stderr(log).spawn();
        let child = child.expect("caddy is installed: see scripts/test");
        let mut caddy = Self { address, child, directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_exited = caddy.child.try_wait().unwrap().is_some();
            let log = fs::read_to_string(caddy.directory.join("log")).unwrap();
            assert!(!has_exited && start.elapsed() < TIMEOUT, "Caddy did not start: {log}");
            thread::sleep(Duration::from_millis(10));
        }
        caddy
    }

    /// Applies the configuration again, as after a change of it. Returns when that is done.
    fn reload(&self) {
        let admin = format!("unix/{}", self.directory.join("admin.sock").display());
        let mut command = caddy(&self.directory);
        let output = command.args(["reload", "--force", "--address", &admin]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns a command that finds its configuration in the directory, and keeps all files there.
fn caddy(directory: &Path) -> Command {
    let mut command = Command::new("caddy");
    command.current_dir(directory).stdin(Stdio::null());
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(variable, directory);
    }
    command
}

/// Returns the block of the documentation.
fn documented_site() -> String {
    let documentation = include_str!("../../docs/operations.md");
    let (_, block) = documentation.split_once("```caddyfile\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn events_pass_caddy_one_by_one_without_delay() {
    let server = Binary::start(&["--keep-alive", "0"]);
    let caddy = Caddy::start(server.address);
    for headers in ["", "Accept-Encoding: gzip\r\n"] {
        proxy::passes_events_without_delay(caddy.address, &server, headers);
    }
}

#[test]
fn a_client_of_caddy_that_closes_is_noticed_without_an_event() {
    let server = Binary::start(&["--keep-alive", "0"]);
    let caddy = Caddy::start(server.address);
    proxy::passes_the_end_of_a_client(caddy.address, server);
}

#[test]
fn publishing_and_resuming_work_through_caddy() {
    let server = Binary::start_guarded(&[]);
    let caddy = Caddy::start(server.address);
    let address = caddy.address;
    let publish = |headers: &str, data: &str| {
        let length = data.len();
        let head = format!("POST /topics/news HTTP/1.1\r\nHost: {address}\r\n{headers}");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{data}");
        read_response(&mut send(address, &request))
    };
    // Clients of the proxy have loopback addresses for the server, and need the token nevertheless.
    assert_eq!(publish("", "x").0, 401);
    let token = format!("Authorization: Bearer {}\r\n", server.token());
    let mut first = Subscriber::open(address, "/topics/news");
    for n in 0..5 {
        assert_eq!(publish(&token, &n.to_string()).0, 201);
    }
    let seen = first.read_events(5)[2].id.clone();
    drop(first);
    let by_query = format!("/topics/news?lastEventId={seen}");
    for mut again in
        [Subscriber::resume(address, "/topics/news", &seen), Subscriber::open(address, &by_query)]
    {
        again.read_events(2);
        assert_eq!(again.data(), ["3", "4"]);
    }
}

#[test]
fn caddy_passes_the_host_of_the_request() {
    for (flags, status) in [(&[][..], 421), (&["--allow-host", "sse.example"], 200)] {
        let server = Binary::start(flags);
        let caddy = Caddy::start(server.address);
        let host = format!("sse.example:{}", caddy.address.port());
        let request = format!("GET /topics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(read_response(&mut send(caddy.address, &request)).0, status);
        assert_eq!(read_response(&mut get(caddy.address, "/nowhere")).0, 404);
    }
}

#[test]
fn a_stream_outlives_a_reload_of_caddy() {
    let server = Binary::start(&[]);
    let caddy = Caddy::start(server.address);
    let mut publisher = Publisher::open(server.address);
    let mut before = Subscriber::open(caddy.address, "/topics/news");
    publisher.publish("news", "1");
    before.read_events(1);
    caddy.reload();
    let mut after = Subscriber::open(caddy.address, "/topics/news");
    publisher.publish("news", "2");
    before.read_events(2);
    after.read_events(1);
    assert_eq!((before.data(), after.data()), (vec!["1", "2"], vec!["2"]));
}

#[test]
fn a_client_behind_caddy_sees_the_end_when_the_server_stops() {
    let server = Binary::start(&["--drain", "1"]);
    let caddy = Caddy::start(server.address);
    proxy::passes_the_end_of_the_server(caddy.address, server);
}
