//! Peers that stop reading and peers that vanish: the kernel memory that they
//! occupy, and the time until they are disconnected.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sse_proto::Event;
use sse_smol_server::{Config, Response};
use support::subscriber::{Publisher, Subscriber, wait_until};
use support::{Binary, connect_narrow, serve};

/// A row of `/proc/net/tcp`: a socket with the server's port as its local port.
struct Socket {
    state: u8,
    /// Bytes that the peer has not acknowledged.
    send_queue: usize,
}

const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;

/// Returns the server's sockets, including closing ones.
fn sockets(server: &Binary) -> Vec<Socket> {
    let port = format!(":{:04X}", server.address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // Other tests leave thousands of rows.
    let rows = table.lines().filter(|line| line.contains(&port)).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (send_queue, _) = fields[4].split_once(':')?;
        fields[1].ends_with(&port).then(|| Socket {
            state: u8::from_str_radix(fields[3], 16).unwrap(),
            send_queue: usize::from_str_radix(send_queue, 16).unwrap(),
        })
    });
    rows.filter(|socket| socket.state != LISTEN && socket.state != TIME_WAIT).collect()
}

fn send_queues(server: &Binary) -> usize {
    sockets(server).iter().map(|socket| socket.send_queue).sum()
}

#[test]
fn readers_that_stop_hold_little_kernel_memory_and_are_reset() {
    const READERS: usize = 20;
    const EVENTS: usize = 256;
    let server = Binary::start_for_flood("3");
    let mut publisher = Publisher::open(server.address);
    let stopped: Vec<_> =
        (0..READERS).map(|_| Subscriber::open(server.address, "/topics/flood")).collect();
    let data = "x".repeat(64 << 10);
    let mut most = 0;
    for _ in 0..EVENTS {
        publisher.publish("flood", &data);
        most = most.max(send_queues(&server));
    }
    println!("{READERS} readers hold {} KiB at most", most >> 10);
    assert!(most > 0, "unread events fill the send queues");
    // The kernel may exceed a buffer by a segment. Unlimited, it would hold up to 4 MiB of each.
    assert!(most <= READERS * (320 << 10), "{} KiB", most >> 10);

    let waited = wait_until("all readers are disconnected", || {
        let open = sockets(&server).iter().filter(|one| one.state == ESTABLISHED).count();
        // The publisher's connection stays open.
        open <= 1
    });
    // A reset discards the queue: no closing socket waits for an acknowledgement.
    let lingering = sockets(&server).iter().filter(|one| one.state != ESTABLISHED).count();
    assert_eq!((lingering, send_queues(&server)), (0, 0), "after {waited:?}");
    drop(stopped);
}

/// The window of these readers is mostly too small for the next segment, which to the kernel looks
/// as if they took nothing.
#[test]
fn readers_that_are_slow_are_not_reset() {
    const SIZE: usize = 3 << 20;
    let config = Config::default().with_keep_alive(None).with_write_timeout(Duration::from_secs(2));
    let server = serve(config, |request| async move {
        if request.path() == "/body" {
            return request.respond(Response::new(vec![b'x'; SIZE])).await;
        }
        let mut stream = request.open().await?;
        for data in ["x".repeat(SIZE / 30), "x".repeat(SIZE)] {
            stream.send(Event::new(&data)).await?;
        }
        Ok(())
    });
    let read_slowly = |path: &str| {
        let mut socket = connect_narrow(server.address, 4096);
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        let mut piece = [0; 2000];
        while start.elapsed() < Duration::from_secs(12) {
            socket.read_exact(&mut piece).unwrap_or_else(|error| {
                panic!("{path}: {error} after {:?}", start.elapsed());
            });
            thread::sleep(Duration::from_millis(100));
        }
    };
    thread::scope(|scope| {
        for path in ["/body", "/stream"] {
            let read_slowly = &read_slowly;
            scope.spawn(move || read_slowly(path));
        }
    });
}

fn ip(arguments: &[&str]) {
    let output = as_root("ip", arguments).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}; network namespaces need root or sudo, see scripts/test",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns a command with the privileges to create and enter network namespaces.
fn as_root(program: &str, arguments: &[&str]) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { program } else { "sudo" });
    if !is_root {
        command.args(["-n", program]);
    }
    command.args(arguments);
    command
}

/// Two network namespaces, connected by a pair of virtual interfaces.
struct NetworkPair {
    server: String,
    client: String,
}

const SERVER: &str = "10.213.0.1";
const CLIENT: &str = "10.213.0.2";

impl NetworkPair {
    fn create(name: &str) -> Self {
        let unique = format!("sse{}{name}", std::process::id());
        let pair = Self { server: format!("{unique}s"), client: format!("{unique}c") };
        let Self { server, client } = &pair;
        ip(&["netns", "add", server]);
        ip(&["netns", "add", client]);
        let other_end = ["peer", "name", "pair", "netns", client];
        let link = ["-n", server, "link", "add", "pair", "type", "veth"];
        ip(&[&link[..], &other_end].concat());
        for (namespace, address) in [(server, SERVER), (client, CLIENT)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "pair"]);
            ip(&["-n", namespace, "link", "set", "pair", "up"]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        pair
    }

    /// Takes the link down, so that neither side receives another packet.
    fn disconnect(&self) {
        ip(&["-n", &self.client, "link", "set", "pair", "down"]);
    }
}

impl Drop for NetworkPair {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = as_root("ip", &["netns", "del", namespace]).status();
        }
    }
}

/// Returns a command that runs in one of the namespaces.
fn on(namespace: &str, arguments: &[&str]) -> Command {
    as_root("ip", &[&["netns", "exec", namespace], arguments].concat())
}

/// Opens idle streams and takes the link down. Returns why the streams ended, as counts by reason,
/// and the time until the last one had ended.
fn lose_peers(name: &str, keep_alive: &str, write_timeout: &str) -> (Vec<(String, u64)>, Duration) {
    const STREAMS: u64 = 10;
    let pair = NetworkPair::create(name);
    let server = Binary::start_by(
        on(&pair.server, &[env!("CARGO_BIN_EXE_sse-smol-server")]),
        &format!("{SERVER}:0"),
        &["--public", "--keep-alive", keep_alive, "--write-timeout", write_timeout, "--drain", "0"],
    );
    let url = |path: &str| format!("http://{}{path}", server.address);
    let mut clients: Vec<Child> = (0..STREAMS)
        .map(|_| {
            let mut curl = on(&pair.client, &["curl", "-sSN", &url("/topics/quiet")]);
            curl.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for client in &mut clients {
        // The first block, which carries the ID of the starting position.
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
    }
    let ended = || {
        let metrics = on(&pair.server, &["curl", "-sS", &url("/metrics")]).output().unwrap();
        let metrics = String::from_utf8(metrics.stdout).unwrap();
        let rows = metrics.lines().filter_map(|line| {
            let (reason, count) =
                line.strip_prefix("sse_streams_ended_total{reason=\"")?.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().unwrap()))
        });
        rows.collect::<Vec<(String, u64)>>()
    };
    pair.disconnect();
    let time = wait_until("all streams have ended", || {
        ended().iter().map(|(_, count)| count).sum::<u64>() == STREAMS
    });
    let ended = ended();
    for mut client in clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    (ended, time)
}

#[test]
fn an_idle_stream_whose_peer_vanishes_ends_within_twice_the_write_timeout() {
    // With unacknowledged keep-alive comments, and without comments, by probes of the kernel.
    thread::scope(|scope| {
        for (name, keep_alive) in [("a", "1"), ("b", "0"), ("c", "3600")] {
            scope.spawn(move || {
                let (ended, time) = lose_peers(name, keep_alive, "4");
                println!("keep-alive of {keep_alive} s:  {ended:?} after {time:?}");
                assert!(time <= Duration::from_secs(8), "{time:?}");
                // The error that the kernel reports depends on the network.
                for (reason, _) in &ended {
                    assert!(["timed_out", "unreachable"].contains(&reason.as_str()), "{ended:?}");
                }
            });
        }
    });
}
